//! A destination's lane at work: one task that drives a bounded set of attempts.
//!
//! The order of the arms is the policy: end, then results, then writes, then changes, then new work.
//! A live delivery leaves in one of four ways: acknowledged, handed to the ledger to be parked or
//! given up, or let go because its shard's lease is lost. It never waits for another destination.

mod attempt;
mod close;
mod ended;
mod gather;
mod ordered;
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
use store::{DeadReason, DeliveryStore};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::async_delivery::aftermath::Aftermath;
use crate::async_delivery::breaker::{Admission, Breaker, BreakerPolicy};
use crate::async_delivery::delivery::Delivery;
use crate::async_delivery::destination::{Sender, Workshop};
use crate::async_delivery::lane::{LaneEnds, Retry, Returned, receive};
use crate::async_delivery::ledger::{Job, LEASE_PAUSE, LedgerHandle};
use crate::async_delivery::mandate::Mandate;
use crate::async_delivery::metrics;
use crate::async_delivery::ordered::{Chains, Chore, OpenShards, Order, ShardWatch};
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
    /// Where live deliveries go that a destination does not take now: back to whoever routes.
    pub(super) returns: mpsc::Sender<Returned>,
    /// While it is not fresh nobody knows what is granted, and nothing is attempted.
    pub(super) views: ViewWatch,
    pub(super) breaker: BreakerPolicy,
    /// Cancelled: attempts under way are given up.
    pub(super) abort: CancellationToken,
    /// Where chains stand.
    pub(super) deliveries: DeliveryStore,
    pub(super) shards: OpenShards,
}

/// How sure this worker may be that a delivery is its own to attempt.
enum Trust {
    Full,
    /// The lease cannot be trusted now; it may be again.
    Doubted,
    None,
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
    held: VecDeque<Delivery>,
    /// What waits for its turn, where an order is asked for.
    order: Order,
    chains: Chains,
    /// Calls for chains.
    chores: FuturesUnordered<BoxFuture<'static, Chore>>,
    shards: ShardWatch,
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
    Shards,
    Chore(Chore),
    Chain,
}

impl LaneTask {
    pub(super) fn new(ends: LaneEnds, tools: LaneTools, seed: u64) -> LaneTask {
        let mandate = ends.shared.mandate.load_full();
        let subscription = &mandate.subscription;
        LaneTask {
            sender: tools.workshop.sender(subscription),
            breaker: Breaker::new(tools.breaker),
            rate: Rate::new(subscription.policy.rate_per_second, Instant::now()),
            chains: Chains {
                store: tools.deliveries.clone(),
                subscription: subscription.id.clone(),
            },
            chores: FuturesUnordered::new(),
            shards: tools.shards.watch(),
            mandate,
            ends,
            tools,
            in_flight: FuturesUnordered::new(),
            gathered: Gathered::default(),
            next: None,
            held: VecDeque::new(),
            order: Order::default(),
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
        while !self.closing
            || !self.in_flight.is_empty()
            || !self.backlog.is_empty()
            || !self.order.is_flushed()
        {
            match self.step().await {
                Step::Close => self.close(),
                Step::Done(done) => self.after(done),
                Step::Written => {}
                Step::Changed => self.change(),
                Step::Wake => self.wake(),
                Step::Take(delivery) => self.enter(delivery),
                Step::Ready => self.take_ready(),
                Step::Send => self.send(),
                Step::Shards => self.see_shards(),
                Step::Chore(chore) => self.after_chore(chore),
                Step::Chain => self.go_on(),
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
        let (is_ready, may_take_new) =
            (self.order.keys.is_ready(), may_take && self.order.has_room());
        let chain_at = self.chain_at().filter(|_| may_take);
        let has_gathered = !self.gathered.is_empty();
        let LaneTask { ends, in_flight, backlog, tools, chores, shards, .. } = self;
        let wake_at = self.wake_at;
        tokio::select! { biased;
            () = ends.retire.cancelled(), if !self.closing => Step::Close,
            Some(done) = in_flight.next(), if !in_flight.is_empty() => Step::Done(done),
            Some(chore) = chores.next(), if !chores.is_empty() => Step::Chore(chore),
            room = tools.ledger.room(), if !backlog.is_empty() => {
                // Without a ledger nothing can be parked: what is left stays unsettled.
                match (room, backlog.pop_front()) {
                    (Some(permit), Some(job)) => permit.send(job),
                    _ => backlog.clear(),
                }
                Step::Written
            }
            Ok(()) = ends.changes.changed() => Step::Changed,
            () = shards.changed() => Step::Shards,
            () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => Step::Wake,
            () = std::future::ready(()), if may_take && is_ready => Step::Ready,
            () = sleep_until(chain_at.unwrap_or_else(Instant::now)), if chain_at.is_some() => Step::Chain,
            delivery = receive(&mut ends.live, &mut ends.retries, self.retries_first), if may_take_new => {
                self.retries_first = !self.retries_first;
                Step::Take(delivery)
            }
            () = std::future::ready(()), if has_gathered => Step::Send,
        }
    }

    /// A new delivery, which may have to wait for its turn.
    fn enter(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Live(live) if self.keeps_order() => self.enter_in_order(live),
            other => self.take(other),
        }
    }

    fn take_ready(&mut self) {
        if let Some(delivery) = self.order.keys.next_ready() {
            self.take(delivery);
        }
    }

    /// Decides about one delivery whose turn it is: attempt, wait, park or let go.
    fn take(&mut self, delivery: Delivery) {
        if !self.makes_room(&delivery) {
            return self.order.keys.put_back(delivery);
        }
        let now = Instant::now();
        let delivery = match (self.trust(&delivery), delivery) {
            (Trust::None, Delivery::InOrder(in_order)) => return self.let_go(in_order),
            (Trust::None, _) => return,
            (Trust::Doubted, delivery) => {
                self.held.push_back(delivery);
                self.wake_by(now + LEASE_PAUSE);
                return;
            }
            (Trust::Full, delivery) => delivery,
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

    /// Whether this worker may attempt a delivery.
    fn trust(&self, delivery: &Delivery) -> Trust {
        let lease = match delivery {
            Delivery::Retry(retry) if self.claim_is_short(retry) => return Trust::None,
            Delivery::Live(live) if live.is_recalled() => return Trust::None,
            Delivery::InOrder(in_order) => match self.owner_of(in_order) {
                Err(()) => return Trust::None,
                Ok(Some(open)) if open.is_over() => return Trust::None,
                Ok(open) => open.map(|open| &open.lease),
            },
            Delivery::Live(_) | Delivery::Retry(_) => None,
        };
        match lease.or_else(|| delivery.live().map(|live| live.lease())) {
            Some(lease) if lease.is_lost() => Trust::None,
            Some(lease) if !lease.is_valid() => Trust::Doubted,
            _ => Trust::Full,
        }
    }

    /// Its owner is not granted it any more: to a live delivery that is one more filter, a parked one
    /// is a dead letter, so that what was kept does not vanish.
    fn withhold(&mut self, delivery: Delivery) {
        metrics::withheld();
        let delivery = match delivery {
            Delivery::InOrder(in_order) => return self.withhold_in_order(in_order),
            other => other,
        };
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
        let delivery = match delivery {
            Delivery::InOrder(in_order) => return self.set_aside_in_order(in_order),
            other => other,
        };
        if delivery.is_of_range() {
            return;
        }
        let Err(delivery) = self.give_back(delivery) else { return };
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
            if let Some(delivery) = self.held.pop_front() {
                self.take(delivery);
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
        self.see_shards();
    }
}
