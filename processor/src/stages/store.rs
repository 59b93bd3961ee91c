//! The stage behind the lanes: batches to the writer, and waiting until the store has them.

use std::sync::Arc;

use aws_smithy_async::time::{SharedTimeSource, SystemTimeSource};
use store::{DeliveryStore, MessageStore};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Decoded;
use crate::arena::{RawRecord, Records, append};
use crate::batch::{Ack, AckState, LaneBatch, LeaseCheck, RawBatch, ShardContext};
use crate::decode::{self, DecodeOptions};
use crate::integration::{IntegrationError, Integrations};
use crate::lane::Sink;
use crate::sync_store::{SyncStoreOptions, Writer, WriterHandle};

/// Room for all that a benchmark hands over.
const HOLD_BYTES: usize = 256 * 1024 * 1024;

/// A running writer, and what it is fed with.
pub struct StoreStage {
    integrations: Arc<Integrations>,
    writer: WriterHandle,
    progress: Arc<Notify>,
    stop: CancellationToken,
}

/// One record to store: partition key, sequence number, data.
pub type Record = (String, String, Vec<u8>);

impl StoreStage {
    /// Starts a writer with the default options on the runtime that this is called in.
    ///
    /// # Errors
    /// Never: no integrations go together.
    pub fn start(
        messages: Arc<dyn MessageStore>,
        deliveries: DeliveryStore,
    ) -> Result<StoreStage, IntegrationError> {
        let integrations = Arc::new(Integrations::compile(Vec::new())?);
        let options = SyncStoreOptions::default();
        let time = SharedTimeSource::new(SystemTimeSource::new());
        let all = Arc::clone(&integrations);
        let (writer, handle) = Writer::new(options, HOLD_BYTES, all, messages, deliveries, time, 1);
        let stop = CancellationToken::new();
        tokio::spawn(writer.run(stop.clone()));
        Ok(StoreStage { integrations, writer: handle, progress: Arc::default(), stop })
    }

    /// An event of these records, decoded.
    #[must_use]
    pub fn event(&self, shard: u32, arrived_at_ms: i64, records: &[Record]) -> Decoded {
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
        Decoded(Arc::new(decode::decode(raw, &self.integrations, &DecodeOptions::default())))
    }

    /// Hands the events over as lanes do, and waits until all are stored.
    pub async fn store(&self, events: impl Iterator<Item = &Decoded>) {
        let lease = LeaseCheck::new(|| true);
        let mut cells = Vec::new();
        for Decoded(batch) in events {
            let (ack, cell) = Ack::new(batch.entries.len(), Arc::clone(&self.progress));
            let (batch, lease) = (Arc::clone(batch), lease.clone());
            let mut offered = LaneBatch { batch, skip_to: None, ack, lease, permit: None };
            while let Err(refused) = self.writer.offer(offered) {
                offered = refused;
                self.progress.notified().await;
            }
            cells.push(cell);
        }
        for cell in cells {
            while cell.state() == AckState::Outstanding {
                self.progress.notified().await;
            }
        }
    }

    /// How full the calls were, on average.
    #[must_use]
    pub fn records_per_call(&self) -> f64 {
        let stats = self.writer.stats();
        stats.call_records as f64 / stats.calls.max(1) as f64
    }
}

impl Drop for StoreStage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
