//! Open event streams under faults, and Kinesis batches of which a share fails, through the real SDK client.

use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_kinesis::operation::subscribe_to_shard::SubscribeToShardOutput;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{
    PutRecordsRequestEntry, ShardIteratorType, StartingPosition, SubscribeToShardEventStream,
};

use super::*;
use crate::{Effect, Fault, Service};

fn kinesis(aws: &LocalAws, access_key_id: &str) -> aws_sdk_kinesis::Client {
    let config = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(Credentials::from_keys(access_key_id, "secret", None))
        .region(Region::new("us-east-1"))
        .retry_config(RetryConfig::disabled())
        .http_client(aws.http_client());
    aws_sdk_kinesis::Client::from_conf(config.build())
}

/// A stream of one shard, and a subscription of `reader` at its tip.
async fn subscribed(reader: &aws_sdk_kinesis::Client) -> SubscribeToShardOutput {
    let create = reader.create_stream().stream_name("orders").shard_count(1);
    create.send().await.unwrap();
    let summary = reader.describe_stream_summary().stream_name("orders");
    let summary = summary.send().await.unwrap().stream_description_summary;
    let register = reader
        .register_stream_consumer()
        .stream_arn(summary.unwrap().stream_arn)
        .consumer_name("app");
    let consumer = register.send().await.unwrap().consumer.unwrap();
    let tip = StartingPosition::builder().r#type(ShardIteratorType::Latest);
    let subscribe = reader
        .subscribe_to_shard()
        .consumer_arn(consumer.consumer_arn)
        .shard_id("shardId-000000000000")
        .starting_position(tip.build().unwrap());
    subscribe.send().await.unwrap()
}

async fn put(client: &aws_sdk_kinesis::Client, data: &str) {
    let put = client.put_record().stream_name("orders");
    let put = put.partition_key("k").data(Blob::new(data));
    put.send().await.unwrap();
}

/// The data of the next record; idle events are passed over.
async fn next_record(subscription: &mut SubscribeToShardOutput) -> String {
    loop {
        let event = subscription.event_stream.recv().await.unwrap().unwrap();
        let SubscribeToShardEventStream::SubscribeToShardEvent(event) = event else {
            continue;
        };
        if let Some(record) = event.records.first() {
            return String::from_utf8(record.data.as_ref().to_vec()).unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_stream_is_cut() {
    let aws = LocalAws::new(Options::default()).unwrap();
    let reader = kinesis(&aws, "reader");
    let mut subscription = subscribed(&reader).await;
    put(&reader, "before").await;
    assert_eq!(next_record(&mut subscription).await, "before");
    let cut = Fault::new(Service::Kinesis, Effect::CutStream).resource("orders");
    aws.faults().inject(cut.times(1));
    let ended = subscription.event_stream.recv().await;
    assert!(ended.is_err(), "{ended:?}");
    assert!(aws.faults().active().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_open_stream_stands_still_while_its_reader_is_partitioned() {
    let aws = LocalAws::new(Options::default()).unwrap();
    let (reader, writer) = (kinesis(&aws, "reader"), kinesis(&aws, "writer"));
    let mut subscription = subscribed(&reader).await;
    let partition = Fault::new(Service::Kinesis, Effect::Partition).caller("reader");
    let partition = aws.faults().inject(partition);
    put(&writer, "meanwhile").await;
    let minute = Duration::from_secs(60);
    let silent = tokio::time::timeout(minute, next_record(&mut subscription)).await;
    assert!(silent.is_err(), "{silent:?}");
    aws.faults().clear(partition);
    assert_eq!(next_record(&mut subscription).await, "meanwhile");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_fell_silent_stays_so_and_the_next_one_works() {
    let aws = LocalAws::new(Options::default()).unwrap();
    let reader = kinesis(&aws, "reader");
    let mut subscription = subscribed(&reader).await;
    aws.faults().inject(Fault::new(Service::Kinesis, Effect::SilenceStream).times(1));
    put(&reader, "unheard").await;
    let minute = Duration::from_secs(60);
    let silent = tokio::time::timeout(minute, next_record(&mut subscription)).await;
    assert!(silent.is_err(), "{silent:?}");
    assert!(aws.faults().active().is_empty(), "one stream used it up");
    let get = reader.get_shard_iterator().stream_name("orders").shard_id("shardId-000000000000");
    let iterator = get.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
    let records = reader.get_records().set_shard_iterator(iterator.shard_iterator);
    assert_eq!(records.send().await.unwrap().records.len(), 1, "calls go on");
}

#[tokio::test(start_paused = true)]
async fn a_share_of_put_records_fails_and_the_others_are_stored() {
    let aws = LocalAws::new(Options::default()).unwrap();
    let client = kinesis(&aws, "writer");
    let mut subscription = subscribed(&client).await;
    aws.faults().inject(Fault::new(Service::Kinesis, Effect::Partial(0.5)).times(1));
    let entry = |n: usize| {
        let entry = PutRecordsRequestEntry::builder().partition_key("k");
        let data = Blob::new(n.to_string());
        entry.data(data).build().unwrap()
    };
    let records = (0..20).map(entry).collect();
    let put = client.put_records().stream_name("orders");
    let answer = put.set_records(Some(records)).send().await.unwrap();
    let stored: Vec<usize> = (0..20).filter(|n| answer.records[*n].error_code.is_none()).collect();
    assert_eq!(answer.failed_record_count, Some(20 - stored.len() as i32));
    assert!(!stored.is_empty() && stored.len() < 20);
    let event = subscription.event_stream.recv().await.unwrap().unwrap();
    let event = event.as_subscribe_to_shard_event().unwrap().clone();
    let event = if event.records.is_empty() {
        let next = subscription.event_stream.recv().await.unwrap().unwrap();
        next.as_subscribe_to_shard_event().unwrap().clone()
    } else {
        event
    };
    let delivered: Vec<usize> = event
        .records
        .iter()
        .map(|r| std::str::from_utf8(r.data.as_ref()).unwrap().parse().unwrap())
        .collect();
    assert_eq!(delivered, stored);
}
