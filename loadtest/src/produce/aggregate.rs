//! Packs messages of one shard into one record, in the Kinesis Producer Library's format: magic
//! bytes, a protobuf of deduplicated keys and messages, and an MD5 of that protobuf.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use md5::{Digest, Md5};
use prost::Message as _;
use tokio::time::Instant;

use super::options::Aggregation;
use super::queue::{Unit, UserMessage};

/// The first bytes of every aggregated record.
const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];
/// Magic, digest and the protobuf's fixed parts.
const RECORD_OVERHEAD: usize = 32;
/// Most bytes that protobuf adds to one message, its keys apart.
const MESSAGE_OVERHEAD: usize = 32;

#[derive(Clone, PartialEq, prost::Message)]
struct AggregatedRecord {
    #[prost(string, repeated, tag = "1")]
    partition_key_table: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    explicit_hash_key_table: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<UserRecord>,
}

// Indices are `required` in the format: proto2 writes a zero where proto3 would leave it out.
#[derive(Clone, PartialEq, prost::Message)]
struct UserRecord {
    #[prost(uint64, required, tag = "1")]
    partition_key_index: u64,
    #[prost(uint64, optional, tag = "2")]
    explicit_hash_key_index: Option<u64>,
    #[prost(bytes = "bytes", required, tag = "3")]
    data: Bytes,
}

/// One aggregated record of `messages`.
pub(crate) fn encode(messages: &[UserMessage]) -> Bytes {
    let mut record = AggregatedRecord::default();
    let mut keys: HashMap<&str, u64> = HashMap::new();
    let mut hash_keys: HashMap<u128, u64> = HashMap::new();
    for message in messages {
        let partition_key_index = *keys.entry(&message.partition_key).or_insert_with(|| {
            record.partition_key_table.push(message.partition_key.to_string());
            record.partition_key_table.len() as u64 - 1
        });
        let explicit_hash_key_index = message.explicit_hash_key.map(|hash| {
            *hash_keys.entry(hash).or_insert_with(|| {
                record.explicit_hash_key_table.push(hash.to_string());
                record.explicit_hash_key_table.len() as u64 - 1
            })
        });
        let data = message.data.clone();
        record.records.push(UserRecord { partition_key_index, explicit_hash_key_index, data });
    }
    let mut bytes = Vec::with_capacity(MAGIC.len() + record.encoded_len() + 16);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&record.encode_to_vec());
    let digest = Md5::digest(&bytes[MAGIC.len()..]);
    bytes.extend_from_slice(&digest);
    Bytes::from(bytes)
}

/// Collects messages for each shard until a record is full or has waited long enough.
#[derive(Debug)]
pub(crate) struct Aggregator {
    limits: Aggregation,
    linger: Duration,
    groups: BTreeMap<Arc<str>, Group>,
    bytes: usize,
}

#[derive(Debug)]
struct Group {
    messages: Vec<UserMessage>,
    bytes: usize,
    since: Instant,
}

impl Aggregator {
    pub(crate) fn new(limits: Aggregation, linger: Duration) -> Aggregator {
        Aggregator { limits, linger, groups: BTreeMap::new(), bytes: 0 }
    }

    /// Bytes that wait for their record to fill.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Adds a message of `shard`; gives back the record that it did not fit into any more.
    pub(crate) fn push(
        &mut self,
        shard: &Arc<str>,
        message: UserMessage,
        now: Instant,
    ) -> Option<Unit> {
        let bytes = cost(&message);
        let is_full = self.groups.get(shard).is_some_and(|group| {
            group.messages.len() >= self.limits.max_messages as usize
                || RECORD_OVERHEAD + group.bytes + bytes > self.limits.max_bytes
        });
        let full = if is_full { self.close(shard) } else { None };
        let group = self.groups.entry(Arc::clone(shard)).or_insert_with(|| Group {
            messages: Vec::new(),
            bytes: 0,
            since: now,
        });
        group.messages.push(message);
        group.bytes += bytes;
        self.bytes += bytes;
        full
    }

