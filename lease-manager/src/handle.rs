//! What the application holds: the fleet, and one handle for each lease that this worker owns.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::change::Change;
use crate::checkpoint::Checkpoint;
use crate::give_up;
use crate::held::Held;
use crate::ids::{LaneName, LeaseKey, ShardId};
use crate::lease::{ChildShard, HashRange, Lease, LeaseRecord, Progress};
use crate::options::StreamConfig;
use crate::plan::peer_is_no_worse;
use crate::shared::Shared;
use crate::view::FleetView;
use crate::worker::{Health, Load};
use crate::writer::change_held;

/// A write for a lease that did not happen, or may not have happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The lease belongs to somebody else now, for certain. Drop all work for it.
    #[error("the lease is lost")]
    Lost,
    /// It is not known whether the write happened. Keep the work and write again later.
    #[error("the outcome of the write is unknown: {0}")]
    Unknown(String),
    /// The write can never succeed as it is: the progress contradicts the lease, or the service refuses the request.
    #[error("the write was refused: {0}")]
    Refused(String),
}

/// The application's end of a [`crate::LeaseManager`]. Clones share one queue of leases.
#[derive(Clone)]
pub struct FleetHandle {
    shared: Arc<Shared>,
}

impl FleetHandle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The next lease that this worker has come to own; `None` once the manager stops. Each lease is given out once.
    pub async fn next_lease(&self) -> Option<LeaseHandle> {
        let held = self.shared.roster.next().await?;
        Some(LeaseHandle { shared: Arc::clone(&self.shared), held, given_up: false })
    }

    /// The fleet as last seen.
    pub fn view(&self) -> Arc<FleetView> {
        Arc::clone(&self.shared.view.borrow())
    }

    /// What this worker carries, and what it cannot reach; the fleet learns it with the next heartbeat. A worker that cannot
    /// do its work is given none while others can, and does not lead them.
    pub fn report(&self, load: Load, health: Health) {
        let mut notes = self.shared.notes();
        (notes.load, notes.health) = (load, health);
    }
}

/// Answers whether a lease can be trusted now. Cheap to clone and to ask; it keeps no lease alive.
#[derive(Clone)]
pub struct LeaseValidity {
    shared: Arc<Shared>,
    held: Arc<Held>,
}

impl LeaseValidity {
    /// True while the lease can be trusted, as [`LeaseHandle::is_valid`] says.
    pub fn is_valid(&self) -> bool {
        self.held.may_be_worked_on() && self.shared.validity.holds()
    }
}

/// One owned lease, for the one consumer of its shard. A handle that is dropped without [`LeaseHandle::finish`] or
/// [`LeaseHandle::release`] counts as a consumer that broke down: the manager gives the lease up at its last checkpoint.
pub struct LeaseHandle {
    shared: Arc<Shared>,
    held: Arc<Held>,
    given_up: bool,
}

impl LeaseHandle {
    /// The lease as this worker got it.
    pub fn lease(&self) -> &Lease {
        &self.held.lease
    }

    /// True while the lease can be trusted: check it before every attempt and every batch. While it is false and
    /// [`LeaseHandle::lost`] has not completed: hold, and do not drop the work.
    pub fn is_valid(&self) -> bool {
        self.validity().is_valid()
    }

    /// The same question as [`LeaseHandle::is_valid`], for whoever works on the shard's behalf.
    pub fn validity(&self) -> LeaseValidity {
        LeaseValidity { shared: Arc::clone(&self.shared), held: Arc::clone(&self.held) }
    }

    /// Completes when it is proven that the lease belongs to somebody else. May be polled anew at any time.
    pub async fn lost(&self) {
        self.held.lost.cancelled().await;
    }

    /// Completes when this worker should drain the shard and [`LeaseHandle::release`] the lease.
    pub async fn release_requested(&self) {
        self.held.release.cancelled().await;
    }

    /// The lanes that may read the shard now: those that ended in all of its parents.
    pub fn open_lanes(&self) -> BTreeSet<LaneName> {
        self.held.open_lanes.borrow().clone()
    }

    /// Completes when more than `known` lanes may read the shard. May be polled anew at any time.
    pub async fn lane_opens(&self, known: usize) {
        // The sender lives in `self.held`, so the wait cannot end otherwise.
        let _ = self.held.open_lanes.subscribe().wait_for(|open| open.len() > known).await;
    }

    /// True if the shard may be better off with another worker: one that works, and is in no worse health. A consumer that
    /// cannot read its shard asks before it gives the lease up.
    pub fn peer_is_no_worse(&self) -> bool {
        let (view, me) = (self.shared.view.borrow(), &self.shared.options.worker_id);
        peer_is_no_worse(&view, me, self.shared.freshest_ms())
    }

