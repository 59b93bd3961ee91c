//! Writes down, once a minute, how far each shard's deliveries have got: what answers when a message was delivered.
//!
//! Nothing waits for it, and nothing is lost without it: a mark that cannot be written is followed by the next one.

use std::time::Duration;

use store::{DeliveryStore, Mark, PutOutcome};
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::handle::ProcessorHandle;

/// Between two marks of a shard.
const INTERVAL: Duration = Duration::from_secs(60);
/// What the marks of one minute may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// What the last ones may take after a stop.
const LAST_WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// Marks until `stop`, and once more then.
pub(crate) async fn run(
    deliveries: DeliveryStore,
    handle: ProcessorHandle,
    stop: CancellationToken,
) {
    let mut minutes = interval(INTERVAL);
    // The first tick is at once, when nothing has been settled yet.
    minutes.tick().await;
    let mut failing = false;
    loop {
        let limit = tokio::select! { biased;
            () = stop.cancelled() => LAST_WRITE_TIMEOUT,
            _ = minutes.tick() => WRITE_TIMEOUT,
        };
        let marks = handle.registry.take_marks();
        let unwritten = write(&deliveries, &marks, limit).await;
        crate::metrics::marks(marks.len() - unwritten, unwritten);
        if unwritten > 0 && !failing {
            tracing::warn!(
                unwritten,
                "how far deliveries have got cannot be written; for now no message has a time of delivery"
            );
        }
        failing = unwritten > 0;
        if stop.is_cancelled() {
            return;
        }
    }
}

/// How many could not be written.
async fn write(deliveries: &DeliveryStore, marks: &[Mark], limit: Duration) -> usize {
    if marks.is_empty() {
        return 0;
    }
    match timeout(limit, deliveries.mark_settled(marks)).await {
        Ok(report) => {
            report.outcomes.iter().filter(|outcome| **outcome != PutOutcome::Stored).count()
        }
        Err(_) => marks.len(),
    }
}
