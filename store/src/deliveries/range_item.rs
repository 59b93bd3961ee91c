//! An open range as an item, and back; its keys.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::keys::{BUCKET, CLAIM, SUBSCRIPTION, VISIBLE_AT};
use super::parked_item::{INDEX, SEQUENCE, SHARD};
use super::ranges::{OpenRange, RANGE_BUCKETS, RangeKey, RangeStart};
use crate::error::StoreError;
use crate::item::{EXPIRES_AT, Item, ItemReader, PK, SK, expires_at_s, key, n, s};
use crate::messages::item::{ARRIVED_AT, FENCE, STREAM};
use crate::subscriptions::SubscriptionId;

/// A range that nobody touches disappears this long after the stream has lost all it stood for.
const ABANDONED_AFTER_MS: u128 = 30 * 24 * 3_600 * 1_000;

const OPENED_AT: &str = "openedAt";
const LOST_AT: &str = "lostAt";
const VERSION: &str = "version";
const HASH_START: &str = "startingHashKey";
const HASH_END: &str = "endingHashKey";

pub(super) fn partition(stream_arn: &str, shard_id: &str) -> String {
    format!("range#{stream_arn}#{shard_id}")
}

pub(super) fn item_key(at: &RangeKey) -> Item {
    key(partition(&at.stream_arn, &at.shard_id), at.subscription.as_str())
}

/// What ranges stand under in the index by subscription: beside its parked deliveries, not among them.
pub(super) fn index_name(subscription: &SubscriptionId) -> String {
    format!("range#{subscription}")
}

pub(super) fn bucket_text(bucket: u16) -> String {
    format!("range#{bucket}")
}

fn bucket_of(partition: &str) -> u16 {
    u16::from(Sha256::digest(partition.as_bytes())[0]) % RANGE_BUCKETS
}

pub(super) fn read_key(reader: &ItemReader) -> Result<RangeKey, StoreError> {
    let mut parts = reader.text(PK)?.splitn(3, '#').skip(1);
    let (Some(stream_arn), Some(shard_id)) = (parts.next(), parts.next()) else {
        return Err(reader.unreadable("its partition is not that of a range"));
    };
    Ok(RangeKey {
        stream_arn: Arc::from(stream_arn),
        shard_id: Arc::from(shard_id),
        subscription: reader.parsed(SK, SubscriptionId::parse)?,
    })
}

pub(super) fn to_item(range: &OpenRange) -> Item {
    let mut item = item_key(&range.key());
    let bucket = bucket_of(&partition(&range.stream_arn, &range.shard_id));
    let RangeStart { sequence, index, arrived_at_ms } = &range.from;
    let rest = HashMap::from([
        (BUCKET, s(bucket_text(bucket))),
        (SUBSCRIPTION, s(index_name(&range.subscription))),
        (VISIBLE_AT, n(range.until_ms)),
        (CLAIM, s(range.claim.as_str())),
        (FENCE, n(range.fence)),
        (STREAM, s(&*range.stream_arn)),
        (SHARD, s(&*range.shard_id)),
        (HASH_START, s(range.hash_keys.0.to_string())),
        (HASH_END, s(range.hash_keys.1.to_string())),
        (SEQUENCE, s(&**sequence)),
        (INDEX, n(index)),
        (ARRIVED_AT, n(arrived_at_ms)),
        (OPENED_AT, n(range.opened_at_ms)),
        (LOST_AT, n(range.lost_at_ms)),
        (VERSION, n(range.version)),
        (EXPIRES_AT, n(expires_at_s(range.lost_at_ms, ABANDONED_AFTER_MS))),
    ]);
    item.extend(rest.into_iter().map(|(name, value)| (name.to_owned(), value)));
    item
}

pub(super) fn from_item(reader: ItemReader) -> Result<OpenRange, StoreError> {
    let RangeKey { stream_arn, shard_id, subscription } = read_key(&reader)?;
    Ok(OpenRange {
        subscription,
        stream_arn,
        shard_id,
        hash_keys: (
            reader.parsed(HASH_START, str::parse::<u128>)?,
            reader.parsed(HASH_END, str::parse::<u128>)?,
        ),
        from: RangeStart {
            sequence: reader.shared(SEQUENCE)?,
            index: reader.number(INDEX)?,
            arrived_at_ms: reader.number(ARRIVED_AT)?,
        },
        opened_at_ms: reader.number(OPENED_AT)?,
        lost_at_ms: reader.number(LOST_AT)?,
        version: reader.number(VERSION)?,
        fence: reader.number(FENCE)?,
        claim: reader.text(CLAIM)?.to_owned(),
        until_ms: reader.number(VISIBLE_AT)?,
    })
}
