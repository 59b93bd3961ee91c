//! What became of a message, by what is there and what is not.

use std::sync::Arc;

use super::super::*;
use super::*;
use crate::{Entity, IntegrationName, MessageId, Position};

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

fn case() -> DeliveryCase {
    let trace = Trace::default();
    let subscription = SubscriptionId::parse("sub").unwrap();
    DeliveryCase {
        subscription,
        wanted: Some(true),
        trace,
        settled_by_ms: Some(61_000),
        now_ms: 900_000,
    }
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
    let fate = |change: &dyn Fn(&mut DeliveryCase)| {
        let mut case = case();
        change(&mut case);
        case.fate(Some(&message))
    };
    let at_once = DeliveryFate::Delivered { from_ms: 1_000, by_ms: 61_000, attempts: 1 };
    assert_eq!(fate(&|_| {}), at_once);
    assert_eq!(fate(&|case| case.settled_by_ms = None), DeliveryFate::NotYet);
    assert_eq!(fate(&|case| case.wanted = Some(false)), DeliveryFate::NotWanted);
    assert_eq!(fate(&|case| case.trace.parked = Some(parked())), DeliveryFate::Waits);
    assert_eq!(fate(&|case| case.trace.dead = Some(dead())), DeliveryFate::GivenUp);
    let failed = |case: &mut DeliveryCase| case.trace.attempts = vec![attempt(1, "unhealthy")];
    assert_eq!(fate(&failed), DeliveryFate::Waits, "a worker has it in hand");
    let later = |case: &mut DeliveryCase| {
        case.trace.attempts = vec![attempt(1, "unhealthy"), attempt(2, "accepted")];
        // A redelivery of a message that had been given up before.
        case.trace.dead = Some(dead());
        case.wanted = Some(false);
    };
    assert_eq!(fate(&later), DeliveryFate::Delivered { from_ms: 2_000, by_ms: 2_030, attempts: 2 });
    assert_eq!(case().fate(None), DeliveryFate::NoTrace);
}

#[test]
fn what_a_range_covers_waits_in_the_stream_and_is_delivered_when_it_is_closed() {
    let message = message();
    let range = |sequence: &str, opened_at_ms| OpenRange {
        subscription: SubscriptionId::parse("sub").unwrap(),
        stream_arn: Arc::clone(&message.position.stream_arn),
        shard_id: Arc::clone(&message.position.shard_id),
        hash_keys: (0, 1),
        from: RangeStart { sequence: sequence.into(), index: 0, arrived_at_ms: 0 },
        opened_at_ms,
        lost_at_ms: 0,
        version: 1,
        fence: 1,
        claim: String::new(),
        until_ms: 0,
    };
    let fate = |change: &dyn Fn(&mut Trace)| {
        let mut case = case();
        change(&mut case.trace);
        case.fate(Some(&message))
    };
    let open = |sequence, at_ms| fate(&|trace| trace.range = Some(range(sequence, at_ms)));
    assert_eq!(open("7", 500), DeliveryFate::InStream { since_ms: 500 });
    let mut young = case();
    (young.settled_by_ms, young.trace.range) = (None, Some(range("7", 500)));
    let waits = DeliveryFate::InStream { since_ms: 500 };
    assert_eq!(young.fate(Some(&message)), waits, "before the minute's mark");
    assert_eq!(open("10", 500), DeliveryFate::CaughtUp { from_ms: 1_000, by_ms: 900_000 });
    let at_once = DeliveryFate::Delivered { from_ms: 1_000, by_ms: 61_000, attempts: 1 };
    assert_eq!(open("10", 62_000), at_once, "opened after it was settled");
    let closed = |opened_at_ms| ClosedRange { opened_at_ms, closed_at_ms: 70_000 };
    let caught_up = DeliveryFate::CaughtUp { from_ms: 1_000, by_ms: 70_000 };
    assert_eq!(fate(&|trace| trace.closed = Some(closed(500))), caught_up);
    assert_eq!(fate(&|trace| trace.closed = Some(closed(62_000))), at_once);
    let failed = |trace: &mut Trace| {
        (trace.closed, trace.attempts) = (Some(closed(500)), vec![attempt(1, "unhealthy")]);
    };
    assert_eq!(fate(&failed), DeliveryFate::CaughtUp { from_ms: 2_000, by_ms: 70_000 });
}
