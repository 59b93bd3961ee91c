//! The writer over the real store on an embedded DynamoDB, in paused time.

use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_async::time::StaticTimeSource;
use aws_smithy_types::timeout::TimeoutConfig;
use lease_manager::SequenceNumber;
use local_aws::{Effect, Fault, LocalAws, Service};
use store::{DeadReason, DeliveryStore, DynamoMessages, IntegrationName};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

mod hot_key;
mod notes;

use super::*;
use crate::batch::testing::{At, BatchBuilder};
use crate::batch::{Ack, AckCell, AckState, Batch, LeaseCheck, Malformed, ShardContext};
use crate::integration::Integrations;

const APP: &str = "test";

struct Rig {
    aws: LocalAws,
    dynamodb: aws_sdk_dynamodb::Client,
    writer: WriterHandle,
    progress: Arc<Notify>,
    stop: CancellationToken,
}

impl Rig {
    async fn start() -> Rig {
        Rig::start_with(|store| Arc::new(store)).await
    }

    async fn start_with(over: impl FnOnce(DynamoMessages) -> Arc<dyn store::MessageStore>) -> Rig {
        let integrations = Integrations::compile(Vec::new()).unwrap();
        Rig::start_of(integrations, Duration::from_secs(2), over).await
    }

    async fn start_of(
        integrations: Integrations,
        timeout: Duration,
        over: impl FnOnce(DynamoMessages) -> Arc<dyn store::MessageStore>,
    ) -> Rig {
        let aws = LocalAws::new(local_aws::Options::default()).unwrap();
        let time = aws_smithy_async::time::SharedTimeSource::new(StaticTimeSource::from_secs(
            1_800_000_000,
        ));
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::from_keys("worker", "any", None))
            .timeout_config(TimeoutConfig::builder().operation_timeout(timeout).build())
            .http_client(aws.http_client())
            .build();
        let dynamodb = aws_sdk_dynamodb::Client::from_conf(config);
        store::create_tables(&dynamodb, APP).await.unwrap();
        let (writer, handle) = Writer::new(
            SyncStoreOptions::default(),
            64 << 20,
            Arc::new(integrations),
            over(DynamoMessages::new(dynamodb.clone(), APP)),
            DeliveryStore::new(dynamodb.clone(), APP),
            time,
            7,
        );
        let stop = CancellationToken::new();
        tokio::spawn(writer.run(stop.clone()));
        Rig { aws, dynamodb, writer: handle, progress: Arc::new(Notify::new()), stop }
    }

    fn offer(&self, batch: Batch, lease: LeaseCheck) -> Arc<AckCell> {
        self.try_offer(batch, lease).expect("room in the queue")
    }

    fn try_offer(&self, batch: Batch, lease: LeaseCheck) -> Result<Arc<AckCell>, LaneBatch> {
        let batch = Arc::new(batch);
        let (ack, cell) = Ack::new(batch.entries.len(), Arc::clone(&self.progress));
        let lane_batch = LaneBatch { batch, skip_to: None, ack, lease, permit: None };
        self.writer.offer(lane_batch).map(|()| cell)
    }

    async fn settled(&self, cell: &AckCell) {
        while cell.state() == AckState::Outstanding {
            tokio::time::timeout(Duration::from_secs(600), self.progress.notified())
                .await
                .expect("settled in (simulated) time");
        }
        assert_eq!(cell.state(), AckState::Settled);
    }

    async fn count(&self, table: &str) -> usize {
        let name = format!("{APP}-{table}");
        self.dynamodb.scan().table_name(name).send().await.unwrap().items().len()
    }
}

/// A batch of `count` entries; `malformed` says which of them are no messages.
fn batch(shard: u32, count: u64, malformed: impl Fn(u64) -> Option<Malformed>) -> Batch {
    batch_of(shard, count, |n| format!("e{}", n % 3), malformed)
}

