//! What is kept of one delivery by itself: that it waits, that it was given up, and how its attempts went.

use std::sync::Arc;

use super::chain_item::{message_sort, messages_partition};
use super::dead_item::from_item;
use super::keys::{dead_key_of, parked_key};
use super::parked_item::summary;
use super::{
    AttemptRecord, Chain, ClosedRange, DeadLetter, DeliveryKey, DeliveryStore, OpenRange,
    ParkedSummary, RangeKey,
};
use crate::error::StoreError;
use crate::item::{Item, ItemReader, is_expired, key};
use crate::messages::Message;

/// What is kept of one delivery by itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// It waits for its next attempt, or in order for its turn.
    pub parked: Option<ParkedSummary>,
    /// It was given up.
    pub dead: Option<DeadLetter>,
    /// Its attempts, if the first one failed; oldest first.
    pub attempts: Vec<AttemptRecord>,
    /// What its shard still owes the subscription, from some place on.
    pub range: Option<OpenRange>,
    /// The first range that was closed after it had arrived.
    pub closed: Option<ClosedRange>,
}

impl DeliveryStore {
    /// What is kept of a delivery at `now_ms`. Without the message, and the hash key of its partition key, neither its dead letter nor a
    /// range is found, nor that it waits in order; nor is the latter, if its record was put with another hash key.
    pub async fn trace(
        &self,
        delivery: &DeliveryKey,
        message: Option<(&Message, u128)>,
        now_ms: i64,
    ) -> Result<Trace, StoreError> {
        let operation = "trace delivery";
        let at = parked_key(delivery);
        let waiting = self.item_at(operation, key(at.partition, at.sort));
        let (waiting, attempts) = futures::try_join!(waiting, self.attempts(delivery, now_ms))?;
        let parked = match waiting {
            Some(item) => Some(summary(&ItemReader::new(operation, item))?),
            None => match message {
                Some(message) => self.chained(operation, delivery, message).await?,
                None => None,
            },
        };
        let Some((message, _)) = message else {
            return Ok(Trace { parked, attempts, ..Trace::default() });
        };
        let (position, subscription) = (&message.position, &delivery.subscription);
        let at = RangeKey {
            stream_arn: Arc::clone(&position.stream_arn),
            shard_id: Arc::clone(&position.shard_id),
            subscription: subscription.clone(),
        };
        // The range first: its closing is noted before it is removed.
        let range = self.range(operation, &at).await?;
        let (dead, closed) = futures::try_join!(
            self.letter_of(operation, delivery, message, now_ms),
            self.closed_after(subscription, position, message.arrived_at_ms),
        )?;
        Ok(Trace { parked, dead, attempts, range, closed })
    }

    /// The message where it waits in order: in a chain that stands at its hash key, of that alone or of its whole shard.
    async fn chained(
        &self,
        operation: &'static str,
        delivery: &DeliveryKey,
        (message, hash_key): (&Message, u128),
    ) -> Result<Option<ParkedSummary>, StoreError> {
        let (subscription, position) = (&delivery.subscription, &message.position);
        let stand = self.chains(subscription, &position.stream_arn, (hash_key, hash_key)).await?;
        for (of, head) in stand.into_iter().filter(|(of, _)| of.shard == position.shard_id) {
            let stream_arn = position.stream_arn.clone();
            let chain = Chain { subscription: subscription.clone(), stream_arn, key: of };
            let sort = message_sort(position, &message.id);
            let at = key(messages_partition(&chain), sort);
            let Some(item) = self.item_at(operation, at).await? else { continue };
            let mut found = summary(&ItemReader::new(operation, item))?;
            if head.message.as_ref() == Some(&message.id) {
                (found.attempts, found.due_at_ms) = (head.attempts, head.due_at_ms);
                (found.first_failed_at_ms, found.last_error) =
                    (head.first_failed_at_ms, head.last_error);
            }
            return Ok(Some(found));
        }
        Ok(None)
    }

    async fn letter_of(
        &self,
        operation: &'static str,
        delivery: &DeliveryKey,
        message: &Message,
        now_ms: i64,
    ) -> Result<Option<DeadLetter>, StoreError> {
        let at = dead_key_of(
            &message.integration,
            message.arrived_at_ms,
            &message.position,
            Some(&delivery.subscription),
        );
        let Some(item) = self.item_at(operation, key(at.partition, at.sort)).await? else {
            return Ok(None);
        };
        let head = from_item(operation, item)?;
        if is_expired(head.expires_at_s, now_ms) {
            return Ok(None);
        }
        self.complete(operation, head).await.map(Some)
    }

    /// One item of the table, read consistently.
    pub(super) async fn item_at(
        &self,
        operation: &'static str,
        at: Item,
    ) -> Result<Option<Item>, StoreError> {
        let call =
            self.client.get_item().table_name(&self.table).set_key(Some(at)).consistent_read(true);
        let answer =
            Box::pin(call.send()).await.map_err(|e| StoreError::from_sdk(operation, &e))?;
        Ok(answer.item)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{parked, store, subscription};
    use super::super::{DeadReason, Parked};
    use super::*;
    use crate::testing::NOW;

    #[tokio::test(start_paused = true)]
    async fn a_delivery_is_found_where_it_is() {
        let (_aws, store) = store().await;
        let waits = parked(1, 5_000);
        assert_eq!(store.park(std::slice::from_ref(&waits)).await, [Ok(Parked::New)]);
        let trace = store.trace(&waits.key(), Some((&waits.message, 7)), NOW).await.unwrap();
        assert_eq!(trace.parked.as_ref().map(|p| p.due_at_ms), Some(NOW + 5_000));
        assert_eq!((trace.dead, trace.attempts), (None, Vec::new()));

        let gone = parked(2, 0);
        let letter = DeadLetter {
            integration: gone.message.integration.clone(),
            reason: DeadReason::DeliveryExhausted,
            detail: "no".to_owned(),
            position: gone.message.position.clone(),
            partition_key: gone.message.partition_key.clone(),
            arrived_at_ms: gone.message.arrived_at_ms,
            fence: 1,
            attempts: 10,
            payload: "x".repeat(500_000).into(),
            subscription: Some(gone.subscription.clone()),
            at_ms: NOW,
        };
        store.dead_letter(std::slice::from_ref(&letter)).await;
        let trace = store.trace(&gone.key(), Some((&gone.message, 7)), NOW).await.unwrap();
        assert_eq!((trace.parked, trace.dead), (None, Some(letter)));
        let other = DeliveryKey { subscription: subscription("sub_b"), ..gone.key() };
        let trace = store.trace(&other, Some((&gone.message, 7)), NOW).await.unwrap();
        assert_eq!(trace, Trace::default());
        let later = NOW + 20 * 24 * 3_600 * 1_000;
        assert_eq!(
            store.trace(&gone.key(), Some((&gone.message, 7)), later).await.unwrap().dead,
            None
        );
    }
}
