//! The courier with destinations within AWS, over the embedded ones, in simulated time.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_eventbridge::types::Target;
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName, QueueAttributeName};
use aws_types::SdkConfig;
use aws_types::sdk_config::SharedCredentialsProvider;
use local_aws::{Effect, Fault, LocalAws, Service};
use store::{
    DeliveryOrder, Destination, EventBridgeDestination, EventBus, QueueUrl, SnsDestination,
    SqsDestination, Subscription, TopicArn,
};

use super::*;
use crate::async_delivery::testing::Offered;

const ACCOUNT: &str = "us-east-1:000000000000";

/// Clients of a test's own, whom no fault of the worker's hits.
struct Consumer {
    config: SdkConfig,
    sqs: aws_sdk_sqs::Client,
}

impl Consumer {
    fn of(aws: &LocalAws) -> Consumer {
        let keys = Credentials::new("consumer", "any", None, None, "tests");
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(keys))
            .http_client(aws.http_client())
            .build();
        Consumer { sqs: aws_sdk_sqs::Client::new(&config), config }
    }

    async fn queue(&self, name: &str, most_bytes: usize) {
        let made = self.sqs.create_queue().queue_name(name);
        let size = (QueueAttributeName::MaximumMessageSize, most_bytes.to_string());
        made.attributes(size.0, size.1).send().await.unwrap();
    }

    /// Takes everything out of a queue, group after group in order.
    async fn drain(&self, name: &str) -> Vec<Message> {
        let url = format!("https://sqs.us-east-1.amazonaws.com/000000000000/{name}");
        let mut all = Vec::new();
        loop {
            let asked = self.sqs.receive_message().queue_url(&url).max_number_of_messages(10);
            let asked = asked.message_attribute_names("All");
            let asked = asked.message_system_attribute_names(MessageSystemAttributeName::All);
            let messages = asked.send().await.unwrap().messages.unwrap_or_default();
            if messages.is_empty() {
                return all;
            }
            for message in &messages {
                let delete = self.sqs.delete_message().queue_url(&url);
                let receipt = message.receipt_handle().unwrap();
                delete.receipt_handle(receipt).send().await.unwrap();
            }
            all.extend(messages);
        }
    }
}

fn to(id: &str, destination: Destination) -> Subscription {
    Subscription { destination, ..subscription(id, "https://unused.example/") }
}

fn to_queue(id: &str, name: &str) -> Subscription {
    let queue = QueueUrl::parse(&format!("arn:aws:sqs:{ACCOUNT}:{name}")).unwrap();
    to(id, Destination::Sqs(SqsDestination { queue, role: None }))
}

fn id_of(message: &Message) -> String {
    let attributes = message.message_attributes().expect("attributes");
    attributes["sluicegate-message-id"].string_value().unwrap().to_owned()
}

fn ids(messages: &[Message]) -> BTreeSet<String> {
    messages.iter().map(id_of).collect()
}

/// Offers messages of these keys and payloads.
fn offer(world: &World, records: &[(String, String)]) -> Offered {
    let (batch, offered) = world.batch_of(records, &LeaseCheck::new(|| true));
    world.handle.accept(batch).expect("the courier has room");
    offered
}

