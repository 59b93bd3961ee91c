//! What the manager's loops and the handles share. Each field has one writer; the rest look or leave a note.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use aws_smithy_async::time::SharedTimeSource;
use tokio::sync::{Notify, watch};

use crate::fleet_table::FleetTable;
use crate::ids::{LeaseKey, WorkerId};
use crate::lease::Holder;
use crate::lease_table::LeaseTable;
use crate::liveness::Snapshot;
use crate::options::Options;
use crate::roster::Roster;
use crate::sync::ShardSource;
use crate::validity::Validity;
use crate::view::{FleetView, WorkerView};
use crate::worker::{Ask, Health, Load, WorkerState};

/// Notes left for the planner and the heartbeat.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// What others ask of this worker, by the mail that its last heartbeat brought.
    pub(crate) mail: BTreeMap<LeaseKey, Ask>,
    /// Children of shards that a lane of this worker's ended in.
    pub(crate) children: BTreeSet<LeaseKey>,
    /// Leases handed to others since the view was made.
    pub(crate) given: BTreeMap<WorkerId, u64>,
    /// The load that the application reports.
    pub(crate) load: Load,
    /// What ails this worker: what the application reports, and what the manager itself cannot reach.
    pub(crate) health: Health,
    pub(crate) own_health: Health,
    /// The plans that this worker made and carried out as leader.
    pub(crate) plans: u64,
}

pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) leases: LeaseTable,
    pub(crate) fleet: FleetTable,
    pub(crate) shards: Arc<dyn ShardSource>,
    pub(crate) time: SharedTimeSource,
    pub(crate) validity: Validity,
    pub(crate) roster: Roster,
    /// Written by the observer (workers) and the planner (leases).
    pub(crate) view: watch::Sender<Arc<FleetView>>,
    /// Written by the observer.
    pub(crate) snapshot: watch::Sender<Arc<Snapshot>>,
    /// The state that the worker should be in: only ever a later one. The heartbeat makes it true.
    pub(crate) wanted: watch::Sender<WorkerState>,
    /// The leases should be read now.
    pub(crate) read_soon: Notify,
    /// There is something to do about this worker's own leases.
    pub(crate) own_soon: Notify,
    /// The fleet is not what it was: its leader plans now.
    pub(crate) fleet_changed: Notify,
    /// The whole fleet should be read now.
    pub(crate) look_now: Notify,
    /// Short notes from tasks to tasks; never held while waiting.
    notes: Mutex<Notes>,
    /// Jitter only; never held while waiting.
    random: Mutex<fastrand::Rng>,
}

impl Shared {
    pub(crate) fn new(
        options: Options,
        dynamodb: &aws_sdk_dynamodb::Client,
        shards: Arc<dyn ShardSource>,
        time: SharedTimeSource,
    ) -> Arc<Self> {
        let timeout = options.call_timeout;
        let view = FleetView::empty(options.worker_id.clone());
        Arc::new(Self {
            leases: LeaseTable::new(dynamodb.clone(), options.app.clone(), timeout),
            fleet: FleetTable::new(dynamodb.clone(), options.fleet_table(), timeout),
            shards,
            time,
            validity: Validity::new(options.lease_validity),
            roster: Roster::new(),
            view: watch::Sender::new(Arc::new(view)),
            snapshot: watch::Sender::new(Arc::default()),
            wanted: watch::Sender::new(WorkerState::Active),
            read_soon: Notify::new(),
            own_soon: Notify::new(),
            fleet_changed: Notify::new(),
            look_now: Notify::new(),
            notes: Mutex::default(),
            random: Mutex::new(fastrand::Rng::with_seed(options.seed)),
            options,
        })
    }

    pub(crate) fn notes(&self) -> MutexGuard<'_, Notes> {
        // A panic elsewhere cannot leave a note half written.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The wall clock, in milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> i64 {
        let since = self.time.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    /// This worker in its present life, if it has one.
    pub(crate) fn me(&self) -> Option<Holder> {
        let incarnation = self.validity.incarnation()?;
        Some(Holder { worker: self.options.worker_id.clone(), incarnation })
    }

    /// A duration between `share` and 1 times `whole`, so that a fleet does not beat in step.
    pub(crate) fn jittered(&self, whole: Duration, share: f64) -> Duration {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        whole.mul_f64(share + (1.0 - share) * random.f64())
    }

    pub(crate) fn random_bits(&self, bits: u32) -> u64 {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        random.u64(0..1 << bits)
    }

    /// True while this worker, as far as it sees, is the one that shares the leases out.
    pub(crate) fn is_leader(&self) -> bool {
        let me = &self.options.worker_id;
        let view = self.view.borrow();
        let active = view.workers.get(me).is_some_and(WorkerView::is_active);
        active && view.leader.as_ref() == Some(me)
    }

    /// A heartbeat that is older than this is no sign of life, in milliseconds.
    pub(crate) fn freshest_ms(&self) -> u64 {
        u64::try_from(self.options.lease_validity.as_millis()).unwrap_or(u64::MAX)
    }

    /// Changes the published view.
    pub(crate) fn update_view(&self, change: impl FnOnce(&mut FleetView)) {
        self.view.send_modify(|view| change(Arc::make_mut(view)));
    }
}
