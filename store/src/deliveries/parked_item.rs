//! A parked delivery as an item, and back.

use super::chain_item::read_message_key;
use super::keys::{
    ATTEMPTS, BUCKET, CLAIM, DUE_AT, ENTITY, FIRST_FAILED_AT, INTEGRATION, LAST_ERROR,
    SUBSCRIPTION, VISIBLE_AT, bucket_text, due_bucket, parked_key, read_parked_key,
};
use super::{DeliveryKey, ParkedDelivery, ParkedSummary, kept_text};
use crate::error::StoreError;
use crate::identity::{Entity, IntegrationName, Position};
use crate::item::{EXPIRES_AT, Item, ItemReader, PK, SK, b, expires_at_s, key, n, s};
use crate::messages::Message;
use crate::messages::item::{ARRIVED_AT, FENCE, ID, PARTITION_KEY, PAYLOAD, STREAM, TIME};
use crate::parts::PartsRef;
use crate::subscriptions::SubscriptionId;

pub(super) const SHARD: &str = "shard";
pub(super) const SEQUENCE: &str = "sequence";
pub(super) const INDEX: &str = "index";
/// A parked delivery that nobody attempts disappears this long after it was due.
const ABANDONED_AFTER_MS: u128 = 30 * 24 * 3_600 * 1_000;

/// When a delivery that is due at `due_at_ms` disappears if nobody attempts it.
pub(super) fn expiry(due_at_ms: i64) -> i64 {
    expires_at_s(due_at_ms, ABANDONED_AFTER_MS)
}

/// Writes where a message stands in its stream.
pub(super) fn write_position(item: &mut Item, position: &Position) {
    item.insert(STREAM.to_owned(), s(&*position.stream_arn));
    item.insert(SHARD.to_owned(), s(&*position.shard_id));
    item.insert(SEQUENCE.to_owned(), s(&*position.sequence));
    item.insert(INDEX.to_owned(), n(position.index));
}

/// Reads what [`write_position`] wrote.
pub(super) fn read_position(reader: &ItemReader) -> Result<Position, StoreError> {
    Ok(Position {
        stream_arn: reader.shared(STREAM)?,
        shard_id: reader.shared(SHARD)?,
        sequence: reader.shared(SEQUENCE)?,
        index: reader.number(INDEX)?,
    })
}

/// The item of a delivery that was never parked before.
pub(super) fn to_item(delivery: &ParkedDelivery, parts: Option<&PartsRef>) -> Item {
    let message = &delivery.message;
    let at = parked_key(&delivery.key());
    let mut item = key(at.partition, at.sort);
    item.insert(BUCKET.to_owned(), s(bucket_text(due_bucket(&delivery.key()))));
    item.insert(SUBSCRIPTION.to_owned(), s(delivery.subscription.as_str()));
    item.insert(VISIBLE_AT.to_owned(), n(delivery.due_at_ms));
    item.insert(DUE_AT.to_owned(), n(delivery.due_at_ms));
    item.insert(ATTEMPTS.to_owned(), n(delivery.attempts));
    item.insert(FIRST_FAILED_AT.to_owned(), n(delivery.first_failed_at_ms));
    item.insert(LAST_ERROR.to_owned(), s(kept_text(&delivery.last_error)));
    item.insert(FENCE.to_owned(), n(delivery.fence));
    item.insert(EXPIRES_AT.to_owned(), n(expiry(delivery.due_at_ms)));
    item.insert(ID.to_owned(), s(message.id.as_str()));
    item.insert(INTEGRATION.to_owned(), s(message.integration.as_str()));
    item.insert(ENTITY.to_owned(), s(message.entity.as_str()));
    item.insert(TIME.to_owned(), n(message.time_ms));
    item.insert(ARRIVED_AT.to_owned(), n(message.arrived_at_ms));
    item.insert(PARTITION_KEY.to_owned(), s(&*message.partition_key));
    write_position(&mut item, &message.position);
    match parts {
        Some(parts) => parts.write_to(&mut item),
        None => {
            item.insert(PAYLOAD.to_owned(), b(&message.payload));
        }
    }
    item
}

/// A delivery read back; its payload is empty yet if it is in parts.
pub(super) fn from_item(
    operation: &'static str,
    item: Item,
) -> Result<(ParkedDelivery, Option<PartsRef>), StoreError> {
    let mut reader = ItemReader::new(operation, item);
    let (payload, parts) = PartsRef::take_payload(&mut reader, PAYLOAD)?;
    let message = Message {
        id: reader.parsed(ID, crate::MessageId::parse)?,
        integration: reader.parsed(INTEGRATION, IntegrationName::parse)?,
        entity: reader.parsed(ENTITY, Entity::parse)?,
        time_ms: reader.number(TIME)?,
        arrived_at_ms: reader.number(ARRIVED_AT)?,
        position: read_position(&reader)?,
        partition_key: reader.shared(PARTITION_KEY)?,
        payload,
    };
    let delivery = ParkedDelivery {
        subscription: reader.parsed(SUBSCRIPTION, SubscriptionId::parse)?,
        message,
        attempts: reader.number(ATTEMPTS)?,
        first_failed_at_ms: reader.number(FIRST_FAILED_AT)?,
        due_at_ms: reader.number(DUE_AT)?,
        last_error: reader.text(LAST_ERROR)?.to_owned(),
        fence: reader.number(FENCE)?,
    };
    Ok((delivery, parts))
}

/// A row of an index: which delivery, when it is visible, and whether it is claimed.
#[derive(Debug)]
pub(super) struct IndexRow {
    pub(super) key: DeliveryKey,
    pub(super) visible_at_ms: i64,
    pub(super) claimed: bool,
    /// It is a chain's, which its shard's owner works off: nobody else may move it.
    pub(super) chained: bool,
}

pub(super) fn index_row(reader: &ItemReader) -> Result<IndexRow, StoreError> {
    let (partition, sort) = (reader.text(PK)?, reader.text(SK)?);
    let chained = read_message_key(partition, sort);
    let is_chained = chained.is_some();
    let key = chained
        .or_else(|| read_parked_key(partition))
        .ok_or_else(|| reader.unreadable("its partition is not that of a parked delivery"))?;
    Ok(IndexRow {
        key,
        chained: is_chained,
        visible_at_ms: reader.number(VISIBLE_AT)?,
        claimed: reader.optional_text(CLAIM)?.is_some(),
    })
}

/// A row of the index by subscription, as a list shows it.
pub(super) fn summary(reader: &ItemReader) -> Result<ParkedSummary, StoreError> {
    Ok(ParkedSummary {
        key: index_row(reader)?.key,
        integration: reader.parsed(INTEGRATION, IntegrationName::parse)?,
        entity: reader.parsed(ENTITY, Entity::parse)?,
        attempts: reader.number(ATTEMPTS)?,
        first_failed_at_ms: reader.number(FIRST_FAILED_AT)?,
        due_at_ms: reader.number(DUE_AT)?,
        last_error: reader.text(LAST_ERROR)?.to_owned(),
    })
}
