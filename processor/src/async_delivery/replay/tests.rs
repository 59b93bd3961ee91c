//! Replays over an embedded Kinesis and DynamoDB, with a whole courier, in simulated time.

use std::collections::BTreeSet;

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use store::{
    DeliveryOrder, DeliveryPolicy, MessageId, OnExhausted, Replay, ReplayId, ReplayOf,
    Subscription, SubscriptionId,
};
use tokio::task::JoinHandle;

use super::*;
use crate::async_delivery::testing::{Behaviour, World, subscription};
use crate::batch::LeaseCheck;
use crate::fan_out::FanOutOptions;
use crate::polling::PollingOptions;
use crate::reader::StreamOptions;
use crate::reader::testing::client;

const HOST: &str = "receiver.example";
/// Small, so that a few messages reach it.
const MAX_AHEAD: usize = 200;
const MINUTE: Duration = Duration::from_secs(60);

/// A stream, and a subscription that began after everything in it.
struct Stage {
    world: World,
    kinesis: aws_sdk_kinesis::Client,
    readers: Arc<Readers>,
    replays: ReplayStore,
}

impl Stage {
    async fn new(policy: DeliveryPolicy) -> Stage {
        let mut late = subscription("sub", &format!("https://{HOST}/"));
        (late.created_at_ms, late.policy) = (i64::MAX / 2, policy);
        let world = World::with(&[late]).await;
        let kinesis = client(world.aws.http_client());
        kinesis.create_stream().stream_name("s").shard_count(1).send().await.unwrap();
        let found = kinesis.describe_stream_summary().stream_name("s").send().await.unwrap();
        let arn = found.stream_description_summary.unwrap().stream_arn;
        let readers = Readers::new(
            FanOutOptions::default(),
            PollingOptions::default(),
            kinesis.clone().into(),
            Budget::new(64 << 20),
            world.time.clone(),
            &[StreamOptions::polling(arn)],
        );
        let replays = world.deliveries.replays();
        Stage { world, kinesis, readers: Arc::new(readers), replays }
    }

    /// Puts messages of these numbers, each under a key of its own.
    async fn put(&self, numbers: std::ops::Range<u32>) {
        let entry = |n: u32| {
            let data = Blob::new(format!("{{\"number\":{n}}}"));
            let entry = PutRecordsRequestEntry::builder().partition_key(format!("k{n}")).data(data);
            entry.build().unwrap()
        };
        for some in numbers.collect::<Vec<_>>().chunks(400) {
            let entries = some.iter().map(|n| entry(*n)).collect();
            let put = self.kinesis.put_records().stream_name("s").set_records(Some(entries));
            assert_eq!(put.send().await.unwrap().failed_record_count(), Some(0));
            sleep(Duration::from_secs(1)).await;
        }
    }

    async fn split(&self) {
        let half = (u128::MAX / 2).to_string();
        let split = self.kinesis.split_shard().stream_name("s").new_starting_hash_key(half);
        split.shard_to_split("shardId-000000000000").send().await.unwrap();
    }

    fn worker(&self, name: &str) -> (JoinHandle<()>, CancellationToken) {
        let stop = CancellationToken::new();
        let replayer = Replayer::new(ReplayerParts {
            replays: self.replays.clone(),
            deliveries: self.world.deliveries.clone(),
            views: self.world.handle.views().unwrap(),
            readers: Arc::clone(&self.readers),
            budget: Budget::new(8 << 20),
            max_ahead: MAX_AHEAD,
            integrations: Arc::clone(&self.world.integrations),
            decode: DecodeOptions::default(),
            time: self.world.time.clone(),
            worker: name.to_owned(),
            seed: 5,
        });
        (tokio::spawn(Box::pin(replayer.run(stop.clone()))), stop)
    }

    async fn ask(&self, id: &str, what: impl FnOnce(i64) -> ReplayOf, rate: u32) -> ReplayId {
        let now_ms = wall_ms(&self.world.time);
        let id = ReplayId::parse(id).unwrap();
        let subscription = SubscriptionId::parse("sub").unwrap();
        let replay = Replay::new(id.clone(), subscription, what(now_ms), rate, now_ms);
        self.replays.create(&replay).await.unwrap();
        id
    }

    async fn shown(&self, id: &ReplayId) -> Replay {
        self.replays.get(id, wall_ms(&self.world.time)).await.unwrap().unwrap()
    }

