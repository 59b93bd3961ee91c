//! Puts messages into a stream at a wanted pace: replayed from NDJSON files or generated.
//!
//! [`Options`] -> [`Producer`] -> [`Handle`] -> [`ProduceError`]. One task owns the loop in
//! `producer`: a `source` yields messages, `schedule` says when each is due, `aggregate` may pack
//! them as the Kinesis Producer Library does, `queue` forms requests and `put` sends them.
//! Memory is bounded by [`Options::queued_records`], [`Options::queued_bytes`] and
//! [`Options::in_flight`] requests; when the stream throttles, the source waits.

mod aggregate;
mod exit;
mod generate;
mod names;
mod options;
mod producer;
mod put;
mod queue;
mod replay;
mod schedule;
mod shard_map;
mod source;
mod stamp;
mod stats;

pub use exit::{Exit, ProduceError};
pub use names::{JsonPointer, StreamRef};
pub use options::{
    Aggregation, Burst, Generate, HashKeys, InvalidOptions, Keys, MAX_GENERATED_KEYS,
    MAX_REQUEST_BYTES, MAX_REQUEST_RECORDS, Options, Pace, Replay, ReplayInput, Size, Source,
    TimeField, TimeUnit,
};
pub use producer::Producer;
pub use replay::ReplayError;
pub use stats::{Handle, Stats, Summary};

#[cfg(test)]
mod tests;
