//! [`MessageStore`] over the DynamoDB table `<app>-messages`.
//!
//! It never repeats what a call left out (its caller does, more slowly), never answers an expired
//! message, and never looks at more than a bounded number of rounds for one page.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::query::QueryOutput;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, StreamExt, TryStreamExt};

use super::item::{Head, expiry, from_item, to_item};
use super::keys::{Key, Keys, partition};
use super::query::{Range, cursor, plan_range};
use super::{
    Arrivals, ArrivalsPage, ArrivalsQuery, Locator, Message, MessagePage, MessageQuery,
    MessageStore, Order, PutOutcome, PutReport, StoreItem,
};
use crate::batch::{BatchWriter, Planned, wire_bytes};
use crate::error::StoreError;
use crate::identity::{Entity, IntegrationName};
use crate::item::{EXPIRES_AT, PK, SK, is_expired, key, n, s};
use crate::parts::{PART_BYTES, PartStore};

/// Rounds of reading for one page; a page that is still not full goes on at its cursor.
const MAX_ROUNDS: usize = 20;
/// Payloads in parts written or read at once.
const MAX_PARALLEL: usize = 4;

/// Messages in the DynamoDB table `<app>-messages`.
#[derive(Clone, Debug)]
pub struct DynamoMessages {
    pub(super) client: Client,
    pub(super) table: String,
    writer: BatchWriter,
    pub(super) notes: BatchWriter,
    parts: PartStore,
}

impl DynamoMessages {
    /// Over the table of the application `app`. The client's timeouts are its maker's.
    pub fn new(client: Client, app: &str) -> DynamoMessages {
        let table = crate::tables::messages_table(app);
        DynamoMessages {
            writer: BatchWriter::new(client.clone(), table.clone(), "message", "put messages"),
            notes: BatchWriter::new(client.clone(), table.clone(), "arrivals", "note arrivals"),
            parts: PartStore::new(client.clone(), table.clone(), "message"),
            client,
            table,
        }
    }

    /// Small messages and large ones at the same time: parts that wait hold up nobody else.
    async fn put_batch(&self, batch: &[StoreItem]) -> PutReport {
        let (large, small): (Vec<usize>, Vec<usize>) =
            (0..batch.len()).partition(|i| batch[*i].message.payload.len() > PART_BYTES);
        let small_outcomes = self.put_small(batch, &small);
        let calls: Vec<_> = large.iter().map(|i| self.put_large(&batch[*i]).boxed()).collect();
        let large_outcomes = stream::iter(calls).buffered(MAX_PARALLEL).collect::<Vec<_>>();
        let (small_outcomes, large_outcomes) = futures::join!(small_outcomes, large_outcomes);
        let mut indexed: Vec<(usize, PutOutcome)> = small
            .into_iter()
            .zip(small_outcomes)
            .chain(large.into_iter().zip(large_outcomes))
            .collect();
        indexed.sort_unstable_by_key(|(index, _)| *index);
        PutReport { outcomes: indexed.into_iter().map(|(_, outcome)| outcome).collect() }
    }

    async fn put_small(&self, batch: &[StoreItem], small: &[usize]) -> Vec<PutOutcome> {
        let keys = Keys::default();
        let planned: Vec<Planned> = small
            .iter()
            .map(|i| &batch[*i].message)
            .map(|m| Planned { key: keys.of(m), wire_bytes: wire_bytes(m.payload.len()) })
            .collect();
        let build = |at: usize| to_item(&batch[small[at]], &planned[at].key, None);
        self.writer.write(&planned, &build).await
    }

    /// Parts first, then the head that makes them visible.
    async fn put_large(&self, item: &StoreItem) -> PutOutcome {
        let message = &item.message;
        let written = self.parts.write(message.id.as_str(), &message.payload, expiry(item)).await;
        let parts = match written {
            Ok(parts) => parts,
            Err(outcome) => return outcome,
        };
        let head = [Planned { key: Key::of(message), wire_bytes: wire_bytes(0) }];
        let build = |at: usize| to_item(item, &head[at].key, Some(&parts));
        let mut outcomes = self.writer.write(&head, &build).await;
        outcomes.pop().unwrap_or(PutOutcome::Retry(super::RetryReason::Unprocessed))
    }

    async fn query_page(&self, query: &MessageQuery) -> Result<MessagePage, StoreError> {
        let Some(mut range) = plan_range(query)? else {
            return Ok(MessagePage::default());
        };
        let mut page = Page::new(query.limit, query.max_bytes);
        for _ in 0..MAX_ROUNDS {
            let answer = self.query_round(query, &range, page.room()).await?;
            for item in answer.items.unwrap_or_default() {
                let head = from_item("query messages", item)?;
                if !is_expired(head.expires_at_s, query.now_ms) && !page.take(head) {
                    break;
                }
            }
            range.behind = last_sort(answer.last_evaluated_key.as_ref());
            if page.full || range.behind.is_none() {
                break;
            }
        }
        let end = if page.full { page.last() } else { range.behind };
        let next = end.map(|sort| cursor(query, sort));
        let messages = self.complete(page.heads, query.consistent).await?;
        Ok(MessagePage { messages, next })
    }

