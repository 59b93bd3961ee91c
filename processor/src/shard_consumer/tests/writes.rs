//! When a lease is written, and with what.

use std::time::Duration;

use lease_manager::{Checkpoint, LaneName, LanePosition, LeaseRecord, SequenceNumber};
use tokio::time::{Instant, sleep};

use super::rig::{APP, Rig, until};
use crate::PIPELINES;

fn lane(lease: &LeaseRecord, pipeline: usize) -> Checkpoint {
    let lanes = PIPELINES.map(|name| LaneName::parse(name).unwrap());
    lease.believed_lanes(&lanes)[&lanes[pipeline]].checkpoint.clone()
}

fn at(sequence: &SequenceNumber) -> Checkpoint {
    Checkpoint::at(sequence.clone())
}

#[tokio::test(start_paused = true)]
async fn the_first_settled_position_is_written_at_once_and_then_at_the_interval() {
    let rig = Rig::new().await;
    let worker = rig.start("a");
    // The taking of the lease, and the first event's position.
    until("the first position is written", || rig.lease_writes() == 2).await;
    let first = Instant::now();
    assert!(rig.lease().await.checkpoint.has_moved(), "it never starts over again");
    let mut last = None;
    for n in 0..50 {
        last = rig.put_numbers(n..n + 1).await.pop();
        sleep(Duration::from_millis(500)).await;
    }
    rig.stored_once(50).await;
    assert!(first.elapsed() < Duration::from_secs(29), "{:?}", first.elapsed());
    assert_eq!(rig.lease_writes(), 2 + 2, "one each ten seconds, however many records");
    sleep(Duration::from_secs(10)).await;
    assert_eq!(rig.lease_writes(), 2 + 3);
    let lease = rig.lease().await;
    assert!(lane(&lease, 0) >= at(&last.unwrap()) && lane(&lease, 0) == lane(&lease, 1));
    assert_eq!(lease.checkpoint, lane(&lease, 0));
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_shard_is_written_once_a_minute() {
    let rig = Rig::new().await;
    let worker = rig.start("a");
    until("the first position is written", || rig.lease_writes() == 2).await;
    let before = rig.lease().await.checkpoint;
    sleep(Duration::from_secs(59)).await;
    assert_eq!(rig.lease_writes(), 2);
    sleep(Duration::from_secs(126)).await;
    assert_eq!(rig.lease_writes(), 2 + 3, "in three minutes");
    assert!(rig.lease().await.checkpoint > before, "its empty events moved it");
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_leaves_the_last_settled_position_and_the_next_worker_reads_nothing_twice() {
    let rig = Rig::new().await;
    let worker = rig.start("a");
    until("the first position is written", || rig.lease_writes() == 2).await;
    let sequences = rig.put_numbers(0..20).await;
    rig.stored_once(20).await;
    let stopping = Instant::now();
    worker.stop().await;
    assert!(stopping.elapsed() < Duration::from_secs(2), "{:?}", stopping.elapsed());
    let lease = rig.lease().await;
    assert_eq!(lease.owner, None);
    for pipeline in 0..2 {
        assert!(lane(&lease, pipeline) >= at(sequences.last().unwrap()));
    }
    let next = rig.start("b");
    rig.put_numbers(20..30).await;
    rig.stored_once(30).await;
    next.stop().await;
}

#[tokio::test(start_paused = true)]
async fn lanes_that_left_off_at_different_places_each_go_on_from_their_own() {
    for (store_at, delivery_at, stored) in [(2, 6, 3..10), (6, 2, 7..10)] {
        let rig = Rig::new().await;
        let sequences = rig.put_numbers(0..10).await;
        let position = |n: usize| LanePosition::at(at(&sequences[n]));
        rig.write_lease("shardId-000000000000", |lease| {
            lease.checkpoint = at(&sequences[2]);
            let lanes = PIPELINES.map(|name| LaneName::parse(name).unwrap());
            lease.lanes = lanes.into_iter().zip([store_at, delivery_at].map(position)).collect();
        })
        .await;
        let worker = rig.start("a");
        until("the rest is stored", || rig.stored.payloads().len() >= stored.len()).await;
        sleep(Duration::from_secs(15)).await;
        let expected: Vec<String> = stored.map(|n| n.to_string()).collect();
        assert_eq!(rig.stored.payloads(), expected, "and nothing that was stored before");
        worker.stop().await;
        let lease = rig.lease().await;
        assert_eq!(lane(&lease, 0), lane(&lease, 1), "both read the same stream to its tip");
        assert!(lease.checkpoint >= at(&sequences[9]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_whose_end_was_read_before_is_finished_without_making_its_children_again() {
    let rig = Rig::new().await;
    let sequences = rig.put_numbers(0..4).await;
    let parent = "shardId-000000000000";
    let split = rig.kinesis.split_shard().stream_name(super::rig::STREAM).shard_to_split(parent);
    split.new_starting_hash_key((1_u128 << 127).to_string()).send().await.unwrap();
    rig.write_lease(parent, |lease| {
        lease.checkpoint = at(&sequences[1]);
        lease.read_to = Some(Checkpoint::ShardEnd);
    })
    .await;
    for child in ["shardId-000000000001", "shardId-000000000002"] {
        rig.write_lease(child, |lease| lease.checkpoint = Checkpoint::ShardEnd).await;
    }
    let created = rig.calls("PutItem", Some(APP));
    let worker = rig.start("a");
    until("the rest is stored", || rig.stored.payloads().len() == 2).await;
    sleep(Duration::from_secs(2)).await;
    let lease = &rig.leases().await[parent];
    assert!(lease.is_finished() && lease.read_to == Some(Checkpoint::ShardEnd), "{lease:?}");
    assert_eq!(rig.calls("PutItem", Some(APP)), created);
    assert_eq!(rig.stored.payloads(), ["2", "3"]);
    worker.stop().await;
}
