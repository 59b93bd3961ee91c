//! A destination's lane at work: one task that drives a bounded set of attempts.
//!
//! The order of the arms is the policy: end, then results, then writes, then changes, then new work.
//! A live delivery leaves in one of four ways: acknowledged, handed to the ledger to be parked or
//! given up, or let go because its shard's lease is lost. It never waits for another destination.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_smithy_async::time::SharedTimeSource;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use store::DeadReason;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::aftermath::Aftermath;
use super::breaker::{Admission, Breaker, BreakerPolicy, Change};
use super::delivery::{Delivery, Live};
use super::destination::{Sender, Workshop};
use super::lane::{LaneEnds, Retry, receive};
use super::ledger::{Job, LEASE_PAUSE, LedgerHandle};
use super::mandate::Mandate;
use super::metrics;
use super::outcome::{FailureKind, Next, Outcome, plan_next, verdict};
use super::rate::Rate;
use super::stats::bump;
use super::watch::ViewWatch;
use crate::clock::wall_ms;

/// Jobs that wait for room in the ledger before the lane stops taking new work.
const MAX_BACKLOG: usize = 64;
/// Deliveries that wait for their lease to be certain again before the lane stops taking new work.
const MAX_HELD: usize = 1_024;

/// What every lane is made with.
#[derive(Clone)]
pub(super) struct LaneTools {
    pub(super) workshop: Workshop,
    pub(super) time: SharedTimeSource,
    pub(super) ledger: LedgerHandle,
    /// While it is not fresh nobody knows what is granted, and nothing is attempted.
    pub(super) views: ViewWatch,
    pub(super) breaker: BreakerPolicy,
    /// Cancelled: attempts under way are given up.
    pub(super) abort: CancellationToken,
}

pub(super) struct LaneTask {
    ends: LaneEnds,
    tools: LaneTools,
    mandate: Arc<Mandate>,
    sender: Arc<dyn Sender>,
    breaker: Breaker,
    rate: Rate,
    in_flight: FuturesUnordered<BoxFuture<'static, Done>>,
    /// The next delivery, while it waits for the rate.
    next: Option<Delivery>,
    /// Deliveries whose lease is in doubt.
    held: VecDeque<Live>,
    /// Jobs that wait for room in the ledger.
    backlog: VecDeque<Job>,
    wake_at: Option<Instant>,
    retries_first: bool,
    /// The destination said that it is gone: nothing is attempted until the subscription changes.
    gone: bool,
    closing: bool,
    rng: fastrand::Rng,
}

/// An attempt that ended.
struct Done {
    delivery: Delivery,
    outcome: Outcome,
    probe: bool,
    began: Instant,
}

enum Step {
    Close,
    Done(Done),
    Written,
    Changed,
    Wake,
    Take(Delivery),
}

