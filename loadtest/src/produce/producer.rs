//! The producer's loop: one task that owns the source, the schedule, the queue and the requests.

use std::future::pending;
use std::sync::Arc;

use aws_sdk_kinesis::Client;
use aws_smithy_async::time::SharedTimeSource;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::aggregate::Aggregator;
use super::exit::{Exit, ProduceError};
use super::options::{InvalidOptions, Options, Pace};
use super::put::{Fate, Sender, Settled};
use super::queue::{Queue, Unit, UserMessage};
use super::replay::ReplayError;
use super::schedule::Schedule;
use super::shard_map::ShardMap;
use super::source::{Message, Messages};
use super::stamp::Stamp;
use super::stats::{Counters, Handle, Summary};

/// Puts messages into a stream until its source ends or it is stopped.
#[derive(Debug)]
pub struct Producer {
    options: Options,
    client: Client,
    time: SharedTimeSource,
    counters: Arc<Counters>,
}

impl Producer {
    /// A producer and a handle to watch it. `client` should have timeouts and no retries of its
    /// own; `time` stamps generated messages.
    pub fn new(
        options: Options,
        client: Client,
        time: SharedTimeSource,
    ) -> Result<(Producer, Handle), InvalidOptions> {
        options.validate()?;
        let counters = Arc::new(Counters::default());
        let handle = Handle::new(Arc::clone(&counters));
        Ok((Producer { options, client, time, counters }, handle))
    }

    /// Runs to the end; cancelling `stop` ends it after the requests in flight.
    pub async fn run(self, stop: CancellationToken) -> Exit {
        let counters = Arc::clone(&self.counters);
        let started = Instant::now();
        let mut run = Run::new(self, stop.clone(), started);
        let ended = run.run(&stop).await;
        run.abandon();
        let last_failure = run.last_failure.take();
        let summary = Summary { stats: counters.read(), elapsed: started.elapsed(), last_failure };
        match ended {
            Err(error) => Exit::Failed(summary, error),
            Ok(()) if stop.is_cancelled() && !run.is_finished() => Exit::Stopped(summary),
            Ok(()) => Exit::Done(summary),
        }
    }
}

/// A message that waits for its time.
struct Staged {
    due: Instant,
    message: UserMessage,
}

struct Run {
    options: Options,
    started: Instant,
    messages: Messages,
    source_ended: bool,
    left: u64,
    ends_at: Option<Instant>,
    schedule: Schedule,
    stamp: Stamp,
    staged: Option<Staged>,
    aggregator: Option<Aggregator>,
    shards: ShardMap,
    /// Messages whose aggregate went to another shard than expected, with that shard.
    doubtful: Vec<(Arc<str>, UserMessage)>,
    /// The shard map is known to be older than the stream's shards.
    shards_are_stale: bool,
    queue: Queue,
    sender: Arc<Sender>,
    in_flight: FuturesUnordered<BoxFuture<'static, Settled>>,
    rng: fastrand::Rng,
    counters: Arc<Counters>,
    last_failure: Option<String>,
}

/// What the loop does next.
enum Step {
    Stop,
    Settled(Settled),
    Read(Result<Option<Message>, ReplayError>),
    Tick,
}

impl Run {
    fn new(producer: Producer, stop: CancellationToken, started: Instant) -> Run {
        let Producer { options, client, time, counters } = producer;
        let aggregator = options.aggregation.map(|limits| Aggregator::new(limits, options.linger));
        Run {
            started,
            messages: Messages::new(&options.source, options.seed, time),
            source_ended: false,
            left: options.limit.unwrap_or(u64::MAX),
            ends_at: options.duration.map(|duration| started + duration),
            schedule: Schedule::new(&options.pace),
            stamp: Stamp::new(options.seed),
            staged: None,
            shards: ShardMap::default(),
            doubtful: Vec::new(),
            shards_are_stale: aggregator.is_some(),
            aggregator,
            queue: Queue::new(&options),
            sender: Arc::new(Sender {
                client,
                stream: options.stream.clone(),
                attempts: options.attempts,
                attempt_timeout: options.attempt_timeout,
                counters: Arc::clone(&counters),
                stop,
            }),
            in_flight: FuturesUnordered::new(),
            rng: fastrand::Rng::with_seed(options.seed ^ 0x5eed),
            options,
            counters,
            last_failure: None,
        }
    }

