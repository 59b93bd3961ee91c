//! Order per key while the worker lives: attempts of a key are in stream order, retries included, and keys do not wait for each other.
//! Over owners and reshards: `chains`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use store::DeliveryOrder;
use tokio::time::{Instant, sleep};

use super::{SOON, secs};
use crate::async_delivery::testing::{Behaviour, Offered, World, subscription};
use crate::batch::LeaseCheck;

/// Offers messages of these keys, in this order, whose bodies say the key and count up within it.
fn offer(
    world: &World,
    keys: &[usize],
    counts: &mut BTreeMap<usize, usize>,
    lease: &LeaseCheck,
) -> Offered {
    let record = |key: &usize| {
        let count = counts.entry(*key).or_default();
        let payload = format!("{{\"key\":{key},\"count\":{count}}}");
        *count += 1;
        (format!("key-{key}"), payload)
    };
    let records: Vec<_> = keys.iter().map(record).collect();
    let (batch, offered) = world.batch_of(&records, lease);
    world.handle.accept(batch).expect("the courier has room");
    offered
}

/// Key and count of a body.
fn read(body: &[u8]) -> (usize, usize) {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap();
    let number = |name: &str| usize::try_from(body[name].as_u64().unwrap()).unwrap();
    (number("key"), number("count"))
}

async fn ordered(queue: usize) -> World {
    let mut sub = subscription("sub", "https://receiver.example/");
    sub.policy.order = DeliveryOrder::Key;
    sub.policy.retry_schedule_ms = vec![0, 600_000];
    World::with_queue(&[sub], queue).await
}

#[tokio::test(start_paused = true)]
async fn o1_attempts_of_a_key_are_in_stream_order_retries_included_and_never_two_at_once() {
    let mut sub = subscription("sub", "https://receiver.example/");
    sub.policy.order = DeliveryOrder::Key;
    sub.policy.retry_schedule_ms = vec![0, 100, 100, 100, 100, 100, 100, 100];
    let world = World::with_queue(&[sub], 10_000).await;
    world.receivers.set("receiver.example", Behaviour::Wavers);
    let mut rng = fastrand::Rng::with_seed(3);
    let (mut counts, mut all) = (BTreeMap::new(), Vec::new());
    for _ in 0..40 {
        let keys: Vec<usize> = (0..25).map(|_| rng.usize(0..20)).collect();
        all.push(offer(&world, &keys, &mut counts, &LeaseCheck::new(|| true)));
        sleep(Duration::from_millis(rng.u64(0..20))).await;
    }
    let began = Instant::now();
    for offered in &all {
        world.settled(offered, secs(60)).await;
    }
    world
        .until("all are delivered", secs(60), || {
            world.receivers.accepted("receiver.example").len() == 1_000
        })
        .await;
    let mut last: BTreeMap<usize, (usize, bool, Instant)> = BTreeMap::new();
    let mut again = 0;
    for got in world.receivers.got("receiver.example") {
        let (key, count) = read(&got.body);
        if let Some((before, taken, ended)) =
            last.insert(key, (count, got.accepted, got.at + got.took))
        {
            assert_eq!(count, before + usize::from(taken), "key {key}");
            assert!(got.at >= ended, "key {key}: {count} began before {before} had ended");
            again += usize::from(!taken);
        }
    }
    assert!(again > 50, "{again} retries");
    assert_eq!(last.values().map(|(count, ..)| count + 1).sum::<usize>(), 1_000);
    // One after the other they would take 20 s, and their retries 10 s more.
    assert!(began.elapsed() < secs(10), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_poisoned_key_holds_back_itself_alone() {
    let world = ordered(10_000).await;
    world.receivers.set("receiver.example", Behaviour::HangsOn("\"key\":0,"));
    let (mut counts, good) = (BTreeMap::new(), LeaseCheck::new(|| true));
    let poisoned = offer(&world, &[0; 400], &mut counts, &good);
    let began = Instant::now();
    for _ in 0..20 {
        let offered = offer(&world, &[1, 2, 3, 4, 5, 6, 7, 8], &mut counts, &good);
        world.settled(&offered, SOON).await;
    }
    assert!(began.elapsed() < secs(12), "{:?}", began.elapsed());
    let got = world.receivers.got("receiver.example");
    let of_it = got.iter().filter(|got| read(&got.body).0 == 0).count();
    assert_eq!((of_it, got.len()), (1, 161), "one attempt of it is under way");
    world
        .until("what may not wait behind it is parked", secs(5), || {
            world.handle.stats().destinations[0].parked > 100
        })
        .await;
    world.receivers.set("receiver.example", Behaviour::Accepts);
    world.settled(&poisoned, secs(60)).await;
    world.until_none_parked("sub", secs(700)).await;
    assert_eq!(world.receivers.accepted("receiver.example").len(), 160 + 400);
    let got = world.receivers.got("receiver.example");
    let of_it: Vec<usize> = got
        .iter()
        .map(|got| read(&got.body))
        .filter(|(key, _)| *key == 0)
        .map(|(_, n)| n)
        .collect();
    let expected: Vec<usize> = std::iter::once(0).chain(0..400).collect();
    assert_eq!(of_it, expected, "one retry of the first, then the others as they came");
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_lease_is_in_doubt_is_not_overtaken_by_its_key() {
    let world = ordered(1_000).await;
    let trusted = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&trusted);
    let mut counts = BTreeMap::new();
    let doubt = LeaseCheck::new(move || asked.load(Ordering::Relaxed));
    let first = offer(&world, &[1, 1], &mut counts, &doubt);
    let second = offer(&world, &[1, 2, 1], &mut counts, &LeaseCheck::new(|| true));
    sleep(secs(1)).await;
    let got = world.receivers.got("receiver.example");
    assert_eq!(got.iter().map(|got| read(&got.body)).collect::<Vec<_>>(), [(2, 0)]);
    trusted.store(true, Ordering::Relaxed);
    world.settled(&first, SOON).await;
    world.settled(&second, SOON).await;
    let of_one: Vec<usize> = world
        .receivers
        .got("receiver.example")
        .iter()
        .map(|got| read(&got.body))
        .filter_map(|(key, count)| (key == 1).then_some(count))
        .collect();
    assert_eq!(of_one, [0, 1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_lets_the_next_of_a_key_go_on_and_a_stop_parks_what_waits() {
    let world = ordered(1_000).await;
    let mut counts = BTreeMap::new();
    let lost = LeaseCheck::new(|| false);
    let first = offer(&world, &[1], &mut counts, &lost);
    let second = offer(&world, &[1], &mut counts, &LeaseCheck::new(|| true));
    sleep(secs(1)).await;
    assert!(world.receivers.got("receiver.example").is_empty(), "the first has the key");
    lost.mark_lost();
    world.settled(&second, SOON).await;
    assert_eq!(first.state(), crate::batch::AckState::Dropped);
    world.receivers.set("receiver.example", Behaviour::Hangs);
    let waiting = offer(&world, &[1; 10], &mut counts, &LeaseCheck::new(|| true));
    sleep(secs(1)).await;
    let drained = world.handle.drain(secs(4)).await;
    assert_eq!(drained.unsettled, 0);
    assert_eq!(waiting.state(), crate::batch::AckState::Settled);
    assert_eq!(world.parked("sub").await, 10);
}
