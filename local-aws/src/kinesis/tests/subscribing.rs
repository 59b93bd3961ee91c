//! SubscribeToShard, rule by rule.

use std::time::Duration;

use aws_sdk_kinesis::operation::subscribe_to_shard::{
    SubscribeToShardError, SubscribeToShardOutput,
};
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::error::SubscribeToShardEventStreamError;
use aws_sdk_kinesis::types::{
    ShardIteratorType, StartingPosition, SubscribeToShardEvent, SubscribeToShardEventStream,
};
use tokio::time::Instant;

use super::{World, arn, code, shard, texts, unlimited};
use crate::KinesisOptions;

type SubscribeError = aws_sdk_kinesis::error::SdkError<SubscribeToShardError>;

pub(super) fn from(r#type: ShardIteratorType) -> StartingPosition {
    StartingPosition::builder().r#type(r#type).build().unwrap()
}

pub(super) fn after(sequence: &str) -> StartingPosition {
    let position = StartingPosition::builder().sequence_number(sequence);
    let position = position.r#type(ShardIteratorType::AfterSequenceNumber);
    position.build().unwrap()
}

async fn try_subscribe(
    world: &World,
    consumer: &str,
    position: StartingPosition,
) -> Result<SubscribeToShardOutput, SubscribeError> {
    let subscribe = world.kinesis.subscribe_to_shard().consumer_arn(consumer);
    let subscribe = subscribe.shard_id(shard(0)).starting_position(position);
    subscribe.send().await
}

pub(super) async fn subscribe(
    world: &World,
    consumer: &str,
    position: StartingPosition,
) -> SubscribeToShardOutput {
    try_subscribe(world, consumer, position).await.unwrap()
}

/// The next event; `None` when the stream ended cleanly.
pub(super) async fn next(
    subscription: &mut SubscribeToShardOutput,
) -> Option<SubscribeToShardEvent> {
    match subscription.event_stream.recv().await.unwrap() {
        Some(SubscribeToShardEventStream::SubscribeToShardEvent(event)) => Some(event),
        None => None,
        Some(other) => panic!("an event of an unknown kind: {other:?}"),
    }
}

/// The exception that the stream ends with.
async fn failure(subscription: &mut SubscribeToShardOutput) -> SubscribeToShardEventStreamError {
    let error = subscription.event_stream.recv().await.unwrap_err();
    error.into_service_error()
}

