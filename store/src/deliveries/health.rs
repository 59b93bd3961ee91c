//! Since when a destination has been failing: kept durably, so that a restart does not begin the count again.

use std::time::Duration;

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure};

use super::DeliveryStore;
use crate::error::StoreError;
use crate::item::{EXPIRES_AT, Item, ItemReader, PK, SK, expires_at_s, key, n};
use crate::subscriptions::SubscriptionId;

const SINCE: &str = "failingSince";
const LAST: &str = "lastFailure";
/// What failed longer ago than this says nothing about now: the count begins again.
const FORGOTTEN_AFTER_MS: i64 = 3_600 * 1_000;
/// The note of a destination that nobody tries any more disappears.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3_600);

fn note_key(subscription: &SubscriptionId) -> Item {
    key(format!("failing#{subscription}"), "since")
}

impl DeliveryStore {
    /// The subscription's destination fails at `now_ms`; since when it has, without having been reached in between as far as any worker
    /// knows, in ms since 1970.
    pub async fn note_failing(
        &self,
        subscription: &SubscriptionId,
        now_ms: i64,
    ) -> Result<i64, StoreError> {
        let operation = "note a failing destination";
        let expires_at = expires_at_s(now_ms, KEPT.as_millis());
        let call = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(note_key(subscription)))
            .update_expression("SET #last = :now, #expires = :expires")
            .condition_expression("#last >= :recent")
            .expression_attribute_names("#last", LAST)
            .expression_attribute_names("#expires", EXPIRES_AT)
            .expression_attribute_values(":now", n(now_ms))
            .expression_attribute_values(":expires", n(expires_at))
            .expression_attribute_values(":recent", n(now_ms - FORGOTTEN_AFTER_MS))
            .return_values(ReturnValue::AllNew);
        match Box::pin(call.send()).await {
            Ok(answer) => {
                let mut item = answer.attributes.unwrap_or_default();
                item.retain(|name, _| [PK, SK, SINCE].contains(&name.as_str()));
                ItemReader::new(operation, item).number(SINCE)
            }
            Err(error) => match StoreError::from_sdk(operation, &error) {
                StoreError::Conflict { .. } => {
                    self.begin_failing(operation, subscription, now_ms, expires_at).await
                }
                error => Err(error),
            },
        }
    }

    async fn begin_failing(
        &self,
        operation: &'static str,
        subscription: &SubscriptionId,
        now_ms: i64,
        expires_at: i64,
    ) -> Result<i64, StoreError> {
        let mut item = note_key(subscription);
        item.insert(SINCE.to_owned(), n(now_ms));
        item.insert(LAST.to_owned(), n(now_ms));
        item.insert(EXPIRES_AT.to_owned(), n(expires_at));
        // Of two workers that see it at once one begins the count.
        let call = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(#last) OR #last < :recent")
            .expression_attribute_names("#last", LAST)
            .expression_attribute_values(":recent", n(now_ms - FORGOTTEN_AFTER_MS))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let error = match Box::pin(call.send()).await {
            Ok(_) => return Ok(now_ms),
            Err(error) => error,
        };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(failed)) => {
                let item = failed.item().cloned().unwrap_or_default();
                ItemReader::new(operation, item).number(SINCE)
            }
            _ => Err(StoreError::from_sdk(operation, &error)),
        }
    }

    /// The subscription's destination was reached. Since when it had been failing, in ms since 1970; `None` if it had not, as
    /// far as any worker knows.
    pub async fn note_recovered(
        &self,
        subscription: &SubscriptionId,
    ) -> Result<Option<i64>, StoreError> {
        let operation = "note a recovered destination";
        let call = self
            .client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(note_key(subscription)))
            .return_values(ReturnValue::AllOld);
        let gone = Box::pin(call.send()).await.map_err(|e| StoreError::from_sdk(operation, &e))?;
        match gone.attributes {
            None => Ok(None),
            Some(item) => ItemReader::new(operation, item).number(SINCE).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{store, subscription};
    use super::*;
    use crate::testing::NOW;

    const HOUR: i64 = FORGOTTEN_AFTER_MS;

    #[tokio::test(start_paused = true)]
    async fn the_count_goes_on_over_workers_and_begins_again_after_a_success_or_a_silence() {
        let (_aws, store) = store().await;
        let (one, other) = (subscription("sub_a"), subscription("sub_b"));
        let at = async |id: &SubscriptionId, ms: i64| store.note_failing(id, ms).await.unwrap();
        assert_eq!(at(&one, NOW).await, NOW);
        for hour in 1..=48 {
            assert_eq!(at(&one, NOW + hour * HOUR).await, NOW, "hour {hour}");
        }
        assert_eq!(at(&other, NOW + HOUR).await, NOW + HOUR, "each has its own");
        assert_eq!(store.note_recovered(&one).await, Ok(Some(NOW)));
        assert_eq!(store.note_recovered(&one).await, Ok(None));
        assert_eq!(at(&one, NOW + 49 * HOUR).await, NOW + 49 * HOUR);
        assert_eq!(at(&one, NOW + 50 * HOUR + 1).await, NOW + 50 * HOUR + 1, "too long ago");
    }
}
