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

use super::call::{Calls, Done, To, Verdict};
use super::line::Line;
use super::notes::{self, Notes};
use super::queue::{Fill, Item, Owner};
use super::room::Room;
use super::{SyncStoreOptions, WriterHandle, WriterStats};
use crate::clock::wall_ms;
use crate::integration::Integrations;
use crate::metrics;
use crate::null_sink::SinkMode;

/// How long work is held back while the lease of its shard cannot be trusted.
const LEASE_PAUSE: Duration = Duration::from_millis(100);
/// Calls to the dead letters beside each other: they are few, or something is wrong upstream.
const DEAD_LETTER_PARALLEL: usize = 4;

/// Writes lane batches into the store. One per process.
pub(crate) struct Writer {
    options: SyncStoreOptions,
    calls: Calls,
    time: SharedTimeSource,
    rng: fastrand::Rng,
    intake: mpsc::Receiver<Owner>,
    stats: Arc<WriterStats>,
    messages: Line,
    dead_letters: Line,
    arrivals: Line,
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
    Batch(Option<Owner>),
    Tick,
}

impl Writer {
    /// A writer and the handle that feeds it. It holds at most `hold_bytes` of batches, shared out as
    /// [`Room`] does it.
    pub(crate) fn new(
        options: SyncStoreOptions,
        hold_bytes: usize,
        integrations: Arc<Integrations>,
        messages: Arc<dyn MessageStore>,
        deliveries: DeliveryStore,
        time: SharedTimeSource,
        seed: u64,
    ) -> (Writer, WriterHandle) {
        let hold_batches = options.queue_batches.max(1);
        let (queue, intake) = mpsc::channel(hold_batches);
        let stats = Arc::new(WriterStats::default());
        let room = Room::new(hold_batches, hold_bytes);
        let null = (options.sink == SinkMode::Discard).then(Arc::default);
        let handle = WriterHandle { queue, room, stats: Arc::clone(&stats), null };
        let fill = Fill { items: options.batch_items, linger: options.linger };
        let dead_letters = Line::new(fill, DEAD_LETTER_PARALLEL, Arc::clone(&stats.dead_letters));
        let arrivals = Line::new(notes::FILL, notes::PARALLEL, Arc::clone(&stats.arrivals));
        let notes = Arc::new(Notes::new(seed, &integrations));
        let writer = Writer {
            messages: Line::new(fill, options.max_parallel, Arc::clone(&stats.store)),
            dead_letters,
            arrivals,
            calls: Calls { integrations, messages, deliveries, notes },
            options,
            time,
            rng: fastrand::Rng::with_seed(seed),
            intake,
            stats,
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
        let lines = [&self.messages, &self.dead_letters, &self.arrivals];
        let tick = lines.into_iter().filter_map(Line::next_deadline).min();
        let fed = !self.intake.is_closed() || !self.intake.is_empty();
        tokio::select! {
            biased;
            () = stop.cancelled() => Step::Stop,
            Some(done) = calls.join_next(), if !calls.is_empty() => Step::Done(done),
            () = tokio::time::sleep_until(tick.unwrap_or_else(Instant::now)), if tick.is_some() => Step::Tick,
            batch = self.intake.recv(), if fed => Step::Batch(batch),
            else => Step::Stop,
        }
    }

    fn waiting(&self) -> usize {
        [&self.messages, &self.dead_letters, &self.arrivals]
            .map(|line| line.queue.len())
            .iter()
            .sum()
    }

    fn line(&mut self, to: To) -> &mut Line {
        match to {
            To::Messages => &mut self.messages,
            To::DeadLetters => &mut self.dead_letters,
            To::Arrivals => &mut self.arrivals,
        }
    }

    /// Turns a batch into items; what its integration keeps nowhere is settled at once.
    fn unpack(&mut self, owner: Owner) {
        let now = Instant::now();
        let owner = Arc::new(owner);
        let batch = &owner.batch.batch;
        let mut unstored = 0;
        let first = batch.first_unsettled(owner.batch.skip_to.as_ref());
        for (index, entry) in (0u32..).zip(&batch.entries).skip(first) {
            let item = |dead| Item { owner: Arc::clone(&owner), index, attempts: 0, dead };
            match batch.integration(entry) {
                Ok(at) if self.calls.integrations.get(at).keeps_messages() => {
                    self.messages.queue.push(item(None), now);
                }
                Ok(_) => unstored += 1,
                Err(malformed) => {
                    let dead = Box::new((malformed.reason, malformed.detail.clone()));
                    self.dead_letters.queue.push(item(Some(dead)), now);
                }
            }
        }
        owner.batch.ack.settle(unstored);
    }

    fn start_calls(&mut self, calls: &mut JoinSet<Done>) {
        let now = Instant::now();
        for to in [To::DeadLetters, To::Arrivals, To::Messages] {
            while let Some(items) = self.line(to).next_call(now) {
                let items = self.trusted(to, items, now);
                if !items.is_empty() {
                    self.line(to).started(&items);
                    if to != To::Arrivals {
                        self.first_tried(&items, now);
                    }
                    calls.spawn(self.calls.start(to, items, wall_ms(&self.time)));
                }
            }
            self.line(to).rest(now);
        }
    }

    /// Counts how long it took to come to an item's first call.
    fn first_tried(&self, items: &[Item], now: Instant) {
        for item in items.iter().filter(|item| item.attempts == 0) {
            let received_at = item.owner.batch.batch.received_at;
            self.stats.added_latency.record(now.saturating_duration_since(received_at), 1);
        }
    }

    /// Lets go of work whose lease is lost, and holds back work whose lease cannot be trusted now.
    fn trusted(&mut self, to: To, items: Vec<Item>, now: Instant) -> Vec<Item> {
        let queue = &mut self.line(to).queue;
        items
            .into_iter()
            .filter(|item| !item.owner.batch.lease.is_lost())
            .filter_map(|item| {
                if item.owner.batch.lease.is_valid() {
                    return Some(item);
                }
                queue.shelve(item, now + LEASE_PAUSE);
                None
            })
            .collect()
    }

    fn finish(&mut self, done: Done) {
        let (to, now) = (done.to, Instant::now());
        let call = self.line(to).ended(&done, now);
        if to != To::Arrivals {
            self.stats.calls.fetch_add(1, Ordering::Relaxed);
            self.stats.call_records.fetch_add(call.asked as u64, Ordering::Relaxed);
            metrics::store_call(call.asked, call.refused);
        }
        for (item, verdict) in done.items {
            match verdict {
                Verdict::Settled if to == To::Messages => self.stored(item, now),
                Verdict::Settled => self.settle(to, &item),
                Verdict::Again(reason) => self.retry(to, item, &reason, now),
                Verdict::Reject(detail) => self.reject(item, detail, now),
            }
        }
    }

    /// It is settled, but where it is to be noted that it was stored.
    fn stored(&mut self, mut item: Item, now: Instant) {
        if self.calls.notes.wants(&item) {
            self.stats.stored.fetch_add(1, Ordering::Relaxed);
            item.attempts = 0;
            self.arrivals.queue.push(item, now);
        } else {
            self.settle(To::Messages, &item);
        }
    }

    fn settle(&self, to: To, item: &Item) {
        let counter = match to {
            To::Messages => &self.stats.stored,
            To::DeadLetters => &self.stats.dead_lettered,
            To::Arrivals => &self.stats.noted,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some(dead) = &item.dead {
            metrics::dead_letter(dead.0.code());
        }
        item.owner.batch.ack.settle(1);
    }

    fn retry(&mut self, to: To, mut item: Item, reason: &str, now: Instant) {
        self.stats.retried.fetch_add(1, Ordering::Relaxed);
        item.attempts = item.attempts.saturating_add(1);
        let stuck = item.attempts >= 8 && item.attempts.is_power_of_two();
        if stuck && !self.line(to).is_failing() {
            let shard = &item.owner.batch.batch.shard.shard_id;
            tracing::warn!(%shard, attempts = item.attempts, ?to, reason, "a record is refused again and again; its shard's position waits");
        }
        let until = now + backoff(&self.options, item.attempts, self.rng.f64());
        self.line(to).queue.shelve(item, until);
    }

    fn reject(&mut self, mut item: Item, detail: String, now: Instant) {
        tracing::warn!(shard = %item.owner.batch.batch.shard.shard_id, detail, "the store refuses this message for good; it becomes a dead letter");
        item.attempts = item.attempts.saturating_add(1);
        item.dead = Some(Box::new((DeadReason::StoreRejected, detail)));
        self.dead_letters.queue.push(item, now);
    }

    fn publish(&self) {
        self.stats.waiting.store(self.waiting() as u64, Ordering::Relaxed);
        self.stats.parallel.store(self.messages.parallel() as u64, Ordering::Relaxed);
    }
}

/// The wait before try number `attempts + 1`: doubling, capped, spread over its upper half.
fn backoff(options: &SyncStoreOptions, attempts: u32, unit: f64) -> Duration {
    let doubled = options.retry_base.saturating_mul(1 << attempts.saturating_sub(1).min(16));
    doubled.min(options.retry_max).mul_f64(0.5 + unit / 2.0)
}
