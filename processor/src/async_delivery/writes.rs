//! The calls behind the ledger's jobs: what each answer of the store means for the delivery.
//!
//! Each returns what has to be tried again (or done next); it never waits between tries.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use store::{
    AttemptRecord, Class, DeadReason, Parked, ParkedDelivery, PutOutcome, StoreError, Subscription,
    SubscriptionId,
};
use tokio::time::timeout;

use super::aftermath::dead_letter;
use super::events::{self, Event};
use super::ledger::{GiveUp, Job, News, Origin, Park, Stores, Tried};
use super::metrics;
use super::stats::bump;

/// A call that takes longer has an unknown outcome and is made again; every write here may be.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Tries of keeping how an attempt went.
const NOTE_TRIES: u32 = 5;
/// Tries of telling a client what happened.
const TELL_TRIES: u32 = 10;
/// What a call met that took longer.
const NO_ANSWER: &str = "no answer in time";

/// Parks a batch in one call.
pub(super) async fn park(stores: Arc<Stores>, batch: Vec<(Box<Park>, u32)>) -> Vec<Tried> {
    let parked: Vec<ParkedDelivery> = batch.iter().map(|(park, _)| park.parked.clone()).collect();
    let Ok(mut outcomes) =
        timeout(CALL_TIMEOUT, stores.deliveries.park(&parked)).await.map(Vec::into_iter)
    else {
        return batch
            .into_iter()
            .map(|(park, failures)| again(Job::Park(park), failures, NO_ANSWER))
            .collect();
    };
    let mut next = Vec::new();
    let mut new = 0;
    for (park, failures) in batch {
        match outcomes.next() {
            Some(Ok(parked)) => {
                if parked == Parked::New {
                    new += 1;
                    bump(&park.counters.parked);
                }
                park.live.settle();
            }
            Some(Err(error)) if error.class() == Class::Skip => {
                next.push(unparkable(*park, &error))
            }
            Some(Err(error)) => {
                next.push(again(Job::Park(park), failures, error));
            }
            // The store owes one outcome per delivery; without one nothing is known.
            None => next.push(again(Job::Park(park), failures, NO_ANSWER)),
        }
    }
    metrics::parked(new);
    next
}

/// Keeps how attempts went. Deliveries do not wait for it, and after some tries it is let go of, and counted.
pub(super) async fn note(stores: Arc<Stores>, batch: Vec<(AttemptRecord, u32)>) -> Vec<Tried> {
    let (records, failures): (Vec<AttemptRecord>, Vec<u32>) = batch.into_iter().unzip();
    let written = timeout(CALL_TIMEOUT, stores.deliveries.note_attempts(&records)).await;
    let mut outcomes = written.map(|report| report.outcomes).unwrap_or_default().into_iter();
    let mut next = Vec::new();
    for (record, failures) in records.into_iter().zip(failures) {
        let why = match outcomes.next() {
            Some(PutOutcome::Stored) => {
                metrics::noted(true);
                continue;
            }
            Some(PutOutcome::Rejected(why)) => why,
            Some(PutOutcome::Retry(reason)) if failures < NOTE_TRIES => {
                next.push(again(Job::Note(Box::new(record)), failures, reason));
                continue;
            }
            None if failures < NOTE_TRIES => {
                next.push(again(Job::Note(Box::new(record)), failures, NO_ANSWER));
                continue;
            }
            Some(PutOutcome::Retry(reason)) => reason.to_string(),
            None => NO_ANSWER.to_owned(),
        };
        metrics::noted(false);
        let key = &record.delivery;
        tracing::warn!(why, message = %key.message, subscription = %key.subscription, "how an attempt went cannot be kept");
    }
    next
}

/// The store can never hold this delivery: it becomes a dead letter.
fn unparkable(park: Park, error: &StoreError) -> Tried {
    tracing::warn!(%error, subscription = %park.parked.subscription, "a delivery cannot be parked");
    let at_ms = park.parked.first_failed_at_ms;
    let letter = dead_letter(park.parked, DeadReason::StoreRejected, error.to_string(), at_ms);
    let give_up = GiveUp { letter, origin: Origin::Live(park.live), counters: park.counters };
    Tried::new(Job::GiveUp(Box::new(give_up)))
}

