//! Streams that are polled, and several streams in one process.

use std::time::Duration;

use lease_manager::{InitialPosition, StreamConfig};
use tokio::time::Instant;

use super::rig::{Rig, STREAM, until};
use crate::service::Exit;
use crate::{ReadMode, StreamOptions};

#[tokio::test(start_paused = true)]
async fn a_polled_stream_goes_through_splits_and_hand_overs_without_a_consumer() {
    let rig = Rig::new().await;
    let options = |name: &str| {
        let mut options = rig.options(name);
        options.streams = vec![StreamOptions::polling(&*rig.stream.arn)];
        options
    };
    let worker = rig.start_with("a", options("a"));
    rig.put_numbers(0..20).await;
    rig.stored_once(20).await;
    let split = rig.kinesis.split_shard().stream_name(STREAM);
    let split = split.shard_to_split("shardId-000000000000");
    split.new_starting_hash_key((1_u128 << 127).to_string()).send().await.unwrap();
    rig.put_numbers(20..40).await;
    rig.stored_once(40).await;
    until("the parent is finished", || worker.handle.status().shards.len() == 2).await;
    assert!(rig.leases().await["shardId-000000000000"].is_finished());

    // Nothing in the service remembers a poller, so its successor need not wait for anything.
    let before = Instant::now();
    assert_eq!(worker.stop().await, Exit::Stopped);
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    rig.put_numbers(40..60).await;
    let next = rig.start_with("b", options("b"));
    rig.stored_once(60).await;
    next.stop().await;
    assert_eq!(rig.subscribes(), 0);
}

#[tokio::test(start_paused = true)]
async fn several_streams_are_read_by_one_worker_each_in_its_way() {
    let mut rig = Rig::new().await;
    let kinesis = rig.kinesis.clone();
    kinesis.create_stream().stream_name("other").shard_count(2).send().await.unwrap();
    let other = kinesis.describe_stream_summary().stream_name("other").send().await.unwrap();
    let other = other.stream_description_summary.unwrap();
    rig.others.push(StreamConfig {
        arn: other.stream_arn.clone(),
        name: "other".to_owned(),
        creation_epoch_s: other.stream_creation_timestamp.secs(),
        initial: InitialPosition::TrimHorizon,
    });
    let mut options = rig.options("a");
    options.streams.push(StreamOptions::polling(other.stream_arn));
    assert!(matches!(options.streams[0].mode, ReadMode::FanOut { .. }));
    let worker = rig.start_with("a", options);
    rig.put_numbers(0..10).await;
    for n in 10..30 {
        let put = kinesis.put_record().stream_name("other").partition_key(format!("key-{n}"));
        put.data(aws_sdk_kinesis::primitives::Blob::new(n.to_string())).send().await.unwrap();
    }
    rig.stored_once(30).await;
    assert_eq!(worker.handle.status().shards.len(), 3);
    assert_eq!(rig.subscribes(), 1);
    assert!(rig.calls("GetRecords", None) >= 2);
    worker.stop().await;
}
