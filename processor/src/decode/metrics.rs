//! What decoding tells the outside in numbers: one function per observation.

use metrics::counter;
use store::DeadReason;

/// So many user records are not messages.
pub(crate) fn malformed(reason: DeadReason, count: usize) {
    if count > 0 {
        counter!("sluicegate.processor.malformed", "reason" => reason.code())
            .increment(count as u64);
    }
}

/// User records of one aggregate do not belong to the shard by their hash key.
pub(super) fn out_of_range(count: u64, kept: bool) {
    let policy = if kept { "kept" } else { "dropped" };
    counter!("sluicegate.processor.out_of_range", "policy" => policy).increment(count);
}
