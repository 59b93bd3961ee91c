//! The decoders that read outside bytes, each behind one function that takes any bytes and panics
//! when what must hold of the decoder does not.
//!
//! `processor/fuzz` calls them with what libFuzzer thinks of, the tests with its corpus: the
//! decoders are compared with readers that are plain and slow, or were written by others. Nothing
//! else is built with this.
// A panic is how a fuzz target says what it found.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, missing_docs)]

mod aggregate;
pub(crate) mod json;
mod route;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use lease_manager::SequenceNumber;
use tokio::time::Instant;

use crate::arena::{RawRecord, Records, append};
use crate::batch::{RawBatch, ShardContext};

pub use crate::envelope::fuzzing::{answer, event};
pub use crate::fan_out::fuzzing::frames;
pub use aggregate::aggregate;
pub use route::route;

pub(crate) fn shard(last_hash_key: u128) -> Arc<ShardContext> {
    Arc::new(ShardContext {
        stream_arn: Arc::from("arn:aws:kinesis:us-east-1:000000000000:stream/s"),
        shard_id: Arc::from("shardId-000000000000"),
        fence: 1,
        starting_hash_key: 0,
        ending_hash_key: last_hash_key,
    })
}

const PARTITION_KEY: &str = "key";
const ARRIVED_AT_MS: i64 = 42;

/// An event of this one record.
fn event_of(data: &[u8], last_hash_key: u128) -> RawBatch {
    let mut arena = Vec::new();
    let record = RawRecord {
        sequence: append(&mut arena, b"100"),
        partition_key: append(&mut arena, PARTITION_KEY.as_bytes()),
        arrived_at_ms: ARRIVED_AT_MS,
        data: append(&mut arena, data),
    };
    RawBatch {
        shard: shard(last_hash_key),
        records: Records { arena, spans: vec![record] },
        upto: Some(SequenceNumber::parse("200").unwrap()),
        millis_behind_latest: 0,
        children: Vec::new(),
        shard_ended: false,
        wire_bytes: data.len(),
        received_at: Instant::now(),
        permit: None,
    }
}
