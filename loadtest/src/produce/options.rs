//! What a producer is asked to do, checked before anything is sent.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use super::names::{JsonPointer, StreamRef};

/// Most records that one PutRecords request may carry.
pub const MAX_REQUEST_RECORDS: usize = 500;
/// Most bytes of data and partition keys that one PutRecords request may carry.
pub const MAX_REQUEST_BYTES: usize = 10 * 1024 * 1024;
/// Most keys that a generator draws from: its table of probabilities stays below 16 MiB.
pub const MAX_GENERATED_KEYS: u32 = 1_000_000;

/// Everything that a [`Producer`](super::Producer) needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// The stream to write to.
    pub stream: StreamRef,
    /// Where messages come from.
    pub source: Source,
    /// When each message is due.
    pub pace: Pace,
    /// Stop after so many messages; `None` = until the source ends, or for ever if it never does.
    pub limit: Option<u64>,
    /// Take no more messages after so long; those taken are still sent. `None` = no such end.
    pub duration: Option<Duration>,
    /// Which partition key a message gets.
    pub keys: Keys,
    /// Which explicit hash key a message gets.
    pub hash_keys: HashKeys,
    /// Keep the order of messages of one partition key, also when single records fail. A record
    /// then waits until every earlier record of its key is acknowledged.
    pub order_per_key: bool,
    /// Share of messages, 0 to 1, that are broken on purpose before they are sent.
    pub malformed_share: f64,
    /// Pack several messages into one record, as the Kinesis Producer Library does.
    pub aggregation: Option<Aggregation>,
    /// Most records in one request, 1 to 500.
    pub request_records: usize,
    /// Most bytes in one request, up to 10 MiB. A single larger record is counted as failed.
    pub request_bytes: usize,
    /// How long a message may wait for a request or an aggregate to fill.
    pub linger: Duration,
    /// Most requests in flight at once.
    pub in_flight: usize,
    /// Most records that wait for a request.
    pub queued_records: usize,
    /// Most bytes that wait for a request.
    pub queued_bytes: usize,
    /// Attempts for each record before it counts as failed.
    pub attempts: u32,
    /// How long one attempt of a request may take.
    pub attempt_timeout: Duration,
    /// Seed of everything random: same seed, same messages.
    pub seed: u64,
}

impl Options {
    /// The defaults: as fast as the stream takes it, random keys, five requests in flight.
    pub fn new(stream: StreamRef, source: Source) -> Options {
        Options {
            stream,
            source,
            pace: Pace::Unlimited,
            limit: None,
            duration: None,
            keys: Keys::Random,
            hash_keys: HashKeys::FromPartitionKey,
            order_per_key: false,
            malformed_share: 0.0,
            aggregation: None,
            request_records: MAX_REQUEST_RECORDS,
            request_bytes: 5 * 1024 * 1024,
            linger: Duration::from_millis(20),
            in_flight: 5,
            queued_records: 10_000,
            queued_bytes: 32 * 1024 * 1024,
            attempts: 10,
            attempt_timeout: Duration::from_secs(10),
            seed: 0,
        }
    }

    /// Refuses what cannot be done, naming the option, what was found and what is allowed.
    pub fn validate(&self) -> Result<(), InvalidOptions> {
        let range = |option, found: f64, low: f64, high: f64| {
            if (low..=high).contains(&found) {
                Ok(())
            } else {
                Err(InvalidOptions {
                    option,
                    found: found.to_string(),
                    allowed: format!("{low} to {high}"),
                })
            }
        };
        range("malformed_share", self.malformed_share, 0.0, 1.0)?;
        range("request_records", self.request_records as f64, 1.0, MAX_REQUEST_RECORDS as f64)?;
        range("request_bytes", self.request_bytes as f64, 1024.0, MAX_REQUEST_BYTES as f64)?;
        range("in_flight", self.in_flight as f64, 1.0, 1_000.0)?;
        range("queued_records", self.queued_records as f64, 1.0, 1_000_000.0)?;
        range("queued_bytes", self.queued_bytes as f64, 1024.0, 1e10)?;
        range("attempts", f64::from(self.attempts), 1.0, 1_000.0)?;
        range("linger", self.linger.as_secs_f64(), 0.0, 60.0)?;
        range("attempt_timeout", self.attempt_timeout.as_secs_f64(), 0.001, 600.0)?;
        if let Some(aggregation) = &self.aggregation {
            range("aggregation.max_messages", f64::from(aggregation.max_messages), 1.0, 10_000.0)?;
            range("aggregation.max_bytes", aggregation.max_bytes as f64, 128.0, 1_048_576.0)?;
        }
        self.validate_pace(range)?;
        if let Source::Generate(generate) = &self.source {
            range("keys", f64::from(generate.keys), 1.0, f64::from(MAX_GENERATED_KEYS))?;
            range("skew", generate.skew, 0.0, 10.0)?;
            let (low, high) = generate.size.range();
            range("size", low as f64, 0.0, high as f64)?;
            range("size", high as f64, 0.0, MAX_REQUEST_BYTES as f64)?;
        }
        Ok(())
    }

