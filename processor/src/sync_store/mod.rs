//! The `sync-store` pipeline: every message into the store that the API reads, batched over shards.
//!
//! [`Writer`] is one task. It takes lane batches, writes their messages 25 a call (or after a short
//! linger), runs as many calls beside each other as the store bears, and retries only what was
//! refused. What is no message goes to the dead letters here, and nowhere else. It never drops an
//! entry: an entry is settled when it is stored or dead-lettered, and until then it stays.
//! Start reading at [`Writer::run`]; `queue` decides what is written next, `limit` how much at once.

mod call;
mod limit;
mod queue;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;

use crate::batch::LaneBatch;
use crate::lane::Sink;
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
    /// Batches that wait for the writer, at most.
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
            queue_batches: 256,
        }
    }
}

/// Hands batches to the [`Writer`].
#[derive(Debug, Clone)]
pub(crate) struct WriterHandle {
    queue: mpsc::Sender<LaneBatch>,
    stats: Arc<WriterStats>,
    /// In the place of the writer, when nothing is kept.
    null: Option<Arc<NullSink>>,
}

impl WriterHandle {
    /// What the writer has done since it started.
    pub(crate) fn stats(&self) -> SyncStoreStatus {
        let discarded = self.null.as_ref().map_or(0, |null| null.entries());
        SyncStoreStatus { discarded, ..self.stats.snapshot() }
    }
}

impl Sink for WriterHandle {
    fn offer(&self, batch: LaneBatch) -> Result<(), LaneBatch> {
        if let Some(null) = &self.null {
            null.take(batch);
            return Ok(());
        }
        self.queue.try_send(batch).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(batch) | mpsc::error::TrySendError::Closed(batch) => {
                batch
            }
        })
    }
}

/// Counters of the writer; written by its task, read by anyone.
#[derive(Debug, Default)]
pub(crate) struct WriterStats {
    stored: AtomicU64,
    retried: AtomicU64,
    dead_lettered: AtomicU64,
    calls: AtomicU64,
    waiting: AtomicU64,
    parallel: AtomicU64,
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
    /// Calls to the store.
    pub calls: u64,
    /// Records that wait for their first or next try.
    pub waiting: u64,
    /// Calls that may run beside each other now.
    pub parallel: u64,
    /// Records let go of because the pipeline keeps nothing.
    pub discarded: u64,
}

impl WriterStats {
    fn snapshot(&self) -> SyncStoreStatus {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SyncStoreStatus {
            stored: read(&self.stored),
            retried: read(&self.retried),
            dead_lettered: read(&self.dead_lettered),
            calls: read(&self.calls),
            waiting: read(&self.waiting),
            parallel: read(&self.parallel),
            discarded: 0,
        }
    }
}
