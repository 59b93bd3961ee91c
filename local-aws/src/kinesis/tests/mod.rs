//! The wire, through the real SDK client over the in-process connector, in paused time.

mod ending;
mod limits;
mod lineage;
mod lists;
mod reading;
mod resharding;
mod streams;
mod subscribing;

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_kinesis::error::ProvideErrorMetadata;
use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::operation::put_record::PutRecordOutput;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, Record, Shard, ShardIteratorType};

use super::KinesisOptions;
use crate::{LocalAws, Options};

/// A stand-in with the stream `orders`, and a client that never retries, so that every refusal is seen.
struct World {
    kinesis: Client,
    aws: LocalAws,
}

/// The stand-in with no limits on rates.
fn unlimited() -> KinesisOptions {
    KinesisOptions { enforce_limits: false, ..KinesisOptions::default() }
}

impl World {
    /// The stream `orders` with so many shards.
    async fn new(options: KinesisOptions, shards: i32) -> Self {
        let aws = LocalAws::new(Options { kinesis: options, ..Options::default() }).unwrap();
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(Duration::from_secs(2));
        let config = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .credentials_provider(Credentials::from_keys("tester", "secret", None))
            .region(Region::new("us-east-1"))
            .timeout_config(timeouts.build())
            .retry_config(RetryConfig::disabled())
            .http_client(aws.http_client())
            .build();
        let world = Self { kinesis: Client::from_conf(config), aws };
        world.create("orders", shards).await;
        world
    }

    async fn create(&self, name: &str, shards: i32) {
        let create = self.kinesis.create_stream().stream_name(name);
        create.shard_count(shards).send().await.unwrap();
    }

    async fn put(&self, key: &str, data: impl Into<Vec<u8>>) -> PutRecordOutput {
        let put = self.kinesis.put_record().stream_name("orders");
        let put = put.partition_key(key).data(Blob::new(data.into()));
        put.send().await.unwrap()
    }

    /// Puts `count` records of `bytes` each in calls of 50.
    async fn fill(&self, count: usize, bytes: usize) {
        let entry = |index: usize| {
            let entry = PutRecordsRequestEntry::builder().partition_key(format!("key-{index}"));
            entry.data(Blob::new(vec![b'x'; bytes])).build().unwrap()
        };
        for start in (0..count).step_by(50) {
            let entries = (start..count.min(start + 50)).map(entry).collect();
            let put = self.kinesis.put_records().stream_name("orders");
            let output = put.set_records(Some(entries)).send().await.unwrap();
            assert_eq!(output.failed_record_count(), Some(0));
        }
    }

    async fn iterator(&self, shard: &str, r#type: ShardIteratorType) -> String {
        let get = self.kinesis.get_shard_iterator().stream_name("orders");
        let get = get.shard_id(shard).shard_iterator_type(r#type);
        get.send().await.unwrap().shard_iterator.unwrap()
    }

    async fn get(&self, iterator: &str) -> GetRecordsOutput {
        let get = self.kinesis.get_records().shard_iterator(iterator);
        get.send().await.unwrap()
    }

    /// All that is in a shard now, by polling from its start.
    async fn drain(&self, shard: &str) -> (Vec<Record>, GetRecordsOutput) {
        let mut iterator = self.iterator(shard, ShardIteratorType::TrimHorizon).await;
        let mut records = Vec::new();
        loop {
            let output = self.get(&iterator).await;
            records.extend_from_slice(output.records());
            match output.next_shard_iterator() {
                Some(next) if output.millis_behind_latest() != Some(0) => {
                    iterator = next.to_owned()
                }
                _ => return (records, output),
            }
        }
    }

    async fn shards(&self) -> Vec<Shard> {
        let list = self.kinesis.list_shards().stream_name("orders");
        list.send().await.unwrap().shards.unwrap()
    }

    async fn split(&self, shard: &str, at: u128) {
        let split = self.kinesis.split_shard().stream_name("orders");
        let split = split.shard_to_split(shard);
        let split = split.new_starting_hash_key(at.to_string());
        split.send().await.unwrap();
    }

    async fn merge(&self, shard: &str, adjacent: &str) {
        let merge = self.kinesis.merge_shards().stream_name("orders");
        let merge = merge.shard_to_merge(shard);
        let merge = merge.adjacent_shard_to_merge(adjacent);
        merge.send().await.unwrap();
    }

    /// Registers a consumer of `orders` and returns its ARN.
    async fn register(&self, name: &str) -> String {
        let register = self.kinesis.register_stream_consumer();
        let register = register.stream_arn(arn("orders")).consumer_name(name);
        let consumer = register.send().await.unwrap().consumer.unwrap();
        consumer.consumer_arn
    }
}

fn arn(stream: &str) -> String {
    format!("arn:aws:kinesis:us-east-1:000000000000:stream/{stream}")
}

/// The middle of the ring.
const MIDDLE: u128 = 1 << 127;

fn shard(index: u32) -> String {
    format!("shardId-{index:012}")
}

/// The code of a refused call.
fn code<T: std::fmt::Debug, E: ProvideErrorMetadata>(result: Result<T, E>) -> String {
    match result {
        Ok(output) => panic!("the call was not refused: {output:?}"),
        Err(error) => error.code().unwrap_or("no code").to_owned(),
    }
}

/// The data of records as text.
fn texts(records: &[Record]) -> Vec<String> {
    let text = |record: &Record| String::from_utf8_lossy(record.data.as_ref()).into_owned();
    records.iter().map(text).collect()
}
