//! A world of one stream, and workers in it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kinesis::primitives::Blob;
use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use aws_smithy_types::timeout::TimeoutConfig;
use futures::future::{BoxFuture, FutureExt};
use lease_manager::{
    FleetHandle, InitialPosition, LaneName, LeaseManager, LeaseRecord, SequenceNumber,
    StreamConfig, WorkerId,
};
use local_aws::{Clock, LocalAws};
use store::{
    DeliveryStore, DynamoMessages, Entity, IntegrationName, Locator, Message, MessagePage,
    MessageQuery, MessageStore, PutOutcome, PutReport, StoreError, StoreItem, SubscriptionStore,
};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::integration::Integrations;
use crate::service::Exit;
use crate::{
    AwsConfigs, Channel, Options, Outlets, PIPELINES, Processor, ProcessorHandle, Stores,
    StreamOptions, Transport, Transports,
};

pub(super) const APP: &str = "app";
pub(super) const STREAM: &str = "records";

#[derive(Debug)]
struct SimulatedTime(Clock);

impl TimeSource for SimulatedTime {
    fn now(&self) -> SystemTime {
        self.0.now()
    }
}

/// The tables, a stream of one shard and its registered consumer.
pub(super) struct Rig {
    pub(super) aws: LocalAws,
    pub(super) kinesis: aws_sdk_kinesis::Client,
    pub(super) dynamodb: aws_sdk_dynamodb::Client,
    pub(super) time: SharedTimeSource,
    pub(super) stream: StreamConfig,
    /// Further streams that leases are made for.
    pub(super) others: Vec<StreamConfig>,
    pub(super) consumer_arn: String,
    pub(super) stored: Arc<Recorder>,
}

/// A worker under way.
pub(super) struct Worker {
    pub(super) handle: ProcessorHandle,
    stop: CancellationToken,
    manager: JoinHandle<lease_manager::Exit>,
    pub(super) processor: JoinHandle<Exit>,
}

impl Worker {
    /// SIGTERM: drains and ends.
    pub(super) async fn stop(self) -> Exit {
        self.stop.cancel();
        self.manager.await.unwrap();
        self.processor.await.unwrap()
    }
}

