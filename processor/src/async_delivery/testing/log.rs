//! The stream of the tests of this room: the batches that were offered, as ranges read them again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::sleep;

use crate::async_delivery::ranges::{Log, Logs};
use crate::batch::testing::BatchBuilder;
use crate::batch::{Batch, Place, ShardContext};
use crate::reader::{ReadError, StartingAt};

/// All batches, in stream order.
#[derive(Default)]
pub(in crate::async_delivery) struct Stream {
    shards: Mutex<BTreeMap<Arc<str>, Vec<Arc<Batch>>>>,
    ended: AtomicBool,
    retention: Mutex<Option<Duration>>,
    reads: AtomicU64,
}

impl Stream {
    pub(super) fn put(&self, batch: &Arc<Batch>) {
        let mut shards = self.shards.lock().unwrap();
        let batches = shards.entry(Arc::clone(&batch.shard.shard_id)).or_default();
        if last(batch) > batches.last().and_then(|known| last(known)) {
            batches.push(Arc::clone(batch));
        }
    }

    /// The shards end behind what they have.
    pub(in crate::async_delivery) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    pub(in crate::async_delivery) fn keep_for(&self, retention: Duration) {
        *self.retention.lock().unwrap() = Some(retention);
    }

    /// Forgets what arrived before, as a stream does.
    pub(in crate::async_delivery) fn trim(&self, before_ms: i64) {
        let kept = |batch: &Arc<Batch>| batch.entries.iter().all(|e| e.arrived_at_ms >= before_ms);
        self.shards.lock().unwrap().values_mut().for_each(|batches| batches.retain(kept));
    }

    /// Batches that were read for ranges.
    pub(in crate::async_delivery) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}

/// Where its last entry stands.
fn last(batch: &Batch) -> Option<Place> {
    batch.entries.last().map(|entry| batch.place(entry).to_place())
}

pub(super) struct StreamLogs(pub(super) Arc<Stream>);

impl Logs for StreamLogs {
    fn open(&self, shard: &Arc<ShardContext>, start: StartingAt) -> Option<Box<dyn Log>> {
        let StartingAt::At(from) = start else { panic!("ranges begin at a place: {start}") };
        let (stream, shard) = (Arc::clone(&self.0), Arc::clone(shard));
        Some(Box::new(StreamLog { stream, shard, next: (from, 0) }))
    }

    fn retention(&self, _: &str) -> Option<Duration> {
        Some(self.0.retention.lock().unwrap().unwrap_or(Duration::from_secs(24 * 3_600)))
    }
}

struct StreamLog {
    stream: Arc<Stream>,
    shard: Arc<ShardContext>,
    next: Place,
}

impl StreamLog {
    fn find(&mut self) -> Option<Arc<Batch>> {
        let shards = self.stream.shards.lock().unwrap();
        let batches = shards.get(&self.shard.shard_id)?;
        let read = |batch: &Arc<Batch>| last(batch).is_none_or(|last| last < self.next);
        let found = batches.get(batches.partition_point(read))?;
        if let Some((sequence, index)) = last(found) {
            self.next = (sequence, index + 1);
        }
        self.stream.reads.fetch_add(1, Ordering::Relaxed);
        Some(Arc::clone(found))
    }
}

impl Log for StreamLog {
    fn next(&mut self) -> BoxFuture<'_, Result<Arc<Batch>, ReadError>> {
        Box::pin(async {
            // The batches are small: so many together are what GetRecords gives in a fifth of a second.
            sleep(Duration::from_millis(5)).await;
            if let Some(batch) = self.find() {
                return Ok(batch);
            }
            sleep(Duration::from_millis(195)).await;
            let shard_id = Arc::clone(&self.shard.shard_id);
            let mut batch =
                BatchBuilder::new(ShardContext { shard_id, ..super::shard() }).build(None, 0);
            batch.shard_ended = self.stream.ended.load(Ordering::Relaxed);
            Ok(Arc::new(batch))
        })
    }
}
