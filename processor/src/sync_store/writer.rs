//! The writer's task: take batches, make calls, settle what the store kept.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_smithy_async::time::SharedTimeSource;
use store::{DeadReason, DeliveryStore, MessageStore};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::call::{Calls, Done, Verdict};
use super::limit::AdaptiveLimit;
use super::queue::{Item, Queue};
use super::{SyncStoreOptions, WriterHandle, WriterStats};
use crate::batch::LaneBatch;
use crate::clock::wall_ms;
use crate::integration::Integrations;
use crate::metrics;
use crate::null_sink::SinkMode;

/// How long work is held back while the lease of its shard cannot be trusted.
const LEASE_PAUSE: Duration = Duration::from_millis(100);
/// Calls that may run beside each other at the start, before anything was measured.
const FIRST_PARALLEL: usize = 4;
/// The writer takes no batch while more entries than this wait, in calls' worth.
const WAITING_CALLS: usize = 64;

/// Writes lane batches into the store. One per process.
pub(crate) struct Writer {
    options: SyncStoreOptions,
    calls: Calls,
    time: SharedTimeSource,
    rng: fastrand::Rng,
    intake: mpsc::Receiver<LaneBatch>,
    stats: Arc<WriterStats>,
    limit: AdaptiveLimit,
    store: Queue,
    dead: Queue,
}

/// How the writer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WriterExit {
    /// It was asked to, or nobody can hand it anything any more.
    Stopped,
    /// A call broke; what it held is not settled and will be read again.
    Failed(String),
}

enum Step {
    Stop,
    Done(Result<Done, JoinError>),
    Batch(Option<LaneBatch>),
    Tick,
}

impl Writer {
    /// A writer and the handle that feeds it.
    pub(crate) fn new(
        options: SyncStoreOptions,
        integrations: Arc<Integrations>,
        messages: Arc<dyn MessageStore>,
        deliveries: DeliveryStore,
        time: SharedTimeSource,
        seed: u64,
    ) -> (Writer, WriterHandle) {
        let (queue, intake) = mpsc::channel(options.queue_batches.max(1));
        let stats = Arc::new(WriterStats::default());
        let null = (options.sink == SinkMode::Discard).then(Arc::default);
        let handle = WriterHandle { queue, stats: Arc::clone(&stats), null };
        let limit = AdaptiveLimit::new(FIRST_PARALLEL, options.max_parallel);
        let writer = Writer {
            options,
            calls: Calls { integrations, messages, deliveries },
            time,
            rng: fastrand::Rng::with_seed(seed),
            intake,
            stats,
            limit,
            store: Queue::default(),
            dead: Queue::default(),
        };
        (writer, handle)
    }

