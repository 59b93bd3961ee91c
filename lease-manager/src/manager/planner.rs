//! Reads the leases, publishes what they say, and, on the leader, shares them out.
//!
//! Every worker looks after its own leases (`own.rs`). The leader reads all leases each plan interval and carries one plan out
//! (`round.rs`): orphans are given to workers by a write of the lease, owners are asked by mail to move what is to move. A worker that does
//! not lead reads all leases rarely, for its view of the fleet, and takes orphans only when the leader has long not done so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::classify::CallError;
use crate::ids::{LeaseCounter, LeaseKey, WorkerId};
use crate::lease::LeaseRecord;
use crate::lease_table::Listing;
use crate::manager::own;
use crate::manager::round::Round;
use crate::metrics;
use crate::plan::{Action, Rules};
use crate::shared::Shared;
use crate::standing::{Judgement, LeaseWatch, lease_views, worker_views};
use crate::still::{Reading, StillWatch};
use crate::view::{FleetView, Standing};

/// Rounds never follow each other closer than this.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// The next round after one that left something to do.
const SOON: Duration = Duration::from_millis(500);
/// A worker that does not lead asks the index for its leases this often: mail that was lost is found so.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(10);
/// A fleet whose workers have been the same for so long is one to move leases in.
const SETTLE: Duration = Duration::from_secs(3);
/// So many readings in a row that fail make a leader stand back.
const MOST_FAILURES: u32 = 3;
/// What the manager itself says ails it.
const LEASE_TABLE: &str = "lease-table";

pub(crate) async fn run(shared: &Arc<Shared>) {
    let mut planner = Planner::new(shared);
    loop {
        let done = own::look_after(shared).await;
        planner.read_if_due(shared).await;
        sleep(SHORTEST_PAUSE).await;
        let wake =
            if done { planner.next_at() } else { planner.next_at().min(Instant::now() + SOON) };
        let orders = shared.roster.all().iter().any(|held| held.order().is_some());
        let wake = if orders { wake.min(Instant::now() + SOON) } else { wake };
        tokio::select! {
            biased;
            () = shared.own_soon.notified() => {}
            () = shared.read_soon.notified() => planner.read_at = Instant::now(),
            () = shared.fleet_changed.notified() => {
                if shared.is_leader() {
                    planner.read_at = Instant::now();
                }
            }
            () = tokio::time::sleep_until(wake) => {}
        }
    }
}

struct Planner {
    watch: LeaseWatch,
    /// When all leases are read next, and when the index is asked next.
    read_at: Instant,
    discover_at: Instant,
    /// Plans of the leader, as its heartbeats say: they stand still when it cannot do its work.
    plans: StillWatch<(), (Option<WorkerId>, u64)>,
    /// What the last plans asked for: the fleet as it was read last may not show it yet, and what is on its way must not be
    /// planned twice.
    asked: BTreeMap<LeaseKey, Asked>,
    /// Asks to move: one that stands still for too long is forgotten.
    asks: StillWatch<(WorkerId, LeaseKey), u64>,
    failures: u32,
    /// The workers that the last plan was made for, and when leases may be moved between them.
    active: BTreeSet<WorkerId>,
    moves_at: Instant,
}

impl Planner {
    fn new(shared: &Shared) -> Self {
        let gap = shared.options.plan_interval * 4;
        Self {
            watch: LeaseWatch::new(&shared.options),
            read_at: Instant::now(),
            discover_at: Instant::now() + DISCOVERY_INTERVAL,
            plans: StillWatch::new(gap),
            asked: BTreeMap::new(),
            asks: StillWatch::new(gap),
            failures: 0,
            active: BTreeSet::new(),
            moves_at: Instant::now(),
        }
    }

    fn next_at(&self) -> Instant {
        self.read_at.min(self.discover_at)
    }

