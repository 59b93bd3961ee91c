//! Chains: deliveries that wait in the order of the stream, because the first of them failed.
//!
//! A chain stands as long as its head does. It is worked off by the owner of a shard alone: whoever acquires the shard
//! takes a [`Tenure`] first, and every write of a chain proves it, so that an owner that was replaced can neither
//! reorder nor add anything. Each call also carries a number that is larger than that of every call before it, and is refused
//! once a larger one was seen: a call that was given up, and reaches the table after later ones, changes nothing. All writes are
//! absolute and may be repeated. Nothing here decides when to try again.

use std::collections::HashMap;
use std::sync::Arc;

use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, Delete, Put, TransactWriteItem};

use super::chain_item::{
    RESUMED, head_bound, head_item, head_key, heads_partition, message_item, message_key,
    messages_partition, read_head, read_message,
};
use super::parked_item::expiry;
use super::tenure::Tenure;
use super::{DeliveryStore, ParkedDelivery};
use crate::epoch::{cancelled_because, not_built};
use crate::error::StoreError;
use crate::identity::MessageId;
use crate::item::{Item, PK, SK, key, n, s};
use crate::parts::PartsRef;
use crate::subscriptions::SubscriptionId;

/// Writes that one call of [`DeliveryStore::write_chains`] takes.
pub const CHAIN_WRITES: usize = 50;
/// Pages that one reading of heads may take, of about 5,000 each.
const MAX_PAGES: usize = 200;

/// What is in order: the messages of a shard whose hash keys lie in a range. `start = end` for those of one key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainKey {
    /// The first hash key.
    pub start: u128,
    /// The last one.
    pub end: u128,
    /// Id of the shard that the messages were read from.
    pub shard: Arc<str>,
}

impl ChainKey {
    /// It is of more than one hash key.
    pub fn is_wide(&self) -> bool {
        self.start != self.end
    }

    /// A hash key lies in both.
    pub fn overlaps(&self, other: &ChainKey) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}

/// A chain of one subscription in one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// For whom.
    pub subscription: SubscriptionId,
    /// ARN of the stream.
    pub stream_arn: Arc<str>,
    /// Of what.
    pub key: ChainKey,
}

/// Where a chain stands: what its first message met, and when it is attempted next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainHead {
    /// The message that the attempts are of; another one that is first by now was not attempted.
    pub message: Option<MessageId>,
    /// Attempts made so far.
    pub attempts: u32,
    /// When the first of them failed, in ms since 1970.
    pub first_failed_at_ms: i64,
    /// When the next attempt is due, in ms since 1970.
    pub due_at_ms: i64,
    /// What the last one met, in words.
    pub last_error: String,
    /// It was given up, and the chain waits for an operator.
    pub stopped: bool,
}

/// A message of a chain, read back whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainedDelivery {
    /// What to attempt.
    pub delivery: ParkedDelivery,
    pub(super) parts: Option<PartsRef>,
}

impl ChainedDelivery {
    /// A message that was appended as this, and not read back. Where its payload is kept in parts these stay until their time to live has passed.
    pub fn appended(delivery: ParkedDelivery) -> ChainedDelivery {
        ChainedDelivery { delivery, parts: None }
    }
}

/// The first messages of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainPage {
    /// In the order of the stream.
    pub deliveries: Vec<ChainedDelivery>,
    /// There may be more.
    pub more: bool,
}

/// One write of a chain.
#[derive(Clone, Debug)]
pub enum ChainWrite {
    /// One more message; where it stands follows from its position.
    Append(ParkedDelivery),
    /// The chain stands, like this.
    Stand(ChainHead),
    /// A message is delivered, or a dead letter by now.
    Settle(ChainedDelivery),
    /// The chain has no message left.
    Clear,
}

impl DeliveryStore {
    /// The chains that stand and overlap a range of hash keys, those of its own keys and those of a range that it is a part of.
    pub async fn chains(
        &self,
        subscription: &SubscriptionId,
        stream_arn: &str,
        (start, end): (u128, u128),
    ) -> Result<Vec<(ChainKey, ChainHead)>, StoreError> {
        let partition = heads_partition(subscription, stream_arn);
        let (from, to) = (head_bound("key", start, '#'), head_bound("key", end, '~'));
        let mut found = self.heads(&partition, from, to).await?;
        let (from, to) = (head_bound("wide", 0, '#'), head_bound("wide", end, '~'));
        let wide = self.heads(&partition, from, to).await?;
        found.extend(wide.into_iter().filter(|(chain, _)| chain.end >= start));
        Ok(found)
    }

