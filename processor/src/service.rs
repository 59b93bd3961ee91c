//! The processor as a whole: a shard consumer for each lease, one writer, one courier.
//!
//! [`Processor::run`] takes leases from the fleet, starts a consumer for each, and ends when the
//! fleet has ended and every consumer has left. It owns the two sinks; it never touches a record.

use std::sync::Arc;
use std::time::Duration;

use aws_smithy_async::time::SharedTimeSource;
use lease_manager::{FleetHandle, LaneName, LeaseHandle, WorkerState};
use store::{DeliveryStore, MessageStore, SubscriptionStore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::async_delivery::{
    Courier, CourierExit, CourierHandle, CourierOptions, CourierParts, KinesisLogs, Outlets, Peers,
    Replayer, ReplayerParts,
};
use crate::batch::{LeaseCheck, ShardContext};
use crate::budget::Budget;
use crate::clock::wall_ms;
use crate::decode::DecodeOptions;
use crate::fan_out::FanOutOptions;
use crate::handle::ProcessorHandle;
use crate::integration::Integrations;
use crate::lane::Lane;
use crate::lane_start::{LaneStart, starts};
use crate::lane_watch::LaneWatch;
use crate::marker;
use crate::metrics;
use crate::polling::PollingOptions;
use crate::reader::{KinesisClients, Readers, StartingAt, StreamOptions};
use crate::shard_consumer::{Exit as ConsumerExit, ShardConsumer, ShardConsumerOptions, Track};
use crate::status::Registry;
use crate::sync_store::{SyncStoreOptions, Writer, WriterExit};
use crate::turns::Turns;

/// The pipelines' names, as leases, metrics and status pages write them.
pub const PIPELINES: [&str; 2] = ["sync-store", "async-delivery"];
/// The place of the second one among them.
pub(crate) const ASYNC_DELIVERY: usize = 1;

/// How often the gauges of the budgets are set.
const GAUGE_INTERVAL: Duration = Duration::from_secs(5);

/// Of the bytes that reading may hold, one in so many is for replays and open ranges.
const BESIDE_SHARE: usize = 8;
/// Deliveries that a replay parks ahead of a destination that does not keep up.
const REPLAY_MAX_AHEAD: usize = 2_000;

/// Bytes that each pipeline may hold unless it is configured.
const DEFAULT_BUDGET_BYTES: usize = 64 * 1024 * 1024;

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
    /// How shards are polled, where they are, and how lanes catch up.
    pub polling: PollingOptions,
    /// Bytes that frames and answers may hold until they are decoded, over all shards.
    pub reading_budget_bytes: usize,
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
    /// Default options for the worker of this name: 64 MiB for each pipeline and for reading.
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
            polling: PollingOptions::default(),
            reading_budget_bytes: DEFAULT_BUDGET_BYTES,
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
    fleet: FleetHandle,
    time: SharedTimeSource,
    writer: Writer,
    courier: Courier,
    replayer: Option<Replayer>,
    deliveries: DeliveryStore,
    readers: Arc<Readers>,
    handle: ProcessorHandle,
}

impl Processor {
    /// A processor over the given clients, and the handle that asks it. `outlets` is what
    /// deliveries leave through.
    pub fn new(
        options: Options,
        kinesis: impl Into<KinesisClients>,
        stores: Stores,
        outlets: Outlets,
        fleet: FleetHandle,
        time: SharedTimeSource,
    ) -> (Processor, ProcessorHandle) {
        let Stores { messages, deliveries, subscriptions } = stores;
        let (writer, writer_handle) = Writer::new(
            options.sync_store.clone(),
            options.sync_store_budget_bytes,
            Arc::clone(&options.integrations),
            messages,
            deliveries.clone(),
            time.clone(),
            options.seed ^ 1,
        );
        let beside = Budget::new(options.reading_budget_bytes / BESIDE_SHARE);
        let readers = Arc::new(Readers::new(
            options.fan_out.clone(),
            options.polling.clone(),
            kinesis.into(),
            Budget::new(options.reading_budget_bytes - options.reading_budget_bytes / BESIDE_SHARE),
            time.clone(),
            &options.streams,
        ));
        let logs = KinesisLogs::new(&readers, &beside, &options.integrations, &options.decode);
        let delivery_budget = Budget::new(options.async_delivery_budget_bytes);
        let parts = CourierParts {
            integrations: Arc::clone(&options.integrations),
            subscriptions,
            deliveries: deliveries.clone(),
            logs: Arc::new(logs),
            budget: delivery_budget.clone(),
            outlets,
            peers: peers(&fleet),
            time: time.clone(),
            seed: options.seed ^ 2,
        };
        let (courier, courier_handle) = Courier::new(options.async_delivery.clone(), parts);
        let handle = ProcessorHandle {
            registry: Arc::new(Registry::default()),
            writer: writer_handle,
            courier: courier_handle,
            budgets: [Budget::new(options.sync_store_budget_bytes), delivery_budget],
            time: time.clone(),
        };
        let marked = deliveries.clone();
        let replayer = handle.courier.views().map(|views| {
            Replayer::new(ReplayerParts {
                replays: deliveries.replays(),
                deliveries,
                views,
                readers: Arc::clone(&readers),
                budget: beside,
                max_ahead: REPLAY_MAX_AHEAD,
                integrations: Arc::clone(&options.integrations),
                decode: options.decode.clone(),
                time: time.clone(),
                worker: options.async_delivery.worker.clone(),
                seed: options.seed ^ 3,
            })
        });
        let handle_to_it = handle.clone();
        let processor = Processor {
            options,
            fleet,
            time,
            writer,
            courier,
            replayer,
            deliveries: marked,
            readers,
            handle,
        };
        (processor, handle_to_it)
    }

