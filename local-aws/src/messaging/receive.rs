//! Receiving from a queue, at once or by waiting for what comes.

use std::time::Duration;

use bytes::Bytes;
use md5::{Digest, Md5};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep_until};

use super::queue::Kept;
use super::sqs::hex;
use super::{Messaging, Refused, Told, name_in, read};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Receive {
    queue_url: String,
    max_number_of_messages: Option<usize>,
    visibility_timeout: Option<i64>,
    #[serde(default)]
    wait_time_seconds: u64,
    #[serde(default)]
    attribute_names: Vec<String>,
    #[serde(default)]
    message_system_attribute_names: Vec<String>,
    #[serde(default)]
    message_attribute_names: Vec<String>,
}

impl Messaging {
    /// Waits for a message at most as long as the call says (20 s).
    pub(super) async fn receive(&self, body: &Bytes) -> Told {
        let call: Receive = read(body)?;
        let most = call.max_number_of_messages.unwrap_or(1);
        if !(1..=10).contains(&most) {
            let message = "MaxNumberOfMessages is 1 to 10.";
            return Err(Refused::new("InvalidParameterValue", message));
        }
        let until = Instant::now() + Duration::from_secs(call.wait_time_seconds.min(20));
        loop {
            let arrived = self.shared.arrived.notified();
            let mut arrived = std::pin::pin!(arrived);
            // From here on an arrival is not missed.
            arrived.as_mut().enable();
            let given = self.take(&call, most)?;
            if !given.is_empty() || Instant::now() >= until {
                let messages: Vec<_> = given.iter().map(|kept| message(kept, &call)).collect();
                return Ok(json!({ "Messages": messages }));
            }
            tokio::select! { biased;
                () = arrived => {}
                () = sleep_until(until) => {}
            }
        }
    }

    fn take(&self, call: &Receive, most: usize) -> Result<Vec<Kept>, Refused> {
        let now_ms = self.now_ms();
        let mut state = self.enter();
        let queue = state.queue(name_in(&call.queue_url))?;
        let visibility_ms =
            call.visibility_timeout.map_or(queue.visibility_ms, |seconds| seconds * 1_000);
        Ok(queue.receive(most, visibility_ms, now_ms))
    }
}

fn message(kept: &Kept, call: &Receive) -> Value {
    let mut message = json!({
        "MessageId": kept.sent.message_id,
        "ReceiptHandle": kept.receipt,
        "Body": kept.new.body,
        "MD5OfBody": hex(&Md5::digest(kept.new.body.as_bytes())),
    });
    let is_asked = |names: &[String], name: &str| {
        names.iter().any(|asked| matches!(asked.as_str(), "All" | ".*") || asked == name)
    };
    let system = [
        ("SentTimestamp", Some(kept.sent_ms.to_string())),
        ("ApproximateReceiveCount", Some(kept.receives.to_string())),
        ("MessageGroupId", kept.new.group.clone()),
        ("MessageDeduplicationId", kept.new.deduplication.clone()),
        ("SequenceNumber", kept.sent.sequence.clone()),
    ];
    let asked = |name: &str| {
        is_asked(&call.attribute_names, name)
            || is_asked(&call.message_system_attribute_names, name)
    };
    let system: Map<String, Value> = system
        .into_iter()
        .filter(|(name, _)| asked(name))
        .filter_map(|(name, value)| Some((name.to_owned(), value?.into())))
        .collect();
    if !system.is_empty() {
        message["Attributes"] = system.into();
    }
    let given = kept.new.attributes.iter();
    let attributes: Map<String, Value> = given
        .filter(|(name, _)| is_asked(&call.message_attribute_names, name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if !attributes.is_empty() {
        message["MessageAttributes"] = attributes.into();
    }
    message
}
