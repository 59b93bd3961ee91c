//! `deliveries show`: what became of one message for each subscription. Pure.
//!
//! What that is, is decided in `store` ([`DeliveryCase::fate`]); here it is said.

use serde_json::{Value, json};
use store::{AttemptRecord, DeadLetter, DeliveryCase, DeliveryFate, Message, ParkedSummary, Trace};

use super::list::time;

fn words(fate: &DeliveryFate, trace: &Trace) -> String {
    match fate {
            DeliveryFate::Delivered { from_ms, by_ms, attempts: 1 } => format!(
                "delivered at its first attempt, between {} and {}",
                time(*from_ms),
                time(*by_ms)
            ),
            DeliveryFate::Delivered { by_ms, attempts, .. } => {
                format!("delivered at attempt {attempts}, at {}", time(*by_ms))
            }
            DeliveryFate::CaughtUp { from_ms, by_ms } => format!(
                "delivered after its destination had been down or behind, between {} and {}",
                time(*from_ms),
                time(*by_ms)
            ),
            DeliveryFate::InStream { since_ms } => format!(
                "waits in the stream: its destination is down or behind since {}",
                time(*since_ms)
            ),
            DeliveryFate::Waits => trace.parked.as_ref().map_or_else(
                || "in hand of a worker".to_owned(),
                |parked| {
                    let ParkedSummary { attempts, due_at_ms, last_error, .. } = parked;
                    let due = time(*due_at_ms);
                    format!("waits after {}; due {due}; last: {last_error}", times(*attempts))
                },
            ),
            DeliveryFate::GivenUp => trace.dead.as_ref().map_or_else(String::new, |dead| {
                let DeadLetter { reason, attempts, at_ms, detail, .. } = dead;
                let at = time(*at_ms);
                format!("given up at {at} after {}: {}: {detail}", times(*attempts), reason.code())
            }),
            DeliveryFate::NotWanted => {
                "not for it: it does not ask for it, its client is not granted it, it is switched off, or it was made later".to_owned()
            }
            DeliveryFate::NotYet => {
                "not delivered yet as far as is known: its shard's deliveries have not got there, or did so less than a minute ago".to_owned()
            }
            DeliveryFate::NoTrace => {
                "nothing is found of it: it was delivered at its first attempt, never for it, or waits in order behind another; its link would tell which".to_owned()
            }
        }
}

fn times(attempts: u32) -> String {
    match attempts {
        1 => "1 attempt".to_owned(),
        attempts => format!("{attempts} attempts"),
    }
}

/// For people.
pub(super) fn text(message: Option<&Message>, cases: &[DeliveryCase]) -> String {
    let mut text = String::new();
    if let Some(message) = message {
        let (position, arrived) = (&message.position, time(message.arrived_at_ms));
        text.push_str(&format!(
            "{} of {} about {}\narrived {arrived} in {} at {}.{}\n\n",
            message.id,
            message.integration,
            message.entity,
            position.shard_id,
            position.sequence,
            position.index
        ));
    }
    if cases.is_empty() {
        text.push_str("no subscription is there\n");
    }
    for case in cases {
        let fate = case.fate(message);
        text.push_str(&format!("{}: {}\n", case.subscription, words(&fate, &case.trace)));
        for attempt in &case.trace.attempts {
            let AttemptRecord { number, at_ms, took_ms, outcome, detail, worker, .. } = attempt;
            let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
            let line = format!(
                "  attempt {number} at {} by {worker}, {took_ms} ms: {outcome}{detail}",
                time(*at_ms)
            );
            text.extend(line.chars().map(|c| if c.is_control() { ' ' } else { c }));
            text.push('\n');
        }
    }
    text
}

/// For scripts.
pub(super) fn object(id: &str, message: Option<&Message>, cases: &[DeliveryCase]) -> Value {
    let about = message.map(|message| {
        json!({
            "integration": message.integration.as_str(),
            "entity": message.entity.as_str(),
            "arrived_at": time(message.arrived_at_ms),
            "stream": &*message.position.stream_arn,
            "shard": &*message.position.shard_id,
            "sequence": &*message.position.sequence,
            "index": message.position.index,
        })
    });
    let deliveries: Vec<Value> = cases.iter().map(|case| case_object(case, message)).collect();
    json!({ "id": id, "message": about, "deliveries": deliveries })
}

fn case_object(case: &DeliveryCase, message: Option<&Message>) -> Value {
    let fate = case.fate(message);
    let attempts: Vec<Value> = case
        .trace
        .attempts
        .iter()
        .map(|attempt| {
            json!({
                "number": attempt.number,
                "at": time(attempt.at_ms),
                "took_ms": attempt.took_ms,
                "outcome": attempt.outcome,
                "detail": attempt.detail,
                "worker": attempt.worker,
            })
        })
        .collect();
    let (from, by) = match &fate {
        DeliveryFate::Delivered { from_ms, by_ms, .. }
        | DeliveryFate::CaughtUp { from_ms, by_ms } => (Some(time(*from_ms)), Some(time(*by_ms))),
        _ => (None, None),
    };
    json!({
        "subscription": case.subscription.as_str(),
        "state": fate.code(),
        "why": words(&fate, &case.trace),
        "delivered_after": from,
        "delivered_by": by,
        "due_at": case.trace.parked.as_ref().map(|parked| time(parked.due_at_ms)),
        "attempts": attempts,
    })
}

#[cfg(test)]
#[path = "show_tests.rs"]
mod tests;
