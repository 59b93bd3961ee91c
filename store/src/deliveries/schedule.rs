//! Finding parked deliveries: what is due, what waits for a subscription, and making it due now.
//!
//! The indexes are eventually consistent: what they answer is a hint that a conditional write on the
//! item proves. Every loop here is bounded.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::query::QueryOutput;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, Select};
use futures::future::FutureExt;
use futures::stream::{self, StreamExt};

use super::chain_item::read_message_key;
use super::keys::{
    BUCKET, BY_DUE, BY_SUBSCRIPTION, CLAIM, DUE_AT, SUBSCRIPTION, VISIBLE_AT, bucket_text,
    parked_key,
};
use super::parked_item::{IndexRow, index_row, summary};
use super::parking::item_key;
use super::{
    DUE_BUCKETS, DeliveryKey, DeliveryStore, DueDelivery, MadeDue, ParkedCount, ParkedPage,
};
use crate::error::StoreError;
use crate::identity::MessageId;
use crate::item::{Item, ItemReader, PK, SK, n, s};
use crate::subscriptions::SubscriptionId;

/// Most deliveries that one call may find.
const MAX_FOUND: usize = 1_000;
/// Rounds of reading in one call.
pub(super) const MAX_ROUNDS: usize = 50;
/// Writes of `make_due` under way at once.
const MAX_PARALLEL: usize = 8;

pub(super) type LastKey = Option<HashMap<String, AttributeValue>>;

impl DeliveryStore {
    /// Deliveries of one bucket (below [`DUE_BUCKETS`]) that are due at `now_ms` and unclaimed, the
    /// longest due first, at most `limit` (1 to 1,000).
    pub async fn due(
        &self,
        bucket: u16,
        now_ms: i64,
        limit: usize,
    ) -> Result<Vec<DueDelivery>, StoreError> {
        let operation = "find due deliveries";
        if bucket >= DUE_BUCKETS {
            let detail = format!("bucket is {bucket}: 0 to {} is allowed", DUE_BUCKETS - 1);
            return Err(StoreError::Invalid { operation, detail });
        }
        let call = self
            .index(BY_DUE, BUCKET, bucket_text(bucket))
            .key_condition_expression("#hash = :hash AND #visible <= :now")
            .expression_attribute_names("#visible", VISIBLE_AT)
            .expression_attribute_values(":now", n(now_ms))
            .limit(checked_limit(operation, limit)?);
        let rows = rows(operation, send(operation, call).await?.items)?;
        Ok(rows
            .into_iter()
            .map(|row| DueDelivery { key: row.key, due_at_ms: row.visible_at_ms })
            .collect())
    }

    /// Makes up to `limit` (1 to 1,000) deliveries of a subscription due now that were due later, the
    /// soonest first: its destination answers again. What is claimed is left alone.
    pub async fn make_due(
        &self,
        subscription: &SubscriptionId,
        now_ms: i64,
        limit: usize,
    ) -> Result<MadeDue, StoreError> {
        let operation = "make deliveries due";
        let page = checked_limit(operation, limit)?;
        let (mut waiting, mut last): (Vec<IndexRow>, LastKey) = (Vec::new(), None);
        for _ in 0..MAX_ROUNDS {
            let call = self
                .index(BY_SUBSCRIPTION, SUBSCRIPTION, subscription.as_str().to_owned())
                .key_condition_expression("#hash = :hash AND #visible > :now")
                .expression_attribute_names("#visible", VISIBLE_AT)
                .expression_attribute_values(":now", n(now_ms))
                .set_exclusive_start_key(last)
                .limit(page);
            let answer = send(operation, call).await?;
            waiting.extend(
                rows(operation, answer.items)?
                    .into_iter()
                    .filter(|row| !row.claimed && !row.chained),
            );
            last = answer.last_evaluated_key;
            if waiting.len() >= limit || last.is_none() {
                break;
            }
        }
        let more = last.is_some() || waiting.len() > limit;
        waiting.truncate(limit);
        let moves: Vec<_> =
            waiting.iter().map(|row| self.make_one_due(&row.key, now_ms).boxed()).collect();
        let moved: Vec<Result<bool, StoreError>> =
            stream::iter(moves).buffer_unordered(MAX_PARALLEL).collect().await;
        let made =
            moved.into_iter().try_fold(0, |sum, one| one.map(|moved| sum + usize::from(moved)))?;
        Ok(MadeDue { made, more })
    }

