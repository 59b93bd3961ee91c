//! How a lease ends when something breaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lease_manager::{FleetHandle, LaneName, LeaseRecord, WorkerId};
use local_aws::{Effect, Fault, Service};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::rig::{Rig, until};
use crate::PIPELINES;
use crate::batch::{LaneBatch, LeaseCheck, ShardContext};
use crate::budget::Budget;
use crate::clock::wall_ms;
use crate::integration::Integrations;
use crate::lane::{Lane, Sink};
use crate::polling::PollingOptions;
use crate::reader::{Readers, StartingAt};
use crate::service;
use crate::shard_consumer::{Exit, ShardConsumer, ShardConsumerOptions, Track};
use crate::status::Registry;
use crate::turns::Turns;

/// Settles what it is offered at once, or drops it.
#[derive(Default)]
struct Told {
    drop: AtomicBool,
}

impl Sink for Told {
    fn offer(&self, batch: LaneBatch) -> Result<(), LaneBatch> {
        if !self.drop.load(Ordering::Relaxed) {
            batch.ack.settle(batch.entries().len());
        }
        Ok(())
    }
}

/// The first lease of a fleet, in a consumer whose lanes do as they are told.
async fn consumer(rig: &Rig, fleet: &FleetHandle, sink: &Arc<Told>) -> ShardConsumer {
    let lease = fleet.next_lease().await.unwrap();
    let shard = Arc::new(ShardContext {
        stream_arn: Arc::from(&*rig.stream.arn),
        shard_id: Arc::from(lease.lease().shard_id.as_str()),
        fence: lease.lease().counter.0,
        starting_hash_key: 0,
        ending_hash_key: u128::MAX,
    });
    let (validity, options) = (lease.validity(), rig.options("a"));
    let position = lease.lease().checkpoint.clone();
    let readers = Readers::new(
        options.fan_out,
        PollingOptions::default(),
        rig.kinesis.clone().into(),
        Budget::new(64 << 20),
        rig.time.clone(),
        &options.streams,
    );
    let readers = Arc::new(readers).of(&shard, 7).unwrap();
    let now_ms = wall_ms(&rig.time);
    let track = |name| {
        let name = LaneName::parse(name).unwrap();
        let share = Budget::new(1 << 20).share();
        let lane = Lane::new(name, Arc::clone(sink) as Arc<dyn Sink>, share, position.clone());
        Track::new(lane, now_ms)
    };
    let day = Duration::from_secs(24 * 60 * 60);
    ShardConsumer {
        check: LeaseCheck::new(move || validity.is_valid()),
        live: readers.live(StartingAt::new(position.clone(), None)),
        readers,
        integrations: Arc::new(Integrations::compile(Vec::new()).unwrap()),
        decode: options.decode,
        tracks: PIPELINES.map(track),
        keeper: Arc::clone(sink) as Arc<dyn Sink>,
        options: ShardConsumerOptions::default(),
        turns: Turns::new(1_000),
        time: rig.time.clone(),
        registered: Arc::new(Registry::default()).enter(&shard, [now_ms; 2], day, now_ms),
        shard,
        lease,
    }
}

struct Run {
    exit: JoinHandle<Exit>,
    check: LeaseCheck,
    fence: u64,
    manager: JoinHandle<lease_manager::Exit>,
    stop: CancellationToken,
}

async fn run(rig: &Rig, sink: &Arc<Told>) -> Run {
    let (manager, fleet) = rig.manager("a");
    let stop = CancellationToken::new();
    let manager = tokio::spawn(manager.run(stop.clone()));
    let consumer = consumer(rig, &fleet, sink).await;
    let (check, fence) = (consumer.check.clone(), consumer.shard.fence);
    Run { exit: tokio::spawn(consumer.run()), check, fence, manager, stop }
}

