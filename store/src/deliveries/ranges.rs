//! Open ranges: what a destination lacks of one shard, from a place on, kept as one item however much it is.
//!
//! The stream itself holds the messages; the item says from where on they are owed to whom. There is at
//! most one for a shard and a subscription, and all of a shard's stand in one partition, so that whoever
//! takes the shard over reads them together. Every write carries the claim it was made under: who takes a
//! range over changes the claim, and no former holder can move or remove it any more. A range that nobody
//! holds any more is found by the index of due deliveries, in buckets of its own. Nothing here reads a
//! stream or decides when to open or to close. Start at [`OpenRange`].

use std::sync::Arc;

use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::ReturnValue;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure as OnFailure;
use futures::future::FutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::DeliveryStore;
use super::keys::{BUCKET, BY_DUE, BY_SUBSCRIPTION, CLAIM, SUBSCRIPTION, VISIBLE_AT};
use super::range_item::{
    bucket_text, from_item, index_name, item_key, partition, read_key, to_item,
};
use crate::error::StoreError;
use crate::item::{ItemReader, PK, n, s};
use crate::messages::item::FENCE;
use crate::subscriptions::SubscriptionId;

/// Buckets that ranges are found in once nobody holds them.
pub const RANGE_BUCKETS: u16 = 4;

/// Most ranges of one shard, or of one subscription, that are read.
const MAX_RANGES: usize = 10_000;
/// Calls under way at once.
const MAX_PARALLEL: usize = 8;
/// What is owed to a subscription of one shard: everything from a place on that it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRange {
    /// To whom.
    pub subscription: SubscriptionId,
    /// ARN of the stream.
    pub stream_arn: Arc<str>,
    /// The shard in it.
    pub shard_id: Arc<str>,
    /// The shard's first and last hash key: who reads the shard after its end has no lease to ask.
    pub hash_keys: (u128, u128),
    /// Where it begins.
    pub from: RangeStart,
    /// When it was opened, in ms since 1970.
    pub opened_at_ms: i64,
    /// When the stream will have lost its beginning, in ms since 1970.
    pub lost_at_ms: i64,
    /// The subscription's version when it was written last.
    pub version: u64,
    /// Counter of the last lease under which the range was held.
    pub fence: u64,
    /// What no other holder has: proves this one.
    pub claim: String,
    /// Until when it is held, in ms since 1970: behind this anybody may claim it.
    pub until_ms: i64,
}

/// The first place of a shard that a range covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeStart {
    /// Sequence number of the record.
    pub sequence: Arc<str>,
    /// The user record in its aggregate; 0 if there is none.
    pub index: u32,
    /// When it arrived, in ms since 1970.
    pub arrived_at_ms: i64,
}

/// What identifies a range.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RangeKey {
    /// ARN of the stream.
    pub stream_arn: Arc<str>,
    /// The shard in it.
    pub shard_id: Arc<str>,
    /// To whom.
    pub subscription: SubscriptionId,
}

/// A range that nobody holds any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdriftRange {
    /// Which.
    pub key: RangeKey,
    /// Since when, in ms since 1970.
    pub since_ms: i64,
}

/// A new holder of ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder<'a> {
    /// What no other holder has.
    pub claim: &'a str,
    /// Until when the ranges are held, in ms since 1970.
    pub until_ms: i64,
}

impl OpenRange {
    /// What identifies it.
    pub fn key(&self) -> RangeKey {
        RangeKey {
            stream_arn: Arc::clone(&self.stream_arn),
            shard_id: Arc::clone(&self.shard_id),
            subscription: self.subscription.clone(),
        }
    }
}

impl DeliveryStore {
    /// Opens a range, or writes it again after an answer that was lost.
    /// [`StoreError::Conflict`] if another holder has one open there.
    pub async fn open_range(&self, range: &OpenRange) -> Result<(), StoreError> {
        self.put_range("open range", range, "attribute_not_exists(#pk) OR #claim = :claim").await
    }

