//! One world: an embedded AWS, one clock, the processes in it, and an operator whose calls take no time.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sdk_kinesis::config::retry::RetryPartition;
use aws_sdk_kinesis::config::{BehaviorVersion, Region};
use aws_smithy_async::time::SharedTimeSource;
use aws_smithy_types::timeout::TimeoutConfig;
use lease_manager::{InitialPosition, StreamConfig};
use local_aws::{Clock, Effect, Fault, KinesisOptions, LocalAws, Seen, Service, Tap, Traced};
use processor::ProcessorHandle;
use tokio::runtime::{Builder, Runtime};

use crate::climate::Climate;
use crate::ledger::Ledger;
use crate::receivers::{Receivers, subscribe};
use crate::scheduler::{ProcessId, Scheduler, SimClock};
use crate::traffic::Traffic;
use crate::wire::Trace;

/// When a world begins, since 1970.
pub const EPOCH: Duration = Duration::from_secs(1_800_000_000);
pub const APP: &str = "sim";
pub const STREAM: &str = "records";

/// What a call takes where it takes time.
const LATENCY: Duration = Duration::from_millis(5);

/// How a world is made.
pub struct Setup {
    pub seed: u64,
    pub shards: i32,
    /// How many receivers subscribe to everything.
    pub receivers: usize,
    pub kinesis: KinesisOptions,
    pub climate: Climate,
    /// Whether the wire is traced.
    pub traced: bool,
}

pub struct World {
    pub aws: LocalAws,
    pub operator: Operator,
    pub processes: Scheduler,
    pub stream: StreamConfig,
    /// ARNs of the consumers: for the lanes at the tip, and for those that catch up.
    pub consumers: [String; 2],
    pub climate: Climate,
    pub seed: u64,
    pub traffic: Arc<Mutex<Traffic>>,
    pub receivers: Arc<Receivers>,
    /// How each process that was started is.
    pub handles: Vec<Arc<OnceLock<ProcessorHandle>>>,
    ledger: Arc<Mutex<Ledger>>,
    trace: Option<Arc<Mutex<Trace>>>,
}

/// Whoever makes streams, puts records and looks at tables. Nothing fails for it, so no time passes while it works.
pub struct Operator {
    runtime: Runtime,
    pub kinesis: aws_sdk_kinesis::Client,
    pub dynamodb: aws_sdk_dynamodb::Client,
}

impl Operator {
    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }
}

/// Where a process stands: what it needs to make its own clients.
#[derive(Clone)]
pub struct Site {
    aws: LocalAws,
    pub time: SharedTimeSource,
}

impl World {
    /// A world with tables, a stream and a registered consumer.
    pub fn make(setup: Setup) -> World {
        let epoch = SystemTime::UNIX_EPOCH + EPOCH;
        let clock = SimClock::starting_at(epoch);
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let trace = setup.traced.then(Arc::<Mutex<Trace>>::default);
        let traffic = Arc::<Mutex<Traffic>>::default();
        let watch = watch(Arc::clone(&ledger));
        let (count, trace_of) = (Arc::clone(&traffic), trace.clone());
        let at = clock.clone();
        let tap = Tap::new(move |traced: &Traced<'_>| {
            if let Some(trace) = &trace_of {
                trace.lock().unwrap().add(at.passed(), traced);
            }
            count.lock().unwrap().add(at.passed(), traced);
            watch(at.passed(), traced);
        });
        let of_aws = clock.clone();
        let options = local_aws::Options {
            seed: setup.seed,
            kinesis: KinesisOptions { retention: setup.climate.retention, ..setup.kinesis.clone() },
            clock: Some(Clock::from_source(move || epoch + of_aws.passed())),
            tap: Some(tap),
            ..Default::default()
        };
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.unwrap();
        let aws = runtime.block_on(async { LocalAws::new(options) }).unwrap();
        let site = Site { aws: aws.clone(), time: SharedTimeSource::new(clock.clone()) };
        let (kinesis, dynamodb) = site.clients("operator");
        let operator = Operator { runtime, kinesis, dynamodb };
        let (stream, consumers) = operator.run(furnish(&operator, &setup));
        ledger.lock().unwrap().begin(setup.receivers, &setup.climate);
        let receivers = Receivers::new(setup.receivers, Arc::clone(&ledger), clock.clone());
        let processes = Scheduler::new(clock, setup.seed);
        World {
            aws,
            operator,
            processes,
            stream,
            consumers,
            climate: setup.climate,
            seed: setup.seed,
            traffic,
            receivers,
            handles: Vec::new(),
            ledger,
            trace,
        }
    }

    pub fn site(&self) -> Site {
        Site { aws: self.aws.clone(), time: SharedTimeSource::new(self.processes.clock.clone()) }
    }

    /// From now on every call takes a few milliseconds, as over a network; the operator's take no time of anybody else.
    pub fn slow_down(&self) {
        for service in [Service::Dynamodb, Service::Kinesis] {
            self.aws.faults().inject(Fault::new(service, Effect::Latency(LATENCY)));
        }
    }

    /// The simulated time since the world was made.
    pub fn now(&self) -> Duration {
        self.processes.clock.passed()
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    /// Notes what was done to this world, to be told if a promise is broken.
    pub fn tell(&self, line: impl Into<String>) {
        self.ledger().tell(self.now(), line.into());
    }

    /// Lets time pass; the promises are checked after every step of every process.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now() + time;
        let (ledger, handles) = (&self.ledger, &self.handles);
        let most = 2 * self.climate.budget_bytes as u64;
        self.processes.run_until(until, || {
            ledger.lock().unwrap().check();
            for handle in handles.iter().filter_map(|handle| handle.get()) {
                let held = handle.in_flight_bytes();
                assert!(held <= most, "C3: {held} bytes are in flight, the budgets are {most}");
            }
            crate::runner::check_panics();
        });
    }

    /// Lets time pass until `done`, at most `limit`; says whether it came to that.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut World) -> bool) -> bool {
        let end = self.now() + limit;
        while self.now() < end {
            if done(self) {
                return true;
            }
            self.run_for(Duration::from_millis(250));
        }
        done(self)
    }

    /// Why a process ended, if it did.
    pub fn ended(&mut self, id: ProcessId) -> Option<String> {
        self.processes.ended(id)
    }

    /// The wire as it was, if it was traced.
    pub fn trace(&self) -> Option<Trace> {
        self.trace.as_ref().map(|trace| std::mem::take(&mut *trace.lock().unwrap()))
    }
}

