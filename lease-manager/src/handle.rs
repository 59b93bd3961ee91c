//! What the application holds: the fleet, and one handle for each lease that this worker owns.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::lease::{ChildShard, Lease, Progress};
use crate::view::FleetView;

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
    view: Arc<FleetView>,
}

impl FleetHandle {
    pub(crate) fn idle(me: crate::WorkerId) -> Self {
        Self {
            view: Arc::new(FleetView::empty(me)),
        }
    }

    /// The next lease that this worker has come to own; `None` once the manager stops. Each lease is given out once.
    pub async fn next_lease(&self) -> Option<LeaseHandle> {
        None
    }

    /// The fleet as last seen.
    pub fn view(&self) -> Arc<FleetView> {
        Arc::clone(&self.view)
    }
}

/// One owned lease, for the one consumer of its shard.
pub struct LeaseHandle {
    lease: Lease,
}

impl LeaseHandle {
    /// The lease as this worker got it.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// True while the lease can be trusted: check it before every attempt and every batch. While it is false and
    /// [`LeaseHandle::lost`] has not completed: hold, and do not drop the work.
    pub fn is_valid(&self) -> bool {
        false
    }

    /// Completes when it is proven that the lease belongs to somebody else. May be polled anew at any time.
    pub async fn lost(&self) {}

    /// Completes when this worker should drain the shard and [`LeaseHandle::release`] the lease.
    pub async fn release_requested(&self) {}

    /// Writes how far the shard has got, in one conditional write.
    pub fn checkpoint(
        &self,
        progress: Progress,
    ) -> BoxFuture<'static, Result<(), CheckpointError>> {
        drop(progress);
        Box::pin(async { Err(CheckpointError::Lost) })
    }

    /// The reader saw the shard's end: makes the children's leases if they are absent, then notes the end.
    pub fn reader_ended(
        &self,
        children: Vec<ChildShard>,
    ) -> BoxFuture<'static, Result<(), CheckpointError>> {
        drop(children);
        Box::pin(async { Err(CheckpointError::Lost) })
    }

    /// Every lane settled the shard to its end.
    pub fn finish(self, progress: Progress) -> BoxFuture<'static, Result<(), CheckpointError>> {
        drop(progress);
        Box::pin(async { Err(CheckpointError::Lost) })
    }

    /// Gives the lease up: the final checkpoint and the new owner (or none) in one write.
    pub fn release(
        self,
        progress: Progress,
        reason: String,
    ) -> BoxFuture<'static, Result<(), CheckpointError>> {
        drop((progress, reason));
        Box::pin(async { Err(CheckpointError::Lost) })
    }
}
