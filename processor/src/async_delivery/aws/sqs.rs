//! SQS: a message of the queue per message, its body the payload as it came.

use aws_sdk_sqs::types::{MessageAttributeValue, SendMessageBatchRequestEntry};
use futures::future::BoxFuture;
use store::{ClientId, Message, QueueUrl, SqsDestination};

use super::attributes::{self, STRING, is_carried};
use super::{
    AwsConfigs, AwsIdentity, AwsService, Batched, Capacity, Failure, MOST_ENTRIES, Reply, group,
    judge,
};

/// One message and all of a call: 1 MiB, attributes included
/// (docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html).
const MOST_BYTES: usize = 1_048_576;

/// Sends to one queue.
pub(in crate::async_delivery) struct Sqs {
    client: aws_sdk_sqs::Client,
    queue: QueueUrl,
}

impl Sqs {
    pub(in crate::async_delivery) fn new(
        destination: &SqsDestination,
        owner: &ClientId,
        configs: &AwsConfigs,
    ) -> Sqs {
        let region = Some(destination.queue.region());
        let identity = AwsIdentity::new(region, destination.role.as_ref(), owner);
        let client = aws_sdk_sqs::Client::new(&configs.of(&identity, AwsService::Sqs));
        Sqs { client, queue: destination.queue.clone() }
    }
}

impl Batched for Sqs {
    type Entry = SendMessageBatchRequestEntry;

    const CAPACITY: Capacity = Capacity { messages: MOST_ENTRIES, bytes: MOST_BYTES };
    const LARGEST: usize = MOST_BYTES;

    fn size(message: &Message) -> usize {
        attributes::size_with_body(message)
    }

    fn entry(&self, index: usize, message: &Message) -> Result<Self::Entry, String> {
        let body = std::str::from_utf8(&message.payload).map_err(|_| "not UTF-8".to_owned())?;
        if !is_carried(body) {
            return Err("it contains U+FFFE or U+FFFF, which SQS does not carry".to_owned());
        }
        let mut entry =
            SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(body);
        for (name, value) in attributes::of(message) {
            let attribute = MessageAttributeValue::builder().data_type(STRING).string_value(value);
            let attribute = attribute.build().map_err(|e| e.to_string())?;
            entry = entry.message_attributes(name, attribute);
        }
        if self.queue.is_fifo() {
            entry = entry
                .message_group_id(group::of(&message.partition_key))
                .message_deduplication_id(message.id.as_str());
        }
        entry.build().map_err(|e| e.to_string())
    }

    fn call(&self, entries: Vec<Self::Entry>) -> BoxFuture<'_, Result<Reply, Failure>> {
        Box::pin(async move {
            let call = self.client.send_message_batch().queue_url(self.queue.as_str());
            let answer = call.set_entries(Some(entries)).send().await;
            let answer = answer.map_err(|error| judge::call(&error))?;
            let mut reply = Reply::default();
            reply
                .accepted
                .extend(answer.successful.iter().filter_map(|done| done.id.parse::<usize>().ok()));
            reply.failed.extend(answer.failed.iter().filter_map(|failed| {
                let message = failed.message.as_deref().unwrap_or_default();
                let failure = judge::entry(&failed.code, message, failed.sender_fault);
                Some((failed.id.parse().ok()?, failure))
            }));
            Ok(reply)
        })
    }
}
