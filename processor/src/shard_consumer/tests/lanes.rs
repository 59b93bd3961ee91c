//! Lanes that go on without each other: one is detached, catches up, and meets the other again.

use std::collections::BTreeMap;
use std::time::Duration;

use lease_manager::{Checkpoint, LaneName, LeaseRecord};
use local_aws::{Effect, Fault, FaultId, Service};
use store::{DeadReason, DeliveryStore, IntegrationName};
use tokio::time::sleep;

use super::rig::{APP, Rig, STREAM, Worker, until};
use crate::{Options, PIPELINES};

const STORE: usize = 0;
const DELIVERY: usize = 1;

/// A worker whose store can hold a few dozen records.
fn small(rig: &Rig) -> Options {
    let mut options = rig.options("a");
    options.sync_store_budget_bytes = 8 * 1024;
    options
}

fn stall(rig: &Rig) -> FaultId {
    let throttle = Fault::new(Service::Dynamodb, Effect::Throttle);
    rig.aws.faults().inject(throttle.resource(&format!("{APP}-messages")))
}

/// A worker that stored five numbers, and whose store took none of the others up to `put`.
async fn with_a_stalled_store(rig: &Rig, put: usize) -> (Worker, FaultId) {
    let worker = rig.start_with("a", small(rig));
    trickle(rig, 0..5).await;
    rig.stored_once(5).await;
    let throttle = stall(rig);
    trickle(rig, 5..put).await;
    (worker, throttle)
}

/// Puts the numbers one after the other, 20 a second.
async fn trickle(rig: &Rig, numbers: std::ops::Range<usize>) {
    for n in numbers {
        rig.put_numbers(n..n + 1).await;
        sleep(Duration::from_millis(50)).await;
    }
}

fn feed(worker: &Worker, lane: usize) -> &'static str {
    worker.handle.status().shards.first().map_or("", |shard| shard.lanes[lane].feed)
}

fn behind_ms(worker: &Worker, lane: usize) -> u64 {
    worker.handle.status().shards[0].lanes[lane].behind_ms
}

fn position(lease: &LeaseRecord, lane: usize) -> Checkpoint {
    let name = LaneName::parse(PIPELINES[lane]).unwrap();
    lease.believed_lanes(std::slice::from_ref(&name))[&name].checkpoint.clone()
}