    /// How long the consumer may take from [`LeaseHandle::release_requested`] until the lease is handed over at its last
    /// checkpoint whatever the consumer does.
    pub fn handoff_deadline(&self) -> Duration {
        self.shared.options.handoff_deadline
    }

    /// Writes how far the shard has got, in one conditional write. Lanes that `progress` leaves out stay where they are.
    pub fn checkpoint(
        &self,
        progress: Progress,
    ) -> BoxFuture<'static, Result<(), CheckpointError>> {
        let (shared, held) = (Arc::clone(&self.shared), Arc::clone(&self.held));
        let change = Change::Checkpoint { progress };
        async move {
            let record = change_held(&shared, &held, &change).await?;
            note_children(&shared, &held, &record);
            Ok(())
        }
        .boxed()
    }

    /// The reader saw the shard's end: makes the children's leases if they are absent, then notes the end.
    pub fn reader_ended(
        &self,
        children: Vec<ChildShard>,
    ) -> BoxFuture<'static, Result<(), CheckpointError>> {
        let (shared, held) = (Arc::clone(&self.shared), Arc::clone(&self.held));
        async move {
            create_children(&shared, &held, &children).await?;
            let children = children.into_iter().map(|child| child.shard_id).collect();
            change_held(&shared, &held, &Change::ReaderEnded { children }).await.map(drop)
        }
        .boxed()
    }

    /// Every lane settled the shard to its end. [`LeaseHandle::reader_ended`] must have succeeded before. Tries several
    /// times while the outcome is unknown.
    pub fn finish(mut self, progress: Progress) -> BoxFuture<'static, Result<(), CheckpointError>> {
        self.given_up = true;
        let (shared, held) = (Arc::clone(&self.shared), Arc::clone(&self.held));
        async move { give_up::finish(&shared, &held, progress).await }.boxed()
    }

    /// Gives the lease up: the final checkpoint and the new owner (a live worker, or none) in one write. Tries several
    /// times while the outcome is unknown.
    pub fn release(
        mut self,
        progress: Progress,
        reason: String,
    ) -> BoxFuture<'static, Result<(), CheckpointError>> {
        self.given_up = true;
        let (shared, held) = (Arc::clone(&self.shared), Arc::clone(&self.held));
        async move { give_up::release(&shared, &held, progress, reason).await }.boxed()
    }
}

impl Drop for LeaseHandle {
    fn drop(&mut self) {
        if !self.given_up && !self.held.is_lost() {
            self.held.abandon();
            self.shared.own_soon.notify_one();
        }
    }
}

async fn create_children(
    shared: &Shared,
    held: &Arc<Held>,
    children: &[ChildShard],
) -> Result<(), CheckpointError> {
    let stream = shared.options.stream_of(&held.lease.key);
    let created_at_s = stream.and_then(StreamConfig::created_at_s);
    for child in children {
        if held.is_lost() {
            return Err(CheckpointError::Lost);
        }
        let record = child_lease(&held.lease.key, child, created_at_s, shared.now_ms());
        let created = shared.leases.create(&record).await?;
        let (shard, parent) = (&child.shard_id, &held.lease.shard_id);
        tracing::info!(%shard, %parent, created, "a shard's end gave its child a lease");
    }
    Ok(())
}

/// Where a lane has ended, the same lane of the children may be free to start: the planner looks at once.
pub(crate) fn note_children(shared: &Shared, held: &Held, record: &LeaseRecord) {
    let ended = record.lanes.values().any(|at| at.checkpoint == Checkpoint::ShardEnd);
    if ended && !record.children.is_empty() {
        let children = record.children.iter().map(|child| sibling_key(&held.lease.key, child));
        shared.notes().children.extend(children);
        shared.own_soon.notify_one();
    }
}

/// The lease that a parent's end gives to a child: from its oldest record on, because none of them was read.
pub(crate) fn child_lease(
    parent: &LeaseKey,
    child: &ChildShard,
    stream_created_at_s: Option<i64>,
    now_ms: i64,
) -> LeaseRecord {
    let key = sibling_key(parent, &child.shard_id);
    let mut record = LeaseRecord::new(key, Checkpoint::TrimHorizon, now_ms);
    record.stream_created_at_s = stream_created_at_s;
    record.parents.extend(child.parents.iter().cloned());
    record.hash_range = HashRange::parse(&child.starting_hash_key, &child.ending_hash_key);
    record
}

/// The lease key of another shard of the same stream.
pub(crate) fn sibling_key(key: &LeaseKey, shard: &ShardId) -> LeaseKey {
    match key.stream() {
        None => LeaseKey::of_shard(shard),
        Some(stream) => LeaseKey::of_stream_shard(&stream, shard),
    }
}
