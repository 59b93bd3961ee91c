//! [`DeliveryStore`]: parking, claiming, giving back and settling single deliveries.
//!
//! Each step is one conditional write of one item. A claim carries a token that no other claim has,
//! so whoever lost a claim cannot settle or move what is another's by now. Finding what is due, and
//! moving many at once, is in `schedule`; dead letters are in `dead`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use futures::future::FutureExt;
use futures::stream::{self, StreamExt};

use super::keys::{ATTEMPTS, CLAIM, DUE_AT, LAST_ERROR, VISIBLE_AT, parked_key};
use super::parked_item::{expiry, from_item, to_item};
use super::{Claim, ClaimedDelivery, DeliveryKey, Parked, ParkedDelivery, kept_text};
use crate::batch::BatchWriter;
use crate::error::StoreError;
use crate::item::{EXPIRES_AT, Item, PK, key, n, s};
use crate::messages::{PutOutcome, RetryReason};
use crate::metrics;
use crate::parts::{PartStore, PartsRef};
use crate::replays::ReplayStore;

/// Payloads above this go into parts, so that a claim or a new due time rewrites a small item.
const INLINE_BYTES: usize = 16 * 1024;
/// Parking writes of one call under way at once.
const MAX_PARALLEL: usize = 16;
/// Parts live as long as a delivery can, however often its head's time is prolonged.
const PARTS_KEPT_MS: u128 = 90 * 24 * 3_600 * 1_000;

/// Parked deliveries and dead letters in the table `<app>-deliveries`.
#[derive(Clone, Debug)]
pub struct DeliveryStore {
    pub(super) client: Client,
    pub(super) table: String,
    pub(super) parts: PartStore,
    pub(super) letters: BatchWriter,
    pub(super) letter_parts: PartStore,
    /// Tells claims and parts of this process apart.
    pub(super) serials: Arc<AtomicU64>,
}

impl DeliveryStore {
    /// Over the table of the application `app`. The client's timeouts are its maker's.
    pub fn new(client: Client, app: &str) -> DeliveryStore {
        let table = crate::tables::deliveries_table(app);
        DeliveryStore {
            parts: PartStore::new(client.clone(), table.clone(), "parked"),
            letters: BatchWriter::new(
                client.clone(),
                table.clone(),
                "dead-letter",
                "put dead letters",
            ),
            letter_parts: PartStore::new(client.clone(), table.clone(), "dead-letter"),
            client,
            table,
            serials: Arc::default(),
        }
    }

    /// The replays of the same application.
    pub fn replays(&self) -> ReplayStore {
        ReplayStore::over(self.client.clone(), self.table.clone())
    }

    /// Parks deliveries durably; one outcome each, in order.
    ///
    /// One conditional write per delivery instead of a batch: an item that is there already keeps
    /// its attempts, its schedule and the claim on it, which a batch would overwrite.
    pub async fn park(&self, deliveries: &[ParkedDelivery]) -> Vec<Result<Parked, StoreError>> {
        let calls: Vec<_> =
            deliveries.iter().map(|delivery| self.park_one(delivery).boxed()).collect();
        stream::iter(calls).buffered(MAX_PARALLEL).collect().await
    }

