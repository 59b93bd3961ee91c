//! Ranges: a destination that is down or behind, for how long it may be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use store::{DeadReason, OpenRange, Subscription, SubscriptionId};
use tokio::time::sleep;

use super::{SOON, secs};
use crate::async_delivery::options::CourierOptions;
use crate::async_delivery::testing::{Behaviour, Offered, World, subscription};
use crate::batch::LeaseCheck;
use crate::clock::wall_ms;

const HOST: &str = "receiver.example";

fn receiver() -> Subscription {
    subscription("sub", "https://receiver.example/")
}

/// Offers so many messages, over ten keys in turn, that say which they are.
fn offer(world: &World, numbers: std::ops::Range<u64>) -> Offered {
    let record = |n: u64| (format!("key-{}", n % 10), format!("{{\"number\":{n}}}"));
    let records: Vec<_> = numbers.map(record).collect();
    let (batch, offered) = world.batch_of(&records, &LeaseCheck::new(|| true));
    world.handle.accept(batch).expect("the courier has room");
    offered
}

async fn ranges(world: &World) -> Vec<OpenRange> {
    world.deliveries.list_ranges(&SubscriptionId::parse("sub").unwrap()).await.unwrap()
}

async fn until_no_range_is_held(world: &World, within: Duration) {
    world.until("no range is open", within, || world.handle.stats().ranges_open == 0).await;
}

async fn until_no_range(world: &World, within: Duration) {
    until_no_range_is_held(world, within).await;
    assert_eq!(ranges(world).await, []);
}

/// What is parked: it comes when it is due, whatever was delivered since.
async fn parked_ids(world: &World) -> BTreeSet<String> {
    let id = SubscriptionId::parse("sub").unwrap();
    let page = world.deliveries.list(&id, None, 1_000).await.unwrap();
    page.deliveries.into_iter().map(|parked| parked.key.message.to_string()).collect()
}

/// The numbers that the receiver took, in order, but for those that were parked.
fn taken(world: &World, parked: &BTreeSet<String>) -> Vec<u64> {
    let got = world.receivers.got(HOST).into_iter();
    let got = got.filter(|got| got.accepted && !parked.contains(&got.id));
    let number = |body: &[u8]| {
        let body: serde_json::Value = serde_json::from_slice(body).unwrap();
        body["number"].as_u64().unwrap()
    };
    got.map(|got| number(&got.body)).collect()
}

fn in_order_by_key(numbers: &[u64]) -> bool {
    let mut last = BTreeMap::new();
    numbers.iter().all(|n| last.insert(n % 10, *n).is_none_or(|before| before < *n))
}

#[tokio::test(start_paused = true)]
async fn a_range_meets_the_live_messages_without_gap_or_overlap() {
    let mut sub = receiver();
    sub.policy.concurrency = 1;
    let world = World::with_queue(&[sub], 200).await;
    let (mut all, mut parked) = (Vec::new(), BTreeSet::new());
    let mut next = 0;
    for tenth in 0..600 {
        match tenth {
            100 => world.receivers.set(HOST, Behaviour::IsDown),
            300 => {
                parked = parked_ids(&world).await;
                world.receivers.set(HOST, Behaviour::Takes(Duration::from_millis(10)));
            }
            _ => {}
        }
        all.push(offer(&world, next..next + 7));
        next += 7;
        sleep(Duration::from_millis(100)).await;
    }
    let ids: BTreeSet<String> = all.iter().flat_map(|offered| offered.ids.clone()).collect();
    until_no_range(&world, secs(30)).await;
    world.until("all are delivered", secs(60), || world.receivers.accepted(HOST) == ids).await;
    let taken = taken(&world, &parked);
    assert!(in_order_by_key(&taken));
    let once: BTreeSet<u64> = taken.iter().copied().collect();
    assert_eq!(once.len(), taken.len(), "nothing is delivered twice");
    assert!(world.handle.stats().destinations[0].parked < 40);
    for offered in &all {
        world.settled(offered, SOON).await;
    }
}

