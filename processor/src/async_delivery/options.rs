//! How deliveries are made.

use std::sync::Arc;
use std::time::Duration;

use super::breaker::BreakerPolicy;
use super::webhook::MessageLinks;
use crate::null_sink::SinkMode;

/// How deliveries are made, but for what each subscription says itself.
#[derive(Debug, Clone)]
pub struct CourierOptions {
    /// Whether messages are delivered, or let go of to measure the reading alone.
    pub sink: SinkMode,
    /// Names this worker in claims.
    pub worker: String,
    /// Batches accepted and not yet routed.
    pub batch_queue: usize,
    /// Live deliveries waiting in one destination's lane; what is above it waits in the stream, behind an
    /// open range.
    pub destination_queue: usize,
    /// Writes waiting for the deliveries table.
    pub ledger_queue: usize,
    /// Between two looks for due parked deliveries while there are none.
    pub sweep_interval: Duration,
    /// Between two readings of the subscriptions' epoch while nothing waits for one.
    pub watch_interval: Duration,
    /// Between two readings while batches wait to be confirmed.
    pub shortest_watch_interval: Duration,
    /// Without a good reading for this long, no batch is accepted.
    pub max_view_age: Duration,
    /// When a destination's breaker opens.
    pub breaker: BreakerPolicy,
    /// Makes the links of thin webhooks; without it they are parked, and say why.
    pub links: Option<Arc<MessageLinks>>,
    /// An open range is held for so long after it was last written; then another worker may read it.
    pub range_claim: Duration,
    /// Deliveries parked for one subscription above which what the stream is about to lose is given up.
    pub spill_cap: usize,
}

impl CourierOptions {
    /// The defaults for the worker of this name.
    #[must_use]
    pub fn new(worker: impl Into<String>) -> CourierOptions {
        CourierOptions {
            sink: SinkMode::Keep,
            worker: worker.into(),
            batch_queue: 256,
            destination_queue: 1_024,
            ledger_queue: 1_024,
            sweep_interval: Duration::from_secs(1),
            watch_interval: Duration::from_secs(1),
            shortest_watch_interval: Duration::from_millis(250),
            max_view_age: Duration::from_secs(2),
            breaker: BreakerPolicy::default(),
            links: None,
            range_claim: Duration::from_secs(120),
            spill_cap: 10_000,
        }
    }
}
