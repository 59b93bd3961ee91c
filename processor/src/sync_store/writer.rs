//! The writer's task: take batches, make calls, settle what the store kept.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_smithy_async::time::SharedTimeSource;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use store::{DeadLetter, DeadReason, DeliveryStore, MessageStore, PutOutcome, StoreItem};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::limit::AdaptiveLimit;
use super::queue::{Item, Queue};
use super::{SyncStoreOptions, WriterHandle, WriterStats};
use crate::batch::LaneBatch;
use crate::clock::wall_ms;
use crate::integration::Integrations;
use crate::metrics;

/// How long work is held back while the lease of its shard cannot be trusted.
const LEASE_PAUSE: Duration = Duration::from_millis(100);
/// Calls that may run beside each other at the start, before anything was measured.
const FIRST_PARALLEL: usize = 4;
/// The writer takes no batch while more entries than this wait, in calls' worth.
const WAITING_CALLS: usize = 64;

/// Writes lane batches into the store. One per process.
pub(crate) struct Writer {
    options: SyncStoreOptions,
    integrations: Arc<Integrations>,
    messages: Arc<dyn MessageStore>,
    deliveries: DeliveryStore,
    time: SharedTimeSource,
    rng: fastrand::Rng,
    intake: mpsc::Receiver<LaneBatch>,
    stats: Arc<WriterStats>,
    limit: AdaptiveLimit,
    store: Queue,
    dead: Queue,
}

/// What one call left undone, with the items it was about.
struct Done {
    items: Vec<(Item, Verdict)>,
}

/// What became of one item.
enum Verdict {
    Settled,
    Again(String),
    Reject(String),
}

type Call = BoxFuture<'static, Done>;

enum Step {
    Stop,
    Done(Done),
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
        let handle = WriterHandle { queue, stats: Arc::clone(&stats) };
        let limit = AdaptiveLimit::new(FIRST_PARALLEL, options.max_parallel);
        let writer = Writer {
            options,
            integrations,
            messages,
            deliveries,
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
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut calls: FuturesUnordered<Call> = FuturesUnordered::new();
        loop {
            self.start_calls(&mut calls);
            self.publish();
            match self.wait(&mut calls, &stop).await {
                Step::Stop => return,
                Step::Done(done) => self.finish(done),
                Step::Batch(Some(batch)) => self.unpack(batch),
                Step::Batch(None) if calls.is_empty() && self.waiting() == 0 => return,
                Step::Batch(None) | Step::Tick => {}
            }
        }
    }

    async fn wait(&mut self, calls: &mut FuturesUnordered<Call>, stop: &CancellationToken) -> Step {
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
            Some(done) = calls.next(), if !calls.is_empty() => Step::Done(done),
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
        for (index, entry) in owner.entries().iter().enumerate() {
            let item = |dead| Item { owner: Arc::clone(&owner), index, attempts: 0, dead };
            match &entry.route {
                Ok(route) if self.integrations.get(route.integration).keeps_messages() => {
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

    fn start_calls(&mut self, calls: &mut FuturesUnordered<Call>) {
        let now = Instant::now();
        self.store.wake(now);
        self.dead.wake(now);
        while calls.len() < self.limit.calls() {
            let (batch, linger) = (self.options.batch_items.max(1), self.options.linger);
            if let Some(items) = self.dead.take(batch, linger, now) {
                let items = self.trusted(items, now, true);
                calls.push(self.dead_letter_call(items));
            } else if let Some(items) = self.store.take(batch, linger, now) {
                let items = self.trusted(items, now, false);
                calls.push(self.store_call(items));
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

    fn store_call(&self, items: Vec<Item>) -> Call {
        let mut batch = Vec::with_capacity(items.len());
        let mut kept = Vec::with_capacity(items.len());
        for item in items {
            if let Some(message) = item.owner.batch.message(item.entry(), &self.integrations) {
                let route = item.entry().route.as_ref().ok();
                let integration = route.map_or(0, |route| route.integration);
                batch.push(StoreItem {
                    message,
                    retention: self.integrations.get(integration).retention(),
                    fence: item.owner.batch.shard.fence,
                });
                kept.push(item);
            }
        }
        let messages = Arc::clone(&self.messages);
        Box::pin(async move {
            if batch.is_empty() {
                return Done { items: Vec::new() };
            }
            let report = messages.put(&batch).await;
            let verdicts = report.outcomes.into_iter().map(|outcome| match outcome {
                PutOutcome::Stored => Verdict::Settled,
                PutOutcome::Retry(reason) => Verdict::Again(format!("{reason:?}")),
                PutOutcome::Rejected(detail) => Verdict::Reject(detail),
            });
            Done { items: kept.into_iter().zip(verdicts).collect() }
        })
    }

    fn dead_letter_call(&self, items: Vec<Item>) -> Call {
        let at_ms = wall_ms(&self.time);
        let letters: Vec<DeadLetter> = items.iter().map(|item| self.letter(item, at_ms)).collect();
        let deliveries = self.deliveries.clone();
        Box::pin(async move {
            if letters.is_empty() {
                return Done { items: Vec::new() };
            }
            // A dead letter that is refused for good has nowhere else to go: its lane stops and says so.
            let report = deliveries.dead_letter(&letters).await;
            let verdicts = report.outcomes.into_iter().map(|outcome| match outcome {
                PutOutcome::Stored => Verdict::Settled,
                PutOutcome::Retry(reason) => Verdict::Again(format!("{reason:?}")),
                PutOutcome::Rejected(detail) => Verdict::Again(detail),
            });
            Done { items: items.into_iter().zip(verdicts).collect() }
        })
    }

    fn letter(&self, item: &Item, at_ms: i64) -> DeadLetter {
        let entry = item.entry();
        let batch = &item.owner.batch;
        let integration = match &entry.route {
            Ok(route) => self.integrations.get(route.integration).name().clone(),
            Err(malformed) => malformed.integration.clone(),
        };
        let (reason, detail) = item.dead.clone().unwrap_or((DeadReason::StoreRejected, String::new()));
        DeadLetter {
            integration,
            reason,
            detail,
            position: batch.position(entry),
            partition_key: Arc::clone(&entry.partition_key),
            arrived_at_ms: entry.arrived_at_ms,
            fence: batch.shard.fence,
            attempts: item.attempts,
            payload: entry.payload.clone(),
            subscription: None,
            at_ms,
        }
    }

    fn finish(&mut self, done: Done) {
        if done.items.is_empty() {
            return;
        }
        self.stats.calls.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let mut refused = 0;
        let asked = done.items.len();
        for (item, verdict) in done.items {
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
        if refused > 0 {
            self.limit.throttled(now);
        } else {
            self.limit.succeeded();
        }
    }

    fn settle(&self, item: &Item) {
        let counter = if item.dead.is_some() { &self.stats.dead_lettered } else { &self.stats.stored };
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
