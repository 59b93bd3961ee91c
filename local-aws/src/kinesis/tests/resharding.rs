//! Split, merge and scaling as a reader and a writer see them.

use aws_sdk_kinesis::types::{ScalingType, ShardIteratorType, StreamMode, StreamModeDetails};

use super::{MIDDLE, World, arn, code, shard, texts, unlimited};

#[tokio::test(start_paused = true)]
async fn a_split_parent_ends_with_its_children_and_keeps_its_records() {
    let world = World::new(unlimited(), 1).await;
    world.put("k", "parent").await;
    let iterator = world.iterator(&shard(0), ShardIteratorType::TrimHorizon).await;
    world.split(&shard(0), MIDDLE).await;
    let put = world.put("k", "child").await;
    assert_ne!(put.shard_id(), shard(0));
    let output = world.get(&iterator).await;
    assert_eq!(texts(output.records()), ["parent"]);
    assert!(output.next_shard_iterator().is_none());
    let children = output.child_shards();
    assert_eq!(children.len(), 2);
    assert_eq!(children[0].shard_id, shard(1));
    assert_eq!(children[0].parent_shards, [shard(0)]);
    let range = children[1].hash_key_range.as_ref().unwrap();
    assert_eq!(range.starting_hash_key, MIDDLE.to_string());
    assert_eq!(range.ending_hash_key, u128::MAX.to_string());
    // LATEST on a closed shard is its end at once.
    let latest = world.iterator(&shard(0), ShardIteratorType::Latest).await;
    let end = world.get(&latest).await;
    assert!(end.records().is_empty() && end.next_shard_iterator().is_none());
    assert_eq!(end.child_shards().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_closed_shard_has_an_end_below_its_childrens_start() {
    let world = World::new(unlimited(), 1).await;
    let put = world.put("k", "x").await;
    world.split(&shard(0), MIDDLE).await;
    let shards = world.shards().await;
    let range = |index: usize| shards[index].sequence_number_range.as_ref().unwrap();
    let ending = range(0).ending_sequence_number().unwrap();
    assert!(range(0).starting_sequence_number() < put.sequence_number());
    assert!(put.sequence_number() < ending);
    for child in [1, 2] {
        // All are of 56 digits, so text order is number order.
        assert!(range(child).starting_sequence_number() > ending);
        assert!(range(child).ending_sequence_number().is_none());
        assert_eq!(shards[child].parent_shard_id(), Some(&*shard(0)));
        assert!(shards[child].adjacent_parent_shard_id().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_merge_has_two_parents_and_both_name_the_child() {
    let world = World::new(unlimited(), 2).await;
    world.merge(&shard(1), &shard(0)).await;
    let shards = world.shards().await;
    assert_eq!(shards[2].parent_shard_id(), Some(&*shard(1)));
    assert_eq!(shards[2].adjacent_parent_shard_id(), Some(&*shard(0)));
    for parent in [0, 1] {
        let (_, end) = world.drain(&shard(parent)).await;
        assert!(end.next_shard_iterator().is_none());
        assert_eq!(end.child_shards()[0].shard_id, shard(2));
        assert_eq!(end.child_shards()[0].parent_shards, [shard(1), shard(0)]);
    }
    let merge = world.kinesis.merge_shards().stream_name("orders");
    let again = merge.shard_to_merge(shard(0)).adjacent_shard_to_merge(shard(1));
    assert_eq!(code(again.send().await), "InvalidArgumentException");
}

#[tokio::test(start_paused = true)]
async fn scaling_keeps_within_half_and_double() {
    let world = World::new(unlimited(), 2).await;
    let scale = |target: i32| {
        let update = world.kinesis.update_shard_count().stream_name("orders");
        let update = update.target_shard_count(target);
        update.scaling_type(ScalingType::UniformScaling).send()
    };
    let output = scale(4).await.unwrap();
    assert_eq!(output.current_shard_count(), Some(2));
    assert_eq!(output.target_shard_count(), Some(4));
    assert_eq!(world.shards().await.len(), 6);
    assert_eq!(code(scale(9).await), "LimitExceededException");
    assert_eq!(code(scale(1).await), "LimitExceededException");
    scale(2).await.unwrap();
    let open = world.shards().await;
    let open = open.iter().filter(|shard| {
        let range = shard.sequence_number_range.as_ref().unwrap();
        range.ending_sequence_number().is_none()
    });
    assert_eq!(open.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_on_demand_stream_has_four_shards_and_does_not_split() {
    let world = World::new(unlimited(), 1).await;
    let mode = StreamModeDetails::builder().stream_mode(StreamMode::OnDemand);
    let create = world.kinesis.create_stream().stream_name("auto");
    let create = create.stream_mode_details(mode.build().unwrap());
    create.send().await.unwrap();
    let list = world.kinesis.list_shards().stream_name("auto");
    assert_eq!(list.send().await.unwrap().shards().len(), 4);
    let split = world.kinesis.split_shard().stream_arn(arn("auto"));
    let split = split.shard_to_split(shard(0)).new_starting_hash_key("100");
    assert_eq!(code(split.send().await), "ValidationException");
}
