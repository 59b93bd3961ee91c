//! First starts, reshards, audits.

use super::*;

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

async fn split(world: &World, shard: &str, at: u128) {
    let call = world.kinesis("test").split_shard().stream_name(STREAM).shard_to_split(shard);
    call.new_starting_hash_key(at.to_string()).send().await.unwrap();
    settle(world).await;
}

async fn merge(world: &World, shard: &str, adjacent: &str) {
    let call = world.kinesis("test").merge_shards().stream_name(STREAM).shard_to_merge(shard);
    call.adjacent_shard_to_merge(adjacent).send().await.unwrap();
    settle(world).await;
}

async fn settle(world: &World) {
    for _ in 0..100 {
        let call = world.kinesis("test").describe_stream_summary().stream_name(STREAM);
        let summary = call.send().await.unwrap().stream_description_summary.unwrap();
        if summary.stream_status.as_str() == "ACTIVE" {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("the stream does not become active");
}

async fn children(world: &World, parent: &str) -> Vec<ChildShard> {
    let answer = world.kinesis("test").list_shards().stream_name(STREAM).send().await.unwrap();
    let shard = |id: &str| ShardId::parse(id).unwrap();
    let child = |listed: &aws_sdk_kinesis::types::Shard| {
        let parents = [listed.parent_shard_id(), listed.adjacent_parent_shard_id()];
        let range = listed.hash_key_range().unwrap();
        ChildShard {
            shard_id: shard(listed.shard_id()),
            parents: parents.into_iter().flatten().map(shard).collect(),
            starting_hash_key: range.starting_hash_key().to_owned(),
            ending_hash_key: range.ending_hash_key().to_owned(),
        }
    };
    let all = answer.shards().iter().map(child);
    all.filter(|child| child.parents.contains(&shard(parent))).collect()
}

/// Reads a shard to its end, as a consumer would.
async fn end(world: &World, handle: LeaseHandle) {
    let children = children(world, handle.lease().shard_id.as_str()).await;
    handle.reader_ended(children).await.unwrap();
    handle.finish(progress("SHARD_END")).await.unwrap();
}

struct Alone {
    fleet: FleetHandle,
    _run: AbortOnDropHandle<Exit>,
}

fn alone(world: &World, worker: &str) -> Alone {
    let (manager, fleet) = world.manager(world.options(worker));
    let run = AbortOnDropHandle::new(tokio::spawn(manager.run(CancellationToken::new())));
    Alone { fleet, _run: run }
}

impl Alone {
    async fn next(&self) -> LeaseHandle {
        let next = tokio::time::timeout(SECONDS(20), self.fleet.next_lease());
        next.await.expect("a lease within 20 s").unwrap()
    }

    async fn gets_nothing(&self) {
        let next = tokio::time::timeout(SECONDS(20), self.fleet.next_lease()).await;
        assert!(next.is_err(), "no lease may be offered yet");
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_at_latest_keeps_the_moment_so_that_nothing_in_between_is_missed() {
    let world = World::new(1, InitialPosition::Latest).await;
    sleep(SECONDS(10)).await;
    let before = world.clock.now_ms();
    let a = alone(&world, "a");
    let handle = a.next().await;
    let lease = handle.lease();
    assert_eq!(lease.checkpoint, Checkpoint::Latest);
    let StartPosition::AtTimestamp(start) = lease.start() else { panic!("{:?}", lease.start()) };
    assert!(start >= before && start <= world.clock.now_ms());
    assert!(lease.hash_range.is_some());

    // A worker that takes over a lease that never acknowledged anything starts at the same moment.
    sleep(SECONDS(100)).await;
    handle.release(Progress::default(), "test".to_owned()).await.unwrap();
    assert_eq!(a.next().await.lease().start(), StartPosition::AtTimestamp(start));
}

#[tokio::test(start_paused = true)]
async fn a_first_start_at_latest_after_a_reshard_reads_only_what_is_open() {
    let world = World::new(1, InitialPosition::Latest).await;
    split(&world, "shardId-000000000000", 1 << 127).await;
    let a = alone(&world, "a");
    let mut shards = [a.next().await, a.next().await].map(|h| h.lease().shard_id.to_string());
    shards.sort();
    assert_eq!(shards, ["shardId-000000000001", "shardId-000000000002"]);
    // No audit ever makes a lease for the parent, whose records nobody asked for.
    sleep(SECONDS(200)).await;
    assert_eq!(world.leases().await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_first_start_at_trim_horizon_begins_with_the_parent() {
    let world = World::new(1, InitialPosition::TrimHorizon).await;
    sleep(SECONDS(10)).await;
    split(&world, "shardId-000000000000", 1 << 127).await;
    let a = alone(&world, "a");
    let parent = a.next().await;
    assert_eq!(parent.lease().shard_id.as_str(), "shardId-000000000000");
    assert_eq!(parent.lease().start(), StartPosition::TrimHorizon);
    a.gets_nothing().await;
    end(&world, parent).await;
    a.next().await;
    a.next().await;
}

#[tokio::test(start_paused = true)]
async fn the_children_of_a_split_start_at_their_oldest_record_right_after_the_parent() {
    let world = World::new(1, InitialPosition::Latest).await;
    let a = alone(&world, "a");
    let parent = a.next().await;
    parent.checkpoint(progress("5")).await.unwrap();
    split(&world, "shardId-000000000000", 1 << 127).await;
    a.gets_nothing().await;
    let started = Instant::now();
    end(&world, parent).await;
    for _ in 0..2 {
        let child = a.next().await;
        assert_eq!(child.lease().start(), StartPosition::TrimHorizon);
        child.checkpoint(progress("70")).await.unwrap();
        std::mem::forget(child);
    }
    assert!(started.elapsed() < SECONDS(1), "{:?}", started.elapsed());
    let snapshot: Vec<_> = world.leases().await.into_values().collect();
    invariants::l4_children_wait(&snapshot, &lanes()).unwrap();
    invariants::l5_every_shard_has_a_lease(&world.listed().await, &snapshot).unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_child_of_a_merge_waits_for_both_parents_on_different_workers() {
    let world = World::new(2, InitialPosition::TrimHorizon).await;
    let a = alone(&world, "a");
    let first = a.next().await;
    let second = a.next().await;
    let b = alone(&world, "b");
    // The second worker gets one of the two.
    tokio::select! {
        () = first.release_requested() => {}
        () = second.release_requested() => {}
    }
    let (mut kept, mut moved) = (first, second);
    if futures::FutureExt::now_or_never(kept.release_requested()).is_some() {
        std::mem::swap(&mut kept, &mut moved);
    }
    moved.release(Progress::default(), "move".to_owned()).await.unwrap();
    let moved = b.next().await;
    merge(&world, "shardId-000000000000", "shardId-000000000001").await;
    end(&world, kept).await;
    a.gets_nothing().await;
    let started = Instant::now();
    end(&world, moved).await;
    let child = b.next().await;
    assert_eq!(child.lease().shard_id.as_str(), "shardId-000000000002");
    assert_eq!(child.lease().parents.len(), 2);
    assert!(started.elapsed() < SECONDS(1), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_audit_repairs_leases_that_somebody_deleted() {
    let world = World::new(3, InitialPosition::Latest).await;
    let a = alone(&world, "a");
    let handles = [a.next().await, a.next().await, a.next().await];
    let began = handles[0].lease().start_at_ms;
    let gone = &handles[1].lease().key;
    let key = aws_sdk_dynamodb::types::AttributeValue::S(gone.to_string());
    let delete = world.dynamodb("x").delete_item().table_name(APP).key("leaseKey", key);
    delete.send().await.unwrap();
    handles[1].lost().await;
    let again = tokio::time::timeout(SECONDS(90), a.fleet.next_lease()).await.unwrap().unwrap();
    assert_eq!(&again.lease().key, gone);
    assert_eq!(again.lease().start_at_ms, began, "as of the stream's first start");
}

#[tokio::test(start_paused = true)]
async fn an_audit_repairs_a_child_that_the_parents_end_left_without_a_lease() {
    let world = World::new(1, InitialPosition::Latest).await;
    let a = alone(&world, "a");
    let parent = a.next().await;
    split(&world, "shardId-000000000000", 1 << 127).await;
    parent.reader_ended(children(&world, "shardId-000000000000").await).await.unwrap();
    let key = aws_sdk_dynamodb::types::AttributeValue::S("shardId-000000000002".to_owned());
    let delete = world.dynamodb("x").delete_item().table_name(APP).key("leaseKey", key);
    delete.send().await.unwrap();
    parent.finish(progress("SHARD_END")).await.unwrap();
    std::mem::forget(a.next().await);
    let again = tokio::time::timeout(SECONDS(90), a.fleet.next_lease()).await.unwrap().unwrap();
    assert_eq!(again.lease().shard_id.as_str(), "shardId-000000000002");
    assert_eq!(again.lease().start(), StartPosition::TrimHorizon);
}

#[tokio::test(start_paused = true)]
async fn several_streams_share_a_table_under_keys_that_carry_the_stream() {
    let mut world = World::new(1, InitialPosition::TrimHorizon).await;
    world.add_stream("payments", 2, InitialPosition::Latest).await;
    let a = alone(&world, "a");
    let handles = [a.next().await, a.next().await, a.next().await];
    let epoch = world.streams[0].creation_epoch_s;
    let keys: BTreeSet<_> = handles.iter().map(|h| h.lease().key.to_string()).collect();
    assert!(keys.contains(&format!("{ACCOUNT}:orders:{epoch}:shardId-000000000000")), "{keys:?}");
    let payments = handles.iter().filter(|h| h.lease().stream_arn.ends_with("payments"));
    assert_eq!(payments.count(), 2);
    assert!(handles.iter().all(|h| h.lease().shard_id.as_str().starts_with("shardId-")));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_made_again_is_not_read_under_the_old_leases() {
    let mut world = World::new(1, InitialPosition::TrimHorizon).await;
    world.streams[0].creation_epoch_s -= 50;
    let a = alone(&world, "a");
    a.gets_nothing().await;
    assert!(world.leases().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_made_again_is_read_from_its_start_and_not_from_old_positions() {
    let mut world = World::new(2, InitialPosition::TrimHorizon).await;
    let a = alone(&world, "a");
    let old = [a.next().await, a.next().await];
    old[0].checkpoint(progress("70")).await.unwrap();
    let made_for = world.streams[0].creation_epoch_s;
    let leases = world.leases().await;
    assert!(leases.values().all(|lease| lease.stream_created_at_s == Some(made_for)), "{leases:?}");

    let delete = world.kinesis("test").delete_stream().stream_name(STREAM);
    delete.enforce_consumer_deletion(true).send().await.unwrap();
    sleep(SECONDS(60)).await;
    world.streams.clear();
    world.add_stream(STREAM, 2, InitialPosition::TrimHorizon).await;
    let made_again = world.streams[0].creation_epoch_s;
    assert_ne!(made_again, made_for);

    // The older worker, which audits, knows the older stream only: the leases stay, and the new worker leaves them alone.
    let b = alone(&world, "b");
    b.gets_nothing().await;
    assert_eq!(world.leases().await["shardId-000000000000"].stream_created_at_s, Some(made_for));
    drop((a, old));
    for _ in 0..2 {
        let fresh = b.next().await;
        assert_eq!(fresh.lease().start(), StartPosition::TrimHorizon);
        assert_eq!(fresh.lease().counter, LeaseCounter(1), "a lease of its own, taken once");
        fresh.checkpoint(progress("900")).await.unwrap();
        std::mem::forget(fresh);
    }
    let leases = world.leases().await;
    assert!(
        leases.values().all(|lease| lease.stream_created_at_s == Some(made_again)),
        "{leases:?}"
    );
    assert!(leases.values().all(|lease| lease.checkpoint == at("900")), "{leases:?}");
}

#[tokio::test(start_paused = true)]
async fn a_child_s_lease_is_of_its_parent_s_stream() {
    let world = World::new(1, InitialPosition::TrimHorizon).await;
    let a = alone(&world, "a");
    let parent = a.next().await;
    split(&world, "shardId-000000000000", 1 << 127).await;
    end(&world, parent).await;
    let child = world.leases().await.remove("shardId-000000000001").unwrap();
    assert_eq!(child.stream_created_at_s, Some(world.streams[0].creation_epoch_s));
}

/// S9 of the Kinesis Client Library's scenarios: the end of a shard is a success only once it is written down, and it is not
/// written down before the children have leases.
#[tokio::test(start_paused = true)]
async fn a_shard_is_not_finished_before_its_end_was_noted_and_its_children_have_leases() {
    let world = World::new(1, InitialPosition::TrimHorizon).await;
    let a = alone(&world, "a");
    let parent = a.next().await;
    parent.checkpoint(progress("5")).await.unwrap();
    split(&world, "shardId-000000000000", 1 << 127).await;
    let refused = parent.finish(progress("SHARD_END")).await;
    assert!(matches!(refused, Err(CheckpointError::Refused(_))), "{refused:?}");
    let leases = world.leases().await;
    let keys: Vec<_> = leases.keys().map(String::as_str).collect();
    assert_eq!(keys, ["shardId-000000000000"], "no child without the reader's end");
    assert_eq!(leases["shardId-000000000000"].checkpoint, at("5"));

    // Whoever gets it next goes on from there, and may end it in order.
    let again = a.next().await;
    assert_eq!(again.lease().checkpoint, at("5"));
    end(&world, again).await;
    let leases = world.leases().await;
    assert_eq!((leases.len(), &leases["shardId-000000000000"].checkpoint), (3, &at("SHARD_END")));
}