    fn validate_pace(
        &self,
        range: impl Fn(&'static str, f64, f64, f64) -> Result<(), InvalidOptions>,
    ) -> Result<(), InvalidOptions> {
        match &self.pace {
            Pace::Unlimited => Ok(()),
            Pace::Rate { per_second, burst } => {
                range("rate", *per_second, 0.001, 1e9)?;
                match burst {
                    Some(burst) => range("burst.every", burst.every.as_secs_f64(), 0.001, 86_400.0),
                    None => Ok(()),
                }
            }
            Pace::Recorded { speed, .. } => {
                range("speed", *speed, 1e-6, 1e12)?;
                match &self.source {
                    Source::Replay(_) => Ok(()),
                    Source::Generate(_) => Err(InvalidOptions {
                        option: "pace",
                        found: "recorded times with a generated source".to_owned(),
                        allowed: "recorded times with replayed files, or a rate".to_owned(),
                    }),
                }
            }
        }
    }
}

/// An option that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{option} is {found}: allowed is {allowed}")]
pub struct InvalidOptions {
    /// The option's name.
    pub option: &'static str,
    /// What was given.
    pub found: String,
    /// What would have been accepted.
    pub allowed: String,
}

/// Where messages come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// Lines that were recorded before.
    Replay(Replay),
    /// Messages made on the spot.
    Generate(Generate),
}

/// Messages read from NDJSON, one a line; empty lines are passed over.
#[derive(Debug, Clone)]
pub struct Replay {
    /// The inputs, read one after the other.
    pub inputs: Vec<ReplayInput>,
    /// Start again at the first input when the last one ends.
    pub repeat: bool,
}

/// One input of a [`Replay`].
#[derive(Debug, Clone)]
pub enum ReplayInput {
    /// A file, read as it is needed.
    File(PathBuf),
    /// Lines held in memory.
    Memory(Bytes),
}

/// Messages made on the spot: JSON objects with `key`, `sequence` (counted per key), `n`, `time`
/// (ms since 1970) and `padding` up to the wanted size.
#[derive(Debug, Clone, Copy)]
pub struct Generate {
    /// How large messages are.
    pub size: Size,
    /// How many different keys there are.
    pub keys: u32,
    /// Zipf exponent of the keys' popularity: 0 = all alike, 1 = the usual heavy tail.
    pub skew: f64,
}

/// Sizes of generated messages, in bytes. A message is never smaller than its own fields need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Always the same.
    Fixed(usize),
    /// Evenly spread between the two, both included.
    Uniform(usize, usize),
}

impl Size {
    pub(crate) fn range(self) -> (usize, usize) {
        match self {
            Size::Fixed(size) => (size, size),
            Size::Uniform(low, high) => (low, high),
        }
    }
}

/// When each message is due.
#[derive(Debug, Clone)]
pub enum Pace {
    /// At once: the stream's own limits decide.
    Unlimited,
    /// So many a second, evenly, with bursts on top if wanted.
    Rate {
        /// Messages a second.
        per_second: f64,
        /// Extra messages, all at once, again and again.
        burst: Option<Burst>,
    },
    /// As far apart as they were recorded, divided by `speed`.
    Recorded {
        /// Where a message says when it happened.
        time: TimeField,
        /// 1 = as recorded, 60 = an hour in a minute.
        speed: f64,
        /// Longest pause between two messages (after division by `speed`); longer ones are cut.
        longest_gap: Option<Duration>,
    },
}

/// Extra messages on top of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burst {
    /// From the start of one burst to the start of the next.
    pub every: Duration,
    /// Messages in a burst.
    pub messages: u64,
}

/// Where and how a message says when it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeField {
    /// Where the time stands.
    pub pointer: JsonPointer,
    /// How it is written.
    pub unit: TimeUnit,
}

/// How a recorded time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// A number of seconds since 1970.
    Seconds,
    /// A number of milliseconds since 1970.
    Milliseconds,
    /// A string in the form of RFC 3339, such as `2018-02-01T00:00:00Z`.
    Rfc3339,
}

/// Which partition key a message gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    /// A fresh random key for each message: spread over all shards, no order.
    Random,
    /// The value at a pointer, cut to Kinesis's 256 characters. A message without one gets a random key and is counted.
    Pointer(JsonPointer),
    /// The key that the generator drew; a replayed message gets a random one.
    Generated,
}

/// Which explicit hash key a message gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashKeys {
    /// None: Kinesis hashes the partition key.
    FromPartitionKey,
    /// An explicit one, random but the same for all messages of a partition key.
    PerKey,
    /// An explicit one, random for each message: breaks the order within a key.
    Random,
}

/// Limits of an aggregated record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aggregation {
    /// Most messages in one record.
    pub max_messages: u32,
    /// Most bytes of one record.
    pub max_bytes: usize,
}

impl Default for Aggregation {
    fn default() -> Aggregation {
        Aggregation { max_messages: 100, max_bytes: 50 * 1024 }
    }
}
