//! Budgets of bytes, one for each pipeline and one for reading: what may be held in this process, over all shards.
//!
//! Permits are tried, never queued for: no room is an answer at once, and whoever asked acts on it (a lane is detached, a
//! subscription cancelled). A part of each budget is kept for one jumbo batch at a time, so that the largest record passes
//! even while everybody else holds on to theirs. Start reading at [`Share::try_charge`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a budget keeps for one batch that is larger than a lane's share: the largest record (10 MiB) as base64 in its frame.
const JUMBO_BYTES: usize = 14 * 1024 * 1024;

/// Of the common part, what only lanes within their share may still take: one in so many bytes.
const KEPT_FOR_THE_MODEST: usize = 4;

/// Bytes that may be held in this process for one purpose.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    room: Arc<Semaphore>,
    jumbo: Arc<Semaphore>,
    total: usize,
    jumbo_bytes: usize,
    lanes: Arc<AtomicUsize>,
}

impl Budget {
    /// A budget of `total` bytes (at most 4 GiB, so that one batch may take it whole). Room for a jumbo batch is kept out of
    /// it: 14 MiB, or half of a smaller budget.
    pub(crate) fn new(total: usize) -> Budget {
        let total = total.clamp(2, u32::MAX as usize);
        let jumbo_bytes = JUMBO_BYTES.min(total / 2);
        Budget {
            room: Arc::new(Semaphore::new(total - jumbo_bytes)),
            jumbo: Arc::new(Semaphore::new(jumbo_bytes)),
            total,
            jumbo_bytes,
            lanes: Arc::default(),
        }
    }

    /// Charges `bytes`, or says that there is no room now. What is larger than the common part, or finds it taken and is
    /// larger than a usual event, may take the jumbo part, one at a time.
    pub(crate) fn try_charge(&self, bytes: usize) -> Option<Permit> {
        self.charge_room(bytes)
            .or_else(|| (bytes > USUAL_BYTES).then(|| self.charge_jumbo(bytes))?)
    }

    /// A lane's share of this budget.
    pub(crate) fn share(&self) -> Share {
        self.lanes.fetch_add(1, Ordering::Relaxed);
        Share { budget: self.clone() }
    }

    /// Bytes held now.
    pub(crate) fn in_use(&self) -> usize {
        self.total.saturating_sub(self.room.available_permits() + self.jumbo.available_permits())
    }

    /// What is not kept for a jumbo batch.
    fn common_bytes(&self) -> usize {
        self.total - self.jumbo_bytes
    }

    fn charge_room(&self, bytes: usize) -> Option<Permit> {
        take(&self.room, bytes).map(|permit| Permit { _held: permit })
    }

    /// A batch beyond even the jumbo part takes all of it: it passes alone, never beside another.
    fn charge_jumbo(&self, bytes: usize) -> Option<Permit> {
        take(&self.jumbo, bytes.min(self.jumbo_bytes)).map(|permit| Permit { _held: permit })
    }
}

/// Events up to this size are usual: about what a shard sends in half a second.
const USUAL_BYTES: usize = 1024 * 1024;

fn take(from: &Arc<Semaphore>, bytes: usize) -> Option<OwnedSemaphorePermit> {
    let charge = u32::try_from(bytes.max(1)).ok()?;
    Arc::clone(from).try_acquire_many_owned(charge).ok()
}

/// Bytes that were charged; dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Permit {
    _held: OwnedSemaphorePermit,
}

/// One lane's part in a budget: what it may hold grows when there are fewer lanes. Best effort: a lane within its share may
/// find no room, one beyond it has to leave a part of the budget to the others.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
}