/// Does any other job.
pub(super) async fn write_one(
    stores: Arc<Stores>,
    job: Job,
    failures: u32,
    now_ms: i64,
) -> Vec<Tried> {
    let next = match job {
        Job::Settle(claim) => match call(stores.deliveries.settle(&claim)).await {
            Answer::Done(()) | Answer::Refused => None,
            Answer::Unknown(why) => Some(again(Job::Settle(claim), failures, why)),
        },
        Job::Reschedule(r) => {
            match call(stores.deliveries.reschedule(&r.claim, r.attempts, r.due_at_ms, &r.error))
                .await
            {
                Answer::Done(()) | Answer::Refused => None,
                Answer::Unknown(why) => Some(again(Job::Reschedule(r), failures, why)),
            }
        }
        Job::GiveUp(give_up) => return give_up_one(&stores, give_up, failures).await,
        Job::Failing(subscription) => match call(failing(&stores, &subscription, now_ms)).await {
            Answer::Done(event) => event.map(|event| news(&subscription.id, event)),
            Answer::Refused => None,
            Answer::Unknown(why) => Some(again(Job::Failing(subscription), failures, why)),
        },
        Job::Recovered(subscription) => {
            match call(stores.deliveries.note_recovered(&subscription.id)).await {
                Answer::Done(since_ms) => {
                    let recovered = since_ms.map(|since_ms| Event::Recovered { since_ms });
                    recovered.map(|event| news(&subscription.id, event))
                }
                Answer::Refused => None,
                Answer::Unknown(why) => Some(again(Job::Recovered(subscription), failures, why)),
            }
        }
        Job::Disable(subscription) => match call(disable(&stores, &subscription, "gone")).await {
            Answer::Done(event) => event.map(|event| news(&subscription.id, event)),
            Answer::Refused => None,
            Answer::Unknown(why) => Some(again(Job::Disable(subscription), failures, why)),
        },
        Job::Park(park) => return park_single(stores, park, failures).await,
        Job::Tell(news) => tell(&stores, news, failures, now_ms).await,
        Job::Note(record) => return note(stores, vec![(*record, failures)]).await,
    };
    next.into_iter().collect()
}

async fn park_single(stores: Arc<Stores>, one: Box<Park>, failures: u32) -> Vec<Tried> {
    park(stores, vec![(one, failures)]).await
}

async fn give_up_one(stores: &Stores, give_up: Box<GiveUp>, failures: u32) -> Vec<Tried> {
    let letters = std::slice::from_ref(&give_up.letter);
    let report = timeout(CALL_TIMEOUT, stores.deliveries.dead_letter(letters)).await;
    match report.map(|report| report.outcomes.into_iter().next()) {
        Ok(Some(PutOutcome::Stored)) => {}
        Ok(Some(PutOutcome::Rejected(reason))) => {
            // Nothing is skipped: it stays unsettled, and an operator can see why.
            tracing::error!(
                reason,
                "the store refuses a dead letter; its delivery stays unsettled"
            );
            return vec![again(Job::GiveUp(give_up), failures, reason)];
        }
        Ok(Some(PutOutcome::Retry(reason))) => {
            return vec![again(Job::GiveUp(give_up), failures, reason)];
        }
        Ok(None) | Err(_) => return vec![again(Job::GiveUp(give_up), failures, NO_ANSWER)],
    }
    metrics::dead_lettered(give_up.letter.reason.code());
    give_up.counters.dead_lettered.fetch_add(1, Ordering::Relaxed);
    let event = Event::of_letter(&give_up.letter);
    let told = give_up.letter.subscription.as_ref().zip(event).map(|(id, event)| news(id, event));
    let settled = match give_up.origin {
        Origin::Live(live) => {
            live.settle();
            None
        }
        Origin::Claimed(claim) => Some(Tried::new(Job::Settle(claim))),
    };
    settled.into_iter().chain(told).collect()
}

