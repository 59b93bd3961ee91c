//! A picture of the fleet: who lives, who owns what, and how far everything has got. For status pages and for the planner.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::checkpoint::Checkpoint;
use crate::ids::{Incarnation, LaneName, LeaseCounter, LeaseKey, ShardId, WorkerId};
use crate::lease::{Holder, LanePosition};
use crate::worker::{Health, Load, WorkerState};

/// The fleet as one worker saw it.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct FleetView {
    /// The worker that looked.
    pub me: WorkerId,
    /// When the leases were read, in milliseconds since 1970; 0 before the first time.
    pub leases_read_at_ms: i64,
    /// When the workers were read, in milliseconds since 1970; 0 before the first time.
    pub workers_read_at_ms: i64,
    /// The worker that shares the leases out and audits the streams' shards: the first that works, by start time.
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
    /// How long its heartbeat has stood still for the observer, in milliseconds, as far as the observer looked.
    pub beat_age_ms: u64,
    /// When this life began, in milliseconds since 1970, by its own clock.
    pub started_at_ms: i64,
    /// How many leases it can own.
    pub max_leases: u64,
    /// The product's version.
    pub version: String,
    /// Its load as of its last heartbeat.
    pub load: Load,
    /// Kilobytes a second over all its shards, as of its last heartbeat.
    pub throughput_kbps: f64,
    /// What it cannot reach, and why; empty when it can do its work.
    pub health: Health,
    /// The leases that it was asked to move, and where to; `None` is to whoever is best.
    pub moving: BTreeMap<LeaseKey, Option<WorkerId>>,
    /// How many leases it holds, as of its last heartbeat.
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
    /// The worker that gave the lease up of its own accord, in the life in which it did.
    pub declined_by: Option<Holder>,
    /// For how long the lease has had its owner since it was moved to it, in milliseconds; `None` if the observer saw no
    /// move.
    pub moved_ago_ms: Option<u64>,
    /// The lanes that may read the shard: those that ended in all its parents.
    pub open_lanes: BTreeSet<LaneName>,
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
    /// It may not start yet in any lane: a parent is not settled to its end.
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

impl WorkerView {
    /// True for a worker that takes part in everything.
    pub fn is_active(&self) -> bool {
        self.state == WorkerState::Active
    }

    /// True while the worker is worth giving leases to: it works, and its heartbeat is younger than `freshest_ms`.
    pub(crate) fn is_fit(&self, freshest_ms: u64) -> bool {
        self.is_active() && self.beat_age_ms < freshest_ms
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