    /// Makes one delivery due now. False if it was due, claimed or gone before.
    pub async fn make_one_due(
        &self,
        delivery: &DeliveryKey,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let call = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(item_key(delivery)))
            .update_expression("SET #visible = :now, #due = :now")
            .condition_expression(
                "attribute_exists(#pk) AND #visible > :now AND attribute_not_exists(#claim)",
            )
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#visible", VISIBLE_AT)
            .expression_attribute_names("#due", DUE_AT)
            .expression_attribute_names("#claim", CLAIM)
            .expression_attribute_values(":now", n(now_ms));
        match Box::pin(call.send()).await {
            Ok(_) => Ok(true),
            Err(error) => match StoreError::from_sdk("make deliveries due", &error) {
                StoreError::Conflict { .. } => Ok(false),
                error => Err(error),
            },
        }
    }

    /// Counts a subscription's parked deliveries, up to `cap`.
    pub async fn parked_count(
        &self,
        subscription: &SubscriptionId,
        cap: usize,
    ) -> Result<ParkedCount, StoreError> {
        let (mut count, mut last): (usize, LastKey) = (0, None);
        for _ in 0..MAX_ROUNDS {
            let call = self
                .index(BY_SUBSCRIPTION, SUBSCRIPTION, subscription.as_str().to_owned())
                .key_condition_expression("#hash = :hash")
                .select(Select::Count)
                .set_exclusive_start_key(last)
                .limit(
                    i32::try_from(cap.saturating_sub(count).saturating_add(1)).unwrap_or(i32::MAX),
                );
            let answer = send("count parked deliveries", call).await?;
            count += usize::try_from(answer.count).unwrap_or(0);
            last = answer.last_evaluated_key;
            if last.is_none() || count > cap {
                break;
            }
        }
        let complete = last.is_none() && count <= cap;
        Ok(ParkedCount { count: count.min(cap), complete })
    }

    /// A subscription's parked deliveries without their payloads, the one due first in front.
    /// `after` is the `next` of the page before.
    pub async fn list(
        &self,
        subscription: &SubscriptionId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ParkedPage, StoreError> {
        let operation = "list parked deliveries";
        let start = after.map(|text| start_key(operation, subscription, text)).transpose()?;
        let call = self
            .index(BY_SUBSCRIPTION, SUBSCRIPTION, subscription.as_str().to_owned())
            .key_condition_expression("#hash = :hash")
            .set_exclusive_start_key(start)
            .limit(checked_limit(operation, limit)?);
        let answer = send(operation, call).await?;
        let next = match answer.last_evaluated_key {
            None => None,
            Some(last) => {
                let reader = ItemReader::new(operation, last);
                let row = index_row(&reader)?;
                let at = format!("{}.{}", row.visible_at_ms, row.key.message);
                // A message of a chain is not found by its id.
                let place = (reader.text(PK)?, reader.text(SK)?);
                Some(if row.chained { format!("{at}@{}|{}", place.0, place.1) } else { at })
            }
        };
        let items = answer.items.unwrap_or_default();
        let deliveries: Result<Vec<_>, _> =
            items.into_iter().map(|item| summary(&ItemReader::new(operation, item))).collect();
        Ok(ParkedPage { deliveries: deliveries?, next })
    }

    pub(super) fn index(&self, index: &str, hash: &str, value: String) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.table)
            .index_name(index)
            .expression_attribute_names("#hash", hash)
            .expression_attribute_values(":hash", s(value))
    }
}

pub(super) async fn send(
    operation: &'static str,
    call: QueryFluentBuilder,
) -> Result<QueryOutput, StoreError> {
    Box::pin(call.send()).await.map_err(|e| StoreError::from_sdk(operation, &e))
}

fn rows(operation: &'static str, items: Option<Vec<Item>>) -> Result<Vec<IndexRow>, StoreError> {
    let items = items.unwrap_or_default().into_iter();
    items.map(|item| index_row(&ItemReader::new(operation, item))).collect()
}

fn checked_limit(operation: &'static str, limit: usize) -> Result<i32, StoreError> {
    if (1..=MAX_FOUND).contains(&limit) {
        return Ok(i32::try_from(limit).unwrap_or(i32::MAX));
    }
    let detail = format!("limit is {limit}: 1 to {MAX_FOUND} is allowed");
    Err(StoreError::Invalid { operation, detail })
}

/// The key behind which a list goes on, from `<visible at>.<message id>`, with `@<partition>|<sort>` for a message of a chain.
fn start_key(
    operation: &'static str,
    subscription: &SubscriptionId,
    text: &str,
) -> Result<Item, StoreError> {
    let invalid = || StoreError::Invalid {
        operation,
        detail: "the cursor is not one of this list".to_owned(),
    };
    let (text, place) = text.split_once('@').map_or((text, None), |(at, place)| (at, Some(place)));
    let (visible_at, message) = text.split_once('.').ok_or_else(invalid)?;
    let visible_at: i64 = visible_at.parse().map_err(|_| invalid())?;
    let message = MessageId::parse(message).map_err(|_| invalid())?;
    let (partition, sort) = match place {
        Some(place) => {
            let (partition, sort) = place.split_once('|').ok_or_else(invalid)?;
            let found = read_message_key(partition, sort).ok_or_else(invalid)?;
            if found.subscription != *subscription {
                return Err(invalid());
            }
            (partition.to_owned(), sort.to_owned())
        }
        None => {
            let at = parked_key(&DeliveryKey { subscription: subscription.clone(), message });
            (at.partition, at.sort)
        }
    };
    Ok(HashMap::from([
        (PK.to_owned(), s(partition)),
        (SK.to_owned(), s(sort)),
        (SUBSCRIPTION.to_owned(), s(subscription.as_str())),
        (VISIBLE_AT.to_owned(), n(visible_at)),
    ]))
}
