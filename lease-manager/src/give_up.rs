//! The ends of a holding: finished, handed to another worker, or released to nobody. Each is one write, tried again while
//! its outcome is unknown.

use std::sync::Arc;
use std::time::Duration;

use crate::change::Change;
use crate::handle::{CheckpointError, note_children};
use crate::held::{Held, Order};
use crate::ids::WorkerId;
use crate::lease::{Holder, LeaseRecord, Progress};
use crate::metrics;
use crate::plan::heir;
use crate::shared::Shared;
use crate::view::FleetView;
use crate::worker::Ask;
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
    note_children(shared, held, &record);
    Ok(())
}

/// The lease goes to another worker if there is one that works, else to nobody. Without an order it is this worker that does
/// not want it, and it should not get it right back.
pub(crate) async fn release(
    shared: &Shared,
    held: &Arc<Held>,
    progress: Progress,
    reason: String,
) -> Result<(), CheckpointError> {
    let order = held.order();
    let declined = order.is_none();
    let reason = order.as_ref().map_or(reason, |order| order.reason.to_owned());
    let make = |view: &FleetView| {
        let (progress, reason) = (progress.clone(), reason.clone());
        match target(shared, view, order.as_ref()) {
            Some(to) => Change::HandOver { progress, to, reason, declined },
            None => Change::Release { progress, reason, declined },
        }
    };
    let record = end_holding(shared, held, make).await?;
    let lease = &held.lease;
    let to = record.owner.as_ref().map_or("nobody", WorkerId::as_str);
    tracing::info!(
        shard = %lease.shard_id, owner = %held.holder.worker, to, counter = %record.counter, %reason,
        "lease given up"
    );
    metrics::given_up(if record.owner.is_some() { "handed-over" } else { "released" });
    announce(shared, &record).await;
    shared.fleet_changed.notify_one();
    Ok(())
}

/// What a consumer does not give up, because it broke down or does not drain, is given up in its place. One attempt: what is
/// left is tried again.
pub(crate) async fn at_last_checkpoint(shared: &Shared, held: &Arc<Held>, why: &'static str) {
    let (shard, counter) = (&held.lease.shard_id, held.lease.counter);
    tracing::warn!(%shard, %counter, reason = why, "lease given up at its last checkpoint");
    let order = held.order();
    let declined = held.is_abandoned() && order.is_none();
    let reason = order.as_ref().map_or(why, |order| order.reason).to_owned();
    let progress = Progress::default();
    let view = Arc::clone(&shared.view.borrow());
    let change = match target(shared, &view, order.as_ref()) {
        Some(to) => Change::HandOver { progress, to, reason, declined },
        None => Change::Release { progress, reason, declined },
    };
    match change_held(shared, held, &change).await {
        Ok(record) => {
            metrics::given_up("at-last-checkpoint");
            shared.roster.lose(held, why);
            announce(shared, &record).await;
            shared.fleet_changed.notify_one();
        }
        Err(CheckpointError::Lost) => {}
        Err(error) => tracing::warn!(%error, %shard, "giving a lease up failed"),
    }
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
                shared.own_soon.notify_one();
                return Err(error);
            }
        }
    }
    Err(CheckpointError::Lost)
}

/// Who gets the lease: the worker it was ordered to, if that one still works, else the least loaded one.
fn target(shared: &Shared, view: &FleetView, order: Option<&Order>) -> Option<Holder> {
    let me = &shared.options.worker_id;
    let freshest_ms = shared.freshest_ms();
    let works = |id: &WorkerId| {
        view.workers.get(id).is_some_and(|w| w.is_fit(freshest_ms)).then(|| id.clone())
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
