//! The stages of the read path, each by itself, for the benchmarks of this crate alone.
//!
//! Nothing of the product calls this, and nothing here is kept stable.

pub mod deliver;
pub mod matching;
pub mod store;

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::arena::{RawRecord, Records, append};
use crate::batch::{Ack, AckState, Batch, LaneBatch, LeaseCheck, RawBatch, ShardContext};
use crate::decode::{self, DecodeOptions, Scratch};
use crate::envelope;
use crate::integration::{Integration, IntegrationError, Integrations};
use crate::lane::Sink;

/// Everything between a frame's payload and the lanes.
pub struct ReadPath {
    integrations: Integrations,
    options: DecodeOptions,
    shard: Arc<ShardContext>,
    scratch: Scratch,
}

/// A decoded event.
pub struct Decoded(Arc<Batch>);

/// One record for a sink: partition key, sequence number, data.
pub type Record = (String, String, Vec<u8>);

/// An event of these records, decoded.
fn event(
    integrations: &Integrations,
    shard: u32,
    arrived_at_ms: i64,
    records: &[Record],
) -> Decoded {
    let mut event = Records::default();
    for (partition_key, sequence, data) in records {
        let record = RawRecord {
            sequence: append(&mut event.arena, sequence.as_bytes()),
            partition_key: append(&mut event.arena, partition_key.as_bytes()),
            arrived_at_ms,
            data: append(&mut event.arena, data),
        };
        event.spans.push(record);
    }
    let raw = RawBatch {
        shard: Arc::new(ShardContext {
            stream_arn: Arc::from("arn:aws:kinesis:us-east-1:000000000000:stream/s"),
            shard_id: Arc::from(format!("shardId-{shard:012}")),
            fence: 1,
            starting_hash_key: 0,
            ending_hash_key: u128::MAX,
        }),
        records: event,
        upto: None,
        millis_behind_latest: 0,
        children: Vec::new(),
        shard_ended: false,
        wire_bytes: 0,
        received_at: Instant::now(),
        permit: None,
    };
    Decoded(Arc::new(decode::decode(raw, integrations, &DecodeOptions::default())))
}

/// Hands events over as lanes do, and waits until all are settled.
async fn hand_over<'a>(
    sink: &dyn Sink,
    progress: &Arc<Notify>,
    events: impl Iterator<Item = &'a Decoded>,
) {
    let lease = LeaseCheck::new(|| true);
    let mut cells = Vec::new();
    for Decoded(batch) in events {
        let (ack, cell) = Ack::new(batch.entries.len(), Arc::clone(progress));
        let (batch, lease) = (Arc::clone(batch), lease.clone());
        let mut offered = LaneBatch { batch, skip_to: None, ack, lease, permit: None };
        while let Err(refused) = sink.offer(offered) {
            offered = refused;
            progress.notified().await;
        }
        cells.push(cell);
    }
    for cell in cells {
        while cell.state() == AckState::Outstanding {
            progress.notified().await;
        }
    }
}

impl ReadPath {
    /// The read path of a shard whose hash keys are the lower half.
    ///
    /// # Errors
    /// When the integrations do not go together.
    pub fn new(configured: Vec<Integration>) -> Result<ReadPath, IntegrationError> {
        let integrations = Integrations::compile(configured)?;
        Ok(ReadPath {
            scratch: Scratch::new(&integrations),
            integrations,
            options: DecodeOptions::default(),
            shard: Arc::new(ShardContext {
                stream_arn: Arc::from("arn:aws:kinesis:us-east-1:000000000000:stream/s"),
                shard_id: Arc::from("shardId-000000000000"),
                fence: 1,
                starting_hash_key: 0,
                ending_hash_key: u128::MAX / 2,
            }),
        })
    }

    /// Reads the envelope of an event, and decodes its data: how many records it has.
    #[must_use]
    pub fn read(&self, payload: &[u8]) -> Option<usize> {
        let event = envelope::event(payload, payload.len(), &self.shard).ok()?;
        Some(event.records.len())
    }

    /// Reads an event and routes its messages.
    #[must_use]
    pub fn decode(&self, payload: &[u8]) -> Option<Decoded> {
        let event = envelope::event(payload, payload.len(), &self.shard).ok()?;
        let raw = RawBatch {
            shard: Arc::clone(&self.shard),
            records: event.records,
            upto: event.continuation,
            millis_behind_latest: event.millis_behind_latest,
            children: event.children,
            shard_ended: false,
            wire_bytes: event.wire_bytes,
            received_at: Instant::now(),
            permit: None,
        };
        Some(Decoded(Arc::new(decode::decode(raw, &self.integrations, &self.options))))
    }

    /// Decodes one record, from the copy that is made of it: how many messages were in it.
    #[must_use]
    pub fn split(&self, record: &[u8]) -> usize {
        let mut records = Records::default();
        let arena = &mut records.arena;
        let raw = RawRecord {
            sequence: append(arena, b"1"),
            partition_key: append(arena, b"key"),
            arrived_at_ms: 0,
            data: append(arena, record),
        };
        records.spans.push(raw);
        let raw = RawBatch {
            shard: Arc::clone(&self.shard),
            records,
            upto: None,
            millis_behind_latest: 0,
            children: Vec::new(),
            shard_ended: false,
            wire_bytes: 0,
            received_at: Instant::now(),
            permit: None,
        };
        decode::decode(raw, &self.integrations, &self.options).entries.len()
    }

    /// Routes one message: the time that was found in it, or `None` when it is malformed.
    #[must_use]
    pub fn route(&mut self, payload: &[u8]) -> Option<i64> {
        let arrival = decode::Arrival { partition_key: b"key", arrived_at_ms: 0 };
        let route = decode::route(&self.integrations, &mut self.scratch, payload, arrival);
        Some(route.ok()?.time_ms)
    }
}

impl Decoded {
    /// Messages and malformed records.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let malformed = self.0.malformed.len();
        (self.0.entries.len() - malformed, malformed)
    }

    /// What a lane is handed: one more count on the batch.
    #[must_use]
    pub fn share(&self) -> Decoded {
        Decoded(Arc::clone(&self.0))
    }
}
