//! The wire of the embedded Kinesis: operations by name, awsJson bodies in and out.
//!
//! Each operation parses its request, enters the engine once, and turns what it finds into JSON. Start at [`answer`].

mod consumers;
mod event_stream;
mod lists;
mod read;
mod record_json;
mod request;
mod settings;
mod shape;
mod streams;
mod subscribe;
mod token;
mod write;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Kinesis;
use super::engine::Engine;
use super::error::Refusal;
use crate::wire::Answer;

/// Control calls whose rate the service limits: name and calls a second.
const CALL_RATES: [(&str, u32); 17] = [
    ("AddTagsToStream", 5),
    ("CreateStream", 5),
    ("DecreaseStreamRetentionPeriod", 5),
    ("DeleteStream", 5),
    ("DeregisterStreamConsumer", 5),
    ("DescribeLimits", 1),
    ("DescribeStream", 10),
    ("DescribeStreamConsumer", 20),
    ("DescribeStreamSummary", 20),
    ("IncreaseStreamRetentionPeriod", 5),
    ("ListShards", 1000),
    ("ListStreamConsumers", 5),
    ("ListStreams", 5),
    ("MergeShards", 5),
    ("RegisterStreamConsumer", 5),
    ("SplitShard", 5),
    ("UpdateShardCount", 10),
];

/// Answers one call.
pub(super) fn answer(kinesis: &Kinesis, operation: &str, body: &[u8]) -> Result<Answer, Refusal> {
    if let Some((name, per_second)) = CALL_RATES.iter().find(|(name, _)| *name == operation) {
        let (mut engine, now_ms) = kinesis.enter();
        engine.admit_call(name, *per_second, now_ms)?;
    }
    let call = Call { kinesis, body };
    match operation {
        "PutRecord" => write::put_record(kinesis, body),
        "PutRecords" => write::put_records(kinesis, body),
        "GetShardIterator" => call.run(read::get_shard_iterator),
        "GetRecords" => read::get_records(kinesis, body),
        "SubscribeToShard" => subscribe::subscribe_to_shard(kinesis, body),
        "ListShards" => call.run(lists::list_shards),
        "DescribeStream" => call.run(lists::describe_stream),
        "ListStreams" => call.run(lists::list_streams),
        "DescribeStreamSummary" => call.run(streams::describe_stream_summary),
        "CreateStream" => call.run(streams::create_stream),
        "DeleteStream" => call.run(streams::delete_stream),
        "SplitShard" => call.run(streams::split_shard),
        "MergeShards" => call.run(streams::merge_shards),
        "UpdateShardCount" => call.run(streams::update_shard_count),
        "DescribeLimits" => call.run(streams::describe_limits),
        "RegisterStreamConsumer" => call.run(consumers::register),
        "DescribeStreamConsumer" => call.run(consumers::describe),
        "ListStreamConsumers" => call.run(consumers::list),
        "DeregisterStreamConsumer" => call.run(consumers::deregister),
        _ => answer_setting(&call, operation),
    }
}

/// Answers the calls that change or read one setting of a stream.
fn answer_setting(call: &Call<'_>, operation: &str) -> Result<Answer, Refusal> {
    match operation {
        "IncreaseStreamRetentionPeriod" => call.run(settings::increase_retention),
        "DecreaseStreamRetentionPeriod" => call.run(settings::decrease_retention),
        "UpdateMaxRecordSize" => call.run(settings::update_max_record_size),
        "UpdateStreamMode" => call.run(settings::update_stream_mode),
        "UpdateStreamRecordDistributionStrategy" => call.run(settings::update_distribution),
        "StartStreamEncryption" => call.run(settings::start_encryption),
        "StopStreamEncryption" => call.run(settings::stop_encryption),
        "AddTagsToStream" => call.run(settings::add_tags_to_stream),
        "RemoveTagsFromStream" => call.run(settings::remove_tags_from_stream),
        "ListTagsForStream" => call.run(settings::list_tags_for_stream),
        "TagResource" => call.run(settings::tag_resource),
        "UntagResource" => call.run(settings::untag_resource),
        "ListTagsForResource" => call.run(settings::list_tags_for_resource),
        _ => Err(Refusal::UnknownOperation(format!(
            "the embedded Kinesis does not implement {operation}"
        ))),
    }
}

/// One call of an operation that works on the engine and answers with one JSON document.
struct Call<'a> {
    kinesis: &'a Kinesis,
    body: &'a [u8],
}

impl<'a> Call<'a> {
    fn run<In, Out>(
        &self,
        operation: fn(&mut Engine, In, i64) -> Result<Out, Refusal>,
    ) -> Result<Answer, Refusal>
    where
        In: Deserialize<'a>,
        Out: Serialize,
    {
        let request = parse(self.body)?;
        let output = {
            let (mut engine, now_ms) = self.kinesis.enter();
            operation(&mut engine, request, now_ms)?
        };
        json(&output)
    }
}

/// The answer of an operation that returns nothing.
#[derive(Debug, Serialize)]
struct Nothing {}

/// Reads a request; a member that is missing is named as the service does.
fn parse<'a, In: Deserialize<'a>>(body: &'a [u8]) -> Result<In, Refusal> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| {
        let error = error.to_string();
        match error
            .strip_prefix("missing field `")
            .and_then(|rest| rest.split_once('`'))
        {
            Some((member, _)) => Refusal::Validation(format!(
                "1 validation error detected: Value null at '{member}' failed to satisfy constraint: Member must not be null"
            )),
            None => Refusal::Serialization(error),
        }
    })
}

fn json<Out: Serialize>(output: &Out) -> Result<Answer, Refusal> {
    serde_json::to_vec(output)
        .map(|body| Answer::ok(Bytes::from(body)))
        .map_err(|error| Refusal::Internal(format!("the answer is not JSON: {error}")))
}
