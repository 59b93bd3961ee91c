//! Order over failures, owners and reshards: what failed stands first until it has ended, whoever works it off.

use std::time::Duration;

use store::{DeadReason, DeliveryOrder, OnExhausted, Subscription, SubscriptionId};
use tokio::time::sleep;

use super::{SOON, secs};
use crate::async_delivery::courier::CourierHandle;
use crate::async_delivery::testing::{Behaviour, Offered, World, shard, subscription};
use crate::batch::{AckState, LeaseCheck, ShardContext};
use crate::lane::Sink;

const HOST: &str = "receiver.example";

fn wish(order: DeliveryOrder, retry_schedule_ms: &[u64]) -> Subscription {
    let mut sub = subscription("sub", "https://receiver.example/");
    sub.policy.order = order;
    sub.policy.retry_schedule_ms = retry_schedule_ms.to_vec();
    sub
}

/// Three tries within half a minute, as long as nothing else is asked for.
const PATIENT: [u64; 4] = [0, 5_000, 10_000, 10_000];

/// Offers messages of these keys to a courier, in this shard; their bodies are their names.
fn offer(
    world: &World,
    to: &CourierHandle,
    shard: ShardContext,
    lease: &LeaseCheck,
    records: &[(&str, &str)],
) -> Offered {
    let records: Vec<_> = records
        .iter()
        .map(|(key, name)| ((*key).to_owned(), format!("{{\"name\":\"{name}\"}}")))
        .collect();
    let (batch, offered) = world.batch_in(shard, &records, lease);
    to.accept(batch).expect("the courier has room");
    offered
}

fn name(body: &[u8]) -> String {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap();
    body["name"].as_str().unwrap().to_owned()
}

/// Every attempt that came to the receiver.
fn attempts(world: &World) -> Vec<String> {
    world.receivers.got(HOST).iter().map(|got| name(&got.body)).collect()
}

fn taken(world: &World) -> Vec<String> {
    let got = world.receivers.got(HOST);
    got.iter().filter(|got| got.accepted).map(|got| name(&got.body)).collect()
}

fn range(id: &str, fence: u64, start: u128, end: u128) -> ShardContext {
    ShardContext {
        shard_id: id.into(),
        fence,
        starting_hash_key: start,
        ending_hash_key: end,
        ..shard()
    }
}

fn good() -> LeaseCheck {
    LeaseCheck::new(|| true)
}

#[tokio::test(start_paused = true)]
async fn o1_what_fails_stands_first_and_all_that_follow_wait_durably() {
    let world = World::with(&[wish(DeliveryOrder::Key, &PATIENT)]).await;
    world.receivers.set(HOST, Behaviour::Answers(422));
    let first = offer(&world, &world.handle, shard(), &good(), &[("k", "a"), ("k", "b")]);
    world.settled(&first, SOON).await;
    let second = offer(&world, &world.handle, shard(), &good(), &[("k", "c"), ("l", "x")]);
    world.settled(&second, SOON).await;
    assert_eq!(attempts(&world), ["a", "x"], "one attempt of each key");
    assert_eq!(world.parked("sub").await, 4);
    world.receivers.set(HOST, Behaviour::Accepts);
    world.until("all are delivered", secs(20), || taken(&world).len() == 4).await;
    let of_k: Vec<String> = taken(&world).into_iter().filter(|name| name != "x").collect();
    assert_eq!(of_k, ["a", "b", "c"]);
    world.until_none_parked("sub", SOON).await;
    let last = offer(&world, &world.handle, shard(), &good(), &[("k", "d")]);
    world.settled(&last, SOON).await;
    assert_eq!(taken(&world).last().unwrap(), "d", "the key is free again");
}

#[tokio::test(start_paused = true)]
async fn o1_a_new_owner_goes_on_where_the_last_one_was_which_writes_nothing_any_more() {
    let world = World::with(&[wish(DeliveryOrder::Key, &PATIENT)]).await;
    world.receivers.set(HOST, Behaviour::Answers(422));
    let old = good();
    let first = offer(&world, &world.handle, shard(), &old, &[("k", "a"), ("k", "b")]);
    world.settled(&first, SOON).await;
    let another = world.another().await;
    let new = good();
    let context = ShardContext { fence: 8, ..shard() };
    another.open(&std::sync::Arc::new(ShardContext { fence: 8, ..shard() }), &new);
    sleep(secs(1)).await;
    // The old one does not know yet that it is replaced: what it reads goes nowhere.
    let late = offer(&world, &world.handle, shard(), &old, &[("k", "late")]);
    sleep(secs(1)).await;
    assert_ne!(late.state(), AckState::Settled, "a former owner settles nothing");
    old.mark_lost();
    world.receivers.set(HOST, Behaviour::Accepts);
    let third = offer(&world, &another, context, &new, &[("k", "c")]);
    world.settled(&third, secs(20)).await;
    world.until("all are delivered", secs(20), || taken(&world).len() == 3).await;
    assert_eq!(taken(&world), ["a", "b", "c"]);
    assert!(!attempts(&world).contains(&"late".to_owned()), "its next owner reads it again");
    world.until_none_parked("sub", SOON).await;
}

