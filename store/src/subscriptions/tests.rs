//! Subscriptions over a real SDK client and an embedded DynamoDB.

use local_aws::Effect;

use super::*;
use crate::testing::{APP, NOW, calls, dynamodb, fail, integration, random};
use crate::{AccessStore, Change, Class, Client, Pepper, StoreError};

pub(super) fn subscription(id: &str) -> Subscription {
    Subscription {
        id: SubscriptionId::parse(id).unwrap(),
        client: ClientId::parse("cl_1").unwrap(),
        integrations: vec![integration("quakes")],
        entity_prefix: Some("us".to_owned()),
        types: vec!["earthquake".to_owned()],
        filter: Some(
            Pattern::parse(r#"{ "properties": {"mag": [{"numeric": [">=", 4.50]}]} }"#).unwrap(),
        ),
        destination: Destination::Webhook(WebhookDestination::new(
            WebhookUrl::parse("https://hooks.example.com/in?t=1").unwrap(),
            SigningSecret::generate(&mut random(1)),
        )),
        policy: DeliveryPolicy { rate_per_second: Some(50), ..DeliveryPolicy::default() },
        created_at_ms: NOW,
        version: 0,
        enabled: true,
    }
}

pub(super) async fn store() -> (local_aws::LocalAws, SubscriptionStore) {
    let (aws, client) = dynamodb().await;
    (aws, SubscriptionStore::new(client, APP))
}

#[tokio::test]
async fn a_subscription_comes_back_as_it_was_put() {
    let (_aws, store) = store().await;
    let stored = store.put(&subscription("sub_a")).await.unwrap();
    assert_eq!(stored, Subscription { version: 1, ..subscription("sub_a") });
    assert_eq!(store.get(&stored.id).await.unwrap(), Some(stored.clone()));
    assert_eq!(store.load_all().await.unwrap(), [stored]);
    let none = SubscriptionId::parse("sub_z").unwrap();
    assert_eq!(store.get(&none).await.unwrap(), None);
}

#[tokio::test]
async fn destinations_within_aws_come_back_as_they_were_put() {
    let (_aws, store) = store().await;
    let role = |external_id| {
        Some(AssumedRole::parse("arn:aws:iam::123456789012:role/deliver", external_id).unwrap())
    };
    let destinations = [
        Destination::Sqs(SqsDestination {
            queue: QueueUrl::parse("arn:aws:sqs:eu-west-1:123456789012:orders.fifo").unwrap(),
            role: role(Some("cl-1")),
        }),
        Destination::Sns(SnsDestination {
            topic: TopicArn::parse("arn:aws:sns:eu-west-1:123456789012:orders").unwrap(),
            role: role(None),
        }),
        Destination::EventBridge(EventBridgeDestination {
            bus: EventBus::parse("default").unwrap(),
            role: None,
        }),
    ];
    for (index, destination) in destinations.into_iter().enumerate() {
        let wish = Subscription { destination, ..subscription(&format!("sub_{index}")) };
        let stored = store.put(&wish).await.unwrap();
        assert_eq!(store.get(&stored.id).await.unwrap(), Some(Subscription { version: 1, ..wish }));
    }
}

#[tokio::test]
async fn a_change_that_was_not_read_is_a_conflict() {
    let (_aws, store) = store().await;
    let first = store.put(&subscription("sub_a")).await.unwrap();
    assert!(
        store.put(&subscription("sub_a")).await.unwrap_err().is_conflict(),
        "it is there already"
    );
    let second = store.put(&Subscription { enabled: false, ..first.clone() }).await.unwrap();
    assert_eq!((second.version, second.enabled), (2, false));
    let error = store.put(&first).await.unwrap_err();
    assert!(error.is_conflict());
    assert!(error.to_string().contains("subscription sub_a"), "{error}");
}

#[tokio::test]
async fn every_change_bumps_the_epoch_and_a_failed_one_does_not() {
    let (_aws, store) = store().await;
    assert_eq!(store.epochs().await.unwrap().subscriptions, 0);
    let stored = store.put(&subscription("sub_a")).await.unwrap();
    assert_eq!(store.epochs().await.unwrap().subscriptions, 1);
    store.put(&subscription("sub_a")).await.unwrap_err();
    assert_eq!(store.epochs().await.unwrap().subscriptions, 1);
    assert!(store.delete(&stored.id, NOW).await.unwrap());
    assert_eq!(store.epochs().await.unwrap().subscriptions, 2);
    assert!(!store.delete(&stored.id, NOW).await.unwrap());
    assert_eq!(store.epochs().await.unwrap().subscriptions, 2);
    let deleted = DeletedSubscription { id: stored.id.clone(), at_ms: NOW };
    assert_eq!(store.deleted().await.unwrap(), [deleted]);
    store.forget(&stored.id).await.unwrap();
    assert_eq!(store.deleted().await.unwrap(), []);
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(snapshot.epochs, SubscriptionEpochs { subscriptions: 2, access: 0 });
    assert!(snapshot.subscriptions.is_empty() && snapshot.clients.is_empty());
}

#[tokio::test]
async fn a_snapshot_has_the_owners_and_changes_with_them() {
    let (aws, client) = dynamodb().await;
    let store = SubscriptionStore::new(client.clone(), APP);
    let access = AccessStore::new(client, APP, Pepper::new(&[9; 32]).unwrap());
    let change = Change { by: "operator ada", at_ms: NOW };
    let owner = Client {
        id: ClientId::parse("cl_a").unwrap(),
        name: "Seismology".to_owned(),
        grants: vec![],
        limits: None,
        enabled: true,
        created_at_ms: NOW,
        version: 0,
    };
    let owner = access.put_client(&owner, &change).await.unwrap();
    let before = store.snapshot().await.unwrap();
    assert_eq!(before.clients[&owner.id].as_ref(), &owner);
    let disabled = access.put_client(&Client { enabled: false, ..owner }, &change).await.unwrap();
    let epochs = store.epochs().await.unwrap();
    assert_eq!(epochs.access, before.epochs.access + 1);
    assert_eq!(epochs.subscriptions, before.epochs.subscriptions);
    assert!(!store.snapshot().await.unwrap().clients[&disabled.id].enabled);
    assert!(access.delete_client(&disabled.id, &change).await.unwrap());
    assert!(store.snapshot().await.unwrap().clients.is_empty());
    fail(&aws, "Query", Effect::Throttle, 1);
    assert_eq!(store.snapshot().await.unwrap_err().class(), Class::Retry);
}

#[tokio::test]
async fn many_subscriptions_are_loaded_over_pages() {
    let (_aws, store) = store().await;
    // About 60 KB each, so that 1 MB pages do not hold them all.
    for n in 0..25 {
        let mut one = subscription(&format!("sub_{n:03}"));
        one.integrations = vec![integration(&"q".repeat(64)); 100];
        one.entity_prefix = Some("p".repeat(500));
        store.put(&one).await.unwrap();
    }
    let ids: Vec<String> =
        store.load_all().await.unwrap().iter().map(|s| s.id.to_string()).collect();
    assert_eq!(ids, (0..25).map(|n| format!("sub_{n:03}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn one_unreadable_subscription_fails_the_whole_and_is_named() {
    let (aws, store) = store().await;
    store.put(&subscription("sub_a")).await.unwrap();
    let client = crate::testing::client_of(&aws);
    let mut item = crate::item::key("subscriptions", "sub_b");
    item.insert("document".to_owned(), crate::item::s("{\"form\":2,\"whsec\":\"whsec_secret\"}"));
    client.put_item().table_name("test-access").set_item(Some(item)).send().await.unwrap();
    let error = store.load_all().await.unwrap_err();
    assert!(matches!(error, StoreError::Unreadable { .. }));
    assert!(error.to_string().contains("subscriptions / sub_b"), "{error}");
    assert!(!error.to_string().contains("whsec"), "{error}");
}

#[tokio::test]
async fn a_stored_filter_that_is_none_says_where() {
    let (aws, store) = store().await;
    store.put(&subscription("sub_a")).await.unwrap();
    let client = crate::testing::client_of(&aws);
    let key = crate::item::key("subscriptions", "sub_a");
    let get = client.get_item().table_name("test-access").set_key(Some(key)).send();
    let mut item = get.await.unwrap().item.unwrap();
    let text = item["document"].as_s().unwrap().replace("numeric", "number");
    item.insert("document".to_owned(), crate::item::s(text));
    client.put_item().table_name("test-access").set_item(Some(item)).send().await.unwrap();
    let error = store.load_all().await.unwrap_err().to_string();
    assert!(error.contains("sub_a") && error.contains("/properties/mag/0/number"), "{error}");
}

#[tokio::test]
async fn failures_are_to_be_tried_again() {
    let (aws, store) = store().await;
    fail(&aws, "TransactWriteItems", Effect::InternalError, 1);
    let error = store.put(&subscription("sub_a")).await.unwrap_err();
    assert_eq!(error.class(), Class::Retry);
    fail(&aws, "Query", Effect::Throttle, 1);
    assert_eq!(store.epochs().await.unwrap_err().class(), Class::Retry);
    assert_eq!(calls(&aws, "TransactWriteItems"), 1);
}

#[tokio::test]
async fn nonsense_is_refused_before_it_is_stored() {
    let (aws, store) = store().await;
    let mut odd = Vec::new();
    odd.extend(
        [0, 60_001].map(|timeout_ms| DeliveryPolicy { timeout_ms, ..DeliveryPolicy::default() }),
    );
    odd.push(DeliveryPolicy { concurrency: 0, ..DeliveryPolicy::default() });
    odd.push(DeliveryPolicy { rate_per_second: Some(0), ..DeliveryPolicy::default() });
    odd.push(DeliveryPolicy { retry_schedule_ms: vec![], ..DeliveryPolicy::default() });
    odd.push(DeliveryPolicy { retry_schedule_ms: vec![u64::MAX; 2], ..DeliveryPolicy::default() });
    for policy in odd {
        let one = Subscription { policy: policy.clone(), ..subscription("sub_a") };
        assert!(matches!(store.put(&one).await, Err(StoreError::Invalid { .. })), "{policy:?}");
    }
    let mut unsigned = subscription("sub_a");
    let webhook = unsigned.destination.webhook_mut().unwrap();
    webhook.keys.clear();
    assert!(store.put(&unsigned).await.is_err());
    for types in [vec!["t".to_owned(); 101], vec![String::new()], vec!["t".repeat(257)]] {
        let refused = store.put(&Subscription { types, ..subscription("sub_a") }).await;
        assert!(refused.unwrap_err().to_string().contains("event type"));
    }
    assert_eq!(calls(&aws, "TransactWriteItems"), 0);
}

#[tokio::test]
async fn keys_that_are_being_replaced_come_back_with_their_ends() {
    let (_aws, store) = store().await;
    let mut rotating = subscription("sub_a");
    let webhook = rotating.destination.webhook_mut().unwrap();
    let pair = SigningSecret::generate_ed25519(&mut random(2)).unwrap();
    webhook.rotate(pair, NOW, ROTATION_OVERLAP).unwrap();
    let stored = store.put(&rotating).await.unwrap();
    let webhook = stored.destination.webhook().unwrap();
    let ends: Vec<_> = webhook.keys.iter().map(|key| key.expires_at_ms).collect();
    assert_eq!(ends, [None, Some(NOW + 86_400_000)]);
    assert_eq!(store.get(&stored.id).await.unwrap(), Some(stored));
}

#[test]
fn debug_shows_no_secret_and_no_path() {
    let text = format!("{:?}", subscription("sub_a"));
    let destination = subscription("sub_a").destination;
    let webhook = destination.webhook().unwrap();
    assert!(
        text.contains("SigningSecret(redacted)") && text.contains("https://hooks.example.com:443")
    );
    assert!(
        !text.contains(&webhook.keys[0].secret.expose()) && !text.contains("/in?t=1"),
        "{text}"
    );
}