    async fn park_one(&self, delivery: &ParkedDelivery) -> Result<Parked, StoreError> {
        let parts = self.write_parts(delivery).await?;
        let call = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(to_item(delivery, parts.as_ref())))
            .condition_expression("attribute_not_exists(#pk)")
            .expression_attribute_names("#pk", PK);
        match Box::pin(call.send()).await {
            Ok(_) => Ok(Parked::New),
            // Parts that were just written stay until their TTL: the SDK may have repeated a call whose
            // answer was lost, and then they are those of the item that stands.
            Err(error) => match StoreError::from_sdk("park delivery", &error) {
                StoreError::Conflict { .. } => Ok(Parked::Already),
                error => Err(error),
            },
        }
    }

    pub(super) async fn write_parts(
        &self,
        delivery: &ParkedDelivery,
    ) -> Result<Option<PartsRef>, StoreError> {
        let payload = &delivery.message.payload;
        if payload.len() <= INLINE_BYTES {
            return Ok(None);
        }
        // Named after this very writing: removing the parts of a settled delivery must not touch those
        // of the same message parked again, not even by a repetition whose first answer was lost.
        let (id, subscription) = (&delivery.message.id, &delivery.subscription);
        let serial = self.serials.fetch_add(1, Ordering::Relaxed);
        let (failed_at_ms, fence) = (delivery.first_failed_at_ms, delivery.fence);
        let name = format!("{id}/{subscription}/{failed_at_ms}/{fence}/{serial}");
        let expires_at = crate::item::expires_at_s(delivery.due_at_ms, PARTS_KEPT_MS);
        let written = self.parts.write(&name, payload, expires_at).await;
        written.map(Some).map_err(|outcome| as_error("park delivery", outcome))
    }

    /// Claims a due delivery for `lease` (longer than an attempt may take); `None` if it is gone,
    /// claimed by another, or not due any more.
    pub async fn claim(
        &self,
        key: &DeliveryKey,
        worker: &str,
        now_ms: i64,
        lease: Duration,
    ) -> Result<Option<ClaimedDelivery>, StoreError> {
        let until_ms = now_ms.saturating_add(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX));
        let serial = self.serials.fetch_add(1, Ordering::Relaxed);
        let token = format!("{worker}#{now_ms}#{serial}");
        let found = self.claim_item(key, &token, now_ms, until_ms).await?;
        metrics::claimed(found.is_some());
        let Some(item) = found else {
            return Ok(None);
        };
        let (mut delivery, parts) = from_item("claim delivery", item)?;
        if let Some(parts) = &parts {
            delivery.message.payload = self.parts.read("claim delivery", parts, true).await?;
        }
        let claim = Claim { key: key.clone(), worker: worker.to_owned(), until_ms, token, parts };
        Ok(Some(ClaimedDelivery { claim, delivery }))
    }

    /// The item as claimed, or `None` if it could not be.
    async fn claim_item(
        &self,
        key: &DeliveryKey,
        token: &str,
        now_ms: i64,
        until_ms: i64,
    ) -> Result<Option<Item>, StoreError> {
        let call = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(item_key(key)))
            .update_expression("SET #visible = :until, #claim = :claim")
            .condition_expression("attribute_exists(#pk) AND #visible <= :now")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#visible", VISIBLE_AT)
            .expression_attribute_names("#claim", CLAIM)
            .expression_attribute_values(":until", n(until_ms))
            .expression_attribute_values(":now", n(now_ms))
            .expression_attribute_values(":claim", s(token))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match Box::pin(call.send()).await {
            Ok(answer) => Ok(answer.attributes),
            Err(error) => match error.as_service_error() {
                // The SDK repeated the call after its answer was lost: the claim is ours.
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    Ok(failed.item().filter(|item| has_claim(item, token)).cloned())
                }
                _ => Err(StoreError::from_sdk("claim delivery", &error)),
            },
        }
    }

    /// Prolongs a claim to `until_ms`. [`StoreError::Conflict`] if it was lost.
    pub async fn renew(&self, claim: &Claim, until_ms: i64) -> Result<Claim, StoreError> {
        let values = HashMap::from([(":until".to_owned(), n(until_ms))]);
        let names = [("#visible", VISIBLE_AT)];
        self.update_claimed("renew claim", claim, "SET #visible = :until", &names, values).await?;
        Ok(Claim { until_ms, ..claim.clone() })
    }

    /// Gives a claim back after a failed attempt: `attempts` in all, due again at `due_at_ms`.
    /// [`StoreError::Conflict`] if it was lost (another worker attempts it now).
    pub async fn reschedule(
        &self,
        claim: &Claim,
        attempts: u32,
        due_at_ms: i64,
        last_error: &str,
    ) -> Result<(), StoreError> {
        let update = "SET #visible = :due, #due = :due, #attempts = :attempts, #error = :error, \
                      #expires = :expires REMOVE #claim";
        let names = [
            ("#visible", VISIBLE_AT),
            ("#due", DUE_AT),
            ("#attempts", ATTEMPTS),
            ("#error", LAST_ERROR),
            ("#expires", EXPIRES_AT),
        ];
        let values = HashMap::from([
            (":due".to_owned(), n(due_at_ms)),
            (":attempts".to_owned(), n(attempts)),
            (":error".to_owned(), s(kept_text(last_error))),
            (":expires".to_owned(), n(expiry(due_at_ms))),
        ]);
        self.update_claimed("reschedule delivery", claim, update, &names, values).await
    }

    async fn update_claimed(
        &self,
        operation: &'static str,
        claim: &Claim,
        update: &str,
        names: &[(&str, &str)],
        values: HashMap<String, AttributeValue>,
    ) -> Result<(), StoreError> {
        let mut call = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(item_key(&claim.key)))
            .update_expression(update)
            .condition_expression("#claim = :claim")
            .expression_attribute_names("#claim", CLAIM)
            .set_expression_attribute_values(Some(values))
            .expression_attribute_values(":claim", s(claim.token.as_str()));
        for (placeholder, name) in names {
            call = call.expression_attribute_names(*placeholder, *name);
        }
        match Box::pin(call.send()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(claim_lost(StoreError::from_sdk(operation, &error), claim)),
        }
    }

    /// Removes a delivery for good: it was delivered, or is a dead letter by now.
    /// [`StoreError::Conflict`] if the claim was lost and the delivery is still there.
    pub async fn settle(&self, claim: &Claim) -> Result<(), StoreError> {
        let call = self
            .client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(item_key(&claim.key)))
            .condition_expression("#claim = :claim")
            .expression_attribute_names("#claim", CLAIM)
            .expression_attribute_values(":claim", s(claim.token.as_str()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        if let Err(error) = Box::pin(call.send()).await {
            let gone = matches!(
                error.as_service_error(),
                Some(DeleteItemError::ConditionalCheckFailedException(failed)) if failed.item().is_none()
            );
            if !gone {
                return Err(claim_lost(StoreError::from_sdk("settle delivery", &error), claim));
            }
        }
        if let Some(parts) = &claim.parts
            && let Err(error) = self.parts.remove("settle delivery", parts).await
        {
            tracing::debug!(%error, "parts of a settled delivery stay until their TTL");
        }
        Ok(())
    }
}