    /// When the oldest record has waited long enough.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.groups.values().map(|group| group.since).min().map(|since| since + self.linger)
    }

    /// Closes the records that have waited since `now - linger`, or all of them.
    pub(crate) fn close_due(&mut self, now: Instant, all: bool) -> Vec<Unit> {
        let is_due = |group: &Group| all || group.since + self.linger <= now;
        let due: Vec<_> = self
            .groups
            .iter()
            .filter(|(_, g)| is_due(g))
            .map(|(shard, _)| Arc::clone(shard))
            .collect();
        due.iter().filter_map(|shard| self.close(shard)).collect()
    }

    fn close(&mut self, shard: &Arc<str>) -> Option<Unit> {
        let group = self.groups.remove(shard)?;
        self.bytes -= group.bytes;
        Unit::aggregated(Arc::clone(shard), group.messages, group.since)
    }
}

fn cost(message: &UserMessage) -> usize {
    let hash_key = message.explicit_hash_key.map_or(0, |_| 48);
    message.data.len() + message.partition_key.len() + hash_key + MESSAGE_OVERHEAD
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The messages of an aggregate with their keys; `None` if it is none.
    pub(crate) fn decode(bytes: &Bytes) -> Option<Vec<(String, Bytes)>> {
        let body = bytes.strip_prefix(&MAGIC)?;
        let (body, digest) = body.split_at(body.len().checked_sub(16)?);
        assert_eq!(&Md5::digest(body)[..], digest);
        let record = AggregatedRecord::decode(body).unwrap();
        let key = |index: u64| record.partition_key_table[index as usize].clone();
        Some(record.records.iter().map(|r| (key(r.partition_key_index), r.data.clone())).collect())
    }

    fn message(key: &str, hash: Option<u128>, data: &'static str) -> UserMessage {
        UserMessage {
            partition_key: key.into(),
            explicit_hash_key: hash,
            data: Bytes::from_static(data.as_bytes()),
        }
    }

    #[test]
    fn a_record_is_magic_protobuf_and_digest_with_keys_once() {
        let bytes = encode(&[
            message("k", None, "one"),
            message("l", Some(7), "two"),
            message("k", None, ""),
        ]);
        assert_eq!(bytes[..4], MAGIC);
        let (body, digest) = bytes[4..].split_at(bytes.len() - 20);
        assert_eq!(digest, &Md5::digest(body)[..]);
        let expected: &[u8] = b"\x0a\x01k\x0a\x01l\x12\x017\
            \x1a\x07\x08\x00\x1a\x03one\x1a\x09\x08\x01\x10\x00\x1a\x03two\x1a\x04\x08\x00\x1a\x00";
        assert_eq!(body, expected, "required fields are written even when they are zero or empty");
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_closes_when_full_or_when_it_has_waited() {
        let limits = Aggregation { max_messages: 2, max_bytes: 1024 };
        let mut aggregator = Aggregator::new(limits, Duration::from_millis(100));
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let start = Instant::now();
        assert!(aggregator.push(&a, message("1", None, "x"), start).is_none());
        assert!(aggregator.push(&a, message("2", None, "x"), start).is_none());
        assert!(
            aggregator
                .push(&b, message("3", None, "x"), start + Duration::from_millis(50))
                .is_none()
        );
        let full = aggregator
            .push(&a, message("4", None, "x"), start + Duration::from_millis(60))
            .unwrap();
        assert_eq!(full.messages, 2);
        assert_eq!(aggregator.deadline(), Some(start + Duration::from_millis(150)));
        assert!(aggregator.close_due(start + Duration::from_millis(149), false).is_empty());
        let due = aggregator.close_due(start + Duration::from_millis(150), false);
        assert_eq!(due.len(), 1);
        assert_eq!(&*due[0].partition_key, "3", "a single message stays a plain record");
        assert_eq!(due[0].data, Bytes::from_static(b"x"));
        assert_eq!(aggregator.close_due(start, true).len(), 1);
        assert!(aggregator.is_empty());
        assert_eq!(aggregator.bytes(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_never_grows_over_its_bytes() {
        let limits = Aggregation { max_messages: 1000, max_bytes: 300 };
        let mut aggregator = Aggregator::new(limits, Duration::ZERO);
        let shard: Arc<str> = "a".into();
        let mut closed = Vec::new();
        for _ in 0..20 {
            closed.extend(aggregator.push(
                &shard,
                message("key", Some(1), "0123456789"),
                Instant::now(),
            ));
        }
        closed.extend(aggregator.close_due(Instant::now(), true));
        assert_eq!(closed.iter().map(|unit| unit.messages).sum::<usize>(), 20);
        assert!(closed.iter().all(|unit| unit.data.len() <= 300));
        assert!(closed[0].messages >= 2);
    }
}
