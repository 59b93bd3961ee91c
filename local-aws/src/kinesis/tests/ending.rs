//! How subscriptions end: after five minutes, and with their shard.

use std::time::{Duration, UNIX_EPOCH};

use aws_sdk_kinesis::types::ShardIteratorType;
use bytes::Bytes;
use futures::StreamExt;
use tokio::time::Instant;

use super::subscribing::{after, from, next, subscribe};
use super::{MIDDLE, World, shard, texts, unlimited};
use crate::clock::Clock;
use crate::kinesis::Kinesis;
use crate::wire::Answer;

async fn call(kinesis: &Kinesis, operation: &str, body: serde_json::Value) -> Answer {
    let body = Bytes::from(body.to_string());
    kinesis.handle(operation, body).await
}

async fn json(kinesis: &Kinesis, operation: &str, body: serde_json::Value) -> serde_json::Value {
    match call(kinesis, operation, body).await {
        Answer::Json { status, body } => {
            assert_eq!(status, 200);
            serde_json::from_slice(&body).unwrap()
        }
        Answer::Stream(_) => panic!("{operation} answered with a stream"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_frame_has_no_continuation_and_a_stream_stays_ended() {
    let clock = Clock::starting_at(UNIX_EPOCH + Duration::from_secs(1_763_900_000));
    let kinesis = Kinesis::new(unlimited(), "000000000000", "us-east-1", 1, clock);
    let orders = || serde_json::json!({"StreamName": "orders"});
    let create = serde_json::json!({"StreamName": "orders", "ShardCount": 1});
    json(&kinesis, "CreateStream", create).await;
    let summary = json(&kinesis, "DescribeStreamSummary", orders()).await;
    let arn = &summary["StreamDescriptionSummary"]["StreamARN"];
    let register = serde_json::json!({"StreamARN": arn, "ConsumerName": "reader"});
    let consumer = json(&kinesis, "RegisterStreamConsumer", register).await;
    let split = serde_json::json!({
        "StreamName": "orders", "ShardToSplit": shard(0), "NewStartingHashKey": MIDDLE.to_string(),
    });
    json(&kinesis, "SplitShard", split).await;
    let subscribe = serde_json::json!({
        "ConsumerARN": consumer["Consumer"]["ConsumerARN"], "ShardId": shard(0),
        "StartingPosition": {"Type": "TRIM_HORIZON"},
    });
    let Answer::Stream(mut frames) = call(&kinesis, "SubscribeToShard", subscribe).await else {
        panic!("the subscription was refused");
    };
    let opening = frames.next().await.unwrap();
    assert!(opening.windows(16).any(|window| window == b"initial-response"));
    let last = frames.next().await.unwrap();
    let last = String::from_utf8_lossy(&last).into_owned();
    assert!(last.contains("\"ChildShards\":[{"));
    assert!(!last.contains("ContinuationSequenceNumber"));
    assert!(frames.next().await.is_none());
    assert!(frames.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_subscription_ends_cleanly_after_five_minutes_and_continues_without_a_gap() {
    let world = World::new(unlimited(), 1).await;
    let consumer = world.register("reader").await;
    let started = Instant::now();
    let mut live = subscribe(&world, &consumer, from(ShardIteratorType::Latest)).await;
    let mut continuation = String::new();
    while let Some(event) = next(&mut live).await {
        continuation = event.continuation_sequence_number;
    }
    assert_eq!(started.elapsed().as_secs(), 300);
    world.put("k", "between").await;
    let mut again = subscribe(&world, &consumer, after(&continuation)).await;
    assert_eq!(texts(next(&mut again).await.unwrap().records()), ["between"]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_shard_has_children_and_no_continuation() {
    let world = World::new(unlimited(), 1).await;
    let consumer = world.register("reader").await;
    world.put("k", "first").await;
    let mut live = subscribe(&world, &consumer, from(ShardIteratorType::TrimHorizon)).await;
    assert_eq!(next(&mut live).await.unwrap().records().len(), 1);
    let reshard = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.split(&shard(0), MIDDLE).await;
    };
    let (_, end) = tokio::join!(reshard, next(&mut live));
    let end = end.unwrap();
    assert!(end.records.is_empty());
    // The SDK shows an absent continuation as an empty text.
    assert_eq!(end.continuation_sequence_number, "");
    let children: Vec<&str> = end.child_shards().iter().map(|child| child.shard_id()).collect();
    assert_eq!(children, [shard(1), shard(2)]);
    assert_eq!(end.child_shards()[0].parent_shards(), [shard(0)]);
    assert!(next(&mut live).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_closed_shard_is_read_to_its_last_record_and_ends_in_the_same_event() {
    let world = World::new(unlimited(), 1).await;
    let consumer = world.register("reader").await;
    world.put("k", "a").await;
    world.put("k", "b").await;
    world.split(&shard(0), MIDDLE).await;
    let mut live = subscribe(&world, &consumer, from(ShardIteratorType::TrimHorizon)).await;
    let only = next(&mut live).await.unwrap();
    assert_eq!(texts(only.records()), ["a", "b"]);
    assert_eq!(only.continuation_sequence_number, "");
    assert_eq!(only.child_shards().len(), 2);
    assert!(next(&mut live).await.is_none());
}
