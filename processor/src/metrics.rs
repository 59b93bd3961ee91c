//! What this room tells the outside in numbers: one function per observation.
//!
//! Names start with `sluicegate.processor.`; docs/metrics.md says what each means.

use metrics::{counter, gauge, histogram};

use crate::service::PIPELINES;

/// One event of a shard was read: its user records.
pub(crate) fn batch_read(records: usize) {
    counter!("sluicegate.processor.records_read").increment(records as u64);
}

/// One call of the `sync-store` pipeline: how many records it was for, how many were refused for now.
pub(crate) fn store_call(asked: usize, refused: usize) {
    histogram!("sluicegate.processor.store_call_records").record(asked as f64);
    counter!("sluicegate.processor.store_refused").increment(refused as u64);
}

/// A record was given up as a dead letter.
pub(crate) fn dead_letter(reason: &'static str) {
    counter!("sluicegate.processor.dead_letters", "reason" => reason).increment(1);
}

/// A lease's progress was written.
pub(crate) fn checkpoint(outcome: &'static str) {
    counter!("sluicegate.processor.checkpoints", "outcome" => outcome).increment(1);
}

/// A shard consumer ended.
pub(crate) fn shard_left(why: &'static str) {
    counter!("sluicegate.processor.shards_left", "why" => why).increment(1);
}

/// Shards that this process reads now.
pub(crate) fn shards(count: usize) {
    gauge!("sluicegate.processor.shards").set(count as f64);
}

/// Bytes that a pipeline's lanes hold now.
pub(crate) fn in_flight_bytes(pipeline: &'static str, bytes: usize) {
    gauge!("sluicegate.processor.in_flight_bytes", "pipeline" => pipeline).set(bytes as f64);
}

/// A lane had no room, or did not move, and is fed no more.
pub(crate) fn lane_detached(lane: usize, why: &'static str) {
    counter!("sluicegate.processor.lanes_detached", "pipeline" => PIPELINES[lane], "why" => why)
        .increment(1);
}

/// A lane is fed by the live reader again: `tip` if that was not past its end, `seam` if it had to catch up.
pub(crate) fn lane_attached(lane: usize, how: &'static str) {
    counter!("sluicegate.processor.lanes_attached", "pipeline" => PIPELINES[lane], "how" => how)
        .increment(1);
}

/// A lane's own reader read records for it.
pub(crate) fn caught_up(lane: usize, records: usize) {
    counter!("sluicegate.processor.catch_up_records", "pipeline" => PIPELINES[lane])
        .increment(records as u64);
}

/// A lane that was about to meet the live reader had no room for what that one read meanwhile.
pub(crate) fn seam_given_up(lane: usize) {
    counter!("sluicegate.processor.seams_given_up", "pipeline" => PIPELINES[lane]).increment(1);
}

/// Records passed the stream's retention before a lane read them.
pub(crate) fn lost(lane: usize) {
    counter!("sluicegate.processor.losses", "pipeline" => PIPELINES[lane]).increment(1);
}

/// Bytes of frames and answers that are not decoded yet.
pub(crate) fn reading_bytes(bytes: usize) {
    gauge!("sluicegate.processor.reading_bytes").set(bytes as f64);
}

/// Connections to Kinesis on which something is being read.
pub(crate) fn connections(count: usize) {
    gauge!("sluicegate.processor.connections").set(count as f64);
}

/// How far deliveries have got was written down, or could not be.
pub(crate) fn marks(written: usize, failed: usize) {
    counter!("sluicegate.processor.marks", "ok" => "true").increment(written as u64);
    counter!("sluicegate.processor.marks", "ok" => "false").increment(failed as u64);
}
