//! ListShards, DescribeStream, ListStreams and ListStreamConsumers, page by page.

use std::time::Duration;

use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{Shard, ShardFilter, ShardFilterType};

use super::{MIDDLE, World, arn, code, shard, unlimited};

fn ids(shards: &[Shard]) -> Vec<String> {
    shards.iter().map(|shard| shard.shard_id.clone()).collect()
}

async fn filtered(world: &World, filter: ShardFilter) -> Vec<String> {
    let list = world.kinesis.list_shards().stream_name("orders");
    let output = list.shard_filter(filter).send().await.unwrap();
    ids(output.shards())
}

fn filter(r#type: ShardFilterType, at: Option<DateTime>) -> ShardFilter {
    let filter = ShardFilter::builder().r#type(r#type).set_timestamp(at);
    filter.build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn shards_are_listed_in_pages_and_a_token_expires() {
    let world = World::new(unlimited(), 7).await;
    let first = world.kinesis.list_shards().stream_arn(arn("orders"));
    let first = first.max_results(3).send().await.unwrap();
    assert_eq!(ids(first.shards()), [shard(0), shard(1), shard(2)]);
    let token = first.next_token().unwrap();
    let next = || world.kinesis.list_shards().next_token(token);
    let second = next().max_results(3).send().await.unwrap();
    assert_eq!(ids(second.shards()), [shard(3), shard(4), shard(5)]);
    let last = world.kinesis.list_shards().next_token(second.next_token().unwrap());
    let last = last.send().await.unwrap();
    assert_eq!(ids(last.shards()), [shard(6)]);
    assert!(last.next_token().is_none());
    let both = next().stream_name("orders").send().await;
    assert_eq!(code(both), "InvalidArgumentException");
    tokio::time::sleep(Duration::from_millis(300_001)).await;
    assert_eq!(code(next().send().await), "ExpiredNextTokenException");
    let garbage = world.kinesis.list_shards().next_token("nonsense");
    assert_eq!(code(garbage.send().await), "InvalidArgumentException");
}

#[tokio::test(start_paused = true)]
async fn more_than_a_thousand_shards_need_a_second_call() {
    let world = World::new(unlimited(), 1001).await;
    let list = world.kinesis.list_shards().stream_name("orders");
    let first = list.max_results(10_000).send().await.unwrap();
    assert_eq!(first.shards().len(), 1000);
    let rest = world.kinesis.list_shards().next_token(first.next_token().unwrap());
    assert_eq!(rest.send().await.unwrap().shards().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn every_shard_filter_shows_what_it_says() {
    let world = World::new(unlimited(), 1).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let put = world.put("k", "x").await;
    assert_eq!(put.shard_id(), shard(0));
    let (records, _) = world.drain(&shard(0)).await;
    let before = records[0].approximate_arrival_timestamp().copied();
    tokio::time::sleep(Duration::from_secs(10)).await;
    world.split(&shard(0), MIDDLE).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let after = before.map(|time| DateTime::from_secs(time.secs() + 15));
    let (parent, children) = (vec![shard(0)], vec![shard(1), shard(2)]);
    let all = vec![shard(0), shard(1), shard(2)];
    let cases = [
        (filter(ShardFilterType::AtTrimHorizon, None), parent.clone()),
        (filter(ShardFilterType::FromTrimHorizon, None), all.clone()),
        (filter(ShardFilterType::AtLatest, None), children.clone()),
        (filter(ShardFilterType::AtTimestamp, before), parent.clone()),
        (filter(ShardFilterType::AtTimestamp, after), children.clone()),
        (filter(ShardFilterType::FromTimestamp, before), all.clone()),
        (filter(ShardFilterType::FromTimestamp, after), children.clone()),
        // Before the stream: corrected to its trim horizon.
        (filter(ShardFilterType::AtTimestamp, Some(DateTime::from_secs(1))), parent),
    ];
    for (filter, expected) in cases {
        assert_eq!(filtered(&world, filter.clone()).await, expected, "{filter:?}");
    }
    let after_id = ShardFilter::builder().r#type(ShardFilterType::AfterShardId);
    let after_id = after_id.shard_id(shard(1)).build().unwrap();
    assert_eq!(filtered(&world, after_id).await, [shard(2)]);
    let start = world.kinesis.list_shards().stream_name("orders");
    let start = start.exclusive_start_shard_id(shard(0)).send().await.unwrap();
    assert_eq!(ids(start.shards()), children);
    let list = world.kinesis.list_shards().stream_name("orders");
    let without = list.shard_filter(filter(ShardFilterType::AtTimestamp, None));
    assert_eq!(code(without.send().await), "InvalidArgumentException");
}

#[tokio::test(start_paused = true)]
async fn a_parent_leaves_the_lists_when_its_records_are_past_retention() {
    let world = World::new(unlimited(), 1).await;
    world.split(&shard(0), MIDDLE).await;
    tokio::time::sleep(Duration::from_secs(24 * 3600 - 60)).await;
    let horizon = || filter(ShardFilterType::AtTrimHorizon, None);
    assert_eq!(filtered(&world, horizon()).await.len(), 2);
    assert_eq!(world.shards().await.len(), 3);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(ids(&world.shards().await), [shard(1), shard(2)]);
    assert_eq!(filtered(&world, horizon()).await, [shard(1), shard(2)]);
    // The children still say whose they are.
    assert_eq!(world.shards().await[0].parent_shard_id(), Some(&*shard(0)));
}

#[tokio::test(start_paused = true)]
async fn a_description_is_paged_by_shard_id() {
    let world = World::new(unlimited(), 150).await;
    let describe = || world.kinesis.describe_stream().stream_name("orders");
    let first = describe().limit(1000).send().await.unwrap();
    let first = first.stream_description.unwrap();
    assert_eq!((first.shards.len(), first.has_more_shards), (100, true));
    let rest = describe().exclusive_start_shard_id(shard(99)).send().await.unwrap();
    let rest = rest.stream_description.unwrap();
    assert_eq!((rest.shards.len(), rest.has_more_shards), (50, false));
    assert_eq!(rest.stream_arn, arn("orders"));
}

#[tokio::test(start_paused = true)]
async fn streams_and_consumers_are_listed_in_pages() {
    let world = World::new(unlimited(), 1).await;
    for name in ["a", "b", "z"] {
        world.create(name, 1).await;
        world.register(name).await;
    }
    let first = world.kinesis.list_streams().limit(2).send().await.unwrap();
    assert_eq!(first.stream_names(), ["a", "b"]);
    assert!(first.has_more_streams);
    let rest = world.kinesis.list_streams().next_token(first.next_token().unwrap());
    let rest = rest.send().await.unwrap();
    assert_eq!(rest.stream_names(), ["orders", "z"]);
    assert!(!rest.has_more_streams && rest.next_token().is_none());
    assert_eq!(rest.stream_summaries()[1].stream_arn, arn("z"));
    let list = || world.kinesis.list_stream_consumers().stream_arn(arn("orders"));
    let first = list().max_results(2).send().await.unwrap();
    assert_eq!(first.consumers().len(), 2);
    let rest = list().next_token(first.next_token().unwrap()).send().await.unwrap();
    assert_eq!(rest.consumers()[0].consumer_name, "z");
    assert!(rest.next_token().is_none());
}