/// The same, about the entities that `entity` names.
fn batch_of(
    shard: u32,
    count: u64,
    entity: impl Fn(u64) -> String,
    malformed: impl Fn(u64) -> Option<Malformed>,
) -> Batch {
    let mut builder = BatchBuilder::new(ShardContext {
        stream_arn: Arc::from("arn:aws:kinesis:us-east-1:000000000000:stream/s"),
        shard_id: Arc::from(format!("shardId-{shard:012}")),
        fence: 3,
        starting_hash_key: 0,
        ending_hash_key: u128::MAX,
    });
    for n in 0..count {
        let sequence = (1_000 + n).to_string();
        let at = At {
            sequence: &sequence,
            index: 0,
            partition_key: "key",
            arrived_at_ms: 1_799_999_999_000,
        };
        let payload = format!("{{\"n\":{n}}}");
        match malformed(n) {
            Some(malformed) => builder.malformed(at, payload.as_bytes(), malformed),
            None => builder.message(at, payload.as_bytes(), &entity(n), n as i64),
        }
    }
    builder.build(Some(SequenceNumber::parse("9999").unwrap()), 100)
}

fn message(_: u64) -> Option<Malformed> {
    None
}

fn valid() -> LeaseCheck {
    LeaseCheck::new(|| true)
}

#[tokio::test(start_paused = true)]
async fn messages_of_several_shards_share_calls() {
    let rig = Rig::start().await;
    let cells: Vec<_> =
        (0..10).map(|shard| rig.offer(batch(shard, 20, message), valid())).collect();
    for cell in &cells {
        rig.settled(cell).await;
    }
    assert_eq!(rig.count("messages").await, 200);
    let stats = rig.writer.stats();
    assert_eq!(stats.stored, 200);
    assert_eq!(stats.calls, 8, "25 messages a call, over shards");
}

#[tokio::test(start_paused = true)]
async fn refused_messages_are_tried_again_until_they_are_stored() {
    let rig = Rig::start().await;
    let faults = rig.aws.faults();
    faults.inject(
        Fault::new(Service::Dynamodb, Effect::Partial(0.5)).operation("BatchWriteItem").times(8),
    );
    faults.inject(
        Fault::new(Service::Dynamodb, Effect::Throttle).operation("BatchWriteItem").times(8),
    );
    let cell = rig.offer(batch(0, 100, message), valid());
    rig.settled(&cell).await;
    assert_eq!(rig.count("messages").await, 100);
    assert!(rig.writer.stats().retried > 0);
}

#[tokio::test(start_paused = true)]
async fn malformed_records_become_dead_letters_and_the_rest_is_stored() {
    let rig = Rig::start().await;
    let malformed = |n: u64| match n % 2 {
        0 => message(n),
        _ => Some(Malformed {
            reason: DeadReason::NotJson,
            detail: "expected value at line 1 column 1".to_owned(),
            integration: IntegrationName::parse("default").unwrap(),
        }),
    };
    let cell = rig.offer(batch(0, 10, malformed), valid());
    rig.settled(&cell).await;
    assert_eq!((rig.count("messages").await, rig.count("deliveries").await), (5, 5));
    assert_eq!(rig.writer.stats().dead_lettered, 5);
}

#[tokio::test(start_paused = true)]
async fn a_failing_dead_letter_store_stops_the_lane_and_nothing_is_skipped() {
    let rig = Rig::start().await;
    let fault =
        Fault::new(Service::Dynamodb, Effect::InternalError).resource(&format!("{APP}-deliveries"));
    let fault = rig.aws.faults().inject(fault);
    let malformed = |_| {
        Some(Malformed {
            reason: DeadReason::Empty,
            detail: "0 bytes".to_owned(),
            integration: IntegrationName::parse("default").unwrap(),
        })
    };
    let cell = rig.offer(batch(0, 3, malformed), valid());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(cell.state(), AckState::Outstanding, "it stays owed");
    rig.aws.faults().clear(fault);
    rig.settled(&cell).await;
    assert_eq!(rig.count("deliveries").await, 3);
}