#[tokio::test(start_paused = true)]
async fn o1_an_idle_shards_chain_goes_on_with_its_new_owner() {
    let world = World::with(&[wish(DeliveryOrder::Key, &PATIENT)]).await;
    world.receivers.set(HOST, Behaviour::Answers(422));
    let old = good();
    let first = offer(&world, &world.handle, shard(), &old, &[("k", "a")]);
    world.settled(&first, SOON).await;
    old.mark_lost();
    world.receivers.set(HOST, Behaviour::Accepts);
    let another = world.another().await;
    another.open(&std::sync::Arc::new(ShardContext { fence: 8, ..shard() }), &good());
    world
        .until("it is delivered, without a message to wake it", secs(20), || taken(&world) == ["a"])
        .await;
}

#[tokio::test(start_paused = true)]
async fn o1_a_key_keeps_its_order_over_a_split() {
    let world = World::with(&[wish(DeliveryOrder::Key, &PATIENT)]).await;
    world.receivers.set(HOST, Behaviour::Answers(422));
    let parent = std::sync::Arc::new(shard());
    let lease = good();
    world.handle.open(&parent, &lease);
    // `key` stands at 0x3c6e.., in the lower half.
    let first = offer(&world, &world.handle, shard(), &lease, &[("key", "a"), ("key", "b")]);
    world.settled(&first, SOON).await;
    world.handle.close(&parent);
    let lower = range("shardId-000000000001", 1, 0, u128::MAX / 2);
    let second = offer(&world, &world.handle, lower, &good(), &[("key", "c")]);
    world.settled(&second, SOON).await;
    assert_eq!(attempts(&world), ["a"]);
    world.receivers.set(HOST, Behaviour::Accepts);
    world.until("all are delivered", secs(30), || taken(&world).len() == 3).await;
    assert_eq!(taken(&world), ["a", "b", "c"]);
    world.until_none_parked("sub", SOON).await;
}

