//! The service: makes the parts of this room, runs them, and ends them in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_smithy_async::time::SharedTimeSource;
use lease_manager::Checkpoint;
use store::{DeliveryStore, SubscriptionStore};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::delivery::Gauge;
use super::destination::{Outlets, Workshop};
use super::estate::Estate;
use super::events::Told;
use super::intake::{Intake, IntakeExit, IntakeParts, Lanes};
use super::lane::Returned;
use super::lane_task::LaneTools;
use super::ledger::{Ledger, LedgerHandle, Stores};
use super::options::CourierOptions;
use super::ordered::OpenShards;
use super::ranges::{Adopted, Logs, RangeFigures, RangeShared, RangesParts};
use super::share::{Peers, Share};
use super::stats::{Counters, CourierStats};
use super::sweeper::Sweeper;
use super::watch::{ViewWatch, WatchPace, Watcher};
use crate::batch::{LaneBatch, LeaseCheck, ShardContext};
use crate::budget::Budget;
use crate::integration::Integrations;
use crate::lane::Sink;
use crate::null_sink::{NullSink, SinkMode};

/// After a stop, what is parked last has this long to be written.
const LAST_WRITES: Duration = Duration::from_secs(2);

/// Shards that were taken over and not looked at yet.
const ADOPTIONS: usize = 1_024;
/// Messages that lanes gave back and nobody looked at yet; what is more is parked.
const RETURNS: usize = 8_192;

/// What a courier needs from outside.
pub(crate) struct CourierParts {
    /// The integrations that the batches are routed by.
    pub(crate) integrations: Arc<Integrations>,
    /// Who wants what.
    pub(crate) subscriptions: SubscriptionStore,
    /// Where deliveries are parked.
    pub(crate) deliveries: DeliveryStore,
    /// Where open ranges are read from.
    pub(crate) logs: Arc<dyn Logs>,
    /// What batches are charged to that are read for open ranges.
    pub(crate) budget: Budget,
    /// What deliveries leave through.
    pub(crate) outlets: Outlets,
    /// Who else delivers.
    pub(crate) peers: Peers,
    /// The wall clock.
    pub(crate) time: SharedTimeSource,
    /// Of every random choice.
    pub(crate) seed: u64,
}

/// How a courier ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CourierExit {
    /// It was asked to.
    Stopped,
    /// A part of it ended by itself; what it held is not settled and will be delivered again.
    Failed(String),
}

/// What [`CourierHandle::drain`] left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Drained {
    /// Batches that are still not settled: their messages will be delivered again.
    pub(crate) unsettled: usize,
}

/// Delivers batches to subscribers' destinations.
pub(crate) struct Courier {
    watcher: Watcher,
    intake: Intake,
    ledger: Ledger,
    sweeper: Sweeper,
    estate: Estate,
    stops: Stops,
    sink: SinkMode,
}

/// The switches of a courier, from gentle to hard.
#[derive(Clone, Default)]
struct Stops {
    /// Batches are handed back.
    closed: Arc<AtomicBool>,
    /// Lanes park what they have not begun, and end.
    retire_all: CancellationToken,
    /// Attempts under way are given up.
    abort: CancellationToken,
}

/// The courier's door: accepts batches, shows figures, drains. Cheap to clone.
#[derive(Clone)]
pub(crate) struct CourierHandle {
    batches: mpsc::Sender<LaneBatch>,
    adopted: mpsc::Sender<Adopted>,
    ranges: Arc<RangeFigures>,
    views: ViewWatch,
    lanes: Arc<ArcSwap<Lanes>>,
    gauge: Arc<Gauge>,
    shards: OpenShards,
    ledger: LedgerHandle,
    stops: Stops,
    /// In the place of all of it, when nothing is kept.
    null: Option<Arc<NullSink>>,
}

