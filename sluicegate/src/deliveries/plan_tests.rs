//! What becomes of dead letters, decided over real configurations and subscriptions.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use processor::integration::Integration;
use store::{
    Action, Client, ClientId, DeliveryPolicy, Destination, Grant, GrantScope, IntegrationName,
    MessageId, Position, SigningSecret, Subscription, SubscriptionEpochs, WebhookDestination,
    WebhookUrl,
};

use super::*;

const NOW: i64 = 1_000_000_000;

fn client(scope: GrantScope) -> Client {
    Client {
        id: ClientId::parse("client").unwrap(),
        name: "client".to_owned(),
        grants: vec![Grant::new(scope, Action::Subscribe)],
        limits: None,
        enabled: true,
        created_at_ms: 0,
        version: 0,
    }
}

fn subscription(id: &str, enabled: bool) -> Subscription {
    Subscription {
        id: SubscriptionId::parse(id).unwrap(),
        client: ClientId::parse("client").unwrap(),
        integrations: Vec::new(),
        entity_prefix: None,
        types: Vec::new(),
        filter: None,
        destination: Destination::Webhook(WebhookDestination::new(
            WebhookUrl::parse("https://receiver.example/").unwrap(),
            SigningSecret::generate(&mut |bytes| bytes.fill(7)),
        )),
        policy: DeliveryPolicy::default(),
        created_at_ms: 0,
        version: 1,
        enabled,
    }
}

fn letter(payload: &'static str, reason: DeadReason, subscription: Option<&str>) -> DeadLetter {
    DeadLetter {
        integration: IntegrationName::parse("default").unwrap(),
        reason,
        detail: "as it was".to_owned(),
        position: Position {
            stream_arn: Arc::from("arn:aws:kinesis:us-east-1:000000000000:stream/s"),
            shard_id: Arc::from("shardId-000000000001"),
            sequence: Arc::from("4959"),
            index: 0,
        },
        partition_key: Arc::from("key"),
        arrived_at_ms: NOW - 1_000,
        fence: 3,
        attempts: 4,
        payload: Bytes::from_static(payload.as_bytes()),
        subscription: subscription.map(|id| SubscriptionId::parse(id).unwrap()),
        at_ms: NOW - 500,
    }
}

fn planned_at(letter: &DeadLetter, subscriptions: Vec<Subscription>, now_ms: i64) -> Plan {
    let integrations = Integrations::compile(Vec::<Integration>::new()).unwrap();
    let owner = client(GrantScope::All);
    let subscriptions = SubscriptionSnapshot {
        epochs: SubscriptionEpochs::default(),
        subscriptions,
        clients: BTreeMap::from([(owner.id.clone(), Arc::new(owner))]),
    };
    let decode = DecodeOptions::default();
    let (integrations, subscriptions) = (&integrations, &subscriptions);
    plan(letter, &Known { integrations, decode: &decode, subscriptions, now_ms })
}

fn planned(letter: &DeadLetter, subscriptions: Vec<Subscription>) -> Plan {
    planned_at(letter, subscriptions, NOW)
}

#[test]
fn a_record_that_is_a_message_now_goes_to_the_store_and_to_all_who_want_it() {
    let letter = letter("{\"n\":1}", DeadReason::MissingField, None);
    let plan = planned(&letter, vec![subscription("a", true), subscription("b", false)]);
    assert!(plan.stays.is_none());
    assert_eq!(plan.store[0].message.id, MessageId::derive(&letter.position));
    let [parked] = plan.park.as_slice() else { panic!("{plan:?}") };
    assert_eq!((parked.subscription.as_str(), parked.attempts), ("a", 0));
    assert_eq!((parked.due_at_ms, parked.fence), (NOW, 3));
}

#[test]
fn what_the_store_refused_was_delivered_and_goes_to_the_store_alone() {
    let letter = letter("{}", DeadReason::StoreRejected, None);
    let plan = planned(&letter, vec![subscription("a", true)]);
    assert_eq!((plan.store.len(), plan.park.len(), plan.stays.is_none()), (1, 0, true));
}

#[test]
fn a_delivery_goes_to_its_subscription_alone_if_that_still_takes_it() {
    let letter = letter("{}", DeadReason::DeliveryExhausted, Some("a"));
    let both = || vec![subscription("a", true), subscription("b", true)];
    let plan = planned(&letter, both());
    assert_eq!((plan.store.len(), plan.park.len(), plan.stays.is_none()), (0, 1, true));
    let stays = |subscriptions| {
        let plan = planned(&letter, subscriptions);
        assert!(plan.park.is_empty() && plan.store.is_empty());
        plan.stays.unwrap()
    };
    assert!(stays(Vec::new()).ends_with("a is gone"));
    assert!(stays(vec![subscription("a", false)]).ends_with("a is switched off"));
    let later = Subscription { created_at_ms: NOW, ..subscription("a", true) };
    assert!(stays(vec![later]).contains("does not ask for it"));
}

#[test]
fn what_is_still_malformed_or_too_old_for_all_stays_and_says_why() {
    let broken = letter("{\"n\":", DeadReason::NotJson, None);
    let plan = planned(&broken, vec![subscription("a", true)]);
    assert!(plan.store.is_empty() && plan.park.is_empty());
    assert!(plan.stays.unwrap().starts_with("still not-json: not one JSON document"));
    let fine = letter("{}", DeadReason::TooLarge, None);
    let month = 30 * 24 * 3_600 * 1_000;
    let plan = planned_at(&fine, Vec::new(), NOW + month);
    assert!(plan.stays.unwrap().contains("older than its retention"));
    let plan = planned_at(&fine, vec![subscription("a", true)], NOW + month);
    assert_eq!((plan.store.len(), plan.park.len(), plan.stays.is_none()), (0, 1, true));
}
