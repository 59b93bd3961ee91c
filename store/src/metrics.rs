//! What this room observes, one function per observation.
//!
//! Names are `sluicegate.store.<thing>`; labels have few values and never carry what clients sent.

use crate::messages::{PutOutcome, RetryReason};

/// A round of writing: how many items had which outcome.
pub(crate) fn written(kind: &'static str, outcomes: &[PutOutcome]) {
    let mut counts = [0u64; 5];
    for outcome in outcomes {
        counts[slot(outcome)] += 1;
    }
    for (slot, count) in counts.into_iter().enumerate().filter(|(_, count)| *count > 0) {
        let labels = [("kind", kind), ("outcome", OUTCOMES[slot])];
        metrics::counter!("sluicegate.store.items", &labels).increment(count);
    }
}

/// Names of the slots of [`slot`].
const OUTCOMES: [&str; 5] = ["stored", "throttled", "unprocessed", "unavailable", "rejected"];

fn slot(outcome: &PutOutcome) -> usize {
    match outcome {
        PutOutcome::Stored => 0,
        PutOutcome::Retry(RetryReason::Throttled) => 1,
        PutOutcome::Retry(RetryReason::Unprocessed) => 2,
        PutOutcome::Retry(_) => 3,
        PutOutcome::Rejected(_) => 4,
    }
}

/// One call of BatchWriteItem went out with this many items.
pub(crate) fn batch_call(kind: &'static str, items: usize) {
    #[allow(clippy::cast_precision_loss)] // at most 25
    metrics::histogram!("sluicegate.store.batch_items", "kind" => kind).record(items as f64);
}

/// A payload went into parts.
pub(crate) fn parted(kind: &'static str, parts: usize) {
    metrics::counter!("sluicegate.store.parts", "kind" => kind).increment(parts as u64);
}

/// A claim was tried: won, or another worker had it.
pub(crate) fn claimed(won: bool) {
    let outcome = if won { "won" } else { "lost" };
    metrics::counter!("sluicegate.store.claims", "outcome" => outcome).increment(1);
}
