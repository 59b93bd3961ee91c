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

impl Fate {
    fn code(&self) -> &'static str {
        match self {
            Fate::Delivered { .. } => "delivered",
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
            Fate::Waits => trace.parked.as_ref().map_or_else(
                || "in hand of a worker".to_owned(),
                |parked| {
                    let ParkedSummary { attempts, due_at_ms, last_error, .. } = parked;
                    let due = time(*due_at_ms);
                    format!("waits after {attempts} attempts; due {due}; last: {last_error}")
                },
            ),
            Fate::GivenUp => trace.dead.as_ref().map_or_else(String::new, |dead| {
                let DeadLetter { reason, attempts, at_ms, detail, .. } = dead;
                let at = time(*at_ms);
                format!("given up at {at} after {attempts} attempts: {}: {detail}", reason.code())
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
        Fate::Delivered { from_ms, by_ms, .. } => (Some(time(*from_ms)), Some(time(*by_ms))),
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
mod tests {
    use std::sync::Arc;

    use store::{DeadReason, DeliveryKey, Entity, IntegrationName, MessageId, Position};

    use super::*;

    fn message() -> Message {
        let position = Position {
            stream_arn: Arc::from("arn"),
            shard_id: Arc::from("shardId-000000000001"),
            sequence: Arc::from("7"),
            index: 0,
        };
        Message {
            id: MessageId::derive(&position),
            integration: IntegrationName::parse("quakes").unwrap(),
            entity: Entity::parse("ci").unwrap(),
            time_ms: 0,
            arrived_at_ms: 1_000,
            position,
            partition_key: Arc::from("k"),
            payload: bytes::Bytes::from_static(b"{}"),
        }
    }

    fn case() -> Case {
        let trace = Trace { parked: None, dead: None, attempts: Vec::new() };
        let subscription = SubscriptionId::parse("sub").unwrap();
        Case { subscription, wanted: Some(true), trace, settled_by_ms: Some(61_000) }
    }

    fn attempt(number: u32, outcome: &str) -> AttemptRecord {
        AttemptRecord {
            delivery: DeliveryKey {
                subscription: SubscriptionId::parse("sub").unwrap(),
                message: message().id,
            },
            at_ms: 2_000,
            number,
            took_ms: 30,
            outcome: outcome.to_owned(),
            detail: "answered 500: a\u{1b}[2Jb".to_owned(),
            worker: "w".to_owned(),
        }
    }

    fn parked() -> ParkedSummary {
        ParkedSummary {
            key: attempt(1, "").delivery,
            integration: message().integration,
            entity: message().entity,
            attempts: 2,
            first_failed_at_ms: 0,
            due_at_ms: 9_000,
            last_error: "answered 500".to_owned(),
        }
    }

    fn dead() -> DeadLetter {
        let message = message();
        DeadLetter {
            integration: message.integration,
            reason: DeadReason::DeliveryExhausted,
            detail: "answered 500".to_owned(),
            position: message.position,
            partition_key: message.partition_key,
            arrived_at_ms: 1_000,
            fence: 1,
            attempts: 10,
            payload: message.payload,
            subscription: None,
            at_ms: 5_000,
        }
    }

    #[test]
    fn what_is_there_and_what_is_not_says_what_became_of_it() {
        let message = message();
        let fate = |change: &dyn Fn(&mut Case)| {
            let mut case = case();
            change(&mut case);
            case.fate(Some(&message))
        };
        let at_once = Fate::Delivered { from_ms: 1_000, by_ms: 61_000, attempts: 1 };
        assert_eq!(fate(&|_| {}), at_once);
        assert_eq!(fate(&|case| case.settled_by_ms = None), Fate::NotYet);
        assert_eq!(fate(&|case| case.wanted = Some(false)), Fate::NotWanted);
        assert_eq!(fate(&|case| case.trace.parked = Some(parked())), Fate::Waits);
        assert_eq!(fate(&|case| case.trace.dead = Some(dead())), Fate::GivenUp);
        let failed = |case: &mut Case| case.trace.attempts = vec![attempt(1, "unhealthy")];
        assert_eq!(fate(&failed), Fate::Waits, "a worker has it in hand");
        let later = |case: &mut Case| {
            case.trace.attempts = vec![attempt(1, "unhealthy"), attempt(2, "accepted")];
            // A redelivery of a message that had been given up before.
            case.trace.dead = Some(dead());
            case.wanted = Some(false);
        };
        assert_eq!(fate(&later), Fate::Delivered { from_ms: 2_000, by_ms: 2_030, attempts: 2 });
        assert_eq!(case().fate(None), Fate::NoTrace);
    }

    #[test]
    fn it_is_said_in_words_that_stay_on_their_line() {
        let mut failing = case();
        failing.trace.attempts = vec![attempt(1, "unhealthy")];
        failing.trace.parked = Some(parked());
        let text = text(Some(&message()), &[case(), failing]);
        assert!(text.contains("sub: delivered at its first attempt, between 1970-01-01T00:00:01Z and 1970-01-01T00:01:01Z\n"), "{text}");
        assert!(text.contains(
            "sub: waits after 2 attempts; due 1970-01-01T00:00:09Z; last: answered 500\n"
        ));
        assert!(text.contains(
            "  attempt 1 at 1970-01-01T00:00:02Z by w, 30 ms: unhealthy: answered 500: a [2Jb\n"
        ));
        let object = object("msg", Some(&message()), &[case()]);
        assert_eq!(object["deliveries"][0]["state"], "delivered");
    }
}
