//! The fuzz targets of what records come in; the others and what they are for: `crate::fuzzing`.
#![allow(clippy::unwrap_used)]

use lease_manager::{ChildShard, SequenceNumber, ShardId};

use super::{Event, Polled};
use crate::arena::Records;
use crate::fuzzing::json::{Json, NoTree};
use crate::fuzzing::shard;

/// The bytes are an event's payload.
///
/// What a plain reader finds in it is found, and nothing else: records in order, with key, data and arrival, and where reading goes on.
pub fn event(payload: &[u8]) {
    let event = super::event(payload, payload.len(), &shard(u128::MAX));
    sound(payload, event.as_ref().ok().map(|event| &event.records));
    wanted(payload, |wanted| {
        let ends = wanted.continuation.is_none() && wanted.children.is_empty();
        match event {
            Ok(Event { records, continuation, millis_behind_latest, children, .. }) => {
                assert!(!ends, "it neither goes on nor ends");
                assert_eq!(continuation.as_ref().map(|at| at.as_str()), wanted.continuation);
                wanted.compare(&records, millis_behind_latest, &children);
            }
            Err(error) => assert!(ends, "a plain reader sees an event: {error}"),
        }
    });
}

/// The same of the body of an answer to GetRecords.
pub fn answer(body: &[u8]) {
    let answer = super::get_records(body);
    sound(body, answer.as_ref().ok().map(|answer| &answer.records));
    wanted(body, |wanted| match answer {
        Ok(Polled { records, next_shard_iterator, millis_behind_latest, children }) => {
            assert_eq!(next_shard_iterator.as_deref(), wanted.iterator);
            wanted.compare(&records, millis_behind_latest, &children);
        }
        Err(error) => panic!("a plain reader sees an answer: {error}"),
    });
}

/// What is no JSON has no records; what was found is what it is taken for later, and is not more than came.
fn sound(payload: &[u8], found: Option<&Records>) {
    let Some(Records { arena, spans }) = found else { return };
    // Strings that nobody asks for may hold anything.
    if let Ok(text) = str::from_utf8(payload) {
        assert_ne!(Json::parse(text).err(), Some(NoTree::Broken), "read where there is no JSON");
    }
    assert!(arena.len() <= payload.len());
    for record in spans {
        SequenceNumber::parse(record.sequence.text(arena)).unwrap();
        str::from_utf8(record.partition_key.bytes(arena)).unwrap();
        assert!(record.data.range().end <= arena.len());
    }
}

/// Does `compare` with what a plain reader sees, unless readers may differ.
fn wanted(payload: &[u8], compare: impl FnOnce(&Wanted<'_>)) {
    let json = str::from_utf8(payload).ok().and_then(|text| Json::parse(text).ok());
    if let Some(wanted) = json.as_ref().and_then(Wanted::read) {
        compare(&wanted);
    }
}

/// An event or an answer as the service documents it, and nothing that any part of it could be blamed for.
struct Wanted<'a> {
    records: Vec<WantedRecord<'a>>,
    continuation: Option<&'a str>,
    iterator: Option<&'a str>,
    millis_behind_latest: i64,
    /// Ids of the children and of their parents.
    children: Vec<(&'a str, Vec<&'a str>)>,
}

struct WantedRecord<'a> {
    sequence: &'a str,
    partition_key: &'a str,
    arrived_at_ms: i64,
    data: Vec<u8>,
}

