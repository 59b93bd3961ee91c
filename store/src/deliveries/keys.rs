//! The keys of parked deliveries and dead letters, and the names of their attributes.
//!
//! A parked delivery's key does not say when it is due (the module above says why); dead letters
//! are keyed by arrival and position, so that writing one again finds the same item.

use sha2::{Digest, Sha256};

use super::{DeadLetter, DeliveryKey};
use crate::identity::{IntegrationName, MessageId, Position};
use crate::messages::{Key, sort_key, time_part};
use crate::subscriptions::SubscriptionId;

/// Buckets that parked deliveries are spread over: sweepers share them, DynamoDB spreads them.
pub const DUE_BUCKETS: u16 = 16;

/// Index of parked deliveries by bucket and time: keys only.
pub(crate) const BY_DUE: &str = "byDue";
/// Index of parked deliveries by subscription and time, with what a list shows.
pub(crate) const BY_SUBSCRIPTION: &str = "bySubscription";

pub(crate) const BUCKET: &str = "bucket";
pub(crate) const SUBSCRIPTION: &str = "subscription";
/// When a sweeper may see it: its due time, or the end of the claim on it.
pub(crate) const VISIBLE_AT: &str = "visibleAt";
pub(super) const DUE_AT: &str = "dueAt";
pub(super) const ATTEMPTS: &str = "attempts";
pub(super) const FIRST_FAILED_AT: &str = "firstFailedAt";
pub(super) const LAST_ERROR: &str = "lastError";
pub(super) const INTEGRATION: &str = "integration";
pub(super) const ENTITY: &str = "entity";
pub(super) const CLAIM: &str = "claim";
/// What the index by subscription carries beside its keys.
pub(crate) const SUMMARY: &[&str] =
    &[INTEGRATION, ENTITY, ATTEMPTS, FIRST_FAILED_AT, DUE_AT, LAST_ERROR, CLAIM];

const PARKED: &str = "parked";

/// The bucket of a delivery: the same for ever, evenly spread.
pub fn due_bucket(key: &DeliveryKey) -> u16 {
    let mut hash = Sha256::new();
    hash.update(key.subscription.as_str().as_bytes());
    hash.update([0]);
    hash.update(key.message.as_str().as_bytes());
    let digest = hash.finalize();
    u16::from_be_bytes([digest[0], digest[1]]) % DUE_BUCKETS
}

pub(super) fn bucket_text(bucket: u16) -> String {
    format!("{bucket:02}")
}

pub(super) fn parked_key(key: &DeliveryKey) -> Key {
    Key {
        partition: format!("{PARKED}#{}#{}", key.subscription, key.message),
        sort: PARKED.to_owned(),
    }
}

/// Reads [`parked_key`]'s partition. Neither part contains a `#`.
pub(super) fn read_parked_key(partition: &str) -> Option<DeliveryKey> {
    let mut parts = partition.splitn(3, '#');
    if parts.next()? != PARKED {
        return None;
    }
    let subscription = SubscriptionId::parse(parts.next()?).ok()?;
    let message = MessageId::parse(parts.next()?).ok()?;
    Some(DeliveryKey { subscription, message })
}

pub(super) fn dead_partition(integration: &IntegrationName) -> String {
    format!("dead#{integration}")
}

pub(super) fn dead_key(letter: &DeadLetter) -> Key {
    let subscription = letter.subscription.as_ref();
    dead_key_of(&letter.integration, letter.arrived_at_ms, &letter.position, subscription)
}

/// The key of the letter of a message; without a subscription, of the record itself.
pub(super) fn dead_key_of(
    integration: &IntegrationName,
    arrived_at_ms: i64,
    position: &Position,
    subscription: Option<&SubscriptionId>,
) -> Key {
    let place = sort_key(&time_part(arrived_at_ms), position);
    let subscription = subscription.map_or("-", SubscriptionId::as_str);
    Key { partition: dead_partition(integration), sort: format!("{place}#{subscription}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn key(sequence: &str) -> DeliveryKey {
        let position = Position {
            stream_arn: Arc::from("arn"),
            shard_id: Arc::from("shardId-000000000000"),
            sequence: Arc::from(sequence),
            index: 0,
        };
        DeliveryKey {
            subscription: SubscriptionId::parse("sub_a").unwrap(),
            message: MessageId::derive(&position),
        }
    }

    #[test]
    fn a_parked_key_reads_back() {
        let delivery = key("1");
        assert_eq!(read_parked_key(&parked_key(&delivery).partition), Some(delivery));
        assert_eq!(read_parked_key("dead#quakes"), None);
    }

    #[test]
    fn buckets_are_all_used_about_evenly() {
        let mut counts = [0usize; DUE_BUCKETS as usize];
        for i in 0..1_600 {
            counts[usize::from(due_bucket(&key(&i.to_string())))] += 1;
        }
        assert!(counts.iter().all(|c| (50..200).contains(c)), "{counts:?}");
    }
}
