//! Which shards a stream has, and which leases that calls for.
//!
//! [`plan`] is pure; `shards.rs` asks Kinesis; `manager/audit.rs` acts.

mod plan;
#[cfg(test)]
mod scenarios;
mod shards;

pub(crate) use plan::{AuditPlan, Call, Incomplete, Lineage, Stream, plan_audit, plan_initial};
pub(crate) use shards::{Filter, KinesisShards, ListedShard, ShardSource};
