//! Who owns which Kinesis shard, and how far it has got: shard leases in DynamoDB, the Kinesis Client Library's pattern.
//!
//! Two tables: the lease table, in the Kinesis Client Library's own shape, so that either can take over from the other; and
//! the fleet table, with one item for each worker. A worker says once a second that it lives; whoever stops saying so is
//! declared dead by one conditional write before any of its leases may be taken. Every change of a lease is one conditional
//! write too, so a reply that is lost, a write that lands late and a worker that wakes up after a long pause do no harm.
//!
//! This crate has no idea of records, JSON or pipelines. It never reads a shard, and it never decides by comparing the
//! clocks of two machines.
//!
//! Start reading at [`LeaseManager`] (the service), then [`LeaseHandle`] (what a shard's consumer holds), then [`operate`]
//! (what an operator sees and does from outside). Inside: `change.rs` (what may become of a lease), `liveness.rs` (who
//! lives), `plan.rs` (who gets what), `gate.rs` (what may start), `sync/plan.rs` (which
//! leases there should be), and [`invariants`], which the tests hold all of it to.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod change;
mod checkpoint;
mod classify;
mod fleet_table;
mod gate;
mod give_up;
mod handle;
mod held;
mod ids;
pub mod invariants;
mod item;
mod lease;
mod lease_table;
mod liveness;
mod manager;
mod metrics;
pub mod operate;
mod options;
mod plan;
mod roster;
mod shared;
mod standing;
mod still;
mod sync;
mod tables;
mod validity;
mod view;
mod worker;
mod writer;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use checkpoint::{Checkpoint, SequenceNumber};
pub use handle::{CheckpointError, FleetHandle, LeaseHandle, LeaseValidity};
pub use ids::{
    Incarnation, InvalidName, LaneName, LeaseCounter, LeaseKey, ShardId, StreamIdentity, WorkerId,
};
pub use item::{Item, ItemError};
pub use lease::{
    ChildShard, Grant, HashRange, Holder, LanePosition, Lease, LeaseRecord, Progress, StartPosition,
};
pub use manager::{Exit, LeaseManager, LeaseManagerError};
pub use options::{InitialPosition, Options, OptionsError, StreamConfig};
pub use tables::{CreateTablesError, TableReport, create_tables};
pub use view::{FleetView, LeaseView, OrphanReason, Standing, WorkerView};
pub use worker::{Health, Load, WorkerState};
