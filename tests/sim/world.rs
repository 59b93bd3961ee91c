//! One world: an embedded AWS, one clock, and the workers that were started in it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sdk_kinesis::config::{BehaviorVersion, Region};
use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use aws_smithy_types::timeout::TimeoutConfig;
use lease_manager::{InitialPosition, LaneName, LeaseManager, StreamConfig, WorkerId};
use local_aws::LocalAws;
use processor::integration::Integrations;
use processor::{Options, PIPELINES, Processor, Stores, StreamOptions, Transport, Transports};
use store::{DeliveryStore, DynamoMessages, SubscriptionStore};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub const APP: &str = "sim";
pub const STREAM: &str = "records";

/// Wall time that moves with tokio's clock.
#[derive(Debug, Clone)]
struct SimTime {
    epoch: SystemTime,
    started: Instant,
}

impl TimeSource for SimTime {
    fn now(&self) -> SystemTime {
        self.epoch + self.started.elapsed()
    }
}

pub struct World {
    pub aws: LocalAws,
    pub kinesis: aws_sdk_kinesis::Client,
    pub dynamodb: aws_sdk_dynamodb::Client,
    time: SharedTimeSource,
    stream: StreamConfig,
    consumer_arn: String,
    seed: u64,
    made: Instant,
}

/// A worker under way.
pub struct Worker {
    pub name: String,
    stop: CancellationToken,
    tasks: JoinHandle<()>,
}

impl World {
    /// A world with tables, a stream of `shards` shards and a registered consumer.
    pub async fn make(seed: u64, shards: i32) -> World {
        let epoch = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let aws = LocalAws::new(local_aws::Options { seed, epoch, ..Default::default() }).unwrap();
        let time = SharedTimeSource::new(SimTime { epoch, started: Instant::now() });
        let (kinesis, dynamodb) = clients(&aws, "operator", &time);
        lease_manager::create_tables(&dynamodb, APP).await.unwrap();
        store::create_tables(&dynamodb, APP).await.unwrap();
        kinesis.create_stream().stream_name(STREAM).shard_count(shards).send().await.unwrap();
        let summary = loop {
            let answer =
                kinesis.describe_stream_summary().stream_name(STREAM).send().await.unwrap();
            let summary = answer.stream_description_summary.unwrap();
            if summary.stream_status.as_str() == "ACTIVE" {
                break summary;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let registered = kinesis
            .register_stream_consumer()
            .stream_arn(&summary.stream_arn)
            .consumer_name(APP)
            .send()
            .await;
        let consumer_arn = registered.unwrap().consumer.unwrap().consumer_arn;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let stream = StreamConfig {
            arn: summary.stream_arn,
            name: STREAM.to_owned(),
            creation_epoch_s: summary.stream_creation_timestamp.secs(),
            initial: InitialPosition::TrimHorizon,
        };
        World { aws, kinesis, dynamodb, time, stream, consumer_arn, seed, made: Instant::now() }
    }

    /// The time since the world was made, simulated.
    pub fn elapsed(&self) -> Duration {
        self.made.elapsed()
    }

    /// Starts a worker: a lease manager and a processor, as the binary puts them together.
    pub fn start(&self, name: &str, life: u64) -> Worker {
        let (kinesis, dynamodb) = clients(&self.aws, name, &self.time);
        let lanes = PIPELINES.map(|lane| LaneName::parse(lane).unwrap()).to_vec();
        let worker_id = WorkerId::parse(name).unwrap();
        let seed = self.seed.wrapping_mul(31).wrapping_add(life);
        let mut leases =
            lease_manager::Options::new(APP, worker_id, lanes, vec![self.stream.clone()]);
        leases.seed = seed;
        let (manager, fleet) =
            LeaseManager::new(leases, dynamodb.clone(), kinesis.clone(), self.time.clone());
        let stream =
            StreamOptions { arn: self.stream.arn.clone(), consumer_arn: self.consumer_arn.clone() };
        let integrations = Arc::new(Integrations::compile(Vec::new()).unwrap());
        let mut options = Options::new(name, vec![stream], integrations);
        options.seed = seed;
        // Nothing is ever parked here: looking for it every second would be half of all calls.
        options.async_delivery.sweep_interval = Duration::from_secs(60);
        let stores = Stores {
            messages: Arc::new(DynamoMessages::new(dynamodb.clone(), APP)),
            deliveries: DeliveryStore::new(dynamodb.clone(), APP),
            subscriptions: SubscriptionStore::new(dynamodb, APP),
        };
        let nowhere = Arc::new(Nowhere);
        let (processor, _) =
            Processor::new(options, kinesis, stores, nowhere, fleet, self.time.clone());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let tasks = tokio::spawn(async move {
            tokio::join!(manager.run(stopped.clone()), processor.run(stopped));
        });
        Worker { name: name.to_owned(), stop, tasks }
    }
}

/// Nobody subscribes in this world, so nothing is ever sent.
struct Nowhere;

impl Transports for Nowhere {
    fn for_destination(&self, _: usize) -> Arc<dyn Transport> {
        unreachable!("nobody subscribes")
    }
}

impl Worker {
    /// The process is gone, with everything it had in memory.
    pub async fn kill(self) {
        self.tasks.abort();
        let _ = self.tasks.await;
    }

    /// SIGTERM: drains and ends.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.await.unwrap();
    }
}

fn clients(
    aws: &LocalAws,
    caller: &str,
    time: &SharedTimeSource,
) -> (aws_sdk_kinesis::Client, aws_sdk_dynamodb::Client) {
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(Duration::from_secs(1))
        .operation_timeout(Duration::from_secs(5))
        .build();
    let credentials = Credentials::new(caller, "any", None, None, "simulation");
    let kinesis = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(credentials.clone())
        .http_client(aws.http_client())
        .time_source(time.clone())
        .timeout_config(timeouts.clone())
        .build();
    let dynamodb = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(credentials)
        .http_client(aws.http_client())
        .time_source(time.clone())
        .timeout_config(timeouts)
        .build();
    (aws_sdk_kinesis::Client::from_conf(kinesis), aws_sdk_dynamodb::Client::from_conf(dynamodb))
}