    /// Writes how far a range has got, and until when it is held.
    /// [`StoreError::Conflict`] if it is another's, or gone.
    pub async fn write_range(&self, range: &OpenRange) -> Result<(), StoreError> {
        self.put_range("write range", range, "attribute_exists(#pk) AND #claim = :claim").await
    }

    async fn put_range(
        &self,
        operation: &'static str,
        range: &OpenRange,
        condition: &str,
    ) -> Result<(), StoreError> {
        let call = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(to_item(range)))
            .condition_expression(condition)
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#claim", CLAIM)
            .expression_attribute_values(":claim", s(range.claim.as_str()));
        match Box::pin(call.send()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(StoreError::from_sdk(operation, &error)),
        }
    }

    /// Removes a range: nothing is owed any more. One that is gone already is no error;
    /// [`StoreError::Conflict`] if it is another's.
    pub async fn remove_range(&self, key: &RangeKey, claim: &str) -> Result<(), StoreError> {
        let call = self
            .client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(item_key(key)))
            .condition_expression("#claim = :claim")
            .expression_attribute_names("#claim", CLAIM)
            .expression_attribute_values(":claim", s(claim))
            .return_values_on_condition_check_failure(OnFailure::AllOld);
        match Box::pin(call.send()).await {
            Ok(_) => Ok(()),
            Err(error) => match error.as_service_error() {
                Some(DeleteItemError::ConditionalCheckFailedException(failed))
                    if failed.item().is_none() =>
                {
                    Ok(())
                }
                _ => Err(StoreError::from_sdk("remove range", &error)),
            },
        }
    }

    /// Takes over all ranges of a shard under a lease of this counter, whoever holds them; read
    /// consistently. [`StoreError::Conflict`] if one was held under a later lease: this one is lost.
    pub async fn take_ranges(
        &self,
        stream_arn: &str,
        shard_id: &str,
        fence: u64,
        holder: Holder<'_>,
    ) -> Result<Vec<OpenRange>, StoreError> {
        let operation = "take ranges";
        let of_shard = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("#pk = :pk")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_values(":pk", s(partition(stream_arn, shard_id)));
        let found = self.keys_of(operation, of_shard).await?;
        let takes: Vec<_> =
            found.iter().map(|key| self.take_one(key, Some(fence), 0, holder).boxed()).collect();
        let taken: Vec<Option<OpenRange>> =
            stream::iter(takes).buffer_unordered(MAX_PARALLEL).try_collect().await?;
        Ok(taken.into_iter().flatten().collect())
    }

    /// Claims a range that nobody holds at `now_ms`; `None` if it is gone, or held.
    pub async fn claim_range(
        &self,
        key: &RangeKey,
        now_ms: i64,
        holder: Holder<'_>,
    ) -> Result<Option<OpenRange>, StoreError> {
        self.take_one(key, None, now_ms, holder).await
    }

    /// Takes over a range of a shard under a lease of this counter, whoever holds it; `None` if it is gone.
    /// [`StoreError::Conflict`] if it was held under a later lease: this one is lost.
    pub async fn take_range(
        &self,
        key: &RangeKey,
        fence: u64,
        holder: Holder<'_>,
    ) -> Result<Option<OpenRange>, StoreError> {
        self.take_one(key, Some(fence), 0, holder).await
    }

    /// Under a lease: whoever holds it, but under no later lease. Without: only what nobody holds.
    async fn take_one(
        &self,
        key: &RangeKey,
        fence: Option<u64>,
        now_ms: i64,
        holder: Holder<'_>,
    ) -> Result<Option<OpenRange>, StoreError> {
        let operation = if fence.is_some() { "take ranges" } else { "claim range" };
        let call = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(item_key(key)))
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#claim", CLAIM)
            .expression_attribute_names("#until", VISIBLE_AT)
            .expression_attribute_values(":claim", s(holder.claim))
            .expression_attribute_values(":until", n(holder.until_ms))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(OnFailure::AllOld);
        let call = match fence {
            Some(fence) => call
                .update_expression("SET #claim = :claim, #until = :until, #fence = :fence")
                .condition_expression("attribute_exists(#pk) AND #fence <= :fence")
                .expression_attribute_names("#fence", FENCE)
                .expression_attribute_values(":fence", n(fence)),
            None => call
                .update_expression("SET #claim = :claim, #until = :until")
                .condition_expression("attribute_exists(#pk) AND #until <= :now")
                .expression_attribute_values(":now", n(now_ms)),
        };
        let found = match Box::pin(call.send()).await {
            Ok(answer) => answer.attributes,
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    let item = failed.item().cloned();
                    let range =
                        item.map(|item| from_item(ItemReader::new(operation, item))).transpose()?;
                    // The SDK repeated the call after its answer was lost: it is ours.
                    return match range {
                        Some(range) if range.claim == holder.claim => Ok(Some(range)),
                        Some(_) if fence.is_some() => Err(StoreError::from_sdk(operation, &error)),
                        _ => Ok(None),
                    };
                }
                _ => return Err(StoreError::from_sdk(operation, &error)),
            },
        };
        found.map(|item| from_item(ItemReader::new(operation, item))).transpose()
    }

    /// Ranges of one bucket (below [`RANGE_BUCKETS`]) that nobody holds at `now_ms`, the longest so
    /// first, at most `limit`.
    pub async fn adrift_ranges(
        &self,
        bucket: u16,
        now_ms: i64,
        limit: usize,
    ) -> Result<Vec<AdriftRange>, StoreError> {
        let operation = "find ranges adrift";
        let call = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(BY_DUE)
            .key_condition_expression("#hash = :hash AND #until <= :now")
            .expression_attribute_names("#hash", BUCKET)
            .expression_attribute_names("#until", VISIBLE_AT)
            .expression_attribute_values(":hash", s(bucket_text(bucket)))
            .expression_attribute_values(":now", n(now_ms))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX));
        let answer =
            Box::pin(call.send()).await.map_err(|e| StoreError::from_sdk(operation, &e))?;
        let rows = answer.items.unwrap_or_default().into_iter();
        rows.map(|item| {
            let reader = ItemReader::new(operation, item);
            Ok(AdriftRange { key: read_key(&reader)?, since_ms: reader.number(VISIBLE_AT)? })
        })
        .collect()
    }

    /// A subscription's open ranges, the longest open first: for status pages and lists, a moment late.
    pub async fn list_ranges(
        &self,
        subscription: &SubscriptionId,
    ) -> Result<Vec<OpenRange>, StoreError> {
        let operation = "list ranges";
        let of_subscription = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(BY_SUBSCRIPTION)
            .key_condition_expression("#hash = :hash")
            .expression_attribute_names("#hash", SUBSCRIPTION)
            .expression_attribute_values(":hash", s(index_name(subscription)));
        let found = self.keys_of(operation, of_subscription).await?;
        let reads: Vec<_> = found.iter().map(|key| self.range(operation, key).boxed()).collect();
        let ranges: Vec<Option<OpenRange>> =
            stream::iter(reads).buffered(MAX_PARALLEL).try_collect().await?;
        let mut ranges: Vec<OpenRange> = ranges.into_iter().flatten().collect();
        ranges.sort_by_key(|range| range.opened_at_ms);
        Ok(ranges)
    }

    pub(super) async fn range(
        &self,
        operation: &'static str,
        key: &RangeKey,
    ) -> Result<Option<OpenRange>, StoreError> {
        let item = self.item_at(operation, item_key(key)).await?;
        item.map(|item| from_item(ItemReader::new(operation, item))).transpose()
    }

    /// The keys of all that a query finds.
    async fn keys_of(
        &self,
        operation: &'static str,
        query: QueryFluentBuilder,
    ) -> Result<Vec<RangeKey>, StoreError> {
        let mut pages = query.into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| StoreError::from_sdk(operation, &e))?;
            for item in page.items.unwrap_or_default() {
                found.push(read_key(&ItemReader::new(operation, item))?);
            }
            if found.len() > MAX_RANGES {
                let detail = format!("more than {MAX_RANGES} ranges are open");
                return Err(StoreError::Invalid { operation, detail });
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
#[path = "ranges_tests.rs"]
mod tests;
