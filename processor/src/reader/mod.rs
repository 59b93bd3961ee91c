//! The readers of shards: what is common to enhanced fan-out and polling, and which of them reads what.
//!
//! [`Readers`] is made once for the process, from its options; for each shard it gives
//! [`ShardReaders`], which make the live reader and readers that catch up. It never decides who owns a
//! shard, and opens nothing before a reader is asked for its next batch. Start reading at
//! [`ShardReaders`], then `fan_out` and `polling`.

pub(crate) mod connections;
pub(crate) mod consumer;
mod error;
mod http;
pub(crate) mod pause;
pub(crate) mod refusal;
mod start;
pub(crate) mod taken_body;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use aws_smithy_async::time::SharedTimeSource;

use crate::batch::{RawBatch, ShardContext};
use crate::budget::Budget;
use crate::fan_out::{FanOut, FanOutOptions, FanOutParts};
use crate::polling::{Poller, PollerParts, PollingOptions, ShardReads};
use crate::turns::Turns;

use connections::{Connection, Connections};
use consumer::Consumer;

pub use connections::KinesisClients;
pub(crate) use error::ReadError;
pub use http::ReadHttp;
pub(crate) use start::{StartingAt, skip_to};

/// A stream that is read, and how.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// ARN of the stream.
    pub arn: String,
    /// How its shards are read.
    pub mode: ReadMode,
    /// ARN of a second registered consumer, through which a lane that fell behind catches up; it
    /// polls where there is none.
    pub catch_up_consumer_arn: Option<String>,
    /// How long the stream keeps records.
    pub retention: Duration,
}

/// How long a stream keeps records unless somebody says otherwise.
const DEFAULT_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// How shards are read.
#[derive(Debug, Clone)]
pub enum ReadMode {
    /// Enhanced fan-out, through the registered consumer of this ARN.
    FanOut {
        /// ARN of the consumer.
        consumer_arn: String,
    },
    /// GetRecords.
    Polling,
}

impl StreamOptions {
    /// A stream that is read through a registered consumer.
    pub fn fan_out(arn: impl Into<String>, consumer_arn: impl Into<String>) -> StreamOptions {
        let mode = ReadMode::FanOut { consumer_arn: consumer_arn.into() };
        StreamOptions {
            arn: arn.into(),
            mode,
            catch_up_consumer_arn: None,
            retention: DEFAULT_RETENTION,
        }
    }

    /// A stream that is polled.
    pub fn polling(arn: impl Into<String>) -> StreamOptions {
        StreamOptions { mode: ReadMode::Polling, ..StreamOptions::fan_out(arn, "") }
    }
}

/// Reads one shard, in one of the two ways.
pub(crate) enum Reader {
    FanOut(Box<FanOut>),
    Polling(Box<Poller>),
}

impl Reader {
    /// The next batch, which may have no records; the last one has `shard_ended`.
    ///
    /// Cancel safe: dropping the future loses nothing. A fan-out reader must then be polled again
    /// soon or cancelled: unread bytes hold the connection's window.
    ///
    /// # Errors
    /// When reading on makes no sense, see [`ReadError`]. Errors that pass are waited for.
    pub(crate) async fn next(&mut self) -> Result<RawBatch, ReadError> {
        match self {
            Reader::FanOut(fan_out) => fan_out.next().await,
            Reader::Polling(poller) => poller.next().await,
        }
    }

    /// Drops what is under way at once, with what was not handed out. The next [`Reader::next`]
    /// goes on behind what was.
    pub(crate) fn cancel(&mut self) {
        match self {
            Reader::FanOut(fan_out) => fan_out.cancel(),
            Reader::Polling(poller) => poller.cancel(),
        }
    }

    /// It asks, and what comes is an answer to what it asked.
    pub(crate) fn is_polling(&self) -> bool {
        matches!(self, Reader::Polling(_))
    }

    /// Goes on at another place.
    pub(crate) fn restart(&mut self, start: StartingAt) {
        match self {
            Reader::FanOut(fan_out) => fan_out.restart(start),
            Reader::Polling(poller) => poller.restart(start),
        }
    }
}

/// How shards are read, over all of the process.
pub(crate) struct Readers {
    fan_out: FanOutOptions,
    polling: PollingOptions,
    connections: Connections,
    turns: Turns,
    /// Bytes that frames and answers may hold until they are decoded.
    budget: Budget,
    time: SharedTimeSource,
    streams: HashMap<String, Ways>,
    /// What may be polled of each shard, by stream and shard, while anybody reads it. A mutex because shards are opened by
    /// several tasks; held for one look-up.
    reads: Mutex<Allowances>,
}

/// What may be polled of each shard, by stream and shard.
type Allowances = HashMap<(Arc<str>, Arc<str>), Weak<ShardReads>>;

/// The ways to read a stream: through these consumers, or by polling.
#[derive(Clone)]
struct Ways {
    live: Option<Consumer>,
    catch_up: Option<Consumer>,
    retention: Duration,
}

