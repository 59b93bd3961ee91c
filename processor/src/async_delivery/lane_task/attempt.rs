//! One call: begun, and what follows from how it ended.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use store::{AttemptRecord, DeadReason, DeliveryKey};
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;

use super::LaneTask;
use super::gather::Gathered;
use crate::async_delivery::breaker::{BreakerState, Change};
use crate::async_delivery::delivery::Delivery;
use crate::async_delivery::lane::Returned;
use crate::async_delivery::ledger::Job;
use crate::async_delivery::metrics;
use crate::async_delivery::outcome::{
    Failure, FailureKind, Next, Outcome, call_verdict, plan_next,
};
use crate::async_delivery::stats::bump;
use crate::clock::wall_ms;

/// A call that ended.
pub(super) struct Done {
    deliveries: Vec<Delivery>,
    /// One for each delivery.
    outcomes: Vec<Outcome>,
    probe: bool,
    began: Instant,
}

impl LaneTask {
    /// The call that was put together goes out.
    pub(super) fn send(&mut self) {
        let Gathered { deliveries, outgoing, probe, .. } = self.gathered.take();
        let (began, count) = (Instant::now(), outgoing.len());
        let attempt = self.sender.attempt(outgoing);
        let abort = self.tools.abort.clone();
        self.in_flight.push(Box::pin(async move {
            let mut outcomes = tokio::select! { biased;
                outcomes = attempt => outcomes,
                () = abort.cancelled() => vec![Outcome::Abandoned; count],
            };
            debug_assert_eq!(outcomes.len(), count, "a sender owes one outcome per message");
            outcomes.resize_with(count, no_outcome);
            Done { deliveries, outcomes, probe, began }
        }));
    }

    /// Decides what follows for each delivery, and hands it to the ledger.
    pub(super) fn after(&mut self, done: Done) {
        let Done { deliveries, outcomes, probe, began } = done;
        let now = Instant::now();
        self.tell_breaker(&outcomes, probe, now);
        for (delivery, outcome) in deliveries.into_iter().zip(outcomes) {
            self.observe(&outcome, now - began);
            self.backlog.extend(self.note(&delivery, &outcome, now - began));
            self.follow(delivery, outcome);
        }
    }

    fn follow(&mut self, delivery: Delivery, outcome: Outcome) {
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
        let delivery = match delivery {
            Delivery::InOrder(in_order) => return self.follow_in_order(in_order, next, error),
            other => other,
        };
        if next == Next::Disable {
            self.backlog.push_back(Job::Disable(Arc::clone(&self.mandate.subscription)));
        }
        let is_down = self.breaker.state() != BreakerState::Closed;
        let delivery = match (delivery, &next) {
            // Nothing is written for a message that its range still has.
            (Delivery::Live(live), Next::Retry(_)) if is_down && live.is_of_range() => {
                return live.fail();
            }
            (Delivery::Live(live), Next::Again) if live.is_of_range() => return drop(live),
            // It says more about the destination than about the message: that waits with those behind it.
            (live @ Delivery::Live(_), Next::Retry(_)) if is_down => match self.give_back(live) {
                Ok(()) => return,
                Err(live) => live,
            },
            (other, _) => other,
        };
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

    /// A live delivery that its destination does not take now waits in the stream, behind a range. One that is in an order, and
    /// one for which there is no room, comes back.
    pub(super) fn give_back(&self, delivery: Delivery) -> Result<(), Delivery> {
        let live = match delivery {
            Delivery::Live(live) if !self.keeps_order() && !self.closing => live,
            other => return Err(other),
        };
        let returned = Returned { shared: Arc::clone(&self.ends.shared), live };
        self.tools.returns.try_send(returned).map_err(|refused| match refused {
            TrySendError::Full(Returned { live, .. })
            | TrySendError::Closed(Returned { live, .. }) => Delivery::Live(live),
        })
    }

    /// What is kept of an attempt: of one that failed, and of the one by which a delivery that had to wait succeeded. One that
    /// succeeds at once leaves nothing.
    fn note(&self, delivery: &Delivery, outcome: &Outcome, took: Duration) -> Option<Job> {
        let before = delivery.attempts();
        let detail = match outcome {
            Outcome::Failed(failure) => failure.detail.clone(),
            Outcome::Accepted if delivery.live().is_none() => String::new(),
            Outcome::Accepted | Outcome::Abandoned => return None,
        };
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let subscription = self.mandate.subscription.id.clone();
        Some(Job::Note(Box::new(AttemptRecord {
            delivery: DeliveryKey { subscription, message: delivery.message_id()? },
            at_ms: wall_ms(&self.tools.time).saturating_sub_unsigned(took_ms),
            number: before.saturating_add(1),
            took_ms,
            outcome: outcome.code().to_owned(),
            detail,
            worker: self.tools.worker.to_string(),
        })))
    }

    /// Tells the counters.
    fn observe(&self, outcome: &Outcome, took: Duration) {
        if let Outcome::Failed(failure) = outcome {
            bump(&self.ends.shared.counters.failed);
            self.ends.shared.last_error.store(Some(Arc::new(failure.detail.clone())));
        }
        metrics::attempt(outcome.code(), took);
    }

    /// A call is one observation, however many messages it carried.
    fn tell_breaker(&mut self, outcomes: &[Outcome], probe: bool, now: Instant) {
        let Some(verdict) = call_verdict(outcomes.iter()) else {
            return;
        };
        let id = &self.mandate.subscription.id;
        let change = self.breaker.record(verdict, probe, now, self.rng.f64());
        let subscription = Arc::clone(&self.mandate.subscription);
        if change == Change::Closed {
            self.backlog.push_back(Job::Recovered(subscription));
        } else if change == Change::Opened {
            self.backlog.push_back(Job::Failing(subscription));
        }
        match change {
            Change::None => {}
            Change::Opened => {
                let result = outcomes.first().map_or("none", Outcome::code);
                metrics::breaker("opened");
                tracing::warn!(subscription = %id, result, "destination fails: its deliveries wait");
            }
            Change::Closed => {
                metrics::breaker("closed");
                self.ends.shared.recovering.store(true, Ordering::Release);
                self.order.board.all_due(wall_ms(&self.tools.time));
                tracing::info!(subscription = %id, "destination is back: what waits for it goes on");
            }
        }
    }
}

/// For a message that its sender said nothing about: whether it arrived is not known.
fn no_outcome() -> Outcome {
    Outcome::Failed(Failure {
        kind: FailureKind::Unreachable,
        detail: String::from("the call ended without an outcome for it"),
        retry_after: None,
    })
}