    /// Runs until `stop`: by then nobody waits for what is left, its leases were released.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> WriterExit {
        let mut calls: JoinSet<Done> = JoinSet::new();
        loop {
            self.start_calls(&mut calls);
            self.publish();
            match self.wait(&mut calls, &stop).await {
                Step::Stop => return WriterExit::Stopped,
                Step::Done(Ok(done)) => self.finish(done),
                Step::Done(Err(error)) => return WriterExit::Failed(format!("a call: {error}")),
                Step::Batch(Some(batch)) => self.unpack(batch),
                Step::Batch(None) if calls.is_empty() && self.waiting() == 0 => {
                    return WriterExit::Stopped;
                }
                Step::Batch(None) | Step::Tick => {}
            }
        }
    }

    async fn wait(&mut self, calls: &mut JoinSet<Done>, stop: &CancellationToken) -> Step {
        let full = self.waiting() >= self.options.batch_items * WAITING_CALLS;
        let can_call = calls.len() < self.limit.calls();
        let tick = [&self.store, &self.dead]
            .into_iter()
            .filter_map(|queue| queue.next_deadline(self.options.linger))
            .min()
            .filter(|_| can_call);
        let fed = !self.intake.is_closed() || !self.intake.is_empty();
        tokio::select! {
            biased;
            () = stop.cancelled() => Step::Stop,
            Some(done) = calls.join_next(), if !calls.is_empty() => Step::Done(done),
            () = tokio::time::sleep_until(tick.unwrap_or_else(Instant::now)), if tick.is_some() => Step::Tick,
            batch = self.intake.recv(), if !full && fed => Step::Batch(batch),
            else => Step::Stop,
        }
    }

    fn waiting(&self) -> usize {
        self.store.len() + self.dead.len()
    }

    /// Turns a batch into items; what another integration's stores do not want is settled at once.
    fn unpack(&mut self, batch: LaneBatch) {
        let now = Instant::now();
        let owner = Arc::new(batch);
        let mut unstored = 0;
        let first = owner.batch.first_unsettled(owner.skip_to.as_ref());
        for (index, entry) in owner.batch.entries.iter().enumerate().skip(first) {
            let item = |dead| Item { owner: Arc::clone(&owner), index, attempts: 0, dead };
            match owner.batch.route(entry) {
                Ok(route) if self.calls.integrations.get(route.integration).keeps_messages() => {
                    self.store.push(item(None), now);
                }
                Ok(_) => unstored += 1,
                Err(malformed) => {
                    self.dead.push(item(Some((malformed.reason, malformed.detail.clone()))), now);
                }
            }
        }
        owner.ack.settle(unstored);
    }

    fn start_calls(&mut self, calls: &mut JoinSet<Done>) {
        let now = Instant::now();
        self.store.wake(now);
        self.dead.wake(now);
        while calls.len() < self.limit.calls() {
            let (batch, linger) = (self.options.batch_items.max(1), self.options.linger);
            if let Some(items) = self.dead.take(batch, linger, now) {
                let items = self.trusted(items, now, true);
                if !items.is_empty() {
                    calls.spawn(self.calls.dead_letter(items, wall_ms(&self.time)));
                }
            } else if let Some(items) = self.store.take(batch, linger, now) {
                let items = self.trusted(items, now, false);
                if !items.is_empty() {
                    calls.spawn(self.calls.store(items));
                }
            } else {
                return;
            }
        }
    }

    /// Lets go of work whose lease is lost, and holds back work whose lease cannot be trusted now.
    fn trusted(&mut self, items: Vec<Item>, now: Instant, dead: bool) -> Vec<Item> {
        let queue = if dead { &mut self.dead } else { &mut self.store };
        items
            .into_iter()
            .filter(|item| !item.owner.lease.is_lost())
            .filter_map(|item| {
                if item.owner.lease.is_valid() {
                    return Some(item);
                }
                queue.shelve(item, now + LEASE_PAUSE);
                None
            })
            .collect()
    }

    fn finish(&mut self, done: Done) {
        self.stats.calls.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let mut refused = 0;
        let asked = done.len();
        for (item, verdict) in done {
            match verdict {
                Verdict::Settled => self.settle(&item),
                Verdict::Again(reason) => {
                    refused += 1;
                    self.retry(item, &reason, now);
                }
                Verdict::Reject(detail) => self.reject(item, detail, now),
            }
        }
        metrics::store_call(asked, refused);
        if refused == 0 {
            self.limit.succeeded();
        } else if refused * 2 > asked {
            // A few refused keys say nothing of the store: they wait on their own, and slow nobody down.
            self.limit.throttled(now);
        }
    }

    fn settle(&self, item: &Item) {
        let counter =
            if item.dead.is_some() { &self.stats.dead_lettered } else { &self.stats.stored };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some((reason, _)) = &item.dead {
            metrics::dead_letter(reason.code());
        }
        item.owner.ack.settle(1);
    }

    fn retry(&mut self, mut item: Item, reason: &str, now: Instant) {
        self.stats.retried.fetch_add(1, Ordering::Relaxed);
        item.attempts = item.attempts.saturating_add(1);
        if item.attempts.is_power_of_two() && item.attempts >= 8 {
            let shard = &item.owner.batch.shard.shard_id;
            tracing::warn!(%shard, attempts = item.attempts, reason, "the store still refuses a record; its shard's position waits");
        }
        let until = now + backoff(&self.options, item.attempts, self.rng.f64());
        let queue = if item.dead.is_some() { &mut self.dead } else { &mut self.store };
        queue.shelve(item, until);
    }

    fn reject(&mut self, mut item: Item, detail: String, now: Instant) {
        tracing::warn!(shard = %item.owner.batch.shard.shard_id, detail, "the store refuses this message for good; it becomes a dead letter");
        item.attempts = item.attempts.saturating_add(1);
        item.dead = Some((DeadReason::StoreRejected, detail));
        self.dead.push(item, now);
    }

    fn publish(&self) {
        self.stats.waiting.store(self.waiting() as u64, Ordering::Relaxed);
        self.stats.parallel.store(self.limit.calls() as u64, Ordering::Relaxed);
    }
}

/// The wait before try number `attempts + 1`: doubling, capped, spread over its upper half.
fn backoff(options: &SyncStoreOptions, attempts: u32, unit: f64) -> Duration {
    let doubled = options.retry_base.saturating_mul(1 << attempts.saturating_sub(1).min(16));
    doubled.min(options.retry_max).mul_f64(0.5 + unit / 2.0)
}
