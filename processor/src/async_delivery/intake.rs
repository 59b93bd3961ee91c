//! From accepted batches to destinations' lanes.
//!
//! Routes each batch by the freshest view, hands its messages to lanes without waiting for any, and
//! parks at once what a lane has no room for. A routed batch is held open until a view that was read
//! *after* the routing confirms it: a subscription that appears in that view gets the batch's messages
//! too, so a subscription misses nothing that arrived after its creation, and no message waits for
//! the confirmation. Owns the lanes: makes, changes and retires them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
use aws_smithy_async::time::SharedTimeSource;
use store::{Subscription, SubscriptionId, SubscriptionSnapshot};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::aftermath::Aftermath;
use super::delivery::{Delivery, Gauge, Live, Track};
use super::lane::{LaneHandle, NO_ROOM_PAUSE, lane};
use super::lane_task::{LaneTask, LaneTools};
use super::ledger::Job;
use super::mandate::Mandate;
use super::metrics;
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
    parts: IntakeParts,
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

/// What found no room where it belongs.
enum Overflow {
    /// Parking, in the ledger.
    Job(Job),
    /// A message that must not be overtaken, in its lane.
    InOrder(Arc<LaneHandle>, Live),
}

enum Step {
    End(IntakeExit),
    See(View),
    Take(LaneBatch),
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
            parts,
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
                Step::Written => {}
            }
        };
        self.finish().await;
        exit
    }

    async fn step(&mut self, stop: &CancellationToken) -> Step {
        let can_take = self.pending.is_none()
            && self.overflow.is_empty()
            && self.unconfirmed.len() < MAX_UNCONFIRMED
            && self.parts.views.is_fresh();
        let failed = |why: String| Step::End(IntakeExit::Failed(why));
        let Intake { parts, overflow, tasks, .. } = self;
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
        self.parts.lanes.store(Arc::default());
    }

    fn take(&mut self, batch: LaneBatch) {
        // Between the check and the batch's arrival the view may have aged.
        if self.parts.views.is_fresh() {
            self.route(batch);
        } else {
            self.pending = Some(batch);
        }
    }

    fn route(&mut self, batch: LaneBatch) {
        let track = Track::new(batch, &self.parts.integrations, &self.parts.gauge);
        let given = give(&self.router, &track, &mut self.scratch, &self.parts.tools.time);
        let unmatched = given.map_or(0, |given| {
            self.overflow.extend(given.refused);
            given.unmatched
        });
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
            self.take(batch);
        }
    }

    /// Gives the subscriptions that were not known when they were routed the unconfirmed batches.
    fn catch_up(&mut self, newcomers: &Router<Arc<LaneHandle>>) {
        let Intake { parts, scratch, .. } = self;
        for waiting in &self.unconfirmed {
            let given = give(newcomers, &waiting.track, scratch, &parts.tools.time);
            self.overflow.extend(given.into_iter().flat_map(|given| given.refused));
        }
        // They were counted when the batches were routed.
        scratch.take_unreadable();
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

    fn open_lane(&mut self, mandate: Arc<Mandate>) -> Arc<LaneHandle> {
        let retire = self.parts.retire_all.child_token();
        let (handle, ends) = lane(mandate, self.parts.lane_queue, retire);
        self.tasks.spawn(LaneTask::new(ends, self.parts.tools.clone(), self.rng.u64(..)).run());
        Arc::new(handle)
    }
}

/// What became of a batch's messages.
#[derive(Default)]
struct Given {
    /// What lanes handed back.
    refused: Vec<Overflow>,
    unmatched: u64,
}

/// Hands every message of the batch to the lanes that want it. `None` if there is no lane at all.
fn give(
    router: &Router<Arc<LaneHandle>>,
    track: &Arc<Track>,
    scratch: &mut Scratch,
    time: &SharedTimeSource,
) -> Option<Given> {
    if router.is_empty() {
        return None;
    }
    let mut given = Given::default();
    let now_ms = wall_ms(time);
    for (index, entry) in track.entries().iter().enumerate() {
        // What is malformed is the sync-store lane's to keep; here it is settled by being passed over.
        let Ok(route) = track.batch().route(entry) else { continue };
        let asked = Asked {
            integration: route.integration,
            entity: route.entity,
            arrived_at_ms: entry.arrived_at_ms,
            payload: entry.payload.bytes(&track.batch().arena),
        };
        let mut matched = false;
        for lane in router.matches(asked, scratch) {
            matched = true;
            if lane.keeps_order() {
                if let Err(live) = lane.offer_in_order(track.delivery(index)) {
                    given.refused.push(Overflow::InOrder(Arc::clone(lane), live));
                }
            } else if let Err(live) = lane.offer(track.delivery(index)) {
                let job = refused(lane, live, now_ms, entry.arrived_at_ms);
                given.refused.extend(job.map(Overflow::Job));
            }
        }
        given.unmatched += u64::from(!matched);
    }
    Some(given)
}

/// Takes the first that waits to where it belongs; false once there is nowhere left. Cancel safe.
async fn unload(tools: &LaneTools, overflow: &mut VecDeque<Overflow>) -> bool {
    let lane = match overflow.front() {
        Some(Overflow::InOrder(lane, _)) => Some(Arc::clone(lane)),
        _ => None,
    };
    if let Some(lane) = lane {
        let room = lane.room().await;
        let Some(Overflow::InOrder(_, live)) = overflow.pop_front() else { return true };
        lane.let_in();
        match room {
            Some(permit) => permit.send(live),
            // Its subscription is switched off or gone: no order is kept over that.
            None => {
                let job = refused(&lane, live, wall_ms(&tools.time), 0);
                overflow.extend(job.map(Overflow::Job));
            }
        }
        return true;
    }
    let Some(permit) = tools.ledger.room().await else { return false };
    if let Some(Overflow::Job(job)) = overflow.pop_front() {
        permit.send(job);
    }
    true
}

fn refused(lane: &LaneHandle, live: Live, now_ms: i64, spread: i64) -> Option<Job> {
    // Arrival times spread the due times well enough, and need no generator here.
    let jitter_unit = spread.rem_euclid(1_000) as f64 / 1_000.0;
    let mandate = lane.shared.mandate.load();
    let aftermath = Aftermath { shared: &lane.shared, subscription: &mandate.subscription, now_ms };
    let delivery = Delivery::Live(live);
    if lane.shared.admits() {
        // A burst, not an outage: the sweeper leaves it due until there is room.
        let delay = NO_ROOM_PAUSE.mul_f64(0.5 + jitter_unit);
        return aftermath.park(delivery, 0, delay, String::from("its destination has no room now"));
    }
    aftermath.set_aside(delivery, jitter_unit, "its destination takes nothing now")
}
