//! From accepted batches to destinations' lanes.
//!
//! Routes each batch by the freshest view, and hands its messages to lanes without waiting for any; what a
//! lane does not take opens a range (`ranges`). Nothing of a shard is routed before its open ranges are
//! known. A routed batch is held open until a view that was read *after* the routing confirms it: a subscription that appears in that view gets the batch's messages
//! too, so a subscription misses nothing that arrived after its creation, and no message waits for
//! the confirmation. Owns the lanes: makes, changes and retires them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
use store::{Subscription, SubscriptionId, SubscriptionSnapshot};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::delivery::{Gauge, Track};
use super::lane::{LaneHandle, Returned, lane};
use super::lane_task::{LaneTask, LaneTools};
use super::mandate::Mandate;
use super::metrics;
use super::overflow::{Overflow, refused, unload};
use super::ranges::{Adopted, Event, Ranges, RangesParts, Routes};
use super::router::{Asked, Known, Router, Scratch};
use super::watch::{View, ViewWatch};
use crate::batch::LaneBatch;
use crate::clock::wall_ms;
use crate::integration::Integrations;

/// Batches that wait for their confirmation before no more are taken.
const MAX_UNCONFIRMED: usize = 4_096;

/// The lanes by subscription, for everyone who looks from outside.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    pub(super) active: BTreeMap<SubscriptionId, Arc<LaneHandle>>,
    /// Subscriptions that exist but are switched off, or whose owner is.
    pub(super) disabled: BTreeMap<SubscriptionId, Arc<Subscription>>,
    /// A view has been read; before that an absent subscription means nothing.
    pub(super) known: bool,
}

/// A routed batch that a later view has to confirm.
struct Unconfirmed {
    track: Arc<Track>,
    routed_at: Instant,
}

/// What the intake is made with.
pub(super) struct IntakeParts {
    pub(super) batches: mpsc::Receiver<LaneBatch>,
    /// Shards that this worker has taken over.
    pub(super) adopted: mpsc::Receiver<Adopted>,
    /// What lanes had and do not keep.
    pub(super) returned: mpsc::Receiver<Returned>,
    pub(super) ranges: RangesParts,
    pub(super) views: ViewWatch,
    pub(super) integrations: Arc<Integrations>,
    pub(super) lanes: Arc<ArcSwap<Lanes>>,
    pub(super) gauge: Arc<Gauge>,
    pub(super) tools: LaneTools,
    pub(super) lane_queue: usize,
    /// Cancelled: every lane parks what it has and ends.
    pub(super) retire_all: CancellationToken,
    pub(super) seed: u64,
}

pub(super) struct Intake {
    parts: Parts,
    ranges: Ranges,
    known: Vec<Known>,
    snapshot: Option<Arc<SubscriptionSnapshot>>,
    router: Router<Arc<LaneHandle>>,
    scratch: Scratch,
    unconfirmed: VecDeque<Unconfirmed>,
    /// Received just as the view turned stale.
    pending: Option<LaneBatch>,
    /// What waits for room elsewhere; no batch is taken meanwhile.
    overflow: VecDeque<Overflow>,
    tasks: JoinSet<()>,
    rng: fastrand::Rng,
}

/// What it keeps of [`IntakeParts`].
struct Parts {
    batches: mpsc::Receiver<LaneBatch>,
    adopted: mpsc::Receiver<Adopted>,
    returned: mpsc::Receiver<Returned>,
    views: ViewWatch,
    integrations: Arc<Integrations>,
    lanes: Arc<ArcSwap<Lanes>>,
    gauge: Arc<Gauge>,
    tools: LaneTools,
    lane_queue: usize,
    retire_all: CancellationToken,
}

enum Step {
    End(IntakeExit),
    See(View),
    Take(LaneBatch),
    TakeReady,
    Adopt(Adopted),
    TakeBack(Returned),
    OfRanges(Event),
    Written,
}

/// How the intake ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum IntakeExit {
    /// As asked.
    Stopped,
    /// A part that it needs ended by itself.
    Failed(String),
}

