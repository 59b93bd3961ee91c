//! The ends of a holding: finished, handed to another worker, or released to nobody. Each is one write, tried again while
//! its outcome is unknown.

use std::sync::Arc;
use std::time::Duration;

use crate::change::Change;
use crate::handle::{CheckpointError, sibling_key};
use crate::held::{Held, Order};
use crate::ids::WorkerId;
use crate::lease::{Holder, LeaseRecord, Progress};
use crate::metrics;
use crate::plan::heir;
use crate::shared::Shared;
use crate::view::FleetView;
use crate::worker::{Ask, WorkerState};
use crate::writer::change_held;

const ATTEMPTS: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The shard is settled to its end in every lane.
pub(crate) async fn finish(
    shared: &Shared,
    held: &Arc<Held>,
    progress: Progress,
) -> Result<(), CheckpointError> {
    let change = Change::Finish { progress };
    let record = end_holding(shared, held, |_| change.clone()).await?;
    let lease = &held.lease;
    tracing::info!(shard = %lease.shard_id, owner = %held.holder.worker, counter = %lease.counter, "shard finished");
    metrics::given_up("finished");
    let children = record.children.iter().map(|child| sibling_key(&lease.key, child));
    shared.notes().prefer.extend(children);
    shared.plan_soon.notify_one();
    Ok(())
}

/// The lease goes to another worker if there is one that works, else to nobody.
pub(crate) async fn release(
    shared: &Shared,
    held: &Arc<Held>,
    progress: Progress,
    reason: String,
) -> Result<(), CheckpointError> {
    let order = held.order();
    let make = |view: &FleetView| match target(shared, view, order.as_ref()) {
        Some(to) => Change::HandOver { progress: progress.clone(), to, reason: reason.clone() },
        None => Change::Release { progress: progress.clone(), reason: reason.clone() },
    };
    if order.is_none() {
        // Nobody asked for it: this worker does not want the lease, and should not take it right back.
        shared.notes().refuse.insert(held.lease.key.clone(), tokio::time::Instant::now());
    }
    let record = end_holding(shared, held, make).await?;
    let lease = &held.lease;
    let to = record.owner.as_ref().map_or("nobody", WorkerId::as_str);
    tracing::info!(
        shard = %lease.shard_id, owner = %held.holder.worker, to, counter = %record.counter, %reason,
        "lease given up"
    );
    metrics::given_up(if record.owner.is_some() { "handed-over" } else { "released" });
    announce(shared, &record).await;
    shared.plan_soon.notify_one();
    Ok(())
}

async fn end_holding(
    shared: &Shared,
    held: &Arc<Held>,
    change: impl Fn(&FleetView) -> Change,
) -> Result<LeaseRecord, CheckpointError> {
    let mut pause = FIRST_PAUSE;
    for attempt in 1.. {
        let view = Arc::clone(&shared.view.borrow());
        match change_held(shared, held, &change(&view)).await {
            Ok(record) => {
                shared.roster.remove(held);
                return Ok(record);
            }
            Err(CheckpointError::Unknown(_)) if attempt < ATTEMPTS => {
                tokio::time::sleep(shared.jittered(pause, 0.5)).await;
                pause *= 2;
            }
            Err(error) => {
                // The consumer is gone; the manager looks after the lease from here.
                held.abandon();
                shared.plan_soon.notify_one();
                return Err(error);
            }
        }
    }
    Err(CheckpointError::Lost)
}

/// Who gets the lease: the worker it was ordered to, if that one still works, else the least loaded one.
fn target(shared: &Shared, view: &FleetView, order: Option<&Order>) -> Option<Holder> {
    let me = &shared.options.worker_id;
    let freshest_ms = u64::try_from(shared.options.lease_validity.as_millis()).unwrap_or(u64::MAX);
    let works = |id: &WorkerId| {
        let worker = view.workers.get(id)?;
        let fit = worker.state == WorkerState::Active && worker.beat_age_ms < freshest_ms;
        fit.then(|| id.clone())
    };
    let ordered = order.and_then(|order| order.to.as_ref()).and_then(works);
    let mut notes = shared.notes();
    let worker = ordered.or_else(|| heir(view, me, freshest_ms, &notes.given))?;
    *notes.given.entry(worker.clone()).or_insert(0) += 1;
    let incarnation = view.workers.get(&worker)?.incarnation;
    Some(Holder { worker, incarnation })
}

/// Tells the new owner. Should the mail be lost, the owner finds the lease when it next reads them all.
async fn announce(shared: &Shared, record: &LeaseRecord) {
    let (Some(worker), Some(incarnation)) = (record.owner.clone(), record.granted_to()) else {
        return;
    };
    let (to, ask) = (Holder { worker, incarnation }, Ask::Assigned { counter: record.counter });
    if let Err(error) = shared.fleet.ask(&to, &record.key, &ask).await {
        tracing::debug!(%error, shard = %record.shard_id, "the new owner was not told");
        metrics::failed("leave mail");
    }
}