impl Rig {
    pub(super) async fn new() -> Rig {
        let clock = Clock::starting_at(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let options = local_aws::Options { clock: Some(clock.clone()), ..Default::default() };
        let aws = LocalAws::new(options).unwrap();
        let time = SharedTimeSource::new(SimulatedTime(clock));
        let (kinesis, dynamodb) = clients(&aws, "operator");
        lease_manager::create_tables(&dynamodb, APP).await.unwrap();
        store::create_tables(&dynamodb, APP).await.unwrap();
        kinesis.create_stream().stream_name(STREAM).shard_count(1).send().await.unwrap();
        let summary = kinesis.describe_stream_summary().stream_name(STREAM).send().await.unwrap();
        let summary = summary.stream_description_summary.unwrap();
        let consumer = kinesis.register_stream_consumer().stream_arn(&summary.stream_arn);
        let consumer = consumer.consumer_name(APP).send().await.unwrap().consumer.unwrap();
        let stream = StreamConfig {
            arn: summary.stream_arn,
            name: STREAM.to_owned(),
            creation_epoch_s: summary.stream_creation_timestamp.secs(),
            initial: InitialPosition::TrimHorizon,
        };
        let stored = Arc::new(Recorder::new(DynamoMessages::new(dynamodb.clone(), APP)));
        let consumer_arn = consumer.consumer_arn;
        let others = Vec::new();
        Rig { aws, kinesis, dynamodb, time, stream, others, consumer_arn, stored }
    }

    pub(super) fn options(&self, name: &str) -> Options {
        let arn = self.stream.arn.clone();
        let stream = StreamOptions::fan_out(arn, self.consumer_arn.clone());
        Options::new(name, vec![stream], Arc::new(Integrations::compile(Vec::new()).unwrap()))
    }

    pub(super) fn manager(&self, name: &str) -> (LeaseManager, FleetHandle) {
        let (kinesis, dynamodb) = clients(&self.aws, name);
        let lanes = PIPELINES.map(|lane| LaneName::parse(lane).unwrap()).to_vec();
        let worker = WorkerId::parse(name).unwrap();
        let streams = std::iter::once(&self.stream).chain(&self.others).cloned().collect();
        let options = lease_manager::Options::new(APP, worker, lanes, streams);
        LeaseManager::new(options, dynamodb, kinesis, self.time.clone())
    }

    /// A whole worker, as the binary puts it together; its calls are signed with its name.
    pub(super) fn start(&self, name: &str) -> Worker {
        self.start_with(name, self.options(name))
    }

    pub(super) fn start_with(&self, name: &str, options: Options) -> Worker {
        let (manager, fleet) = self.manager(name);
        let (kinesis, dynamodb) = clients(&self.aws, name);
        let stores = Stores {
            messages: self.stored.clone(),
            deliveries: DeliveryStore::new(dynamodb.clone(), APP),
            subscriptions: SubscriptionStore::new(dynamodb, APP),
        };
        let outlets = Outlets { webhooks: Arc::new(Nowhere), aws: AwsConfigs::unreachable() };
        let (processor, handle) =
            Processor::new(options, kinesis, stores, outlets, fleet, self.time.clone());
        let stop = CancellationToken::new();
        let manager = tokio::spawn(manager.run(stop.clone()));
        let processor = tokio::spawn(processor.run(stop.clone()));
        Worker { handle, stop, manager, processor }
    }

    /// Puts one record; its shard and its sequence number.
    pub(super) async fn put(&self, key: &str, payload: &str) -> (String, SequenceNumber) {
        let put = self.kinesis.put_record().stream_name(STREAM).partition_key(key);
        let put = put.data(Blob::new(payload)).send().await.unwrap();
        (put.shard_id, SequenceNumber::parse(put.sequence_number).unwrap())
    }

    /// Puts the records `from..to`, whose payloads are their numbers, under a few keys.
    pub(super) async fn put_numbers(&self, numbers: std::ops::Range<usize>) -> Vec<SequenceNumber> {
        let mut sequences = Vec::new();
        for n in numbers {
            sequences.push(self.put(&format!("key-{}", n % 5), &n.to_string()).await.1);
        }
        sequences
    }

    pub(super) async fn leases(&self) -> BTreeMap<String, LeaseRecord> {
        let items = self.dynamodb.scan().table_name(APP).send().await.unwrap().items.unwrap();
        let leases = items.into_iter().filter_map(|item| LeaseRecord::from_item(item).unwrap());
        leases.map(|lease| (lease.shard_id.to_string(), lease)).collect()
    }

    /// The only lease.
    pub(super) async fn lease(&self) -> LeaseRecord {
        let mut leases = self.leases().await.into_values();
        leases.next().filter(|_| leases.next().is_none()).expect("one lease")
    }

    /// Writes a lease of the stream's first shard, as if others had left it.
    pub(super) async fn write_lease(&self, shard: &str, change: impl FnOnce(&mut LeaseRecord)) {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let item = [
            ("leaseKey", text(shard)),
            ("checkpoint", text("TRIM_HORIZON")),
            ("leaseCounter", AttributeValue::N("7".to_owned())),
        ];
        let item = item.map(|(name, value)| (name.to_owned(), value)).into();
        let mut lease = LeaseRecord::from_item(item).unwrap().unwrap();
        change(&mut lease);
        let put = self.dynamodb.put_item().table_name(APP).set_item(Some(lease.to_item()));
        put.send().await.unwrap();
    }

    /// Calls of an operation so far; of one table where it is named.
    pub(super) fn calls(&self, operation: &str, table: Option<&str>) -> u64 {
        let of = |call: &&local_aws::CallCount| {
            call.operation == operation && (table.is_none() || call.resource.as_deref() == table)
        };
        self.aws.calls().iter().filter(of).map(|call| call.calls).sum()
    }

    /// Writes of leases so far, the taking of leases among them.
    pub(super) fn lease_writes(&self) -> u64 {
        self.calls("UpdateItem", Some(APP))
    }

    pub(super) fn subscribes(&self) -> u64 {
        self.calls("SubscribeToShard", None)
    }

    /// Waits until the numbers `0..count` are stored, and holds that each was stored once.
    pub(super) async fn stored_once(&self, count: usize) {
        until("all records are stored", || self.stored.payloads().len() >= count).await;
        let mut numbers: Vec<usize> =
            self.stored.payloads().iter().map(|payload| payload.parse().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..count).collect::<Vec<_>>());
    }
}

