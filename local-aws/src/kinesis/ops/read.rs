//! Polling: GetShardIterator and GetRecords. An iterator is a token that carries its cursor.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::request::{Timestamp, dry_run, stream_requests, within};
use super::shape::ChildShape;
use super::token;
use super::{parse, record_json};
use crate::kinesis::Kinesis;
use crate::kinesis::engine::{Engine, Page, SequenceNumber, Shard, Stream};
use crate::kinesis::error::Refusal;
use crate::wire::Answer;

const ITERATOR_KIND: u8 = b'I';
/// Records in one answer.
const MAX_RECORDS: u32 = 10_000;
/// Bytes of records in one answer.
const MAX_BYTES: usize = 10 << 20;

/// Where reading starts: the types of `ShardIteratorType` and `StartingPosition`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum StartType {
    AtSequenceNumber,
    AfterSequenceNumber,
    TrimHorizon,
    Latest,
    AtTimestamp,
}

/// A start with what it needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start<'a> {
    pub(super) r#type: StartType,
    pub(super) sequence: Option<&'a str>,
    pub(super) timestamp: Option<Timestamp>,
    /// The operation that asks, for its errors.
    pub(super) operation: &'static str,
}

impl Start<'_> {
    /// The cursor in a shard that the start means.
    pub(super) fn cursor(
        &self,
        shard: &Shard,
        stream: &str,
        account: &str,
        now_ms: i64,
    ) -> Result<SequenceNumber, Refusal> {
        match self.r#type {
            StartType::TrimHorizon => Ok(SequenceNumber::ZERO),
            StartType::Latest => Ok(shard.tip()),
            StartType::AtSequenceNumber => self.sequence_in(shard, stream, account),
            StartType::AfterSequenceNumber => {
                self.sequence_in(shard, stream, account).map(SequenceNumber::next)
            }
            StartType::AtTimestamp => self.at_time(shard, now_ms),
        }
    }

    fn sequence_in(
        &self,
        shard: &Shard,
        stream: &str,
        account: &str,
    ) -> Result<SequenceNumber, Refusal> {
        let text = self.sequence.ok_or_else(|| {
            Refusal::InvalidArgument(format!(
                "{}: a sequence number must be provided with AT_SEQUENCE_NUMBER and AFTER_SEQUENCE_NUMBER.",
                self.operation
            ))
        })?;
        let sequence = SequenceNumber::parse(text).filter(|sequence| shard.owns(*sequence));
        sequence.ok_or_else(|| {
            Refusal::InvalidArgument(format!(
                "StartingSequenceNumber {text} used in {} on shard {} in stream {stream} under account {account} is invalid because it did not come from this stream.",
                self.operation, shard.id
            ))
        })
    }

    fn at_time(&self, shard: &Shard, now_ms: i64) -> Result<SequenceNumber, Refusal> {
        let Some(Timestamp(at_ms)) = self.timestamp else {
            return Err(Refusal::InvalidArgument(format!(
                "{}: a timestamp must be provided with AT_TIMESTAMP.",
                self.operation
            )));
        };
        if at_ms > now_ms {
            return Err(Refusal::InvalidArgument(format!(
                "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. timestampInMillis: {at_ms}, currentTimestampInMillis: {now_ms}"
            )));
        }
        Ok(shard.at_time(at_ms))
    }
}

/// What a shard iterator carries.
#[derive(Debug, Serialize, Deserialize)]
struct IteratorState {
    stream: String,
    generation: u64,
    shard: u32,
    cursor: String,
    issued_at_ms: i64,
}

fn seal_iterator(iterator: &IteratorState) -> Result<String, Refusal> {
    token::seal(ITERATOR_KIND, iterator)
        .ok_or_else(|| Refusal::Internal("a shard iterator cannot be written".to_owned()))
}

