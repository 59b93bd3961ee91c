//! EventBridge: an event per message, its detail the payload as it came.

use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_smithy_types::DateTime;
use futures::future::BoxFuture;
use store::{ClientId, EventBridgeDestination, EventBus, Message};

use super::{
    AwsConfigs, AwsIdentity, AwsService, Batched, Capacity, Failure, FailureKind, MOST_ENTRIES,
    Reply, failure, judge,
};

/// All of a call is to be less than 1 MB
/// (docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html).
const MOST_BYTES: usize = 999_999;
/// Above it the service refuses, whichever megabyte it means.
const LARGEST: usize = 1_048_576;
/// What a time counts for, whatever its form
/// (docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevent-size.html).
const TIME_BYTES: usize = 14;
/// Begins each event's source; the integration's name follows.
const SOURCE: &str = "sluicegate/";

/// Puts events on one bus.
pub(in crate::async_delivery) struct EventBridge {
    client: aws_sdk_eventbridge::Client,
    bus: EventBus,
}

impl EventBridge {
    pub(in crate::async_delivery) fn new(
        destination: &EventBridgeDestination,
        owner: &ClientId,
        configs: &AwsConfigs,
    ) -> EventBridge {
        let identity = AwsIdentity::new(destination.bus.region(), destination.role.as_ref(), owner);
        let config = configs.of(&identity, AwsService::EventBridge);
        let client = aws_sdk_eventbridge::Client::new(&config);
        EventBridge { client, bus: destination.bus.clone() }
    }
}

impl Batched for EventBridge {
    type Entry = (usize, PutEventsRequestEntry);

    const CAPACITY: Capacity = Capacity { messages: MOST_ENTRIES, bytes: MOST_BYTES };
    const LARGEST: usize = LARGEST;

    /// Time, source, detail type, detail and resources.
    fn size(message: &Message) -> usize {
        let integration = message.integration.as_str().len();
        let resources = message.position.stream_arn.len() + message.id.as_str().len();
        TIME_BYTES + SOURCE.len() + 2 * integration + message.payload.len() + resources
    }

    fn entry(&self, index: usize, message: &Message) -> Result<Self::Entry, String> {
        let detail = std::str::from_utf8(&message.payload).map_err(|_| "not UTF-8".to_owned())?;
        if !detail.trim_ascii_start().starts_with('{') {
            return Err("EventBridge takes JSON objects only".to_owned());
        }
        let integration = message.integration.as_str();
        let entry = PutEventsRequestEntry::builder()
            .event_bus_name(self.bus.as_str())
            .source(format!("{SOURCE}{integration}"))
            .detail_type(integration)
            .detail(detail)
            .resources(&*message.position.stream_arn)
            // An event's own id is new with each attempt; by this one a consumer knows a message again.
            .resources(message.id.as_str())
            .time(DateTime::from_millis(message.time_ms))
            .build();
        Ok((index, entry))
    }

    fn call(&self, entries: Vec<Self::Entry>) -> BoxFuture<'_, Result<Reply, Failure>> {
        Box::pin(async move {
            let (indices, entries): (Vec<usize>, Vec<_>) = entries.into_iter().unzip();
            let answer = self.client.put_events().set_entries(Some(entries)).send().await;
            let answer = answer.map_err(|error| judge::call(&error))?;
            // The answer's entries have no ids but the order of the request's.
            if answer.entries().len() != indices.len() {
                let detail = "the answer has another number of entries than the call".to_owned();
                return Err(failure(FailureKind::Unhealthy, detail));
            }
            let mut reply = Reply::default();
            for (index, result) in indices.into_iter().zip(answer.entries()) {
                match result.error_code() {
                    None => reply.accepted.push(index),
                    Some(code) => {
                        let message = result.error_message().unwrap_or_default();
                        let failure = judge::entry(code, message, is_senders_fault(code));
                        reply.failed.push((index, failure));
                    }
                }
            }
            Ok(reply)
        })
    }
}

/// EventBridge does not say whose fault a failure is.
fn is_senders_fault(code: &str) -> bool {
    !(code.contains("Internal") || code.contains("Unavailable"))
}
