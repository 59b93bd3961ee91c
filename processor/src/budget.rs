//! A pipeline's budget of bytes: what its lanes may hold, over all shards of the process.
//!
//! Permits are tried, never queued for: no room is an answer at once, and the shard consumer acts on it.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that the batches of one pipeline may hold in this process.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    room: Arc<Semaphore>,
    total: usize,
}

impl Budget {
    /// A budget of `total` bytes (at most 4 GiB, so that one batch may take it whole).
    pub(crate) fn new(total: usize) -> Budget {
        let total = total.clamp(1, u32::MAX as usize);
        Budget { room: Arc::new(Semaphore::new(total)), total }
    }

    /// Charges `bytes`, or says that there is no room now. A batch larger than the whole budget
    /// takes all of it: it can pass alone, never beside another.
    pub(crate) fn try_charge(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let charge = u32::try_from(bytes.clamp(1, self.total)).unwrap_or(u32::MAX);
        Arc::clone(&self.room).try_acquire_many_owned(charge).ok()
    }

    /// Bytes held now.
    pub(crate) fn in_use(&self) -> usize {
        self.total.saturating_sub(self.room.available_permits())
    }

    /// Bytes that may be held.
    #[cfg(test)]
    pub(crate) fn total(&self) -> usize {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_are_refused_past_the_total_and_come_back_on_drop() {
        let budget = Budget::new(100);
        let first = budget.try_charge(60).expect("room for the first");
        assert!(budget.try_charge(41).is_none(), "60 + 41 is over 100");
        assert_eq!(budget.in_use(), 60);
        drop(first);
        assert_eq!(budget.in_use(), 0);
    }

    #[test]
    fn a_batch_larger_than_the_budget_passes_alone() {
        let budget = Budget::new(100);
        let other = budget.try_charge(1).expect("room");
        assert!(budget.try_charge(1_000).is_none(), "not beside another");
        drop(other);
        let jumbo = budget.try_charge(1_000).expect("alone");
        assert_eq!(budget.in_use(), budget.total());
        drop(jumbo);
    }
}
