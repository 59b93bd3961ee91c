//! The `sync-store` pipeline: every message into the store that the API reads, batched over shards.
//!
//! [`Writer`] is one task. It takes lane batches, writes their messages 25 a call (or after a short
//! linger), runs as many calls beside each other as the store bears, and retries only what was
//! refused. What is no message goes to the dead letters here, and nowhere else. It never drops an
//! entry: an entry is settled when it is stored or dead-lettered, and until then it stays; one of an integration that
//! is tailed, when it is noted as well (`notes`).
//! Start reading at [`Writer::run`]; `queue` decides what is written next, `limit` how much at once, `room`
//! who may hand it more.

mod call;
mod limit;
mod line;
mod notes;
mod queue;
mod room;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use queue::Owner;
use room::Room;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::ailment::Ailment;
use crate::batch::LaneBatch;
use crate::lane::Sink;
use crate::latency::{Latency, LatencyStatus};
use crate::null_sink::{NullSink, SinkMode};

pub(crate) use writer::{Writer, WriterExit};

/// How the `sync-store` pipeline writes.
#[derive(Debug, Clone)]
pub struct SyncStoreOptions {
    /// Whether messages are stored, or let go of to measure the reading alone.
    pub sink: SinkMode,
    /// Messages of one call to the store.
    pub batch_items: usize,
    /// How long a message waits for others to share its call.
    pub linger: Duration,
    /// Calls beside each other, at most; fewer while the store throttles.
    pub max_parallel: usize,
    /// First wait before a refused message is tried again; doubles up to `retry_max`.
    pub retry_base: Duration,
    /// Longest wait between two tries of one message.
    pub retry_max: Duration,
    /// Batches that the writer holds over all shards, at most; one shard gets as many as are free.
    pub queue_batches: usize,
}

impl Default for SyncStoreOptions {
    fn default() -> Self {
        SyncStoreOptions {
            sink: SinkMode::Keep,
            batch_items: 25,
            linger: Duration::from_millis(2),
            max_parallel: 16,
            retry_base: Duration::from_millis(50),
            retry_max: Duration::from_secs(5),
            queue_batches: 1_024,
        }
    }
}

/// Hands batches to the [`Writer`].
#[derive(Debug, Clone)]
pub(crate) struct WriterHandle {
    queue: mpsc::Sender<Owner>,
    room: Arc<Room>,
    stats: Arc<WriterStats>,
    /// In the place of the writer, when nothing is kept.
    null: Option<Arc<NullSink>>,
}

impl WriterHandle {
    /// What the writer has done since it started.
    pub(crate) fn stats(&self) -> SyncStoreStatus {
        let discarded = self.null.as_ref().map_or(0, |null| null.entries());
        let held_batches = self.room.batches() as u64;
        let stats = self.stats.snapshot();
        let added_latency = self.null.as_ref().map_or(stats.added_latency, |null| null.latency());
        SyncStoreStatus { discarded, held_batches, added_latency, ..stats }
    }

    /// What the pipeline needs and cannot use, by name, with what ails it in words; nothing is skipped
    /// meanwhile, its lanes wait.
    pub(crate) fn ailments(&self) -> impl Iterator<Item = (String, String)> {
        let now = Instant::now();
        [&self.stats.store, &self.stats.dead_letters, &self.stats.arrivals]
            .into_iter()
            .filter_map(move |a| a.words(now))
    }
}

impl Sink for WriterHandle {
    fn offer(&self, batch: LaneBatch) -> Result<(), LaneBatch> {
        if let Some(null) = &self.null {
            null.take(batch);
            return Ok(());
        }
        let Some(place) = self.room.take(&batch.batch.shard, batch.batch.bytes) else {
            return Err(batch);
        };
        self.queue.try_send(Owner { batch, _place: place }).map_err(|refused| {
            let (mpsc::error::TrySendError::Full(owner) | mpsc::error::TrySendError::Closed(owner)) =
                refused;
            owner.batch
        })
    }
}

/// Counters of the writer; written by its task, read by anyone.
#[derive(Debug)]
pub(crate) struct WriterStats {
    stored: AtomicU64,
    retried: AtomicU64,
    dead_lettered: AtomicU64,
    noted: AtomicU64,
    calls: AtomicU64,
    call_records: AtomicU64,
    waiting: AtomicU64,
    parallel: AtomicU64,
    added_latency: Latency,
    store: Arc<Ailment>,
    dead_letters: Arc<Ailment>,
    arrivals: Arc<Ailment>,
}

impl Default for WriterStats {
    fn default() -> Self {
        WriterStats {
            stored: AtomicU64::default(),
            retried: AtomicU64::default(),
            dead_lettered: AtomicU64::default(),
            noted: AtomicU64::default(),
            calls: AtomicU64::default(),
            call_records: AtomicU64::default(),
            waiting: AtomicU64::default(),
            parallel: AtomicU64::default(),
            added_latency: Latency::default(),
            store: Arc::new(Ailment::new("store")),
            dead_letters: Arc::new(Ailment::new("dead-letters")),
            arrivals: Arc::new(Ailment::new("arrivals")),
        }
    }
}

/// What the `sync-store` pipeline has done since the process started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SyncStoreStatus {
    /// Messages stored.
    pub stored: u64,
    /// Tries that the store refused for now.
    pub retried: u64,
    /// Records given up as dead letters (malformed, or refused by the store for good).
    pub dead_lettered: u64,
    /// Stored messages noted for those who tail their integration.
    pub noted: u64,
    /// Calls to the store.
    pub calls: u64,
    /// Records that those calls were for, tries included: divided by `calls`, how full they were.
    pub call_records: u64,
    /// Records that wait for their first or next try.
    pub waiting: u64,
    /// Calls that may run beside each other now.
    pub parallel: u64,
    /// Batches that are not settled whole.
    pub held_batches: u64,
    /// Records let go of because the pipeline keeps nothing.
    pub discarded: u64,
    /// What this process adds: from the time when a record's event had come to its first call of the store.
    pub added_latency: LatencyStatus,
}

impl WriterStats {
    fn snapshot(&self) -> SyncStoreStatus {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SyncStoreStatus {
            stored: read(&self.stored),
            retried: read(&self.retried),
            dead_lettered: read(&self.dead_lettered),
            noted: read(&self.noted),
            calls: read(&self.calls),
            call_records: read(&self.call_records),
            waiting: read(&self.waiting),
            parallel: read(&self.parallel),
            held_batches: 0,
            discarded: 0,
            added_latency: self.added_latency.status(),
        }
    }
}