impl<'a> Wanted<'a> {
    /// `None` where a reader is free to refuse.
    fn read(json: &'a Json<'_>) -> Option<Wanted<'a>> {
        let records =
            elements(json.member("Records")?)?.iter().map(record).collect::<Option<_>>()?;
        let continuation = match json.member("ContinuationSequenceNumber") {
            None | Some(Json::Plain("null")) => None,
            Some(value) => Some(sequence(value)?),
        };
        let iterator = match json.member("NextShardIterator") {
            None | Some(Json::Plain("null")) => None,
            Some(value) => Some(text(value)?),
        };
        let children = match json.member("ChildShards") {
            None | Some(Json::Plain("null")) => Vec::new(),
            Some(children) => elements(children)?.iter().map(child).collect::<Option<_>>()?,
        };
        let millis_behind_latest = match json.member("MillisBehindLatest") {
            None => 0,
            Some(value) => whole(value)?,
        };
        Some(Wanted { records, continuation, iterator, millis_behind_latest, children })
    }

    fn compare(&self, records: &Records, millis_behind_latest: u64, children: &[ChildShard]) {
        assert_eq!(i128::from(millis_behind_latest), i128::from(self.millis_behind_latest.max(0)));
        let ids = |child: &'_ ChildShard| {
            let parents: Vec<String> =
                child.parents.iter().map(|id| id.as_str().to_owned()).collect();
            (child.shard_id.as_str().to_owned(), parents)
        };
        let children: Vec<_> = children.iter().map(ids).collect();
        let owned = |(id, parents): &(&str, Vec<&str>)| {
            ((*id).to_owned(), parents.iter().map(|id| (*id).to_owned()).collect())
        };
        assert_eq!(children, self.children.iter().map(owned).collect::<Vec<_>>());
        assert_eq!(records.len(), self.records.len());
        for (found, wanted) in records.spans.iter().zip(&self.records) {
            assert_eq!(found.sequence.text(&records.arena), wanted.sequence);
            assert_eq!(found.partition_key.text(&records.arena), wanted.partition_key);
            assert_eq!(found.arrived_at_ms, wanted.arrived_at_ms);
            assert_eq!(found.data.bytes(&records.arena), wanted.data);
        }
    }
}

fn record<'a>(json: &'a Json<'_>) -> Option<WantedRecord<'a>> {
    let partition_key = match json.member("PartitionKey") {
        None | Some(Json::Plain("null")) => "",
        Some(value) => text(value)?,
    };
    Some(WantedRecord {
        sequence: sequence(json.member("SequenceNumber")?)?,
        partition_key,
        arrived_at_ms: arrival(json.member("ApproximateArrivalTimestamp")?)?,
        data: base64(text(json.member("Data")?)?)?,
    })
}

fn child<'a>(json: &'a Json<'_>) -> Option<(&'a str, Vec<&'a str>)> {
    let range = json.member("HashKeyRange")?;
    text(range.member("StartingHashKey")?)?;
    text(range.member("EndingHashKey")?)?;
    let parents = elements(json.member("ParentShards")?)?.iter();
    Some((shard_id(json.member("ShardId")?)?, parents.map(shard_id).collect::<Option<_>>()?))
}

fn elements<'a, 'j>(json: &'a Json<'j>) -> Option<&'a [Json<'j>]> {
    let Json::Array(elements) = json else { return None };
    Some(elements)
}

fn text<'a>(json: &'a Json<'_>) -> Option<&'a str> {
    let Json::String(text) = json else { return None };
    Some(text)
}

fn sequence<'a>(json: &'a Json<'_>) -> Option<&'a str> {
    text(json).filter(|text| SequenceNumber::parse(*text).is_ok())
}

fn shard_id<'a>(json: &'a Json<'_>) -> Option<&'a str> {
    text(json).filter(|text| ShardId::parse(*text).is_ok())
}

fn whole(json: &Json<'_>) -> Option<i64> {
    let Json::Plain(text) = json else { return None };
    text.parse().ok()
}

/// Seconds with a fraction, as ms; readers may differ where a double has no ms any more.
fn arrival(json: &Json<'_>) -> Option<i64> {
    let Json::Plain(text) = json else { return None };
    let ms = text.parse::<f64>().ok()? * 1000.0;
    // Not so near the middle between two that the last bit decides.
    let sure = ms.abs() < 1e15 && text.len() < 18 && (ms.fract().abs() - 0.5).abs() > 0.01;
    sure.then(|| ms.round() as i64)
}

/// Standard base64 with padding and without spare bits.
fn base64(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let digits = text.trim_end_matches('=');
    if text.len() - digits.len() > 2 {
        return None;
    }
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0);
    for digit in digits.bytes() {
        let value = ALPHABET.iter().position(|b| *b == digit)?;
        (bits, held) = ((bits << 6) | u32::try_from(value).ok()?, held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    (bits == 0).then_some(bytes)
}
