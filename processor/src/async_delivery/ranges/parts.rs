//! What ranges are made with, and what is shown of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use aws_smithy_async::time::SharedTimeSource;
use store::DeliveryStore;
use tokio::time::Instant;

use super::log::Logs;
use crate::ailment::Ailment;
use crate::async_delivery::courier::CourierParts;
use crate::async_delivery::delivery::Gauge;
use crate::async_delivery::options::CourierOptions;
use crate::budget::Budget;
use crate::integration::Integrations;

/// How ranges are kept.
#[derive(Debug, Clone, Copy)]
pub(in crate::async_delivery) struct RangePolicy {
    /// A range is held for so long after its last write; then another worker may read it.
    pub(in crate::async_delivery) claim: Duration,
    /// Between two looks for ranges that nobody holds.
    pub(in crate::async_delivery) sweep: Duration,
    /// Deliveries parked for a subscription before what its ranges would lose is given up.
    pub(in crate::async_delivery) spill_cap: usize,
}

/// What this is made with.
pub(in crate::async_delivery) struct RangesParts {
    pub(in crate::async_delivery) deliveries: DeliveryStore,
    pub(in crate::async_delivery) logs: Arc<dyn Logs>,
    pub(in crate::async_delivery) integrations: Arc<Integrations>,
    pub(in crate::async_delivery) gauge: Arc<Gauge>,
    pub(in crate::async_delivery) budget: Budget,
    pub(in crate::async_delivery) time: SharedTimeSource,
    pub(in crate::async_delivery) worker: String,
    pub(in crate::async_delivery) policy: RangePolicy,
    /// True: nothing more is handed out.
    pub(in crate::async_delivery) closed: Arc<AtomicBool>,
    pub(in crate::async_delivery) figures: Arc<RangeFigures>,
    pub(in crate::async_delivery) seed: u64,
}

/// What is shown of all ranges of this worker.
#[derive(Debug)]
pub(in crate::async_delivery) struct RangeFigures {
    pub(super) open: AtomicUsize,
    /// `i64::MAX` while there are none.
    pub(super) left_ms: AtomicI64,
    pub(super) spilling: AtomicUsize,
    pub(super) ailment: Ailment,
}

impl Default for RangeFigures {
    fn default() -> RangeFigures {
        RangeFigures {
            open: AtomicUsize::new(0),
            left_ms: AtomicI64::new(i64::MAX),
            spilling: AtomicUsize::new(0),
            ailment: Ailment::new("deliveries"),
        }
    }
}

impl RangeFigures {
    /// Ranges that this worker holds.
    pub(in crate::async_delivery) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// How long the stream keeps what the oldest of them begins with, in ms.
    pub(in crate::async_delivery) fn left_ms(&self) -> Option<u64> {
        let left = self.left_ms.load(Ordering::Relaxed);
        (left != i64::MAX).then(|| u64::try_from(left).unwrap_or(0))
    }

    /// What ails the table that they are written to. That the stream is about to lose some is none of this worker's ailments:
    /// it would get no more shards for a destination that is down, and no other worker could do better.
    pub(in crate::async_delivery) fn ailment(&self) -> Option<(String, String)> {
        self.ailment.words(Instant::now())
    }

    /// Ranges whose beginning the stream is about to lose.
    pub(in crate::async_delivery) fn spilling(&self) -> usize {
        self.spilling.load(Ordering::Relaxed)
    }
}

/// What ranges share with the rest of the courier.
pub(in crate::async_delivery) struct RangeShared<'a> {
    pub(in crate::async_delivery) gauge: &'a Arc<Gauge>,
    pub(in crate::async_delivery) closed: &'a Arc<AtomicBool>,
    pub(in crate::async_delivery) figures: &'a Arc<RangeFigures>,
}

impl RangesParts {
    /// Those of a courier.
    pub(in crate::async_delivery) fn new(
        options: &CourierOptions,
        parts: &CourierParts,
        shared: &RangeShared<'_>,
        seed: u64,
    ) -> RangesParts {
        RangesParts {
            deliveries: parts.deliveries.clone(),
            logs: Arc::clone(&parts.logs),
            integrations: Arc::clone(&parts.integrations),
            gauge: Arc::clone(shared.gauge),
            budget: parts.budget.clone(),
            time: parts.time.clone(),
            worker: options.worker.clone(),
            policy: RangePolicy {
                claim: options.range_claim,
                sweep: options.sweep_interval,
                spill_cap: options.spill_cap,
            },
            closed: Arc::clone(shared.closed),
            figures: Arc::clone(shared.figures),
            seed,
        }
    }
}
