//! A picture of the fleet: who lives, who owns what, and how far everything has got. For status pages and for the planner.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::checkpoint::Checkpoint;
use crate::ids::{Incarnation, LaneName, LeaseCounter, LeaseKey, ShardId, WorkerId};
use crate::lease::LanePosition;
use crate::worker::{Load, WorkerState};

/// The fleet as one worker saw it.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct FleetView {
    /// The worker that looked.
    pub me: WorkerId,
    /// When the leases were read, in milliseconds since 1970; 0 before the first time.
    pub leases_read_at_ms: i64,
    /// When the workers were read, in milliseconds since 1970; 0 before the first time.
    pub workers_read_at_ms: i64,
    /// The worker that audits the streams' shards: the first live one by start time.
    pub leader: Option<WorkerId>,
    /// Every worker in the fleet table, by name.
    pub workers: BTreeMap<WorkerId, WorkerView>,
    /// Every lease of the configured streams, by key.
    pub leases: BTreeMap<LeaseKey, LeaseView>,
}

/// One worker.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct WorkerView {
    /// Its life.
    pub incarnation: Incarnation,
    /// What it says of itself, or what others said of it (`dead`).
    pub state: WorkerState,
    /// How long its heartbeat has stood still for the observer, in milliseconds.
    pub beat_age_ms: u64,
    /// When this life began, in milliseconds since 1970, by its own clock.
    pub started_at_ms: i64,
    /// How many leases it can own.
    pub max_leases: u64,
    /// The product's version.
    pub version: String,
    /// Its load as of its last heartbeat.
    pub load: Load,
    /// How many unfinished leases it owned when the leases were last read.
    pub leases: u64,
}

/// One lease.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct LeaseView {
    /// The shard.
    pub shard_id: ShardId,
    /// The stream's name, where the table serves several.
    pub stream: Option<String>,
    /// The owner.
    pub owner: Option<WorkerId>,
    /// The fencing token.
    pub counter: LeaseCounter,
    /// The smallest lane.
    pub checkpoint: Checkpoint,
    /// Each configured lane's position.
    pub lanes: BTreeMap<LaneName, LanePosition>,
    /// How far the reader is.
    pub read_to: Option<Checkpoint>,
    /// Kilobytes a second.
    pub throughput_kbps: f64,
    /// Why the lease last changed hands.
    pub reason: Option<String>,
    /// The shards that this one replaced.
    pub parents: BTreeSet<ShardId>,
    /// The shards that replace this one.
    pub children: BTreeSet<ShardId>,
    /// What may be done with it.
    pub standing: Standing,
}

/// What may be done with a lease.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Standing {
    /// A live worker owns it.
    Owned,
    /// Somebody who is not of this fleet owns it, and may be alive.
    Foreign,
    /// Nobody who lives owns it.
    Orphan {
        /// Why.
        why: OrphanReason,
        /// For how long the observer has seen it so, in milliseconds.
        for_ms: u64,
    },
    /// It may not start yet: a parent is not read to its end.
    WaitsForParents,
    /// Read to its end.
    Finished,
}

/// Why nobody who lives owns a lease.
#[derive(Debug, Clone, Copy, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum OrphanReason {
    /// It has no owner.
    Unowned,
    /// The owner stopped in good order.
    OwnerStopped,
    /// The owner was declared dead.
    OwnerDead,
    /// The owner's name lives, but in a later life than the one that was given the lease.
    OwnerRestarted,
    /// The owner is in no fleet table.
    OwnerUnknown,
    /// The owner is not of this fleet and has stood still long enough.
    ForeignOwnerSilent,
}

impl OrphanReason {
    /// The word in logs, metrics and the attribute `reason`.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unowned => "unowned",
            Self::OwnerStopped => "owner-stopped",
            Self::OwnerDead => "owner-dead",
            Self::OwnerRestarted => "owner-restarted",
            Self::OwnerUnknown => "owner-unknown",
            Self::ForeignOwnerSilent => "foreign-owner-silent",
        }
    }
}

impl FleetView {
    pub(crate) fn empty(me: WorkerId) -> Self {
        Self {
            me,
            leases_read_at_ms: 0,
            workers_read_at_ms: 0,
            leader: None,
            workers: BTreeMap::new(),
            leases: BTreeMap::new(),
        }
    }
}
