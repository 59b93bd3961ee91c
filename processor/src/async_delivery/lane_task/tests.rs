//! A lane whose destination takes several messages a call, in paused time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use store::{DeliveryOrder, DeliveryPolicy, Message};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::*;
use crate::async_delivery::delivery::{Gauge, Track};
use crate::async_delivery::destination::{Capacity, Outgoing};
use crate::async_delivery::events::Told;
use crate::async_delivery::lane::{LaneHandle, lane};
use crate::async_delivery::ledger::{Ledger, Stores};
use crate::async_delivery::outcome::{Failure, FailureKind, Outcome};
use crate::async_delivery::testing::{Offered, World, mandate, owner, subscription};
use crate::async_delivery::watch::{WatchPace, Watcher};
use crate::batch::{AckState, LeaseCheck};

/// How long each call of the scripted destination takes.
const CALL: Duration = Duration::from_millis(50);

/// Payloads by call.
type Calls = Arc<Mutex<Vec<Vec<String>>>>;

/// Notes what each call carries and answers for each message as its payload says.
struct Scripted {
    capacity: Capacity,
    calls: Calls,
}

impl Sender for Scripted {
    fn attempt(&self, batch: Vec<Outgoing>) -> BoxFuture<'static, Vec<Outcome>> {
        let payload = |out: &Outgoing| String::from_utf8(out.message.payload.to_vec()).unwrap();
        let payloads: Vec<String> = batch.iter().map(payload).collect();
        let outcomes = payloads.iter().map(|payload| answer(payload)).collect();
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(payloads);
        Box::pin(async move {
            sleep(CALL).await;
            outcomes
        })
    }

    fn most_at_once(&self) -> Capacity {
        self.capacity
    }

    fn size(&self, message: &Message) -> usize {
        message.payload.len()
    }
}

fn answer(payload: &str) -> Outcome {
    let kind = match payload {
        text if text.contains("fails") => FailureKind::Unhealthy,
        text if text.contains("refused") => FailureKind::Refused,
        text if text.contains("unsendable") => FailureKind::Unsendable,
        _ => return Outcome::Accepted,
    };
    Outcome::Failed(Failure { kind, detail: "scripted".into(), retry_after: None })
}

/// One lane with its ledger, over the store of a world.
struct Stage {
    world: World,
    handle: LaneHandle,
    calls: Calls,
    gauge: Arc<Gauge>,
}

impl Stage {
    async fn new(policy: DeliveryPolicy, capacity: Capacity) -> Stage {
        let world = World::with(&[]).await;
        let mut wish = subscription("sub", "https://receiver.example/");
        wish.policy = policy;
        let stop = world.stop.clone();
        let pace = WatchPace {
            interval: Duration::from_secs(1),
            shortest: Duration::from_millis(100),
            max_age: Duration::from_secs(2),
        };
        let (watcher, mut views) = Watcher::new(world.subscriptions.clone(), pace);
        tokio::spawn(watcher.run(stop.clone()));
        let stores = Stores {
            deliveries: world.deliveries.clone(),
            subscriptions: world.subscriptions.clone(),
            views: views.clone(),
            told: Told::default(),
        };
        let (ledger, ledger_handle) = Ledger::new(stores, world.time.clone(), 1_024, 1);
        tokio::spawn(ledger.run(stop.clone(), stop.clone()));
        let (handle, ends) = lane(Arc::new(mandate(wish, owner()).unwrap()), 1_000, stop.clone());
        let tools = LaneTools {
            workshop: world.workshop(),
            time: world.time.clone(),
            worker: "w".into(),
            ledger: ledger_handle,
            // Nobody routes here: what is given back is parked.
            returns: mpsc::channel(1).0,
            views: views.clone(),
            breaker: BreakerPolicy::default(),
            abort: CancellationToken::new(),
            deliveries: world.deliveries.clone(),
            shards: OpenShards::default(),
        };
        let calls = Calls::default();
        let mut task = LaneTask::new(ends, tools, 7);
        task.sender = Arc::new(Scripted { capacity, calls: Arc::clone(&calls) });
        views.next().await.unwrap();
        tokio::spawn(task.run());
        Stage { world, handle, calls, gauge: Arc::default() }
    }

    /// Offers messages of these keys and payloads to the lane.
    fn offer(&self, records: &[(String, String)]) -> Offered {
        let (batch, offered) = self.world.batch_of(records, &LeaseCheck::new(|| true));
        let track = Track::new(batch, &self.world.integrations, &self.gauge);
        for index in 0..records.len() {
            self.handle.offer(track.delivery(index)).expect("the lane has room");
        }
        track.release();
        offered
    }