impl Courier {
    /// Makes a courier; nothing happens before [`run`](Self::run).
    #[must_use]
    pub(crate) fn new(options: CourierOptions, parts: CourierParts) -> (Courier, CourierHandle) {
        let mut rng = fastrand::Rng::with_seed(parts.seed);
        let stops = Stops::default();
        let pace = WatchPace {
            interval: options.watch_interval,
            shortest: options.shortest_watch_interval,
            max_age: options.max_view_age,
        };
        let (watcher, views) = Watcher::new(parts.subscriptions.clone(), pace);
        let estate_of = parts.subscriptions.clone();
        let stores = Stores {
            deliveries: parts.deliveries.clone(),
            subscriptions: parts.subscriptions.clone(),
            views: views.clone(),
            told: Told::default(),
        };
        let (ledger, ledger_handle) =
            Ledger::new(stores, parts.time.clone(), options.ledger_queue, rng.u64(..));
        let (sender, batches) = mpsc::channel(options.batch_queue);
        let (adopts, adopted) = mpsc::channel(ADOPTIONS);
        let (returns, returned) = mpsc::channel(RETURNS);
        let figures: Arc<RangeFigures> = Arc::default();
        let lanes: Arc<ArcSwap<Lanes>> = Arc::default();
        let gauge: Arc<Gauge> = Arc::default();
        let shards = OpenShards::default();
        let shared = RangeShared { gauge: &gauge, closed: &stops.closed, figures: &figures };
        let ranges = RangesParts::new(&options, &parts, &shared, rng.u64(..));
        let links = LaneLinks { ledger: &ledger_handle, views: &views, shards: &shards, returns };
        let tools = links.tools(&options, &parts, &stops);
        let intake = Intake::new(IntakeParts {
            batches,
            adopted,
            returned,
            views: views.clone(),
            ranges,
            integrations: parts.integrations,
            lanes: Arc::clone(&lanes),
            gauge: Arc::clone(&gauge),
            tools,
            lane_queue: options.destination_queue,
            retire_all: stops.retire_all.clone(),
            seed: rng.u64(..),
        });
        let sweeper = Sweeper {
            deliveries: parts.deliveries,
            lanes: Arc::clone(&lanes),
            ledger: ledger_handle.clone(),
            views: views.clone(),
            time: parts.time,
            share: Share::new(options.worker.clone(), parts.peers),
            worker: options.worker,
            interval: options.sweep_interval,
            rng: rng.fork(),
            orphans: Arc::<Counters>::default(),
        };
        let estate = Estate::beside(&sweeper, estate_of, rng.fork());
        let handle = CourierHandle {
            batches: sender,
            adopted: adopts,
            ranges: figures,
            views,
            lanes,
            gauge,
            shards,
            ledger: ledger_handle,
            stops: stops.clone(),
            null: (options.sink == SinkMode::Discard).then(Arc::default),
        };
        (Courier { watcher, intake, ledger, sweeper, estate, stops, sink: options.sink }, handle)
    }

    /// Delivers until `stop`. What is under way then is parked as far as two seconds allow; drain
    /// first to give it more time.
    pub(crate) async fn run(self, stop: CancellationToken) -> CourierExit {
        let Courier { watcher, intake, ledger, sweeper, estate, stops, sink } = self;
        if sink == SinkMode::Discard {
            stop.cancelled().await;
            return CourierExit::Stopped;
        }
        let (end, finish, give_up) =
            <(CancellationToken, CancellationToken, CancellationToken)>::default();
        let mut parts = JoinSet::new();
        let (watching, sweeping, taking) = (end.clone(), end.clone(), end.clone());
        let looking = end.clone();
        parts.spawn(async move {
            watcher.run(watching).await;
            Ended::Other
        });
        parts.spawn(async move {
            sweeper.run(sweeping).await;
            Ended::Other
        });
        parts.spawn(async move {
            estate.run(looking).await;
            Ended::Other
        });
        parts.spawn(async move { Ended::Intake(intake.run(taking).await) });
        let (finishing, giving_up) = (finish.clone(), give_up.clone());
        parts.spawn(async move {
            ledger.run(finishing, giving_up).await;
            Ended::Other
        });
        let exit = tokio::select! { biased;
            () = stop.cancelled() => CourierExit::Stopped,
            ended = parts.join_next() => CourierExit::Failed(describe(ended)),
        };
        stops.closed.store(true, Ordering::Release);
        stops.retire_all.cancel();
        stops.abort.cancel();
        end.cancel();
        let orderly = async {
            // The ledger is the last to end: the others may still give it work.
            while parts.len() > 1 {
                parts.join_next().await;
            }
            finish.cancel();
            while parts.join_next().await.is_some() {}
        };
        if timeout(LAST_WRITES, orderly).await.is_err() {
            tracing::warn!(
                "not every delivery could be parked before the stop; those will be delivered again"
            );
        }
        give_up.cancel();
        parts.shutdown().await;
        exit
    }
}

/// What lanes share with the other parts.
struct LaneLinks<'a> {
    ledger: &'a LedgerHandle,
    views: &'a ViewWatch,
    shards: &'a OpenShards,
    returns: mpsc::Sender<Returned>,
}

