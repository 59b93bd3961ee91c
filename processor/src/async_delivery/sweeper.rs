//! Brings parked deliveries back to their lanes when they are due.
//!
//! The live workers share the buckets (`share`); a conditional claim makes an overlap safe. It never attempts a delivery itself: lanes do, under the same concurrency, rate and breaker
//! as live traffic. What is due while its destination takes nothing is put off, so that it cannot
//! stand in front of what could go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_smithy_async::time::SharedTimeSource;
use futures::StreamExt;
use store::{
    ClaimedDelivery, Class, DeadReason, DeliveryStore, DueDelivery, Subscription, SubscriptionId,
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::aftermath::dead_letter;
use super::aftermath::later;
use super::breaker::BreakerState;
use super::intake::Lanes;
use super::lane::{CLAIM_ALLOWANCE, LaneHandle};
use super::ledger::{GiveUp, Job, LedgerHandle, Origin, Reschedule};
use super::outcome::{Next, plan_deferral};
use super::share::Share;
use super::stats::Counters;
use super::watch::ViewWatch;
use crate::clock::wall_ms;

/// Due deliveries read from a bucket at once.
const PAGE: usize = 200;
/// Buckets read at once.
const MAX_READS: usize = 4;
/// Claims under way at once.
const MAX_CLAIMS: usize = 32;
/// Of a full page, this many of one busy lane may stay due; the rest makes way for others.
const KEEP_DUE: usize = 32;
/// A read or a claim that takes longer counts as failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a sweep that found work.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// What to do with one due delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// Claim it for its lane.
    Attempt,
    /// Its lane has no room now; the next sweep finds it again.
    Leave,
    /// Put it off.
    Defer,
    /// Its subscription is gone: give it up.
    Orphan,
}

/// What a lane says about itself, for planning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It can take this many.
    Room(usize),
    /// It takes nothing for a while: breaker open, or switched off.
    Down,
    /// There is no such subscription.
    Gone,
}

pub(super) struct Sweeper {
    pub(super) deliveries: DeliveryStore,
    pub(super) lanes: Arc<ArcSwap<Lanes>>,
    pub(super) ledger: LedgerHandle,
    /// While it is not fresh no lane attempts anything, so that nothing is claimed.
    pub(super) views: ViewWatch,
    pub(super) time: SharedTimeSource,
    pub(super) worker: String,
    pub(super) share: Share,
    pub(super) interval: Duration,
    pub(super) rng: fastrand::Rng,
    /// Given-up deliveries whose subscription is gone, so that they are counted somewhere.
    pub(super) orphans: Arc<Counters>,
}

