//! [`ReplayStore`]: replays in the table `<app>-deliveries`, each step one conditional write.
//!
//! Progress is one transaction: the replay itself under its claim, and the parts that moved. So whoever lost the
//! claim changes nothing any more, and what is written of a replay fits together.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    Put, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
};

use super::change::{Change, End};
use super::item::{
    CLAIM, CLAIMS, PARTITION, PLANNED, REPLAY_BUCKET, RUNNER, STARTED_AT, STATE, UPDATED_AT,
    from_item, part_from_item, part_to_item, parts_partition, to_item,
};
use super::{Replay, ReplayClaim, ReplayCounts, ReplayId, ReplayPart, ReplayState};
use crate::deliveries::{BUCKET, BY_DUE, VISIBLE_AT};
use crate::epoch::{cancelled_because, not_built};
use crate::error::StoreError;
use crate::item::{EXPIRES_AT, Item, PK, SK, is_expired, key, n, s};

/// Most replays that are kept, and parts of one.
const MAX_ITEMS: usize = 20_000;
/// Parts of one transaction, beside the replay itself.
const MAX_PARTS: usize = 99;
/// Most replays that are waiting or running: more than that is somebody's mistake.
const MAX_ACTIVE: usize = 100;

/// Replays in the table `<app>-deliveries`.
#[derive(Clone, Debug)]
pub struct ReplayStore {
    client: Client,
    table: String,
    serials: Arc<AtomicU64>,
}

impl ReplayStore {
    /// Over the table of the application `app`. The client's timeouts are its maker's.
    pub fn new(client: Client, app: &str) -> ReplayStore {
        let table = crate::tables::deliveries_table(app);
        ReplayStore { client, table, serials: Arc::default() }
    }

    pub(crate) fn over(client: Client, table: String) -> ReplayStore {
        ReplayStore { client, table, serials: Arc::default() }
    }

    /// Asks for a replay. [`StoreError::Invalid`] if it makes no sense, or too many wait already;
    /// [`StoreError::Conflict`] if its id is taken.
    pub async fn create(&self, replay: &Replay) -> Result<(), StoreError> {
        self.create_with(replay, None).await
    }

    pub(super) async fn create_with(
        &self,
        replay: &Replay,
        beside: Option<Item>,
    ) -> Result<(), StoreError> {
        let operation = "create replay";
        replay.check().map_err(|detail| StoreError::Invalid { operation, detail })?;
        let active = self.active(operation, i64::MAX, MAX_ACTIVE).await?;
        if active.len() >= MAX_ACTIVE {
            let detail =
                format!("{MAX_ACTIVE} replays wait or run already: let some end, or cancel some");
            return Err(StoreError::Invalid { operation, detail });
        }
        let put = |item| Put::builder().table_name(&self.table).set_item(Some(item));
        let head = put(to_item(replay)?)
            .condition_expression("attribute_not_exists(#pk)")
            .expression_attribute_names("#pk", PK);
        let puts = std::iter::once(head).chain(beside.map(put)).map(|put| {
            let put = put.build().map_err(|e| not_built(operation, &e))?;
            Ok(TransactWriteItem::builder().put(put).build())
        });
        let puts = puts.collect::<Result<Vec<_>, StoreError>>()?;
        self.transact(operation, &format!("replay {}", replay.id), puts).await
    }

