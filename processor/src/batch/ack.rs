//! Acknowledgements: how a lane tells the shard consumer that a batch's entries are settled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// What a lane owes the shard consumer for one batch: each entry settled, exactly once.
///
/// Dropping it before all is settled is a failure that the shard consumer sees
/// ([`AckCell::state`] turns [`AckState::Dropped`]).
#[derive(Debug)]
pub(crate) struct Ack {
    cell: Arc<AckCell>,
}

/// The shard consumer's end of an [`Ack`].
#[derive(Debug)]
pub(crate) struct AckCell {
    outstanding: AtomicUsize,
    dropped: AtomicBool,
    progress: Arc<Notify>,
}

/// How far a lane is with one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AckState {
    /// Some entries are not settled yet.
    Outstanding,
    /// Every entry is settled.
    Settled,
    /// The sink let go of the batch without settling it.
    Dropped,
}

impl Ack {
    /// An acknowledgement of `entries` entries; `progress` is notified when it is settled or dropped.
    pub(crate) fn new(entries: usize, progress: Arc<Notify>) -> (Ack, Arc<AckCell>) {
        let cell = Arc::new(AckCell {
            outstanding: AtomicUsize::new(entries),
            dropped: AtomicBool::new(false),
            progress,
        });
        (Ack { cell: Arc::clone(&cell) }, cell)
    }

    /// `n` more entries are settled in this lane.
    pub(crate) fn settle(&self, n: usize) {
        if n == 0 {
            return;
        }
        let before = self.cell.outstanding.fetch_sub(n, Ordering::AcqRel);
        debug_assert!(before >= n, "settled {n} entries of {before} outstanding");
        if before == n {
            self.cell.progress.notify_one();
        }
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        if self.cell.outstanding.load(Ordering::Acquire) > 0 {
            self.cell.dropped.store(true, Ordering::Release);
            self.cell.progress.notify_one();
        }
    }
}

impl AckCell {
    /// How far the lane is with this batch.
    pub(crate) fn state(&self) -> AckState {
        if self.outstanding.load(Ordering::Acquire) == 0 {
            AckState::Settled
        } else if self.dropped.load(Ordering::Acquire) {
            AckState::Dropped
        } else {
            AckState::Outstanding
        }
    }
}
