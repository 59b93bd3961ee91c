//! What Kinesis sends records in: a SubscribeToShardEvent, or the answer of GetRecords.
//!
//! Both are read in the place where they arrived, by a scanner made for them: record data is decoded
//! from base64 straight into one arena per event, keys and sequence numbers are copied beside it,
//! and nothing else is made. Members may come in any order; those that the service may add are
//! passed over; those that are missing or make no sense are errors. Nothing here looks into a
//! record. Start reading at [`event`] and [`get_records`], then `records`.

mod children;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod records;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use lease_manager::{ChildShard, SequenceNumber};
use serde::Deserialize;

use crate::arena::{MAX_ARENA_BYTES, Records};
use crate::batch::ShardContext;
use crate::json::{Broken, Scanner, Text};

/// A SubscribeToShardEvent, with nothing borrowed.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) records: Records,
    /// Where the next subscription goes on; `None` at the shard's end alone.
    pub(crate) continuation: Option<SequenceNumber>,
    pub(crate) millis_behind_latest: u64,
    /// The shard's children; at its end alone.
    pub(crate) children: Vec<ChildShard>,
    /// Bytes of the event on the wire.
    pub(crate) wire_bytes: usize,
}

/// The answer of GetRecords, with nothing borrowed.
#[derive(Debug)]
pub(crate) struct Polled {
    pub(crate) records: Records,
    /// What the next call is made with; `None` at the shard's end.
    pub(crate) next_shard_iterator: Option<String>,
    pub(crate) millis_behind_latest: u64,
    /// The shard's children; at its end alone.
    pub(crate) children: Vec<ChildShard>,
}

/// Why a text is not what the service sends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EnvelopeError {
    /// It is no JSON object of this shape.
    #[error("{what} of {bytes} bytes cannot be read: {detail}")]
    Json { what: &'static str, bytes: usize, detail: String },
    /// A record lacks something, or has something that makes no sense.
    #[error("record {index} of {what} has {detail}")]
    Record { what: &'static str, index: usize, detail: String },
    /// The same, of what stands around the records.
    #[error("{what} has {detail}")]
    Envelope { what: &'static str, detail: String },
    /// An event that neither goes on nor ends its shard.
    #[error("an event of shard {shard_id} has neither a continuation nor child shards")]
    NoContinuation { shard_id: Arc<str> },
}

const EVENT: &str = "a SubscribeToShardEvent";
const ANSWER: &str = "an answer of GetRecords";

/// Reads a SubscribeToShardEvent.
pub(crate) fn event(
    payload: &[u8],
    wire_bytes: usize,
    shard: &ShardContext,
) -> Result<Event, EnvelopeError> {
    let members = read(payload, EVENT)?;
    let continuation = members.continuation.map(|text| sequence(text, EVENT)).transpose()?;
    if continuation.is_none() && members.children.is_empty() {
        return Err(EnvelopeError::NoContinuation { shard_id: Arc::clone(&shard.shard_id) });
    }
    Ok(Event {
        records: members.records,
        continuation,
        millis_behind_latest: members.millis_behind_latest,
        children: members.children,
        wire_bytes,
    })
}

/// Reads the answer of GetRecords, in awsJson1.1.
pub(crate) fn get_records(body: &[u8]) -> Result<Polled, EnvelopeError> {
    let members = read(body, ANSWER)?;
    let iterator = |text: Text<'_>| {
        let no_text = "a NextShardIterator that is no text".to_owned();
        let text = text.meaning().map(String::from);
        text.ok_or(EnvelopeError::Envelope { what: ANSWER, detail: no_text })
    };
    Ok(Polled {
        records: members.records,
        next_shard_iterator: members.next_iterator.map(iterator).transpose()?,
        millis_behind_latest: members.millis_behind_latest,
        children: members.children,
    })
}

/// The members of either that we know.
struct Members<'a> {
    records: Records,
    continuation: Option<Text<'a>>,
    next_iterator: Option<Text<'a>>,
    millis_behind_latest: u64,
    children: Vec<ChildShard>,
}

