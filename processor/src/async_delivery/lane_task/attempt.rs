//! One attempt: begun, and what follows from how it ended.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use store::DeadReason;
use tokio::time::Instant;

use super::{Done, LaneTask};
use crate::async_delivery::breaker::Change;
use crate::async_delivery::delivery::Delivery;
use crate::async_delivery::ledger::Job;
use crate::async_delivery::metrics;
use crate::async_delivery::outcome::{FailureKind, Next, Outcome, plan_next, verdict};
use crate::async_delivery::stats::bump;

impl LaneTask {
    pub(super) fn start(&mut self, delivery: Delivery, probe: bool, began: Instant) {
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

    /// Decides what follows, and hands it to the ledger.
    pub(super) fn after(&mut self, done: Done) {
        let Done { delivery, outcome, probe, began } = done;
        self.keys.leave(&delivery);
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
}
