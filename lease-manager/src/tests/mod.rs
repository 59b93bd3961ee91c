//! Whole workers over the real SDK clients and an embedded DynamoDB and Kinesis, in paused time.

mod chaos;
mod faults;
mod fleet;
mod kcl;
mod leader;
mod operate;
mod scale;
mod shards;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::config::{BehaviorVersion, Region, retry::RetryConfig};
use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use local_aws::{Clock, LocalAws};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::lease_table::LeaseTable;
use crate::*;

const APP: &str = "orders-app";
const STREAM: &str = "orders";
const ACCOUNT: &str = "000000000000";

/// One AWS, with a stream and the tables.
struct World {
    aws: LocalAws,
    clock: Clock,
    streams: Vec<StreamConfig>,
}

#[derive(Debug)]
struct TokioTime(Clock);

impl TimeSource for TokioTime {
    fn now(&self) -> SystemTime {
        self.0.now()
    }
}

impl World {
    async fn new(shards: i32, initial: InitialPosition) -> Self {
        let clock = Clock::starting_at(UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        let options = local_aws::Options { clock: Some(clock.clone()), ..Default::default() };
        let aws = LocalAws::new(options).unwrap();
        let mut world = Self { aws, clock, streams: Vec::new() };
        create_tables(&world.dynamodb("init"), APP).await.unwrap();
        world.add_stream(STREAM, shards, initial).await;
        world
    }

    async fn add_stream(&mut self, name: &str, shards: i32, initial: InitialPosition) {
        let kinesis = self.kinesis("init");
        kinesis.create_stream().stream_name(name).shard_count(shards).send().await.unwrap();
        loop {
            let answer = kinesis.describe_stream_summary().stream_name(name).send().await.unwrap();
            let summary = answer.stream_description_summary.unwrap();
            if summary.stream_status.as_str() == "ACTIVE" {
                self.streams.push(StreamConfig {
                    arn: summary.stream_arn,
                    name: name.to_owned(),
                    creation_epoch_s: summary.stream_creation_timestamp.secs(),
                    initial,
                });
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn credentials(caller: &str) -> Credentials {
        Credentials::new(caller, "secret", None, None, "test")
    }

    fn dynamodb(&self, caller: &str) -> aws_sdk_dynamodb::Client {
        self.dynamodb_with(caller, RetryConfig::disabled())
    }

    fn dynamodb_with(&self, caller: &str, retries: RetryConfig) -> aws_sdk_dynamodb::Client {
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Self::credentials(caller))
            .retry_config(retries)
            .http_client(self.aws.http_client());
        aws_sdk_dynamodb::Client::from_conf(config.build())
    }

    fn kinesis(&self, caller: &str) -> aws_sdk_kinesis::Client {
        let config = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Self::credentials(caller))
            .retry_config(RetryConfig::disabled())
            .http_client(self.aws.http_client());
        aws_sdk_kinesis::Client::from_conf(config.build())
    }

    fn options(&self, worker: &str) -> Options {
        let seed = worker.bytes().map(u64::from).sum();
        let streams = self.streams.clone();
        Options { seed, ..Options::new(APP, id(worker), lanes(), streams) }
    }

    fn manager(&self, options: Options) -> (LeaseManager, FleetHandle) {
        let caller = options.worker_id.to_string();
        let time = SharedTimeSource::new(TokioTime(self.clock.clone()));
        LeaseManager::new(options, self.dynamodb(&caller), self.kinesis(&caller), time)
    }

    /// A worker with a consumer for each lease, which drains at once when it is asked to.
    fn start(&self, worker: &str) -> Worker {
        Worker::start(self.manager(self.options(worker)))
    }

    fn table(&self) -> LeaseTable {
        LeaseTable::new(self.dynamodb("test"), APP.to_owned(), Duration::from_secs(2))
    }

    async fn leases(&self) -> BTreeMap<String, LeaseRecord> {
        let listing = self.table().list().await.unwrap();
        assert!(listing.bad.is_empty(), "{:?}", listing.bad);
        listing.leases.into_iter().map(|lease| (lease.key.to_string(), lease)).collect()
    }

    /// The stream's shards and their parents, as the stream lists them.
    async fn listed(&self) -> BTreeMap<ShardId, BTreeSet<ShardId>> {
        let answer = self.kinesis("test").list_shards().stream_name(STREAM).send().await.unwrap();
        let shard = |shard: &aws_sdk_kinesis::types::Shard| {
            let parents = [shard.parent_shard_id(), shard.adjacent_parent_shard_id()];
            let parents = parents.into_iter().flatten().map(|p| ShardId::parse(p).unwrap());
            (ShardId::parse(shard.shard_id()).unwrap(), parents.collect())
        };
        answer.shards().iter().map(shard).collect()
    }

    /// Waits until `done` holds of the leases; fails after `limit` of simulated time.
    async fn until(
        &self,
        limit: Duration,
        what: &str,
        done: impl Fn(&BTreeMap<String, LeaseRecord>) -> bool,
    ) -> Duration {
        let started = Instant::now();
        let mut history: BTreeMap<String, LeaseRecord> = BTreeMap::new();
        loop {
            let leases = self.leases().await;
            for (key, lease) in &leases {
                let step: Vec<_> = history.get(key).into_iter().chain([lease]).cloned().collect();
                invariants::l2_counter_rises(&step).unwrap();
                invariants::l3_checkpoint_rises(&step).unwrap();
            }
            let snapshot: Vec<_> = leases.values().cloned().collect();
            invariants::l4_children_wait(&snapshot, &lanes()).unwrap();
            if done(&leases) {
                return started.elapsed();
            }
            assert!(started.elapsed() < limit, "{what} within {limit:?}: {leases:#?}");
            history = leases;
            sleep(Duration::from_millis(50)).await;
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    Acquired(String, u64),
    Released(String, u64),
    Lost(String, u64),
}

/// A running worker.
struct Worker {
    fleet: FleetHandle,
    stop: CancellationToken,
    run: JoinHandle<Exit>,
    consumers: AbortOnDropHandle<()>,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Worker {
    fn start((manager, fleet): (LeaseManager, FleetHandle)) -> Self {
        let stop = CancellationToken::new();
        let events = Arc::new(Mutex::new(Vec::new()));
        let run = tokio::spawn(manager.run(stop.clone()));
        let consume = consume(fleet.clone(), Arc::clone(&events));
        let consumers = AbortOnDropHandle::new(tokio::spawn(consume));
        Self { fleet, stop, run, consumers, events }
    }

    fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    fn lost(&self) -> usize {
        self.events().iter().filter(|event| matches!(event, Event::Lost(..))).count()
    }

    /// As `kill -9` does it: nothing of the worker runs any more, and nothing is written.
    async fn kill(self) {
        self.consumers.abort();
        self.run.abort();
        let _ = self.run.await;
    }

    async fn shut_down(self) -> Exit {
        self.stop.cancel();
        self.run.await.unwrap()
    }
}

async fn consume(fleet: FleetHandle, events: Arc<Mutex<Vec<Event>>>) {
    let mut shards = tokio::task::JoinSet::new();
    while let Some(handle) = fleet.next_lease().await {
        let events = Arc::clone(&events);
        shards.spawn(async move {
            let (shard, counter) = (handle.lease().shard_id.to_string(), handle.lease().counter.0);
            let note = |event| events.lock().unwrap().push(event);
            note(Event::Acquired(shard.clone(), counter));
            tokio::select! {
                biased;
                () = handle.lost() => return note(Event::Lost(shard, counter)),
                () = handle.release_requested() => {}
            }
            if handle.release(Progress::default(), "asked".to_owned()).await.is_ok() {
                note(Event::Released(shard, counter));
            }
        });
    }
    while shards.join_next().await.is_some() {}
}

fn id(worker: &str) -> WorkerId {
    WorkerId::parse(worker).unwrap()
}

fn lanes() -> Vec<LaneName> {
    ["async-delivery", "sync-store"].map(|lane| LaneName::parse(lane).unwrap()).to_vec()
}

fn at(text: &str) -> Checkpoint {
    Checkpoint::parse(text, 0).unwrap()
}

/// Progress with every lane at the same checkpoint.
fn progress(text: &str) -> Progress {
    let position = LanePosition { behind_ms: 3, ..LanePosition::at(at(text)) };
    Progress {
        lanes: lanes().into_iter().map(|lane| (lane, position.clone())).collect(),
        read_to: Some(at(text)),
        throughput_kbps: Some(1.5),
    }
}

/// How many unfinished leases each worker owns.
fn shares(leases: &BTreeMap<String, LeaseRecord>) -> BTreeMap<&str, usize> {
    let mut shares = BTreeMap::new();
    for lease in leases.values().filter(|lease| !lease.is_finished()) {
        *shares.entry(lease.owner.as_ref().map_or("nobody", WorkerId::as_str)).or_insert(0) += 1;
    }
    shares
}
