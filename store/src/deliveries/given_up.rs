//! What was given up for one subscription, without its payloads: for a list that its owner may see.
//!
//! Dead letters are kept by integration, so a subscription's own are picked out of everybody's; how many are looked
//! through for one page is bounded, and a page may be short, or empty, and still have a next one.

use super::dead_item::{AT, DETAIL, REASON};
use super::keys::{ATTEMPTS, INTEGRATION, SUBSCRIPTION, dead_partition};
use super::parked_item::{INDEX, SEQUENCE, SHARD, read_position};
use super::{DeadReason, DeliveryStore};
use crate::error::StoreError;
use crate::identity::{IntegrationName, MessageId};
use crate::item::{EXPIRES_AT, Item, ItemReader, PK, SK, is_expired, key, s};
use crate::messages::item::{ARRIVED_AT, STREAM};
use crate::subscriptions::SubscriptionId;

/// Letters that are looked at in one call, and calls of one page.
const LOOKED_AT: i32 = 1_000;
const MAX_ROUNDS: usize = 2;

/// A delivery that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// Of which message.
    pub message: MessageId,
    /// Of which integration.
    pub integration: IntegrationName,
    /// Why, as a code.
    pub reason: DeadReason,
    /// Why, in words.
    pub detail: String,
    /// Attempts made.
    pub attempts: u32,
    /// When the message arrived, in ms since 1970.
    pub arrived_at_ms: i64,
    /// When it was given up, in ms since 1970.
    pub at_ms: i64,
}

/// Some of them, the newest arrival first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUpPage {
    /// At most as many as were asked for.
    pub given_up: Vec<GivenUp>,
    /// Opaque; pass it to get the next page. `None` at the end.
    pub next: Option<String>,
}

impl DeliveryStore {
    /// What was given up for a subscription of an integration's messages, at most `limit`. `after` is the `next` of the
    /// page before; what expired before `now_ms` does not exist.
    pub async fn given_up(
        &self,
        integration: &IntegrationName,
        subscription: &SubscriptionId,
        after: Option<&str>,
        limit: usize,
        now_ms: i64,
    ) -> Result<GivenUpPage, StoreError> {
        let operation = "list what was given up";
        let partition = dead_partition(integration);
        let mut after = after.map(str::to_owned);
        let mut given_up = Vec::new();
        for _ in 0..MAX_ROUNDS {
            let start = after.as_deref().map(|sort| key(partition.as_str(), sort));
            let (items, last) = self.letters_of(operation, &partition, subscription, start).await?;
            for item in items {
                let reader = ItemReader::new(operation, item);
                if is_expired(reader.number(EXPIRES_AT)?, now_ms) {
                    continue;
                }
                if given_up.len() == limit {
                    return Ok(GivenUpPage { given_up, next: after });
                }
                given_up.push(read(&reader)?);
                after = Some(reader.text(SK)?.to_owned());
            }
            after = last;
            if after.is_none() || given_up.len() == limit {
                break;
            }
        }
        Ok(GivenUpPage { given_up, next: after })
    }

    /// Of the next letters of a partition those of the subscription, and where to go on.
    async fn letters_of(
        &self,
        operation: &'static str,
        partition: &str,
        subscription: &SubscriptionId,
        start: Option<Item>,
    ) -> Result<(Vec<Item>, Option<String>), StoreError> {
        let names = [
            ("#pk", PK),
            ("#sk", SK),
            ("#subscription", SUBSCRIPTION),
            ("#integration", INTEGRATION),
            ("#reason", REASON),
            ("#detail", DETAIL),
            ("#attempts", ATTEMPTS),
            ("#arrived", ARRIVED_AT),
            ("#at", AT),
            ("#expires", EXPIRES_AT),
            ("#stream", STREAM),
            ("#shard", SHARD),
            ("#sequence", SEQUENCE),
            ("#index", INDEX),
        ];
        let mut call = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#pk = :pk")
            .filter_expression("#subscription = :subscription")
            .projection_expression(names.map(|(placeholder, _)| placeholder).join(", "))
            .expression_attribute_values(":pk", s(partition))
            .expression_attribute_values(":subscription", s(subscription.as_str()))
            .set_exclusive_start_key(start)
            .scan_index_forward(false)
            .limit(LOOKED_AT);
        for (placeholder, name) in names {
            call = call.expression_attribute_names(placeholder, name);
        }
        let answer =
            Box::pin(call.send()).await.map_err(|e| StoreError::from_sdk(operation, &e))?;
        let last =
            answer.last_evaluated_key.as_ref().and_then(|last| last.get(SK)?.as_s().ok().cloned());
        Ok((answer.items.unwrap_or_default(), last))
    }
}

fn read(reader: &ItemReader) -> Result<GivenUp, StoreError> {
    Ok(GivenUp {
        message: MessageId::derive(&read_position(reader)?),
        integration: reader.parsed(INTEGRATION, IntegrationName::parse)?,
        reason: reader.parsed(REASON, |code| {
            DeadReason::from_code(code).ok_or_else(|| format!("{code:?} is not known"))
        })?,
        detail: reader.text(DETAIL)?.to_owned(),
        attempts: reader.number(ATTEMPTS)?,
        arrived_at_ms: reader.number(ARRIVED_AT)?,
        at_ms: reader.number(AT)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{parked, store, subscription};
    use super::super::{DEAD_LETTER_RETENTION, DeadLetter};
    use super::*;
    use crate::testing::NOW;

    fn letter(n: u32, of: Option<&str>) -> DeadLetter {
        let message = parked(n, 0).message;
        DeadLetter {
            integration: message.integration,
            reason: DeadReason::DeliveryExhausted,
            detail: "answered 500".to_owned(),
            position: message.position,
            partition_key: message.partition_key,
            arrived_at_ms: message.arrived_at_ms,
            fence: 1,
            attempts: 10,
            payload: "x".repeat(100_000).into(),
            subscription: of.map(subscription),
            at_ms: NOW,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_subscription_finds_its_own_among_everybodys_page_by_page() {
        let (_aws, store) = store().await;
        let letters: Vec<DeadLetter> = (0..60)
            .map(|n| letter(n, [Some("sub_a"), Some("sub_b"), None][n as usize % 3]))
            .collect();
        store.dead_letter(&letters).await;
        let integration = letters[0].integration.clone();
        let page = async |after: Option<&str>, limit, now_ms| {
            store
                .given_up(&integration, &subscription("sub_a"), after, limit, now_ms)
                .await
                .unwrap()
        };
        let expected: Vec<MessageId> =
            (0..20).rev().map(|n| MessageId::derive(&letters[n * 3].position)).collect();
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = page(after.as_deref(), 3, NOW).await;
            assert!(page.given_up.len() <= 3);
            found.extend(page.given_up.into_iter().map(|one| one.message));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, expected);
        let first = page(None, 1, NOW).await.given_up.remove(0);
        assert_eq!((first.reason, first.attempts), (DeadReason::DeliveryExhausted, 10));
        let retention = i64::try_from(DEAD_LETTER_RETENTION.as_millis()).unwrap();
        assert!(page(None, 3, NOW + retention + 1_000).await.given_up.is_empty());
    }
}