#[tokio::test(start_paused = true)]
async fn each_kind_gets_every_message_with_what_tells_it_from_others() {
    let topic = format!("arn:aws:sns:{ACCOUNT}:t");
    let bus = EventBus::parse("default").unwrap();
    let world = World::with(&[
        to_queue("a", "plain"),
        to(
            "b",
            Destination::Sns(SnsDestination {
                topic: TopicArn::parse(&topic).unwrap(),
                role: None,
            }),
        ),
        to("c", Destination::EventBridge(EventBridgeDestination { bus, role: None })),
    ])
    .await;
    let consumer = Consumer::of(&world.aws);
    for name in ["plain", "of-topic", "of-bus"] {
        consumer.queue(name, 1_048_576).await;
    }
    let sns = aws_sdk_sns::Client::new(&consumer.config);
    sns.create_topic().name("t").send().await.unwrap();
    let arn = |name: &str| format!("arn:aws:sqs:{ACCOUNT}:{name}");
    let subscribe = sns.subscribe().topic_arn(&topic).protocol("sqs").endpoint(arn("of-topic"));
    subscribe.attributes("RawMessageDelivery", "true").send().await.unwrap();
    let events = aws_sdk_eventbridge::Client::new(&consumer.config);
    let pattern = r#"{"source":["sluicegate/default"],"detail-type":["default"]}"#;
    events.put_rule().name("r").event_pattern(pattern).send().await.unwrap();
    let target = Target::builder().id("1").arn(arn("of-bus")).build().unwrap();
    events.put_targets().rule("r").targets(target).send().await.unwrap();

    let offered = world.offer(45);
    world.settled(&offered, SOON).await;

    for name in ["plain", "of-topic"] {
        let got = consumer.drain(name).await;
        assert_eq!((got.len(), ids(&got)), (45, offered.ids.clone()), "{name}");
        let attributes = got[0].message_attributes().unwrap();
        assert_eq!(attributes["sluicegate-integration"].string_value(), Some("default"));
        assert!(attributes["sluicegate-entity"].string_value().unwrap().starts_with("entity-"));
        assert!(got[0].body().unwrap().starts_with("{\"number\":"));
    }
    let got = consumer.drain("of-bus").await;
    let event = |message: &Message| -> serde_json::Value {
        serde_json::from_str(message.body().unwrap()).unwrap()
    };
    let of_events: BTreeSet<String> =
        got.iter().map(|m| event(m)["resources"][1].as_str().unwrap().to_owned()).collect();
    assert_eq!(of_events, offered.ids);
    let first = event(&got[0]);
    assert!(first["detail"]["number"].is_u64());
    assert_eq!(first["resources"][0], "arn:aws:kinesis:us-east-1:000000000000:stream/test");
    let calls = |operation: &str| -> u64 {
        world.aws.calls().iter().filter(|c| c.operation == operation).map(|c| c.calls).sum()
    };
    for operation in ["SendMessageBatch", "PublishBatch", "PutEvents"] {
        assert!((5..=10).contains(&calls(operation)), "{operation}: {}", calls(operation));
    }
}