    async fn read_if_due(&mut self, shared: &Arc<Shared>) {
        let now = Instant::now();
        let options = &shared.options;
        self.watch_leader(shared, now);
        if now >= self.read_at {
            let read = self.read(shared).await;
            self.note(shared, &read);
            let pause = match read {
                // Where the table is busy, a fleet that asks again and again makes it busier.
                Err(_) => (SOON * 2_u32.pow(self.failures.min(8))).min(options.plan_interval),
                Ok(()) if shared.is_leader() && self.moves_at > now => {
                    SETTLE.min(options.plan_interval)
                }
                Ok(()) if shared.is_leader() => options.plan_interval,
                Ok(()) if self.leader_fails(shared) => options.failure_detection,
                Ok(()) => options.sync_interval,
            };
            self.read_at = now + shared.jittered(pause, 0.8);
            self.discover_at = Instant::now() + shared.jittered(DISCOVERY_INTERVAL, 0.8);
        } else if now >= self.discover_at {
            if let Err(error) = own::discover(shared).await {
                tracing::warn!(%error, "asking for this worker's leases failed");
                metrics::failed(error.operation);
            }
            self.discover_at = Instant::now() + shared.jittered(DISCOVERY_INTERVAL, 0.8);
            if self.leader_fails(shared) {
                self.read_at = self.read_at.min(Instant::now());
            }
        }
    }

    /// A leader that cannot read the leases says so, and another one leads.
    fn note(&mut self, shared: &Shared, read: &Result<(), CallError>) {
        match read {
            Ok(()) => {
                self.failures = 0;
                shared.notes().own_health.remove(LEASE_TABLE);
            }
            Err(error) => {
                tracing::warn!(%error, "a round over the leases failed");
                metrics::failed(error.operation);
                self.failures = self.failures.saturating_add(1);
                if self.failures >= MOST_FAILURES {
                    shared.notes().own_health.insert(LEASE_TABLE.to_owned(), error.to_string());
                }
            }
        }
    }

    fn watch_leader(&mut self, shared: &Shared, now: Instant) {
        let leader = shared.view.borrow().leader.clone();
        let snapshot = Arc::clone(&shared.snapshot.borrow());
        let plans = leader.as_ref().and_then(|id| Some(snapshot.workers.get(id)?.plans));
        let reading = Reading { started: now, ended: now };
        self.plans.read(reading, [((), (leader, plans.unwrap_or(0)))]);
    }

    /// True if nobody has made a plan for three times the failure detection.
    fn leader_fails(&self, shared: &Shared) -> bool {
        self.plans.age(&()) >= shared.options.failure_detection * 3
    }

    async fn read(&mut self, shared: &Arc<Shared>) -> Result<(), CallError> {
        let Some(me) = shared.me() else { return Ok(()) };
        let lapses = shared.validity.lapses();
        let started = Instant::now();
        let listing = shared.leases.list().await?;
        let reading = Reading { started, ended: Instant::now() };
        report_bad(&listing);
        let mine = |lease: &LeaseRecord| shared.options.stream_of_lease(lease).is_some();
        let leases: Vec<LeaseRecord> = listing.leases.into_iter().filter(mine).collect();
        find_lost(shared, &leases).await?;
        shared.validity.verify(lapses);
        let judgements = self.publish(shared, reading, &leases);
        let open = |lease: &LeaseRecord| judgements[&lease.key].open_lanes.clone();
        let owned = |lease: &&LeaseRecord| judgements[&lease.key].standing == Standing::Owned;
        for lease in leases.iter().filter(owned) {
            own::adopt(shared, &me, lease, open(lease), "given");
        }
        let view = self.view_to_plan(shared, reading);
        // A process that slept may find that another one runs under its name: what is that one's is no orphan.
        let is_me = view.workers.get(&me.worker).is_none_or(|w| w.incarnation <= me.incarnation);
        if !is_me || !shared.validity.holds() || shared.me().as_ref() != Some(&me) {
            return Ok(());
        }
        let round = Round { shared, me: &me, leases: &leases, judgements: &judgements };
        if shared.is_leader() {
            let rules = self.rules(shared, &view, reading.ended);
            let (actions, done) = round.lead(&view, &rules).await;
            self.remember_asked(&view, actions);
            done?;
            shared.notes().plans += 1;
        } else {
            round.help(&view, self.leader_fails(shared)).await?;
        }
        Ok(())
    }