    /// Those, and what may stand before one of them: a chain of a whole shard reaches into ranges that are no part of `range`, and
    /// there ancestors' chains may stand that come before it.
    pub async fn chains_and_before(
        &self,
        subscription: &SubscriptionId,
        stream_arn: &str,
        range: (u128, u128),
    ) -> Result<Vec<(ChainKey, ChainHead)>, StoreError> {
        let mut range = range;
        loop {
            let found = self.chains(subscription, stream_arn, range).await?;
            let reach = |(start, end): (u128, u128), (chain, _): &(ChainKey, ChainHead)| {
                (start.min(chain.start), end.max(chain.end))
            };
            let reached = found.iter().fold(range, reach);
            if reached == range {
                return Ok(found);
            }
            range = reached;
        }
    }

    async fn heads(
        &self,
        partition: &str,
        from: String,
        to: String,
    ) -> Result<Vec<(ChainKey, ChainHead)>, StoreError> {
        let operation = "load chains";
        let (mut found, mut last) = (Vec::new(), None);
        for _ in 0..MAX_PAGES {
            let call = self
                .query_consistently(partition)
                .key_condition_expression("#pk = :pk AND #sk BETWEEN :from AND :to")
                .expression_attribute_names("#sk", SK)
                .expression_attribute_values(":from", s(from.as_str()))
                .expression_attribute_values(":to", s(to.as_str()))
                .set_exclusive_start_key(last);
            let answer =
                Box::pin(call.send()).await.map_err(|e| StoreError::from_sdk(operation, &e))?;
            for item in answer.items.unwrap_or_default() {
                found.push(read_head(operation, item)?);
            }
            last = answer.last_evaluated_key;
            if last.is_none() {
                return Ok(found);
            }
        }
        let detail = format!("more than {MAX_PAGES} pages of chains: that many are not supported");
        Err(StoreError::Invalid { operation, detail })
    }

    /// Where one chain stands; `None` if it does not.
    pub async fn chain(&self, chain: &Chain) -> Result<Option<ChainHead>, StoreError> {
        let operation = "look at a chain";
        let item = self.item_at(operation, head_key(chain)).await?;
        item.map(|item| read_head(operation, item).map(|(_, head)| head)).transpose()
    }

    /// The first messages of a chain, at most `limit`.
    pub async fn chain_page(&self, chain: &Chain, limit: usize) -> Result<ChainPage, StoreError> {
        let operation = "read a chain";
        let call = self
            .query_consistently(&messages_partition(chain))
            .key_condition_expression("#pk = :pk")
            .limit(i32::try_from(limit.max(1)).unwrap_or(i32::MAX));
        let answer =
            Box::pin(call.send()).await.map_err(|e| StoreError::from_sdk(operation, &e))?;
        let mut deliveries = Vec::new();
        for item in answer.items.unwrap_or_default() {
            let mut chained = read_message(operation, item)?;
            if let Some(parts) = &chained.parts {
                chained.delivery.message.payload = self.parts.read(operation, parts, true).await?;
            }
            deliveries.push(chained);
        }
        Ok(ChainPage { deliveries, more: answer.last_evaluated_key.is_some() })
    }