impl Share {
    /// What the lane may hold without being in anybody's way, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.budget.total / self.budget.lanes.load(Ordering::Relaxed).max(1)
    }

    /// Charges a batch of `bytes` to a lane that holds `held` bytes, or says that there is no room now. A lane that holds
    /// nothing may take the jumbo part for a batch beyond its share, or beyond the common part: it would never pass otherwise.
    pub(crate) fn try_charge(&self, bytes: usize, held: usize) -> Option<Permit> {
        let beyond = held + bytes > self.bytes();
        let common =
            if beyond && self.is_tight(bytes) { None } else { self.budget.charge_room(bytes) };
        let large = beyond || bytes > self.budget.common_bytes();
        common.or_else(|| (large && held == 0).then(|| self.budget.charge_jumbo(bytes))?)
    }

    /// Whether a lane that was detached should come back: it would not be the first to go again.
    pub(crate) fn has_room(&self) -> bool {
        !self.is_tight(0)
    }

    /// After `bytes` more, only what is kept for lanes within their share would be left.
    fn is_tight(&self, bytes: usize) -> bool {
        let kept = self.budget.common_bytes() / KEPT_FOR_THE_MODEST;
        self.budget.room.available_permits() < bytes + kept
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.lanes.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn charges_are_refused_past_the_total_and_come_back_on_drop() {
        let budget = Budget::new(200);
        let first = budget.try_charge(60).expect("room for the first");
        assert!(budget.try_charge(41).is_none(), "60 + 41 is over the common 100");
        assert_eq!(budget.in_use(), 60);
        drop(first);
        assert_eq!(budget.in_use(), 0);
    }

    #[test]
    fn one_jumbo_batch_passes_while_the_common_part_is_taken() {
        let budget = Budget::new(64 * MIB);
        let _others = budget.try_charge(50 * MIB).expect("the common part, whole");
        assert!(budget.try_charge(400_000).is_none(), "a usual event waits for room");
        let jumbo = budget.try_charge(13 * MIB).expect("the jumbo part");
        assert!(budget.try_charge(13 * MIB).is_none(), "one at a time");
        assert_eq!(budget.in_use(), 63 * MIB);
        drop(jumbo);
        assert!(budget.try_charge(30 * MIB).is_some(), "larger than the part: it takes all of it");
    }

    #[test]
    fn a_lane_beyond_its_share_leaves_a_quarter_to_those_within_theirs() {
        let budget = Budget::new(800);
        let (greedy, modest) = (budget.share(), budget.share());
        assert_eq!(greedy.bytes(), 400);
        let _within = greedy.try_charge(300, 0).expect("within its share");
        assert!(greedy.has_room());
        assert!(greedy.try_charge(150, 300).is_none(), "beyond it, less than 100 would be left");
        let _within = modest.try_charge(80, 0).expect("within its share");
        assert!(!greedy.has_room());
        drop(modest);
        assert_eq!(greedy.bytes(), 800, "fewer lanes, larger shares");
    }

    #[test]
    fn a_lane_that_holds_nothing_may_take_the_jumbo_part_beyond_its_share() {
        let budget = Budget::new(800);
        let shares: Vec<Share> = (0..8).map(|_| budget.share()).collect();
        let _others = budget.try_charge(350).expect("room");
        assert!(shares[0].try_charge(200, 1).is_none(), "it holds something already");
        let jumbo = shares[0].try_charge(200, 0).expect("the jumbo part");
        assert_eq!(budget.in_use(), 550);
        drop(jumbo);
        assert!(shares[1].try_charge(10_000, 0).is_some(), "even the largest passes, alone");
    }

    #[test]
    fn a_batch_within_the_share_and_beyond_the_common_part_takes_the_jumbo_part() {
        let budget = Budget::new(800);
        let share = budget.share();
        assert_eq!((share.bytes(), budget.common_bytes()), (800, 400));
        assert!(share.try_charge(500, 1).is_none(), "it holds something already");
        let jumbo = share.try_charge(500, 0).expect("the jumbo part");
        assert_eq!(budget.in_use(), 400);
        drop(jumbo);
        assert_eq!(budget.in_use(), 0);
    }
}