    async fn over(&self, id: &ReplayId, within: Duration) -> Replay {
        let began = tokio::time::Instant::now();
        loop {
            let replay = self.shown(id).await;
            if replay.state.is_over() {
                return replay;
            }
            assert!(began.elapsed() < within, "not over within {within:?}: {replay:?}");
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn delivered(&self, count: usize, within: Duration) {
        let what = format!("{count} are delivered");
        self.world.until(&what, within, || self.numbers().len() == count).await;
    }

    /// The different messages that the receiver took.
    fn numbers(&self) -> BTreeSet<String> {
        self.world.receivers.accepted(HOST)
    }
}

fn everything(now_ms: i64) -> ReplayOf {
    ReplayOf::Range { from_ms: 0, to_ms: now_ms, only: Vec::new() }
}

#[tokio::test(start_paused = true)]
async fn a_range_is_replayed_over_a_reshard_each_message_once_and_nothing_behind_its_end() {
    let stage = Stage::new(DeliveryPolicy::default()).await;
    stage.put(0..60).await;
    stage.split().await;
    stage.put(60..140).await;
    let id = stage.ask("rpl_test", everything, 1_000).await;
    stage.put(140..170).await;
    let (_running, _stop) = stage.worker("one");
    let done = stage.over(&id, MINUTE).await;
    assert_eq!((done.state, done.detail.as_str()), (ReplayState::Done, ""));
    assert_eq!((done.counts.read, done.counts.matched, done.counts.parked), (140, 140, 140));
    let parts = stage.replays.parts(&id).await.unwrap();
    assert!(parts.len() == 3 && parts.iter().all(|part| part.is_done), "{parts:?}");
    stage.delivered(140, MINUTE).await;
    stage.world.until_none_parked("sub", MINUTE).await;
    assert_eq!(stage.world.receivers.got(HOST).len(), 140, "each once");
}

#[tokio::test(start_paused = true)]
async fn another_worker_goes_on_from_the_progress_of_one_that_died() {
    let stage = Stage::new(DeliveryPolicy::default()).await;
    stage.put(0..400).await;
    let id = stage.ask("rpl_test", everything, 25).await;
    let (first, _stop) = stage.worker("one");
    stage.world.until("it is under way", MINUTE, || stage.numbers().len() >= 100).await;
    first.abort();
    let (_second, _stop) = stage.worker("two");
    let done = stage.over(&id, MINUTE).await;
    assert_eq!((done.claims, done.runner.as_deref()), (2, Some("two")));
    stage.delivered(400, MINUTE).await;
    let again = stage.world.receivers.got(HOST).len() - 400;
    assert!(again <= 75, "{again} came again: no more than a few chunks lie behind the progress");
}

#[tokio::test(start_paused = true)]
async fn who_stops_gives_it_back_at_once_and_who_cancels_ends_it() {
    let stage = Stage::new(DeliveryPolicy::default()).await;
    stage.put(0..400).await;
    let id = stage.ask("rpl_test", everything, 25).await;
    let (first, stop) = stage.worker("one");
    stage.world.until("it is under way", MINUTE, || stage.numbers().len() >= 50).await;
    stop.cancel();
    first.await.unwrap();
    let now_ms = wall_ms(&stage.world.time);
    assert_eq!(stage.replays.claimable(now_ms).await.unwrap(), std::slice::from_ref(&id));
    let (_second, _stop) = stage.worker("two");
    stage.world.until("it goes on", MINUTE, || stage.numbers().len() >= 150).await;
    assert!(stage.replays.cancel(&id, wall_ms(&stage.world.time)).await.unwrap());
    sleep(MINUTE).await;
    let delivered = stage.numbers().len();
    assert!(delivered < 250, "{delivered} of 400: it ended");
    assert_eq!(stage.shown(&id).await.state, ReplayState::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_is_down_holds_the_replay_up_and_nothing_is_lost() {
    let stage = Stage::new(DeliveryPolicy::default()).await;
    stage.world.receivers.set(HOST, Behaviour::IsDown);
    stage.put(0..350).await;
    let id = stage.ask("rpl_test", everything, 10_000).await;
    let (_running, _stop) = stage.worker("one");
    sleep(MINUTE).await;
    let waiting = stage.shown(&id).await;
    assert_eq!(
        (waiting.state, waiting.claims),
        (ReplayState::Running, 1),
        "it waits, and keeps its claim"
    );
    let parked = stage.world.parked("sub").await;
    assert!((150..=MAX_AHEAD).contains(&parked), "{parked} are parked ahead of it");
    stage.world.receivers.set(HOST, Behaviour::Accepts);
    stage.over(&id, 10 * MINUTE).await;
    stage.delivered(350, 10 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_parked_is_due_now_and_what_was_given_up_is_delivered_after_all() {
    let hourly = vec![0, 3_600_000];
    let policy = DeliveryPolicy { retry_schedule_ms: hourly, ..DeliveryPolicy::default() };
    let stage = Stage::new(policy).await;
    stage.put(0..30).await;
    stage.world.receivers.set(HOST, Behaviour::Answers(422));
    let (_running, _stop) = stage.worker("one");
    let attempts = || stage.world.receivers.got(HOST).len();
    let id = stage.ask("rpl_range", everything, 1_000).await;
    stage.over(&id, MINUTE).await;
    stage.world.until("all failed once", MINUTE, || attempts() == 30).await;

    let id = stage.ask("rpl_parked", |_| ReplayOf::Parked, 1_000).await;
    let done = stage.over(&id, MINUTE).await;
    assert_eq!((done.counts.read, done.counts.parked), (30, 30));
    stage
        .world
        .until("all failed twice, long before their time", MINUTE, || attempts() == 60)
        .await;
    stage.world.until_none_parked("sub", MINUTE).await;
    assert_eq!(stage.world.dead_letters().await.len(), 30);

    stage.world.receivers.set(HOST, Behaviour::Accepts);
    let one = MessageId::derive(&stage.world.dead_letters().await[7].position);
    let unknown = MessageId::parse(&format!("msg_{:a>26}", "")).unwrap();
    let some = |_| ReplayOf::DeadLettered { only: vec![one, unknown] };
    let id = stage.ask("rpl_one", some, 1_000).await;
    let done = stage.over(&id, MINUTE).await;
    assert_eq!((done.state, done.counts.matched), (ReplayState::Done, 1));
    assert!(done.detail.starts_with("1 of the 2 messages"), "{}", done.detail);
    stage.delivered(1, MINUTE).await;
    assert_eq!(stage.world.dead_letters().await.len(), 29, "it alone");

    let all = |_| ReplayOf::DeadLettered { only: Vec::new() };
    let id = stage.ask("rpl_dead", all, 1_000).await;
    let done = stage.over(&id, MINUTE).await;
    assert_eq!((done.state, done.counts.matched, done.counts.parked), (ReplayState::Done, 29, 29));
    stage.delivered(30, MINUTE).await;
    assert!(stage.world.dead_letters().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn o1_a_chain_that_stopped_goes_on_in_order_when_what_stopped_it_is_replayed() {
    let stage = Stage::new(DeliveryPolicy {
        retry_schedule_ms: vec![0, 1_000],
        order: DeliveryOrder::Key,
        on_exhausted: OnExhausted::Stop,
        ..DeliveryPolicy::default()
    })
    .await;
    let world = &stage.world;
    let id = SubscriptionId::parse("sub").unwrap();
    let late = world.subscriptions.get(&id).await.unwrap().unwrap();
    world.subscriptions.put(&Subscription { created_at_ms: 0, ..late }).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    world.receivers.set(HOST, Behaviour::Answers(422));
    let record = |name: &str| ("k".to_owned(), format!("{{\"name\":\"{name}\"}}"));
    let (batch, offered) = world.batch_of(&["a", "b"].map(record), &LeaseCheck::new(|| true));
    world.handle.accept(batch).expect("the courier has room");
    world.settled(&offered, MINUTE).await;
    let bodies = || {
        let got = world.receivers.got(HOST).into_iter();
        got.map(|got| String::from_utf8(got.body.to_vec()).unwrap()).collect::<Vec<_>>()
    };
    world.until("it is tried twice", MINUTE, || bodies().len() == 2).await;
    sleep(MINUTE).await;
    world.receivers.set(HOST, Behaviour::Accepts);
    let (_running, _stop) = stage.worker("one");
    let id = stage.ask("rpl_dead", |_| ReplayOf::DeadLettered { only: Vec::new() }, 1_000).await;
    let done = stage.over(&id, MINUTE).await;
    assert_eq!((done.state, done.counts.matched, done.counts.parked), (ReplayState::Done, 1, 1));
    world.until_none_parked("sub", MINUTE).await;
    let expected = ["a", "a", "a", "b"].map(|name| record(name).1);
    assert_eq!(bodies(), expected);
    assert!(world.dead_letters().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn messages_are_found_by_their_ids_and_a_subscription_that_is_off_gets_nothing() {
    let stage = Stage::new(DeliveryPolicy::default()).await;
    stage.put(0..50).await;
    let (_running, _stop) = stage.worker("one");
    let all = stage.ask("rpl_all", everything, 1_000).await;
    stage.over(&all, MINUTE).await;
    stage.delivered(50, MINUTE).await;
    let one = stage.numbers().into_iter().nth(20).unwrap();
    let only = vec![
        MessageId::parse(&one).unwrap(),
        MessageId::parse(&format!("msg_{:a>26}", "")).unwrap(),
    ];
    let some = |now_ms| ReplayOf::Range { from_ms: 0, to_ms: now_ms, only };
    let id = stage.ask("rpl_some", some, 1_000).await;
    let done = stage.over(&id, MINUTE).await;
    assert_eq!((done.state, done.counts.matched), (ReplayState::Done, 1));
    assert!(done.detail.starts_with("1 of the 2 messages"), "{}", done.detail);
    stage
        .world
        .until("it comes again", MINUTE, || stage.world.receivers.got(HOST).len() == 51)
        .await;

    let sub = SubscriptionId::parse("sub").unwrap();
    let mut off = stage.world.subscriptions.get(&sub).await.unwrap().unwrap();
    off.enabled = false;
    stage.world.subscriptions.put(&off).await.unwrap();
    let id = stage.ask("rpl_off", everything, 1_000).await;
    let failed = stage.over(&id, MINUTE).await;
    assert_eq!(failed.state, ReplayState::Failed);
    assert!(failed.detail.contains("switched off"), "{}", failed.detail);
}
