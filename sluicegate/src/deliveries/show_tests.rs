//! What is said of a message, by what is there and what is not.

use std::sync::Arc;

use store::{DeliveryKey, Entity, IntegrationName, MessageId, Position, SubscriptionId};

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

#[test]
fn it_is_said_in_words_that_stay_on_their_line() {
    let mut failing = case();
    failing.trace.attempts = vec![attempt(1, "unhealthy")];
    failing.trace.parked = Some(parked());
    let text = text(Some(&message()), &[case(), failing]);
    assert!(text.contains("sub: delivered at its first attempt, between 1970-01-01T00:00:01Z and 1970-01-01T00:01:01Z\n"), "{text}");
    assert!(
        text.contains(
            "sub: waits after 2 attempts; due 1970-01-01T00:00:09Z; last: answered 500\n"
        )
    );
    assert!(text.contains(
        "  attempt 1 at 1970-01-01T00:00:02Z by w, 30 ms: unhealthy: answered 500: a [2Jb\n"
    ));
    let object = object("msg", Some(&message()), &[case()]);
    assert_eq!(object["deliveries"][0]["state"], "delivered");
}
