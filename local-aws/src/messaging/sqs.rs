//! SQS on the wire (awsJson 1.0): what is sent, deleted and asked of queues. Receiving is in `receive.rs`.

use bytes::Bytes;
use md5::{Digest, Md5};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::queue::{New, Queue, Sent};
use super::{Messaging, Refused, State, Told, has_room, name_in, read, unknown};

/// Entries of one call.
const MOST_ENTRIES: usize = 10;
/// Bytes of one call.
const MOST_BYTES: usize = 1_048_576;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Create {
    queue_name: String,
    #[serde(default)]
    attributes: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Named {
    #[serde(default)]
    queue_url: String,
    #[serde(default)]
    queue_name: String,
    #[serde(default)]
    receipt_handle: String,
    #[serde(default)]
    visibility_timeout: i64,
    #[serde(default)]
    entries: Vec<Handled>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Handled {
    id: String,
    receipt_handle: String,
}

/// A message as a sender gives it, alone or in a batch.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    #[serde(default)]
    pub(super) id: String,
    pub(super) message_body: String,
    #[serde(default)]
    pub(super) message_attributes: Map<String, Value>,
    pub(super) message_group_id: Option<String>,
    pub(super) message_deduplication_id: Option<String>,
    #[serde(default)]
    pub(super) delay_seconds: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SendOne {
    queue_url: String,
    #[serde(flatten)]
    entry: Entry,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SendBatch {
    queue_url: String,
    entries: Vec<Entry>,
}

/// By entry's id, what its sender is told.
type Sendings = Vec<(String, Result<Value, Refused>)>;

impl Messaging {
    pub(super) fn sqs(&self, operation: &str, body: &Bytes) -> Told {
        match operation {
            "CreateQueue" => self.create_queue(read(body)?),
            "SendMessage" => {
                let SendOne { queue_url, entry } = read(body)?;
                let sent = self.send_all(&queue_url, vec![entry])?.pop();
                sent.map_or_else(|| Err(unknown(operation)), |(_, told)| told)
            }
            "SendMessageBatch" => self.send_batch(read(body)?),
            _ => self.of_queue(operation, &read(body)?),
        }
    }

    fn create_queue(&self, Create { queue_name: name, attributes }: Create) -> Told {
        let mut state = self.enter();
        has_room(state.queues.len())?;
        let fifo = name.ends_with(".fifo");
        let mut queue = Queue::new(fifo, self.now_ms());
        let number = |name: &str| attributes.get(name)?.as_str()?.parse::<u32>().ok();
        if let Some(seconds) = number("VisibilityTimeout") {
            queue.visibility_ms = i64::from(seconds) * 1_000;
        }
        if let Some(bytes) = number("MaximumMessageSize") {
            queue.most_bytes = bytes as usize;
        }
        queue.content_based =
            attributes.get("ContentBasedDeduplication").is_some_and(|value| value == "true");
        let url = self.queue_url(&name);
        state.queues.entry(name).or_insert(queue);
        Ok(json!({ "QueueUrl": url }))
    }

    fn of_queue(&self, operation: &str, named: &Named) -> Told {
        let now_ms = self.now_ms();
        let mut state = self.enter();
        if operation == "ListQueues" {
            let urls: Vec<_> = state.queues.keys().map(|name| self.queue_url(name)).collect();
            return Ok(json!({ "QueueUrls": urls }));
        }
        let asked = if named.queue_url.is_empty() { &named.queue_name } else { &named.queue_url };
        let name = name_in(asked).to_owned();
        let queue = state.queue(&name)?;
        match operation {
            "GetQueueUrl" => return Ok(json!({ "QueueUrl": self.queue_url(&name) })),
            "GetQueueAttributes" => {
                let arn = self.arn("sqs", &name);
                return Ok(json!({ "Attributes": attributes(queue, &arn, now_ms) }));
            }
            "DeleteMessage" => queue.delete(&named.receipt_handle),
            "DeleteMessageBatch" => {
                let delete = |entry: &Handled| {
                    queue.delete(&entry.receipt_handle);
                    json!({ "Id": entry.id })
                };
                let done: Vec<_> = named.entries.iter().map(delete).collect();
                return Ok(json!({ "Successful": done, "Failed": [] }));
            }
            "ChangeMessageVisibility" => {
                if !queue.hide(&named.receipt_handle, named.visibility_timeout * 1_000, now_ms) {
                    return Err(Refused::new("ReceiptHandleIsInvalid", "no such receipt"));
                }
            }
            "PurgeQueue" => queue.purge(),
            "DeleteQueue" => drop(state.queues.remove(&name)),
            _ => return Err(unknown(operation)),
        }
        Ok(json!({}))
    }

    fn send_batch(&self, SendBatch { queue_url, entries }: SendBatch) -> Told {
        check_batch(&entries)?;
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for (id, sent) in self.send_all(&queue_url, entries)? {
            match sent {
                Ok(mut told) => {
                    told["Id"] = id.into();
                    successful.push(told);
                }
                Err(Refused { code, message }) => failed.push(json!({
                    "Id": id, "SenderFault": true, "Code": code, "Message": message,
                })),
            }
        }
        Ok(json!({ "Successful": successful, "Failed": failed }))
    }

    /// Sends each, or refuses the whole call.
    fn send_all(&self, queue_url: &str, entries: Vec<Entry>) -> Result<Sendings, Refused> {
        let now_ms = self.now_ms();
        let mut state = self.enter();
        let name = name_in(queue_url).to_owned();
        let queue = state.queue(&name)?;
        entries.iter().try_for_each(|entry| check_entry(queue, entry))?;
        let mut sendings = Vec::new();
        for entry in entries {
            let id = entry.id.clone();
            let told = if entry.message_body.chars().any(is_forbidden) {
                let message = "Invalid characters found in the message.";
                Err(Refused::new("InvalidMessageContents", message))
            } else {
                let body_hash = hex(&Md5::digest(entry.message_body.as_bytes()));
                let sent = state.send(&name, entry.into_new(), now_ms)?;
                Ok(told(&sent, &body_hash))
            };
            sendings.push((id, told));
        }
        drop(state);
        self.shared.arrived.notify_waiters();
        Ok(sendings)
    }

    fn queue_url(&self, name: &str) -> String {
        let (region, account) = (&self.shared.region, &self.shared.account);
        format!("https://sqs.{region}.amazonaws.com/{account}/{name}")
    }
}

impl Entry {
    fn into_new(self) -> New {
        New {
            body: self.message_body,
            attributes: self.message_attributes,
            group: self.message_group_id,
            deduplication: self.message_deduplication_id,
            delay_ms: self.delay_seconds * 1_000,
        }
    }

    fn size(&self) -> usize {
        let value = |value: &Value, name: &str| value[name].as_str().map_or(0, str::len);
        let attribute = |(name, v): (&String, &Value)| {
            name.len() + value(v, "DataType") + value(v, "StringValue") + value(v, "BinaryValue")
        };
        self.message_body.len() + self.message_attributes.iter().map(attribute).sum::<usize>()
    }
}

impl State {
    pub(super) fn queue(&mut self, name: &str) -> Result<&mut Queue, Refused> {
        self.queues
            .get_mut(name)
            .ok_or_else(|| Refused::new("QueueDoesNotExist", "The specified queue does not exist."))
    }

    /// Puts a message into a queue.
    pub(super) fn send(&mut self, queue: &str, mut new: New, now_ms: i64) -> Result<Sent, Refused> {
        let id = self.next_id();
        let queue = self.queue(queue)?;
        if queue.content_based && new.deduplication.is_none() {
            new.deduplication = Some(hex(&Md5::digest(new.body.as_bytes())));
        }
        queue.send(new, id, now_ms).ok_or_else(|| Refused::new("OverLimit", "the queue is full"))
    }
}

fn check_batch(entries: &[Entry]) -> Result<(), Refused> {
    let mut ids: Vec<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    let refused = if entries.is_empty() {
        ("EmptyBatchRequest", "There should be at least one entry in the request.")
    } else if entries.len() > MOST_ENTRIES {
        ("TooManyEntriesInBatchRequest", "Maximum number of entries per request are 10.")
    } else if ids.len() < entries.len() {
        ("BatchEntryIdsNotDistinct", "Two or more batch entries have the same id.")
    } else if entries.iter().map(Entry::size).sum::<usize>() > MOST_BYTES {
        ("BatchRequestTooLong", "Batch requests cannot be longer than 1048576 bytes.")
    } else {
        return Ok(());
    };
    Err(Refused::new(refused.0, refused.1))
}

/// What of an entry has the whole call refused.
fn check_entry(queue: &Queue, entry: &Entry) -> Result<(), Refused> {
    if entry.size() > queue.most_bytes {
        let message = format!(
            "One or more parameters are invalid. Reason: Message must be shorter than {} bytes.",
            queue.most_bytes
        );
        return Err(Refused::new("InvalidParameterValue", message));
    }
    let group = entry.message_group_id.as_deref();
    if queue.fifo && group.is_none() {
        let message = "The request must contain the parameter MessageGroupId.";
        return Err(Refused::new("MissingParameter", message));
    }
    let is_id =
        |id: &str| (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    let ids = [group, entry.message_deduplication_id.as_deref()];
    if let Some(id) = ids.into_iter().flatten().find(|id| !is_id(id)) {
        let message = format!("{id:?}: 1 to 128 alphanumeric and punctuation characters.");
        return Err(Refused::new("InvalidParameterValue", message));
    }
    Ok(())
}

fn is_forbidden(c: char) -> bool {
    (c < ' ' && !matches!(c, '\t' | '\n' | '\r')) || matches!(c, '\u{fffe}' | '\u{ffff}')
}

fn attributes(queue: &Queue, arn: &str, now_ms: i64) -> Value {
    let (visible, hidden) = queue.counts(now_ms);
    let mut attributes = json!({
        "QueueArn": arn,
        "ApproximateNumberOfMessages": visible.to_string(),
        "ApproximateNumberOfMessagesNotVisible": hidden.to_string(),
        "VisibilityTimeout": (queue.visibility_ms / 1_000).to_string(),
        "MaximumMessageSize": queue.most_bytes.to_string(),
        "CreatedTimestamp": (queue.created_ms / 1_000).to_string(),
    });
    if queue.fifo {
        attributes["FifoQueue"] = "true".into();
        attributes["ContentBasedDeduplication"] = queue.content_based.to_string().into();
    }
    attributes
}

fn told(sent: &Sent, body_hash: &str) -> Value {
    let mut told = json!({ "MessageId": sent.message_id, "MD5OfMessageBody": body_hash });
    if let Some(sequence) = &sent.sequence {
        told["SequenceNumber"] = sequence.as_str().into();
    }
    told
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