#[tokio::test(start_paused = true)]
async fn an_empty_event_comes_first_and_then_every_interval() {
    let world = World::new(unlimited(), 1).await;
    let consumer = world.register("reader").await;
    let mut live = subscribe(&world, &consumer, from(ShardIteratorType::Latest)).await;
    let started = Instant::now();
    let mut last = String::new();
    for index in 0..4 {
        let event = next(&mut live).await.unwrap();
        assert!(event.records.is_empty());
        assert_eq!(event.millis_behind_latest, 0);
        assert!(event.child_shards().is_empty());
        assert_eq!(started.elapsed().as_secs(), index * 5);
        assert!(event.continuation_sequence_number > last);
        last = event.continuation_sequence_number;
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_is_pushed_at_once() {
    let world = World::new(unlimited(), 1).await;
    let consumer = world.register("reader").await;
    let mut live = subscribe(&world, &consumer, from(ShardIteratorType::Latest)).await;
    next(&mut live).await.unwrap();
    let push = async {
        tokio::time::sleep(Duration::from_millis(1234)).await;
        world.put("k", "pushed").await;
        Instant::now()
    };
    let receive = async {
        let event = next(&mut live).await.unwrap();
        (event, Instant::now())
    };
    let (put_at, (event, seen_at)) = tokio::join!(push, receive);
    assert_eq!(texts(event.records()), ["pushed"]);
    assert_eq!(event.continuation_sequence_number, event.records()[0].sequence_number);
    assert_eq!(event.millis_behind_latest, 0);
    assert!(seen_at - put_at < Duration::from_millis(5));
    // The silence is counted from the last event.
    next(&mut live).await.unwrap();
    assert_eq!((Instant::now() - seen_at).as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn every_starting_position_starts_where_it_says() {
    let world = World::new(unlimited(), 1).await;
    let mut puts = Vec::new();
    for data in ["a", "b", "c"] {
        puts.push(world.put("k", data).await);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let (records, _) = world.drain(&shard(0)).await;
    let second = puts[1].sequence_number();
    let at = StartingPosition::builder().r#type(ShardIteratorType::AtSequenceNumber);
    let at_time = StartingPosition::builder().r#type(ShardIteratorType::AtTimestamp);
    let time = *records[1].approximate_arrival_timestamp().unwrap();
    let future = StartingPosition::builder().r#type(ShardIteratorType::AtTimestamp);
    let future = future.timestamp(DateTime::from_secs(9_000_000_000));
    let cases = [
        (from(ShardIteratorType::TrimHorizon), vec!["a", "b", "c"]),
        (from(ShardIteratorType::Latest), vec![]),
        (at.sequence_number(second).build().unwrap(), vec!["b", "c"]),
        (after(second), vec!["c"]),
        (at_time.timestamp(time).build().unwrap(), vec!["b", "c"]),
    ];
    for (index, (position, expected)) in cases.into_iter().enumerate() {
        let consumer = world.register(&format!("reader-{index}")).await;
        let mut live = subscribe(&world, &consumer, position).await;
        assert_eq!(texts(next(&mut live).await.unwrap().records()), expected);
    }
    let consumer = world.register("wrong").await;
    let refused = try_subscribe(&world, &consumer, future.build().unwrap()).await;
    assert_eq!(code(refused), "InvalidArgumentException");
    let refused = try_subscribe(&world, &consumer, after("17")).await;
    assert_eq!(code(refused), "InvalidArgumentException");
    // A refused call is no success: the next one is not too soon.
    subscribe(&world, &consumer, from(ShardIteratorType::Latest)).await;
}

#[tokio::test(start_paused = true)]
async fn a_second_call_within_five_seconds_is_refused_even_when_the_first_is_gone() {
    let world = World::new(unlimited(), 1).await;
    let consumer = world.register("reader").await;
    let live = subscribe(&world, &consumer, from(ShardIteratorType::Latest)).await;
    drop(live);
    tokio::time::sleep(Duration::from_millis(4999)).await;
    let latest = || from(ShardIteratorType::Latest);
    let refused = try_subscribe(&world, &consumer, latest()).await;
    assert_eq!(code(refused), "ResourceInUseException");
    // The refusal does not count: five seconds after the success it works.
    tokio::time::sleep(Duration::from_millis(1)).await;
    subscribe(&world, &consumer, latest()).await;
    // Another consumer has its own subscription.
    let other = world.register("other").await;
    subscribe(&world, &other, latest()).await;
}

#[tokio::test(start_paused = true)]
async fn after_five_seconds_a_second_call_takes_over_and_the_old_stream_is_told() {
    let world = World::new(unlimited(), 1).await;
    let consumer = world.register("reader").await;
    let mut old = subscribe(&world, &consumer, from(ShardIteratorType::Latest)).await;
    next(&mut old).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut new = subscribe(&world, &consumer, from(ShardIteratorType::Latest)).await;
    let error = failure(&mut old).await;
    assert!(error.is_resource_in_use_exception(), "{error:?}");
    assert!(old.event_stream.recv().await.unwrap().is_none());
    next(&mut new).await.unwrap();
    world.put("k", "for the new one").await;
    assert_eq!(next(&mut new).await.unwrap().records().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_stream_learns_of_a_take_over_at_once() {
    let world = World::new(unlimited(), 1).await;
    let consumer = world.register("reader").await;
    let mut old = subscribe(&world, &consumer, from(ShardIteratorType::Latest)).await;
    next(&mut old).await.unwrap();
    next(&mut old).await.unwrap();
    let take_over = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        subscribe(&world, &consumer, from(ShardIteratorType::Latest)).await;
        Instant::now()
    };
    let (taken_at, error) = tokio::join!(take_over, failure(&mut old));
    assert!(error.is_resource_in_use_exception());
    assert!(taken_at.elapsed() < Duration::from_millis(5));
}

#[tokio::test(start_paused = true)]
async fn a_backlog_comes_in_bounded_events_that_say_how_far_behind_they_are() {
    let world = World::new(unlimited(), 1).await;
    let consumer = world.register("reader").await;
    world.fill(100, 50_000).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.put("k", "newest").await;
    let mut live = subscribe(&world, &consumer, from(ShardIteratorType::TrimHorizon)).await;
    let mut seen = 0;
    loop {
        let event = next(&mut live).await.unwrap();
        let bytes: usize = event.records().iter().map(|r| r.data.as_ref().len()).sum();
        assert!(bytes <= 1 << 20);
        seen += event.records().len();
        if seen == 101 {
            assert_eq!(event.millis_behind_latest, 0);
            break;
        }
        assert_eq!(event.millis_behind_latest, 60_000);
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_is_pushed_two_mebibytes_a_second() {
    let world = World::new(KinesisOptions::default(), 1).await;
    let consumer = world.register("reader").await;
    for _ in 0..10 {
        world.put("k", vec![0; 1_000_000]).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let started = Instant::now();
    let mut live = subscribe(&world, &consumer, from(ShardIteratorType::TrimHorizon)).await;
    let mut seen = 0;
    while seen < 10 {
        seen += next(&mut live).await.unwrap().records().len();
    }
    // Two seconds' worth is ahead: one in the bucket, one in debt.
    let seconds = started.elapsed().as_secs_f64();
    assert!((2.5..5.0).contains(&seconds), "{seconds}");
}

#[tokio::test(start_paused = true)]
async fn a_removed_consumer_or_stream_ends_its_subscriptions() {
    let world = World::new(unlimited(), 1).await;
    let consumer = world.register("reader").await;
    let other = world.register("other").await;
    let latest = || from(ShardIteratorType::Latest);
    let mut first = subscribe(&world, &consumer, latest()).await;
    let mut second = subscribe(&world, &other, latest()).await;
    next(&mut first).await.unwrap();
    next(&mut second).await.unwrap();
    let deregister = world.kinesis.deregister_stream_consumer();
    let deregister = deregister.consumer_arn(&consumer).send();
    let (done, error) = tokio::join!(deregister, failure(&mut first));
    done.unwrap();
    assert!(error.is_resource_not_found_exception(), "{error:?}");
    let refused = try_subscribe(&world, &consumer, latest()).await;
    assert_eq!(code(refused), "ResourceNotFoundException");
    let delete = world.kinesis.delete_stream().stream_name("orders");
    delete.enforce_consumer_deletion(true).send().await.unwrap();
    let error = failure(&mut second).await;
    assert!(error.is_resource_not_found_exception(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_consumer_must_be_active() {
    let second = Duration::from_secs(1);
    let options = KinesisOptions { transition: second, ..unlimited() };
    let world = World::new(options, 1).await;
    tokio::time::sleep(second).await;
    let consumer = world.register("reader").await;
    let latest = || from(ShardIteratorType::Latest);
    let refused = try_subscribe(&world, &consumer, latest()).await;
    assert_eq!(code(refused), "ResourceInUseException");
    tokio::time::sleep(second).await;
    subscribe(&world, &consumer, latest()).await;
    let unknown = format!("{}/consumer/nobody:1", arn("orders"));
    let refused = try_subscribe(&world, &unknown, latest()).await;
    assert_eq!(code(refused), "ResourceNotFoundException");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_not_read_misses_nothing() {
    let world = World::new(unlimited(), 1).await;
    let consumer = world.register("reader").await;
    let mut live = subscribe(&world, &consumer, from(ShardIteratorType::Latest)).await;
    next(&mut live).await.unwrap();
    world.fill(200, 10_000).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let mut seen = 0;
    while seen < 200 {
        seen += next(&mut live).await.unwrap().records().len();
    }
    assert_eq!(seen, 200);
    assert!(world.aws.calls().iter().all(|call| call.calls < 10));
}
