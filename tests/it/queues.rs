//! Real records into queues, through the real binary and the real wire.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};

use crate::harness::child::run;
use crate::harness::eventually;
use crate::harness::platform::{Platform, Processor, earthquakes};

/// How many of the bundled events are sent.
const EVENTS: usize = 400;

fn url(name: &str) -> String {
    format!("https://sqs.us-east-1.amazonaws.com/000000000000/{name}")
}

/// Takes out of a queue what is there now.
async fn take(sqs: &aws_sdk_sqs::Client, name: &str, into: &mut Vec<Message>) {
    loop {
        let asked = sqs.receive_message().queue_url(url(name)).max_number_of_messages(10);
        let asked = asked.message_attribute_names("All");
        let asked = asked.message_system_attribute_names(MessageSystemAttributeName::All);
        let messages = asked.send().await.expect("received").messages.unwrap_or_default();
        if messages.is_empty() {
            return;
        }
        for message in &messages {
            let receipt = message.receipt_handle().expect("a receipt");
            let delete = sqs.delete_message().queue_url(url(name)).receipt_handle(receipt);
            delete.send().await.expect("deleted");
        }
        into.extend(messages);
    }
}

fn id(message: &Message) -> String {
    let attributes = message.message_attributes().expect("attributes");
    attributes["sluicegate-message-id"].string_value().expect("an id").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_get_every_event_and_a_fifo_queue_has_each_key_in_order_and_once() {
    let platform = Platform::start().await;
    let sqs = platform.aws.sqs.clone();
    for name in ["plain", "ordered.fifo"] {
        sqs.create_queue().queue_name(name).send().await.expect("a queue");
    }
    let (plain, fifo) = (url("plain"), url("ordered.fifo"));
    let config = platform.config.as_str();
    let made = run(&["init", "--config", config, "--dev", "--sqs", &plain, "--sqs", &fifo]).await;
    assert_eq!(made.code, Some(0), "{:#?}", made.log);
    let processor = Processor::start(&platform).await;
    let events: Vec<_> = earthquakes().into_iter().take(EVENTS).collect();
    platform.aws.put("earthquakes", &events).await;

    let (in_plain, in_fifo) =
        (tokio::sync::Mutex::new(Vec::new()), tokio::sync::Mutex::new(Vec::new()));
    eventually("every event is in both queues", async || {
        let (mut plain, mut fifo) = (in_plain.lock().await, in_fifo.lock().await);
        take(&sqs, "plain", &mut plain).await;
        take(&sqs, "ordered.fifo", &mut fifo).await;
        let found = [&plain, &fifo].map(|got| got.iter().map(id).collect::<BTreeSet<_>>().len());
        if found == [EVENTS; 2] { Ok(()) } else { Err(format!("{found:?} of {EVENTS}")) }
    })
    .await;
    let ended = processor.stop().await;
    assert_eq!(ended.code, Some(0), "a clean stop: {:#?}", ended.log);

    let mut sent: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, body) in &events {
        let body = String::from_utf8(body.clone()).expect("UTF-8");
        sent.entry(key.clone()).or_default().push(body);
    }
    let mut got: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for message in in_fifo.into_inner() {
        let attributes = message.attributes().expect("attributes");
        let group = attributes[&MessageSystemAttributeName::MessageGroupId].clone();
        got.entry(group).or_default().push(message.body().expect("a body").to_owned());
    }
    assert!(got == sent, "each group has the bytes of its key, in order and once");
    let stored = platform.stored().await.into_keys().collect::<BTreeSet<_>>();
    let delivered = in_plain.into_inner().iter().map(id).collect::<BTreeSet<_>>();
    assert_eq!(delivered, stored, "under the ids that the store has");
}
