//! A stream of one shard in an embedded Kinesis, for the readers' tests in paused time.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_kinesis::primitives::Blob;
use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use local_aws::{Clock, Effect, Fault, LocalAws, Options, Service};

use crate::batch::{RawBatch, ShardContext};

pub(crate) const STREAM: &str = "events";

#[derive(Debug)]
struct SimulatedTime(Clock);

impl TimeSource for SimulatedTime {
    fn now(&self) -> SystemTime {
        self.0.now()
    }
}

/// A stream of one shard with a consumer.
pub(crate) struct Kinesis {
    pub(crate) aws: LocalAws,
    pub(crate) client: Client,
    pub(crate) time: SharedTimeSource,
    pub(crate) consumer_arn: Arc<str>,
    pub(crate) shard: Arc<ShardContext>,
}

pub(crate) fn client(http: SharedHttpClient) -> Client {
    let config = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::from_keys("worker", "secret", None))
        .http_client(http);
    Client::from_conf(config.build())
}

pub(crate) fn context(stream_arn: &str, shard_id: &str) -> Arc<ShardContext> {
    Arc::new(ShardContext {
        stream_arn: Arc::from(stream_arn),
        shard_id: Arc::from(shard_id),
        fence: 1,
        starting_hash_key: 0,
        ending_hash_key: u128::MAX,
    })
}

impl Kinesis {
    pub(crate) async fn new() -> Kinesis {
        let clock = Clock::starting_at(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let options = Options { clock: Some(clock.clone()), ..Options::default() };
        let aws = LocalAws::new(options).unwrap();
        let client = client(aws.http_client());
        client.create_stream().stream_name(STREAM).shard_count(1).send().await.unwrap();
        let summary = client.describe_stream_summary().stream_name(STREAM).send().await.unwrap();
        let arn = summary.stream_description_summary.unwrap().stream_arn;
        let consumer = client.register_stream_consumer().stream_arn(&arn).consumer_name("app");
        let consumer_arn = consumer.send().await.unwrap().consumer.unwrap().consumer_arn.into();
        let shards = client.list_shards().stream_name(STREAM).send().await.unwrap();
        let shard = context(&arn, &shards.shards()[0].shard_id);
        let time = SharedTimeSource::new(SimulatedTime(clock));
        Kinesis { aws, client, time, consumer_arn, shard }
    }

    /// Puts a record that is this number, under the key `k` and the number.
    pub(crate) async fn put(&self, n: u32) {
        put(&self.client, n).await;
    }

    pub(crate) async fn put_bytes(&self, data: Vec<u8>) {
        let put = self.client.put_record().stream_name(STREAM).partition_key("k");
        put.data(Blob::new(data)).send().await.unwrap();
    }

    /// Records of up to 10 MiB, and no limit to what may be put at once.
    pub(crate) async fn allow_large_records(&self) {
        let update = self.client.update_max_record_size().stream_arn(&*self.shard.stream_arn);
        update.max_record_size_in_kib(10 * 1024).send().await.unwrap();
    }

    /// Splits the shard in the middle.
    pub(crate) async fn split(&self) {
        let half = (u128::MAX / 2).to_string();
        let split = self.client.split_shard().stream_name(STREAM).new_starting_hash_key(half);
        split.shard_to_split(&*self.shard.shard_id).send().await.unwrap();
    }

    pub(crate) fn calls(&self, operation: &str) -> u64 {
        let calls = self.aws.calls();
        calls.iter().filter(|c| c.operation == operation).map(|c| c.calls).sum()
    }

    pub(crate) fn fault(operation: &str, effect: Effect) -> Fault {
        Fault::new(Service::Kinesis, effect).operation(operation)
    }
}

pub(crate) async fn put(client: &Client, n: u32) {
    let put = client.put_record().stream_name(STREAM).partition_key(format!("k{n}"));
    put.data(Blob::new(n.to_string())).send().await.unwrap();
}

/// The numbers in a batch, in order.
pub(crate) fn numbers(batch: &RawBatch) -> Vec<u32> {
    let arena = &batch.records.arena;
    batch.records.spans.iter().map(|r| r.data.text(arena).parse().unwrap()).collect()
}

pub(crate) fn up_to(n: u32) -> Vec<u32> {
    (0..n).collect()
}
