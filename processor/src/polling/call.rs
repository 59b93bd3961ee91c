//! The two calls of polling. Neither is retried by the SDK: `plan` paces them.

use std::time::Duration;

use aws_sdk_kinesis::config::StalledStreamProtectionConfig;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::error::DisplayErrorContext;
use aws_sdk_kinesis::types::ShardIteratorType;
use aws_smithy_types::DateTime;
use aws_smithy_types::body::SdkBody;
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::answer::{self, Answer};
use super::plan::Failed;
use crate::batch::ShardContext;
use crate::budget::{Budget, Permit};
use crate::reader::StartingAt;
use crate::reader::refusal::refusal;
use crate::reader::taken_body::TakenBody;

/// An answer, and the share of the reading budget that is held while somebody has it.
pub(super) type Taken = (Answer, Permit);

/// The largest answer: 10 MiB of records are 13.4 MiB in base64, and there are 10,000 envelopes.
const MOST_BYTES: usize = 20 * 1024 * 1024;

fn once() -> aws_sdk_kinesis::config::Builder {
    aws_sdk_kinesis::config::Builder::new()
        .retry_config(RetryConfig::disabled())
        // It would watch a body that is not read by the SDK; the time limits here are ours.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
}

/// GetShardIterator.
pub(super) async fn iterator(
    client: aws_sdk_kinesis::Client,
    shard: &ShardContext,
    start: &StartingAt,
    limit: Duration,
) -> Result<String, Failed> {
    let call =
        client.get_shard_iterator().stream_arn(&*shard.stream_arn).shard_id(&*shard.shard_id);
    let call = match start {
        StartingAt::TrimHorizon => call.shard_iterator_type(ShardIteratorType::TrimHorizon),
        StartingAt::Latest => call.shard_iterator_type(ShardIteratorType::Latest),
        StartingAt::AtTimestamp(ms) => call
            .shard_iterator_type(ShardIteratorType::AtTimestamp)
            .timestamp(DateTime::from_millis(*ms)),
        StartingAt::At(sequence) => call
            .shard_iterator_type(ShardIteratorType::AtSequenceNumber)
            .starting_sequence_number(sequence.as_str()),
        StartingAt::After(sequence) => call
            .shard_iterator_type(ShardIteratorType::AfterSequenceNumber)
            .starting_sequence_number(sequence.as_str()),
    };
    let sent = timeout(limit, call.customize().config_override(once()).send()).await;
    let answer = sent
        .map_err(|_| Failed::Unanswered(limit))?
        .map_err(|error| refusal(&error).map_or_else(Failed::Cut, Failed::Refused))?;
    answer.shard_iterator.ok_or_else(|| Failed::Broken("the answer has no iterator".to_owned()))
}

/// GetRecords. The answer's declared length is charged before any of it is read; without room for
/// it the answer is dropped unread.
pub(super) async fn records(
    client: aws_sdk_kinesis::Client,
    shard: &ShardContext,
    iterator: &str,
    records: i32,
    budget: &Budget,
    limit: Duration,
) -> Result<Taken, Failed> {
    let body = TakenBody::new(r#"{"Records":[]}"#);
    let call = client
        .get_records()
        .stream_arn(&*shard.stream_arn)
        .shard_iterator(iterator)
        .limit(records)
        .customize()
        .config_override(once())
        .interceptor(body.clone());
    let sent = timeout(limit, call.send()).await.map_err(|_| Failed::Unanswered(limit))?;
    sent.map_err(|error| refusal(&error).map_or_else(Failed::Cut, Failed::Refused))?;
    let body = body.take().ok_or_else(|| Failed::Broken("the answer has no body".to_owned()))?;
    // The service declares lengths. Of another server that does not, the worst is assumed.
    let declared = body.content_length().and_then(|len| usize::try_from(len).ok());
    let bytes = declared.unwrap_or(MOST_BYTES);
    if bytes > MOST_BYTES {
        return Err(Failed::Broken(format!(
            "an answer of {bytes} bytes; {MOST_BYTES} are allowed"
        )));
    }
    let permit = budget.try_charge(bytes).ok_or(Failed::NoRoom { bytes })?;
    let whole = timeout(limit, whole(body, declared.unwrap_or(0))).await;
    let whole = whole.map_err(|_| Failed::Unanswered(limit))??;
    let answer = answer::decode(&whole).map_err(Failed::Broken)?;
    Ok((answer, permit))
}

async fn whole(mut body: SdkBody, capacity: usize) -> Result<Vec<u8>, Failed> {
    let mut bytes = Vec::with_capacity(capacity);
    while let Some(part) = body.frame().await {
        let part = part.map_err(|error| Failed::Cut(DisplayErrorContext(&*error).to_string()))?;
        if let Ok(data) = part.into_data() {
            if bytes.len() + data.len() > MOST_BYTES {
                return Err(Failed::Broken(format!("an answer of more than {MOST_BYTES} bytes")));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}
