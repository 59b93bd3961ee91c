//! GetShardIterator and GetRecords.

use crate::KinesisOptions;
use std::time::Duration;

use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::ShardIteratorType;

use super::{World, code, shard, texts, unlimited};

#[tokio::test(start_paused = true)]
async fn records_come_back_as_they_were_put_in_order() {
    let world = World::new(unlimited(), 1).await;
    for data in ["one", "two \u{1f30a}", ""] {
        world.put("k \"quoted\" \n", data).await;
    }
    let (records, output) = world.drain(&shard(0)).await;
    assert_eq!(texts(&records), ["one", "two \u{1f30a}", ""]);
    assert!(records.iter().all(|record| record.partition_key() == Some("k \"quoted\" \n")));
    assert!(records.is_sorted_by(|a, b| a.sequence_number < b.sequence_number));
    assert!(records.iter().all(|record| record.sequence_number.len() == 56));
    assert_eq!(output.millis_behind_latest(), Some(0));
}

#[tokio::test(start_paused = true)]
async fn every_iterator_type_starts_where_it_says() {
    let world = World::new(unlimited(), 1).await;
    let mut puts = Vec::new();
    for data in ["a", "b", "c"] {
        puts.push(world.put("k", data).await);
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }
    let (records, _) = world.drain(&shard(0)).await;
    let second = puts[1].sequence_number();
    let time = *records[1].approximate_arrival_timestamp().unwrap();
    let just_after = DateTime::from_secs(time.secs() + 1);
    let base = || {
        let get = world.kinesis.get_shard_iterator().stream_name("orders");
        get.shard_id(shard(0))
    };
    let at = base().shard_iterator_type(ShardIteratorType::AtSequenceNumber);
    let after = base().shard_iterator_type(ShardIteratorType::AfterSequenceNumber);
    let at_time = || base().shard_iterator_type(ShardIteratorType::AtTimestamp);
    let cases = [
        (at.starting_sequence_number(second), vec!["b", "c"]),
        (after.starting_sequence_number(second), vec!["c"]),
        (at_time().timestamp(time), vec!["b", "c"]),
        (at_time().timestamp(just_after), vec!["c"]),
        (at_time().timestamp(DateTime::from_secs(1)), vec!["a", "b", "c"]),
        (base().shard_iterator_type(ShardIteratorType::TrimHorizon), vec!["a", "b", "c"]),
        (base().shard_iterator_type(ShardIteratorType::Latest), vec![]),
    ];
    for (request, expected) in cases {
        let iterator = request.send().await.unwrap().shard_iterator.unwrap();
        assert_eq!(texts(world.get(&iterator).await.records()), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn latest_sees_what_comes_after_it_was_asked_for() {
    let world = World::new(unlimited(), 1).await;
    world.put("k", "before").await;
    let iterator = world.iterator(&shard(0), ShardIteratorType::Latest).await;
    world.put("k", "after").await;
    let output = world.get(&iterator).await;
    assert_eq!(texts(output.records()), ["after"]);
    // The same iterator reads the same again: it is a position, not a session.
    assert_eq!(texts(world.get(&iterator).await.records()), ["after"]);
    let next = output.next_shard_iterator().unwrap();
    assert!(world.get(next).await.records().is_empty());
}

#[tokio::test(start_paused = true)]
async fn starts_that_make_no_sense_are_refused() {
    let world = World::new(unlimited(), 2).await;
    let put = world.put("k", "x").await;
    let other = if put.shard_id() == shard(0) { shard(1) } else { shard(0) };
    let get = || world.kinesis.get_shard_iterator().stream_name("orders");
    let foreign = get().shard_id(other).starting_sequence_number(put.sequence_number());
    let foreign = foreign.shard_iterator_type(ShardIteratorType::AfterSequenceNumber);
    assert_eq!(code(foreign.send().await), "InvalidArgumentException");
    let without = get().shard_id(shard(0));
    let without = without.shard_iterator_type(ShardIteratorType::AtSequenceNumber);
    assert_eq!(code(without.send().await), "InvalidArgumentException");
    let future = get().shard_id(shard(0)).timestamp(DateTime::from_secs(9_000_000_000));
    let future = future.shard_iterator_type(ShardIteratorType::AtTimestamp);
    assert_eq!(code(future.send().await), "InvalidArgumentException");
    let missing = get().shard_id(shard(7));
    let missing = missing.shard_iterator_type(ShardIteratorType::Latest);
    assert_eq!(code(missing.send().await), "ResourceNotFoundException");
    let garbage = world.kinesis.get_records().shard_iterator("AAAA");
    assert_eq!(code(garbage.send().await), "InvalidArgumentException");
}

#[tokio::test(start_paused = true)]
async fn an_iterator_expires_after_five_minutes() {
    let world = World::new(unlimited(), 1).await;
    let iterator = world.iterator(&shard(0), ShardIteratorType::TrimHorizon).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    let renewed = world.get(&iterator).await.next_shard_iterator.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let expired = world.kinesis.get_records().shard_iterator(iterator);
    assert_eq!(code(expired.send().await), "ExpiredIteratorException");
    world.get(&renewed).await;
}

#[tokio::test(start_paused = true)]
async fn a_short_lifetime_ends_each_iterator_for_itself() {
    let options = KinesisOptions { iterator_lifetime: Duration::from_secs(2), ..unlimited() };
    let world = World::new(options, 1).await;
    world.put("k", "a").await;
    let mut iterator = world.iterator(&shard(0), ShardIteratorType::TrimHorizon).await;
    let first = iterator.clone();
    // Used in time it goes on for ever, one iterator after the other.
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        iterator = world.get(&iterator).await.next_shard_iterator.unwrap();
    }
    let expired = world.kinesis.get_records().shard_iterator(first);
    assert_eq!(code(expired.send().await), "ExpiredIteratorException");
    world.get(&iterator).await;
}

#[tokio::test(start_paused = true)]
async fn a_read_says_how_far_behind_it_is() {
    let world = World::new(unlimited(), 1).await;
    for data in ["a", "b", "c"] {
        world.put("k", data).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    let iterator = world.iterator(&shard(0), ShardIteratorType::TrimHorizon).await;
    let get = |iterator: &str| world.kinesis.get_records().shard_iterator(iterator).limit(2);
    let first = get(&iterator).send().await.unwrap();
    assert_eq!(texts(first.records()), ["a", "b"]);
    // The last record that came is b, put twenty seconds ago.
    assert_eq!(first.millis_behind_latest(), Some(20_000));
    let rest = get(first.next_shard_iterator().unwrap()).send().await.unwrap();
    assert_eq!(texts(rest.records()), ["c"]);
    assert_eq!(rest.millis_behind_latest(), Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_read_is_bounded_by_ten_mebibytes_and_by_its_limit() {
    let world = World::new(unlimited(), 1).await;
    world.fill(60, 200_000).await;
    let iterator = world.iterator(&shard(0), ShardIteratorType::TrimHorizon).await;
    let output = world.get(&iterator).await;
    assert_eq!(output.records().len(), (10 << 20) / 200_006);
    let zero = world.kinesis.get_records().shard_iterator(&iterator).limit(0);
    assert_eq!(code(zero.send().await), "ValidationException");
    let many = world.kinesis.get_records().shard_iterator(&iterator).limit(10_001);
    assert_eq!(code(many.send().await), "ValidationException");
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_the_same_name_is_another_stream() {
    let world = World::new(unlimited(), 1).await;
    world.put("k", "old").await;
    let iterator = world.iterator(&shard(0), ShardIteratorType::TrimHorizon).await;
    let delete = world.kinesis.delete_stream().stream_name("orders");
    delete.send().await.unwrap();
    let gone = world.kinesis.get_records().shard_iterator(&iterator);
    assert_eq!(code(gone.send().await), "ResourceNotFoundException");
    world.create("orders", 1).await;
    let stale = world.kinesis.get_records().shard_iterator(&iterator);
    assert_eq!(code(stale.send().await), "ResourceNotFoundException");
    assert!(world.drain(&shard(0)).await.0.is_empty());
}
