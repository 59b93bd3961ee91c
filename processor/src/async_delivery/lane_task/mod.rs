//! A destination's lane at work: one task that drives a bounded set of attempts.
//!
//! The order of the arms is the policy: end, then results, then writes, then changes, then new work.
//! A live delivery leaves in one of four ways: acknowledged, handed to the ledger to be parked or
//! given up, or let go because its shard's lease is lost. It never waits for another destination.

mod attempt;
mod gather;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_smithy_async::time::SharedTimeSource;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use store::{DeadReason, DeliveryOrder};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::async_delivery::aftermath::Aftermath;
use crate::async_delivery::breaker::{Admission, Breaker, BreakerPolicy};
use crate::async_delivery::delivery::{Delivery, Live};
use crate::async_delivery::destination::{Sender, Workshop};
use crate::async_delivery::keys::{Entered, Keys};
use crate::async_delivery::lane::{LaneEnds, NO_ROOM_PAUSE, Retry, receive};
use crate::async_delivery::ledger::{Job, LEASE_PAUSE, LedgerHandle};
use crate::async_delivery::mandate::Mandate;
use crate::async_delivery::metrics;
use crate::async_delivery::rate::Rate;
use crate::async_delivery::watch::ViewWatch;
use crate::clock::wall_ms;

use attempt::Done;
use gather::Gathered;

/// Jobs that wait for room in the ledger before the lane stops taking new work.
const MAX_BACKLOG: usize = 64;
/// Deliveries that wait for their lease to be certain again before the lane stops taking new work.
const MAX_HELD: usize = 1_024;

/// What every lane is made with.
#[derive(Clone)]
pub(super) struct LaneTools {
    pub(super) workshop: Workshop,
    pub(super) time: SharedTimeSource,
    /// Who makes the attempts.
    pub(super) worker: Arc<str>,
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
    /// The call that is being put together; it goes out as soon as nothing more is at hand.
    gathered: Gathered,
    /// The next delivery, while it waits for the rate.
    next: Option<Delivery>,
    /// Deliveries whose lease is in doubt.
    held: VecDeque<Live>,
    /// What waits for its key, where order per key is asked for.
    keys: Keys,
    /// Jobs that wait for room in the ledger.
    backlog: VecDeque<Job>,
    wake_at: Option<Instant>,
    retries_first: bool,
    /// The destination said that it is gone: nothing is attempted until the subscription changes.
    gone: bool,
    closing: bool,
    rng: fastrand::Rng,
}

enum Step {
    Close,
    Done(Done),
    Written,
    Changed,
    Wake,
    Take(Delivery),
    Ready,
    Send,
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
            gathered: Gathered::default(),
            next: None,
            held: VecDeque::new(),
            keys: Keys::default(),
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
                Step::Take(delivery) => self.enter(delivery),
                Step::Ready => self.take_ready(),
                Step::Send => self.send(),
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
        let (is_ready, may_take_new) = (self.keys.is_ready(), may_take && self.keys.has_room());
        let has_gathered = !self.gathered.is_empty();
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
            () = std::future::ready(()), if may_take && is_ready => Step::Ready,
            delivery = receive(&mut ends.live, &mut ends.retries, self.retries_first), if may_take_new => {
                self.retries_first = !self.retries_first;
                Step::Take(delivery)
            }
            () = std::future::ready(()), if has_gathered => Step::Send,
        }
    }

    /// A new delivery, which may have to wait for its key.
    fn enter(&mut self, delivery: Delivery) {
        if self.mandate.subscription.policy.order == DeliveryOrder::None {
            return self.take(delivery);
        }
        match self.keys.enter(delivery) {
            Entered::Now(delivery) => self.take(delivery),
            Entered::Waits => {}
            Entered::NoRoom(delivery) => {
                let (attempts, delay) =
                    (delivery.attempts(), NO_ROOM_PAUSE.mul_f64(0.5 + self.rng.f64()));
                let why = String::from("too many messages of its key wait");
                let job = self.aftermath().park(delivery, attempts, delay, why);
                self.backlog.extend(job);
            }
        }
    }

    fn take_ready(&mut self) {
        if let Some(delivery) = self.keys.next_ready() {
            self.take(delivery);
        }
    }

    /// Decides about one delivery that has its key: attempt, wait, park or let go.
    fn take(&mut self, delivery: Delivery) {
        if !self.makes_room(&delivery) {
            return self.keys.put_back(delivery);
        }
        let now = Instant::now();
        let delivery = match delivery {
            Delivery::Live(live) if live.lease_is_lost() => {
                return self.keys.leave(&Delivery::Live(live));
            }
            Delivery::Live(live) if !live.lease_is_valid() => {
                self.held.push_back(live);
                self.wake_by(now + LEASE_PAUSE);
                return;
            }
            Delivery::Retry(retry) if self.claim_is_short(&retry) => {
                return self.keys.leave(&Delivery::Retry(retry));
            }
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
            Admission::Go => self.gather(delivery, false),
            Admission::Probe => self.gather(delivery, true),
            Admission::Refused(_) => self.set_aside(delivery),
        }
    }

    /// Its owner is not granted it any more: to a live delivery that is one more filter, a parked one
    /// is a dead letter, so that what was kept does not vanish.
    fn withhold(&mut self, delivery: Delivery) {
        metrics::withheld();
        self.keys.leave(&delivery);
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

    fn aftermath(&self) -> Aftermath<'_> {
        Aftermath {
            shared: &self.ends.shared,
            subscription: &self.mandate.subscription,
            now_ms: wall_ms(&self.tools.time),
        }
    }

    fn set_aside(&mut self, delivery: Delivery) {
        self.keys.leave(&delivery);
        let jitter_unit = self.rng.f64();
        let job =
            self.aftermath().set_aside(delivery, jitter_unit, "the destination takes nothing now");
        self.backlog.extend(job);
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
        // What was about to go out is decided about again, by what holds from now on.
        self.put_back_gathered();
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
        left.extend(self.gathered.take().deliveries);
        left.extend(self.held.drain(..).map(Delivery::Live));
        left.extend(self.keys.drain());
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
