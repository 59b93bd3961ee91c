//! The keys of messages: string order is time order.
//!
//! Partition: `integration#entity`. Sort: `time#stream#shard#sequence#index`, where time has 15
//! digits (ms since year 1, so that dates before 1970 sort too), stream is a hash of the ARN,
//! sequence is preceded by its length (so that numbers of any length sort by value) and index has
//! seven digits.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::Message;
use crate::identity::{Entity, IntegrationName, Position};

/// Ms from year 1 to 1970.
const YEAR_1_TO_1970_MS: i64 = 62_135_596_800_000;
/// The last ms that 15 digits can say.
const MAX_TIME: i64 = 999_999_999_999_999;
/// A message's time counts up to this much after its arrival.
const MAX_AHEAD_MS: i64 = 24 * 3_600 * 1_000;

/// The time that a message is sorted by: its own, but at most a day after its arrival, so that a
/// clock in 2099 cannot pin `latest`. The past is kept.
pub fn sort_time(time_ms: i64, arrived_at_ms: i64) -> i64 {
    time_ms.min(arrived_at_ms.saturating_add(MAX_AHEAD_MS))
}

/// The 15 digits of a time in ms since 1970; what lies outside year 1 to 33658 is moved to the edge.
pub(crate) fn time_part(ms: i64) -> String {
    format!("{:015}", ms.saturating_add(YEAR_1_TO_1970_MS).clamp(0, MAX_TIME))
}

/// What a position looks like within a sort key.
pub(crate) fn sort_key(time: &str, position: &Position) -> String {
    format!(
        "{time}#{}#{}#{:03}{}#{:07}",
        stream_hash(&position.stream_arn),
        position.shard_id,
        position.sequence.len().min(999),
        position.sequence,
        position.index,
    )
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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) partition: String,
    pub(crate) sort: String,
}

impl Key {
    /// The key of a message: the same for every reading of the same record.
    pub(crate) fn of(message: &Message) -> Key {
        let time = time_part(sort_time(message.time_ms, message.arrived_at_ms));
        Key {
            partition: partition(&message.integration, &message.entity),
            sort: sort_key(&time, &message.position),
        }
    }
}

/// The partition of an entity. A name contains no `#`, so it reads back in one way.
pub(super) fn partition(integration: &IntegrationName, entity: &Entity) -> String {
    format!("{integration}#{entity}")
}
