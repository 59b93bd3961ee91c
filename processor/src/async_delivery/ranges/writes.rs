//! The calls behind ranges: each made once, and what its answer means. Whoever asked decides what follows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use store::{
    DeadLetter, DeliveryStore, Holder, OpenRange, PutOutcome, RangeKey, StoreError, SubscriptionId,
};
use tokio::time::timeout;

use super::ShardKey;
use crate::batch::Place;

/// A call that takes longer has an unknown outcome, and is made again.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Ranges adrift that are claimed after one look.
const MAX_CLAIMS: usize = 100;

/// What is to be written.
pub(super) enum Write {
    /// Take over the shard's ranges under a lease of this counter.
    Take {
        fence: u64,
        claim: String,
        until_ms: i64,
    },
    Open(Box<OpenRange>, Place),
    Progress(Box<OpenRange>, Place),
    /// Note that it is closed, at this time in ms since 1970, then remove it.
    Remove(Box<OpenRange>, i64),
    Letter(Box<DeadLetter>),
    /// Write the letter, then remove the range.
    GiveUp(Box<DeadLetter>, RangeKey, String),
    /// Count what is parked for the subscription, up to so many.
    Count(SubscriptionId, usize),
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Outcome {
    Taken(Vec<OpenRange>),
    Written(Place),
    Removed,
    Told,
    Counted(usize),
    /// The range is another's, or the lease is.
    Conflict,
    /// Nobody knows whether it was done.
    Unknown(String),
}

/// A write that ended.
pub(in crate::async_delivery) struct Wrote {
    pub(super) shard: ShardKey,
    /// Which time the shard was held by this process.
    pub(super) tenure: u64,
    pub(super) subscription: Option<SubscriptionId>,
    pub(super) outcome: Outcome,
}

pub(super) async fn write(store: DeliveryStore, shard: ShardKey, write: Write) -> Outcome {
    let done = timeout(CALL_TIMEOUT, attempt(&store, &shard, write)).await;
    match done {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) if error.is_conflict() => Outcome::Conflict,
        Ok(Err(error)) => Outcome::Unknown(error.to_string()),
        Err(_) => Outcome::Unknown("no answer in time".to_owned()),
    }
}

async fn attempt(
    store: &DeliveryStore,
    (stream, shard): &ShardKey,
    write: Write,
) -> Result<Outcome, StoreError> {
    Ok(match write {
        Write::Take { fence, claim, until_ms } => {
            let holder = Holder { claim: &claim, until_ms };
            Outcome::Taken(store.take_ranges(stream, shard, fence, holder).await?)
        }
        Write::Open(range, from) => {
            store.open_range(&range).await?;
            Outcome::Written(from)
        }
        Write::Progress(range, from) => {
            store.write_range(&range).await?;
            Outcome::Written(from)
        }
        Write::Remove(range, at_ms) => {
            store.note_closed(&range, at_ms).await?;
            store.remove_range(&range.key(), &range.claim).await?;
            Outcome::Removed
        }
        Write::Letter(letter) => match keep(store, &letter).await {
            Ok(()) => Outcome::Told,
            Err(why) => Outcome::Unknown(why),
        },
        Write::GiveUp(letter, key, claim) => match keep(store, &letter).await {
            Ok(()) => {
                store.remove_range(&key, &claim).await?;
                Outcome::Removed
            }
            Err(why) => Outcome::Unknown(why),
        },
        Write::Count(subscription, cap) => {
            Outcome::Counted(store.parked_count(&subscription, cap).await?.count)
        }
    })
}

async fn keep(store: &DeliveryStore, letter: &DeadLetter) -> Result<(), String> {
    let report = store.dead_letter(std::slice::from_ref(letter)).await;
    match report.outcomes.into_iter().next() {
        Some(PutOutcome::Stored) => Ok(()),
        Some(PutOutcome::Retry(why)) => Err(why.to_string()),
        Some(PutOutcome::Rejected(why)) => Err(why),
        None => Err("no outcome".to_owned()),
    }
}

/// A look for ranges that nobody holds.
pub(super) struct Look {
    pub(super) bucket: u16,
    pub(super) now_ms: i64,
    /// What they are claimed with, and until when, in ms since 1970.
    pub(super) claim: String,
    pub(super) until_ms: i64,
    /// Left to the owner of their shard for so long, in ms.
    pub(super) grace_ms: i64,
}

/// Looks into one bucket, and claims what it finds. `mine` are the shards that this worker holds a lease of, with its counter:
/// their ranges it takes under that alone, because it would close them by what it knows as their owner. A worker that was stopped for long
/// may still believe in a lease that another has had since.
pub(super) async fn claim_adrift(
    store: DeliveryStore,
    look: Look,
    mine: &BTreeMap<ShardKey, u64>,
) -> Vec<OpenRange> {
    let found = timeout(CALL_TIMEOUT, store.adrift_ranges(look.bucket, look.now_ms, MAX_CLAIMS));
    let found = match found.await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            tracing::warn!(%error, "ranges that nobody holds cannot be looked for now");
            return Vec::new();
        }
        Err(_) => return Vec::new(),
    };
    let mut claimed = Vec::new();
    for adrift in found {
        let shard = (Arc::clone(&adrift.key.stream_arn), Arc::clone(&adrift.key.shard_id));
        let waited_ms = look.now_ms.saturating_sub(adrift.since_ms);
        let holder = Holder { claim: &look.claim, until_ms: look.until_ms };
        let claim = async {
            match mine.get(&shard) {
                Some(fence) => store.take_range(&adrift.key, *fence, holder).await,
                None => store.claim_range(&adrift.key, look.now_ms, holder).await,
            }
        };
        if !mine.contains_key(&shard) && waited_ms < look.grace_ms {
            continue;
        }
        match timeout(CALL_TIMEOUT, claim).await {
            Ok(Ok(range)) => claimed.extend(range),
            Ok(Err(error)) => tracing::debug!(%error, "a range could not be claimed"),
            Err(_) => {}
        }
    }
    claimed
}
