//! A dead letter as an item, and back.

use super::keys::{ATTEMPTS, INTEGRATION, SUBSCRIPTION, dead_key};
use super::parked_item::{read_position, write_position};
use super::{DEAD_LETTER_RETENTION, DeadLetter, DeadReason, kept_text};
use crate::error::StoreError;
use crate::identity::IntegrationName;
use crate::item::{EXPIRES_AT, Item, ItemReader, SK, b, expires_at_s, key, n, s};
use crate::messages::item::{ARRIVED_AT, FENCE, PARTITION_KEY, PAYLOAD};
use crate::parts::PartsRef;
use crate::subscriptions::SubscriptionId;

pub(super) const REASON: &str = "reason";
pub(super) const DETAIL: &str = "detail";
/// When it was given up: tells two writings of one letter apart.
pub(super) const AT: &str = "at";

/// When a dead letter disappears.
pub(super) fn expiry(letter: &DeadLetter) -> i64 {
    expires_at_s(letter.at_ms, DEAD_LETTER_RETENTION.as_millis())
}

/// The item of a letter, with its payload or where that is.
pub(super) fn to_item(letter: &DeadLetter, parts: Option<&PartsRef>) -> Item {
    let at = dead_key(letter);
    let mut item = key(at.partition, at.sort);
    item.insert(INTEGRATION.to_owned(), s(letter.integration.as_str()));
    item.insert(REASON.to_owned(), s(letter.reason.code()));
    item.insert(DETAIL.to_owned(), s(kept_text(&letter.detail)));
    item.insert(PARTITION_KEY.to_owned(), s(&*letter.partition_key));
    item.insert(ARRIVED_AT.to_owned(), n(letter.arrived_at_ms));
    item.insert(FENCE.to_owned(), n(letter.fence));
    item.insert(ATTEMPTS.to_owned(), n(letter.attempts));
    item.insert(AT.to_owned(), n(letter.at_ms));
    item.insert(EXPIRES_AT.to_owned(), n(expiry(letter)));
    write_position(&mut item, &letter.position);
    if let Some(subscription) = &letter.subscription {
        item.insert(SUBSCRIPTION.to_owned(), s(subscription.as_str()));
    }
    match parts {
        Some(parts) => parts.write_to(&mut item),
        None => {
            item.insert(PAYLOAD.to_owned(), b(&letter.payload));
        }
    }
    item
}

/// A letter read back; its payload is empty yet if it is in parts.
pub(super) struct Head {
    pub(super) letter: DeadLetter,
    pub(super) sort: String,
    pub(super) expires_at_s: i64,
    pub(super) parts: Option<PartsRef>,
}

impl Head {
    /// Length of the payload, wherever it is.
    pub(super) fn payload_bytes(&self) -> usize {
        self.parts.as_ref().map_or(self.letter.payload.len(), PartsRef::bytes)
    }
}

pub(super) fn from_item(operation: &'static str, item: Item) -> Result<Head, StoreError> {
    let mut reader = ItemReader::new(operation, item);
    let (payload, parts) = PartsRef::take_payload(&mut reader, PAYLOAD)?;
    let subscription = match reader.optional_text(SUBSCRIPTION)? {
        None => None,
        Some(_) => Some(reader.parsed(SUBSCRIPTION, SubscriptionId::parse)?),
    };
    let letter = DeadLetter {
        integration: reader.parsed(INTEGRATION, IntegrationName::parse)?,
        reason: reader.parsed(REASON, |code| {
            DeadReason::from_code(code).ok_or_else(|| format!("{code:?} is not known"))
        })?,
        detail: reader.text(DETAIL)?.to_owned(),
        position: read_position(&reader)?,
        partition_key: reader.shared(PARTITION_KEY)?,
        arrived_at_ms: reader.number(ARRIVED_AT)?,
        fence: reader.number(FENCE)?,
        attempts: reader.number(ATTEMPTS)?,
        payload,
        subscription,
        at_ms: reader.number(AT)?,
    };
    let expires_at_s = reader.number(EXPIRES_AT)?;
    let sort = reader.text(SK)?.to_owned();
    Ok(Head { letter, sort, expires_at_s, parts })
}