    /// Runs until the fleet ends, then returns. `stop` is the fleet's as well: when it is cancelled,
    /// deliveries under way are finished or parked while the shards are given up.
    pub async fn run(self, stop: CancellationToken) -> Exit {
        let sinks_stop = CancellationToken::new();
        let mut sinks: JoinSet<String> = JoinSet::new();
        let Processor {
            options,
            fleet,
            time,
            writer,
            courier,
            replayer,
            deliveries,
            readers,
            handle,
        } = self;
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
        if let Some(replayer) = replayer {
            sinks.spawn(replayer.serve(stop.clone(), sinks_stop.clone()));
            let marks = marker::run(deliveries, handle.clone(), sinks_stop.clone());
            sinks.spawn(async move {
                marks.await;
                "the marker ended by itself".to_owned()
            });
        }
        let drain = drain(stop, handle.courier.clone(), options.shard.drain_deadline);
        let turns = Turns::new(options.shard.writes_per_second);
        let start = Start { options, time, readers, turns, handle };
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

/// The workers that live, as the fleet was seen last.
fn peers(fleet: &FleetHandle) -> Peers {
    let fleet = fleet.clone();
    Peers::new(move || {
        let view = fleet.view();
        let live = view.workers.iter().filter(|(_, w)| w.state == WorkerState::Active);
        live.map(|(id, _)| id.to_string()).collect()
    })
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
    time: SharedTimeSource,
    readers: Arc<Readers>,
    turns: Turns,
    handle: ProcessorHandle,
}

/// Starts a consumer for each lease until there are no more, then waits for the last to leave.
async fn consume(start: &Start, fleet: &FleetHandle, sinks: &mut JoinSet<String>) -> Exit {
    let mut consumers: JoinSet<ConsumerExit> = JoinSet::new();
    let mut ended = false;
    let mut gauges = tokio::time::interval(GAUGE_INTERVAL);
    let mut watch = LaneWatch::default();
    loop {
        tokio::select! {
            biased;
            sink = sinks.join_next() => return Exit::Failed(sink_ended(sink)),
            Some(exit) = consumers.join_next(), if !consumers.is_empty() => log_exit(exit),
            now = gauges.tick() => {
                start.gauges();
                let (lanes, behind) = start.handle.registry.lanes_behind();
                watch.look(behind, lanes, now);
            }
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
        self.readers.gauge();
        for (name, budget) in PIPELINES.into_iter().zip(&self.handle.budgets) {
            metrics::in_flight_bytes(name, budget.in_use());
        }
    }

    fn consumer(&self, lease: LeaseHandle) -> Result<ShardConsumer, (LeaseHandle, String)> {
        let item = lease.lease();
        let shard = Arc::new(ShardContext {
            stream_arn: Arc::from(&*item.stream_arn),
            shard_id: Arc::from(item.shard_id.as_str()),
            fence: item.counter.0,
            starting_hash_key: item.hash_range.map_or(0, |range| range.start),
            ending_hash_key: item.hash_range.map_or(u128::MAX, |range| range.end),
        });
        let seed = self.options.seed ^ fold(&shard.shard_id) ^ shard.fence;
        let Some(readers) = self.readers.of(&shard, seed) else {
            return Err((lease, format!("its stream {} is not configured", shard.stream_arn)));
        };
        let now_ms = wall_ms(&self.time);
        let starts = starts(item, now_ms);
        let unread_since_ms = starts.each_ref().map(|start| start.unread_since_ms);
        let registered =
            self.handle.registry.enter(&shard, unread_since_ms, readers.retention(), now_ms);
        let validity = lease.validity();
        let check = LeaseCheck::new(move || validity.is_valid());
        self.handle.courier.adopt(&shard, &check, &starts[1].position);
        Ok(ShardConsumer {
            check,
            live: readers.live(StartingAt::new(item.checkpoint.clone(), item.start_at_ms)),
            readers,
            integrations: Arc::clone(&self.options.integrations),
            decode: self.options.decode.clone(),
            tracks: self.tracks(starts),
            keeper: Arc::new(self.handle.writer.clone()),
            options: self.options.shard.clone(),
            turns: self.turns.clone(),
            time: self.time.clone(),
            registered,
            shard,
            lease,
        })
    }

    fn tracks(&self, starts: [LaneStart; 2]) -> [Track; 2] {
        let [to_store, to_courier] = starts;
        let [store, delivery] = &self.handle.budgets;
        let track = |pipeline, sink, budget: &Budget, start: LaneStart| {
            let lane = Lane::new(lane_name(pipeline), sink, budget.share(), start.position);
            Track::new(lane, start.unread_since_ms)
        };
        [
            track(PIPELINES[0], Arc::new(self.handle.writer.clone()), store, to_store),
            track(PIPELINES[1], Arc::new(self.handle.courier.clone()), delivery, to_courier),
        ]
    }
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
