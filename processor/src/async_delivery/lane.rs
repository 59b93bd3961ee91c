//! A destination's lane as everyone else sees it: a bounded queue that never makes anyone wait.
//!
//! What the lane has no room for, or what its breaker refuses, comes back at once and is parked. The
//! lane's own work is in `lane_task`.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use store::{ClaimedDelivery, DeliveryOrder, DeliveryPolicy, SubscriptionId};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::breaker::{Breaker, BreakerState};
use super::delivery::{Delivery, Live};
use super::keys::MAX_BEHIND_ONE;
use super::mandate::Mandate;
use super::stats::{Counters, DestinationStats, read};

/// Claimed deliveries that a lane holds at most, so that a claim does not end while it queues.
pub(super) const MAX_RETRIES: usize = 512;
/// What a healthy destination has no room for is due again after about this long.
pub(super) const NO_ROOM_PAUSE: Duration = Duration::from_secs(1);
/// A claim outlasts the attempt by this much, for the time in the queue and the write afterwards.
pub(super) const CLAIM_ALLOWANCE: Duration = Duration::from_secs(60);

/// What a lane and its handles share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) mandate: ArcSwap<Mandate>,
    pub(super) counters: Arc<Counters>,
    pub(super) last_error: ArcSwapOption<String>,
    pub(super) in_flight: AtomicUsize,
    /// The breaker closed, and its parked deliveries have not all been made due since.
    pub(super) recovering: AtomicBool,
    retries: AtomicUsize,
    breaker: AtomicU8,
    /// In ms since `origin`: before it nothing is admitted. 0 while the breaker is closed.
    closed_until_ms: AtomicU64,
    origin: Instant,
}

impl Shared {
    fn new(mandate: Arc<Mandate>) -> Shared {
        Shared {
            mandate: ArcSwap::new(mandate),
            counters: Arc::default(),
            last_error: ArcSwapOption::empty(),
            in_flight: AtomicUsize::new(0),
            recovering: AtomicBool::new(false),
            retries: AtomicUsize::new(0),
            breaker: AtomicU8::new(0),
            closed_until_ms: AtomicU64::new(0),
            origin: Instant::now(),
        }
    }

    /// The lane tells everyone what its breaker thinks now.
    pub(super) fn publish(&self, breaker: &Breaker) {
        let until_ms = breaker.opens_at().map_or(0, |at| {
            let since = at.saturating_duration_since(self.origin).as_millis();
            u64::try_from(since).unwrap_or(u64::MAX).max(1)
        });
        self.closed_until_ms.store(until_ms, Ordering::Release);
        self.breaker.store(breaker.state() as u8, Ordering::Release);
    }

    pub(super) fn breaker(&self) -> BreakerState {
        match self.breaker.load(Ordering::Acquire) {
            0 => BreakerState::Closed,
            1 => BreakerState::Open,
            _ => BreakerState::HalfOpen,
        }
    }

    /// The breaker would let an attempt start.
    pub(super) fn admits(&self) -> bool {
        let until_ms = self.closed_until_ms.load(Ordering::Acquire);
        until_ms == 0 || self.origin.elapsed().as_millis() >= u128::from(until_ms)
    }
}

/// A live delivery that a lane had and does not keep: its destination takes nothing now.
#[derive(Debug)]
pub(super) struct Returned {
    /// The lane's.
    pub(super) shared: Arc<Shared>,
    pub(super) live: Live,
}

/// A claimed delivery with its place in the lane, which is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Retry {
    pub(super) claimed: Box<ClaimedDelivery>,
    _place: RetryPlace,
}

/// A place for one claimed delivery in a lane.
#[derive(Debug)]
pub(super) struct RetryPlace(Arc<Shared>);