#[tokio::test(start_paused = true)]
async fn o1_both_children_of_a_shard_in_order_wait_for_their_parents_chain_wherever_they_are() {
    let world = World::with(&[wish(DeliveryOrder::Shard, &PATIENT)]).await;
    world.receivers.set(HOST, Behaviour::Answers(422));
    let parent = std::sync::Arc::new(shard());
    let lease = good();
    world.handle.open(&parent, &lease);
    let first = offer(&world, &world.handle, shard(), &lease, &[("k", "a"), ("l", "b")]);
    world.settled(&first, SOON).await;
    assert_eq!(attempts(&world), ["a"], "one at a time, whatever the keys");
    world.handle.close(&parent);
    let (low, high) = (
        range("shardId-000000000001", 1, 0, u128::MAX / 2),
        range("shardId-000000000002", 1, u128::MAX / 2 + 1, u128::MAX),
    );
    let another = world.another().await;
    let right = offer(&world, &another, high, &good(), &[("l", "r")]);
    world.settled(&right, SOON).await;
    sleep(secs(20)).await;
    assert_eq!(attempts(&world), ["a"], "the parent's chain is the left child's owner's");
    world.receivers.set(HOST, Behaviour::Accepts);
    let left = offer(&world, &world.handle, low, &good(), &[("k", "l")]);
    world.settled(&left, SOON).await;
    world.until("all are delivered", secs(30), || taken(&world).len() == 4).await;
    let taken = taken(&world);
    assert_eq!(taken[..2], ["a", "b"], "{taken:?}");
    world.until_none_parked("sub", secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_given_up_is_a_dead_letter_and_the_next_goes_on() {
    let world = World::with(&[wish(DeliveryOrder::Key, &[0, 1_000])]).await;
    world.receivers.set(HOST, Behaviour::HangsOn("poison"));
    let mut sub =
        world.subscriptions.get(&SubscriptionId::parse("sub").unwrap()).await.unwrap().unwrap();
    sub.policy.timeout_ms = 500;
    world.subscriptions.put(&sub).await.unwrap();
    sleep(secs(2)).await;
    let offered = offer(&world, &world.handle, shard(), &good(), &[("k", "poison"), ("k", "b")]);
    world.settled(&offered, secs(5)).await;
    world.until("the next one is delivered", secs(10), || taken(&world) == ["b"]).await;
    assert_eq!(attempts(&world), ["poison", "poison", "b"]);
    let letters = world.dead_letters().await;
    assert_eq!((letters.len(), letters[0].reason), (1, DeadReason::DeliveryExhausted));
    world.until_none_parked("sub", SOON).await;
}

#[tokio::test(start_paused = true)]
async fn by_policy_a_key_stops_at_what_is_given_up_until_it_is_redriven() {
    let mut sub = wish(DeliveryOrder::Key, &[0, 1_000]);
    sub.policy.on_exhausted = OnExhausted::Stop;
    let world = World::with(&[sub]).await;
    world.receivers.set(HOST, Behaviour::Answers(422));
    let offered = offer(&world, &world.handle, shard(), &good(), &[("k", "a"), ("k", "b")]);
    world.settled(&offered, SOON).await;
    world.until("two attempts", secs(10), || attempts(&world).len() == 2).await;
    world.receivers.set(HOST, Behaviour::Accepts);
    sleep(secs(60)).await;
    assert_eq!(attempts(&world), ["a", "a"], "it stopped, and the receiver is well");
    let letters = world.dead_letters().await;
    assert_eq!((letters.len(), letters[0].reason), (1, DeadReason::DeliveryExhausted));
    let (stream, id) =
        (letters[0].position.stream_arn.clone(), SubscriptionId::parse("sub").unwrap());
    let message = store::MessageId::derive(&letters[0].position);
    let now_ms = crate::clock::wall_ms(&world.time);
    assert!(world.deliveries.resume_chain(&id, &stream, &message, now_ms).await.unwrap());
    world.until("both are delivered", secs(10), || taken(&world) == ["a", "b"]).await;
    world.until_none_parked("sub", SOON).await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_in_order_for_a_deleted_subscription_becomes_dead_letters() {
    let world = World::with(&[wish(DeliveryOrder::Key, &[0, 3_600_000])]).await;
    world.receivers.set(HOST, Behaviour::Answers(422));
    let records: Vec<(&str, &str)> = (0..60).map(|n| (["k", "l", "m"][n % 3], "any")).collect();
    let offered = offer(&world, &world.handle, shard(), &good(), &records);
    world.settled(&offered, secs(5)).await;
    let id = SubscriptionId::parse("sub").unwrap();
    let now_ms = crate::clock::wall_ms(&world.time);
    world.subscriptions.delete(&id, now_ms).await.unwrap();
    world.until_none_parked("sub", secs(200)).await;
    let letters = world.dead_letters().await;
    assert_eq!(letters.len(), 60);
    assert!(letters.iter().all(|letter| letter.reason == DeadReason::DestinationGone));
    assert_eq!(world.subscriptions.deleted().await.unwrap().len(), 1, "it is remembered");
}

#[tokio::test(start_paused = true)]
async fn an_outage_leaves_everything_in_order_and_ends_when_it_ends() {
    let world = World::with_queue(&[wish(DeliveryOrder::Key, &PATIENT)], 16).await;
    world.receivers.set(HOST, Behaviour::IsDown);
    let keys = ["k", "l", "m", "n", "o"];
    let mut names = Vec::new();
    for round in 0..40 {
        let all: Vec<(String, String)> =
            keys.iter().map(|key| ((*key).to_owned(), format!("{key}{round:02}"))).collect();
        let records: Vec<(&str, &str)> =
            all.iter().map(|(k, n)| (k.as_str(), n.as_str())).collect();
        let offered = offer(&world, &world.handle, shard(), &good(), &records);
        world.settled(&offered, SOON).await;
        names.extend(all.into_iter().map(|(_, name)| name));
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(world.parked("sub").await, 200);
    world.receivers.set(HOST, Behaviour::Accepts);
    world.until("all are delivered", secs(30), || taken(&world).len() == 200).await;
    for key in keys {
        let of = |names: &[String]| -> Vec<String> {
            names.iter().filter(|name| name.starts_with(key)).cloned().collect()
        };
        assert_eq!(of(&taken(&world)), of(&names), "key {key}");
    }
    world.until_none_parked("sub", SOON).await;
}
