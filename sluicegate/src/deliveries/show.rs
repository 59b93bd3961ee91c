//! `deliveries show`: what became of one message for each subscription. Pure.
//!
//! Nothing is kept of a delivery that succeeded at once. That it was delivered follows from what is not there (it does
//! not wait and was not given up) and from how far its shard's deliveries have got.

use serde_json::{Value, json};
use store::{AttemptRecord, DeadLetter, Message, ParkedSummary, SubscriptionId, Trace};

use super::list::time;

/// What is known of a message for one subscription.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) subscription: SubscriptionId,
    /// As things stand; `None` where the message itself is not at hand.
    pub(super) wanted: Option<bool>,
    pub(super) trace: Trace,
    /// By when everything up to this message was settled in its shard.
    pub(super) settled_by_ms: Option<i64>,
    /// When this was looked up, in ms since 1970.
    pub(super) now_ms: i64,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The destination took it.
    Delivered {
        /// Not before, in ms since 1970.
        from_ms: i64,
        /// Not after.
        by_ms: i64,
        attempts: u32,
    },
    /// The destination took it after it had been down or behind.
    CaughtUp {
        /// Not before, in ms since 1970.
        from_ms: i64,
        /// Not after.
        by_ms: i64,
    },
    /// It waits in the stream: its destination is down or behind since then, in ms since 1970.
    InStream { since_ms: i64 },
    /// It waits for its next attempt.
    Waits,
    /// It is a dead letter.
    GivenUp,
    /// The subscription does not ask for it, is not granted it, or was made after it.
    NotWanted,
    /// Its shard's deliveries have not got there, as far as was written down.
    NotYet,
    /// Nothing is kept of it.
    NoTrace,
}

impl Case {
    /// Decides by what is there and what is not.
    pub(super) fn fate(&self, message: Option<&Message>) -> Fate {
        let last = self.trace.attempts.last();
        if self.trace.parked.is_some() {
            return Fate::Waits;
        }
        if let Some(accepted) = last.filter(|attempt| attempt.outcome == "accepted") {
            let by_ms = accepted.at_ms.saturating_add_unsigned(accepted.took_ms);
            return Fate::Delivered { from_ms: accepted.at_ms, by_ms, attempts: accepted.number };
        }
        if self.trace.dead.is_some() {
            return Fate::GivenUp;
        }
        let Some(message) = message else { return Fate::NoTrace };
        if self.wanted != Some(false)
            && let Some(fate) = self.by_range(message)
        {
            return fate;
        }
        match (last, self.wanted, self.settled_by_ms) {
            // It failed, does not wait and was not given up: a worker has it in hand.
            (Some(_), _, _) => Fate::Waits,
            (None, Some(false), _) => Fate::NotWanted,
            (None, _, Some(by_ms)) => {
                Fate::Delivered { from_ms: message.arrived_at_ms, by_ms, attempts: 1 }
            }
            (None, _, None) => Fate::NotYet,
        }
    }
}

impl Case {
    /// What follows from a range that is open, or was when the message was passed in its shard.
    fn by_range(&self, message: &Message) -> Option<Fate> {
        if let Some(range) = &self.trace.range {
            let (start, at) = (&range.from, &message.position);
            // Sequence numbers have no leading zeros.
            let begins = (start.sequence.len(), &*start.sequence, start.index);
            if begins <= (at.sequence.len(), &*at.sequence, at.index) {
                return Some(Fate::InStream { since_ms: range.opened_at_ms });
            }
            if self.settled_by_ms.is_some_and(|settled_by_ms| range.opened_at_ms <= settled_by_ms) {
                let (from_ms, by_ms) = (message.arrived_at_ms, self.now_ms);
                return Some(Fate::CaughtUp { from_ms, by_ms });
            }
        }
        let settled_by_ms = self.settled_by_ms?;
        let closed = self.trace.closed.filter(|closed| closed.opened_at_ms <= settled_by_ms)?;
        let by_ms = closed.closed_at_ms.max(settled_by_ms);
        let attempted = self.trace.attempts.last().map(|attempt| attempt.at_ms);
        // An attempt after it was closed is of something else.
        if attempted.is_some_and(|at_ms| at_ms > by_ms) {
            return None;
        }
        Some(Fate::CaughtUp { from_ms: attempted.unwrap_or(message.arrived_at_ms), by_ms })
    }
}

impl Fate {
    fn code(&self) -> &'static str {
        match self {
            Fate::Delivered { .. } | Fate::CaughtUp { .. } => "delivered",
            Fate::InStream { .. } => "in-stream",
            Fate::Waits => "waits",
            Fate::GivenUp => "given-up",
            Fate::NotWanted => "not-wanted",
            Fate::NotYet => "not-yet",
            Fate::NoTrace => "no-trace",
        }
    }

    fn words(&self, trace: &Trace) -> String {
        match self {
            Fate::Delivered { from_ms, by_ms, attempts: 1 } => format!(
                "delivered at its first attempt, between {} and {}",
                time(*from_ms),
                time(*by_ms)
            ),
            Fate::Delivered { by_ms, attempts, .. } => {
                format!("delivered at attempt {attempts}, at {}", time(*by_ms))
            }
            Fate::CaughtUp { from_ms, by_ms } => format!(
                "delivered after its destination had been down or behind, between {} and {}",
                time(*from_ms),
                time(*by_ms)
            ),
            Fate::InStream { since_ms } => format!(
                "waits in the stream: its destination is down or behind since {}",
                time(*since_ms)
            ),
            Fate::Waits => trace.parked.as_ref().map_or_else(
                || "in hand of a worker".to_owned(),
                |parked| {
                    let ParkedSummary { attempts, due_at_ms, last_error, .. } = parked;
                    let due = time(*due_at_ms);
                    format!("waits after {}; due {due}; last: {last_error}", times(*attempts))
                },
            ),
            Fate::GivenUp => trace.dead.as_ref().map_or_else(String::new, |dead| {
                let DeadLetter { reason, attempts, at_ms, detail, .. } = dead;
                let at = time(*at_ms);
                format!("given up at {at} after {}: {}: {detail}", times(*attempts), reason.code())
            }),
            Fate::NotWanted => {
                "not for it: it does not ask for it, its client is not granted it, it is switched off, or it was made later".to_owned()
            }
            Fate::NotYet => {
                "not delivered yet as far as is known: its shard's deliveries have not got there, or did so less than a minute ago".to_owned()
            }
            Fate::NoTrace => {
                "nothing is found of it: it was delivered at its first attempt, never for it, or waits in order behind another; its link would tell which".to_owned()
            }
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
pub(super) fn text(message: Option<&Message>, cases: &[Case]) -> String {
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
        text.push_str(&format!("{}: {}\n", case.subscription, fate.words(&case.trace)));
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
pub(super) fn object(id: &str, message: Option<&Message>, cases: &[Case]) -> Value {
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

fn case_object(case: &Case, message: Option<&Message>) -> Value {
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
        Fate::Delivered { from_ms, by_ms, .. } | Fate::CaughtUp { from_ms, by_ms } => {
            (Some(time(*from_ms)), Some(time(*by_ms)))
        }
        _ => (None, None),
    };
    json!({
        "subscription": case.subscription.as_str(),
        "state": fate.code(),
        "why": fate.words(&case.trace),
        "delivered_after": from,
        "delivered_by": by,
        "due_at": case.trace.parked.as_ref().map(|parked| time(parked.due_at_ms)),
        "attempts": attempts,
    })
}

#[cfg(test)]
#[path = "show_tests.rs"]
mod tests;
