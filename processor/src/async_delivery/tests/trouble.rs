//! The courier when the store, the lease, the worker or the clock is against it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use local_aws::{Effect, Fault, Service};
use store::{DeliveryKey, MessageId, SubscriptionId};
use tokio::time::{Instant, sleep};

use super::{SOON, secs};
use crate::async_delivery::courier::CourierExit;
use crate::async_delivery::testing::{Behaviour, Offered, World, subscription};
use crate::batch::{AckState, LeaseCheck};
use crate::clock::wall_ms;

#[tokio::test(start_paused = true)]
async fn while_parking_fails_nothing_is_settled_and_nothing_is_lost() {
    let world = World::with(&[subscription("sub", "https://receiver.example/")]).await;
    world.receivers.set("receiver.example", Behaviour::IsDown);
    let fault = world
        .aws
        .faults()
        .inject(Fault::new(Service::Dynamodb, Effect::Throttle).resource("app-deliveries"));
    let offered = world.offer(40);
    sleep(secs(30)).await;
    assert_eq!(offered.state(), AckState::Outstanding);
    assert!(world.aws.faults().clear(fault));
    world.settled(&offered, secs(10)).await;
    assert!(world.parked("sub").await < 40, "the others wait in the stream");
    world.receivers.set("receiver.example", Behaviour::Accepts);
    world
        .until("all are delivered", secs(60), || {
            world.receivers.accepted("receiver.example") == offered.ids
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_stale_view_hands_batches_back_until_it_is_fresh_again() {
    let world = World::with(&[subscription("sub", "https://receiver.example/")]).await;
    let fault = world
        .aws
        .faults()
        .inject(Fault::new(Service::Dynamodb, Effect::InternalError).resource("app-access"));
    world.until("the courier pauses", secs(5), || world.handle.stats().paused).await;
    let (batch, offered) = world.batch(5, &LeaseCheck::new(|| true));
    let batch = world.handle.accept(batch).unwrap_err();
    assert!(world.aws.faults().clear(fault));
    world.until("the courier goes on", secs(5), || !world.handle.stats().paused).await;
    world.handle.accept(batch).unwrap();
    world.settled(&offered, SOON).await;
    assert_eq!(world.receivers.accepted("receiver.example"), offered.ids);
}

#[tokio::test(start_paused = true)]
async fn a_doubtful_lease_holds_deliveries_and_a_lost_one_lets_them_go() {
    let world = World::with(&[subscription("sub", "https://receiver.example/")]).await;
    let valid = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&valid);
    let lease = LeaseCheck::new(move || asked.load(Ordering::Acquire));
    let (batch, doubtful) = world.batch(5, &lease);
    world.handle.accept(batch).unwrap();
    sleep(secs(5)).await;
    assert!(world.receivers.got("receiver.example").is_empty(), "nothing is attempted in doubt");
    assert_eq!(doubtful.state(), AckState::Outstanding);
    valid.store(true, Ordering::Release);
    world.settled(&doubtful, SOON).await;
    assert_eq!(world.receivers.accepted("receiver.example"), doubtful.ids);

    valid.store(false, Ordering::Release);
    let (batch, lost) = world.batch(5, &lease);
    world.handle.accept(batch).unwrap();
    sleep(secs(1)).await;
    lease.mark_lost();
    world.until("the batch is let go", SOON, || lost.state() == AckState::Dropped).await;
    assert_eq!(world.receivers.got("receiver.example").len(), 5);
    assert_eq!(world.parked("sub").await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_drain_parks_what_is_not_finished_in_time() {
    let mut sub = subscription("sub", "https://receiver.example/");
    sub.policy.concurrency = 4;
    let world = World::with(&[sub]).await;
    world.receivers.set("receiver.example", Behaviour::Hangs);
    let offered = world.offer(50);
    let began = Instant::now();
    let drained = world.handle.drain(secs(2)).await;
    assert_eq!((drained.unsettled, offered.state()), (0, AckState::Settled));
    assert!(began.elapsed() <= secs(2));
    assert_eq!(world.parked("sub").await, 50);
    let (batch, _) = world.batch(1, &LeaseCheck::new(|| true));
    assert!(world.handle.accept(batch).is_err(), "nothing is accepted any more");
    world.stop.cancel();
    assert_eq!(world.running.await.unwrap(), CourierExit::Stopped);
}

#[tokio::test(start_paused = true)]
async fn an_idle_drain_takes_no_time() {
    let world = World::with(&[subscription("sub", "https://receiver.example/")]).await;
    let offered = world.offer(50);
    let began = Instant::now();
    assert_eq!(world.handle.drain(secs(10)).await.unsettled, 0);
    assert!(began.elapsed() < secs(1), "{:?}", began.elapsed());
    assert_eq!(world.receivers.accepted("receiver.example"), offered.ids);
}

#[tokio::test(start_paused = true)]
async fn a_stop_parks_what_is_under_way() {
    let world = World::with(&[subscription("sub", "https://receiver.example/")]).await;
    world.receivers.set("receiver.example", Behaviour::Hangs);
    let offered = world.offer(20);
    sleep(secs(1)).await;
    world.stop.cancel();
    assert_eq!(world.running.await.unwrap(), CourierExit::Stopped);
    assert_eq!(
        world
            .deliveries
            .parked_count(&SubscriptionId::parse("sub").unwrap(), 100)
            .await
            .unwrap()
            .count,
        20
    );
    assert_eq!(offered.state(), AckState::Settled);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_read_again_is_parked_once() {
    let world = World::with(&[subscription("sub", "https://receiver.example/")]).await;
    world.receivers.set("receiver.example", Behaviour::Answers(422));
    let lease = LeaseCheck::new(|| true);
    let (batch, first) = world.batch(6, &lease);
    let (again, second) = world.lane_batch(Arc::clone(&batch.batch), &lease);
    world.handle.accept(batch).unwrap();
    world.settled(&first, SOON).await;
    world.handle.accept(again).unwrap();
    world.settled(&second, SOON).await;
    assert_eq!(world.parked("sub").await, 6);
    world.receivers.set("receiver.example", Behaviour::Accepts);
    world.until_none_parked("sub", secs(60)).await;
    let got = world.receivers.got("receiver.example");
    let accepted = got.iter().filter(|got| got.accepted).count();
    assert_eq!(accepted, 6, "and delivered once");
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_worker_claimed_is_delivered_by_another_when_the_claim_ends() {
    let world = World::with(&[subscription("sub", "https://receiver.example/")]).await;
    world.receivers.set("receiver.example", Behaviour::Answers(500));
    let offered = world.offer(1);
    world.settled(&offered, SOON).await;
    world.receivers.set("receiver.example", Behaviour::Accepts);
    let key = DeliveryKey {
        subscription: SubscriptionId::parse("sub").unwrap(),
        message: MessageId::parse(offered.ids.first().unwrap()).unwrap(),
    };
    // It is not due yet, so the dead worker's clock was ahead of ours.
    let ahead_ms = wall_ms(&world.time) + 10_000;
    let claimed = world.deliveries.claim(&key, "dead", ahead_ms, secs(30)).await.unwrap();
    assert!(claimed.is_some());
    let took = world
        .until("another delivers it", secs(60), || {
            world.receivers.accepted("receiver.example") == offered.ids
        })
        .await;
    assert!(took > secs(35) && took < secs(45), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_while_the_store_and_the_receiver_both_misbehave() {
    let mut sub = subscription("sub", "https://receiver.example/");
    sub.policy.retry_schedule_ms = vec![5_000; 50];
    let world = World::with(&[sub]).await;
    let faults = [
        Fault::new(Service::Dynamodb, Effect::Throttle).chance(0.3),
        Fault::new(Service::Dynamodb, Effect::LostReply).chance(0.1),
        Fault::new(Service::Dynamodb, Effect::ErrorAfterApply).chance(0.1),
        Fault::new(Service::Dynamodb, Effect::Partial(0.5)).chance(0.3),
    ];
    let ids: Vec<_> = faults
        .into_iter()
        .map(|fault| world.aws.faults().inject(fault.resource("app-deliveries")))
        .collect();
    let mut rng = fastrand::Rng::with_seed(5);
    let mut all = Vec::new();
    for _ in 0..30 {
        let behaviour = match rng.u8(0..5) {
            0 => Behaviour::IsDown,
            1 => Behaviour::Answers(503),
            2 => Behaviour::Hangs,
            _ => Behaviour::Accepts,
        };
        world.receivers.set("receiver.example", behaviour);
        all.push(world.offer(7));
        sleep(secs(1)).await;
    }
    for id in ids {
        world.aws.faults().clear(id);
    }
    world.receivers.set("receiver.example", Behaviour::Accepts);
    world
        .until("all is settled", secs(60), || {
            all.iter().all(|offered| offered.state() == AckState::Settled)
        })
        .await;
    world.until_none_parked("sub", secs(120)).await;
    let expected: BTreeSet<String> = all.iter().flat_map(|o| o.ids.iter().cloned()).collect();
    assert_eq!(world.receivers.accepted("receiver.example"), expected);
    assert!(world.dead_letters().await.is_empty());
}

/// Each attempt of a delivery that does not succeed at once is kept, also the one that succeeds in the end.
#[tokio::test(start_paused = true)]
async fn the_attempts_of_a_failing_delivery_are_kept() {
    let world = World::with(&[subscription("sub", "https://receiver.example/")]).await;
    world.receivers.set("receiver.example", Behaviour::Answers(500));
    let failing = world.offer(1);
    world.settled(&failing, SOON).await;
    world.receivers.set("receiver.example", Behaviour::Accepts);
    world.until_none_parked("sub", secs(60)).await;
    let fine = world.offer(1);
    world.settled(&fine, SOON).await;
    let attempts = async |offered: &Offered| {
        let message = MessageId::parse(offered.ids.first().unwrap()).unwrap();
        let subscription = SubscriptionId::parse("sub").unwrap();
        let key = DeliveryKey { subscription, message };
        world.deliveries.attempts(&key, 0).await.unwrap()
    };
    let kept = attempts(&failing).await;
    let outcomes: Vec<(u32, &str)> = kept.iter().map(|a| (a.number, a.outcome.as_str())).collect();
    assert_eq!(outcomes, [(1, "unhealthy"), (2, "accepted")]);
    assert!(kept[0].detail.starts_with("answered 500"), "{kept:?}");
    assert!(attempts(&fine).await.is_empty(), "what succeeds at once leaves nothing");
}