#[tokio::test(start_paused = true)]
async fn p1_partial_failures_throttles_and_lost_replies_lose_nothing() {
    let world = World::with(&[to_queue("a", "plain")]).await;
    let consumer = Consumer::of(&world.aws);
    consumer.queue("plain", 1_048_576).await;
    let fault = |effect, chance| {
        let fault = Fault::new(Service::Sqs, effect).operation("SendMessageBatch");
        world.aws.faults().inject(fault.caller("worker").chance(chance));
    };
    fault(Effect::Throttle, 0.2);
    fault(Effect::LostReply, 0.2);
    fault(Effect::InternalError, 0.1);
    fault(Effect::Partial(0.3), 0.5);
    let mut expected = BTreeSet::new();
    for _ in 0..20 {
        let offered = world.offer(50);
        world.settled(&offered, secs(60)).await;
        expected.extend(offered.ids);
    }
    assert!(world.parked("a").await > 0, "some had to be parked");
    world.aws.faults().clear_all();
    world.until_none_parked("a", secs(3 * 3_600)).await;
    let got = consumer.drain("plain").await;
    assert_eq!(ids(&got), expected);
    assert!(got.len() > expected.len(), "lost replies deliver twice");
    let stats = &world.handle.stats().destinations[0];
    assert!(stats.failed > 0 && stats.dead_lettered == 0, "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn o1_a_fifo_queue_has_each_key_in_order_and_once_even_when_replies_are_lost() {
    let mut wish = to_queue("a", "ordered.fifo");
    wish.policy.order = DeliveryOrder::Key;
    let world = World::with(&[wish]).await;
    let consumer = Consumer::of(&world.aws);
    consumer.queue("ordered.fifo", 1_048_576).await;
    let lost = Fault::new(Service::Sqs, Effect::LostReply).operation("SendMessageBatch");
    world.aws.faults().inject(lost.caller("worker").chance(0.1));
    let mut rng = fastrand::Rng::with_seed(9);
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    // The last of these keys SQS would not take as it is.
    let names = ["key-0", "key-1", "key-2", "key-3", "ein Schlüssel"];
    for _ in 0..10 {
        let records: Vec<_> = (0..30)
            .map(|_| {
                let key = rng.usize(0..names.len());
                let count = counts.entry(key).or_default();
                *count += 1;
                (names[key].to_owned(), format!("{{\"key\":{key},\"count\":{count}}}"))
            })
            .collect();
        let offered = offer(&world, &records);
        world.settled(&offered, secs(60)).await;
    }
    // Before the first retries: by their second, minutes later, the queue would have forgotten the ids.
    world.aws.faults().clear_all();
    world.until_none_parked("a", secs(600)).await;
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    let mut groups: BTreeMap<u64, String> = BTreeMap::new();
    for message in consumer.drain("ordered.fifo").await {
        let body: serde_json::Value = serde_json::from_str(message.body().unwrap()).unwrap();
        let (key, count) = (body["key"].as_u64().unwrap(), body["count"].as_u64().unwrap());
        let expected = next.entry(key).or_insert(1);
        assert_eq!(count, *expected, "key {key}");
        *expected += 1;
        let group = &message.attributes().unwrap()[&MessageSystemAttributeName::MessageGroupId];
        assert_eq!(groups.entry(key).or_insert(group.clone()), group);
    }
    assert_eq!(next.values().map(|next| next - 1).sum::<u64>(), 300);
    assert_eq!(groups[&0], "key-0");
    assert!(groups[&4].starts_with("sha256:"));
    assert!(world.handle.stats().destinations[0].retried > 0, "replies were lost");
}

#[tokio::test(start_paused = true)]
async fn what_a_queue_never_takes_is_a_dead_letter_at_once_and_takes_none_along() {
    let world = World::with(&[to_queue("a", "small")]).await;
    let consumer = Consumer::of(&world.aws);
    consumer.queue("small", 2_048).await;
    let payload = |text: &str| ("key".to_owned(), format!("{{\"text\":\"{text}\"}}"));
    let too_large_here = payload(&"x".repeat(3_000));
    let too_large_anywhere = payload(&"x".repeat(1_100_000));
    let forbidden = payload("\u{ffff}");
    let mut records: Vec<_> = (0..7).map(|n| payload(&n.to_string())).collect();
    records.insert(2, too_large_here);
    records.insert(5, too_large_anywhere);
    records.insert(8, forbidden);
    let offered = offer(&world, &records);
    world.settled(&offered, secs(10)).await;
    assert_eq!(consumer.drain("small").await.len(), 7);
    let letters = world.dead_letters().await;
    let mut details: Vec<&str> = letters.iter().map(|letter| letter.detail.as_str()).collect();
    details.sort_unstable();
    assert_eq!(details.len(), 3, "{details:?}");
    assert!(details[0].contains("where the service takes 1048576"), "{details:?}");
    assert!(details[1].contains("must be shorter than 2048 bytes"), "{details:?}");
    assert!(details[2].contains("U+FFFE or U+FFFF"), "{details:?}");
    assert!(letters.iter().all(|letter| letter.reason == DeadReason::DeliveryRejected));
    assert_eq!(world.parked("a").await, 0);
    assert_eq!(world.handle.stats().destinations[0].breaker, BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_not_there_opens_the_breaker_and_gets_everything_once_it_is() {
    let world =
        World::with(&[to_queue("a", "late"), subscription("b", "https://other.example/")]).await;
    let mut expected = BTreeSet::new();
    for _ in 0..10 {
        let offered = world.offer(20);
        world.settled(&offered, SOON).await;
        expected.extend(offered.ids);
    }
    assert_eq!(world.receivers.accepted("other.example"), expected, "the other is not held up");
    let stats = world.handle.stats();
    assert_ne!(stats.destinations[0].breaker, BreakerState::Closed);
    let error = stats.destinations[0].last_error.clone().unwrap();
    assert!(error.starts_with("QueueDoesNotExist: "), "{error}");
    let consumer = Consumer::of(&world.aws);
    consumer.queue("late", 1_048_576).await;
    world.until_none_parked("a", secs(600)).await;
    assert_eq!(ids(&consumer.drain("late").await), expected);
}
