//! What status pages show: counters per destination and the courier's own state.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::breaker::BreakerState;

/// A snapshot of everything, cheap enough to take each second.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CourierStats {
    /// One line per subscription, by id.
    pub destinations: Vec<DestinationStats>,
    /// Batches that are accepted and not settled.
    pub batches_in_hand: usize,
    /// Age of the newest confirmed reading of the subscriptions in ms; `None` before the first.
    pub view_age_ms: Option<u64>,
    /// True while the view is too old to route by: no batch is accepted.
    pub paused: bool,
    /// Writes to the deliveries table that are under way or waiting.
    pub ledger_in_hand: usize,
    /// Destinations that are down or behind, counted once for each shard that waits in the stream for them.
    pub ranges_open: usize,
    /// How long the stream still keeps what the oldest of these begins with, in ms; `None` while there are none.
    pub ranges_time_to_loss_ms: Option<u64>,
    /// Of these, the ones that the stream is about to lose the beginning of: it is parked, message by message.
    pub ranges_spilling: usize,
    /// Records let go of because the pipeline keeps nothing.
    pub discarded: u64,
}

/// One destination since this worker first knew it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DestinationStats {
    /// The subscription.
    pub subscription: String,
    /// Whose it is.
    pub client: String,
    /// Kind and origin of the destination; never a path, which may carry a token.
    pub destination: String,
    /// The breaker.
    pub breaker: BreakerState,
    /// Messages acknowledged by the destination.
    pub delivered: u64,
    /// Attempts made.
    pub attempts: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Deliveries parked for the first time.
    pub parked: u64,
    /// Attempts for parked deliveries.
    pub retried: u64,
    /// Deliveries given up.
    pub dead_lettered: u64,
    /// Deliveries in the lane's queue.
    pub queued: usize,
    /// Attempts under way.
    pub in_flight: usize,
    /// The last failure, in words.
    pub last_error: Option<String>,
}

/// The counters behind [`DestinationStats`], shared between a lane and the ledger.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) delivered: AtomicU64,
    pub(super) attempts: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) parked: AtomicU64,
    pub(super) retried: AtomicU64,
    pub(super) dead_lettered: AtomicU64,
}

/// One more.
pub(super) fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The figure now.
pub(super) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
