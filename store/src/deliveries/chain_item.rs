//! A chain's items, and back: its head, which says that it stands and when it goes on, and its messages.
//!
//! Heads of one subscription and stream share a partition, sorted by hash key, so that the owner of a range of hash
//! keys reads its own. The messages of a chain have a partition of their own, in the order of the stream.

use super::chains::{Chain, ChainHead, ChainKey, ChainedDelivery};
use super::keys::{ATTEMPTS, BUCKET, DUE_AT, FIRST_FAILED_AT, LAST_ERROR};
use super::parked_item::{expiry, from_item, to_item};
use super::tenure::Tenure;
use super::{DeliveryKey, ParkedDelivery, kept_text};
use crate::error::StoreError;
use crate::identity::{MessageId, Position};
use crate::item::{EXPIRES_AT, Item, ItemReader, PK, SK, key, n, s};
use crate::messages::Key;
use crate::messages::item::ID;
use crate::parts::PartsRef;
use crate::subscriptions::SubscriptionId;

pub(super) const FENCE: &str = "fence";
/// Number of the call that took the tenure, and of the latest one under it.
pub(super) const TAKEN: &str = "taken";
pub(super) const LAST_CALL: &str = "lastCall";
pub(super) const STOPPED: &str = "stopped";
const MESSAGES: &str = "chain";

/// Partition of a subscription's heads in one stream, and of what its owners are fenced by.
pub(super) fn heads_partition(subscription: &SubscriptionId, stream_arn: &str) -> String {
    format!("chains#{subscription}#{stream_arn}")
}

/// Where a shard's owner stands.
pub(super) fn tenure_key(tenure: &Tenure) -> Item {
    key(
        heads_partition(&tenure.subscription, &tenure.stream_arn),
        format!("owner#{}", tenure.shard_id),
    )
}

/// Chains of one hash key, and those of a whole range, are read apart: of the latter there are few.
pub(super) fn head_sort(chain: &ChainKey) -> String {
    let kind = if chain.is_wide() { "wide" } else { "key" };
    format!("{kind}#{:032x}#{:032x}#{}", chain.start, chain.end, chain.shard)
}

/// What sorts before or behind every head of this kind that starts at `start`.
pub(super) fn head_bound(kind: &str, start: u128, end: char) -> String {
    format!("{kind}#{start:032x}{end}")
}

pub(super) fn head_key(chain: &Chain) -> Item {
    key(heads_partition(&chain.subscription, &chain.stream_arn), head_sort(&chain.key))
}

pub(super) fn messages_partition(chain: &Chain) -> String {
    let ChainKey { start, end, shard } = &chain.key;
    let (subscription, stream) = (&chain.subscription, &chain.stream_arn);
    format!("{MESSAGES}#{subscription}#{stream}#{start:032x}#{end:032x}#{shard}")
}

/// The place of a message in its chain. Without leading zeros the longer sequence number is the larger one.
pub(super) fn message_sort(position: &Position, id: &MessageId) -> String {
    let Position { sequence, index, .. } = position;
    format!("{:03}.{sequence}#{index:06}#{id}", sequence.len())
}

/// The delivery of a chain's message, by its key; `None` for the key of anything else.
pub(super) fn read_message_key(partition: &str, sort: &str) -> Option<DeliveryKey> {
    let mut parts = partition.splitn(3, '#');
    if parts.next()? != MESSAGES {
        return None;
    }
    let subscription = SubscriptionId::parse(parts.next()?).ok()?;
    let message = MessageId::parse(sort.rsplit('#').next()?).ok()?;
    Some(DeliveryKey { subscription, message })
}

/// The chain of a message, by its partition; `None` for that of anything else.
pub(super) fn read_chain(partition: &str) -> Option<Chain> {
    let mut parts = partition.splitn(6, '#');
    if parts.next()? != MESSAGES {
        return None;
    }
    let subscription = SubscriptionId::parse(parts.next()?).ok()?;
    let stream_arn = parts.next()?.into();
    let mut number = || u128::from_str_radix(parts.next()?, 16).ok();
    let (start, end) = (number()?, number()?);
    let key = ChainKey { start, end, shard: parts.next()?.into() };
    Some(Chain { subscription, stream_arn, key })
}

pub(super) fn message_key(chain: &Chain, delivery: &ParkedDelivery) -> Key {
    let sort = message_sort(&delivery.message.position, &delivery.message.id);
    Key { partition: messages_partition(chain), sort }
}

