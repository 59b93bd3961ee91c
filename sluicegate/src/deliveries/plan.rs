//! What sending a dead letter again means, as things stand. Pure.

use std::time::Duration;

use processor::integration::Integrations;
use processor::{DecodeOptions, Reread, RereadMessage, reread, wanted_by};
use store::{
    DeadLetter, DeadReason, Message, OnExhausted, ParkedDelivery, StoreItem, SubscriptionId,
    SubscriptionSnapshot,
};

/// What the decision is made by.
pub(super) struct Known<'a> {
    pub(super) integrations: &'a Integrations,
    pub(super) decode: &'a DecodeOptions,
    pub(super) subscriptions: &'a SubscriptionSnapshot,
    pub(super) now_ms: i64,
}

/// What is done with a letter: both lists may be empty.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Messages to store, if they are not.
    pub(super) store: Vec<StoreItem>,
    /// Deliveries to park, due at once, if they are not.
    pub(super) park: Vec<ParkedDelivery>,
    /// A chain may have stopped at it: then it is let go on instead, and nothing is parked.
    pub(super) resume: bool,
    /// Why it stays a dead letter, whatever is done.
    pub(super) stays: Option<String>,
}

impl Plan {
    fn stays(why: impl Into<String>) -> Plan {
        Plan { stays: Some(why.into()), ..Plan::default() }
    }
}

/// Decides about one letter.
pub(super) fn plan(letter: &DeadLetter, known: &Known<'_>) -> Plan {
    if letter.reason.is_note() {
        return Plan::stays("it says what was lost, and is no message itself");
    }
    let Reread { messages, malformed } = reread(letter, known.integrations, known.decode);
    let defect = malformed.first().map(|(reason, detail)| format!("{}: {detail}", reason.code()));
    let mut plan = match (messages.as_slice(), &letter.subscription, defect) {
        ([], _, defect) => return Plan::stays(format!("still {}", defect.unwrap_or_default())),
        (_, Some(_), Some(defect)) => return Plan::stays(format!("still {defect}")),
        (_, Some(subscription), None) => return redeliver(letter, &messages, subscription, known),
        (_, None, defect) => {
            Plan { stays: defect.map(|d| format!("a part is still {d}")), ..Plan::default() }
        }
    };
    for RereadMessage { message, retention } in messages {
        let kept = retention.filter(|retention| is_live(&message, *retention, known.now_ms));
        // One that the store refused was routed to subscriptions when it was read.
        if letter.reason != DeadReason::StoreRejected {
            let wanted = wanted_by(&message, known.integrations, known.subscriptions);
            plan.park.extend(wanted.into_iter().map(|id| due(letter, message.clone(), id, known)));
        }
        if let Some(retention) = kept {
            plan.store.push(StoreItem { message, retention, fence: letter.fence });
        }
    }
    if plan.store.is_empty() && plan.park.is_empty() && plan.stays.is_none() {
        return Plan::stays(
            "nothing wants it: it is older than its retention, and no subscription asks for it",
        );
    }
    plan
}

/// A delivery that was given up goes to its subscription and nowhere else.
fn redeliver(
    letter: &DeadLetter,
    messages: &[RereadMessage],
    subscription: &SubscriptionId,
    known: &Known<'_>,
) -> Plan {
    let found = known.subscriptions.subscriptions.iter().find(|s| s.id == *subscription);
    let mut plan = Plan::default();
    match found {
        None => return Plan::stays(format!("subscription {subscription} is gone")),
        Some(found) if !found.enabled => {
            return Plan::stays(format!("subscription {subscription} is switched off"));
        }
        Some(found) => plan.resume = found.policy.on_exhausted == OnExhausted::Stop,
    }
    for RereadMessage { message, .. } in messages {
        let wanted = wanted_by(message, known.integrations, known.subscriptions);
        if wanted.contains(subscription) {
            plan.park.push(due(letter, message.clone(), subscription.clone(), known));
        } else {
            let why = "does not ask for it any more, or its client is not granted it";
            plan.stays = Some(format!("subscription {subscription} {why}"));
        }
    }
    plan
}

fn due(
    letter: &DeadLetter,
    message: Message,
    subscription: SubscriptionId,
    known: &Known<'_>,
) -> ParkedDelivery {
    ParkedDelivery {
        subscription,
        message,
        attempts: 0,
        first_failed_at_ms: known.now_ms,
        due_at_ms: known.now_ms,
        last_error: format!("sent again by an operator; it had been given up: {}", letter.detail),
        fence: letter.fence,
    }
}

/// It would still be kept, if it had been stored.
fn is_live(message: &Message, retention: Duration, now_ms: i64) -> bool {
    let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    message.arrived_at_ms.saturating_add(retention_ms) > now_ms
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