#[tokio::test(start_paused = true)]
async fn before_the_stream_loses_it_a_range_is_spilled_and_past_the_cap_given_up_in_few_letters() {
    let options =
        CourierOptions { spill_cap: 60, sweep_interval: secs(10), ..CourierOptions::new("worker") };
    let world = World::with_options(&[receiver()], options).await;
    world.stream.keep_for(secs(3_600));
    world.receivers.set(HOST, Behaviour::IsDown);
    let mut ids = BTreeSet::new();
    for minute in 0..90u64 {
        let offered = offer(&world, minute * 4..(minute + 1) * 4);
        world.settled(&offered, SOON).await;
        ids.extend(offered.ids);
        world.stream.trim(wall_ms(&world.time) - 3_600_000);
        sleep(secs(60)).await;
    }
    let parked = world.parked("sub").await;
    assert!((50..=60).contains(&parked), "{parked} are parked");
    world.receivers.set(HOST, Behaviour::Accepts);
    until_no_range(&world, secs(120)).await;
    world.until_none_parked("sub", secs(60)).await;
    let letters = world.dead_letters().await;
    assert!(letters.iter().all(|letter| letter.reason == DeadReason::RangeGivenUp), "{letters:?}");
    let given_up: u64 = letters
        .iter()
        .map(|letter| serde_json::from_slice::<serde_json::Value>(&letter.payload).unwrap())
        .map(|told| told["messages"].as_u64().expect("counted"))
        .sum();
    let accepted = world.receivers.accepted(HOST);
    assert!(accepted.is_subset(&ids));
    assert_eq!(accepted.len() as u64 + given_up, ids.len() as u64, "delivered or told");
    assert!(!letters.is_empty() && letters.len() < 20, "{} letters", letters.len());
    assert!(given_up > 60, "{given_up}");
    println!(
        "{} messages, {parked} spilled, {given_up} given up in {} letters",
        ids.len(),
        letters.len()
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_owed_to_a_subscription_that_is_deleted_is_one_letter() {
    let world = World::with(&[receiver()]).await;
    world.receivers.set(HOST, Behaviour::IsDown);
    for n in 0..20 {
        let offered = offer(&world, n * 10..(n + 1) * 10);
        world.settled(&offered, SOON).await;
    }
    assert_eq!(ranges(&world).await.len(), 1);
    let now_ms = wall_ms(&world.time);
    world.subscriptions.delete(&SubscriptionId::parse("sub").unwrap(), now_ms).await.unwrap();
    until_no_range(&world, secs(10)).await;
    let mut letters = world.dead_letters().await;
    letters.retain(|letter| letter.reason == DeadReason::RangeGivenUp);
    assert_eq!(letters.len(), 1);
    assert!(letters[0].detail.contains("deleted"), "{}", letters[0].detail);
}

#[tokio::test(start_paused = true)]
async fn what_its_owner_left_of_a_range_is_delivered_when_nobody_owns_the_shard() {
    let world = World::with(&[receiver()]).await;
    world.receivers.set(HOST, Behaviour::IsDown);
    let lease = LeaseCheck::new(|| true);
    let mut ids = BTreeSet::new();
    for _ in 0..10 {
        let (batch, offered) = world.batch(20, &lease);
        world.handle.accept(batch).unwrap();
        world.settled(&offered, SOON).await;
        ids.extend(offered.ids);
    }
    // The lanes of the shard ended, and its lease with them.
    lease.mark_lost();
    world.stream.end();
    world.until("the range is given back", secs(5), || world.handle.stats().ranges_open == 0).await;
    assert_eq!(ranges(&world).await.len(), 1);
    world.receivers.set(HOST, Behaviour::Accepts);
    world.until("all are delivered", secs(90), || world.receivers.accepted(HOST) == ids).await;
    until_no_range(&world, secs(10)).await;
}

#[tokio::test(start_paused = true)]
async fn a_range_of_a_shard_that_goes_on_is_given_up_at_its_tip_by_who_has_no_lease() {
    let world = World::with(&[receiver()]).await;
    world.receivers.set(HOST, Behaviour::IsDown);
    let lease = LeaseCheck::new(|| true);
    let mut ids = BTreeSet::new();
    for _ in 0..10 {
        let (batch, offered) = world.batch(20, &lease);
        world.handle.accept(batch).unwrap();
        world.settled(&offered, SOON).await;
        ids.extend(offered.ids);
    }
    // Its owner is gone, and whoever is the next does not know of the range.
    lease.mark_lost();
    world.until("the range is given back", secs(5), || world.handle.stats().ranges_open == 0).await;
    let left = ranges(&world).await.remove(0);
    world.receivers.set(HOST, Behaviour::Accepts);
    world.until("all are delivered", secs(90), || world.receivers.accepted(HOST) == ids).await;
    until_no_range_is_held(&world, secs(10)).await;
    let given_up = ranges(&world).await.remove(0);
    assert!(
        given_up.from.sequence > left.from.sequence,
        "it is closed by an owner, and goes on from here"
    );
    assert_ne!(given_up.claim, left.claim);
}

#[tokio::test(start_paused = true)]
async fn while_a_range_cannot_be_written_nothing_is_settled_by_it() {
    use local_aws::{Effect, Fault, Service};
    let world = World::with_queue(&[receiver()], 16).await;
    world.receivers.set(HOST, Behaviour::Takes(Duration::from_millis(200)));
    let fault = Fault::new(Service::Dynamodb, Effect::Throttle).resource("app-deliveries");
    let first = offer(&world, 0..1);
    world.settled(&first, SOON).await;
    let fault = world.aws.faults().inject(fault);
    let offered = offer(&world, 1..301);
    sleep(secs(30)).await;
    assert_eq!(offered.state(), crate::batch::AckState::Outstanding);
    assert!(world.aws.faults().clear(fault));
    world.settled(&offered, secs(10)).await;
    let all = || world.receivers.accepted(HOST).is_superset(&offered.ids);
    world.until("all are delivered", secs(60), all).await;
    until_no_range(&world, secs(30)).await;
    assert_eq!(world.parked("sub").await, 0, "a burst parks nothing");
}
