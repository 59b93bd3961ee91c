//! What decoding tells the outside in numbers: one function per observation.

use metrics::counter;
use store::DeadReason;

/// A user record is not a message.
pub(super) fn malformed(reason: DeadReason) {
    counter!("sluicegate.processor.malformed", "reason" => reason.code()).increment(1);
}

/// User records of one aggregate do not belong to the shard by their hash key.
pub(super) fn out_of_range(count: u64, kept: bool) {
    let policy = if kept { "kept" } else { "dropped" };
    counter!("sluicegate.processor.out_of_range", "policy" => policy).increment(count);
}
