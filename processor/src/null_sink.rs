//! A sink that keeps nothing: it measures what reading, decoding and routing cost by themselves.
//!
//! Every entry is looked at (so that no compiler may leave its routing out), settled on the caller's
//! task and counted. It stores, delivers and dead-letters nothing, and waits for nothing.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::batch::{Entry, LaneBatch};

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
}

impl NullSink {
    /// Takes the batch, whatever it is, and settles it whole.
    pub(crate) fn take(&self, batch: LaneBatch) {
        let entries = batch.entries();
        let looked_at = entries.iter().map(look_at).fold(0usize, usize::wrapping_add);
        black_box(looked_at);
        self.entries.fetch_add(entries.len() as u64, Ordering::Relaxed);
        batch.ack.settle(entries.len());
    }

    /// Entries that were let go of since the start, malformed ones included.
    pub(crate) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }
}

/// Reads what a real sink would: where the entry belongs, whose it is, when it happened, how long it is.
fn look_at(entry: &Entry) -> usize {
    let routed = match &entry.route {
        Ok(route) => route.integration ^ route.entity.as_str().len() ^ route.time_ms as usize,
        Err(malformed) => malformed.detail.len(),
    };
    routed.wrapping_add(entry.payload.len()).wrapping_add(entry.partition_key.len())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use lease_manager::SequenceNumber;
    use store::{DeadReason, Entity, IntegrationName};
    use tokio::sync::Notify;

    use super::*;
    use crate::batch::{Ack, AckState, Batch, LeaseCheck, Malformed, Route, ShardContext};

    fn entry(n: u64, malformed: bool) -> Entry {
        let route = Route { integration: 0, entity: Entity::parse("e").unwrap(), time_ms: 1 };
        let broken = Malformed {
            reason: DeadReason::NotJson,
            detail: String::from("no"),
            integration: IntegrationName::parse("default").unwrap(),
        };
        Entry {
            place: (SequenceNumber::parse(n.to_string()).unwrap(), 0),
            partition_key: Arc::from("k"),
            arrived_at_ms: 1,
            payload: Bytes::from_static(b"{}"),
            route: if malformed { Err(broken) } else { Ok(route) },
        }
    }

    #[test]
    fn what_the_lane_still_owes_is_settled_at_once_and_counted() {
        let batch = Arc::new(Batch {
            shard: Arc::new(ShardContext {
                stream_arn: Arc::from("stream"),
                shard_id: Arc::from("shardId-0"),
                consumer_arn: Arc::from("consumer"),
                fence: 1,
                starting_hash_key: 0,
                ending_hash_key: u128::MAX,
            }),
            entries: (1..=5).map(|n| entry(n, n == 3)).collect(),
            upto: None,
            millis_behind_latest: 0,
            children: Vec::new(),
            shard_ended: false,
            bytes: 10,
        });
        let skip_to = Some(batch.entries[1].place.clone());
        let (ack, cell) = Ack::new(3, Arc::new(Notify::new()));
        let lease = LeaseCheck::new(|| true);
        let sink = NullSink::default();
        sink.take(LaneBatch { batch, skip_to, ack, lease, permit: None });
        assert_eq!(cell.state(), AckState::Settled);
        assert_eq!(sink.entries(), 3, "two were settled by an earlier owner");
    }
}
