//! The ways in which a delivery that is in no order leaves a lane, as jobs for the ledger. Writes nothing itself.

use std::sync::Arc;
use std::time::Duration;

use store::{DeadLetter, DeadReason, ParkedDelivery, Subscription};

use super::delivery::{Delivery, Live};
use super::lane::Shared;
use super::ledger::{GiveUp, Job, Origin, Park, Reschedule};
use super::outcome::{Next, plan_deferral};
use super::stats::bump;

/// What is known when a delivery leaves its lane.
pub(super) struct Aftermath<'a> {
    pub(super) shared: &'a Shared,
    pub(super) subscription: &'a Subscription,
    /// The wall clock, in ms since 1970.
    pub(super) now_ms: i64,
}

impl Aftermath<'_> {
    /// The destination acknowledged it.
    pub(super) fn delivered(&self, delivery: Delivery) -> Option<Job> {
        bump(&self.shared.counters.delivered);
        match delivery {
            Delivery::Live(live) => {
                live.settle();
                None
            }
            Delivery::Retry(retry) => Some(Job::Settle(retry.claimed.claim)),
            Delivery::InOrder(_) => not_ours(),
        }
    }

    /// It waits for another attempt after `delay`, with `attempts` made so far.
    pub(super) fn park(
        &self,
        delivery: Delivery,
        attempts: u32,
        delay: Duration,
        error: String,
    ) -> Option<Job> {
        let due_at_ms = later(self.now_ms, delay);
        match delivery {
            Delivery::Live(live) => self.park_live(live, attempts, due_at_ms, error),
            Delivery::Retry(retry) => Some(Job::Reschedule(Box::new(Reschedule {
                claim: retry.claimed.claim,
                attempts,
                due_at_ms,
                error,
            }))),
            Delivery::InOrder(_) => not_ours(),
        }
    }

    /// It was not attempted, because its destination takes nothing now or has no room.
    pub(super) fn set_aside(&self, delivery: Delivery, jitter_unit: f64, why: &str) -> Option<Job> {
        let (attempts, first_failed_at_ms, error) = match &delivery {
            Delivery::Live(_) | Delivery::InOrder(_) => (0, self.now_ms, why.to_owned()),
            Delivery::Retry(retry) => {
                let parked = &retry.claimed.delivery;
                (parked.attempts, parked.first_failed_at_ms, parked.last_error.clone())
            }
        };
        let policy = &self.subscription.policy;
        match plan_deferral(first_failed_at_ms, self.now_ms, policy, jitter_unit) {
            Next::Retry(delay) => self.park(delivery, attempts, delay, error),
            _ => self.give_up(delivery, attempts, DeadReason::DeliveryExhausted, error),
        }
    }

    /// It becomes a dead letter.
    pub(super) fn give_up(
        &self,
        delivery: Delivery,
        attempts: u32,
        reason: DeadReason,
        detail: String,
    ) -> Option<Job> {
        let (parked, origin) = match delivery {
            Delivery::Live(live) => {
                let id = &self.subscription.id;
                let parked = live.parked(id, attempts, self.now_ms, self.now_ms, String::new())?;
                (parked, Origin::Live(live))
            }
            Delivery::Retry(retry) => {
                (retry.claimed.delivery, Origin::Claimed(retry.claimed.claim))
            }
            Delivery::InOrder(_) => return not_ours(),
        };
        let mut letter = dead_letter(parked, reason, detail, self.now_ms);
        letter.attempts = attempts;
        let counters = Arc::clone(&self.shared.counters);
        Some(Job::GiveUp(Box::new(GiveUp { letter, origin, counters })))
    }

    fn park_live(&self, live: Live, attempts: u32, due_at_ms: i64, error: String) -> Option<Job> {
        let parked = live.parked(&self.subscription.id, attempts, self.now_ms, due_at_ms, error)?;
        let counters = Arc::clone(&self.shared.counters);
        Some(Job::Park(Box::new(Park { live, parked, counters })))
    }
}

/// What is in order leaves its lane by its chain. Should it ever come here it is let go of unsettled, which its batch notices.
fn not_ours() -> Option<Job> {
    debug_assert!(false, "what is in order leaves its lane by its chain");
    None
}

/// `now_ms` and a delay, without overflow.
pub(super) fn later(now_ms: i64, delay: Duration) -> i64 {
    now_ms.saturating_add_unsigned(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX))
}

/// The dead letter of a parked delivery that is given up.
pub(super) fn dead_letter(
    parked: ParkedDelivery,
    reason: DeadReason,
    detail: String,
    at_ms: i64,
) -> DeadLetter {
    let message = parked.message;
    DeadLetter {
        integration: message.integration,
        reason,
        detail,
        position: message.position,
        partition_key: message.partition_key,
        arrived_at_ms: message.arrived_at_ms,
        fence: parked.fence,
        attempts: parked.attempts,
        payload: message.payload,
        subscription: Some(parked.subscription),
        at_ms,
    }
}
