//! A replay and its parts as items, and back.
//!
//! A replay that is not over stands in the index of what is due, in a bucket of its own, under the time at which
//! it may be claimed: looking for work costs next to nothing while there is none.

use std::sync::Arc;

use super::{
    REPLAY_RETENTION, Replay, ReplayCounts, ReplayId, ReplayOf, ReplayPart, ReplayPlace,
    ReplaySource, ReplayState,
};
use crate::deliveries::{BUCKET, VISIBLE_AT};
use crate::error::StoreError;
use crate::identity::IntegrationName;
use crate::item::{EXPIRES_AT, Item, ItemReader, SK, expires_at_s, key, n, s};
use crate::subscriptions::SubscriptionId;

/// Partition of all replays.
pub(super) const PARTITION: &str = "replays";
/// The bucket of replays in the index of what is due.
pub(super) const REPLAY_BUCKET: &str = "replay";
/// Not `subscription`: that one is the key of the index of parked deliveries.
const FOR: &str = "replayFor";
const WHAT: &str = "what";
const RATE: &str = "rate";
pub(super) const STATE: &str = "state";
pub(super) const DETAIL: &str = "detail";
pub(super) const RUNNER: &str = "runner";
pub(super) const CLAIM: &str = "claim";
pub(super) const CLAIMS: &str = "claims";
pub(super) const PLANNED: &str = "planned";
pub(super) const READ: &str = "read";
pub(super) const MATCHED: &str = "matched";
pub(super) const PARKED: &str = "parked";
const CREATED_AT: &str = "createdAt";
pub(super) const STARTED_AT: &str = "startedAt";
pub(super) const UPDATED_AT: &str = "updatedAt";
pub(super) const ENDED_AT: &str = "endedAt";
const AT: &str = "at";
const REACHED: &str = "reached";
const DONE: &str = "done";
/// Replays that nobody ends disappear after this: longer than any stream keeps a record.
const LONGEST_MS: u128 = 400 * 24 * 3_600 * 1_000;

/// When a replay disappears that ended then.
pub(super) fn expiry(ended_at_ms: i64) -> i64 {
    expires_at_s(ended_at_ms, REPLAY_RETENTION.as_millis())
}

/// Partition of a replay's parts.
pub(super) fn parts_partition(id: &ReplayId) -> String {
    format!("replay#{id}")
}

/// The item of a replay that is new.
pub(super) fn to_item(replay: &Replay) -> Result<Item, StoreError> {
    let mut item = key(PARTITION, replay.id.as_str());
    item.insert(FOR.to_owned(), s(replay.subscription.as_str()));
    item.insert(WHAT.to_owned(), s(json("create replay", &replay.what)?));
    item.insert(RATE.to_owned(), n(replay.rate_per_second));
    item.insert(STATE.to_owned(), s(ReplayState::Queued.code()));
    item.insert(CREATED_AT.to_owned(), n(replay.created_at_ms));
    item.insert(UPDATED_AT.to_owned(), n(replay.created_at_ms));
    item.insert(BUCKET.to_owned(), s(REPLAY_BUCKET));
    item.insert(VISIBLE_AT.to_owned(), n(replay.created_at_ms));
    item.insert(EXPIRES_AT.to_owned(), n(expires_at_s(replay.created_at_ms, LONGEST_MS)));
    Ok(item)
}

pub(super) fn from_item(operation: &'static str, item: Item) -> Result<Replay, StoreError> {
    let reader = ItemReader::new(operation, item);
    let count = |name| reader.optional_number(name).map(Option::unwrap_or_default);
    Ok(Replay {
        id: reader.parsed(SK, ReplayId::parse)?,
        subscription: reader.parsed(FOR, SubscriptionId::parse)?,
        what: reader.parsed(WHAT, |text| serde_json::from_str::<ReplayOf>(text))?,
        rate_per_second: reader.number(RATE)?,
        state: reader.parsed(STATE, |code| {
            ReplayState::from_code(code).ok_or_else(|| format!("{code:?} is not known"))
        })?,
        detail: reader.optional_text(DETAIL)?.unwrap_or_default().to_owned(),
        runner: reader.optional_text(RUNNER)?.map(str::to_owned),
        claims: reader.optional_number(CLAIMS)?.unwrap_or_default(),
        is_planned: reader.optional_number::<u8>(PLANNED)?.is_some(),
        counts: ReplayCounts {
            read: count(READ)?,
            matched: count(MATCHED)?,
            parked: count(PARKED)?,
        },
        created_at_ms: reader.number(CREATED_AT)?,
        started_at_ms: reader.optional_number(STARTED_AT)?,
        updated_at_ms: reader.number(UPDATED_AT)?,
        ended_at_ms: reader.optional_number(ENDED_AT)?,
    })
}

pub(super) fn part_to_item(
    id: &ReplayId,
    part: &ReplayPart,
    now_ms: i64,
) -> Result<Item, StoreError> {
    let mut item = key(parts_partition(id), source_text(&part.source));
    item.insert(READ.to_owned(), n(part.counts.read));
    item.insert(MATCHED.to_owned(), n(part.counts.matched));
    item.insert(PARKED.to_owned(), n(part.counts.parked));
    item.insert(DONE.to_owned(), n(u8::from(part.is_done)));
    item.insert(EXPIRES_AT.to_owned(), n(expires_at_s(now_ms, LONGEST_MS)));
    if let Some(at) = &part.at {
        item.insert(AT.to_owned(), s(json("write a replay's progress", at)?));
    }
    if let Some(reached) = part.reached_ms {
        item.insert(REACHED.to_owned(), n(reached));
    }
    Ok(item)
}

pub(super) fn part_from_item(
    operation: &'static str,
    item: Item,
) -> Result<ReplayPart, StoreError> {
    let reader = ItemReader::new(operation, item);
    let place = |text: &str| serde_json::from_str::<ReplayPlace>(text);
    let at = match reader.optional_text(AT)? {
        None => None,
        Some(_) => Some(reader.parsed(AT, place)?),
    };
    Ok(ReplayPart {
        source: reader
            .parsed(SK, |text| read_source(text).ok_or_else(|| format!("{text:?} is no part")))?,
        at,
        reached_ms: reader.optional_number(REACHED)?,
        is_done: reader.number::<u8>(DONE)? != 0,
        counts: ReplayCounts {
            read: reader.number(READ)?,
            matched: reader.number(MATCHED)?,
            parked: reader.number(PARKED)?,
        },
    })
}

/// Neither an ARN nor a shard's id nor an integration's name contains a `#`.
fn source_text(source: &ReplaySource) -> String {
    match source {
        ReplaySource::Shard { stream_arn, shard_id } => format!("shard#{stream_arn}#{shard_id}"),
        ReplaySource::Parked => "parked".to_owned(),
        ReplaySource::DeadLetters(integration) => format!("dead#{integration}"),
    }
}

fn read_source(text: &str) -> Option<ReplaySource> {
    let (kind, rest) = text.split_once('#').unwrap_or((text, ""));
    match kind {
        "shard" => {
            let (arn, shard) = rest.split_once('#')?;
            Some(ReplaySource::Shard { stream_arn: Arc::from(arn), shard_id: Arc::from(shard) })
        }
        "parked" => Some(ReplaySource::Parked),
        "dead" => IntegrationName::parse(rest).ok().map(ReplaySource::DeadLetters),
        _ => None,
    }
}

fn json(operation: &'static str, value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Invalid { operation, detail: error.to_string() })
}