/// Why reading stops; the text's name and size are put to it at the end.
enum Stop {
    Json(Broken),
    Record { index: usize, detail: String },
    Child(String),
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Stop {
        Stop::Json(broken)
    }
}

fn read<'a>(text: &'a [u8], what: &'static str) -> Result<Members<'a>, EnvelopeError> {
    let json = |detail| EnvelopeError::Json { what, bytes: text.len(), detail };
    if text.len() > MAX_ARENA_BYTES {
        return Err(json(format!("more than {MAX_ARENA_BYTES} bytes are refused")));
    }
    let mut scanner = Scanner::new(text);
    members(&mut scanner).map_err(|stop| match stop {
        Stop::Json(broken) => json(broken.describe(text)),
        Stop::Record { index, detail } => EnvelopeError::Record { what, index, detail },
        Stop::Child(detail) => EnvelopeError::Envelope { what, detail },
    })
}

fn members<'a>(scanner: &mut Scanner<'a>) -> Result<Members<'a>, Stop> {
    let mut records = None;
    let mut members = Members {
        records: Records::default(),
        continuation: None,
        next_iterator: None,
        millis_behind_latest: 0,
        children: Vec::new(),
    };
    scanner.expect(b'{', "an object")?;
    let mut first = true;
    while scanner.more(first, b'}')? {
        first = false;
        match Name::of(scanner.key()?) {
            Name::Records => records = Some(records::read(scanner)?),
            Name::Continuation => members.continuation = nullable_string(scanner)?,
            Name::NextIterator => members.next_iterator = nullable_string(scanner)?,
            Name::MillisBehindLatest => members.millis_behind_latest = millis(scanner)?,
            Name::ChildShards => members.children = children::read(scanner)?,
            Name::Unknown => scanner.skip()?,
        }
    }
    scanner.end()?;
    members.records = match records {
        Some(records) => records,
        None => return Ok(scanner.wanted("a member `Records`")?),
    };
    Ok(members)
}

/// The members that we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Records,
    Continuation,
    NextIterator,
    MillisBehindLatest,
    ChildShards,
    Unknown,
}

impl Name {
    fn of(key: Text<'_>) -> Name {
        match key.meaning().as_deref() {
            Some("Records") => Name::Records,
            Some("ContinuationSequenceNumber") => Name::Continuation,
            Some("NextShardIterator") => Name::NextIterator,
            Some("MillisBehindLatest") => Name::MillisBehindLatest,
            Some("ChildShards") => Name::ChildShards,
            _ => Name::Unknown,
        }
    }
}

/// A string, or none where `null` stands.
fn nullable_string<'a>(scanner: &mut Scanner<'a>) -> Result<Option<Text<'a>>, Broken> {
    match scanner.peek() {
        b'"' => scanner.string().map(Some),
        _ if scanner.is_null()? => Ok(None),
        _ => scanner.wanted("a string or null"),
    }
}

/// A whole number of ms; less than none is none.
fn millis(scanner: &mut Scanner<'_>) -> Result<u64, Broken> {
    if scanner.is_null()? {
        return Ok(0);
    }
    let before = scanner.clone();
    let behind = match scanner.peek() {
        b'-' | b'0'..=b'9' => {
            str::from_utf8(scanner.number()?).ok().and_then(|n| n.parse::<i64>().ok())
        }
        _ => None,
    };
    match behind {
        Some(behind) => Ok(u64::try_from(behind).unwrap_or(0)),
        None => before.wanted("a whole number of ms"),
    }
}

fn sequence(text: Text<'_>, what: &'static str) -> Result<SequenceNumber, EnvelopeError> {
    let wrong = |detail| EnvelopeError::Envelope { what, detail };
    let text = text
        .meaning()
        .ok_or_else(|| wrong("a ContinuationSequenceNumber that is no text".to_owned()))?;
    SequenceNumber::parse(text).map_err(|e| wrong(format!("as continuation: {e}")))
}

/// The message in an exception's payload, for people.
pub(crate) fn exception_message(payload: &[u8]) -> String {
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
