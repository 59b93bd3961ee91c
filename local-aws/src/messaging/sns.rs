//! SNS: topics, their subscriptions of queues, and what is published to them. Its calls came as queries.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::queue::New;
use super::{Messaging, Refused, State, Told, has_room, name_in, read, unknown};

/// Entries of one call.
const MOST_ENTRIES: usize = 10;
/// What a topic takes unless its `MaximumMessageSize` says otherwise.
const MOST_BYTES: usize = 262_144;

/// A topic.
#[derive(Debug)]
pub(super) struct Topic {
    fifo: bool,
    most_bytes: usize,
    subscriptions: Vec<Subscription>,
}

/// A queue that gets what is published.
#[derive(Debug)]
struct Subscription {
    queue: String,
    /// As it was published, without the envelope.
    raw: bool,
}

/// `entry.N.key` and `entry.N.value`.
#[derive(Deserialize)]
struct Setting {
    key: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Create {
    name: String,
    #[serde(default)]
    attributes: Vec<Setting>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Subscribe {
    topic_arn: String,
    protocol: String,
    endpoint: String,
    #[serde(default)]
    attributes: Vec<Setting>,
}

/// `entry.N.Name` and `entry.N.Value`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Attribute {
    name: String,
    value: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(default)]
    id: String,
    message: String,
    #[serde(default)]
    message_attributes: Vec<Attribute>,
    message_group_id: Option<String>,
    message_deduplication_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Publish {
    topic_arn: String,
    #[serde(flatten)]
    entry: Entry,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PublishBatch {
    topic_arn: String,
    #[serde(default)]
    publish_batch_request_entries: Vec<Entry>,
}

impl Messaging {
    pub(super) fn sns(&self, operation: &str, body: &Bytes) -> Told {
        match operation {
            "CreateTopic" => self.create_topic(read(body)?),
            "Subscribe" => self.subscribe(read(body)?),
            "ListTopics" => {
                let state = self.enter();
                let topics = state.topics.keys().map(|name| self.arn("sns", name));
                let topics = topics.map(|arn| json!({ "TopicArn": arn }));
                Ok(json!({ "Topics": topics.collect::<Vec<_>>() }))
            }
            "Publish" => {
                let Publish { topic_arn, entry } = read(body)?;
                let told = self.publish(&topic_arn, vec![entry])?;
                Ok(told["Successful"][0].clone())
            }
            "PublishBatch" => {
                let PublishBatch { topic_arn, publish_batch_request_entries } = read(body)?;
                check_batch(&publish_batch_request_entries)?;
                self.publish(&topic_arn, publish_batch_request_entries)
            }
            _ => Err(unknown(operation)),
        }
    }

    fn create_topic(&self, Create { name, attributes }: Create) -> Told {
        let mut state = self.enter();
        has_room(state.topics.len())?;
        let most_bytes = attributes
            .iter()
            .find(|setting| setting.key == "MaximumMessageSize")
            .and_then(|setting| setting.value.parse().ok());
        let topic = Topic {
            fifo: name.ends_with(".fifo"),
            most_bytes: most_bytes.unwrap_or(MOST_BYTES),
            subscriptions: Vec::new(),
        };
        let arn = self.arn("sns", &name);
        state.topics.entry(name).or_insert(topic);
        Ok(json!({ "TopicArn": arn }))
    }

    fn subscribe(&self, call: Subscribe) -> Told {
        if call.protocol != "sqs" {
            let message = format!("protocol {:?}: only sqs is served here", call.protocol);
            return Err(Refused::new("InvalidParameter", message));
        }
        let queue = name_in(&call.endpoint).to_owned();
        let mut state = self.enter();
        state.queue(&queue)?;
        let id = state.next_id();
        let topic = state.topic(&call.topic_arn)?;
        has_room(topic.subscriptions.len())?;
        let is_raw = |set: &Setting| set.key == "RawMessageDelivery" && set.value == "true";
        let raw = call.attributes.iter().any(is_raw);
        topic.subscriptions.push(Subscription { queue, raw });
        Ok(json!({ "SubscriptionArn": format!("{}:{id}", call.topic_arn) }))
    }

    fn publish(&self, topic_arn: &str, entries: Vec<Entry>) -> Told {
        let now_ms = self.now_ms();
        let mut state = self.enter();
        let topic = state.topic(topic_arn)?;
        let (fifo, most_bytes) = (topic.fifo, topic.most_bytes);
        if entries.iter().map(Entry::size).sum::<usize>() > most_bytes {
            return Err(Refused::new("InvalidParameter", "Invalid parameter: Message too long"));
        }
        if fifo && entries.iter().any(|entry| entry.message_group_id.is_none()) {
            let message = "The MessageGroupId parameter is required for FIFO topics";
            return Err(Refused::new("InvalidParameter", message));
        }
        let mut successful = Vec::new();
        for entry in entries {
            let id = state.next_id();
            state.hand_on(topic_arn, &entry, &id, now_ms)?;
            successful.push(json!({ "Id": entry.id, "MessageId": id }));
        }
        drop(state);
        self.shared.arrived.notify_waiters();
        Ok(json!({ "Successful": successful, "Failed": [] }))
    }
}

impl State {
    fn topic(&mut self, arn: &str) -> Result<&mut Topic, Refused> {
        let topic = self.topics.get_mut(name_in(arn));
        topic.ok_or_else(|| Refused::new("NotFound", "Topic does not exist"))
    }

    /// Into every queue that subscribes. One that is gone gets nothing.
    fn hand_on(&mut self, arn: &str, entry: &Entry, id: &str, now_ms: i64) -> Result<(), Refused> {
        let subscriptions = &self.topic(arn)?.subscriptions;
        let queues: Vec<_> = subscriptions.iter().map(|to| (to.queue.clone(), to.raw)).collect();
        for (queue, raw) in queues {
            let new = New {
                body: if raw { entry.message.clone() } else { entry.envelope(arn, id) },
                attributes: if raw { entry.attributes() } else { Map::new() },
                group: entry.message_group_id.clone(),
                deduplication: entry.message_deduplication_id.clone(),
                delay_ms: 0,
            };
            if self.queues.contains_key(&queue) {
                self.send(&queue, new, now_ms)?;
            }
        }
        Ok(())
    }
}

impl Entry {
    fn attributes(&self) -> Map<String, Value> {
        let given = self.message_attributes.iter();
        given.map(|attribute| (attribute.name.clone(), attribute.value.clone())).collect()
    }

    /// What a queue gets unless it asked for the raw message.
    fn envelope(&self, topic_arn: &str, id: &str) -> String {
        let attributes = self.message_attributes.iter().map(|attribute| {
            let value = &attribute.value;
            let told = json!({ "Type": value["DataType"], "Value": value["StringValue"] });
            (attribute.name.clone(), told)
        });
        let envelope = json!({
            "Type": "Notification",
            "MessageId": id,
            "TopicArn": topic_arn,
            "Message": self.message,
            "MessageAttributes": attributes.collect::<Map<_, _>>(),
        });
        envelope.to_string()
    }

    fn size(&self) -> usize {
        let text = |value: &Value, name: &str| value[name].as_str().map_or(0, str::len);
        let attribute = |a: &Attribute| {
            a.name.len() + text(&a.value, "DataType") + text(&a.value, "StringValue")
        };
        self.message.len() + self.message_attributes.iter().map(attribute).sum::<usize>()
    }
}

fn check_batch(entries: &[Entry]) -> Result<(), Refused> {
    if entries.is_empty() {
        return Err(Refused::new(
            "EmptyBatchRequest",
            "The batch request doesn't contain any entries.",
        ));
    }
    if entries.len() > MOST_ENTRIES {
        let message = "The batch request contains more entries than permissible.";
        return Err(Refused::new("TooManyEntriesInBatchRequest", message));
    }
    Ok(())
}