impl Intake {
    pub(super) fn new(parts: IntakeParts) -> Intake {
        Intake {
            known: Known::all(&parts.integrations),
            rng: fastrand::Rng::with_seed(parts.seed),
            ranges: Ranges::new(parts.ranges),
            parts: Parts {
                batches: parts.batches,
                adopted: parts.adopted,
                returned: parts.returned,
                views: parts.views,
                integrations: parts.integrations,
                lanes: parts.lanes,
                gauge: parts.gauge,
                tools: parts.tools,
                lane_queue: parts.lane_queue,
                retire_all: parts.retire_all,
            },
            snapshot: None,
            router: Router::compile(&[], []),
            scratch: Scratch::default(),
            unconfirmed: VecDeque::new(),
            pending: None,
            overflow: VecDeque::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Routes until `stop`; then retires the lanes and waits until they have ended.
    pub(super) async fn run(mut self, stop: CancellationToken) -> IntakeExit {
        let exit = loop {
            match self.step(&stop).await {
                Step::End(exit) => break exit,
                Step::See(view) => self.see(view),
                Step::Take(batch) => self.take(batch),
                Step::TakeReady => {
                    if let Some(batch) = self.ranges.pop_ready() {
                        self.route_or_wait(batch);
                    }
                }
                Step::Adopt(adopted) => self.ranges.adopt(adopted),
                Step::TakeBack(returned) => self.take_back(returned),
                Step::OfRanges(event) => self.tend_ranges(event),
                Step::Written => {}
            }
        };
        self.finish().await;
        exit
    }

    async fn step(&mut self, stop: &CancellationToken) -> Step {
        let can_take = self.pending.is_none()
            && self.overflow.is_empty()
            && self.unconfirmed.len() + self.ranges.waiting() < MAX_UNCONFIRMED
            && self.parts.views.is_fresh();
        let failed = |why: String| Step::End(IntakeExit::Failed(why));
        let is_ready = can_take && self.ranges.has_ready();
        let Intake { parts, ranges, overflow, tasks, .. } = self;
        tokio::select! { biased;
            () = stop.cancelled() => Step::End(IntakeExit::Stopped),
            Some(Err(error)) = tasks.join_next(), if !tasks.is_empty() => {
                failed(format!("a destination's lane: {error}"))
            }
            view = parts.views.next() => match view {
                Some(view) => Step::See(view),
                None => failed("the watch over the subscriptions ended".into()),
            },
            unloaded = unload(&parts.tools, overflow), if !overflow.is_empty() => match unloaded {
                true => Step::Written,
                false => failed("the ledger ended".into()),
            },
            Some(adopted) = parts.adopted.recv() => Step::Adopt(adopted),
            Some(returned) = parts.returned.recv() => Step::TakeBack(returned),
            event = ranges.next() => Step::OfRanges(event),
            () = std::future::ready(()), if is_ready => Step::TakeReady,
            Some(batch) = parts.batches.recv(), if can_take => Step::Take(batch),
        }
    }

    /// Lets go of what is not routed, and has every lane park what it holds.
    async fn finish(mut self) {
        self.parts.retire_all.cancel();
        for waiting in self.overflow.drain(..) {
            // What is in order and not in its lane is not settled: it comes again.
            let Overflow::Job(job) = waiting else { continue };
            if self.parts.tools.ledger.write(job).await.is_err() {
                break;
            }
        }
        while self.tasks.join_next().await.is_some() {}
        // What lanes gave back and nobody saw is parked after all.
        self.parts.returned.close();
        while let Some(Returned { shared, live }) = self.parts.returned.recv().await {
            let job = refused(&shared, live, wall_ms(&self.parts.tools.time));
            let Some(job) = job else { continue };
            if self.parts.tools.ledger.write(job).await.is_err() {
                break;
            }
        }
        // What lanes let go of is back in its ranges by now.
        self.ranges.finish().await;
        self.parts.lanes.store(Arc::default());
    }

    /// A batch of a shard whose ranges are not known yet waits with them.
    fn take(&mut self, batch: LaneBatch) {
        if let Some(batch) = self.ranges.admit(batch) {
            self.route_or_wait(batch);
        }
    }

    fn tend_ranges(&mut self, event: Event) {
        let lanes = self.parts.lanes.load();
        self.ranges.act(event, &Routes { router: &self.router, lanes: &lanes });
        self.overflow.extend(self.ranges.take_jobs().map(Overflow::Job));
    }

    /// A lane gave a message back: it waits behind its range, or is parked where there can be none.
    fn take_back(&mut self, returned: Returned) {
        let Err(Returned { shared, live }) = self.ranges.take_back(returned) else { return };
        if !live.lease_is_lost() {
            let job = refused(&shared, live, wall_ms(&self.parts.tools.time));
            self.overflow.extend(job.map(Overflow::Job));
        }
    }

    fn route_or_wait(&mut self, batch: LaneBatch) {
        // Between the check and the batch's arrival the view may have aged.
        if self.parts.views.is_fresh() {
            self.route(batch);
        } else {
            self.pending = Some(batch);
        }
    }

    fn route(&mut self, batch: LaneBatch) {
        let track = Track::new(batch, &self.parts.integrations, &self.parts.gauge);
        let unmatched = self.give(None, &track);
        metrics::unmatched(unmatched);
        metrics::unreadable(self.scratch.take_unreadable());
        self.unconfirmed.push_back(Unconfirmed { track, routed_at: Instant::now() });
        self.parts.views.confirm_soon();
    }

    /// A new reading of the subscriptions: lanes first, then the batches that it confirms.
    fn see(&mut self, view: View) {
        let changed =
            self.snapshot.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &view.snapshot));
        if changed {
            let newcomers = self.rebuild(&view.snapshot);
            self.catch_up(&newcomers);
        }
        while self.unconfirmed.front().is_some_and(|first| first.routed_at <= view.read_began) {
            if let Some(confirmed) = self.unconfirmed.pop_front() {
                confirmed.track.release();
            }
        }
        self.unconfirmed.retain(|waiting| !waiting.track.is_lost());
        if !self.unconfirmed.is_empty() {
            self.parts.views.confirm_soon();
        }
        if let Some(batch) = self.pending.take() {
            self.route_or_wait(batch);
        }
    }