async fn furnish(operator: &Operator, setup: &Setup) -> (StreamConfig, [String; 2]) {
    lease_manager::create_tables(&operator.dynamodb, APP).await.unwrap();
    store::create_tables(&operator.dynamodb, APP).await.unwrap();
    subscribe(&operator.dynamodb, setup.receivers).await;
    let kinesis = &operator.kinesis;
    kinesis.create_stream().stream_name(STREAM).shard_count(setup.shards).send().await.unwrap();
    let summary = kinesis.describe_stream_summary().stream_name(STREAM).send().await.unwrap();
    let summary = summary.stream_description_summary.unwrap();
    let mut consumers = [APP.to_owned(), format!("{APP}-catch-up")];
    for consumer in &mut consumers {
        let register = kinesis.register_stream_consumer().stream_arn(&summary.stream_arn);
        let registered = register.consumer_name(&*consumer).send().await.unwrap();
        *consumer = registered.consumer.unwrap().consumer_arn;
    }
    let stream = StreamConfig {
        arn: summary.stream_arn,
        name: STREAM.to_owned(),
        creation_epoch_s: summary.stream_creation_timestamp.secs(),
        initial: InitialPosition::TrimHorizon,
    };
    (stream, consumers)
}

/// Feeds the ledger.
fn watch(ledger: Arc<Mutex<Ledger>>) -> impl Fn(Duration, &Traced<'_>) + Send + Sync {
    let [messages, deliveries] = ["messages", "deliveries"].map(|table| format!("{APP}-{table}"));
    move |at, traced| {
        let by = traced.caller;
        match traced.seen {
            Seen::Wrote { table: APP, item } => ledger.lock().unwrap().lease_wrote(at, by, item),
            Seen::Deleted { table: APP, key } => ledger.lock().unwrap().lease_deleted(at, by, key),
            Seen::Wrote { table, item } if table == messages => {
                ledger.lock().unwrap().message_wrote(at, by, item);
            }
            Seen::Wrote { table, item } if table == deliveries => {
                ledger.lock().unwrap().delivery_wrote(at, by, item);
            }
            Seen::Deleted { table, key } if table == deliveries => {
                ledger.lock().unwrap().delivery_deleted(at, by, key);
            }
            _ if traced.service == Service::Kinesis => ledger.lock().unwrap().streamed(at, traced),
            _ => {}
        }
    }
}

impl Site {
    /// SDK clients of a process; `caller` signs their calls. Their retries have a budget of their own, as a process has: the SDK's
    /// own partitions are shared by everything that runs in this one, other seeds included.
    pub fn clients(&self, caller: &str) -> (aws_sdk_kinesis::Client, aws_sdk_dynamodb::Client) {
        let timeouts = TimeoutConfig::builder()
            .operation_attempt_timeout(Duration::from_secs(1))
            .operation_timeout(Duration::from_secs(5))
            .build();
        let credentials = Credentials::new(caller, "any", None, None, "simulation");
        let kinesis = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(credentials.clone())
            .http_client(self.aws.http_client())
            .time_source(self.time.clone())
            .retry_partition(RetryPartition::custom("kinesis").build())
            .timeout_config(timeouts.clone())
            .build();
        let dynamodb = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(credentials)
            .http_client(self.aws.http_client())
            .time_source(self.time.clone())
            .retry_partition(RetryPartition::custom("dynamodb").build())
            .timeout_config(timeouts)
            .build();
        (aws_sdk_kinesis::Client::from_conf(kinesis), aws_sdk_dynamodb::Client::from_conf(dynamodb))
    }
}
