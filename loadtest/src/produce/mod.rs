//! Puts messages into a stream at a wanted pace: replayed from NDJSON files or generated.
//!
//! [`Options`] -> [`Producer`] -> [`Handle`] -> [`ProduceError`]. One task owns the loop in
//! `producer`: a `source` yields messages, `schedule` says when each is due, `aggregate` may pack
//! them as the Kinesis Producer Library does, `queue` forms requests and `put` sends them.
//! Memory is bounded by [`Options::queued_records`], [`Options::queued_bytes`] and
//! [`Options::in_flight`] requests; when the stream throttles, the source waits.

mod aggregate;
mod generate;
mod options;
mod producer;
mod put;
mod queue;
mod replay;
mod schedule;
mod shard_map;
mod source;
mod stats;

pub use options::{
    Aggregation, Burst, Generate, HashKeys, InvalidOptions, JsonPointer, Keys, MAX_GENERATED_KEYS,
    MAX_REQUEST_BYTES, MAX_REQUEST_RECORDS, Options, Pace, Replay, ReplayInput, Size, Source,
    StreamRef, TimeField, TimeUnit,
};
pub use producer::{Exit, ProduceError, Producer};
pub use replay::ReplayError;
pub use stats::{Handle, Stats, Summary};