impl Run {
    /// Why it failed, and the lease right after.
    async fn failed(self, rig: &Rig) -> (String, LeaseRecord) {
        let ended = tokio::time::timeout(Duration::from_secs(120), self.exit).await;
        let Exit::Failed(why) = ended.expect("it ends").unwrap() else { panic!("it did not fail") };
        assert!(self.check.is_lost(), "the sinks let go of its work");
        let lease = rig.lease().await;
        assert!(lease.counter.0 > self.fence, "the lease is given up");
        self.stop.cancel();
        self.manager.await.unwrap();
        (why, lease)
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_acknowledgement_fails_the_consumer_and_skips_nothing() {
    let rig = Rig::new().await;
    let sink = Arc::new(Told::default());
    let run = run(&rig, &sink).await;
    until("the first position is written", || rig.lease_writes() == 2).await;
    rig.put_numbers(0..1).await;
    sleep(Duration::from_secs(1)).await;
    sink.drop.store(true, Ordering::Relaxed);
    let dropped = rig.put_numbers(1..2).await.remove(0);
    let (why, lease) = run.failed(&rig).await;
    assert!(why.contains("dropped a batch"), "{why}");
    assert!(lease.checkpoint < lease_manager::Checkpoint::at(dropped), "it is read again");
}

#[tokio::test(start_paused = true)]
async fn a_report_that_leaves_a_message_out_does_not_lose_it() {
    let rig = Rig::new().await;
    let worker = rig.start("a");
    rig.put_numbers(0..3).await;
    rig.stored_once(3).await;
    rig.stored.forget.store(1, Ordering::Relaxed);
    rig.put_numbers(3..4).await;
    rig.stored_once(4).await;
    assert!(rig.subscribes() > 1, "its shard was read again from the last settled record");
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_shard_whose_consumer_is_gone_is_kept_and_tried_again() {
    let rig = Rig::new().await;
    let run = run(&rig, &Arc::new(Told::default())).await;
    until("the first position is written", || rig.lease_writes() == 2).await;
    let gone = rig.kinesis.deregister_stream_consumer().consumer_arn(&rig.consumer_arn);
    gone.send().await.unwrap();
    let before = rig.subscribes();
    until("it is tried again and again", || rig.subscribes() >= before + 5).await;
    let lease = rig.lease().await;
    assert_eq!(lease.counter.0, run.fence, "it is there for nobody: nobody else could do better");
    assert!(!lease.is_finished(), "it is no shard's end");
    assert!(!run.check.is_lost() && !run.exit.is_finished());
    run.stop.cancel();
    run.manager.await.unwrap();
}

fn denied() -> Fault {
    let denied = Effect::Refuse {
        status: 400,
        code: "AccessDeniedException".to_owned(),
        message: "not you".to_owned(),
    };
    Fault::new(Service::Kinesis, denied).operation("SubscribeToShard")
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_may_not_be_read_is_kept_while_there_is_nobody_else() {
    let rig = Rig::new().await;
    rig.aws.faults().inject(denied());
    let worker = rig.start("a");
    until("it is tried again and again", || rig.subscribes() >= 10).await;
    let lease = rig.lease().await;
    assert_eq!((lease.owner.as_ref().map(WorkerId::as_str), lease.counter.0), (Some("a"), 1));
    rig.aws.faults().clear_all();
    rig.put_numbers(0..1).await;
    rig.stored_once(1).await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_one_worker_cannot_read_goes_to_another_and_not_back() {
    let rig = Rig::new().await;
    rig.aws.faults().inject(denied().caller("a"));
    let a = rig.start("a");
    until("a tries to read it", || rig.subscribes() > 0).await;
    let b = rig.start("b");
    rig.put_numbers(0..1).await;
    rig.stored_once(1).await;
    sleep(Duration::from_secs(120)).await;
    let lease = rig.lease().await;
    assert_eq!(lease.owner.as_ref().map(WorkerId::as_str), Some("b"));
    assert_eq!(lease.counter.0, 2, "it moved once");
    assert_eq!(lease.declined_by.map(|by| by.worker.to_string()).as_deref(), Some("a"));
    let why = lease.reason.unwrap();
    assert!(why.contains("AccessDeniedException"), "{why}");
    a.stop().await;
    b.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_gone_without_a_word_gives_its_lease_up() {
    let rig = Rig::new().await;
    let run = run(&rig, &Arc::new(Told::default())).await;
    until("the first position is written", || rig.lease_writes() == 2).await;
    run.exit.abort();
    assert!(run.exit.await.is_err());
    assert!(run.check.is_lost(), "the sinks let go of its work");
    until("it is given up and taken again", || rig.lease_writes() == 4).await;
    run.stop.cancel();
    run.manager.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_store_that_breaks_ends_the_process_with_a_reason() {
    let rig = Rig::new().await;
    rig.stored.panic.store(true, Ordering::Relaxed);
    let worker = rig.start("a");
    rig.put_numbers(0..1).await;
    let exit = worker.processor.await.unwrap();
    let service::Exit::Failed(why) = exit else { panic!("{exit:?}") };
    assert!(why.contains("sync-store") && why.contains("panic"), "{why}");
}
