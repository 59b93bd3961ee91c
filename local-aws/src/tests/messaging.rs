//! Queues, topics, buses and roles through the SDK's clients.

use aws_sdk_eventbridge::types::{PutEventsRequestEntry, Target};
use aws_sdk_sns::types::PublishBatchRequestEntry;
use aws_sdk_sqs::types::{
    MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName,
    SendMessageBatchRequestEntry,
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_types::SdkConfig;
use aws_types::sdk_config::SharedCredentialsProvider;
use bytes::Bytes;
use http_body_util::BodyExt;

use super::*;
use crate::{Effect, Fault, Service};

struct Clients {
    aws: LocalAws,
    sqs: aws_sdk_sqs::Client,
    sns: aws_sdk_sns::Client,
    events: aws_sdk_eventbridge::Client,
}

fn clients() -> Clients {
    let aws = LocalAws::new(Options::default()).unwrap();
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(SharedCredentialsProvider::new(Credentials::from_keys(
            "tester", "secret", None,
        )))
        .region(Region::new("us-east-1"))
        .retry_config(RetryConfig::disabled())
        .http_client(aws.http_client())
        .build();
    Clients {
        sqs: aws_sdk_sqs::Client::new(&config),
        sns: aws_sdk_sns::Client::new(&config),
        events: aws_sdk_eventbridge::Client::new(&config),
        aws,
    }
}

impl Clients {
    async fn queue(&self, name: &str) -> String {
        let made = self.sqs.create_queue().queue_name(name);
        made.send().await.unwrap().queue_url.unwrap()
    }

    async fn queue_arn(&self, url: &str) -> String {
        let asked = self.sqs.get_queue_attributes().queue_url(url);
        let told = asked.attribute_names(QueueAttributeName::All).send().await.unwrap();
        told.attributes.unwrap()[&QueueAttributeName::QueueArn].clone()
    }

    /// Receives and deletes up to ten.
    async fn take(&self, url: &str) -> Vec<aws_sdk_sqs::types::Message> {
        let asked = self.sqs.receive_message().queue_url(url).max_number_of_messages(10);
        let asked = asked.message_attribute_names("All");
        let asked = asked.message_system_attribute_names(MessageSystemAttributeName::All);
        let messages = asked.send().await.unwrap().messages.unwrap_or_default();
        for message in &messages {
            let delete = self.sqs.delete_message().queue_url(url);
            delete.receipt_handle(message.receipt_handle().unwrap()).send().await.unwrap();
        }
        messages
    }
}

fn entry(id: &str, body: &str) -> SendMessageBatchRequestEntry {
    SendMessageBatchRequestEntry::builder().id(id).message_body(body).build().unwrap()
}

fn bodies(messages: &[aws_sdk_sqs::types::Message]) -> Vec<&str> {
    messages.iter().map(|message| message.body().unwrap()).collect()
}

#[tokio::test]
async fn a_batch_is_kept_entry_by_entry_and_received_with_its_attributes() {
    let clients = clients();
    let url = clients.queue("q").await;
    let value = MessageAttributeValue::builder().data_type("String").string_value("v");
    let with = SendMessageBatchRequestEntry::builder().id("a").message_body("one");
    let with = with.message_attributes("n", value.build().unwrap()).build().unwrap();
    let call = clients.sqs.send_message_batch().queue_url(&url).entries(with);
    let call = call.entries(entry("b", "no\u{ffff}")).entries(entry("c", "three"));
    let told = call.send().await.unwrap();
    assert_eq!(told.successful.len(), 2);
    assert_eq!((told.failed[0].id(), told.failed[0].sender_fault), ("b", true));
    assert_eq!(told.failed[0].code(), "InvalidMessageContents");
    let taken = clients.take(&url).await;
    assert_eq!(bodies(&taken), ["one", "three"]);
    let attributes = taken[0].message_attributes().unwrap();
    assert_eq!(attributes["n"].string_value(), Some("v"));
    assert!(clients.take(&url).await.is_empty());
}

#[tokio::test]
async fn what_has_a_whole_call_refused() {
    let clients = clients();
    let url = clients.queue("q").await;
    let code = async |entries: Vec<SendMessageBatchRequestEntry>, url: &str| {
        let call = clients.sqs.send_message_batch().queue_url(url).set_entries(Some(entries));
        call.send().await.unwrap_err().code().unwrap().to_owned()
    };
    let eleven = (0..11).map(|n| entry(&n.to_string(), "x")).collect();
    assert_eq!(code(eleven, &url).await, "TooManyEntriesInBatchRequest");
    let twice = vec![entry("a", "x"), entry("a", "x")];
    assert_eq!(code(twice, &url).await, "BatchEntryIdsNotDistinct");
    let half = "x".repeat(600_000);
    let large = vec![entry("a", &half), entry("b", &half)];
    assert_eq!(code(large, &url).await, "BatchRequestTooLong");
    let fifo = clients.queue("q.fifo").await;
    assert_eq!(code(vec![entry("a", "x")], &fifo).await, "MissingParameter");
    let missing = url.replace("/q", "/missing");
    assert_eq!(code(vec![entry("a", "x")], &missing).await, "QueueDoesNotExist");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_waits_for_what_comes() {
    let clients = clients();
    let url = clients.queue("q").await;
    let waiting = clients.sqs.receive_message().queue_url(&url).wait_time_seconds(20).send();
    let sending = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let sent = clients.sqs.send_message().queue_url(&url).message_body("late");
        sent.send().await.unwrap();
    };
    let began = tokio::time::Instant::now();
    let (received, ()) = tokio::join!(waiting, sending);
    assert_eq!(bodies(received.unwrap().messages()), ["late"]);
    assert_eq!(began.elapsed().as_secs(), 3);
    let none = clients.sqs.receive_message().queue_url(&url).wait_time_seconds(5).send().await;
    assert!(none.unwrap().messages().is_empty());
    assert_eq!(began.elapsed().as_secs(), 8);
}

#[tokio::test]
async fn a_fifo_topic_hands_on_to_a_fifo_queue_in_order_and_once() {
    let clients = clients();
    let url = clients.queue("q.fifo").await;
    let topic = clients.sns.create_topic().name("t.fifo").send().await.unwrap();
    let topic = topic.topic_arn().unwrap();
    let subscribed = clients.sns.subscribe().topic_arn(topic).protocol("sqs");
    let subscribed = subscribed.endpoint(clients.queue_arn(&url).await);
    subscribed.attributes("RawMessageDelivery", "true").send().await.unwrap();
    let entry = |id: &str, body: &str| {
        let entry = PublishBatchRequestEntry::builder().id(id).message(body);
        entry.message_group_id("g").message_deduplication_id(body).build().unwrap()
    };
    let call = clients.sns.publish_batch().topic_arn(topic);
    let call = call.publish_batch_request_entries(entry("0", "<a> & é"));
    let call = call.publish_batch_request_entries(entry("1", "b"));
    let told = call.publish_batch_request_entries(entry("2", "b")).send().await.unwrap();
    assert_eq!((told.successful().len(), told.failed().len()), (3, 0));
    let received = clients.sqs.receive_message().queue_url(&url).max_number_of_messages(10);
    let received = received.send().await.unwrap().messages.unwrap();
    assert_eq!(bodies(&received), ["<a> & é", "b"], "a repeated id is kept once");
    let gone = clients.sns.publish().topic_arn("arn:aws:sns:us-east-1:000000000000:none");
    let gone = gone.message("x").send().await.unwrap_err();
    assert_eq!(gone.code(), Some("NotFound"));
}

#[tokio::test]
async fn an_event_goes_to_the_queues_of_the_rules_that_want_it() {
    let clients = clients();
    let url = clients.queue("q").await;
    let rule = clients.events.put_rule().name("r").event_pattern(r#"{"source":["mine"]}"#);
    rule.send().await.unwrap();
    let target = Target::builder().id("1").arn(clients.queue_arn(&url).await).build().unwrap();
    clients.events.put_targets().rule("r").targets(target).send().await.unwrap();
    let entry = |source: &str, detail: &str| {
        let entry = PutEventsRequestEntry::builder().source(source).detail_type("t");
        entry.detail(detail).resources("a").resources("b").build()
    };
    let call = clients.events.put_events().entries(entry("mine", r#"{"n":1}"#));
    let call = call.entries(entry("other", r#"{"n":2}"#)).entries(entry("mine", "[3]"));
    let told = call.send().await.unwrap();
    assert_eq!(told.failed_entry_count(), 1);
    assert_eq!(told.entries()[2].error_code(), Some("MalformedDetail"));
    let taken = clients.take(&url).await;
    assert_eq!(taken.len(), 1);
    let event: serde_json::Value = serde_json::from_str(taken[0].body().unwrap()).unwrap();
    assert_eq!((&event["detail"]["n"], &event["resources"][1]), (&1.into(), &"b".into()));
}

#[tokio::test]
async fn faults_hit_each_service_in_its_own_words() {
    let clients = clients();
    let url = clients.queue("q").await;
    let topic = clients.sns.create_topic().name("t").send().await.unwrap().topic_arn.unwrap();
    let batch = |count: usize| {
        let entries = (0..count).map(|n| entry(&n.to_string(), "x")).collect::<Vec<_>>();
        clients.sqs.send_message_batch().queue_url(&url).set_entries(Some(entries)).send()
    };
    let publish = |count: usize| {
        let entry = |n: usize| {
            let entry = PublishBatchRequestEntry::builder().id(n.to_string()).message("x");
            entry.build().unwrap()
        };
        let entries = (0..count).map(entry).collect::<Vec<_>>();
        let call = clients.sns.publish_batch().topic_arn(&topic);
        call.set_publish_batch_request_entries(Some(entries)).send()
    };
    let put = |count: usize| {
        let entry = PutEventsRequestEntry::builder().source("s").detail_type("t").detail("{}");
        let entries = vec![entry.build(); count];
        clients.events.put_events().set_entries(Some(entries)).send()
    };
    let faults = clients.aws.faults();
    for service in [Service::Sqs, Service::Sns, Service::EventBridge] {
        faults.inject(Fault::new(service, Effect::Throttle).times(1));
        faults.inject(Fault::new(service, Effect::Partial(0.5)).times(1));
    }
    assert_eq!(batch(1).await.unwrap_err().code(), Some("RequestThrottled"));
    assert_eq!(publish(1).await.unwrap_err().code(), Some("Throttled"));
    assert_eq!(put(1).await.unwrap_err().code(), Some("ThrottlingException"));
    let told = batch(10).await.unwrap();
    assert!(!told.failed.is_empty() && told.failed.len() + told.successful.len() == 10);
    let told = publish(10).await.unwrap();
    assert!(!told.failed().is_empty() && told.failed().len() + told.successful().len() == 10);
    let told = put(10).await.unwrap();
    let failed = told.entries().iter().filter(|entry| entry.error_code().is_some()).count();
    assert!(failed > 0 && told.entries().len() == 10);
    assert_eq!(usize::try_from(told.failed_entry_count()).unwrap(), failed);
}

#[tokio::test]
async fn a_role_is_assumed_with_the_external_id_that_it_trusts() {
    let aws = LocalAws::new(Options::default()).unwrap();
    let role = "arn:aws:iam::000000000000:role/deliver";
    aws.trust(role, "client-1");
    let assume = async |external_id: &str| {
        let form = format!(
            "Action=AssumeRole&Version=2011-06-15&RoleArn={role}&RoleSessionName=w&ExternalId={external_id}"
        );
        let request = http::Request::post("/")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("authorization", "AWS4-HMAC-SHA256 Credential=me/20260101/r/sts/aws4_request")
            .body(Bytes::from(form))
            .unwrap();
        let response = aws.dispatch(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    let (status, body) = assume("client-1").await;
    assert!(status == 200 && body.contains("<AccessKeyId>ASIA-deliver</AccessKeyId>"), "{body}");
    let (status, body) = assume("client-2").await;
    assert!(status == 403 && body.contains("<Code>AccessDenied</Code>"), "{body}");
}
