//! The calls: what consumers ask, answered from the options and the clock alone.
//!
//! Every consumer that is asked for is registered and active, and nothing ever changes, so there is no state to keep.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::answer::{Answer, Refusal};
use super::sequence::{Position, shard_id, shard_of};
use super::stream::{Shard, Stream};
use super::subscription::Subscription;

const REGION: &str = "us-east-1";
const ACCOUNT: &str = "000000000000";
const TARGET: &str = "Kinesis_20131202.";
/// Shards in one answer of ListShards.
const SHARDS_PAGE: u32 = 1_000;

/// Answers one call: `target` is its `x-amz-target`.
pub(super) fn answer(stream: &Arc<Stream>, target: &str, body: &[u8]) -> Answer {
    let operation = target.strip_prefix(TARGET).unwrap_or(target);
    let answered = match serde_json::from_slice::<Value>(body) {
        Ok(request) => Call { stream, request }.answer(operation),
        Err(error) => Err(Refusal { code: "SerializationException", message: error.to_string() }),
    };
    answered.unwrap_or_else(Answer::from)
}

struct Call<'a> {
    stream: &'a Arc<Stream>,
    request: Value,
}

impl Call<'_> {
    fn answer(&self, operation: &str) -> Result<Answer, Refusal> {
        match operation {
            "DescribeStreamSummary" => self.describe_stream_summary(),
            "DescribeStreamConsumer" => self.consumer("ConsumerDescription"),
            "RegisterStreamConsumer" => self.consumer("Consumer"),
            "ListShards" => self.list_shards(),
            "SubscribeToShard" => self.subscribe_to_shard(),
            "GetShardIterator" => self.get_shard_iterator(),
            "GetRecords" => self.get_records(),
            other => Err(Refusal {
                code: "UnknownOperationException",
                message: format!("{other} is no operation of a synthetic stream"),
            }),
        }
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.request.get(key)?.as_str()
    }

    fn stream_arn(&self) -> String {
        format!("arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{}", self.stream.options.stream)
    }

    /// # Errors
    /// When the call names another stream.
    fn check_stream(&self) -> Result<(), Refusal> {
        let ours = self.stream.options.stream.as_str();
        let named = self.text("StreamName").is_none_or(|name| name == ours);
        let meant = self.text("StreamARN").is_none_or(|arn| arn == self.stream_arn());
        match named && meant {
            true => Ok(()),
            false => Err(Refusal::not_found(format!("the only stream here is {ours}"))),
        }
    }

    fn describe_stream_summary(&self) -> Result<Answer, Refusal> {
        self.check_stream()?;
        Ok(Answer::json(&json!({ "StreamDescriptionSummary": {
            "StreamName": self.stream.options.stream,
            "StreamARN": self.stream_arn(),
            "StreamStatus": "ACTIVE",
            "StreamModeDetails": { "StreamMode": "PROVISIONED" },
            "RetentionPeriodHours": 24,
            "StreamCreationTimestamp": self.created_at(),
            "EnhancedMonitoring": [{ "ShardLevelMetrics": [] }],
            "EncryptionType": "NONE",
            "OpenShardCount": self.stream.options.shards,
            "ConsumerCount": 1,
        }})))
    }

    fn created_at(&self) -> f64 {
        self.stream.created_at_ms as f64 / 1_000.0
    }

    fn consumer(&self, shape: &str) -> Result<Answer, Refusal> {
        self.check_stream()?;
        let name = self.text("ConsumerName").map(str::to_owned).or_else(|| {
            let arn = self.text("ConsumerARN")?;
            let (_, rest) = arn.split_once("/consumer/")?;
            Some(rest.split(':').next()?.to_owned())
        });
        let name = name.ok_or_else(|| Refusal::argument("ConsumerName or ConsumerARN"))?;
        let created = self.stream.created_at_ms / 1_000;
        let arn = format!("{}/consumer/{name}:{created}", self.stream_arn());
        Ok(Answer::json(&json!({ shape: {
            "ConsumerName": name,
            "ConsumerARN": arn,
            "ConsumerStatus": "ACTIVE",
            "ConsumerCreationTimestamp": created,
            "StreamARN": self.stream_arn(),
        }})))
    }

    fn list_shards(&self) -> Result<Answer, Refusal> {
        self.check_stream()?;
        let after = match self.text("NextToken") {
            Some(token) => Some(token),
            None => self.text("ExclusiveStartShardId").or_else(|| {
                let filter = self.request.get("ShardFilter")?;
                filter.get("ShardId")?.as_str()
            }),
        };
        let unknown = || Refusal::argument("ExclusiveStartShardId or NextToken names no shard");
        let first = match after {
            Some(after) => shard_of(after).ok_or_else(unknown)? + 1,
            None => 0,
        };
        let shards = self.stream.options.shards;
        let wanted = self.request.get("MaxResults").and_then(Value::as_u64);
        let most = wanted.and_then(|most| u32::try_from(most).ok()).unwrap_or(SHARDS_PAGE);
        let end = first.saturating_add(most.clamp(1, SHARDS_PAGE)).min(shards);
        let list: Vec<Value> = (first..end).map(|shard| describe_shard(shard, shards)).collect();
        let mut answer = json!({ "Shards": list });
        if end < shards {
            answer["NextToken"] = shard_id(end - 1).into();
        }
        Ok(Answer::json(&answer))
    }

    fn shard(&self) -> Result<(u32, &Shard), Refusal> {
        let id = self.text("ShardId").ok_or_else(|| Refusal::argument("ShardId"))?;
        let index = shard_of(id);
        index
            .and_then(|index| Some((index, self.stream.shard(index)?)))
            .ok_or_else(|| Refusal::not_found(format!("{id} is no shard of this stream")))
    }

    /// The first record to read for a starting position.
    fn start(
        &self,
        kind: &Value,
        sequence: &Value,
        timestamp: &Value,
    ) -> Result<Position, Refusal> {
        let (index, shard) = self.shard()?;
        let tip = self.stream.tip(shard, Instant::now());
        let given = || {
            let text = sequence.as_str().unwrap_or_default();
            Position::parse(text).filter(|position| position.shard == index).ok_or_else(|| {
                Refusal::argument(format!("{text:?} is no sequence number of this shard"))
            })
        };
        let ordinal = match kind.as_str().unwrap_or_default() {
            "TRIM_HORIZON" => 1,
            "LATEST" => tip + 1,
            "AT_SEQUENCE_NUMBER" => given()?.ordinal.max(1),
            "AFTER_SEQUENCE_NUMBER" => given()?.ordinal + 1,
            "AT_TIMESTAMP" => {
                let seconds = timestamp.as_f64().ok_or_else(|| Refusal::argument("Timestamp"))?;
                self.stream.ordinal_at((seconds * 1_000.0) as i64, tip)
            }
            other => return Err(Refusal::argument(format!("{other:?} is no starting position"))),
        };
        Ok(Position { shard: index, ordinal })
    }

    fn subscribe_to_shard(&self) -> Result<Answer, Refusal> {
        let ours = format!("{}/consumer/", self.stream_arn());
        if !self.text("ConsumerARN").is_some_and(|arn| arn.starts_with(&ours)) {
            return Err(Refusal::not_found("ConsumerARN is of another stream"));
        }
        let start = &self.request["StartingPosition"];
        let first = self.start(&start["Type"], &start["SequenceNumber"], &start["Timestamp"])?;
        let subscription = Subscription::new(Arc::clone(self.stream), first);
        let subscription = subscription.ok_or_else(|| Refusal::not_found("ShardId"))?;
        Ok(Answer::Events(Box::new(subscription)))
    }

    fn get_shard_iterator(&self) -> Result<Answer, Refusal> {
        self.check_stream()?;
        let request = &self.request;
        let first = self.start(
            &request["ShardIteratorType"],
            &request["StartingSequenceNumber"],
            &request["Timestamp"],
        )?;
        // An iterator is the sequence number that it starts at; it never expires.
        Ok(Answer::json(&json!({ "ShardIterator": first.to_string() })))
    }

    fn get_records(&self) -> Result<Answer, Refusal> {
        let iterator = self.text("ShardIterator").unwrap_or_default();
        let none = || Refusal::argument("ShardIterator was not given out here");
        let first = Position::parse(iterator).ok_or_else(none)?;
        let shard = self.stream.shard(first.shard).ok_or_else(none)?;
        let limit = self.request.get("Limit").and_then(Value::as_u64).unwrap_or(10_000);
        let tip = self.stream.tip(shard, Instant::now());
        let exist = (tip + 1).saturating_sub(first.ordinal);
        let records = exist.min(limit).min(self.stream.pages.count() as u64);
        let next = Position { ordinal: first.ordinal + records, ..first };
        let run = self.stream.run(first, records as usize, tip);
        if records > 0 {
            shard.polled(next.ordinal - 1, run.records);
        }
        let layout = if records > 0 { &self.stream.pages } else { &self.stream.empty };
        let body = layout.page(run, &next.to_string(), self.stream.arrivals());
        Ok(Answer::Whole { status: 200, body })
    }
}

fn describe_shard(shard: u32, shards: u32) -> Value {
    let width = u128::MAX / u128::from(shards);
    let start = width * u128::from(shard);
    let end = if shard + 1 == shards { u128::MAX } else { start + width - 1 };
    json!({
        "ShardId": shard_id(shard),
        "HashKeyRange": { "StartingHashKey": start.to_string(), "EndingHashKey": end.to_string() },
        "SequenceNumberRange": {
            "StartingSequenceNumber": Position { shard, ordinal: 0 }.to_string()
        },
    })
}