pub(super) fn item_key(delivery: &DeliveryKey) -> Item {
    let at = parked_key(delivery);
    key(at.partition, at.sort)
}

fn has_claim(item: &Item, token: &str) -> bool {
    item.get(CLAIM).and_then(|v| v.as_s().ok()).is_some_and(|found| found == token)
}

/// Names the delivery in a conflict.
fn claim_lost(error: StoreError, claim: &Claim) -> StoreError {
    match error {
        StoreError::Conflict { operation, .. } => StoreError::Conflict {
            operation,
            what: format!("the claim on {} for {}", claim.key.message, claim.key.subscription),
        },
        other => other,
    }
}

/// The outcome of writing parts as the error of what they belong to.
pub(super) fn as_error(operation: &'static str, outcome: PutOutcome) -> StoreError {
    let detail = "the payload's parts were not all taken".to_owned();
    match outcome {
        PutOutcome::Rejected(detail) => StoreError::Invalid { operation, detail },
        PutOutcome::Retry(RetryReason::Unavailable(detail)) => {
            StoreError::Unavailable { operation, detail }
        }
        PutOutcome::Retry(RetryReason::Refused(detail)) => {
            StoreError::SetUp { operation, code: "parts".to_owned(), detail }
        }
        _ => StoreError::Throttled { operation, detail },
    }
}
