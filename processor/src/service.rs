//! The processor as a whole: a shard consumer for each lease, one writer, one courier.
//!
//! [`Processor::run`] takes leases from the fleet, starts a consumer for each, and ends when the
//! fleet has ended and every consumer has left. It owns the two sinks; it never touches a record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_async::time::SharedTimeSource;
use lease_manager::{Checkpoint, FleetHandle, LaneName, Lease, LeaseHandle};
use store::{DeliveryStore, MessageStore, SubscriptionStore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::async_delivery::{
    Courier, CourierExit, CourierHandle, CourierOptions, CourierParts, Transports,
};
use crate::batch::{LeaseCheck, ShardContext};
use crate::budget::Budget;
use crate::clock::wall_ms;
use crate::decode::DecodeOptions;
use crate::fan_out::{FanOut, FanOutOptions, StartingAt, SubscribePacer};
use crate::handle::ProcessorHandle;
use crate::integration::Integrations;
use crate::lane::{Lane, Sink};
use crate::metrics;
use crate::shard_consumer::{Exit as ConsumerExit, ShardConsumer, ShardConsumerOptions};
use crate::status::Registry;
use crate::sync_store::{SyncStoreOptions, Writer, WriterExit};

/// The pipelines' names, as leases, metrics and status pages write them.
pub const PIPELINES: [&str; 2] = ["sync-store", "async-delivery"];

/// How often the gauges of the budgets are set.
const GAUGE_INTERVAL: Duration = Duration::from_secs(5);

/// Bytes that each pipeline may hold unless it is configured.
const DEFAULT_BUDGET_BYTES: usize = 64 * 1024 * 1024;

/// A stream that is read, and the registered consumer it is read through.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// ARN of the stream.
    pub arn: String,
    /// ARN of the enhanced fan-out consumer.
    pub consumer_arn: String,
}

/// How the processor works. Every field is bounded where it is used.
#[derive(Debug, Clone)]
pub struct Options {
    /// The streams that leases may be of.
    pub streams: Vec<StreamOptions>,
    /// Messages by their class.
    pub integrations: Arc<Integrations>,
    /// How records become messages.
    pub decode: DecodeOptions,
    /// How shards are subscribed to.
    pub fan_out: FanOutOptions,
    /// How shards are read and leases written.
    pub shard: ShardConsumerOptions,
    /// The `sync-store` pipeline.
    pub sync_store: SyncStoreOptions,
    /// Bytes that `sync-store` may hold over all shards.
    pub sync_store_budget_bytes: usize,
    /// The `async-delivery` pipeline.
    pub async_delivery: CourierOptions,
    /// Bytes that `async-delivery` may hold over all shards.
    pub async_delivery_budget_bytes: usize,
    /// Seed of every random choice (jitter).
    pub seed: u64,
}

impl Options {
    /// Default options for the worker of this name: 64 MiB for each pipeline.
    pub fn new(
        worker: &str,
        streams: Vec<StreamOptions>,
        integrations: Arc<Integrations>,
    ) -> Options {
        Options {
            streams,
            integrations,
            decode: DecodeOptions::default(),
            fan_out: FanOutOptions::default(),
            shard: ShardConsumerOptions::default(),
            sync_store: SyncStoreOptions::default(),
            sync_store_budget_bytes: DEFAULT_BUDGET_BYTES,
            async_delivery: CourierOptions::new(worker),
            async_delivery_budget_bytes: DEFAULT_BUDGET_BYTES,
            seed: 0,
        }
    }
}

/// Where the pipelines keep things.
#[derive(Clone)]
pub struct Stores {
    /// Messages that the API reads.
    pub messages: Arc<dyn MessageStore>,
    /// Parked deliveries and dead letters.
    pub deliveries: DeliveryStore,
    /// What is pushed to whom.
    pub subscriptions: SubscriptionStore,
}

/// Why the processor ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// The fleet ended, and every shard was given up in order.
    Stopped,
    /// A part that must run for ever ended.
    Failed(String),
}

/// Reads shards and feeds both pipelines. One per process.
pub struct Processor {
    options: Options,
    kinesis: aws_sdk_kinesis::Client,
    fleet: FleetHandle,
    time: SharedTimeSource,
    writer: Writer,
    courier: Courier,
    pacer: SubscribePacer,
    handle: ProcessorHandle,
}

