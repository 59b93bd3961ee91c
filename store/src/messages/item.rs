//! A message as an item, and back.

use super::keys::{Key, read_position};
use super::{Message, StoreItem};
use crate::error::StoreError;
use crate::identity::{Entity, IntegrationName, MessageId};
use crate::item::{EXPIRES_AT, Item, ItemReader, PK, SK, b, expires_at_s, n, s};
use crate::parts::PartsRef;

pub(crate) const ID: &str = "id";
pub(crate) const TIME: &str = "time";
pub(crate) const ARRIVED_AT: &str = "arrivedAt";
pub(crate) const PARTITION_KEY: &str = "partitionKey";
pub(crate) const STREAM: &str = "stream";
pub(crate) const FENCE: &str = "fence";
pub(crate) const PAYLOAD: &str = "payload";

/// When the item of a message disappears: its retention counts from its arrival.
pub(super) fn expiry(item: &StoreItem) -> i64 {
    expires_at_s(item.message.arrived_at_ms, item.retention.as_millis())
}

/// The item of a message under its key `at`, with its payload or where that is.
pub(super) fn to_item(item: &StoreItem, at: &Key, parts: Option<&PartsRef>) -> Item {
    let message = &item.message;
    let mut attributes = Item::with_capacity(12);
    attributes.insert(PK.to_owned(), s(at.partition.as_str()));
    attributes.insert(SK.to_owned(), s(at.sort.as_str()));
    attributes.insert(ID.to_owned(), s(message.id.as_str()));
    attributes.insert(TIME.to_owned(), n(message.time_ms));
    attributes.insert(ARRIVED_AT.to_owned(), n(message.arrived_at_ms));
    attributes.insert(PARTITION_KEY.to_owned(), s(&*message.partition_key));
    attributes.insert(STREAM.to_owned(), s(&*message.position.stream_arn));
    attributes.insert(FENCE.to_owned(), n(item.fence));
    attributes.insert(EXPIRES_AT.to_owned(), n(expiry(item)));
    match parts {
        Some(parts) => parts.write_to(&mut attributes),
        None => {
            attributes.insert(PAYLOAD.to_owned(), b(&message.payload));
        }
    }
    attributes
}

/// A message read back; its payload is empty yet if it is in parts.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) message: Message,
    pub(super) sort: String,
    pub(super) expires_at_s: i64,
    pub(super) parts: Option<PartsRef>,
}

impl Head {
    /// Length of the payload, wherever it is.
    pub(super) fn payload_bytes(&self) -> usize {
        self.parts.as_ref().map_or(self.message.payload.len(), PartsRef::bytes)
    }
}

/// Reads an item.
pub(super) fn from_item(operation: &'static str, item: Item) -> Result<Head, StoreError> {
    let mut reader = ItemReader::new(operation, item);
    let (payload, parts) = PartsRef::take_payload(&mut reader, PAYLOAD)?;
    let (integration, entity) = reader
        .text(PK)?
        .split_once('#')
        .ok_or_else(|| reader.unreadable("its partition is not integration#entity"))?;
    let name = |e: crate::IdentityError| reader.unreadable(e.to_string());
    let integration = IntegrationName::parse(integration).map_err(name)?;
    let entity = Entity::parse(entity).map_err(name)?;
    let sort = reader.text(SK)?.to_owned();
    let position = read_position(&sort, reader.text(STREAM)?)
        .ok_or_else(|| reader.unreadable("its sort key is not that of a message"))?;
    let message = Message {
        id: reader.parsed(ID, MessageId::parse)?,
        integration,
        entity,
        time_ms: reader.number(TIME)?,
        arrived_at_ms: reader.number(ARRIVED_AT)?,
        position,
        partition_key: reader.shared(PARTITION_KEY)?,
        payload,
    };
    let expires_at_s = reader.number(EXPIRES_AT)?;
    Ok(Head { message, sort, expires_at_s, parts })
}