    /// Orphans never wait. Moves do, while workers come and go: or what is moved now is moved again in a moment.
    fn rules(&mut self, shared: &Shared, view: &FleetView, now: Instant) -> Rules {
        let active = view.workers.iter().filter(|(_, worker)| worker.is_active());
        let active: BTreeSet<WorkerId> = active.map(|(id, _)| id.clone()).collect();
        if active != self.active {
            (self.active, self.moves_at) = (active, now + SETTLE);
        }
        let rules = Rules::new(shared.freshest_ms());
        if now >= self.moves_at { rules } else { rules.without_moves() }
    }

    fn remember_asked(&mut self, view: &FleetView, actions: Vec<Action>) {
        for action in actions {
            if let Action::Move { key, from, to } = action
                && let Some(lease) = view.leases.get(&key)
            {
                self.asked.insert(key, Asked { from, counter: lease.counter, to });
            }
        }
    }

    fn publish(
        &mut self,
        shared: &Shared,
        reading: Reading,
        leases: &[LeaseRecord],
    ) -> BTreeMap<LeaseKey, Judgement> {
        let snapshot = Arc::clone(&shared.snapshot.borrow());
        let judgements = self.watch.read(reading, leases, &snapshot);
        let views = lease_views(leases, &judgements, &shared.options.lanes);
        shared.notes().given.clear();
        let now_ms = shared.now_ms();
        shared.update_view(|view| {
            view.leases = views;
            view.leases_read_at_ms = now_ms;
            view.workers = worker_views(&snapshot, &view.leases);
        });
        judgements
    }

    /// The view without asks to move that nobody has acted on for long: what they were about is planned afresh.
    fn view_to_plan(&mut self, shared: &Shared, reading: Reading) -> FleetView {
        let mut view = FleetView::clone(&shared.view.borrow());
        self.asked.retain(|key, asked| {
            view.leases.get(key).is_some_and(|lease| lease.counter == asked.counter)
        });
        for (key, asked) in &self.asked {
            if let Some(from) = view.workers.get_mut(&asked.from) {
                from.moving.insert(key.clone(), Some(asked.to.clone()));
            }
        }
        let asks = view.workers.iter().flat_map(|(id, worker)| {
            let counter = |key| view.leases.get(key).map_or(0, |lease| lease.counter.0);
            worker.moving.keys().map(move |key| ((id.clone(), key.clone()), counter(key)))
        });
        self.asks.read(reading, asks.collect::<Vec<_>>());
        let patience = shared.options.handoff_deadline * 3;
        for (id, worker) in &mut view.workers {
            worker.moving.retain(|key, _| self.asks.age(&(id.clone(), key.clone())) < patience);
        }
        view
    }
}

/// An ask to move that this leader made.
struct Asked {
    from: WorkerId,
    counter: LeaseCounter,
    to: WorkerId,
}

fn report_bad(listing: &Listing) {
    for error in &listing.bad {
        tracing::error!(%error, "a lease cannot be read; its shard is not consumed by this worker");
    }
}

/// A counter that rose, or a lease that is gone, proves a loss.
async fn find_lost(shared: &Arc<Shared>, leases: &[LeaseRecord]) -> Result<(), CallError> {
    let by_key: BTreeMap<&LeaseKey, &LeaseRecord> = leases.iter().map(|l| (&l.key, l)).collect();
    for held in shared.roster.all() {
        match by_key.get(&held.lease.key) {
            Some(lease) => own::judge_lost(shared, &held, lease),
            None => own::look_at_lost(shared, &held.lease.key, &held).await?,
        }
    }
    Ok(())
}