stream_requests! {
    GetShardIterator {
        shard_id: String,
        shard_iterator_type: StartType,
        starting_sequence_number: Option<String>,
        timestamp: Option<Timestamp>,
        dry_run: Option<bool>,
    }
    GetRecords { shard_iterator: String, limit: Option<u32>, dry_run: Option<bool> }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct IteratorOutput {
    shard_iterator: String,
}

pub(super) fn get_shard_iterator(
    engine: &mut Engine,
    request: GetShardIterator,
    now_ms: i64,
) -> Result<IteratorOutput, Refusal> {
    let name = request.stream().resolve(engine)?;
    let enforce = engine.limits.enforce;
    let account = engine.account.clone();
    let stream = engine.live_stream(&name, now_ms)?;
    let generation = stream.generation;
    let shard = stream.shard_by_id(&request.shard_id, now_ms)?;
    if enforce && !shard.iterator_calls.try_take(1, now_ms) {
        return Err(rate_exceeded(&shard.id, &name, &account));
    }
    let start = Start {
        r#type: request.shard_iterator_type,
        sequence: request.starting_sequence_number.as_deref(),
        timestamp: request.timestamp,
        operation: "GetShardIterator",
    };
    let cursor = start.cursor(shard, &name, &account, now_ms)?;
    dry_run(request.dry_run)?;
    let iterator = IteratorState {
        stream: name,
        generation,
        shard: shard.index,
        cursor: cursor.to_string(),
        issued_at_ms: now_ms,
    };
    Ok(IteratorOutput { shard_iterator: seal_iterator(&iterator)? })
}

fn rate_exceeded(shard: &str, stream: &str, account: &str) -> Refusal {
    Refusal::ThroughputExceeded(format!(
        "Rate exceeded for shard {shard} in stream {stream} under account {account}."
    ))
}

/// The iterator's cursor and the rest of it, if it is good at this time: it is for `lifetime`.
fn open_iterator(
    text: &str,
    now_ms: i64,
    lifetime: Duration,
) -> Result<(SequenceNumber, IteratorState), Refusal> {
    let invalid = || Refusal::InvalidArgument("Invalid ShardIterator.".to_owned());
    let iterator: IteratorState = token::open(ITERATOR_KIND, text).ok_or_else(invalid)?;
    let cursor = SequenceNumber::parse(&iterator.cursor).ok_or_else(invalid)?;
    let lifetime_ms = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
    if now_ms - iterator.issued_at_ms > lifetime_ms {
        return Err(Refusal::ExpiredIterator(format!(
            "Iterator expired. The iterator was created at time {} while right now it is {now_ms} which is further in the future than the tolerated delay of {lifetime_ms} milliseconds.",
            iterator.issued_at_ms
        )));
    }
    Ok((cursor, iterator))
}

pub(super) fn get_records(kinesis: &Kinesis, body: &[u8]) -> Result<Answer, Refusal> {
    let request: GetRecords = parse(body)?;
    let limit = within("limit", request.limit.unwrap_or(MAX_RECORDS), 1, MAX_RECORDS)?;
    let lifetime = kinesis.options().iterator_lifetime;
    let (page, children, next) = {
        let (mut engine, now_ms) = kinesis.enter();
        let (cursor, iterator) = open_iterator(&request.shard_iterator, now_ms, lifetime)?;
        if request.stream().is_given() && request.stream().resolve(&engine)? != iterator.stream {
            return Err(Refusal::InvalidArgument(
                "The ShardIterator is not of the stream named.".to_owned(),
            ));
        }
        read_page(&mut engine, &request, cursor, iterator, limit, now_ms)?
    };
    let mut out = Vec::with_capacity(record_json::room_for(&page));
    out.push(b'{');
    record_json::write_page(&mut out, &page, &children)?;
    if let Some(next) = next {
        out.extend_from_slice(b",\"NextShardIterator\":\"");
        out.extend_from_slice(next.as_bytes());
        out.push(b'"');
    }
    out.push(b'}');
    Ok(Answer::ok(out))
}

type Read = (Page, Vec<ChildShape>, Option<String>);

fn read_page(
    engine: &mut Engine,
    request: &GetRecords,
    cursor: SequenceNumber,
    mut iterator: IteratorState,
    limit: u32,
    now_ms: i64,
) -> Result<Read, Refusal> {
    let enforce = engine.limits.enforce;
    let stream = engine.live_stream(&iterator.stream, now_ms)?;
    let (name, account) = (stream.name.clone(), stream.account.clone());
    let gone = Refusal::ResourceNotFound(format!(
        "The shard of the iterator, {} of stream {name}, under account {account} does not exist.",
        iterator.shard
    ));
    if stream.generation != iterator.generation {
        return Err(gone);
    }
    let shard = stream.shard_mut(iterator.shard, now_ms).ok_or(gone)?;
    dry_run(request.dry_run)?;
    if enforce && !shard.admit_read(now_ms) {
        return Err(rate_exceeded(&shard.id, &name, &account));
    }
    let page = shard.read(cursor, limit as usize, MAX_BYTES, now_ms);
    shard.charge_read(page.bytes());
    if page.ended {
        let children = children_of(stream, iterator.shard);
        return Ok((page, children, None));
    }
    iterator.cursor = page.next.to_string();
    iterator.issued_at_ms = now_ms;
    let next = seal_iterator(&iterator)?;
    Ok((page, Vec::new(), Some(next)))
}

/// The children of a closed shard, as its readers learn of them.
pub(super) fn children_of(stream: &Stream, shard: u32) -> Vec<ChildShape> {
    let closed = stream.shards.get(&shard).and_then(|shard| shard.closed.as_ref());
    closed
        .into_iter()
        .flat_map(|closed| &closed.children)
        .filter_map(|child| stream.shards.get(child))
        .map(ChildShape::from)
        .collect()
}