    async fn query_round(
        &self,
        query: &MessageQuery,
        range: &Range,
        limit: i32,
    ) -> Result<QueryOutput, StoreError> {
        let partition = partition(&query.integration, &query.entity);
        let start = range.behind.as_ref().map(|sort| key(partition.clone(), sort.clone()));
        let call = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#pk = :pk AND #sk BETWEEN :low AND :high")
            .filter_expression("#expires > :now")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#sk", SK)
            .expression_attribute_names("#expires", EXPIRES_AT)
            .expression_attribute_values(":pk", s(partition))
            .expression_attribute_values(":low", s(range.low.clone()))
            .expression_attribute_values(":high", s(range.high.clone()))
            .expression_attribute_values(":now", n(query.now_ms.div_euclid(1_000)))
            .set_exclusive_start_key(start)
            .scan_index_forward(query.order == Order::Oldest)
            .consistent_read(query.consistent)
            .limit(limit);
        Box::pin(call.send()).await.map_err(|e| StoreError::from_sdk("query messages", &e))
    }

    /// Reads the payloads that are in parts.
    async fn complete(
        &self,
        heads: Vec<Head>,
        consistent: bool,
    ) -> Result<Vec<Message>, StoreError> {
        let reads: Vec<_> =
            heads.into_iter().map(|head| self.complete_one(head, consistent).boxed()).collect();
        stream::iter(reads).buffered(MAX_PARALLEL).try_collect().await
    }

    pub(super) async fn complete_one(
        &self,
        head: Head,
        consistent: bool,
    ) -> Result<Message, StoreError> {
        let mut message = head.message;
        if let Some(parts) = &head.parts {
            message.payload = self.parts.read("read message", parts, consistent).await?;
        }
        Ok(message)
    }

    async fn get_at(
        &self,
        locator: &Locator,
        now_ms: i64,
        consistent: bool,
    ) -> Result<Option<Message>, StoreError> {
        let partition = partition(locator.integration(), locator.entity());
        let call = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key(partition, locator.sort())))
            .consistent_read(consistent);
        let answer =
            Box::pin(call.send()).await.map_err(|e| StoreError::from_sdk("get message", &e))?;
        let Some(item) = answer.item else {
            return Ok(None);
        };
        let head = from_item("get message", item)?;
        if is_expired(head.expires_at_s, now_ms) {
            return Ok(None);
        }
        self.complete_one(head, consistent).await.map(Some)
    }

    async fn newest(
        &self,
        integration: &IntegrationName,
        entity: &Entity,
        now_ms: i64,
        consistent: bool,
    ) -> Result<Option<Message>, StoreError> {
        let mut query = MessageQuery::new(integration.clone(), entity.clone(), now_ms);
        (query.limit, query.consistent) = (1, consistent);
        // A run of expired messages may fill rounds: go on while there is somewhere to go.
        for _ in 0..MAX_ROUNDS {
            let mut page = self.query_page(&query).await?;
            if let Some(message) = page.messages.pop() {
                return Ok(Some(message));
            }
            match page.next {
                None => return Ok(None),
                next => query.after = next,
            }
        }
        Ok(None)
    }
}

impl MessageStore for DynamoMessages {
    fn put<'a>(&'a self, batch: &'a [StoreItem]) -> BoxFuture<'a, PutReport> {
        self.put_batch(batch).boxed()
    }

    fn query<'a>(
        &'a self,
        query: &'a MessageQuery,
    ) -> BoxFuture<'a, Result<MessagePage, StoreError>> {
        self.query_page(query).boxed()
    }

    fn latest<'a>(
        &'a self,
        integration: &'a IntegrationName,
        entity: &'a Entity,
        now_ms: i64,
        consistent: bool,
    ) -> BoxFuture<'a, Result<Option<Message>, StoreError>> {
        self.newest(integration, entity, now_ms, consistent).boxed()
    }

    fn get<'a>(
        &'a self,
        locator: &'a Locator,
        now_ms: i64,
        consistent: bool,
    ) -> BoxFuture<'a, Result<Option<Message>, StoreError>> {
        self.get_at(locator, now_ms, consistent).boxed()
    }

    fn get_many<'a>(
        &'a self,
        places: &'a [Locator],
        now_ms: i64,
        max_bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<Option<Message>>, StoreError>> {
        self.get_first(places, now_ms, max_bytes).boxed()
    }

    fn announce<'a>(&'a self, notes: &'a [Arrivals]) -> BoxFuture<'a, PutReport> {
        self.put_arrivals(notes).boxed()
    }

    fn arrivals<'a>(
        &'a self,
        query: &'a ArrivalsQuery,
    ) -> BoxFuture<'a, Result<ArrivalsPage, StoreError>> {
        self.read_arrivals(query).boxed()
    }
}

fn last_sort(last: Option<&crate::item::Item>) -> Option<String> {
    last?.get(SK)?.as_s().ok().cloned()
}

/// A page being filled, up to a count and a number of payload bytes.
struct Page {
    heads: Vec<Head>,
    limit: usize,
    bytes_left: usize,
    full: bool,
}

impl Page {
    fn new(limit: usize, max_bytes: usize) -> Page {
        Page { heads: Vec::new(), limit, bytes_left: max_bytes, full: false }
    }

    /// How many items to look at next: one more than fit, to know whether there are more.
    fn room(&self) -> i32 {
        i32::try_from(self.limit - self.heads.len() + 1).unwrap_or(i32::MAX)
    }

    /// Takes a message; false if it does not fit any more. The first one always fits.
    fn take(&mut self, head: Head) -> bool {
        let bytes = head.payload_bytes();
        let fits = self.heads.is_empty() || bytes <= self.bytes_left;
        if self.heads.len() == self.limit || !fits {
            self.full = true;
            return false;
        }
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.heads.push(head);
        true
    }

    fn last(&self) -> Option<String> {
        self.heads.last().map(|head| head.sort.clone())
    }
}
