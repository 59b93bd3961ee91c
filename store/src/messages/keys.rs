//! The keys of messages: string order is time order.
//!
//! Partition: `integration#entity`. Sort: `time#stream#shard#sequence#index`, where time has 15
//! digits (ms since year 1, so that dates before 1970 sort too), stream is a hash of the ARN,
//! sequence is preceded by its length (so that numbers of any length sort by value) and index has
//! seven digits.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

use super::Message;
use crate::identity::{Entity, IntegrationName, Position};

/// Ms from year 1 to 1970.
const YEAR_1_TO_1970_MS: i64 = 62_135_596_800_000;
const TIME_DIGITS: usize = 15;
/// The last ms that 15 digits can say.
const MAX_TIME: i64 = 999_999_999_999_999;
/// A message's time counts up to this much after its arrival.
const MAX_AHEAD_MS: i64 = 24 * 3_600 * 1_000;
/// About what a sort key has: time, stream, shard, a sequence number of 56 digits, index.
const SORT_KEY_BYTES: usize = 120;

/// The time that a message is sorted by: its own, but at most a day after its arrival, so that a
/// clock in 2099 cannot pin `latest`. The past is kept.
pub fn sort_time(time_ms: i64, arrived_at_ms: i64) -> i64 {
    time_ms.min(arrived_at_ms.saturating_add(MAX_AHEAD_MS))
}

/// The 15 digits of a time in ms since 1970; what lies outside year 1 to 33658 is moved to the edge.
pub(crate) fn time_part(ms: i64) -> String {
    let mut time = String::with_capacity(TIME_DIGITS);
    push_time(&mut time, ms);
    time
}

/// The time that [`time_part`] made these digits of.
pub(crate) fn read_time(digits: &str) -> Option<i64> {
    let plain = digits.len() == TIME_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    let since_year_1: i64 = plain.then(|| digits.parse().ok()).flatten()?;
    Some(since_year_1 - YEAR_1_TO_1970_MS)
}

fn push_time(text: &mut String, ms: i64) {
    let since_year_1 = ms.saturating_add(YEAR_1_TO_1970_MS).clamp(0, MAX_TIME);
    push_number(text, since_year_1.unsigned_abs(), TIME_DIGITS);
}

/// What a position looks like within a sort key.
pub(crate) fn sort_key(time: &str, position: &Position) -> String {
    let mut key = time.to_owned();
    push_position(&mut key, &stream_hash(&position.stream_arn), position);
    key
}

fn push_position(key: &mut String, stream: &str, position: &Position) {
    let Position { shard_id, sequence, index, .. } = position;
    let parts = ["#", stream, "#", shard_id, "#"];
    key.reserve(parts.iter().map(|part| part.len()).sum::<usize>() + sequence.len() + 14);
    parts.iter().for_each(|part| key.push_str(part));
    push_number(key, sequence.len().min(999) as u64, 3);
    key.push_str(sequence);
    key.push('#');
    push_number(key, u64::from(*index), 7);
}

/// A number with zeros before it, up to so many digits: made for every message, and so without formatting.
fn push_number(text: &mut String, mut number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while number > 0 {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    let digits = &digits[at.min(digits.len() - width)..];
    text.push_str(str::from_utf8(digits).unwrap_or_default());
}

/// The position within a sort key, given the stream's ARN that is kept beside it.
pub(crate) fn read_position(sort: &str, stream_arn: &str) -> Option<Position> {
    let mut parts = sort.splitn(5, '#').skip(2);
    let shard_id = parts.next()?;
    let sequence = parts.next()?.get(3..)?;
    let index = parts.next()?.get(..7)?.parse().ok()?;
    Some(Position {
        stream_arn: Arc::from(stream_arn),
        shard_id: Arc::from(shard_id),
        sequence: Arc::from(sequence),
        index,
    })
}

/// 13 characters of base32: 64 bits tell a table's few streams apart.
fn stream_hash(arn: &str) -> String {
    let digest = Sha256::digest(arn.as_bytes());
    data_encoding::BASE32_NOPAD.encode(&digest[..8]).to_ascii_lowercase()
}

/// Where a message is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) partition: String,
    pub(crate) sort: String,
}

/// Sort keys end with what tells records apart.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let sort = self.sort.as_bytes();
        state.write(sort.last_chunk::<32>().map_or(sort, |end| end));
    }
}

impl Key {
    /// The key of a message: the same for every reading of the same record.
    pub(crate) fn of(message: &Message) -> Key {
        Keys::default().of(message)
    }
}

/// Makes the keys of many messages, most of which are of one stream.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// The first stream's ARN and its hash, which need not be made again.
    stream: OnceLock<(Arc<str>, String)>,
}

impl Keys {
    /// As [`Key::of`].
    pub(super) fn of(&self, message: &Message) -> Key {
        let partition = partition(&message.integration, &message.entity);
        Key { partition, sort: self.sort_of(message) }
    }

    /// The sort key alone.
    pub(super) fn sort_of(&self, message: &Message) -> String {
        let arn = &message.position.stream_arn;
        let (known, hash) = self.stream.get_or_init(|| (Arc::clone(arn), stream_hash(arn)));
        match known == arn {
            true => sort(message, hash),
            false => sort(message, &stream_hash(arn)),
        }
    }
}

fn sort(message: &Message, stream: &str) -> String {
    let mut sort = String::with_capacity(SORT_KEY_BYTES);
    push_time(&mut sort, sort_time(message.time_ms, message.arrived_at_ms));
    push_position(&mut sort, stream, &message.position);
    sort
}

/// The partition of an entity. A name contains no `#`, so it reads back in one way.
pub(super) fn partition(integration: &IntegrationName, entity: &Entity) -> String {
    [integration.as_str(), "#", entity.as_str()].concat()
}