    /// Gives the subscriptions that were not known when they were routed the unconfirmed batches.
    fn catch_up(&mut self, newcomers: &Router<Arc<LaneHandle>>) {
        let waiting: Vec<_> =
            self.unconfirmed.iter().map(|waiting| Arc::clone(&waiting.track)).collect();
        for track in &waiting {
            self.give(Some(newcomers), track);
        }
        // They were counted when the batches were routed.
        self.scratch.take_unreadable();
    }

    /// Makes lanes and router fit the snapshot; returns a router of the subscriptions never seen before.
    fn rebuild(&mut self, snapshot: &Arc<SubscriptionSnapshot>) -> Router<Arc<LaneHandle>> {
        let before = self.parts.lanes.load_full();
        let mut after = Lanes { known: true, ..Lanes::default() };
        let mut newcomers = BTreeSet::new();
        for subscription in &snapshot.subscriptions {
            let id = &subscription.id;
            let subscription = Arc::new(subscription.clone());
            let Some(mandate) = Mandate::of(&subscription, snapshot) else {
                after.disabled.insert(id.clone(), subscription);
                continue;
            };
            let was_disabled = before.disabled.contains_key(id);
            if self.snapshot.is_some() && !before.active.contains_key(id) && !was_disabled {
                newcomers.insert(id);
            }
            let lane = match before.active.get(id) {
                Some(lane) => {
                    if **lane.shared.mandate.load() != mandate {
                        lane.change(Arc::new(mandate));
                    }
                    Arc::clone(lane)
                }
                None => {
                    let lane = self.open_lane(Arc::new(mandate));
                    // What was put off while the subscription was switched off is due again.
                    lane.shared.recovering.store(was_disabled, Ordering::Release);
                    lane
                }
            };
            after.active.insert(id.clone(), lane);
        }
        for (id, lane) in &before.active {
            if !after.active.contains_key(id) {
                lane.retire();
            }
        }
        let mandates: Vec<_> = after
            .active
            .iter()
            .map(|(id, lane)| (id, lane.shared.mandate.load_full(), Arc::clone(lane)))
            .collect();
        let with_lanes = |wanted: &dyn Fn(&SubscriptionId) -> bool| {
            let chosen = mandates.iter().filter(|(id, ..)| wanted(id));
            Router::compile(
                &self.known,
                chosen.map(|(_, mandate, lane)| (&**mandate, Arc::clone(lane))),
            )
        };
        let late = with_lanes(&|id| newcomers.contains(id));
        self.router = with_lanes(&|_| true);
        self.snapshot = Some(Arc::clone(snapshot));
        self.parts.lanes.store(Arc::new(after));
        late
    }

    /// Hands every message of the batch to the lanes that want it, or to their ranges; `newcomers` are the lanes it is for, if not
    /// all. Counts the messages that nobody wants.
    fn give(&mut self, newcomers: Option<&Router<Arc<LaneHandle>>>, track: &Arc<Track>) -> u64 {
        let Intake { router, ranges, scratch, overflow, .. } = self;
        let router = newcomers.unwrap_or(router);
        let Some(mut routing) = ranges.routing(track) else { return 0 };
        let mut unmatched = 0;
        let entries = if router.is_empty() { &[] } else { track.entries() };
        for (index, entry) in entries.iter().enumerate() {
            // What is malformed is the sync-store lane's to keep; here it is settled by being passed over.
            let Ok(route) = track.batch().route(entry) else { continue };
            let mut matched = false;
            for lane in router.matches(Asked::of(track.batch(), entry, &route), scratch) {
                matched = true;
                // A range keeps no order over a reshard: what asks for one has chains. But one that is open when it begins to ask is
                // worked off first.
                if !lane.keeps_order() || routing.has_range(lane) {
                    routing.give(lane, track, index);
                } else if let Err(live) = lane.offer_in_order(track.delivery(index)) {
                    overflow.push_back(Overflow::InOrder(Arc::clone(lane), live));
                }
            }
            unmatched += u64::from(!matched);
        }
        routing.passed(track);
        unmatched
    }

    fn open_lane(&mut self, mandate: Arc<Mandate>) -> Arc<LaneHandle> {
        let retire = self.parts.retire_all.child_token();
        let (handle, ends) = lane(mandate, self.parts.lane_queue, retire);
        self.tasks.spawn(LaneTask::new(ends, self.parts.tools.clone(), self.rng.u64(..)).run());
        Arc::new(handle)
    }
}