impl Sweeper {
    /// Sweeps until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            let found = tokio::select! { biased;
                () = stop.cancelled() => return,
                found = self.sweep() => found,
            };
            let pause =
                if found { BUSY_PAUSE } else { self.interval.mul_f64(0.8 + 0.4 * self.rng.f64()) };
            tokio::select! { biased;
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// One round over this worker's buckets. True if anything could be claimed or may be waiting.
    async fn sweep(&mut self) -> bool {
        let lanes = self.lanes.load_full();
        if !lanes.known || !self.views.is_fresh() {
            return false;
        }
        let mut found = self.recover(&lanes).await;
        let mut buckets = self.share.round(Instant::now());
        self.rng.shuffle(&mut buckets);
        let this = &*self;
        let reads: Vec<_> = buckets.into_iter().map(|bucket| this.page(bucket)).collect();
        let pages: Vec<Vec<DueDelivery>> =
            futures::stream::iter(reads).buffer_unordered(MAX_READS).collect().await;
        for page in pages {
            found |= self.work_off(&page, &lanes).await;
        }
        found
    }

    /// Destinations whose breaker closed: what is parked for them becomes due, as they have room.
    /// Those whose breaker waits for a probe get one, in case no live message comes by.
    async fn recover(&self, lanes: &Lanes) -> bool {
        let mut found = false;
        for (id, lane) in &lanes.active {
            let room = lane.retry_room();
            let wanted = lane.shared.recovering.load(Ordering::Acquire)
                || lane.shared.breaker() != BreakerState::Closed;
            if room == 0 || !wanted {
                continue;
            }
            lane.shared.recovering.store(false, Ordering::Release);
            let asked = self.deliveries.make_due(id, wall_ms(&self.time), room);
            match timeout(CALL_TIMEOUT, asked).await {
                Ok(Ok(made)) if !made.more && made.made == 0 => {}
                Ok(Ok(_)) => {
                    found = true;
                    lane.shared.recovering.store(true, Ordering::Release);
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, subscription = %id, "parked deliveries cannot be made due now");
                    lane.shared.recovering.store(true, Ordering::Release);
                }
                Err(_) => lane.shared.recovering.store(true, Ordering::Release),
            }
        }
        found
    }

    /// What is due in one bucket; nothing if it cannot be read now.
    async fn page(&self, bucket: u16) -> Vec<DueDelivery> {
        let due = self.deliveries.due(bucket, wall_ms(&self.time), PAGE);
        match timeout(CALL_TIMEOUT, due).await {
            Ok(Ok(page)) => page,
            Ok(Err(error)) => {
                tracing::warn!(%error, bucket, "due deliveries cannot be read now");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }

    /// Claims what is to be claimed of one page. True if anything was won.
    async fn work_off(&mut self, page: &[DueDelivery], lanes: &Lanes) -> bool {
        let plans = plan_page(page, |id| place(lanes, id));
        let jitters: Vec<f64> = page.iter().map(|_| self.rng.f64()).collect();
        let this = &*self;
        let work: Vec<_> = page
            .iter()
            .zip(plans)
            .zip(jitters)
            .filter(|((_, plan), _)| *plan != Plan::Leave)
            .map(|((due, plan), jitter)| this.work(due, plan, lanes, jitter))
            .collect();
        let won: Vec<bool> =
            futures::stream::iter(work).buffer_unordered(MAX_CLAIMS).collect().await;
        won.contains(&true)
    }

    /// Claims one due delivery and passes it on. True if the claim was won.
    async fn work(&self, due: &DueDelivery, plan: Plan, lanes: &Lanes, jitter: f64) -> bool {
        let id = &due.key.subscription;
        let lane = lanes.active.get(id);
        let place = lane.filter(|_| plan == Plan::Attempt).map(|lane| (lane, lane.retry_place()));
        let subscription = lane
            .map(|lane| Arc::clone(&lane.shared.mandate.load().subscription))
            .or_else(|| lanes.disabled.get(id).cloned());
        let Some(won) = self.claim(due, subscription.as_deref()).await else {
            return false;
        };
        let job = match (place, subscription) {
            (Some((lane, place)), _) => {
                lane.retry(won, place);
                return true;
            }
            (None, Some(subscription)) => self.defer(won, &subscription, lane, jitter),
            (None, None) => {
                self.give_up(won, DeadReason::DestinationGone, "its subscription was deleted", None)
            }
        };
        if self.ledger.write(job).await.is_err() {
            tracing::debug!("the ledger has ended; the delivery is due again when its claim ends");
        }
        true
    }

    async fn claim(
        &self,
        due: &DueDelivery,
        subscription: Option<&Subscription>,
    ) -> Option<ClaimedDelivery> {
        let limit_ms = subscription.map_or(0, |s| s.policy.timeout_ms);
        let lease = Duration::from_millis(limit_ms) + CLAIM_ALLOWANCE;
        let claim = self.deliveries.claim(&due.key, &self.worker, wall_ms(&self.time), lease);
        match timeout(CALL_TIMEOUT, claim).await {
            Ok(Ok(claimed)) => claimed,
            // It stays parked and is found again, but no later claim will read it any better.
            Ok(Err(error)) if error.class() == Class::Skip => {
                tracing::error!(%error, "a parked delivery cannot be read; an operator has to look at it");
                None
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "a due delivery could not be claimed");
                None
            }
            Err(_) => None,
        }
    }

    fn defer(
        &self,
        won: ClaimedDelivery,
        subscription: &Subscription,
        lane: Option<&Arc<LaneHandle>>,
        jitter: f64,
    ) -> Job {
        let now_ms = wall_ms(&self.time);
        let parked = &won.delivery;
        match plan_deferral(parked.first_failed_at_ms, now_ms, &subscription.policy, jitter) {
            Next::Retry(delay) => {
                // A busy destination is asked again soon, one that is down less and less often.
                let soon = lane.is_some_and(|lane| lane.shared.admits());
                let delay = if soon {
                    delay.min(Duration::from_secs(30).mul_f64(0.5 + jitter))
                } else {
                    delay
                };
                Job::Reschedule(Box::new(Reschedule {
                    attempts: parked.attempts,
                    due_at_ms: later(now_ms, delay),
                    error: parked.last_error.clone(),
                    claim: won.claim,
                }))
            }
            _ => {
                let detail = format!("outlived its schedule; last: {}", parked.last_error);
                self.give_up(won, DeadReason::DeliveryExhausted, &detail, lane)
            }
        }
    }

    fn give_up(
        &self,
        won: ClaimedDelivery,
        reason: DeadReason,
        detail: &str,
        lane: Option<&Arc<LaneHandle>>,
    ) -> Job {
        let letter = dead_letter(won.delivery, reason, detail.to_owned(), wall_ms(&self.time));
        let counters = lane.map_or(&self.orphans, |lane| &lane.shared.counters);
        Job::GiveUp(Box::new(GiveUp {
            letter,
            origin: Origin::Claimed(won.claim),
            counters: Arc::clone(counters),
        }))
    }
}

