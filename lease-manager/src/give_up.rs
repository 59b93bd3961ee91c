//! The ends of a holding: finished, handed to another worker, or released to nobody. Each is one write, tried again while
//! its outcome is unknown.

use std::collections::BTreeSet;
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
use crate::worker::{Ask, WorkerState};
use crate::writer::change_held;

const ATTEMPTS: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Workers that are looked at before a lease is given to nobody.
const MOST_HEIRS: usize = 3;

/// How a holding ends.
enum Ending {
    Finished(Progress),
    /// To another worker if there is one that works, else to nobody. Without an order it is this worker that does not want
    /// the lease, and it should not get it right back.
    GivenUp {
        progress: Progress,
        reason: String,
        order: Option<Order>,
    },
}

impl Ending {
    fn given_up(held: &Held, progress: Progress, reason: String) -> Self {
        let order = held.order();
        let reason = order.as_ref().map_or(reason, |order| order.reason.to_owned());
        Self::GivenUp { progress, reason, order }
    }

    async fn change(&self, shared: &Shared) -> Change {
        match self {
            Self::Finished(progress) => Change::Finish { progress: progress.clone() },
            Self::GivenUp { progress, reason, order } => {
                let (progress, reason) = (progress.clone(), reason.clone());
                let declined = order.is_none();
                match target(shared, order.as_ref()).await {
                    Some(to) => Change::HandOver { progress, to, reason, declined },
                    None => Change::Release { progress, reason, declined },
                }
            }
        }
    }
}

/// The shard is settled to its end in every lane.
pub(crate) async fn finish(
    shared: &Shared,
    held: &Arc<Held>,
    progress: Progress,
) -> Result<(), CheckpointError> {
    let record = end_holding(shared, held, &Ending::Finished(progress)).await?;
    let lease = &held.lease;
    tracing::info!(shard = %lease.shard_id, owner = %held.holder.worker, counter = %lease.counter, "shard finished");
    metrics::given_up("finished");
    note_children(shared, held, &record);
    Ok(())
}

/// The lease goes to another worker, or to nobody.
pub(crate) async fn release(
    shared: &Shared,
    held: &Arc<Held>,
    progress: Progress,
    reason: String,
) -> Result<(), CheckpointError> {
    let record = end_holding(shared, held, &Ending::given_up(held, progress, reason)).await?;
    let lease = &held.lease;
    let to = record.owner.as_ref().map_or("nobody", WorkerId::as_str);
    let reason = record.reason.as_deref().unwrap_or_default();
    tracing::info!(
        shard = %lease.shard_id, owner = %held.holder.worker, to, counter = %record.counter, reason,
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
    let ending = Ending::given_up(held, Progress::default(), why.to_owned());
    match change_held(shared, held, &ending.change(shared).await).await {
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
    ending: &Ending,
) -> Result<LeaseRecord, CheckpointError> {
    let mut pause = FIRST_PAUSE;
    for attempt in 1.. {
        match change_held(shared, held, &ending.change(shared).await).await {
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

/// Who gets the lease: the worker it was ordered to, if that one works, else the least loaded one. The view may be seconds
/// old: it may not know the first, and not know of the second that it began to stop. So the table is asked.
async fn target(shared: &Shared, order: Option<&Order>) -> Option<Holder> {
    let view = Arc::clone(&shared.view.borrow());
    let mut unfit = BTreeSet::new();
    let ordered = order.and_then(|order| order.to.clone());
    let mut next = ordered.or_else(|| choose(shared, &view, &unfit));
    for _ in 0..MOST_HEIRS {
        let worker = next?;
        match shared.fleet.get(&worker).await {
            Ok(Some(is)) if is.state == WorkerState::Active => {
                *shared.notes().given.entry(worker.clone()).or_insert(0) += 1;
                return Some(Holder { worker, incarnation: is.incarnation });
            }
            Ok(_) => {}
            // It worked a moment ago. If it does no more, the lease is an orphan like any other.
            Err(_) => {
                if let Some(known) = view.workers.get(&worker).filter(|known| known.is_active()) {
                    return Some(Holder { worker, incarnation: known.incarnation });
                }
            }
        }
        unfit.insert(worker);
        next = choose(shared, &view, &unfit);
    }
    None
}

fn choose(shared: &Shared, view: &FleetView, unfit: &BTreeSet<WorkerId>) -> Option<WorkerId> {
    let (me, freshest_ms) = (&shared.options.worker_id, shared.freshest_ms());
    let given = shared.notes().given.clone();
    heir(view, me, freshest_ms, &given, unfit)
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