    fn calls(&self) -> Vec<Vec<String>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn of_one_key(payloads: impl IntoIterator<Item = String>) -> Vec<(String, String)> {
    payloads.into_iter().map(|payload| ("key".to_owned(), payload)).collect()
}

fn policy(concurrency: u32) -> DeliveryPolicy {
    DeliveryPolicy { concurrency, ..DeliveryPolicy::default() }
}

const TEN: Capacity = Capacity { messages: 10, bytes: 1_000 };
const SOON: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn a_busy_lane_fills_its_calls_and_an_idle_one_does_not_wait() {
    let stage = Stage::new(policy(2), TEN).await;
    let lone = stage.offer(&of_one_key(["0".to_owned()]));
    assert!(stage.world.settled(&lone, SOON).await < CALL * 2, "it waited for company");
    assert_eq!(stage.calls(), [["0"]]);
    let began = Instant::now();
    let many = stage.offer(&of_one_key((1..=100).map(|n| n.to_string())));
    stage.world.settled(&many, SOON).await;
    let calls = stage.calls();
    assert_eq!(calls.len(), 11, "{calls:?}");
    let sent: Vec<String> = calls.concat();
    assert_eq!(sent, (0..=100).map(|n| n.to_string()).collect::<Vec<_>>(), "in stream order");
    // Ten calls, two at once.
    assert!((CALL * 5..CALL * 7).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(stage.handle.stats().delivered, 101);
}

#[tokio::test(start_paused = true)]
async fn a_call_stays_within_its_bytes_and_what_is_too_large_is_alone() {
    let stage = Stage::new(policy(1), Capacity { messages: 10, bytes: 100 }).await;
    let sizes = [40, 40, 40, 300, 10, 90, 100, 1];
    let offered = stage.offer(&of_one_key(sizes.map(|size| "x".repeat(size))));
    stage.world.settled(&offered, SOON).await;
    let sent: Vec<Vec<usize>> =
        stage.calls().iter().map(|call| call.iter().map(String::len).collect()).collect();
    assert_eq!(sent, [vec![40, 40], vec![40], vec![300], vec![10, 90], vec![100], vec![1]]);
}

#[tokio::test(start_paused = true)]
async fn o1_a_call_never_carries_two_of_a_key_that_is_to_be_in_order() {
    let ordered = DeliveryPolicy { order: DeliveryOrder::Key, ..policy(4) };
    let stage = Stage::new(ordered, TEN).await;
    let mut rng = fastrand::Rng::with_seed(5);
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    let mut record = || {
        let key = rng.usize(0..15);
        let count = counts.entry(key).or_default();
        *count += 1;
        (format!("key-{key}"), format!("{key}:{count}"))
    };
    let records: Vec<_> = (0..300).map(|_| record()).collect();
    let offered = stage.offer(&records);
    stage.world.settled(&offered, Duration::from_secs(60)).await;
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    let calls = stage.calls();
    for call in &calls {
        let keys: BTreeSet<&str> =
            call.iter().map(|payload| payload.split_once(':').unwrap().0).collect();
        assert_eq!(keys.len(), call.len(), "two of a key in {call:?}");
        for payload in call {
            let (key, count) = payload.split_once(':').unwrap();
            let before = last.insert(key.to_owned(), count.parse().unwrap()).unwrap_or(0);
            assert_eq!(count.parse::<usize>().unwrap(), before + 1, "key {key}");
        }
    }
    assert_eq!(last.values().sum::<usize>(), 300);
    assert!(calls.len() < 150, "keys share calls: {}", calls.len());
}

#[tokio::test(start_paused = true)]
async fn each_message_of_a_call_is_settled_on_its_own() {
    let stage = Stage::new(policy(1), TEN).await;
    let payloads = ["fine-1", "fails", "refused", "unsendable", "fine-2"];
    let offered = stage.offer(&of_one_key(payloads.map(str::to_owned)));
    stage.world.settled(&offered, SOON).await;
    assert_eq!(stage.calls().len(), 1);
    let stats = stage.handle.stats();
    assert_eq!((stats.delivered, stats.failed, stats.attempts), (2, 3, 5));
    assert_eq!(stage.world.parked("sub").await, 2);
    let letters = stage.world.dead_letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].reason, DeadReason::DeliveryRejected);
    assert_eq!(letters[0].payload.as_ref(), b"unsendable");
    assert_eq!(letters[0].attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_is_one_failure_to_the_breaker_and_a_probe_is_alone() {
    use crate::async_delivery::breaker::BreakerState;

    let stage = Stage::new(policy(1), TEN).await;
    let fail_ten = || of_one_key((0..10).map(|n| format!("fails-{n}")));
    for failed in 1..=5 {
        let offered = stage.offer(&fail_ten());
        stage.world.settled(&offered, SOON).await;
        let expected = if failed < 5 { BreakerState::Closed } else { BreakerState::Open };
        assert_eq!(stage.handle.stats().breaker, expected, "after {failed}");
    }
    sleep(Duration::from_secs(2)).await;
    let offered = stage.offer(&of_one_key((0..10).map(|n| format!("fine-{n}"))));
    stage.world.settled(&offered, SOON).await;
    assert_eq!(stage.calls()[5], ["fine-0"], "the probe");
    assert_eq!(stage.calls()[6].len(), 9, "the others, once it had proved that it is back");
    assert_eq!(stage.handle.stats().breaker, BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_rate_counts_messages_and_not_calls() {
    let limited = DeliveryPolicy { rate_per_second: Some(50), ..policy(16) };
    let stage = Stage::new(limited, TEN).await;
    let began = Instant::now();
    let offered = stage.offer(&of_one_key((0..200).map(|n| n.to_string())));
    stage.world.settled(&offered, Duration::from_secs(20)).await;
    let took = began.elapsed();
    assert!(
        (Duration::from_millis(3_800)..Duration::from_millis(4_300)).contains(&took),
        "{took:?}"
    );
    assert_eq!(offered.state(), AckState::Settled);
    assert_eq!(stage.calls().concat().len(), 200);
}
