//! Dead letters: what could not be processed, kept for a fortnight with its raw payload.
//!
//! The key is made of arrival, position and subscription, never of the time of giving up: giving up
//! the same message again, after a restart, writes the same item.

use futures::future::FutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::dead_item::{AT, Head, expiry, from_item, to_item};
use super::keys::{dead_key, dead_partition};
use super::{DeadLetter, DeadLetterPage, DeliveryStore};
use crate::batch::{Planned, wire_bytes};
use crate::error::StoreError;
use crate::identity::{IntegrationName, MessageId};
use crate::item::{Item, PK, SK, is_expired, key, n, s};
use crate::messages::{PutOutcome, PutReport, RetryReason};
use crate::parts::PART_BYTES;
use crate::subscriptions::SubscriptionId;

/// Most letters of one page.
const MAX_PAGE: usize = 100;
/// Most payload bytes of one page; one letter is always given, however large.
const MAX_PAGE_BYTES: usize = 8 * 1024 * 1024;
/// Payloads in parts written or read at once.
const MAX_PARALLEL: usize = 2;

impl DeliveryStore {
    /// Writes dead letters once; one outcome each, in order. Writing one again is harmless.
    pub async fn dead_letter(&self, letters: &[DeadLetter]) -> PutReport {
        let (large, small): (Vec<usize>, Vec<usize>) =
            (0..letters.len()).partition(|i| letters[*i].payload.len() > PART_BYTES);
        let planned: Vec<Planned> =
            small.iter().map(|i| planned(&letters[*i], letters[*i].payload.len())).collect();
        let build = |at: usize| to_item(&letters[small[at]], None);
        let small_outcomes = self.letters.write(&planned, &build).await;
        let calls: Vec<_> = large.iter().map(|i| self.put_large(&letters[*i]).boxed()).collect();
        let large_outcomes: Vec<PutOutcome> =
            stream::iter(calls).buffered(MAX_PARALLEL).collect().await;
        let mut indexed: Vec<(usize, PutOutcome)> = small
            .iter()
            .copied()
            .zip(small_outcomes)
            .chain(large.into_iter().zip(large_outcomes))
            .collect();
        indexed.sort_unstable_by_key(|(index, _)| *index);
        PutReport { outcomes: indexed.into_iter().map(|(_, outcome)| outcome).collect() }
    }

    async fn put_large(&self, letter: &DeadLetter) -> PutOutcome {
        let subscription = letter.subscription.as_ref().map_or("-", SubscriptionId::as_str);
        // `at_ms` tells two writings of one letter apart: the parts of the older one expire by
        // themselves, and never under the younger one's head.
        let name =
            format!("dead/{}/{subscription}/{}", MessageId::derive(&letter.position), letter.at_ms);
        let parts = match self.letter_parts.write(&name, &letter.payload, expiry(letter)).await {
            Ok(parts) => parts,
            Err(outcome) => return outcome,
        };
        let head = [planned(letter, 0)];
        let mut outcomes = self.letters.write(&head, &|_| to_item(letter, Some(&parts))).await;
        outcomes.pop().unwrap_or(PutOutcome::Retry(RetryReason::Unprocessed))
    }

    /// An integration's dead letters, the newest arrival first, at most `limit` (1 to 100) and 8 MiB. `after` is
    /// the `next` of the page before; what expired before `now_ms` does not exist.
    pub async fn list_dead_letters(
        &self,
        integration: &IntegrationName,
        after: Option<&str>,
        limit: usize,
        now_ms: i64,
    ) -> Result<DeadLetterPage, StoreError> {
        let operation = "list dead letters";
        if !(1..=MAX_PAGE).contains(&limit) {
            let detail = format!("limit is {limit}: 1 to {MAX_PAGE} is allowed");
            return Err(StoreError::Invalid { operation, detail });
        }
        let partition = dead_partition(integration);
        let call = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#pk = :pk")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_values(":pk", s(partition.clone()))
            .set_exclusive_start_key(after.map(|sort| key(partition, sort)))
            .scan_index_forward(false)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX));
        let answer =
            Box::pin(call.send()).await.map_err(|e| StoreError::from_sdk(operation, &e))?;
        let next = answer.last_evaluated_key.as_ref().and_then(last_sort);
        let heads: Result<Vec<Head>, StoreError> = answer
            .items
            .unwrap_or_default()
            .into_iter()
            .map(|item| from_item(operation, item))
            .collect();
        let mut live = heads?;
        live.retain(|head| !is_expired(head.expires_at_s, now_ms));
        let next = cut_page(&mut live).or(next);
        let reads: Vec<_> =
            live.into_iter().map(|head| self.complete(operation, head).boxed()).collect();
        let letters = stream::iter(reads).buffered(MAX_PARALLEL).try_collect().await?;
        Ok(DeadLetterPage { letters, next })
    }

    pub(super) async fn complete(
        &self,
        operation: &'static str,
        head: Head,
    ) -> Result<DeadLetter, StoreError> {
        let mut letter = head.letter;
        if let Some(parts) = &head.parts {
            letter.payload = self.letter_parts.read(operation, parts, true).await?;
        }
        Ok(letter)
    }

    /// Removes a dead letter: it was sent again, or an operator is done with it. False if it was given up anew
    /// since it was read, or is gone already: then nothing is removed.
    pub async fn forget_dead_letter(&self, letter: &DeadLetter) -> Result<bool, StoreError> {
        let at = dead_key(letter);
        let call = self
            .client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(key(at.partition, at.sort)))
            .condition_expression("#at = :at")
            .expression_attribute_names("#at", AT)
            .expression_attribute_values(":at", n(letter.at_ms));
        match Box::pin(call.send()).await {
            Ok(_) => Ok(true),
            Err(error) => match StoreError::from_sdk("forget dead letter", &error) {
                StoreError::Conflict { .. } => Ok(false),
                error => Err(error),
            },
        }
    }
}

fn planned(letter: &DeadLetter, payload: usize) -> Planned {
    Planned { key: dead_key(letter), wire_bytes: wire_bytes(payload) }
}

/// Ends a page before it is over its bytes, and gives where the next one starts if it was cut. The
/// first letter always stays.
fn cut_page(heads: &mut Vec<Head>) -> Option<String> {
    let mut bytes = 0usize;
    let fits = |head: &Head| {
        bytes = bytes.saturating_add(head.payload_bytes());
        bytes <= MAX_PAGE_BYTES
    };
    let keep = heads.iter().map(fits).take_while(|fits| *fits).count().max(1);
    if heads.len() <= keep {
        return None;
    }
    heads.truncate(keep);
    heads.last().map(|head| head.sort.clone())
}

fn last_sort(last: &Item) -> Option<String> {
    last.get(SK)?.as_s().ok().cloned()
}