#[tokio::test(start_paused = true)]
async fn p3_c3_a_stalled_lane_is_detached_the_other_goes_on_and_they_meet_without_gap_or_overlap() {
    let rig = Rig::new().await;
    let worker = rig.start_with("a", small(&rig));
    trickle(&rig, 0..5).await;
    rig.stored_once(5).await;
    let throttle = stall(&rig);
    let mut worst_ms = 0;
    for n in 5..400 {
        trickle(&rig, n..n + 1).await;
        worst_ms = worst_ms.max(behind_ms(&worker, DELIVERY));
        let held = worker.handle.status().shards[0].lanes[STORE].in_flight_bytes;
        assert!(held <= 8 * 1024, "{held} bytes are held");
    }
    assert_eq!((feed(&worker, STORE), feed(&worker, DELIVERY)), ("detached", "live"));
    assert!(worst_ms < 1_000, "deliveries were {worst_ms} ms behind while the store stood");
    assert!(behind_ms(&worker, STORE) > 15_000, "the store says how far it is behind");
    assert_eq!(rig.subscribes(), 1, "the subscription goes on for the healthy lane");
    sleep(Duration::from_secs(12)).await;
    let lease = rig.lease().await;
    assert!(position(&lease, DELIVERY) > position(&lease, STORE), "both positions are written");
    assert_eq!(lease.checkpoint, position(&lease, STORE), "C1: the smallest is the checkpoint");
    rig.aws.faults().clear(throttle);
    trickle(&rig, 400..440).await;
    rig.stored_once(440).await;
    until("the store is at the tip again", || feed(&worker, STORE) == "live").await;
    assert!(behind_ms(&worker, STORE) < 1_000);
    trickle(&rig, 440..450).await;
    rig.stored_once(450).await;
    assert_eq!(rig.subscribes(), 1);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_detached_when_the_shard_changes_hands_is_neither_lost_nor_stored_twice() {
    let rig = Rig::new().await;
    let (worker, throttle) = with_a_stalled_store(&rig, 300).await;
    assert_eq!(feed(&worker, STORE), "detached");
    worker.stop().await;
    let left = rig.lease().await;
    assert!(position(&left, DELIVERY) > position(&left, STORE));
    rig.aws.faults().clear(throttle);
    let next = rig.start_with("b", small(&rig));
    trickle(&rig, 300..320).await;
    rig.stored_once(320).await;
    until("both are at the tip", || feed(&next, STORE) == "live").await;
    until("both are at the tip", || feed(&next, DELIVERY) == "live").await;
    next.stop().await;
}

#[tokio::test(start_paused = true)]
async fn l4_a_reshard_does_not_make_the_healthy_lane_wait_for_the_stalled_one() {
    let rig = Rig::new().await;
    let (worker, throttle) = with_a_stalled_store(&rig, 200).await;
    let split = rig.kinesis.split_shard().stream_name(STREAM);
    let split = split.shard_to_split("shardId-000000000000");
    split.new_starting_hash_key((1_u128 << 127).to_string()).send().await.unwrap();
    trickle(&rig, 200..260).await;
    let lanes = |worker: &Worker| {
        let shards = worker.handle.status().shards.into_iter();
        shards.map(|s| (s.shard_id, [s.lanes[0].feed, s.lanes[1].feed])).collect::<BTreeMap<_, _>>()
    };
    until("the children are read", || lanes(&worker).len() == 3).await;
    until("deliveries go on in the children", || {
        lanes(&worker).iter().skip(1).all(|(_, feeds)| feeds[DELIVERY] == "live")
    })
    .await;
    let feeds = lanes(&worker);
    assert_eq!(feeds["shardId-000000000000"], ["detached", "done"]);
    assert!(feeds.values().skip(1).all(|feeds| feeds[STORE] == "closed"), "{feeds:?}");
    let leases = rig.leases().await;
    assert!(leases.values().skip(1).all(|child| !position(child, STORE).has_moved()));
    rig.aws.faults().clear(throttle);
    rig.stored_once(260).await;
    let kept = rig.stored.kept();
    let of_parent =
        |message: &store::Message| &*message.position.shard_id == "shardId-000000000000";
    let last = kept.iter().rposition(of_parent).unwrap();
    let first = kept.iter().position(|message| !of_parent(message)).unwrap();
    assert!(last < first, "L4: a child's record was stored before a parent's");
    until("the parent is finished", || lanes(&worker).len() == 2).await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn c2_what_passed_the_retention_is_written_down_with_its_lane_and_its_range() {
    let rig = Rig::new().await;
    let (worker, throttle) = with_a_stalled_store(&rig, 300).await;
    let status = worker.handle.status().shards.remove(0);
    let left_ms = [STORE, DELIVERY].map(|lane| status.lanes[lane].time_to_loss_ms);
    assert!(left_ms[STORE] + 10_000 < left_ms[DELIVERY], "{left_ms:?}: the alarm before the loss");
    worker.stop().await;
    let left = rig.lease().await;
    // The stream keeps records for a day.
    sleep(Duration::from_secs(25 * 60 * 60)).await;
    rig.aws.faults().clear(throttle);
    let first = rig.put_numbers(300..320).await.remove(0);
    let worker = rig.start_with("a", small(&rig));
    until("the new records are stored", || rig.stored.payloads().contains(&"319".to_owned())).await;
    let letters = DeliveryStore::new(rig.dynamodb.clone(), APP);
    let default = IntegrationName::parse("default").unwrap();
    let now_ms = crate::clock::wall_ms(&rig.time);
    let letters = letters.list_dead_letters(&default, None, 10, now_ms).await.unwrap().letters;
    let losses: Vec<serde_json::Value> = letters
        .iter()
        .filter(|letter| letter.reason == DeadReason::LostToRetention)
        .map(|letter| serde_json::from_slice(&letter.payload).unwrap())
        .collect();
    let of_store = losses.iter().find(|loss| loss["pipeline"] == PIPELINES[STORE]).unwrap();
    assert_eq!(of_store["after"], position(&left, STORE).to_string());
    assert_eq!(of_store["before"], first.as_str());
    assert_eq!(of_store["shard"], "shardId-000000000000");
    worker.stop().await;
}
