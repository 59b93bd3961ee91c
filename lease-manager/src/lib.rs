//! Who owns which Kinesis shard, and how far it has got: shard leases in DynamoDB, the Kinesis Client Library's pattern.
//!
//! This crate has no idea of records, JSON or pipelines. It never reads a shard, and it never decides by comparing the
//! clocks of two machines.
//!
//! Start reading at [`LeaseManager`] (the service), then [`LeaseHandle`] (what a shard's consumer holds).

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod checkpoint;
mod handle;
mod ids;
mod lease;
mod manager;
mod options;
mod view;
mod worker;

pub use checkpoint::{Checkpoint, SequenceNumber};
pub use handle::{CheckpointError, FleetHandle, LeaseHandle};
pub use ids::{
    Incarnation, InvalidName, LaneName, LeaseCounter, LeaseKey, ShardId, StreamIdentity, WorkerId,
};
pub use lease::{ChildShard, HashRange, LanePosition, Lease, Progress, StartPosition};
pub use manager::{Exit, LeaseManager, LeaseManagerError};
pub use options::{InitialPosition, Options, OptionsError, StreamConfig};
pub use view::{FleetView, LeaseView, OrphanReason, Standing, WorkerView};
pub use worker::{Load, WorkerState};