/// A message of a chain: listed with what is parked for its subscription, and never due by itself.
pub(super) fn message_item(
    chain: &Chain,
    delivery: &ParkedDelivery,
    parts: Option<&PartsRef>,
) -> Item {
    let at = message_key(chain, delivery);
    let mut item = to_item(delivery, parts);
    item.remove(BUCKET);
    item.insert(PK.to_owned(), s(at.partition));
    item.insert(SK.to_owned(), s(at.sort));
    item
}

pub(super) fn read_message(
    operation: &'static str,
    item: Item,
) -> Result<ChainedDelivery, StoreError> {
    let (delivery, parts) = from_item(operation, item)?;
    Ok(ChainedDelivery { delivery, parts })
}

pub(super) fn head_item(chain: &Chain, head: &ChainHead) -> Item {
    let mut item = head_key(chain);
    item.insert(DUE_AT.to_owned(), n(head.due_at_ms));
    item.insert(ATTEMPTS.to_owned(), n(head.attempts));
    item.insert(FIRST_FAILED_AT.to_owned(), n(head.first_failed_at_ms));
    item.insert(LAST_ERROR.to_owned(), s(kept_text(&head.last_error)));
    item.insert(EXPIRES_AT.to_owned(), n(expiry(head.due_at_ms)));
    if let Some(message) = &head.message {
        item.insert(ID.to_owned(), s(message.as_str()));
    }
    if head.stopped {
        item.insert(STOPPED.to_owned(), n(1));
    }
    item
}

pub(super) fn read_head(
    operation: &'static str,
    item: Item,
) -> Result<(ChainKey, ChainHead), StoreError> {
    let reader = ItemReader::new(operation, item);
    let key = read_head_sort(reader.text(SK)?)
        .ok_or_else(|| reader.unreadable("its sort key is not that of a chain"))?;
    let message = match reader.optional_text(ID)? {
        None => None,
        Some(_) => Some(reader.parsed(ID, MessageId::parse)?),
    };
    let head = ChainHead {
        message,
        attempts: reader.number(ATTEMPTS)?,
        first_failed_at_ms: reader.number(FIRST_FAILED_AT)?,
        due_at_ms: reader.number(DUE_AT)?,
        last_error: reader.text(LAST_ERROR)?.to_owned(),
        stopped: reader.optional_number::<u8>(STOPPED)?.is_some(),
    };
    Ok((key, head))
}

fn read_head_sort(sort: &str) -> Option<ChainKey> {
    let mut parts = sort.splitn(4, '#');
    parts.next()?;
    let mut number = || u128::from_str_radix(parts.next()?, 16).ok();
    let (start, end) = (number()?, number()?);
    Some(ChainKey { start, end, shard: parts.next()?.into() })
}

/// What letting a stopped chain go on touches.
pub(super) const RESUMED: [(&str, &str); 5] = [
    ("#stopped", STOPPED),
    ("#attempts", ATTEMPTS),
    ("#due", DUE_AT),
    ("#expires", EXPIRES_AT),
    ("#message", ID),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_read_back_and_sort_by_where_they_start() {
        let key = |start, end| ChainKey { start, end, shard: "shardId-000000000001".into() };
        for chain in [key(7, 7), key(0, u128::MAX)] {
            assert_eq!(read_head_sort(&head_sort(&chain)), Some(chain));
        }
        let sort = head_sort(&key(7, 7));
        assert!(head_bound("key", 7, '#') < sort && sort < head_bound("key", 7, '~'));
        assert!(head_bound("key", 6, '~') < sort && sort < head_bound("key", 8, '#'));
    }

    #[test]
    fn a_chain_is_known_by_the_partition_of_its_messages() {
        let chain = Chain {
            subscription: SubscriptionId::parse("sub_a").unwrap(),
            stream_arn: "arn:aws:kinesis:us-east-1:000000000000:stream/s".into(),
            key: ChainKey { start: 7, end: u128::MAX, shard: "shardId-000000000001".into() },
        };
        assert_eq!(read_chain(&messages_partition(&chain)), Some(chain));
        assert_eq!(read_chain("parked#sub_a#msg_a"), None);
    }

    #[test]
    fn messages_sort_by_their_place_in_the_stream() {
        let at = |sequence: &str, index| {
            let position = Position {
                stream_arn: "arn".into(),
                shard_id: "s".into(),
                sequence: sequence.into(),
                index,
            };
            message_sort(&position, &MessageId::derive(&position))
        };
        assert!(at("9", 0) < at("10", 0));
        assert!(at("10", 2) < at("10", 10));
        assert!(at("10", 10) < at("11", 0));
    }
}
