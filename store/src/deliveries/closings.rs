//! Closings: when a range was closed that had been open for a subscription. What its shard's marks (`marks`) say of the time in
//! between is how far the shard was read, and not what this subscription had got.

use super::{DeliveryStore, MARK_RETENTION, OpenRange};
use crate::error::StoreError;
use crate::identity::Position;
use crate::item::{EXPIRES_AT, ItemReader, PK, SK, expires_at_s, key, n, s};
use crate::messages::time_part;
use crate::subscriptions::SubscriptionId;

const OPENED_AT: &str = "openedAt";
const AT: &str = "at";

/// A range that was open for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedRange {
    /// Since when, in ms since 1970.
    pub opened_at_ms: i64,
    /// Until when: what it covered was delivered, parked or given up by then.
    pub closed_at_ms: i64,
}

fn partition(stream_arn: &str, shard_id: &str, subscription: &SubscriptionId) -> String {
    format!("closed#{stream_arn}#{shard_id}#{subscription}")
}

impl DeliveryStore {
    /// Notes that a range is closed, before it is removed. Kept for as long as marks are; noting it again is harmless.
    pub async fn note_closed(&self, range: &OpenRange, at_ms: i64) -> Result<(), StoreError> {
        let partition = partition(&range.stream_arn, &range.shard_id, &range.subscription);
        let mut item = key(partition, time_part(at_ms));
        item.insert(OPENED_AT.to_owned(), n(range.opened_at_ms));
        item.insert(AT.to_owned(), n(at_ms));
        item.insert(EXPIRES_AT.to_owned(), n(expires_at_s(at_ms, MARK_RETENTION.as_millis())));
        let call = self.client.put_item().table_name(&self.table).set_item(Some(item));
        match Box::pin(call.send()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(StoreError::from_sdk("note closed range", &error)),
        }
    }

    /// The first range of the subscription that was closed after the message at `position` had arrived, at `arrived_at_ms`.
    pub(super) async fn closed_after(
        &self,
        subscription: &SubscriptionId,
        position: &Position,
        arrived_at_ms: i64,
    ) -> Result<Option<ClosedRange>, StoreError> {
        let operation = "read closed ranges";
        let partition = partition(&position.stream_arn, &position.shard_id, subscription);
        let call = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#pk = :pk AND #sk >= :from")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#sk", SK)
            .expression_attribute_values(":pk", s(partition))
            .expression_attribute_values(":from", s(time_part(arrived_at_ms)))
            .limit(1);
        let answer =
            Box::pin(call.send()).await.map_err(|e| StoreError::from_sdk(operation, &e))?;
        let Some(item) = answer.items.unwrap_or_default().into_iter().next() else {
            return Ok(None);
        };
        let reader = ItemReader::new(operation, item);
        Ok(Some(ClosedRange {
            opened_at_ms: reader.number(OPENED_AT)?,
            closed_at_ms: reader.number(AT)?,
        }))
    }
}
