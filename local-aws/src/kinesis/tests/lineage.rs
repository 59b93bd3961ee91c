//! A reader that follows parents to children sees every record once, and each key in order, however the stream is resharded.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_sdk_kinesis::types::{ChildShard, ShardIteratorType, StartingPosition};
use aws_sdk_kinesis::types::{ScalingType, SubscribeToShardEventStream};
use futures::stream::{FuturesUnordered, StreamExt};

use super::{World, shard, texts, unlimited};

const RECORDS: usize = 200;
const KEYS: usize = 12;

/// Reads one shard to its end; its data in order, and its children.
async fn read_shard(
    world: &World,
    consumer: &str,
    id: String,
) -> (String, Vec<String>, Vec<ChildShard>) {
    let mut seen = Vec::new();
    let mut position = StartingPosition::builder().r#type(ShardIteratorType::TrimHorizon);
    loop {
        let subscribe = world.kinesis.subscribe_to_shard().consumer_arn(consumer);
        let subscribe = subscribe.shard_id(&id);
        let subscribe = subscribe.starting_position(position.build().unwrap());
        let mut live = subscribe.send().await.unwrap().event_stream;
        let mut continuation = String::new();
        // Cut short on purpose: what follows must go on without a gap or an overlap.
        for _ in 0..4 {
            let Some(SubscribeToShardEventStream::SubscribeToShardEvent(event)) =
                live.recv().await.unwrap()
            else {
                panic!("the subscription ended early");
            };
            seen.extend(texts(event.records()));
            if !event.child_shards().is_empty() {
                return (id, seen, event.child_shards.unwrap_or_default());
            }
            if seen.last().is_some_and(|last| last == "last") {
                return (id, seen, Vec::new());
            }
            continuation = event.continuation_sequence_number;
        }
        drop(live);
        tokio::time::sleep(Duration::from_secs(6)).await;
        position = StartingPosition::builder()
            .r#type(ShardIteratorType::AfterSequenceNumber)
            .sequence_number(continuation);
    }
}

/// Follows the whole stream from its first shards; a merged child is read once both its parents are.
async fn follow(world: &World, consumer: &str, first: u32) -> Vec<String> {
    let mut done = BTreeSet::new();
    let mut started = BTreeSet::new();
    let mut waiting: Vec<ChildShard> = Vec::new();
    let mut seen = Vec::new();
    let mut reading = FuturesUnordered::new();
    for index in 0..first {
        reading.push(read_shard(world, consumer, shard(index)));
    }
    while let Some((id, records, children)) = reading.next().await {
        seen.extend(records);
        done.insert(id);
        waiting.extend(children);
        waiting.retain(|child| {
            let ready = child.parent_shards.iter().all(|parent| done.contains(parent));
            if ready && started.insert(child.shard_id.clone()) {
                reading.push(read_shard(world, consumer, child.shard_id.clone()));
            }
            !ready
        });
    }
    seen
}

async fn produce(world: &World, rng: &mut fastrand::Rng) {
    for index in 0..RECORDS {
        world.put(&format!("key-{}", index % KEYS), index.to_string()).await;
        tokio::time::sleep(Duration::from_millis(rng.u64(0..2000))).await;
        if rng.u8(0..20) == 0 {
            let open = world.kinesis.describe_stream_summary().stream_name("orders");
            let open = open.send().await.unwrap().stream_description_summary.unwrap();
            let target =
                rng.i32((open.open_shard_count + 1) / 2..=(open.open_shard_count * 2).min(8));
            let update = world.kinesis.update_shard_count().stream_name("orders");
            let update = update.target_shard_count(target);
            let update = update.scaling_type(ScalingType::UniformScaling);
            update.send().await.unwrap();
        }
    }
    // One mark into every open shard ends its reader.
    for open in world.shards().await {
        let range = open.sequence_number_range.unwrap();
        if range.ending_sequence_number().is_none() {
            let put = world.kinesis.put_record().stream_name("orders").partition_key("end");
            let put = put.explicit_hash_key(open.hash_key_range.unwrap().starting_hash_key);
            put.data(b"last".to_vec().into()).send().await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_follows_the_lineage_sees_every_record_once_and_keys_in_order() {
    for seed in 0..5 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let world = World::new(unlimited(), 2).await;
        let consumer = world.register("reader").await;
        let follow = follow(&world, &consumer, 2);
        let ((), seen) = tokio::join!(produce(&world, &mut rng), follow);
        let numbers: Vec<usize> = seen.iter().filter_map(|text| text.parse().ok()).collect();
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..RECORDS).collect::<Vec<_>>(), "seed {seed}");
        let mut by_key: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for number in numbers {
            by_key.entry(number % KEYS).or_default().push(number);
        }
        assert!(by_key.values().all(|order| order.is_sorted()), "seed {seed}");
    }
}