impl LaneLinks<'_> {
    fn tools(self, options: &CourierOptions, parts: &CourierParts, stops: &Stops) -> LaneTools {
        LaneTools {
            workshop: Workshop {
                outlets: parts.outlets.clone(),
                links: options.links.clone(),
                time: parts.time.clone(),
            },
            time: parts.time.clone(),
            worker: Arc::from(&*options.worker),
            ledger: self.ledger.clone(),
            returns: self.returns,
            views: self.views.clone(),
            breaker: options.breaker,
            abort: stops.abort.clone(),
            deliveries: parts.deliveries.clone(),
            shards: self.shards.clone(),
        }
    }
}

enum Ended {
    Intake(IntakeExit),
    Other,
}

fn describe(ended: Option<Result<Ended, tokio::task::JoinError>>) -> String {
    match ended {
        Some(Ok(Ended::Intake(IntakeExit::Failed(why)))) => why,
        Some(Ok(_)) | None => String::from("a part of the courier ended early"),
        Some(Err(error)) => format!("a part of the courier: {error}"),
    }
}

impl CourierHandle {
    /// Accepts a batch, or hands it back at once: no room, a view too old to route by, or draining.
    ///
    /// A malformed entry counts as settled here: its dead letter is the sync-store lane's to write.
    pub(crate) fn accept(&self, batch: LaneBatch) -> Result<(), LaneBatch> {
        if self.stops.closed.load(Ordering::Acquire) {
            return Err(batch);
        }
        if let Some(null) = &self.null {
            null.take(batch);
            return Ok(());
        }
        if !self.views.is_fresh() {
            return Err(batch);
        }
        self.batches.try_send(batch).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(batch) | mpsc::error::TrySendError::Closed(batch) => {
                batch
            }
        })
    }

    /// The subscriptions as they are read; `None` when nothing is delivered.
    pub(crate) fn views(&self) -> Option<ViewWatch> {
        self.null.is_none().then(|| self.views.clone())
    }

    /// This worker has taken a shard over, under this lease, at this position of its `async-delivery` lane. The ranges that stand
    /// open of it are read at once; should it not be heard, they are with the shard's first batch.
    pub(crate) fn adopt(
        &self,
        shard: &Arc<ShardContext>,
        lease: &LeaseCheck,
        position: &Checkpoint,
    ) {
        let adopted =
            Adopted { shard: Arc::clone(shard), lease: lease.clone(), position: position.clone() };
        if self.null.is_none() && self.adopted.try_send(adopted).is_err() {
            tracing::debug!(shard = %shard.shard_id, "its open ranges are read with its first batch");
        }
    }

    /// Figures for status pages.
    #[must_use]
    pub(crate) fn stats(&self) -> CourierStats {
        let age = self.views.age();
        CourierStats {
            destinations: self.lanes.load().active.values().map(|lane| lane.stats()).collect(),
            batches_in_hand: self.gauge.count(),
            view_age_ms: age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            paused: self.null.is_none() && !self.views.is_fresh(),
            ledger_in_hand: self.ledger.in_hand(),
            ranges_open: self.ranges.open(),
            ranges_time_to_loss_ms: self.ranges.left_ms(),
            ranges_spilling: self.ranges.spilling(),
            discarded: self.null.as_ref().map_or(0, |null| null.entries()),
        }
    }

    /// What the pipeline needs and cannot use, by name, with what ails it in words; nothing is skipped
    /// meanwhile, its lanes wait.
    pub(crate) fn ailments(&self) -> impl Iterator<Item = (String, String)> {
        [self.views.ailment(), self.ledger.ailment(), self.ranges.ailment()].into_iter().flatten()
    }

    /// Takes no more batches, gives what is under way three quarters of `deadline` to finish, and
    /// parks the rest in what remains.
    pub(crate) async fn drain(&self, deadline: Duration) -> Drained {
        let end = Instant::now() + deadline;
        self.stops.closed.store(true, Ordering::Release);
        self.views.confirm_soon();
        let gently = async {
            while self.queued() > 0 {
                sleep(Duration::from_millis(5)).await;
            }
            self.gauge.emptied().await;
        };
        if timeout(deadline.mul_f64(0.75), gently).await.is_err() {
            self.stops.retire_all.cancel();
            self.stops.abort.cancel();
            let _ = timeout_at(end, self.gauge.emptied()).await;
        }
        Drained { unsettled: self.gauge.count() + self.queued() }
    }

    /// Batches accepted and not yet routed.
    fn queued(&self) -> usize {
        self.batches.max_capacity() - self.batches.capacity()
    }
}

impl Sink for CourierHandle {
    fn offer(&self, batch: LaneBatch) -> Result<(), LaneBatch> {
        self.accept(batch)
    }

    fn open(&self, shard: &Arc<ShardContext>, lease: &LeaseCheck) {
        self.shards.open(shard, lease);
    }

    fn close(&self, shard: &ShardContext) {
        self.shards.close(shard);
    }
}
