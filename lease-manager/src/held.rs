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
            state: Mutex::new(State { seen, doubt: None, order: None, abandoned: false }),
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
        self.state().doubt = Some(after);
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

    /// True if the record shows the lease as this worker holds it.
    pub(crate) fn is_mine(&self, record: &LeaseRecord) -> bool {
        record.owner.as_ref() == Some(&self.holder.worker) && record.counter == self.lease.counter
    }
}
