//! One lease that this worker owns: what is known of it, and whether it is lost or asked for.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ids::{LaneName, WorkerId};
use crate::lease::{Holder, Lease, LeaseRecord};

/// The reason of an order that makes the fleet more even.
pub(crate) const MOVE: &str = "move";
/// The reason of an order by an operator.
pub(crate) const ASKED: &str = "asked";
/// The reason of an order by a worker that stops.
pub(crate) const SHUTDOWN: &str = "shutdown";

/// Why a lease is to be given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    /// To whom; `None`: to whoever is best when it happens.
    pub(crate) to: Option<WorkerId>,
    pub(crate) reason: &'static str,
    pub(crate) since: Instant,
}

#[derive(Debug)]
struct State {
    /// The lease as it was after the last write with a known outcome.
    seen: LeaseRecord,
    /// The write whose outcome is not known: until the lease is read again nothing may be written.
    doubt: Option<LeaseRecord>,
    /// A write that gives the lease up was sent while the lease had this `rev`; as long as it has, that write may yet arrive.
    given_up_at: Option<Option<u64>>,
    order: Option<Order>,
    /// The consumer is gone without giving the lease up.
    abandoned: bool,
}

#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) lease: Lease,
    pub(crate) holder: Holder,
    pub(crate) lost: CancellationToken,
    pub(crate) release: CancellationToken,
    /// The lanes that may read the shard: more of them as its parents are settled to their ends.
    pub(crate) open_lanes: watch::Sender<BTreeSet<LaneName>>,
    /// Writes of one lease go one after another. A permit, not a lock: it is held while a write is under way.
    pub(crate) turn: Semaphore,
    /// Short looks and notes by the consumer's writes and the manager; never held while waiting.
    state: Mutex<State>,
}

impl Held {
    pub(crate) fn new(
        lease: Lease,
        holder: Holder,
        seen: LeaseRecord,
        open_lanes: BTreeSet<LaneName>,
    ) -> Arc<Self> {
        Arc::new(Self {
            lease,
            holder,
            lost: CancellationToken::new(),
            release: CancellationToken::new(),
            open_lanes: watch::Sender::new(open_lanes),
            turn: Semaphore::new(1),
            state: Mutex::new(State {
                seen,
                doubt: None,
                given_up_at: None,
                order: None,
                abandoned: false,
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves at worst an old `seen`, which the next conditional write finds out.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    pub(crate) fn seen(&self) -> LeaseRecord {
        self.state().seen.clone()
    }

    /// Kilobytes a second, as the lease was written last.
    pub(crate) fn throughput_kbps(&self) -> f64 {
        self.state().seen.throughput_kbps.unwrap_or(0.0)
    }

    /// True while there are lanes that may not read the shard yet.
    pub(crate) fn is_gated(&self) -> bool {
        self.open_lanes.borrow().len() < self.lease.lanes.len()
    }

    pub(crate) fn doubt(&self) -> Option<LeaseRecord> {
        self.state().doubt.clone()
    }

    /// A write is about to be sent: until its outcome is known, it is in doubt.
    pub(crate) fn attempt(&self, after: LeaseRecord) {
        let gives_up = !self.is_mine(&after);
        let mut state = self.state();
        if gives_up {
            state.given_up_at = Some(state.seen.rev);
        }
        state.doubt = Some(after);
    }

    /// The lease is known to be so.
    pub(crate) fn know(&self, seen: LeaseRecord) {
        let mut state = self.state();
        state.seen = seen;
        state.doubt = None;
    }

    /// Asks the consumer to drain and give the lease up. The first order stands.
    pub(crate) fn ask_release(&self, to: Option<WorkerId>, reason: &'static str) {
        let order = Order { to, reason, since: Instant::now() };
        self.state().order.get_or_insert(order);
        self.release.cancel();
    }

    pub(crate) fn order(&self) -> Option<Order> {
        self.state().order.clone()
    }

    pub(crate) fn abandon(&self) {
        self.state().abandoned = true;
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.state().abandoned
    }

    /// False once the lease is lost, and from the moment that a write which gives it up is sent: whoever gets it may
    /// start before the reply is here, and a write that seemed to fail may still arrive. Only a later write of this
    /// worker, which that one then does not match, makes sure that it did not.
    pub(crate) fn may_be_worked_on(&self) -> bool {
        let state = self.state();
        let given_up = state.given_up_at == Some(state.seen.rev) || !self.is_mine(&state.seen);
        !given_up && !self.is_lost()
    }

    /// True if the record shows the lease as this worker holds it.
    pub(crate) fn is_mine(&self, record: &LeaseRecord) -> bool {
        record.owner.as_ref() == Some(&self.holder.worker) && record.counter == self.lease.counter
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Change, after};
    use crate::checkpoint::Checkpoint;
    use crate::ids::{Incarnation, LeaseKey};
    use crate::lease::Progress;

    fn holding() -> (Arc<Held>, LeaseRecord) {
        let key = LeaseKey::parse("shardId-0").unwrap();
        let me = Holder { worker: WorkerId::parse("me").unwrap(), incarnation: Incarnation(1) };
        let new = LeaseRecord::new(key, Checkpoint::TrimHorizon, 0);
        let take = Change::Take { to: me.clone(), reason: String::new() };
        let seen = after(&new, &take, &[]).unwrap();
        let lease = Lease {
            key: seen.key.clone(),
            shard_id: seen.shard_id.clone(),
            stream_arn: String::new(),
            counter: seen.counter,
            checkpoint: seen.checkpoint.clone(),
            lanes: seen.believed_lanes(&[]),
            start_at_ms: seen.start_at_ms,
            read_to: None,
            parents: seen.parents.clone(),
            hash_range: None,
        };
        (Held::new(lease, me, seen.clone(), BTreeSet::new()), seen)
    }

    #[test]
    fn a_lease_is_not_worked_on_while_a_write_that_gives_it_up_may_arrive() {
        let (held, seen) = holding();
        let progress = Progress::default();
        let release =
            Change::Release { progress: progress.clone(), reason: String::new(), declined: false };
        let note = after(&seen, &Change::Checkpoint { progress }, &[]).unwrap();
        assert!(held.may_be_worked_on());
        held.attempt(after(&seen, &release, &[]).unwrap());
        assert!(!held.may_be_worked_on(), "it may be another's before the reply is here");
        held.know(seen);
        assert!(
            !held.may_be_worked_on(),
            "a look that shows it unchanged does not call the write back"
        );
        held.attempt(note.clone());
        assert!(!held.may_be_worked_on(), "the release may still come first");
        held.know(note);
        assert!(held.may_be_worked_on(), "the release does not match the lease any more");
    }

    #[test]
    fn a_checkpoint_under_way_holds_up_nobody() {
        let (held, seen) = holding();
        let note = Change::Checkpoint { progress: Progress::default() };
        held.attempt(after(&seen, &note, &[]).unwrap());
        assert!(held.may_be_worked_on());
    }
}