impl Drop for RetryPlace {
    fn drop(&mut self) {
        self.0.retries.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The sending end of one lane.
#[derive(Debug)]
pub(super) struct LaneHandle {
    pub(super) id: SubscriptionId,
    pub(super) shared: Arc<Shared>,
    live: mpsc::Sender<Live>,
    /// Live deliveries that wait outside for room, in their order.
    outside: AtomicUsize,
    retries: mpsc::Sender<Retry>,
    changes: watch::Sender<Arc<Mandate>>,
    /// Cancelled: the lane parks what it has and ends.
    retire: CancellationToken,
}

/// The receiving end, for the lane's task.
pub(super) struct LaneEnds {
    pub(super) shared: Arc<Shared>,
    pub(super) live: mpsc::Receiver<Live>,
    pub(super) retries: mpsc::Receiver<Retry>,
    pub(super) changes: watch::Receiver<Arc<Mandate>>,
    pub(super) retire: CancellationToken,
}

/// Both ends of a lane that holds at most `queue` live deliveries.
pub(super) fn lane(
    mandate: Arc<Mandate>,
    queue: usize,
    retire: CancellationToken,
) -> (LaneHandle, LaneEnds) {
    let shared = Arc::new(Shared::new(Arc::clone(&mandate)));
    let (live_sender, live) = mpsc::channel(queue);
    let (retry_sender, retries) = mpsc::channel(MAX_RETRIES);
    let (change_sender, changes) = watch::channel(mandate);
    let handle = LaneHandle {
        id: shared.mandate.load().subscription.id.clone(),
        shared: Arc::clone(&shared),
        live: live_sender,
        outside: AtomicUsize::new(0),
        retries: retry_sender,
        changes: change_sender,
        retire: retire.clone(),
    };
    (handle, LaneEnds { shared, live, retries, changes, retire })
}

impl LaneHandle {
    /// Queues a live delivery, or hands it back when the queue is full or the breaker open.
    pub(super) fn offer(&self, live: Live) -> Result<(), Live> {
        if !self.shared.admits() {
            return Err(live);
        }
        self.live.try_send(live).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(live) | mpsc::error::TrySendError::Closed(live) => live,
        })
    }

    /// Its messages must not overtake each other on the way in.
    pub(super) fn keeps_order(&self) -> bool {
        self.shared.mandate.load().subscription.policy.order != DeliveryOrder::None
    }

    /// Queues a live delivery in its turn. What comes back has to wait outside until [`room`](Self::room) lets it in: such a lane
    /// writes down what it cannot attempt, so that it makes room as long as that can be written.
    pub(super) fn offer_in_order(&self, live: Live) -> Result<(), Live> {
        if self.outside.load(Ordering::Acquire) == 0 {
            match self.live.try_send(live) {
                Ok(()) => return Ok(()),
                Err(
                    mpsc::error::TrySendError::Full(live) | mpsc::error::TrySendError::Closed(live),
                ) => {
                    self.outside.fetch_add(1, Ordering::AcqRel);
                    return Err(live);
                }
            }
        }
        self.outside.fetch_add(1, Ordering::AcqRel);
        Err(live)
    }

