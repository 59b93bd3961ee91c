//! Reads the fleet again and again, and declares the silent dead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::ids::{Incarnation, WorkerId};
use crate::liveness::{Observer, Snapshot};
use crate::manager::heartbeat::REMEMBERED_S;
use crate::metrics;
use crate::shared::Shared;
use crate::standing::{leader, owned, owners, worker_views};
use crate::still::Reading;
use crate::worker::WorkerState;

pub(crate) async fn run(shared: &Arc<Shared>) {
    let options = &shared.options;
    let interval = options.heartbeat_interval;
    let mut observer =
        Observer::new(options.worker_id.clone(), options.failure_detection, interval);
    let mut before = BTreeMap::new();
    loop {
        match observe(shared, &mut observer).await {
            Some(snapshot) => {
                let members = members(&snapshot);
                if members != before {
                    before = members;
                    shared.plan_soon.notify_one();
                }
                sleep(shared.jittered(interval, 0.8)).await;
            }
            None => sleep(shared.jittered(interval.min(Duration::from_millis(500)), 0.5)).await,
        }
    }
}

async fn observe(shared: &Arc<Shared>, observer: &mut Observer) -> Option<Arc<Snapshot>> {
    let started = Instant::now();
    let workers = match shared.fleet.list().await {
        Ok(workers) => workers,
        Err(error) => {
            tracing::warn!(%error, "reading the fleet failed");
            metrics::failed(error.operation);
            return None;
        }
    };
    let reading = Reading { started, ended: Instant::now() };
    let owners = owners(&shared.view.borrow());
    let mut snapshot = observer.read(reading, workers, &owners);
    if shared.validity.holds() {
        let dead = declare_dead(shared, observer, &snapshot).await;
        for worker in dead {
            if let Some(record) = snapshot.workers.get_mut(&worker) {
                record.state = WorkerState::Dead;
            }
            snapshot.beat_age.remove(&worker);
        }
    }
    let snapshot = Arc::new(snapshot);
    publish(shared, &snapshot);
    Some(snapshot)
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
        view.workers = worker_views(snapshot, &owned(&view.leases));
        view.workers_read_at_ms = now_ms;
        view.leader = first;
    });
}

/// What makes the planner look at once when it changes.
fn members(snapshot: &Snapshot) -> BTreeMap<WorkerId, (Incarnation, WorkerState)> {
    let member = |(id, worker): (&WorkerId, &crate::worker::WorkerRecord)| {
        (id.clone(), (worker.incarnation, worker.state))
    };
    snapshot.workers.iter().map(member).collect()
}