    /// Reads a replay; `None` if there is none, or it ended long before `now_ms`.
    pub async fn get(&self, id: &ReplayId, now_ms: i64) -> Result<Option<Replay>, StoreError> {
        let operation = "get replay";
        let call = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(head_key(id)))
            .consistent_read(true);
        let answer =
            Box::pin(call.send()).await.map_err(|e| StoreError::from_sdk(operation, &e))?;
        let live = answer.item.filter(|item| is_live(item, now_ms));
        live.map(|item| from_item(operation, item)).transpose()
    }

    /// All replays that are not over, or ended within [`REPLAY_RETENTION`](super::REPLAY_RETENTION), the newest first.
    pub async fn list(&self, now_ms: i64) -> Result<Vec<Replay>, StoreError> {
        let operation = "list replays";
        let items = self.partition(operation, PARTITION.to_owned()).await?;
        let live = items.into_iter().filter(|item| is_live(item, now_ms));
        let mut replays: Vec<Replay> =
            live.map(|item| from_item(operation, item)).collect::<Result<_, _>>()?;
        replays.sort_by(|a, b| (b.created_at_ms, &b.id).cmp(&(a.created_at_ms, &a.id)));
        Ok(replays)
    }

    /// The parts of a replay, in the order of their sources; none before it is planned.
    pub async fn parts(&self, id: &ReplayId) -> Result<Vec<ReplayPart>, StoreError> {
        let operation = "read a replay's parts";
        let items = self.partition(operation, parts_partition(id)).await?;
        let mut parts: Vec<ReplayPart> = items
            .into_iter()
            .map(|item| part_from_item(operation, item))
            .collect::<Result<_, _>>()?;
        parts.sort_by(|a, b| a.source.cmp(&b.source));
        Ok(parts)
    }

    /// Replays that nobody works on at `now_ms`, the one that waits longest in front, at most 10. A hint that
    /// [`claim`](Self::claim) proves.
    pub async fn claimable(&self, now_ms: i64) -> Result<Vec<ReplayId>, StoreError> {
        self.active("look for replays", now_ms, 10).await
    }

    /// Claims a replay for `lease`; `None` if it is over, gone, or claimed by another.
    pub async fn claim(
        &self,
        id: &ReplayId,
        worker: &str,
        now_ms: i64,
        lease: Duration,
    ) -> Result<Option<(Replay, ReplayClaim)>, StoreError> {
        let operation = "claim replay";
        let serial = self.serials.fetch_add(1, Ordering::Relaxed);
        let claim = ReplayClaim { id: id.clone(), token: format!("{worker}#{now_ms}#{serial}") };
        let call = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(head_key(id)))
            .update_expression(
                "SET #visible = :until, #claim = :claim, #runner = :runner, #state = :running, \
                 #updated = :now, #started = if_not_exists(#started, :now) ADD #claims :one",
            )
            // Who is over stands in no bucket.
            .condition_expression("#bucket = :bucket AND #visible <= :now")
            .set_expression_attribute_names(Some(names(&[
                ("#visible", VISIBLE_AT),
                ("#claim", CLAIM),
                ("#runner", RUNNER),
                ("#state", STATE),
                ("#updated", UPDATED_AT),
                ("#started", STARTED_AT),
                ("#claims", CLAIMS),
                ("#bucket", BUCKET),
            ])))
            .expression_attribute_values(":until", n(until(now_ms, lease)))
            .expression_attribute_values(":claim", s(claim.token.as_str()))
            .expression_attribute_values(":runner", s(worker))
            .expression_attribute_values(":running", s(ReplayState::Running.code()))
            .expression_attribute_values(":now", n(now_ms))
            .expression_attribute_values(":one", n(1))
            .expression_attribute_values(":bucket", s(REPLAY_BUCKET))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let found = match Box::pin(call.send()).await {
            Ok(answer) => answer.attributes,
            Err(error) => match error.as_service_error() {
                // The SDK repeated the call after its answer was lost: the claim is ours.
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => failed
                    .item()
                    .filter(|item| item.get(CLAIM) == Some(&s(claim.token.as_str())))
                    .cloned(),
                _ => return Err(StoreError::from_sdk(operation, &error)),
            },
        };
        let Some(item) = found else { return Ok(None) };
        Ok(Some((from_item(operation, item)?, claim)))
    }

    /// Writes all parts of a replay for the first time, under its claim. After it the replay is planned.
    /// [`StoreError::Conflict`] if the claim was lost.
    pub async fn plan(
        &self,
        claim: &ReplayClaim,
        parts: &[ReplayPart],
        now_ms: i64,
        lease: Duration,
    ) -> Result<(), StoreError> {
        let operation = "plan replay";
        let mut rest = parts;
        // The last write says that all are there; one more when there are none.
        loop {
            let (some, more) = rest.split_at(rest.len().min(MAX_PARTS));
            let mut update = self.renewal(claim, now_ms, lease);
            if more.is_empty() {
                update = update.set("#planned", PLANNED, n(1));
            }
            self.commit(operation, update, some, now_ms).await?;
            rest = more;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Writes the counts of a replay and the parts that moved (at most 99), and prolongs its claim.
    /// [`StoreError::Conflict`] if the claim was lost: somebody else works on it now, or it was cancelled.
    pub async fn progress(
        &self,
        claim: &ReplayClaim,
        counts: ReplayCounts,
        moved: &[ReplayPart],
        now_ms: i64,
        lease: Duration,
    ) -> Result<(), StoreError> {
        let update = self.renewal(claim, now_ms, lease).counts(counts);
        self.commit("write a replay's progress", update, moved, now_ms).await
    }

    /// Ends a replay as done (or failed), with what is to be known of it. [`StoreError::Conflict`] if the claim was lost.
    pub async fn finish(
        &self,
        claim: &ReplayClaim,
        state: ReplayState,
        detail: &str,
        counts: ReplayCounts,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let update = Change::of(&claim.id, Some(claim)).counts(counts);
        self.commit("end replay", update.end(End { state, detail }, now_ms), &[], now_ms).await
    }

    /// Gives a claim back before its end: another worker may go on at once. [`StoreError::Conflict`] if it was lost.
    pub async fn release(&self, claim: &ReplayClaim, now_ms: i64) -> Result<(), StoreError> {
        let update = self.renewal(claim, now_ms, Duration::ZERO);
        self.commit("release replay", update, &[], now_ms).await
    }

    /// Cancels a replay that is not over; false if it is, or is gone. Its runner notices with its next progress.
    pub async fn cancel(&self, id: &ReplayId, now_ms: i64) -> Result<bool, StoreError> {
        let end = End { state: ReplayState::Cancelled, detail: "" };
        let update = Change::of(id, None).end(end, now_ms);
        match self.commit("cancel replay", update, &[], now_ms).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn renewal(&self, claim: &ReplayClaim, now_ms: i64, lease: Duration) -> Change {
        Change::of(&claim.id, Some(claim)).set("#visible", VISIBLE_AT, n(until(now_ms, lease))).set(
            "#updated",
            UPDATED_AT,
            n(now_ms),
        )
    }

    async fn commit(
        &self,
        operation: &'static str,
        change: Change,
        parts: &[ReplayPart],
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let id = change.id.clone();
        if parts.len() > MAX_PARTS {
            let detail = format!("{} parts at once: up to {MAX_PARTS} are allowed", parts.len());
            return Err(StoreError::Invalid { operation, detail });
        }
        let update = change.build(&self.table).map_err(|e| not_built(operation, &e))?;
        let mut items = vec![TransactWriteItem::builder().update(update).build()];
        for part in parts {
            let item = part_to_item(&id, part, now_ms)?;
            let put = Put::builder().table_name(&self.table).set_item(Some(item)).build();
            let put = put.map_err(|e| not_built(operation, &e))?;
            items.push(TransactWriteItem::builder().put(put).build());
        }
        self.transact(operation, &format!("the claim on {id}"), items).await
    }

    /// All of these, or nothing; `what` names the thing in a conflict.
    async fn transact(
        &self,
        operation: &'static str,
        what: &str,
        items: Vec<TransactWriteItem>,
    ) -> Result<(), StoreError> {
        let call = self.client.transact_write_items().set_transact_items(Some(items));
        let Err(error) = Box::pin(call.send()).await else { return Ok(()) };
        Err(match error.as_service_error() {
            Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                let codes = cancelled.cancellation_reasons().iter().filter_map(|r| r.code());
                cancelled_because(operation, what, codes)
            }
            _ => StoreError::from_sdk(operation, &error),
        })
    }

    async fn active(
        &self,
        operation: &'static str,
        now_ms: i64,
        limit: usize,
    ) -> Result<Vec<ReplayId>, StoreError> {
        let call = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(BY_DUE)
            .key_condition_expression("#bucket = :bucket AND #visible <= :now")
            .expression_attribute_names("#bucket", BUCKET)
            .expression_attribute_names("#visible", VISIBLE_AT)
            .expression_attribute_values(":bucket", s(REPLAY_BUCKET))
            .expression_attribute_values(":now", n(now_ms))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX));
        let answer =
            Box::pin(call.send()).await.map_err(|e| StoreError::from_sdk(operation, &e))?;
        let id = |item: &Item| ReplayId::parse(item.get(SK)?.as_s().ok()?).ok();
        Ok(answer.items().iter().filter_map(id).collect())
    }

    pub(super) async fn partition(
        &self,
        operation: &'static str,
        partition: String,
    ) -> Result<Vec<Item>, StoreError> {
        let mut found = Vec::new();
        let mut items = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#pk = :pk")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_values(":pk", s(partition))
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        while let Some(item) = items.next().await {
            found.push(item.map_err(|e| StoreError::from_sdk(operation, &e))?);
            if found.len() > MAX_ITEMS {
                let detail = format!("more than {MAX_ITEMS} items: that many are not supported");
                return Err(StoreError::Invalid { operation, detail });
            }
        }
        Ok(found)
    }
}

pub(super) fn head_key(id: &ReplayId) -> Item {
    key(PARTITION, id.as_str())
}

fn until(now_ms: i64, lease: Duration) -> i64 {
    now_ms.saturating_add(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX))
}

fn is_live(item: &Item, now_ms: i64) -> bool {
    let at = item.get(EXPIRES_AT).and_then(|value| value.as_n().ok()).and_then(|n| n.parse().ok());
    at.is_none_or(|at: i64| !is_expired(at, now_ms))
}

pub(super) fn names(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}