    /// Room for the first of those that wait outside; `None` once the lane has ended. Cancel safe.
    pub(super) async fn room(&self) -> Option<mpsc::Permit<'_, Live>> {
        self.live.reserve().await.ok()
    }

    /// One that waited outside does not any more.
    pub(super) fn let_in(&self) {
        self.outside.fetch_sub(1, Ordering::AcqRel);
    }

    /// How many messages of an open range the lane has room for now, of which it has `held` already; there are `ranges` of them. Half of
    /// the queue is left to live messages of other shards; a breaker that waits for a probe gets one, if none is in the queue.
    pub(super) fn replay_room(&self, held: usize, ranges: usize) -> usize {
        if !self.shared.admits() {
            return 0;
        }
        let (free, all) = (self.live.capacity(), self.live.max_capacity());
        if self.shared.breaker() != BreakerState::Closed {
            return usize::from(held == 0 && free == all);
        }
        // Each shard gets on, and none has to wait until another has caught up.
        let share = (all / 2 / ranges.max(1)).max(1);
        let most = if self.keeps_order() { MAX_BEHIND_ONE.min(share) } else { share };
        free.saturating_sub(all / 2).min(most.saturating_sub(held))
    }

    /// How many claimed deliveries the lane has room for now.
    pub(super) fn retry_room(&self) -> usize {
        let held = self.shared.retries.load(Ordering::Acquire);
        let allowed = match (self.shared.breaker(), self.shared.admits()) {
            (BreakerState::Closed, _) => {
                retry_allowance(&self.shared.mandate.load().subscription.policy)
            }
            (_, true) => 1,
            (_, false) => 0,
        };
        allowed.saturating_sub(held)
    }

    /// Takes a place for a claimed delivery before it is claimed.
    pub(super) fn retry_place(&self) -> RetryPlace {
        self.shared.retries.fetch_add(1, Ordering::AcqRel);
        RetryPlace(Arc::clone(&self.shared))
    }

    /// Queues a claimed delivery; if the lane has ended, the claim runs out and another tries.
    pub(super) fn retry(&self, claimed: ClaimedDelivery, place: RetryPlace) {
        let retry = Retry { claimed: Box::new(claimed), _place: place };
        if self.retries.try_send(retry).is_err() {
            tracing::debug!(
                "a lane had no room for a claimed delivery; it is due again when its claim ends"
            );
        }
    }

    /// The subscription changed, or what its owner is granted.
    pub(super) fn change(&self, mandate: Arc<Mandate>) {
        self.shared.mandate.store(Arc::clone(&mandate));
        self.changes.send_replace(mandate);
    }

    /// The subscription is gone or disabled: the lane parks what it holds and ends.
    pub(super) fn retire(&self) {
        self.retire.cancel();
    }

    pub(super) fn stats(&self) -> DestinationStats {
        let shared = &self.shared;
        let subscription = &shared.mandate.load().subscription;
        let counters = &shared.counters;
        DestinationStats {
            subscription: subscription.id.to_string(),
            client: subscription.client.to_string(),
            destination: subscription.destination.to_string(),
            breaker: shared.breaker(),
            delivered: read(&counters.delivered),
            attempts: read(&counters.attempts),
            failed: read(&counters.failed),
            parked: read(&counters.parked),
            retried: read(&counters.retried),
            dead_lettered: read(&counters.dead_lettered),
            queued: self.live.max_capacity() - self.live.capacity()
                + shared.retries.load(Ordering::Relaxed),
            in_flight: shared.in_flight.load(Ordering::Relaxed),
            last_error: shared.last_error.load().as_deref().cloned(),
        }
    }
}

/// The next delivery, live and parked ones in turn.
pub(super) async fn receive(
    live: &mut mpsc::Receiver<Live>,
    retries: &mut mpsc::Receiver<Retry>,
    retries_first: bool,
) -> Delivery {
    if retries_first {
        tokio::select! { biased;
            Some(retry) = retries.recv() => Delivery::Retry(retry),
            Some(live) = live.recv() => Delivery::Live(live),
            else => pending().await,
        }
    } else {
        tokio::select! { biased;
            Some(live) = live.recv() => Delivery::Live(live),
            Some(retry) = retries.recv() => Delivery::Retry(retry),
            else => pending().await,
        }
    }
}

/// Claimed deliveries a lane may hold: what it can surely attempt before their claims end.
fn retry_allowance(policy: &DeliveryPolicy) -> usize {
    let by_concurrency = (policy.concurrency as usize).saturating_mul(8);
    let by_rate =
        policy.rate_per_second.map_or(MAX_RETRIES, |rate| (rate as usize).saturating_mul(10));
    MAX_RETRIES.min(by_concurrency).min(by_rate).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_claims_no_more_than_it_can_attempt_in_time() {
        let policy = |concurrency, rate_per_second| DeliveryPolicy {
            concurrency,
            rate_per_second,
            ..DeliveryPolicy::default()
        };
        assert_eq!(retry_allowance(&policy(16, None)), 128);
        assert_eq!(retry_allowance(&policy(1, None)), 8);
        assert_eq!(retry_allowance(&policy(1_000, None)), MAX_RETRIES);
        assert_eq!(retry_allowance(&policy(16, Some(1))), 10);
        assert_eq!(retry_allowance(&policy(16, Some(u32::MAX))), 128);
    }
}