impl Processor {
    /// A processor over the given clients, and the handle that asks it. `transports` makes the
    /// connections to destinations.
    pub fn new(
        options: Options,
        kinesis: aws_sdk_kinesis::Client,
        stores: Stores,
        transports: Arc<dyn Transports>,
        fleet: FleetHandle,
        time: SharedTimeSource,
    ) -> (Processor, ProcessorHandle) {
        let Stores { messages, deliveries, subscriptions } = stores;
        let (writer, writer_handle) = Writer::new(
            options.sync_store.clone(),
            Arc::clone(&options.integrations),
            messages,
            deliveries.clone(),
            time.clone(),
            options.seed ^ 1,
        );
        let parts = CourierParts {
            integrations: Arc::clone(&options.integrations),
            subscriptions,
            deliveries,
            transports,
            time: time.clone(),
            seed: options.seed ^ 2,
        };
        let (courier, courier_handle) = Courier::new(options.async_delivery.clone(), parts);
        let handle = ProcessorHandle {
            registry: Arc::new(Registry::default()),
            writer: writer_handle,
            courier: courier_handle,
            budgets: [
                Budget::new(options.sync_store_budget_bytes),
                Budget::new(options.async_delivery_budget_bytes),
            ],
            time: time.clone(),
        };
        let pacer = SubscribePacer::new(options.fan_out.subscribes_per_second);
        let processor = Processor {
            options,
            kinesis,
            fleet,
            time,
            writer,
            courier,
            pacer,
            handle: handle.clone(),
        };
        (processor, handle)
    }

    /// Runs until the fleet ends, then returns. `stop` is the fleet's as well: when it is cancelled,
    /// deliveries under way are finished or parked while the shards are given up.
    pub async fn run(self, stop: CancellationToken) -> Exit {
        let sinks_stop = CancellationToken::new();
        let mut sinks: JoinSet<String> = JoinSet::new();
        let Processor { options, kinesis, fleet, time, writer, courier, pacer, handle } = self;
        let (store_stop, delivery_stop) = (sinks_stop.clone(), sinks_stop.clone());
        sinks.spawn(async move {
            match writer.run(store_stop).await {
                WriterExit::Stopped => format!("the {} pipeline ended by itself", PIPELINES[0]),
                WriterExit::Failed(why) => format!("the {} pipeline: {why}", PIPELINES[0]),
            }
        });
        sinks.spawn(async move {
            match courier.run(delivery_stop).await {
                CourierExit::Stopped => format!("the {} pipeline ended by itself", PIPELINES[1]),
                CourierExit::Failed(why) => format!("the {} pipeline: {why}", PIPELINES[1]),
            }
        });
        let drain = drain(stop, handle.courier.clone(), options.shard.drain_deadline);
        let start = Start { options, kinesis, time, pacer, handle };
        let exit = {
            let consume = consume(&start, &fleet, &mut sinks);
            tokio::pin!(consume, drain);
            tokio::select! {
                biased;
                exit = &mut consume => exit,
                () = &mut drain => consume.await,
            }
        };
        sinks_stop.cancel();
        while sinks.join_next().await.is_some() {}
        exit
    }
}

/// Once `stop` is cancelled: takes no more deliveries, finishes or parks what is under way.
async fn drain(stop: CancellationToken, courier: CourierHandle, deadline: Duration) {
    stop.cancelled().await;
    let drained = courier.drain(deadline).await;
    if drained.unsettled > 0 {
        tracing::warn!(
            batches = drained.unsettled,
            "deliveries could be neither finished nor parked in time; they come again"
        );
    }
}

/// Everything a shard consumer is made of.
struct Start {
    options: Options,
    kinesis: aws_sdk_kinesis::Client,
    time: SharedTimeSource,
    pacer: SubscribePacer,
    handle: ProcessorHandle,
}

/// Starts a consumer for each lease until there are no more, then waits for the last to leave.
async fn consume(start: &Start, fleet: &FleetHandle, sinks: &mut JoinSet<String>) -> Exit {
    let mut consumers: JoinSet<ConsumerExit> = JoinSet::new();
    let mut ended = false;
    let mut gauges = tokio::time::interval(GAUGE_INTERVAL);
    loop {
        tokio::select! {
            biased;
            sink = sinks.join_next() => return Exit::Failed(sink_ended(sink)),
            Some(exit) = consumers.join_next(), if !consumers.is_empty() => log_exit(exit),
            _ = gauges.tick() => start.gauges(),
            lease = fleet.next_lease(), if !ended => match lease {
                Some(lease) => match start.consumer(lease) {
                    Ok(consumer) => {
                        consumers.spawn(consumer.run());
                    }
                    Err((lease, why)) => {
                        tracing::error!(shard = %lease.lease().shard_id, why, "a lease cannot be consumed");
                        drop(lease);
                    }
                },
                None => ended = true,
            },
            else => return Exit::Stopped,
        }
        if ended && consumers.is_empty() {
            return Exit::Stopped;
        }
    }
}

