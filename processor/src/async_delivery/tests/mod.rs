//! The courier as a whole, over the real store in an embedded DynamoDB, in simulated time.

mod aws;
mod chains;
mod day;
mod events;
mod grants;
mod order;
mod ranges;
mod trouble;

use std::collections::BTreeSet;
use std::time::Duration;

use store::{DeadReason, DeliveryPolicy, IntegrationName, SubscriptionId};
use tokio::time::{Instant, sleep};

use super::breaker::BreakerState;
use super::courier::CourierExit;
use super::testing::{Behaviour, World, subscription};
use crate::batch::{LeaseCheck, Malformed};
use crate::clock::wall_ms;

const SOON: Duration = Duration::from_secs(2);

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[tokio::test(start_paused = true)]
async fn every_message_reaches_every_subscription_that_wants_it_and_is_then_settled() {
    let mut narrow = subscription("narrow", "https://narrow.example/");
    narrow.entity_prefix = Some("entity-3".into());
    let world = World::with(&[subscription("all", "https://all.example/"), narrow]).await;
    let offered = world.offer(100);
    world.settled(&offered, SOON).await;
    assert_eq!(world.receivers.accepted("all.example"), offered.ids);
    assert_eq!(world.receivers.accepted("narrow.example").len(), 10);
    assert!(world.receivers.got("all.example").iter().all(|got| got.attempt == 1));
    let stats = world.handle.stats();
    assert_eq!((stats.batches_in_hand, stats.destinations[0].delivered), (0, 100));
    world.stop.cancel();
    assert_eq!(world.running.await.unwrap(), CourierExit::Stopped);
}

#[tokio::test(start_paused = true)]
async fn malformed_and_unwanted_entries_are_settled_without_an_attempt() {
    let mut picky = subscription("picky", "https://picky.example/");
    picky.entity_prefix = Some("nobody".into());
    let world = World::with(&[picky]).await;
    let malformed = Malformed {
        reason: DeadReason::NotJson,
        detail: "not JSON".into(),
        integration: IntegrationName::parse("default").unwrap(),
    };
    let (batch, offered) =
        world.batch_where(3, &LeaseCheck::new(|| true), |n| (n == 1).then_some(malformed.clone()));
    world.handle.accept(batch).unwrap();
    world.settled(&offered, SOON).await;
    assert!(world.receivers.got("picky.example").is_empty());
    assert!(world.dead_letters().await.is_empty(), "the sync-store lane writes those");
}

#[tokio::test(start_paused = true)]
async fn a_minute_of_outage_parks_little_and_ends_a_minute_later_with_the_same_ids() {
    let world = World::with(&[subscription("sub", "https://receiver.example/")]).await;
    world.receivers.set("receiver.example", Behaviour::IsDown);
    let mut ids = BTreeSet::new();
    for _ in 0..60 {
        let offered = world.offer(4);
        ids.extend(offered.ids.iter().cloned());
        world.settled(&offered, SOON).await;
        sleep(secs(1)).await;
    }
    assert_eq!(world.handle.stats().destinations[0].breaker, BreakerState::Open);
    assert!(world.parked("sub").await < 20, "what made the breaker open");
    assert_eq!(world.handle.stats().ranges_open, 1);
    world.receivers.set("receiver.example", Behaviour::Accepts);
    world
        .until("all are delivered", secs(60), || {
            world.receivers.accepted("receiver.example") == ids
        })
        .await;
    world.until_none_parked("sub", secs(10)).await;
    let attempts = world.handle.stats().destinations[0].attempts;
    assert!(attempts < 240 + 100, "an outage is probed, not hammered: {attempts} attempts");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_fails_follows_its_schedule_and_then_becomes_a_dead_letter() {
    let mut sub = subscription("sub", "https://receiver.example/");
    sub.policy = DeliveryPolicy { retry_schedule_ms: vec![0, 5_000, 60_000], ..sub.policy };
    let world = World::with(&[sub]).await;
    world.receivers.set("receiver.example", Behaviour::Answers(422));
    let offered = world.offer(1);
    world.settled(&offered, SOON).await;
    world
        .until("three attempts", secs(120), || world.receivers.got("receiver.example").len() == 3)
        .await;
    world.until_none_parked("sub", secs(10)).await;
    let got = world.receivers.got("receiver.example");
    assert_eq!(got.iter().map(|g| g.attempt).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(got.iter().all(|g| offered.ids.contains(&g.id)), "the id never changes");
    let gaps = [got[1].at - got[0].at, got[2].at - got[1].at];
    assert!(gaps[0] >= secs(4) && gaps[0] < secs(9), "{gaps:?}");
    assert!(gaps[1] >= secs(48) && gaps[1] < secs(75), "{gaps:?}");
    let letters = world.dead_letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].reason, letters[0].attempts), (DeadReason::DeliveryExhausted, 3));
    assert_eq!(letters[0].payload, got[0].body);
    assert!(letters[0].detail.contains("422"), "{}", letters[0].detail);
}