    async fn run(&mut self, stop: &CancellationToken) -> Result<(), ProduceError> {
        loop {
            if self.shards_are_stale {
                self.load_shards().await?;
            }
            self.end_source_in_time();
            self.admit_due();
            self.send_ready();
            if self.is_finished() {
                return Ok(());
            }
            match self.wait(stop).await {
                Step::Stop => return self.drain().await,
                Step::Settled(settled) => self.settle(settled)?,
                Step::Read(message) => self.stage(message?),
                Step::Tick => {}
            }
        }
    }

    async fn wait(&mut self, stop: &CancellationToken) -> Step {
        let wants_message = self.staged.is_none() && !self.source_ended;
        let wake = self.wake();
        tokio::select! {
            biased;
            () = stop.cancelled() => Step::Stop,
            Some(settled) = self.in_flight.next(), if !self.in_flight.is_empty() => Step::Settled(settled),
            message = self.messages.next(), if wants_message => Step::Read(message),
            () = sleep_until(wake) => Step::Tick,
        }
    }

    /// When something happens by itself: a message is due, a request or a record has waited enough.
    fn wake(&self) -> Option<Instant> {
        let staged = self.staged.as_ref().filter(|_| self.has_room()).map(|staged| staged.due);
        let can_send = self.in_flight.len() < self.options.in_flight;
        let request = self.queue.deadline().filter(|_| can_send);
        let record = self.aggregator.as_ref().and_then(Aggregator::deadline);
        let end = self.ends_at.filter(|_| !self.source_ended);
        [staged, request, record, end].into_iter().flatten().min()
    }

    fn has_room(&self) -> bool {
        self.queue.has_room(self.aggregator.as_ref().map_or(0, Aggregator::bytes))
    }

    /// Nothing more comes, nothing waits, nothing is in flight.
    fn is_finished(&self) -> bool {
        self.source_ended
            && self.staged.is_none()
            && self.aggregator.as_ref().is_none_or(Aggregator::is_empty)
            && self.queue.is_empty()
            && self.in_flight.is_empty()
    }

    /// Gives a message its keys and its time.
    fn stage(&mut self, message: Option<Message>) {
        let Some(message) = message.filter(|_| self.left > 0) else {
            self.source_ended = true;
            return;
        };
        self.left -= 1;
        self.source_ended = self.left == 0;
        let (message, recorded) = self.stamp.stamp(&self.options, message, &self.counters);
        let due = self.started + self.schedule.next_due(recorded);
        self.staged = Some(Staged { due, message });
    }

    /// Takes no more messages once the time is up; those taken are still sent.
    fn end_source_in_time(&mut self) {
        if self.ends_at.is_some_and(|end| end <= Instant::now()) {
            self.source_ended = true;
            self.staged = None;
        }
    }

    /// Moves the staged message on if its time has come and there is room.
    fn admit_due(&mut self) {
        let now = Instant::now();
        if !self.has_room() {
            // Half-full aggregates may be all that takes the room: only sending them makes some.
            if self.queue.is_empty() && self.in_flight.is_empty() {
                self.close_aggregates(now, true);
            }
            return;
        }
        if let Some(staged) = self.staged.take_if(|staged| staged.due <= now) {
            Counters::add(&self.counters.messages_read, 1);
            let late = now.saturating_duration_since(staged.due).as_millis() as u64;
            let late = if matches!(self.options.pace, Pace::Unlimited) { 0 } else { late };
            Counters::set(&self.counters.late_ms, late);
            self.admit(staged.message, now);
        }
    }

    fn admit(&mut self, message: UserMessage, now: Instant) {
        let hash = message.hash();
        let record = match &mut self.aggregator {
            None => Some(Unit::plain(message, now)),
            Some(aggregator) => match self.shards.shard_of(hash) {
                Some(shard) => aggregator.push(shard, message, now),
                // A hole in the map is a reshard in progress: alone, the message finds its way.
                None => Some(Unit::plain(message, now)),
            },
        };
        if let Some(record) = record {
            self.enqueue(record);
        }
    }

