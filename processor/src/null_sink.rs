//! A sink that keeps nothing: it measures what reading, decoding and routing cost by themselves.
//!
//! Every entry is looked at (so that no compiler may leave its routing out), settled on the caller's
//! task and counted. It stores, delivers and dead-letters nothing, and waits for nothing.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::batch::{Batch, Entry, Found, LaneBatch};
use crate::latency::{Latency, LatencyStatus};

/// What a pipeline does with the messages of its lanes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SinkMode {
    /// Its work: messages are stored, or delivered.
    #[default]
    Keep,
    /// Nothing: every message is counted and let go of, as if it were stored or delivered.
    Discard,
}

/// Counts what it is handed and lets go of it. One per pipeline.
#[derive(Debug, Default)]
pub(crate) struct NullSink {
    entries: AtomicU64,
    latency: Latency,
}

impl NullSink {
    /// Takes the batch, whatever it is, and settles it whole.
    pub(crate) fn take(&self, batch: LaneBatch) {
        let entries = batch.entries();
        let look_at = |entry| look_at(&batch.batch, entry);
        let looked_at = entries.iter().map(look_at).fold(0usize, usize::wrapping_add);
        black_box(looked_at);
        self.entries.fetch_add(entries.len() as u64, Ordering::Relaxed);
        self.latency.record(batch.batch.received_at.elapsed(), entries.len());
        batch.ack.settle(entries.len());
    }

    /// How long entries took to get here, from the time when their event had come.
    pub(crate) fn latency(&self) -> LatencyStatus {
        self.latency.status()
    }

    /// Entries that were let go of since the start, malformed ones included.
    pub(crate) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }
}

/// Reads what a real sink would: where the entry belongs, whose it is, when it happened, how long it is.
fn look_at(batch: &Batch, entry: &Entry) -> usize {
    let routed = match entry.found {
        Found::Message { integration, entity, time_ms, .. } => {
            integration as usize ^ entity.len() ^ time_ms as usize
        }
        Found::Malformed(at) => batch.malformed[at as usize].detail.len(),
    };
    routed.wrapping_add(entry.payload.len()).wrapping_add(entry.partition_key.len())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use store::{DeadReason, IntegrationName};
    use tokio::sync::Notify;

    use super::*;
    use crate::batch::testing::{At, BatchBuilder};
    use crate::batch::{Ack, AckState, LeaseCheck, Malformed, ShardContext};

    fn five() -> Batch {
        let mut builder = BatchBuilder::new(ShardContext {
            stream_arn: Arc::from("stream"),
            shard_id: Arc::from("shardId-0"),
            fence: 1,
            starting_hash_key: 0,
            ending_hash_key: u128::MAX,
        });
        for sequence in ["1", "2", "3", "4", "5"] {
            let at = At { sequence, index: 0, partition_key: "k", arrived_at_ms: 1 };
            let broken = Malformed {
                reason: DeadReason::NotJson,
                detail: String::from("no"),
                integration: IntegrationName::parse("default").unwrap(),
            };
            match sequence {
                "3" => builder.malformed(at, b"{}", broken),
                _ => builder.message(at, b"{}", "e", 1),
            }
        }
        builder.build(None, 10)
    }

    #[test]
    fn what_the_lane_still_owes_is_settled_at_once_and_counted() {
        let batch = Arc::new(five());
        let skip_to = Some(batch.place(&batch.entries[1]).to_place());
        let (ack, cell) = Ack::new(3, Arc::new(Notify::new()));
        let lease = LeaseCheck::new(|| true);
        let sink = NullSink::default();
        sink.take(LaneBatch { batch, skip_to, ack, lease, permit: None });
        assert_eq!(cell.state(), AckState::Settled);
        assert_eq!(sink.entries(), 3, "two were settled by an earlier owner");
    }
}
