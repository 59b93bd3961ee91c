//! KPL aggregates: many user records in one record of the stream.
//!
//! `F3 89 9A C2`, a protobuf message, and its MD5. A record that begins like one and cannot be
//! taken apart is broken as a whole: it comes out as an error, never as some of its records. What
//! begins otherwise is no aggregate. No JSON begins with these bytes: they are not UTF-8.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use md5::{Digest, Md5};
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};

/// How every aggregate begins.
const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
/// How every aggregate ends: an MD5 of the message between.
const DIGEST_BYTES: usize = 16;

/// An aggregate, taken apart.
#[derive(Debug)]
pub(super) struct Aggregate {
    pub(super) records: Vec<UserRecord>,
}

/// One user record of an aggregate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UserRecord {
    /// Its place in the aggregate, from 0.
    pub(super) index: u32,
    pub(super) partition_key: Arc<str>,
    /// The explicit hash key, else the MD5 of the partition key.
    pub(super) hash_key: u128,
    pub(super) data: Bytes,
}

/// Why an aggregate cannot be taken apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BrokenAggregate {
    #[error(
        "a KPL aggregate of {bytes} bytes has no room for its message and the 16 bytes of its digest"
    )]
    TooShort { bytes: usize },
    #[error("the digest of a KPL aggregate does not fit its {bytes} bytes of message")]
    Digest { bytes: usize },
    #[error("the message of a KPL aggregate is not an AggregatedRecord: {detail}")]
    Protobuf { detail: String },
    #[error("a KPL aggregate of more than {max} user records is refused")]
    TooMany { max: usize },
    #[error("user record {index} of a KPL aggregate has no {field}")]
    Missing { index: usize, field: &'static str },
    #[error("user record {index} of a KPL aggregate names {table} {found}; there are {len}")]
    NoSuchKey { index: usize, table: &'static str, found: u64, len: usize },
    #[error("explicit hash key {at} of a KPL aggregate is `{found}`, not a decimal of 128 bits")]
    HashKey { at: usize, found: String },
}

/// The protobuf message, with the names of its definition. Tags of records are passed over.
#[derive(Clone, PartialEq, Message)]
struct AggregatedRecord {
    #[prost(string, repeated, tag = "1")]
    partition_key_table: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    explicit_hash_key_table: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<Record>,
}

/// A user record. What the definition requires is optional here, so that its absence is seen.
#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(uint64, optional, tag = "1")]
    partition_key_index: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    explicit_hash_key_index: Option<u64>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    data: Option<Bytes>,
}

/// Whether a record begins as an aggregate does.
#[inline]
pub(super) fn is_aggregate(data: &[u8]) -> bool {
    data.starts_with(&MAGIC)
}

/// Takes an aggregate apart; `data` begins with the magic. Records are slices of `data`.
pub(super) fn split(data: &Bytes, max_user_records: usize) -> Result<Aggregate, BrokenAggregate> {
    if data.len() <= MAGIC.len() + DIGEST_BYTES {
        return Err(BrokenAggregate::TooShort { bytes: data.len() });
    }
    let message = data.slice(MAGIC.len()..data.len() - DIGEST_BYTES);
    if Md5::digest(&message)[..] != data[data.len() - DIGEST_BYTES..] {
        return Err(BrokenAggregate::Digest { bytes: message.len() });
    }
    check_count(message.clone(), max_user_records)?;
    let aggregated = AggregatedRecord::decode(message).map_err(protobuf)?;
    let keys = PartitionKeys::new(aggregated.partition_key_table);
    let hash_keys = explicit_hash_keys(&aggregated.explicit_hash_key_table)?;
    let records = aggregated.records.into_iter().enumerate();
    let records = records.map(|(index, record)| user_record(index, record, &keys, &hash_keys));
    Ok(Aggregate { records: records.collect::<Result<_, _>>()? })
}

/// Counts the message's fields before anything is made of them: there are at most three for a
/// user record (itself and an entry in each table), plus what a record can hardly do without.
fn check_count(mut message: Bytes, max: usize) -> Result<(), BrokenAggregate> {
    let (mut records, mut fields) = (0, 0);
    while message.has_remaining() {
        let (tag, wire_type): (u32, WireType) = decode_key(&mut message).map_err(protobuf)?;
        skip_field(wire_type, tag, &mut message, DecodeContext::default()).map_err(protobuf)?;
        records += usize::from(tag == 3);
        fields += 1;
        if records > max || fields > max.saturating_mul(3) {
            return Err(BrokenAggregate::TooMany { max });
        }
    }
    Ok(())
}

fn protobuf(error: prost::DecodeError) -> BrokenAggregate {
    BrokenAggregate::Protobuf { detail: error.to_string() }
}

/// The partition keys of an aggregate, each with its hash.
struct PartitionKeys(Vec<(Arc<str>, u128)>);

impl PartitionKeys {
    fn new(table: Vec<String>) -> PartitionKeys {
        PartitionKeys(
            table
                .into_iter()
                .map(|key| {
                    let hash = u128::from_be_bytes(Md5::digest(key.as_bytes()).into());
                    (Arc::from(key), hash)
                })
                .collect(),
        )
    }
}

fn explicit_hash_keys(table: &[String]) -> Result<Vec<u128>, BrokenAggregate> {
    let hash_key = |(at, text): (usize, &String)| {
        // `parse` would take a sign.
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        text.parse()
            .ok()
            .filter(|_| digits)
            .ok_or_else(|| BrokenAggregate::HashKey { at, found: text.chars().take(40).collect() })
    };
    table.iter().enumerate().map(hash_key).collect()
}

fn user_record(
    index: usize,
    record: Record,
    keys: &PartitionKeys,
    hash_keys: &[u128],
) -> Result<UserRecord, BrokenAggregate> {
    let missing = |field| BrokenAggregate::Missing { index, field };
    let no_such_key = |table, found, len| BrokenAggregate::NoSuchKey { index, table, found, len };
    let key_index = record.partition_key_index.ok_or_else(|| missing("partition_key_index"))?;
    let (key, hash) = entry(&keys.0, key_index)
        .ok_or_else(|| no_such_key("partition key", key_index, keys.0.len()))?;
    let hash_key = match record.explicit_hash_key_index {
        None => *hash,
        Some(at) => *entry(hash_keys, at)
            .ok_or_else(|| no_such_key("explicit hash key", at, hash_keys.len()))?,
    };
    Ok(UserRecord {
        index: u32::try_from(index).unwrap_or(u32::MAX),
        partition_key: Arc::clone(key),
        hash_key,
        data: record.data.ok_or_else(|| missing("data"))?,
    })
}

fn entry<T>(table: &[T], at: u64) -> Option<&T> {
    table.get(usize::try_from(at).ok()?)
}
