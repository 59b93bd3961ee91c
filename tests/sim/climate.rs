//! What a seed's world is like: how much memory there is, how long the stream keeps records, and how it is read.

use std::time::Duration;

use processor::{Options, StreamOptions};

/// The budget of each pipeline where memory is tight: a few events.
const TIGHT_BYTES: std::ops::Range<usize> = 16 * 1024..96 * 1024;
const RETENTION: std::ops::Range<u64> = 15..40;
/// How long an iterator is good where shards are polled: from a little more than the interval between two polls.
const ITERATORS_MS: std::ops::Range<u64> = 1_200..8_000;

/// How workers read the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// By enhanced fan-out; lanes that fell behind poll.
    FanOut,
    /// By enhanced fan-out, and so do lanes that fell behind, through a consumer of their own.
    TwoConsumers,
    Polling,
}

/// What a world is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Climate {
    /// The budget of each pipeline in a worker.
    pub budget_bytes: usize,
    /// How long the stream keeps records.
    pub retention: Option<Duration>,
    pub reading: Reading,
    /// How long an iterator is good; nothing is the service's own lifetime.
    pub iterators: Option<Duration>,
    /// How long the disturbed part lasts, simulated.
    pub disturbed: Duration,
    /// Whether the receivers are down for most of it.
    pub down_for_long: bool,
    /// Whether somebody may tail what is stored.
    pub tailed: bool,
}

impl Climate {
    /// Plenty of memory, a stream that keeps everything, and no long outages.
    pub const MILD: Climate = Climate {
        budget_bytes: 64 * 1024 * 1024,
        retention: None,
        reading: Reading::FanOut,
        iterators: None,
        disturbed: Duration::from_secs(30),
        down_for_long: false,
        tailed: false,
    };

    pub fn draw(rng: &mut fastrand::Rng) -> Climate {
        let mut climate = Climate::MILD;
        climate.reading = match rng.u32(0..8) {
            0 => Reading::Polling,
            1 | 2 => Reading::TwoConsumers,
            _ => Reading::FanOut,
        };
        if rng.u32(0..5) < 2 {
            climate.budget_bytes = rng.usize(TIGHT_BYTES);
            climate.disturbed = Duration::from_secs(60);
            let short = rng.u32(0..4) == 0;
            climate.retention = short.then(|| Duration::from_secs(rng.u64(RETENTION)));
        }
        if climate.polls() {
            climate.iterators = Some(Duration::from_millis(rng.u64(ITERATORS_MS)));
        }
        climate.down_for_long = rng.u32(0..4) == 0;
        climate.tailed = rng.u32(0..3) == 0;
        climate
    }

    /// Whether GetRecords is called much: by every reader, or by lanes that part and catch up.
    pub fn polls(&self) -> bool {
        self.reading == Reading::Polling || (self.reading == Reading::FanOut && self.is_harsh())
    }

    /// Whether one side may fail for long, so that lanes part.
    pub fn is_harsh(&self) -> bool {
        self.budget_bytes < Climate::MILD.budget_bytes
    }

    /// How a worker reads the stream of this ARN, through the consumers of these.
    pub fn stream(&self, arn: &str, consumers: &[String; 2]) -> StreamOptions {
        let mut stream = match self.reading {
            Reading::Polling => StreamOptions::polling(arn),
            Reading::FanOut | Reading::TwoConsumers => StreamOptions::fan_out(arn, &*consumers[0]),
        };
        if self.reading == Reading::TwoConsumers {
            stream.catch_up_consumer_arn = Some(consumers[1].clone());
        }
        stream.retention = self.retention.unwrap_or(stream.retention);
        stream
    }

    pub fn limit(&self, options: &mut Options) {
        options.sync_store_budget_bytes = self.budget_bytes;
        options.async_delivery_budget_bytes = self.budget_bytes;
    }
}