#[tokio::test(start_paused = true)]
async fn work_is_held_while_the_lease_cannot_be_trusted_and_let_go_when_it_is_lost() {
    let rig = Rig::start().await;
    let trusted = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&trusted);
    let held =
        rig.offer(batch(0, 5, message), LeaseCheck::new(move || asked.load(Ordering::Relaxed)));
    let lost_lease = LeaseCheck::new(|| false);
    let lost = rig.offer(batch(1, 5, message), lost_lease.clone());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(rig.count("messages").await, 0, "nothing is written without a trusted lease");
    assert_eq!((held.state(), lost.state()), (AckState::Outstanding, AckState::Outstanding));
    trusted.store(true, Ordering::Relaxed);
    lost_lease.mark_lost();
    rig.settled(&held).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(lost.state(), AckState::Dropped);
    assert_eq!(rig.count("messages").await, 5);
    rig.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_few_refused_keys_do_not_slow_the_others() {
    let rig = Rig::start().await;
    let one = Fault::new(Service::Dynamodb, Effect::Partial(0.01)).operation("BatchWriteItem");
    let fault = rig.aws.faults().inject(one.times(8));
    let cells: Vec<_> =
        (0..10).map(|shard| rig.offer(batch(shard, 25, message), valid())).collect();
    for cell in &cells {
        rig.settled(cell).await;
    }
    rig.aws.faults().clear(fault);
    let stats = rig.writer.stats();
    assert_eq!(stats.stored, 250);
    assert!(stats.retried >= 8 && stats.parallel >= 4, "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn under_load_calls_are_full_whatever_the_batches_are() {
    let rig = Rig::start().await;
    let slow = Fault::new(Service::Dynamodb, Effect::Latency(Duration::from_millis(8)));
    rig.aws.faults().inject(slow.operation("BatchWriteItem"));
    let mut rng = fastrand::Rng::with_seed(5);
    for _ in 0..10 {
        let offered = (0..64).map(|shard| batch(shard, rng.u64(1..=13), message));
        let cells: Vec<_> = offered.map(|batch| rig.offer(batch, valid())).collect();
        for cell in &cells {
            rig.settled(cell).await;
        }
    }
    let stats = rig.writer.stats();
    let fill = stats.call_records as f64 / stats.calls as f64;
    // Each of the ten rounds ends, so its last call is what is left over.
    assert!(fill >= 24.0, "{fill} records a call: {stats:?}");
    assert_eq!(stats.held_batches, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_refused_for_one_record_loses_that_one_alone_to_the_dead_letters() {
    let rig = Rig::start().await;
    let refuse = Effect::Refuse {
        status: 400,
        code: "ValidationException".to_owned(),
        message: "One or more parameter values were invalid".to_owned(),
    };
    // 25, 12, 6, 3, 1: the halves that hold the first record.
    let messages = format!("{APP}-messages");
    rig.aws.faults().inject(Fault::new(Service::Dynamodb, refuse).resource(&messages).times(5));
    let cell = rig.offer(batch(0, 25, message), valid());
    rig.settled(&cell).await;
    assert_eq!(rig.count("messages").await, 24);
    let letters = DeliveryStore::new(rig.dynamodb.clone(), APP)
        .list_dead_letters(&IntegrationName::parse("default").unwrap(), None, 10, 0)
        .await
        .unwrap()
        .letters;
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!((letter.reason, &*letter.payload), (DeadReason::StoreRejected, &b"{\"n\":0}"[..]));
    assert!(letter.detail.contains("ValidationException"), "{}", letter.detail);
    assert_eq!((letter.attempts, letter.fence), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_failing_dead_letter_store_is_told_and_slows_no_message() {
    let rig = Rig::start().await;
    let deliveries = format!("{APP}-deliveries");
    let silent = Fault::new(Service::Dynamodb, Effect::Partition).resource(&deliveries);
    let silent = rig.aws.faults().inject(silent);
    let malformed = |_| {
        Some(Malformed {
            reason: DeadReason::Empty,
            detail: "0 bytes".to_owned(),
            integration: IntegrationName::parse("default").unwrap(),
        })
    };
    let stopped = rig.offer(batch(0, 200, malformed), valid());
    let began = Instant::now();
    for round in 0..50 {
        let cell = rig.offer(batch(1 + round, 25, message), valid());
        rig.settled(&cell).await;
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    tokio::time::sleep(Duration::from_secs(20)).await;
    let ailments: Vec<(String, String)> = rig.writer.ailments().collect();
    let [(name, why)] = ailments.as_slice() else { panic!("{ailments:?}") };
    assert!(name == "dead-letters" && why.contains("no certain answer"), "{why}");
    assert_eq!(stopped.state(), AckState::Outstanding);
    rig.aws.faults().clear(silent);
    rig.settled(&stopped).await;
    assert_eq!(rig.writer.ailments().count(), 0);
    assert_eq!(rig.count("deliveries").await, 200);
}