fn place(lanes: &Lanes, id: &SubscriptionId) -> Place {
    match lanes.active.get(id) {
        Some(lane) if lane.shared.admits() => Place::Room(lane.retry_room()),
        // A probe is under way: in a moment everything is different.
        Some(lane) if lane.shared.breaker() == BreakerState::HalfOpen => Place::Room(0),
        Some(_) => Place::Down,
        None if lanes.disabled.contains_key(id) => Place::Down,
        None => Place::Gone,
    }
}

/// Decides about a page of due deliveries, one plan for each.
fn plan_page(page: &[DueDelivery], place: impl Fn(&SubscriptionId) -> Place) -> Vec<Plan> {
    let full = page.len() >= PAGE;
    let mut places: BTreeMap<&SubscriptionId, (Place, usize)> = BTreeMap::new();
    page.iter()
        .map(|due| {
            let id = &due.key.subscription;
            let (place, left) = places.entry(id).or_insert_with(|| (place(id), 0));
            match place {
                Place::Gone => Plan::Orphan,
                Place::Down => Plan::Defer,
                Place::Room(0) => {
                    *left += 1;
                    if full && *left > KEEP_DUE { Plan::Defer } else { Plan::Leave }
                }
                Place::Room(room) => {
                    *room -= 1;
                    Plan::Attempt
                }
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use store::{DeliveryKey, MessageId, Position};

    use super::*;

    fn due(subscription: &str, number: u32) -> DueDelivery {
        let position = Position {
            stream_arn: "arn".into(),
            shard_id: "s".into(),
            sequence: "1".into(),
            index: number,
        };
        let key = DeliveryKey {
            subscription: SubscriptionId::parse(subscription).unwrap(),
            message: MessageId::derive(&position),
        };
        DueDelivery { key, due_at_ms: 0 }
    }

    fn count(plans: &[Plan], plan: Plan) -> usize {
        plans.iter().filter(|p| **p == plan).count()
    }

    #[test]
    fn each_destination_gets_what_it_has_room_for() {
        let page: Vec<DueDelivery> =
            (0..8).map(|i| due(["busy", "idle", "down", "gone"][i as usize % 4], i)).collect();
        let plans = plan_page(&page, |id| match id.as_str() {
            "busy" => Place::Room(1),
            "idle" => Place::Room(9),
            "down" => Place::Down,
            _ => Place::Gone,
        });
        use Plan::{Attempt, Defer, Leave, Orphan};
        assert_eq!(plans, [Attempt, Attempt, Defer, Orphan, Leave, Attempt, Defer, Orphan]);
    }

    #[test]
    fn a_busy_destination_cannot_fill_every_page() {
        let page: Vec<DueDelivery> = (0..PAGE as u32).map(|i| due("busy", i)).collect();
        let plans = plan_page(&page, |_| Place::Room(10));
        assert_eq!((count(&plans, Plan::Attempt), count(&plans, Plan::Leave)), (10, KEEP_DUE));
        assert_eq!(count(&plans, Plan::Defer), PAGE - 10 - KEEP_DUE);
        let short = plan_page(&page[..PAGE - 1], |_| Place::Room(10));
        assert_eq!(count(&short, Plan::Defer), 0, "a page that is not full hides nobody");
    }
}