impl Readers {
    /// Readers of the given streams.
    pub(crate) fn new(
        fan_out: FanOutOptions,
        polling: PollingOptions,
        clients: KinesisClients,
        budget: Budget,
        time: SharedTimeSource,
        streams: &[StreamOptions],
    ) -> Readers {
        let ways = |stream: &StreamOptions| Ways {
            live: match &stream.mode {
                ReadMode::FanOut { consumer_arn } => Some(Consumer::new(&stream.arn, consumer_arn)),
                ReadMode::Polling => None,
            },
            catch_up: stream
                .catch_up_consumer_arn
                .as_ref()
                .map(|arn| Consumer::new(&stream.arn, arn)),
            retention: stream.retention,
        };
        Readers {
            turns: Turns::new(fan_out.subscribes_per_second),
            fan_out,
            polling,
            connections: Connections::new(clients),
            budget,
            time,
            streams: streams.iter().map(|s| (s.arn.clone(), ways(s))).collect(),
            reads: Mutex::default(),
        }
    }

    /// Sets the gauges of reading.
    pub(crate) fn gauge(&self) {
        crate::metrics::connections(self.connections.in_use());
        crate::metrics::reading_bytes(self.budget.in_use());
    }

    /// The readers of one shard; `None` when its stream is not configured. `seed` is the shard's
    /// own, for jitter.
    pub(crate) fn of(
        self: &Arc<Self>,
        shard: &Arc<ShardContext>,
        seed: u64,
    ) -> Option<ShardReaders> {
        let ways = self.streams.get(&*shard.stream_arn)?.clone();
        let (readers, shard) = (Arc::clone(self), Arc::clone(shard));
        let reads = self.reads_of(&shard);
        Some(ShardReaders { readers, ways, shard, reads, seed })
    }

    /// A poller of one shard beside its readers, within what the service allows all of them in this process, and on
    /// another budget; `None` when its stream is not configured.
    pub(crate) fn poller(
        &self,
        shard: &Arc<ShardContext>,
        start: StartingAt,
        budget: Budget,
        seed: u64,
    ) -> Option<Poller> {
        self.streams.get(&*shard.stream_arn)?;
        let reads = self.reads_of(shard);
        Some(Poller::new(self.poller_parts(reads, budget), Arc::clone(shard), start, seed))
    }

    /// ARNs of the streams that are read.
    pub(crate) fn streams(&self) -> impl Iterator<Item = &str> {
        self.streams.keys().map(String::as_str)
    }

    /// How long a stream keeps records; `None` when it is not configured.
    pub(crate) fn retention(&self, stream_arn: &str) -> Option<Duration> {
        self.streams.get(stream_arn).map(|ways| ways.retention)
    }

    /// A connection for a call that is no reading.
    pub(crate) fn connection(&self) -> Connection {
        self.connections.take()
    }

    fn reads_of(&self, shard: &ShardContext) -> Arc<ShardReads> {
        let mut all = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (Arc::clone(&shard.stream_arn), Arc::clone(&shard.shard_id));
        if let Some(reads) = all.get(&key).and_then(Weak::upgrade) {
            return reads;
        }
        all.retain(|_, reads| reads.strong_count() > 0);
        let reads = Arc::<ShardReads>::default();
        all.insert(key, Arc::downgrade(&reads));
        reads
    }

    fn poller_parts(&self, reads: Arc<ShardReads>, budget: Budget) -> PollerParts {
        PollerParts {
            options: self.polling.clone(),
            connections: self.connections.clone(),
            turns: self.turns.clone(),
            reads,
            budget,
            time: self.time.clone(),
        }
    }
}

/// Makes the readers of one shard.
#[derive(Clone)]
pub(crate) struct ShardReaders {
    readers: Arc<Readers>,
    ways: Ways,
    shard: Arc<ShardContext>,
    /// What the service lets all of them poll together.
    reads: Arc<ShardReads>,
    seed: u64,
}

impl ShardReaders {
    /// How long the stream keeps records.
    pub(crate) fn retention(&self) -> Duration {
        self.ways.retention
    }

    /// The reader that follows the shard's tip.
    pub(crate) fn live(&self, start: StartingAt) -> Reader {
        self.reader(self.ways.live.as_ref(), start, self.seed)
    }

    /// A reader beside the live one: it polls, or has a consumer of its own.
    pub(crate) fn catch_up(&self, start: StartingAt) -> Reader {
        self.reader(self.ways.catch_up.as_ref(), start, self.seed ^ 1)
    }

    fn reader(&self, consumer: Option<&Consumer>, start: StartingAt, seed: u64) -> Reader {
        let readers = &self.readers;
        let (connections, turns) = (readers.connections.clone(), readers.turns.clone());
        let (shard, budget) = (Arc::clone(&self.shard), readers.budget.clone());
        let Some(consumer) = consumer else {
            let parts = readers.poller_parts(Arc::clone(&self.reads), budget);
            return Reader::Polling(Box::new(Poller::new(parts, shard, start, seed)));
        };
        let (options, consumer) = (readers.fan_out.clone(), consumer.clone());
        let parts = FanOutParts { options, connections, turns, budget, consumer };
        Reader::FanOut(Box::new(FanOut::new(parts, shard, start, seed)))
    }
}