/// Notes that the destination fails, and switches the subscription off if it has for as long as its policy says. What of
/// that is news.
async fn failing(
    stores: &Stores,
    seen: &Subscription,
    now_ms: i64,
) -> Result<Option<Event>, StoreError> {
    let since_ms = stores.deliveries.note_failing(&seen.id, now_ms).await?;
    let failing_ms = u64::try_from(now_ms.saturating_sub(since_ms)).unwrap_or(0);
    if failing_ms >= seen.policy.disable_after_ms {
        return disable(stores, seen, "failing").await;
    }
    Ok((since_ms == now_ms).then_some(Event::Failing))
}

fn news(about: &SubscriptionId, event: Event) -> Tried {
    Tried::new(Job::Tell(Box::new(News { about: about.clone(), event })))
}

/// Parks an event for each subscription that asked for it. After some tries it is let go of, and counted.
async fn tell(stores: &Stores, news: Box<News>, failures: u32, now_ms: i64) -> Option<Tried> {
    match tell_all(stores, &news, now_ms).await {
        Ok(()) => None,
        Err(why) if failures < TELL_TRIES => Some(again(Job::Tell(news), failures, why)),
        Err(why) => {
            metrics::told(false);
            tracing::warn!(why, subscription = %news.about, "a client cannot be told what happened to its subscription");
            None
        }
    }
}

/// The error is the last of those met.
async fn tell_all(stores: &Stores, news: &News, now_ms: i64) -> Result<(), String> {
    let view = stores.views.fresh().ok_or("the subscriptions cannot be read")?;
    let Some(about) = view.snapshot.subscriptions.iter().find(|s| s.id == news.about) else {
        return Ok(());
    };
    let told = events::announce(&news.event, about, &view.snapshot, now_ms);
    let told = stores.told.new_ones(told);
    if told.is_empty() {
        return Ok(());
    }
    let parked = timeout(CALL_TIMEOUT, stores.deliveries.park(&told)).await;
    let outcomes = parked.map_err(|_| NO_ANSWER)?;
    let mut met = Ok(());
    for (parked, outcome) in told.iter().zip(outcomes) {
        match outcome {
            Ok(_) => {
                metrics::told(true);
                stores.told.note(parked);
            }
            Err(error) => met = Err(error.to_string()),
        }
    }
    met
}

/// Switches the subscription off unless somebody changed it since it was read.
async fn disable(
    stores: &Stores,
    seen: &Subscription,
    why: &'static str,
) -> Result<Option<Event>, StoreError> {
    let Some(current) = stores.subscriptions.get(&seen.id).await? else {
        return Ok(None);
    };
    if current.version != seen.version || !current.enabled {
        return Ok(None);
    }
    stores.subscriptions.put(&Subscription { enabled: false, ..current }).await?;
    metrics::disabled(why);
    tracing::warn!(subscription = %seen.id, why, "a subscription is switched off: its destination is gone, or has failed for too long");
    Ok(Some(Event::Disabled { why }))
}

/// What came of a call.
enum Answer<T> {
    Done(T),
    /// It can never succeed (a claim that was lost, a condition that failed): nothing more to do.
    Refused,
    /// Try again: what was met.
    Unknown(String),
}

async fn call<T>(write: impl Future<Output = Result<T, StoreError>>) -> Answer<T> {
    match timeout(CALL_TIMEOUT, write).await {
        Ok(Ok(answer)) => Answer::Done(answer),
        Ok(Err(error)) if error.class() == Class::Skip => {
            tracing::debug!(%error, "a delivery write was refused");
            Answer::Refused
        }
        Ok(Err(error)) => Answer::Unknown(error.to_string()),
        Err(_) => Answer::Unknown(NO_ANSWER.to_owned()),
    }
}

fn again(job: Job, failures: u32, why: impl ToString) -> Tried {
    metrics::ledger_retry(job.name());
    Tried { job, failures: failures.saturating_add(1), why: why.to_string() }
}