    fn enqueue(&mut self, unit: Unit) {
        if let Err(refused) = self.queue.push(unit) {
            Counters::add(&self.counters.messages_failed, refused.messages);
            let limit = self.options.request_bytes;
            tracing::warn!(bytes = refused.bytes, limit, "record too large for a request");
            self.last_failure = Some(format!(
                "a record of {} bytes does not fit into a request of {limit}",
                refused.bytes
            ));
        }
    }

    fn close_aggregates(&mut self, now: Instant, all: bool) {
        let closed = self.aggregator.as_mut().map(|aggregator| aggregator.close_due(now, all));
        for unit in closed.into_iter().flatten() {
            self.enqueue(unit);
        }
    }

    /// Starts as many requests as are ready and allowed.
    fn send_ready(&mut self) {
        let now = Instant::now();
        let is_last = self.source_ended && self.staged.is_none();
        self.close_aggregates(now, is_last);
        while self.in_flight.len() < self.options.in_flight {
            let Some(units) = self.queue.take(now, is_last) else {
                break;
            };
            let rng = self.rng.fork();
            self.in_flight.push(Box::pin(Arc::clone(&self.sender).put(units, rng)));
        }
        Counters::set(&self.counters.in_flight, self.in_flight.len() as u64);
    }

    /// Counts what became of a request's records; sends misplaced messages again.
    fn settle(&mut self, settled: Settled) -> Result<(), ProduceError> {
        for (unit, fate) in settled.units {
            self.queue.release(&unit.order);
            match fate {
                Fate::Abandoned => Counters::add(&self.counters.messages_abandoned, unit.messages),
                Fate::Failed(cause) => {
                    Counters::add(&self.counters.messages_failed, unit.messages);
                    tracing::warn!(messages = unit.messages, %cause, "record given up");
                    self.last_failure = Some(cause);
                }
                Fate::Sent(shard) => {
                    Counters::add(&self.counters.records_sent, 1);
                    Counters::add(&self.counters.bytes_sent, unit.bytes());
                    self.settle_sent(unit, shard);
                }
            }
        }
        settled.fatal.map_or(Ok(()), Err)
    }

    /// Counts a record's messages as sent, unless it went to another shard than it was made for.
    fn settle_sent(&mut self, unit: Unit, shard: String) {
        match unit.aggregate {
            Some((expected, messages)) if *expected != *shard => {
                self.shards_are_stale = true;
                let shard: Arc<str> = shard.into();
                self.doubtful.extend(messages.into_iter().map(|m| (Arc::clone(&shard), m)));
            }
            _ => Counters::add(&self.counters.messages_sent, unit.messages),
        }
    }

    /// A consumer may ignore the messages of an aggregate that belong to another shard than the
    /// one it came through. Once the shards are known anew, those go again, alone.
    fn send_misplaced_again(&mut self) {
        let now = Instant::now();
        for (shard, message) in std::mem::take(&mut self.doubtful) {
            if self.shards.shard_of(message.hash()).is_some_and(|home| **home == *shard) {
                Counters::add(&self.counters.messages_sent, 1);
            } else {
                Counters::add(&self.counters.messages_misplaced, 1);
                self.enqueue(Unit::plain(message, now));
            }
        }
    }

    async fn load_shards(&mut self) -> Result<(), ProduceError> {
        let Sender { client, stream, attempt_timeout, .. } = &*self.sender;
        self.shards = ShardMap::load(client, stream, *attempt_timeout).await?;
        self.shards_are_stale = false;
        self.send_misplaced_again();
        Ok(())
    }

    /// Waits for the requests in flight, which stop by themselves before their next attempt.
    async fn drain(&mut self) -> Result<(), ProduceError> {
        while let Some(settled) = self.in_flight.next().await {
            self.settle(settled)?;
        }
        Ok(())
    }

    /// Counts what has been read but will not be sent.
    fn abandon(&mut self) {
        self.staged = None;
        let now = Instant::now();
        self.close_aggregates(now, true);
        Counters::add(
            &self.counters.messages_abandoned,
            self.doubtful.len() + self.queue.abandon(),
        );
        Counters::set(&self.counters.in_flight, 0);
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => pending().await,
    }
}
