//! SNS: a publication per message, its body the payload as it came.

use aws_sdk_sns::types::{MessageAttributeValue, PublishBatchRequestEntry};
use futures::future::BoxFuture;
use store::{ClientId, Message, SnsDestination, TopicArn};

use super::attributes::{self, STRING};
use super::{
    AwsConfigs, AwsIdentity, AwsService, Batched, Capacity, Failure, MOST_ENTRIES, Reply, group,
    judge,
};

/// One message and all of a call: 256 KiB, attributes included, unless the topic's `MaximumMessageSize` says more
/// (docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html). So a call stays below it, and a message
/// above it goes alone: the topic decides.
const MOST_BYTES: usize = 262_144;
/// The highest `MaximumMessageSize` of a topic.
const LARGEST: usize = 1_048_576;

/// Publishes to one topic.
pub(in crate::async_delivery) struct Sns {
    client: aws_sdk_sns::Client,
    topic: TopicArn,
}

impl Sns {
    pub(in crate::async_delivery) fn new(
        destination: &SnsDestination,
        owner: &ClientId,
        configs: &AwsConfigs,
    ) -> Sns {
        let region = Some(destination.topic.region());
        let identity = AwsIdentity::new(region, destination.role.as_ref(), owner);
        let client = aws_sdk_sns::Client::new(&configs.of(&identity, AwsService::Sns));
        Sns { client, topic: destination.topic.clone() }
    }
}

impl Batched for Sns {
    type Entry = PublishBatchRequestEntry;

    const CAPACITY: Capacity = Capacity { messages: MOST_ENTRIES, bytes: MOST_BYTES };
    const LARGEST: usize = LARGEST;

    fn size(message: &Message) -> usize {
        attributes::size_with_body(message)
    }

    fn entry(&self, index: usize, message: &Message) -> Result<Self::Entry, String> {
        let body = std::str::from_utf8(&message.payload).map_err(|_| "not UTF-8".to_owned())?;
        let mut entry = PublishBatchRequestEntry::builder().id(index.to_string()).message(body);
        for (name, value) in attributes::of(message) {
            let attribute = MessageAttributeValue::builder().data_type(STRING).string_value(value);
            let attribute = attribute.build().map_err(|e| e.to_string())?;
            entry = entry.message_attributes(name, attribute);
        }
        if self.topic.is_fifo() {
            entry = entry
                .message_group_id(group::of(&message.partition_key))
                .message_deduplication_id(message.id.as_str());
        }
        entry.build().map_err(|e| e.to_string())
    }

    fn call(&self, entries: Vec<Self::Entry>) -> BoxFuture<'_, Result<Reply, Failure>> {
        Box::pin(async move {
            let call = self.client.publish_batch().topic_arn(self.topic.as_str());
            let answer = call.set_publish_batch_request_entries(Some(entries)).send().await;
            let answer = answer.map_err(|error| judge::call(&error))?;
            let mut reply = Reply::default();
            let accepted =
                answer.successful().iter().filter_map(|done| done.id()?.parse::<usize>().ok());
            reply.accepted.extend(accepted);
            reply.failed.extend(answer.failed().iter().filter_map(|failed| {
                let message = failed.message.as_deref().unwrap_or_default();
                let failure = judge::entry(&failed.code, message, failed.sender_fault);
                Some((failed.id.parse().ok()?, failure))
            }));
            Ok(reply)
        })
    }
}
