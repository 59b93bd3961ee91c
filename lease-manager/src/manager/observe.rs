//! Reads the fleet again and again, and declares the silent dead.
//!
//! The leader and its standbys read every worker once a second; the others read those three, and everybody only now and then.
//! So a fleet of any size watches itself at a cost that grows with its size and not with its square.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::classify::CallError;
use crate::ids::{Incarnation, WorkerId};
use crate::liveness::{Observer, Snapshot};
use crate::manager::heartbeat::REMEMBERED_S;
use crate::metrics;
use crate::shared::Shared;
use crate::standing::{heads, leader, owners, worker_views};
use crate::still::Reading;
use crate::worker::WorkerState;

/// A worker that is no head of the fleet reads all of it this often.
const WHOLE_INTERVAL: Duration = Duration::from_secs(10);
/// A heartbeat that is so many intervals old is looked at more closely, and how much more closely.
const LATE: f64 = 1.8;
const CLOSELY: u32 = 4;

pub(crate) async fn run(shared: &Arc<Shared>) {
    let options = &shared.options;
    let interval = options.heartbeat_interval;
    let mut observer =
        Observer::new(options.worker_id.clone(), options.failure_detection, interval);
    let mut watch = Watch { heads: Vec::new(), whole_at: Instant::now() };
    let mut before = None;
    loop {
        let pause = match observe(shared, &mut observer, &mut watch).await {
            Some(snapshot) => {
                let members = members(&snapshot, shared.view.borrow().leader.clone());
                if before.as_ref() != Some(&members) {
                    before = Some(members);
                    shared.fleet_changed.notify_one();
                }
                let closely = snapshot.whole && is_telling(&observer, &snapshot, interval);
                shared.jittered(if closely { interval / CLOSELY } else { interval }, 0.8)
            }
            None => shared.jittered(interval.min(Duration::from_millis(500)), 0.5),
        };
        tokio::select! {
            biased;
            () = shared.look_now.notified() => watch.whole_at = Instant::now(),
            () = sleep(pause) => {}
        }
    }
}

/// Somebody may be dead, or is about to stop: what comes of it should be known soon.
fn is_telling(observer: &Observer, snapshot: &Snapshot, interval: Duration) -> bool {
    let draining = snapshot.workers.values().any(|w| w.state == WorkerState::Draining);
    draining || observer.suspects(snapshot, interval.mul_f64(LATE))
}

/// What is read next.
struct Watch {
    heads: Vec<WorkerId>,
    /// When a worker that is no head reads the whole fleet next.
    whole_at: Instant,
}

impl Watch {
    /// A worker that looks for heirs needs everybody, and so does one that knows nobody.
    fn is_whole(&self, shared: &Shared, now: Instant) -> bool {
        let draining = *shared.wanted.borrow() >= WorkerState::Draining;
        let is_head = self.heads.contains(&shared.options.worker_id);
        draining || is_head || self.heads.is_empty() || now >= self.whole_at
    }
}

async fn observe(
    shared: &Arc<Shared>,
    observer: &mut Observer,
    watch: &mut Watch,
) -> Option<Arc<Snapshot>> {
    let started = Instant::now();
    let read = match watch.is_whole(shared, started) {
        true => read_all(shared, observer, started).await,
        false => read_heads(shared, observer, watch, started).await,
    };
    let mut snapshot = match read {
        Ok(snapshot) => snapshot,
        Err(error) => {
            tracing::warn!(%error, "reading the fleet failed");
            metrics::failed(error.operation);
            return None;
        }
    };
    if snapshot.whole {
        watch.whole_at = started + shared.jittered(WHOLE_INTERVAL, 0.8);
    }
    if shared.validity.holds() {
        let dead = declare_dead(shared, observer, &snapshot).await;
        for worker in dead {
            if let Some(record) = snapshot.workers.get_mut(&worker) {
                record.state = WorkerState::Dead;
            }
            snapshot.beat_age.remove(&worker);
        }
    }
    watch.heads = heads(&snapshot);
    let snapshot = Arc::new(snapshot);
    publish(shared, &snapshot);
    Some(snapshot)
}

async fn read_all(
    shared: &Shared,
    observer: &mut Observer,
    started: Instant,
) -> Result<Snapshot, CallError> {
    let workers = shared.fleet.list().await?;
    let reading = Reading { started, ended: Instant::now() };
    let owners = owners(&shared.view.borrow());
    Ok(observer.read_all(reading, workers, &owners))
}

async fn read_heads(
    shared: &Shared,
    observer: &mut Observer,
    watch: &Watch,
    started: Instant,
) -> Result<Snapshot, CallError> {
    let workers = shared.fleet.get_some(&watch.heads).await?;
    let reading = Reading { started, ended: Instant::now() };
    Ok(observer.read_some(reading, workers))
}

/// A worker that cannot keep its own heartbeat declares nobody dead: it is not called with invalid leases.
async fn declare_dead(shared: &Shared, observer: &Observer, snapshot: &Snapshot) -> Vec<WorkerId> {
    let mut dead = Vec::new();
    let expires_at_s = shared.now_ms() / 1000 + REMEMBERED_S;
    for silent in observer.silent(snapshot) {
        let (worker, incarnation) = (&silent.id, silent.incarnation);
        match shared.fleet.declare_dead(silent, expires_at_s).await {
            Ok(true) => {
                tracing::info!(%worker, %incarnation, beat = silent.beat, "declared dead");
                metrics::declared_dead();
                dead.push(worker.clone());
            }
            Ok(false) => tracing::info!(%worker, %incarnation, "was silent, and lives after all"),
            Err(error) => {
                tracing::warn!(%error, %worker, "declaring a worker dead failed");
                metrics::failed(error.operation);
            }
        }
    }
    dead
}

fn publish(shared: &Shared, snapshot: &Arc<Snapshot>) {
    let first = leader(snapshot, shared.options.failure_detection);
    let live = snapshot.workers.values().filter(|worker| worker.state.is_live()).count();
    metrics::workers(live);
    shared.snapshot.send_replace(Arc::clone(snapshot));
    let now_ms = shared.now_ms();
    shared.update_view(|view| {
        view.workers = worker_views(snapshot, &view.leases);
        view.workers_read_at_ms = now_ms;
        view.leader = first;
    });
}

type Members = (Option<WorkerId>, BTreeMap<WorkerId, (Incarnation, WorkerState)>);

/// What makes the leader plan at once when it changes.
fn members(snapshot: &Snapshot, leader: Option<WorkerId>) -> Members {
    let member = |(id, worker): (&WorkerId, &crate::worker::WorkerRecord)| {
        (id.clone(), (worker.incarnation, worker.state))
    };
    (leader, snapshot.workers.iter().map(member).collect())
}