impl LaneTask {
    pub(super) fn new(ends: LaneEnds, tools: LaneTools, seed: u64) -> LaneTask {
        let mandate = ends.shared.mandate.load_full();
        let subscription = &mandate.subscription;
        LaneTask {
            sender: tools.workshop.sender(subscription),
            breaker: Breaker::new(tools.breaker),
            rate: Rate::new(subscription.policy.rate_per_second, Instant::now()),
            mandate,
            ends,
            tools,
            in_flight: FuturesUnordered::new(),
            next: None,
            held: VecDeque::new(),
            backlog: VecDeque::new(),
            wake_at: None,
            retries_first: false,
            gone: false,
            closing: false,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Works until the lane is retired and everything it held is settled or with the ledger.
    pub(super) async fn run(mut self) {
        while !self.closing || !self.in_flight.is_empty() || !self.backlog.is_empty() {
            match self.step().await {
                Step::Close => self.close(),
                Step::Done(done) => self.after(done),
                Step::Written => {}
                Step::Changed => self.change(),
                Step::Wake => self.wake(),
                Step::Take(delivery) => self.take(delivery),
            }
            self.ends.shared.publish(&self.breaker);
            self.ends.shared.in_flight.store(self.in_flight.len(), Ordering::Relaxed);
        }
    }

    fn has_slot(&self) -> bool {
        self.in_flight.len() < self.mandate.subscription.policy.concurrency.max(1) as usize
    }

    async fn step(&mut self) -> Step {
        let may_take = !self.closing
            && self.next.is_none()
            && self.has_slot()
            && self.backlog.len() < MAX_BACKLOG
            && self.held.len() < MAX_HELD;
        let LaneTask { ends, in_flight, backlog, tools, .. } = self;
        let wake_at = self.wake_at;
        tokio::select! { biased;
            () = ends.retire.cancelled(), if !self.closing => Step::Close,
            Some(done) = in_flight.next(), if !in_flight.is_empty() => Step::Done(done),
            room = tools.ledger.room(), if !backlog.is_empty() => {
                // Without a ledger nothing can be parked: what is left stays unsettled.
                match (room, backlog.pop_front()) {
                    (Some(permit), Some(job)) => permit.send(job),
                    _ => backlog.clear(),
                }
                Step::Written
            }
            Ok(()) = ends.changes.changed() => Step::Changed,
            () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => Step::Wake,
            delivery = receive(&mut ends.live, &mut ends.retries, self.retries_first), if may_take => {
                self.retries_first = !self.retries_first;
                Step::Take(delivery)
            }
        }
    }

    /// Decides about one delivery: attempt, wait, park or let go.
    fn take(&mut self, delivery: Delivery) {
        let now = Instant::now();
        let delivery = match delivery {
            Delivery::Live(live) if live.lease_is_lost() => return,
            Delivery::Live(live) if !live.lease_is_valid() => {
                self.held.push_back(live);
                self.wake_by(now + LEASE_PAUSE);
                return;
            }
            Delivery::Retry(retry) if self.claim_is_short(&retry) => return,
            other => other,
        };
        if !self.tools.views.is_fresh() {
            self.next = Some(delivery);
            self.wake_by(now + LEASE_PAUSE);
            return;
        }
        if !delivery.is_within(&self.mandate) {
            self.withhold(delivery);
            return;
        }
        if self.gone || !self.breaker.would_admit(now) {
            self.set_aside(delivery);
            return;
        }
        if let Err(wait) = self.rate.take() {
            self.next = Some(delivery);
            self.wake_by(now + wait);
            return;
        }
        let patience = Duration::from_millis(self.mandate.subscription.policy.timeout_ms)
            + Duration::from_secs(1);
        match self.breaker.admit(now, patience) {
            Admission::Go => self.start(delivery, false, now),
            Admission::Probe => self.start(delivery, true, now),
            Admission::Refused(_) => self.set_aside(delivery),
        }
    }

    /// Its owner is not granted it any more: to a live delivery that is one more filter, a parked one
    /// is a dead letter, so that what was kept does not vanish.
    fn withhold(&mut self, delivery: Delivery) {
        metrics::withheld();
        let attempts = delivery.attempts();
        let job = match delivery {
            Delivery::Live(live) => {
                live.settle();
                None
            }
            parked => self.aftermath().give_up(
                parked,
                attempts,
                DeadReason::NotGranted,
                String::from("its client is not granted it any more"),
            ),
        };
        self.backlog.extend(job);
    }

    /// The claim could end before the attempt does: leave it to run out.
    fn claim_is_short(&self, retry: &Retry) -> bool {
        let ends_at_ms = wall_ms(&self.tools.time)
            .saturating_add_unsigned(self.mandate.subscription.policy.timeout_ms);
        retry.claimed.claim.until_ms <= ends_at_ms
    }

    fn start(&mut self, delivery: Delivery, probe: bool, began: Instant) {
        let Some(message) = delivery.message() else {
            debug_assert!(false, "the router lets no malformed entry through");
            return;
        };
        bump(&self.ends.shared.counters.attempts);
        if matches!(delivery, Delivery::Retry(_)) {
            bump(&self.ends.shared.counters.retried);
        }
        let attempt = self.sender.attempt(&message, delivery.attempts().saturating_add(1));
        let abort = self.tools.abort.clone();
        self.in_flight.push(Box::pin(async move {
            let outcome = tokio::select! { biased;
                outcome = attempt => outcome,
                () = abort.cancelled() => Outcome::Abandoned,
            };
            Done { delivery, outcome, probe, began }
        }));
    }

    fn after(&mut self, done: Done) {
        let Done { delivery, outcome, probe, began } = done;
        self.observe(&outcome, probe, began, Instant::now());
        let before = delivery.attempts();
        let attempts = before.saturating_add(1);
        let next = plan_next(&outcome, attempts, &self.mandate.subscription.policy, self.rng.f64());
        let error = match outcome {
            Outcome::Failed(failure) => {
                self.gone |= failure.kind == FailureKind::Gone;
                failure.detail
            }
            Outcome::Accepted | Outcome::Abandoned => String::from("the attempt was abandoned"),
        };
        if next == Next::Disable {
            self.backlog.push_back(Job::Disable(Arc::clone(&self.mandate.subscription)));
        }
        let aftermath = self.aftermath();
        let job = match next {
            Next::Settled => aftermath.delivered(delivery),
            Next::Retry(delay) => aftermath.park(delivery, attempts, delay, error),
            Next::Again => aftermath.park(delivery, before, Duration::ZERO, error),
            Next::GiveUp(reason) => aftermath.give_up(delivery, attempts, reason, error),
            Next::Disable => {
                aftermath.give_up(delivery, attempts, DeadReason::DestinationGone, error)
            }
        };
        self.backlog.extend(job);
    }

    fn aftermath(&self) -> Aftermath<'_> {
        Aftermath {
            shared: &self.ends.shared,
            subscription: &self.mandate.subscription,
            now_ms: wall_ms(&self.tools.time),
        }
    }

    fn set_aside(&mut self, delivery: Delivery) {
        let jitter_unit = self.rng.f64();
        let job =
            self.aftermath().set_aside(delivery, jitter_unit, "the destination takes nothing now");
        self.backlog.extend(job);
    }

    /// Tells the breaker, the counters and the log.
    fn observe(&mut self, outcome: &Outcome, probe: bool, began: Instant, now: Instant) {
        let result = match outcome {
            Outcome::Accepted => "accepted",
            Outcome::Abandoned => "abandoned",
            Outcome::Failed(failure) => {
                bump(&self.ends.shared.counters.failed);
                self.ends.shared.last_error.store(Some(Arc::new(failure.detail.clone())));
                failure.kind.code()
            }
        };
        metrics::attempt(result, now - began);
        let Some(verdict) = verdict(outcome) else {
            return;
        };
        let id = &self.mandate.subscription.id;
        match self.breaker.record(verdict, probe, now, self.rng.f64()) {
            Change::None => {}
            Change::Opened => {
                metrics::breaker("opened");
                tracing::warn!(subscription = %id, result, "destination fails: its deliveries are parked");
            }
            Change::Closed => {
                metrics::breaker("closed");
                self.ends.shared.recovering.store(true, Ordering::Release);
                tracing::info!(subscription = %id, "destination is back: its parked deliveries become due");
            }
        }
    }

    fn wake_by(&mut self, at: Instant) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Asks again for what waited.
    fn wake(&mut self) {
        self.wake_at = None;
        if let Some(delivery) = self.next.take() {
            self.take(delivery);
        }
        for _ in 0..self.held.len() {
            if !self.has_slot() || self.next.is_some() {
                break;
            }
            if let Some(live) = self.held.pop_front() {
                self.take(Delivery::Live(live));
            }
        }
        if !self.held.is_empty() {
            self.wake_by(Instant::now() + LEASE_PAUSE);
        }
    }

    fn change(&mut self) {
        let mandate = Arc::clone(&self.ends.changes.borrow_and_update());
        let before = std::mem::replace(&mut self.mandate, mandate);
        let (before, changed) = (&before.subscription, &self.mandate.subscription);
        if changed.version == before.version {
            return;
        }
        if changed.destination != before.destination {
            self.breaker = Breaker::new(self.tools.breaker);
        }
        if changed.policy.rate_per_second != self.rate.per_second() {
            self.rate = Rate::new(changed.policy.rate_per_second, Instant::now());
        }
        if changed.destination != before.destination || changed.policy != before.policy {
            self.sender = self.tools.workshop.sender(changed);
        }
        self.gone = false;
    }

    /// Takes nothing more and sets everything aside that was not begun.
    fn close(&mut self) {
        self.closing = true;
        self.wake_at = None;
        self.ends.live.close();
        self.ends.retries.close();
        let mut left: Vec<Delivery> = self.next.take().into_iter().collect();
        left.extend(self.held.drain(..).map(Delivery::Live));
        while let Ok(live) = self.ends.live.try_recv() {
            left.push(Delivery::Live(live));
        }
        while let Ok(retry) = self.ends.retries.try_recv() {
            left.push(Delivery::Retry(retry));
        }
        for delivery in left {
            let attempts = delivery.attempts();
            let error = String::from("its lane closed before the attempt");
            let job = self.aftermath().park(delivery, attempts, Duration::ZERO, error);
            self.backlog.extend(job);
        }
    }
}
