//! A SubscribeToShardEvent, read in the place where it arrived.
//!
//! The envelope is parsed over the frame's own buffer, so its strings are borrowed, and all record
//! data is decoded from base64 into one arena per event, of which records are slices. Members that
//! the service may add are passed over; members that are missing or make no sense are errors.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use lease_manager::{ChildShard, SequenceNumber, ShardId};
use serde::Deserialize;
use simd_json::{Buffers, Deserializer, Tape};

use crate::batch::{RawRecord, ShardContext};

use super::frame::Frame;

/// Scratch memory is kept for the next event up to events of this size: about what a shard sends
/// in half a second.
const KEPT_UP_TO_BYTES: usize = 1024 * 1024;

/// An event, with nothing borrowed.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) records: Vec<RawRecord>,
    /// Where the next subscription goes on; `None` at the shard's end alone.
    pub(super) continuation: Option<SequenceNumber>,
    pub(super) millis_behind_latest: u64,
    pub(super) children: Vec<ChildShard>,
    pub(super) wire_bytes: usize,
}

/// Why a payload is not an event.
#[derive(Debug, thiserror::Error)]
pub(super) enum EventError {
    #[error("a SubscribeToShardEvent of {bytes} bytes cannot be read: {detail}")]
    Json { bytes: usize, detail: String },
    #[error("record {index} of an event has {what}")]
    Record { index: usize, what: String },
    #[error("an event has {what}")]
    Envelope { what: String },
    #[error("an event of shard {shard_id} has neither a continuation nor child shards")]
    NoContinuation { shard_id: Arc<str> },
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireEvent<'a> {
    #[serde(borrow)]
    records: Vec<WireRecord<'a>>,
    #[serde(borrow, default)]
    continuation_sequence_number: Option<&'a str>,
    #[serde(default)]
    millis_behind_latest: i64,
    #[serde(borrow, default)]
    child_shards: Option<Vec<WireChild<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireRecord<'a> {
    sequence_number: &'a str,
    /// Seconds since 1970 with a fraction.
    approximate_arrival_timestamp: f64,
    data: &'a str,
    /// A stream may distribute records without one.
    #[serde(borrow, default)]
    partition_key: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireChild<'a> {
    shard_id: &'a str,
    #[serde(borrow)]
    parent_shards: Vec<&'a str>,
    #[serde(borrow)]
    hash_key_range: WireRange<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireRange<'a> {
    starting_hash_key: &'a str,
    ending_hash_key: &'a str,
}

/// What the parser works with; as good for one event as for another.
#[derive(Default)]
struct Scratch {
    buffers: Buffers,
    tape: Option<Tape<'static>>,
}

thread_local! {
    /// One per worker thread instead of one per shard: reading never waits while it holds it.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Reads an event; the frame's payload is overwritten.
pub(super) fn decode(frame: &mut Frame, shard: &ShardContext) -> Result<Event, EventError> {
    let wire_bytes = frame.wire_bytes();
    let (padded, len) = frame.payload_padded_mut();
    SCRATCH.with_borrow_mut(|scratch| {
        let event = with_scratch(scratch, padded, len, |wire| event(&wire, wire_bytes, shard));
        if len > KEPT_UP_TO_BYTES {
            *scratch = Scratch::default();
        }
        event
    })
}

fn with_scratch<T>(
    scratch: &mut Scratch,
    padded: &mut [u8],
    len: usize,
    read: impl FnOnce(WireEvent<'_>) -> Result<T, EventError>,
) -> Result<T, EventError> {
    let broken = |e: simd_json::Error| EventError::Json { bytes: len, detail: e.to_string() };
    let mut tape = scratch.tape.take().unwrap_or_else(Tape::null).reset();
    simd_json::fill_tape_padded(padded, len, &mut scratch.buffers, &mut tape).map_err(broken)?;
    let mut deserializer = Deserializer::from_tape(tape);
    let result = read(WireEvent::deserialize(&mut deserializer).map_err(broken)?);
    scratch.tape = Some(deserializer.into_tape().reset());
    result
}

fn event(
    wire: &WireEvent<'_>,
    wire_bytes: usize,
    shard: &ShardContext,
) -> Result<Event, EventError> {
    let continuation = wire.continuation_sequence_number.map(SequenceNumber::parse).transpose();
    let continuation =
        continuation.map_err(|e| EventError::Envelope { what: format!("as continuation: {e}") })?;
    let children: Result<Vec<_>, _> = wire.child_shards.iter().flatten().map(child).collect();
    let children = children?;
    if continuation.is_none() && children.is_empty() {
        return Err(EventError::NoContinuation { shard_id: Arc::clone(&shard.shard_id) });
    }
    Ok(Event {
        records: records(&wire.records)?,
        continuation,
        millis_behind_latest: u64::try_from(wire.millis_behind_latest).unwrap_or(0),
        children,
        wire_bytes,
    })
}

fn child(wire: &WireChild<'_>) -> Result<ChildShard, EventError> {
    let shard_id = |text: &str| {
        ShardId::parse(text).map_err(|e| EventError::Envelope { what: format!("as child: {e}") })
    };
    Ok(ChildShard {
        shard_id: shard_id(wire.shard_id)?,
        parents: wire.parent_shards.iter().map(|id| shard_id(id)).collect::<Result<_, _>>()?,
        starting_hash_key: wire.hash_key_range.starting_hash_key.to_owned(),
        ending_hash_key: wire.hash_key_range.ending_hash_key.to_owned(),
    })
}

/// Decodes all data into one arena, then cuts it.
fn records(wire: &[WireRecord<'_>]) -> Result<Vec<RawRecord>, EventError> {
    let capacity = wire.iter().map(|r| r.data.len() / 4 * 3).sum();
    let mut arena = Vec::with_capacity(capacity);
    let mut ends = Vec::with_capacity(wire.len());
    for (index, record) in wire.iter().enumerate() {
        base64_simd::STANDARD.decode_append(record.data, &mut arena).map_err(|e| {
            EventError::Record { index, what: format!("data that is not base64: {e}") }
        })?;
        ends.push(arena.len());
    }
    let arena = Bytes::from(arena);
    let mut records: Vec<RawRecord> = Vec::with_capacity(wire.len());
    let mut start = 0;
    for ((index, wire), end) in wire.iter().enumerate().zip(ends) {
        let previous = records.last().map(|r| &r.partition_key);
        records.push(RawRecord {
            sequence: SequenceNumber::parse(wire.sequence_number)
                .map_err(|e| EventError::Record { index, what: e.to_string() })?,
            partition_key: shared(wire.partition_key.unwrap_or_default(), previous),
            arrived_at_ms: arrival_ms(wire.approximate_arrival_timestamp),
            data: arena.slice(start..end),
        });
        start = end;
    }
    Ok(records)
}

/// Runs of records with one key are common: they share it.
fn shared(key: &str, previous: Option<&Arc<str>>) -> Arc<str> {
    match previous {
        Some(previous) if **previous == *key => Arc::clone(previous),
        _ => Arc::from(key),
    }
}

fn arrival_ms(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

/// The message in an exception's payload, for people.
pub(super) fn exception_message(payload: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Exception {
        #[serde(alias = "Message")]
        message: String,
    }
    match serde_json::from_slice::<Exception>(payload) {
        Ok(exception) => exception.message,
        Err(_) => String::from_utf8_lossy(&payload[..payload.len().min(200)]).into_owned(),
    }
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod event_tests;