/// Waits for a condition; fails after two simulated minutes.
pub(super) async fn until(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(120), "waited too long: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The real store, and what it was given: each message that it kept, in the order of the calls.
pub(super) struct Recorder {
    inner: DynamoMessages,
    kept: Mutex<Vec<Message>>,
    /// So many outcomes are left out of the next reports.
    pub(super) forget: AtomicUsize,
    pub(super) panic: AtomicBool,
}

impl Recorder {
    fn new(inner: DynamoMessages) -> Recorder {
        Recorder {
            inner,
            kept: Mutex::default(),
            forget: AtomicUsize::new(0),
            panic: AtomicBool::new(false),
        }
    }

    pub(super) fn kept(&self) -> Vec<Message> {
        self.kept.lock().unwrap().clone()
    }

    pub(super) fn payloads(&self) -> Vec<String> {
        let text = |message: &Message| String::from_utf8(message.payload.to_vec()).unwrap();
        self.kept.lock().unwrap().iter().map(text).collect()
    }

    async fn put_and_note(&self, batch: &[StoreItem]) -> PutReport {
        assert!(!self.panic.load(Ordering::Relaxed), "the store broke");
        let mut report = self.inner.put(batch).await;
        let forget = self.forget.swap(0, Ordering::Relaxed).min(report.outcomes.len());
        report.outcomes.truncate(report.outcomes.len() - forget);
        let stored = batch.iter().zip(&report.outcomes).filter(|(_, o)| **o == PutOutcome::Stored);
        self.kept.lock().unwrap().extend(stored.map(|(item, _)| item.message.clone()));
        report
    }
}

impl MessageStore for Recorder {
    fn put<'a>(&'a self, batch: &'a [StoreItem]) -> BoxFuture<'a, PutReport> {
        self.put_and_note(batch).boxed()
    }

    fn query<'a>(
        &'a self,
        query: &'a MessageQuery,
    ) -> BoxFuture<'a, Result<MessagePage, StoreError>> {
        self.inner.query(query)
    }

    fn latest<'a>(
        &'a self,
        integration: &'a IntegrationName,
        entity: &'a Entity,
        now_ms: i64,
        consistent: bool,
    ) -> BoxFuture<'a, Result<Option<Message>, StoreError>> {
        self.inner.latest(integration, entity, now_ms, consistent)
    }

    fn get<'a>(
        &'a self,
        locator: &'a Locator,
        now_ms: i64,
        consistent: bool,
    ) -> BoxFuture<'a, Result<Option<Message>, StoreError>> {
        self.inner.get(locator, now_ms, consistent)
    }

    fn get_many<'a>(
        &'a self,
        places: &'a [Locator],
        now_ms: i64,
        max_bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<Option<Message>>, StoreError>> {
        self.inner.get_many(places, now_ms, max_bytes)
    }

    fn announce<'a>(&'a self, notes: &'a [store::Arrivals]) -> BoxFuture<'a, PutReport> {
        self.inner.announce(notes)
    }

    fn arrivals<'a>(
        &'a self,
        query: &'a store::ArrivalsQuery,
    ) -> BoxFuture<'a, Result<store::ArrivalsPage, StoreError>> {
        self.inner.arrivals(query)
    }
}

/// Nobody subscribes in this world, so nothing is ever sent.
struct Nowhere;

impl Transports for Nowhere {
    fn for_destination(&self, _: &Channel<'_>) -> Arc<dyn Transport> {
        unreachable!("nobody subscribes")
    }
}

fn clients(aws: &LocalAws, caller: &str) -> (aws_sdk_kinesis::Client, aws_sdk_dynamodb::Client) {
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(Duration::from_secs(1))
        .operation_timeout(Duration::from_secs(5))
        .build();
    let kinesis = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::from_keys(caller, "any", None))
        .timeout_config(timeouts.clone())
        .http_client(aws.http_client());
    let dynamodb = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::from_keys(caller, "any", None))
        .timeout_config(timeouts)
        .http_client(aws.http_client());
    (
        aws_sdk_kinesis::Client::from_conf(kinesis.build()),
        aws_sdk_dynamodb::Client::from_conf(dynamodb.build()),
    )
}