    fn query_consistently(
        &self,
        partition: &str,
    ) -> aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .expression_attribute_names("#pk", PK)
            .expression_attribute_values(":pk", s(partition))
    }

    /// Does up to [`CHAIN_WRITES`] writes, all or none. No item may be written twice in one call: see [`write_target`].
    /// [`StoreError::Conflict`] if the tenure is over: then nothing was written, and nothing ever will be. A call whose outcome is not known is
    /// to be made again before any other of the tenure, and one at a time.
    pub async fn write_chains(
        &self,
        tenure: &Tenure,
        writes: &[(ChainKey, ChainWrite)],
    ) -> Result<(), StoreError> {
        let operation = "write chains";
        let proof = self.proof_of(tenure).map_err(|e| not_built(operation, &e))?;
        let mut items = vec![TransactWriteItem::builder().update(proof).build()];
        for (key, write) in writes {
            items.push(self.chain_write(operation, &tenure.chain(key), write).await?);
        }
        let call = self.client.transact_write_items().set_transact_items(Some(items));
        if let Err(error) = Box::pin(call.send()).await {
            return Err(match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                    let codes = cancelled.cancellation_reasons().iter().filter_map(|r| r.code());
                    let what = format!("the tenure of {}'s chains", tenure.shard_id);
                    cancelled_because(operation, &what, codes)
                }
                _ => StoreError::from_sdk(operation, &error),
            });
        }
        for (_, write) in writes {
            if let ChainWrite::Settle(ChainedDelivery { parts: Some(parts), .. }) = write
                && let Err(error) = self.parts.remove("settle delivery", parts).await
            {
                tracing::debug!(%error, "parts of a settled delivery stay until their TTL");
            }
        }
        Ok(())
    }

    async fn chain_write(
        &self,
        operation: &'static str,
        chain: &Chain,
        write: &ChainWrite,
    ) -> Result<TransactWriteItem, StoreError> {
        let item = match write {
            ChainWrite::Append(delivery) => {
                let parts = self.write_parts(delivery).await?;
                Ok(message_item(chain, delivery, parts.as_ref()))
            }
            ChainWrite::Stand(head) => Ok(head_item(chain, head)),
            ChainWrite::Settle(chained) => {
                let at = message_key(chain, &chained.delivery);
                Err(key(at.partition, at.sort))
            }
            ChainWrite::Clear => Err(head_key(chain)),
        };
        let built = match item {
            Ok(item) => self.put_one(item).map(|put| TransactWriteItem::builder().put(put)),
            Err(key) => self.delete_one(key).map(|del| TransactWriteItem::builder().delete(del)),
        };
        Ok(built.map_err(|e| not_built(operation, &e))?.build())
    }

    fn put_one(&self, item: Item) -> Result<Put, aws_sdk_dynamodb::error::BuildError> {
        Put::builder().table_name(&self.table).set_item(Some(item)).build()
    }

    fn delete_one(&self, key: Item) -> Result<Delete, aws_sdk_dynamodb::error::BuildError> {
        Delete::builder().table_name(&self.table).set_key(Some(key)).build()
    }

    /// Lets the chain that stopped at this message go on, with all attempts before it. True if it does, also if it did before; false if no
    /// chain stands at this message. The shard's owner sees it within seconds.
    pub async fn resume_chain(
        &self,
        subscription: &SubscriptionId,
        stream_arn: &Arc<str>,
        message: &MessageId,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let found = self.chains(subscription, stream_arn, (0, u128::MAX)).await?;
        let at_it = |head: &ChainHead| head.message.as_ref() == Some(message);
        let Some((key, head)) = found.into_iter().find(|(_, head)| at_it(head)) else {
            return Ok(false);
        };
        if !head.stopped {
            return Ok(true);
        }
        let (subscription, stream_arn) = (subscription.clone(), Arc::clone(stream_arn));
        self.resume(&Chain { subscription, stream_arn, key }, message, now_ms).await
    }

    async fn resume(
        &self,
        chain: &Chain,
        message: &MessageId,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let values: HashMap<String, AttributeValue> = HashMap::from([
            (":zero".to_owned(), n(0)),
            (":due".to_owned(), n(now_ms)),
            (":expires".to_owned(), n(expiry(now_ms))),
            (":message".to_owned(), s(message.as_str())),
        ]);
        let mut call = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(head_key(chain)))
            .update_expression(
                "SET #attempts = :zero, #due = :due, #expires = :expires REMOVE #stopped",
            )
            .condition_expression("attribute_exists(#stopped) AND #message = :message")
            .set_expression_attribute_values(Some(values));
        for (placeholder, name) in RESUMED {
            call = call.expression_attribute_names(placeholder, name);
        }
        match Box::pin(call.send()).await {
            Ok(_) => Ok(true),
            Err(error) => match StoreError::from_sdk("resume a chain", &error) {
                StoreError::Conflict { .. } => Ok(false),
                error => Err(error),
            },
        }
    }
}

/// What a write writes: no two writes of one call may share it.
pub fn write_target<'a>(
    key: &'a ChainKey,
    write: &'a ChainWrite,
) -> (&'a ChainKey, Option<&'a MessageId>) {
    match write {
        ChainWrite::Append(delivery) => (key, Some(&delivery.message.id)),
        ChainWrite::Settle(chained) => (key, Some(&chained.delivery.message.id)),
        ChainWrite::Stand(_) | ChainWrite::Clear => (key, None),
    }
}