#[tokio::test(start_paused = true)]
async fn gone_disables_the_subscription_and_nothing_is_attempted_any_more() {
    let world = World::with(&[subscription("sub", "https://receiver.example/")]).await;
    world.receivers.set("receiver.example", Behaviour::Answers(410));
    let offered = world.offer(1);
    world.settled(&offered, SOON).await;
    world.until("the lane is gone", secs(5), || world.handle.stats().destinations.is_empty()).await;
    let stored =
        world.subscriptions.get(&SubscriptionId::parse("sub").unwrap()).await.unwrap().unwrap();
    assert!(!stored.enabled);
    let letters = world.dead_letters().await;
    assert_eq!(letters.iter().map(|l| l.reason).collect::<Vec<_>>(), [DeadReason::DestinationGone]);
    let later = world.offer(5);
    world.settled(&later, SOON).await;
    assert_eq!(world.receivers.got("receiver.example").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_black_hole_costs_nobody_else_anything() {
    let mut hole = subscription("hole", "https://hole.example/");
    hole.policy.concurrency = 2;
    let world = World::with(&[hole, subscription("well", "https://well.example/")]).await;
    world.receivers.set("hole.example", Behaviour::Hangs);
    for _ in 0..10 {
        let offered = world.offer(50);
        let began = Instant::now();
        world
            .until("the healthy one has them", SOON, || {
                world.receivers.accepted("well.example").is_superset(&offered.ids)
            })
            .await;
        assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    }
    // Of its own messages few time out; the others wait in the stream once its breaker opens.
    let last = world.offer(1);
    world.settled(&last, secs(90)).await;
    world
        .until("every batch is settled", secs(90), || world.handle.stats().batches_in_hand == 0)
        .await;
    let parked = world.parked("hole").await;
    assert!(parked < 10 && world.handle.stats().ranges_open == 1, "{parked} are parked");
    world.receivers.set("hole.example", Behaviour::Accepts);
    world
        .until("the hole has all of them too", secs(120), || {
            world.receivers.accepted("hole.example").len() == 501
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_opens_a_range_and_comes_back_by_itself() {
    let mut slow = subscription("slow", "https://slow.example/");
    slow.policy.concurrency = 1;
    let world = World::with_queue(&[slow], 64).await;
    world.receivers.set("slow.example", Behaviour::Takes(Duration::from_millis(50)));
    let offered = world.offer(150);
    world
        .until("what the queue cannot hold waits in the stream", secs(5), || {
            world.handle.stats().ranges_open == 1
        })
        .await;
    world.settled(&offered, secs(20)).await;
    world
        .until("all are delivered as fast as it takes them", secs(20), || {
            world.receivers.accepted("slow.example") == offered.ids
        })
        .await;
    assert_eq!(world.parked("slow").await, 0);
    world.until("it is closed", secs(10), || world.handle.stats().ranges_open == 0).await;
    assert_eq!(world.receivers.got("slow.example").len(), 150, "each exactly once");
}

#[tokio::test(start_paused = true)]
async fn the_rate_holds_for_live_and_parked_deliveries_together() {
    let mut limited = subscription("limited", "https://limited.example/");
    limited.policy.rate_per_second = Some(10);
    let world = World::with(&[limited]).await;
    let offered = world.offer(100);
    let took = world.settled(&offered, secs(20)).await;
    assert!(took >= secs(9) && took < secs(12), "{took:?}");
    assert_eq!(world.receivers.accepted("limited.example"), offered.ids);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured() {
    let world = World::with(&[subscription("sub", "https://receiver.example/")]).await;
    world.receivers.set("receiver.example", Behaviour::AsksToWait(503, "90"));
    let offered = world.offer(1);
    world.settled(&offered, SOON).await;
    world.receivers.set("receiver.example", Behaviour::Accepts);
    let took = world
        .until("it is delivered", secs(120), || {
            world.receivers.accepted("receiver.example") == offered.ids
        })
        .await;
    assert!(took >= secs(87) && took < secs(95), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_gets_what_arrived_after_its_creation_even_if_the_view_was_older() {
    let world = World::with(&[]).await;
    for round in 0..20 {
        let host = format!("late-{round}.example");
        let before = world.offer(3);
        sleep(Duration::from_millis(1)).await;
        let mut late = subscription(&format!("late-{round}"), &format!("https://{host}/"));
        late.created_at_ms = wall_ms(&world.time);
        world.subscriptions.put(&late).await.unwrap();
        let after = world.offer(3);
        world.settled(&before, SOON).await;
        world.settled(&after, SOON).await;
        world.until("it has them", SOON, || world.receivers.accepted(&host).len() >= 3).await;
        assert_eq!(world.receivers.accepted(&host), after.ids, "round {round}");
        sleep(Duration::from_millis(37)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn deliveries_of_a_deleted_subscription_become_dead_letters() {
    let mut sub = subscription("sub", "https://receiver.example/");
    sub.policy.retry_schedule_ms = vec![5_000; 20];
    let world = World::with(&[sub]).await;
    world.receivers.set("receiver.example", Behaviour::Answers(422));
    let offered = world.offer(10);
    world.settled(&offered, SOON).await;
    let now_ms = wall_ms(&world.time);
    world.subscriptions.delete(&SubscriptionId::parse("sub").unwrap(), now_ms).await.unwrap();
    world.until_none_parked("sub", secs(60)).await;
    let letters = world.dead_letters().await;
    assert_eq!(letters.len(), 10);
    assert!(letters.iter().all(|letter| letter.reason == DeadReason::DestinationGone));
}
