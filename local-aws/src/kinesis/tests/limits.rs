//! Rates and sizes.

use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, ShardIteratorType};

use super::{World, arn, code, shard, unlimited};
use crate::KinesisOptions;

fn entry(key: &str, bytes: usize) -> PutRecordsRequestEntry {
    let entry = PutRecordsRequestEntry::builder().partition_key(key);
    entry.data(Blob::new(vec![1; bytes])).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_shard_takes_a_thousand_records_a_second_and_says_which_it_did_not() {
    let world = World::new(KinesisOptions::default(), 1).await;
    let mut failed = 0;
    for _ in 0..3 {
        let put = world.kinesis.put_records().stream_name("orders");
        let entries = (0..500).map(|_| entry("k", 1)).collect();
        let output = put.set_records(Some(entries)).send().await.unwrap();
        let refused: Vec<_> =
            output.records().iter().filter(|record| record.error_code().is_some()).collect();
        assert_eq!(refused.len(), output.failed_record_count().unwrap() as usize);
        for record in &refused {
            let code = record.error_code().unwrap();
            assert_eq!(code, "ProvisionedThroughputExceededException");
            assert!(record.error_message().unwrap().contains("shardId-000000000000"));
            assert!(record.sequence_number().is_none());
        }
        failed += refused.len();
    }
    assert_eq!(failed, 500);
    assert_eq!(world.drain(&shard(0)).await.0.len(), 1000);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let put = world.kinesis.put_records().stream_name("orders");
    let entries = (0..500).map(|_| entry("k", 1)).collect();
    let output = put.set_records(Some(entries)).send().await.unwrap();
    assert_eq!(output.failed_record_count(), Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_shard_takes_a_mebibyte_a_second() {
    let world = World::new(KinesisOptions::default(), 2).await;
    let put = |bytes: usize, hash: &str| {
        let put = world.kinesis.put_record().stream_name("orders");
        let put = put.partition_key("k").explicit_hash_key(hash);
        put.data(Blob::new(vec![0; bytes]))
    };
    put(1_000_000, "0").send().await.unwrap();
    let refused = put(100_000, "0").send().await;
    assert_eq!(code(refused), "ProvisionedThroughputExceededException");
    // The other shard has its own.
    let top = u128::MAX.to_string();
    put(1_000_000, &top).send().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn five_reads_a_second_are_shared_by_all_who_poll_a_shard() {
    let world = World::new(KinesisOptions::default(), 1).await;
    let mut iterators = Vec::new();
    for _ in 0..5 {
        iterators.push(world.iterator(&shard(0), ShardIteratorType::TrimHorizon).await);
    }
    let sixth = world.kinesis.get_shard_iterator().stream_name("orders");
    let sixth = sixth.shard_id(shard(0));
    let sixth = sixth.shard_iterator_type(ShardIteratorType::Latest);
    let refused = sixth.send().await;
    assert_eq!(code(refused), "ProvisionedThroughputExceededException");
    for iterator in &iterators {
        world.get(iterator).await;
    }
    let read = || world.kinesis.get_records().shard_iterator(&iterators[0]);
    let refused = read().send().await;
    assert_eq!(code(refused), "ProvisionedThroughputExceededException");
    tokio::time::sleep(Duration::from_millis(200)).await;
    read().send().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn ten_mebibytes_read_at_once_cost_five_seconds() {
    let world = World::new(KinesisOptions::default(), 1).await;
    for _ in 0..12 {
        world.put("k", vec![0; 1_000_000]).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let iterator = world.iterator(&shard(0), ShardIteratorType::TrimHorizon).await;
    assert_eq!(world.get(&iterator).await.records().len(), 10);
    let read = || world.kinesis.get_records().shard_iterator(&iterator);
    // 10 MB at 2 MiB/s are paid for after 4.77 s.
    tokio::time::sleep(Duration::from_millis(4700)).await;
    let refused = read().send().await;
    assert_eq!(code(refused), "ProvisionedThroughputExceededException");
    tokio::time::sleep(Duration::from_millis(100)).await;
    read().send().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_record_is_as_large_as_its_stream_allows() {
    let world = World::new(unlimited(), 1).await;
    let put = |bytes: usize| {
        let put = world.kinesis.put_record().stream_name("orders");
        put.partition_key("key").data(Blob::new(vec![9; bytes])).send()
    };
    put((1 << 20) - 3).await.unwrap();
    assert_eq!(code(put((1 << 20) - 2).await), "ValidationException");
    let update = world.kinesis.update_max_record_size();
    let update = update.stream_arn(arn("orders")).max_record_size_in_kib(10_240);
    update.send().await.unwrap();
    put((10 << 20) - 3).await.unwrap();
    assert_eq!(code(put((10 << 20) - 2).await), "ValidationException");
    let (records, _) = world.drain(&shard(0)).await;
    assert_eq!(records[1].data.as_ref().len(), (10 << 20) - 3);
}

#[tokio::test(start_paused = true)]
async fn put_records_has_bounds() {
    let world = World::new(unlimited(), 1).await;
    let put = |entries: Vec<PutRecordsRequestEntry>| {
        let put = world.kinesis.put_records().stream_name("orders");
        put.set_records(Some(entries)).send()
    };
    let many = (0..501).map(|_| entry("k", 1)).collect();
    assert_eq!(code(put(many).await), "ValidationException");
    assert_eq!(code(put(Vec::new()).await), "ValidationException");
    let large = (0..11).map(|_| entry("k", 1_000_000)).collect();
    assert_eq!(code(put(large).await), "InvalidArgumentException");
    assert_eq!(code(put(vec![entry("", 1)]).await), "ValidationException");
    assert_eq!(code(put(vec![entry(&"k".repeat(257), 1)]).await), "ValidationException");
    assert!(world.drain(&shard(0)).await.0.is_empty());
}

#[tokio::test(start_paused = true)]
async fn control_calls_have_a_rate() {
    let world = World::new(KinesisOptions::default(), 1).await;
    let limits = || world.kinesis.describe_limits().send();
    assert_eq!(limits().await.unwrap().open_shard_count, 1);
    assert_eq!(code(limits().await), "LimitExceededException");
    tokio::time::sleep(Duration::from_secs(1)).await;
    limits().await.unwrap();
}