fn sink_ended(sink: Option<Result<String, tokio::task::JoinError>>) -> String {
    match sink {
        Some(Ok(why)) => why,
        Some(Err(error)) => format!("a pipeline's task broke: {error}"),
        None => "no pipeline runs".to_owned(),
    }
}

fn log_exit(exit: Result<ConsumerExit, tokio::task::JoinError>) {
    match exit {
        Ok(exit) => tracing::debug!(?exit, "a shard consumer ended"),
        Err(error) => tracing::error!(%error, "a shard consumer broke; its lease is given up"),
    }
}

impl Start {
    fn gauges(&self) {
        for (name, budget) in PIPELINES.into_iter().zip(&self.handle.budgets) {
            metrics::in_flight_bytes(name, budget.in_use());
        }
    }

    fn consumer(&self, lease: LeaseHandle) -> Result<ShardConsumer, (LeaseHandle, String)> {
        let item = lease.lease();
        let Some(stream) = self.options.streams.iter().find(|s| *s.arn == *item.stream_arn) else {
            let why = format!("its stream {} is not configured", item.stream_arn);
            return Err((lease, why));
        };
        let shard = Arc::new(ShardContext {
            stream_arn: Arc::from(&*item.stream_arn),
            shard_id: Arc::from(item.shard_id.as_str()),
            consumer_arn: Arc::from(&*stream.consumer_arn),
            fence: item.counter.0,
            starting_hash_key: item.hash_range.map_or(0, |range| range.start),
            ending_hash_key: item.hash_range.map_or(u128::MAX, |range| range.end),
        });
        let positions = positions(item);
        let starting = StartingAt::new(smallest(&positions), item.start_at_ms);
        let seed = self.options.seed ^ fold(&shard.shard_id) ^ shard.fence;
        let fan_out = FanOut::new(
            self.options.fan_out.clone(),
            self.kinesis.clone(),
            self.pacer.clone(),
            Arc::clone(&shard),
            starting,
            seed,
        );
        let validity = lease.validity();
        let check = LeaseCheck::new(move || validity.is_valid());
        let behind_ms = item.lanes.values().map(|lane| lane.behind_ms).max().unwrap_or(0);
        let registered = self.handle.registry.enter(&shard, behind_ms, wall_ms(&self.time));
        Ok(ShardConsumer {
            check,
            fan_out,
            integrations: Arc::clone(&self.options.integrations),
            decode: self.options.decode.clone(),
            lanes: self.lanes(positions),
            options: self.options.shard.clone(),
            time: self.time.clone(),
            registered,
            shard,
            lease,
        })
    }

    fn lanes(&self, positions: [Checkpoint; 2]) -> [Lane; 2] {
        let [store, delivery] = positions;
        let sinks: [Arc<dyn Sink>; 2] =
            [Arc::new(self.handle.writer.clone()), Arc::new(self.handle.courier.clone())];
        let [to_store, to_courier] = sinks;
        let [store_budget, delivery_budget] = self.handle.budgets.clone();
        [
            Lane::new(lane_name(PIPELINES[0]), to_store, store_budget, store),
            Lane::new(lane_name(PIPELINES[1]), to_courier, delivery_budget, delivery),
        ]
    }
}

/// Where each lane goes on: its own position, or the lease's checkpoint when it has none.
fn positions(lease: &Lease) -> [Checkpoint; 2] {
    let known: BTreeMap<&str, &Checkpoint> =
        lease.lanes.iter().map(|(name, lane)| (name.as_str(), &lane.checkpoint)).collect();
    PIPELINES
        .map(|name| known.get(name).map_or_else(|| lease.checkpoint.clone(), |at| (*at).clone()))
}

/// Where the reader starts: at the lane that is furthest behind; the other skips what it has settled.
fn smallest(positions: &[Checkpoint; 2]) -> Checkpoint {
    positions.iter().min().cloned().unwrap_or(Checkpoint::TrimHorizon)
}

#[allow(clippy::expect_used)]
fn lane_name(pipeline: &'static str) -> LaneName {
    LaneName::parse(pipeline).expect("the pipelines' names are lane names")
}

/// A number that differs from shard to shard, for jitter.
fn fold(shard_id: &str) -> u64 {
    shard_id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
