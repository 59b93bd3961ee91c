//! The life of streams and consumers, and their settings.

use std::time::Duration;

use aws_sdk_kinesis::types::{
    ConsumerStatus, EncryptionType, RecordDistributionStrategy, StreamDescriptionSummary,
    StreamStatus,
};

use super::{MIDDLE, World, arn, code, shard, texts, unlimited};
use crate::KinesisOptions;

async fn summary(world: &World) -> StreamDescriptionSummary {
    let describe = world.kinesis.describe_stream_summary().stream_name("orders");
    let output = describe.send().await.unwrap();
    output.stream_description_summary.unwrap()
}

#[tokio::test(start_paused = true)]
async fn changes_take_as_long_as_the_options_say() {
    let second = Duration::from_secs(1);
    let options = KinesisOptions { transition: second, ..unlimited() };
    let world = World::new(options, 1).await;
    assert_eq!(summary(&world).await.stream_status, StreamStatus::Creating);
    assert!(world.shards().await.is_empty());
    let put = || {
        let put = world.kinesis.put_record().stream_name("orders");
        put.partition_key("k").data(b"x".to_vec().into()).send()
    };
    assert_eq!(code(put().await), "ResourceNotFoundException");
    tokio::time::sleep(second).await;
    put().await.unwrap();
    world.split(&shard(0), MIDDLE).await;
    assert_eq!(summary(&world).await.stream_status, StreamStatus::Updating);
    let merge = world.kinesis.merge_shards().stream_name("orders");
    let early = merge.shard_to_merge(shard(1)).adjacent_shard_to_merge(shard(2));
    assert_eq!(code(early.send().await), "ResourceInUseException");
    // Reading and writing go on while a stream is updated.
    put().await.unwrap();
    tokio::time::sleep(second).await;
    assert_eq!(summary(&world).await.stream_status, StreamStatus::Active);
    let delete = world.kinesis.delete_stream().stream_name("orders");
    delete.send().await.unwrap();
    assert_eq!(summary(&world).await.stream_status, StreamStatus::Deleting);
    let create = world.kinesis.create_stream().stream_name("orders");
    let create = create.shard_count(1);
    assert_eq!(code(create.send().await), "ResourceInUseException");
    tokio::time::sleep(second).await;
    let describe = world.kinesis.describe_stream_summary().stream_name("orders");
    assert_eq!(code(describe.send().await), "ResourceNotFoundException");
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_named_by_name_or_arn_and_they_must_agree() {
    let world = World::new(unlimited(), 1).await;
    let describe = || world.kinesis.describe_stream_summary();
    let by_arn = describe().stream_arn(arn("orders")).send().await.unwrap();
    let described = by_arn.stream_description_summary.unwrap();
    assert_eq!(described.stream_name, "orders");
    assert_eq!(described.open_shard_count, 1);
    assert_eq!(described.retention_period_hours, 24);
    let neither = describe().send().await;
    assert_eq!(code(neither), "InvalidArgumentException");
    let clash = describe().stream_name("other").stream_arn(arn("orders"));
    assert_eq!(code(clash.send().await), "InvalidArgumentException");
    let missing = describe().stream_name("nothing").send().await;
    assert_eq!(code(missing), "ResourceNotFoundException");
    let elsewhere = describe().stream_arn("arn:aws:kinesis:eu-west-1:000000000000:stream/orders");
    assert_eq!(code(elsewhere.send().await), "ResourceNotFoundException");
    let create = world.kinesis.create_stream().stream_name("orders");
    assert_eq!(code(create.shard_count(1).send().await), "ResourceInUseException");
}

#[tokio::test(start_paused = true)]
async fn retention_moves_only_in_the_direction_named() {
    let world = World::new(unlimited(), 1).await;
    world.put("k", "kept").await;
    let increase = |hours| {
        let increase = world.kinesis.increase_stream_retention_period();
        increase.stream_name("orders").retention_period_hours(hours).send()
    };
    let decrease = |hours| {
        let decrease = world.kinesis.decrease_stream_retention_period();
        decrease.stream_name("orders").retention_period_hours(hours).send()
    };
    increase(48).await.unwrap();
    assert_eq!(code(increase(24).await), "InvalidArgumentException");
    assert_eq!(code(increase(9000).await), "InvalidArgumentException");
    tokio::time::sleep(Duration::from_secs(30 * 3600)).await;
    assert_eq!(texts(&world.drain(&shard(0)).await.0), ["kept"]);
    assert_eq!(code(decrease(72).await), "InvalidArgumentException");
    decrease(24).await.unwrap();
    assert!(world.drain(&shard(0)).await.0.is_empty());
}

#[tokio::test(start_paused = true)]
async fn encryption_marks_the_records_put_under_it() {
    let world = World::new(unlimited(), 1).await;
    world.put("k", "plain").await;
    let start = world.kinesis.start_stream_encryption().stream_name("orders");
    let start = start.encryption_type(EncryptionType::Kms).key_id("alias/aws/kinesis");
    start.send().await.unwrap();
    assert_eq!(summary(&world).await.key_id(), Some("alias/aws/kinesis"));
    world.put("k", "sealed").await;
    let (records, _) = world.drain(&shard(0)).await;
    assert_eq!(records[0].encryption_type(), None);
    assert_eq!(records[1].encryption_type(), Some(&EncryptionType::Kms));
}

#[tokio::test(start_paused = true)]
async fn automatic_distribution_spreads_one_key_and_says_so() {
    let world = World::new(unlimited(), 4).await;
    let update = world.kinesis.update_stream_record_distribution_strategy();
    let update = update.stream_arn(arn("orders"));
    let update = update.record_distribution_strategy(RecordDistributionStrategy::Auto);
    update.send().await.unwrap();
    let strategy = summary(&world).await.record_distribution_strategy;
    assert_eq!(strategy, Some(RecordDistributionStrategy::Auto));
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..50 {
        seen.insert(world.put("one key", "x").await.shard_id);
    }
    assert_eq!(seen.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn tags_are_kept_for_streams_and_consumers() {
    let world = World::new(unlimited(), 1).await;
    let add = world.kinesis.add_tags_to_stream().stream_name("orders");
    add.tags("team", "a").tags("cost", "b").send().await.unwrap();
    let list = world.kinesis.list_tags_for_stream().stream_name("orders");
    let first = list.limit(1).send().await.unwrap();
    assert_eq!((first.tags()[0].key(), first.has_more_tags), ("cost", true));
    let remove = world.kinesis.remove_tags_from_stream().stream_name("orders");
    remove.tag_keys("cost").send().await.unwrap();
    let consumer = world.register("reader").await;
    let tag = world.kinesis.tag_resource().resource_arn(&consumer);
    tag.tags("kind", "consumer").send().await.unwrap();
    for (resource, key) in [(arn("orders"), "team"), (consumer, "kind")] {
        let list = world.kinesis.list_tags_for_resource().resource_arn(resource);
        let tags = list.send().await.unwrap().tags.unwrap();
        assert_eq!(tags.iter().map(|tag| tag.key()).collect::<Vec<_>>(), [key]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_is_found_by_name_and_arn_and_a_new_one_is_another() {
    let world = World::new(unlimited(), 1).await;
    let first = world.register("reader").await;
    let describe = world.kinesis.describe_stream_consumer();
    let by_name = describe.stream_arn(arn("orders")).consumer_name("reader");
    let by_name = by_name.send().await.unwrap().consumer_description.unwrap();
    assert_eq!(by_name.consumer_arn, first);
    assert_eq!(by_name.consumer_status, ConsumerStatus::Active);
    let again = world.kinesis.register_stream_consumer();
    let again = again.stream_arn(arn("orders")).consumer_name("reader");
    assert_eq!(code(again.send().await), "ResourceInUseException");
    let by_arn = || world.kinesis.describe_stream_consumer().consumer_arn(&first).send();
    by_arn().await.unwrap();
    let deregister = world.kinesis.deregister_stream_consumer();
    deregister.consumer_arn(&first).send().await.unwrap();
    assert_eq!(code(by_arn().await), "ResourceNotFoundException");
    assert_ne!(world.register("reader").await, first);
}

#[tokio::test(start_paused = true)]
async fn a_stream_has_at_most_twenty_consumers_and_is_not_deleted_under_them() {
    let world = World::new(unlimited(), 1).await;
    for index in 0..20 {
        world.register(&format!("reader-{index}")).await;
    }
    let more = world.kinesis.register_stream_consumer();
    let more = more.stream_arn(arn("orders")).consumer_name("one-more");
    assert_eq!(code(more.send().await), "LimitExceededException");
    let delete = || world.kinesis.delete_stream().stream_name("orders");
    assert_eq!(code(delete().send().await), "ResourceInUseException");
    delete().enforce_consumer_deletion(true).send().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_is_said() {
    let world = World::new(unlimited(), 1).await;
    let channels = world.kinesis.list_channels().send().await;
    assert_eq!(code(channels), "UnknownOperationException");
    let dry = world.kinesis.put_record().stream_name("orders").dry_run(true);
    let dry = dry.partition_key("k").data(b"x".to_vec().into());
    assert_eq!(code(dry.send().await), "DryRunOperationException");
    assert!(world.drain(&shard(0)).await.0.is_empty());
}
