//! One lease: as the table keeps it ([`LeaseRecord`]) and as the shard's consumer gets it ([`Lease`]).
//!
//! Nothing here does I/O. `item.rs` knows the attribute form, `change.rs` what may become of a record.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use serde::Serialize;

use crate::checkpoint::{Checkpoint, SequenceNumber};
use crate::ids::{
    Incarnation, LaneName, LeaseCounter, LeaseKey, ShardId, StreamIdentity, WorkerId,
};
use crate::item::{ENTITY_TYPE, LEASE};

/// How far one lane has settled a shard's records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LanePosition {
    /// Everything up to here is settled in this lane.
    pub checkpoint: Checkpoint,
    /// How far behind the shard's tip the lane was then, in milliseconds.
    pub behind_ms: u64,
    /// What the lane has not settled arrived no earlier, in milliseconds since 1970: older than the stream keeps records, some of
    /// it may be gone. `None` where nobody wrote it down.
    pub unsettled_since_ms: Option<i64>,
}

impl LanePosition {
    /// A position of which nothing else is known.
    pub fn at(checkpoint: Checkpoint) -> Self {
        LanePosition { checkpoint, behind_ms: 0, unsettled_since_ms: None }
    }
}

/// What a consumer reports with a checkpoint. Lanes that it leaves out keep their position.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Progress {
    /// Each lane's position.
    pub lanes: BTreeMap<LaneName, LanePosition>,
    /// How far the reader is; it may be ahead of every lane.
    pub read_to: Option<Checkpoint>,
    /// Kilobytes a second read from the shard, averaged; `None` before that is known, then the lease keeps what it says.
    pub throughput_kbps: Option<f64>,
}

/// The part of the 128-bit hash space that a shard serves, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashRange {
    /// The first hash key.
    pub start: u128,
    /// The last hash key.
    pub end: u128,
}

impl HashRange {
    /// Reads two decimal hash keys; `None` if they are no numbers of 128 bits or stand the wrong way round.
    pub fn parse(start: &str, end: &str) -> Option<Self> {
        let range = Self { start: start.parse().ok()?, end: end.parse().ok()? };
        (range.start <= range.end).then_some(range)
    }
}

/// A shard that replaces a parent, as the end of the parent's subscription names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildShard {
    /// The child.
    pub shard_id: ShardId,
    /// Its parents: one after a split, two after a merge.
    pub parents: Vec<ShardId>,
    /// The first hash key of the child, decimal.
    pub starting_hash_key: String,
    /// The last hash key of the child, decimal.
    pub ending_hash_key: String,
}

/// Which life of the owner was given the lease. Believed only while its counter is the lease's counter: otherwise
/// somebody who does not write grants (the Kinesis Client Library) changed the ownership since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The lease's counter after the change of ownership that gave it.
    pub counter: LeaseCounter,
    /// The owner's life.
    pub incarnation: Incarnation,
}

/// A worker in one of its lives: who a lease is given to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// The worker.
    pub worker: WorkerId,
    /// Its life.
    pub incarnation: Incarnation,
}

/// A lease as the table keeps it. Attributes that this version does not know are kept in `rest` and never written.
#[derive(Debug, Clone, PartialEq)]
pub struct LeaseRecord {
    /// `leaseKey`.
    pub key: LeaseKey,
    /// The shard: `shardId`, or the key itself.
    pub shard_id: ShardId,
    /// `streamName` of a multi-stream table: the stream's whole identity.
    pub stream: Option<StreamIdentity>,
    /// `leaseOwner`; absent when unowned.
    pub owner: Option<WorkerId>,
    /// `leaseCounter`: the fencing token.
    pub counter: LeaseCounter,
    /// `checkpoint` with `checkpointSubSequenceNumber`: always the smallest lane.
    pub checkpoint: Checkpoint,
    /// `ownerSwitchesSinceCheckpoint`.
    pub owner_switches: u64,
    /// `checkpointOwner`: only while the Kinesis Client Library hands the lease over.
    pub checkpoint_owner: Option<WorkerId>,
    /// `parentShardId`.
    pub parents: BTreeSet<ShardId>,
    /// `childShardIds`.
    pub children: BTreeSet<ShardId>,
    /// `startingHashKey` and `endingHashKey`.
    pub hash_range: Option<HashRange>,
    /// `throughputKBps`.
    pub throughput_kbps: Option<f64>,
    /// `rev`: raised by every write. `None` on a lease that only the Kinesis Client Library has written so far.
    pub rev: Option<u64>,
    /// `lanes`: believe it only through [`LeaseRecord::believed_lanes`].
    pub lanes: BTreeMap<LaneName, LanePosition>,
    /// `startAt`, in milliseconds since 1970.
    pub start_at_ms: Option<i64>,
    /// `streamCreatedAt`, in seconds since 1970: the stream that the lease was made for, told apart from an earlier or later
    /// one of its name. `None` on a lease that the Kinesis Client Library made.
    pub stream_created_at_s: Option<i64>,
    /// `readTo`.
    pub read_to: Option<Checkpoint>,
    /// `reason`: why the lease last changed hands.
    pub reason: Option<String>,
    /// `grant`: believe it only through [`LeaseRecord::granted_to`].
    pub grant: Option<Grant>,
    /// `declinedBy`: the worker that gave the lease up of its own accord, in the life in which it did.
    pub declined_by: Option<Holder>,
    /// Everything else in the item.
    pub rest: HashMap<String, AttributeValue>,
}

impl LeaseRecord {
    /// A lease that nobody owned yet.
    pub(crate) fn new(key: LeaseKey, checkpoint: Checkpoint, start_at_ms: i64) -> Self {
        Self {
            shard_id: key.shard_id(),
            stream: key.stream(),
            key,
            owner: None,
            counter: LeaseCounter(0),
            checkpoint,
            owner_switches: 0,
            checkpoint_owner: None,
            parents: BTreeSet::new(),
            children: BTreeSet::new(),
            hash_range: None,
            throughput_kbps: None,
            rev: Some(0),
            lanes: BTreeMap::new(),
            start_at_ms: Some(start_at_ms),
            stream_created_at_s: None,
            read_to: None,
            reason: None,
            grant: None,
            declined_by: None,
            rest: HashMap::from([(ENTITY_TYPE.to_owned(), AttributeValue::S(LEASE.to_owned()))]),
        }
    }

    /// The owner's life that was given the lease, if the last change of ownership was made by this product.
    pub fn granted_to(&self) -> Option<Incarnation> {
        self.grant.filter(|grant| grant.counter == self.counter).map(|grant| grant.incarnation)
    }

    /// True once every lane settled the whole shard.
    pub fn is_finished(&self) -> bool {
        self.checkpoint == Checkpoint::ShardEnd
    }

    /// Where each of `wanted` lanes stands. The stored lanes are believed only while the smallest of them is the
    /// checkpoint: a Kinesis Client Library that ran in between moves the checkpoint alone, and then every lane starts there.
    pub fn believed_lanes(&self, wanted: &[LaneName]) -> BTreeMap<LaneName, LanePosition> {
        let believed =
            self.lanes.values().map(|lane| &lane.checkpoint).min() == Some(&self.checkpoint);
        let at_checkpoint = || LanePosition::at(self.checkpoint.clone());
        let position =
            |lane| self.lanes.get(lane).filter(|_| believed).cloned().unwrap_or_else(at_checkpoint);
        wanted.iter().map(|lane| (lane.clone(), position(lane))).collect()
    }
}

/// Where a reader has to start so that a lane misses nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartPosition {
    /// At the oldest record that the stream keeps.
    TrimHorizon,
    /// At the first record that arrived at or after this time (milliseconds since 1970).
    AtTimestamp(i64),
    /// At the tip. Only for a lease taken over from another library that never kept a start time.
    Latest,
    /// Behind this record; records at or before (`sequence`, `sub_sequence`) are settled already.
    After {
        /// The last settled record.
        sequence: SequenceNumber,
        /// The last settled part of it, if it is an aggregate.
        sub_sequence: u64,
    },
    /// Nowhere: the shard is settled to its end.
    Ended,
}

/// A lease as it was when this worker got it.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    /// The lease's key.
    pub key: LeaseKey,
    /// The shard.
    pub shard_id: ShardId,
    /// The stream's ARN, from the configuration.
    pub stream_arn: String,
    /// The fencing token: every write for this shard to anywhere carries it.
    pub counter: LeaseCounter,
    /// The smallest of the lanes.
    pub checkpoint: Checkpoint,
    /// Each configured lane's position, believed or else at the checkpoint.
    pub lanes: BTreeMap<LaneName, LanePosition>,
    /// Where a lease that never acknowledged a record starts, in milliseconds since 1970.
    pub start_at_ms: Option<i64>,
    /// How far the last reader was; `ShardEnd` once the children's leases exist.
    pub read_to: Option<Checkpoint>,
    /// The shards that this one replaced.
    pub parents: BTreeSet<ShardId>,
    /// The part of the hash space that the shard serves, where known.
    pub hash_range: Option<HashRange>,
}

impl Lease {
    /// Where the reader has to start so that `checkpoint` (a lane's, or the lease's) misses nothing. A lease that never
    /// acknowledged a record starts at the time of its creation, never again at the tip.
    pub fn start_of(&self, checkpoint: &Checkpoint) -> StartPosition {
        match (checkpoint, self.start_at_ms) {
            (Checkpoint::TrimHorizon, _) => StartPosition::TrimHorizon,
            (Checkpoint::AtTimestamp | Checkpoint::Latest, Some(ms)) => {
                StartPosition::AtTimestamp(ms)
            }
            (Checkpoint::AtTimestamp, None) => StartPosition::TrimHorizon,
            (Checkpoint::Latest, None) => StartPosition::Latest,
            (Checkpoint::At { sequence, sub_sequence }, _) => {
                StartPosition::After { sequence: sequence.clone(), sub_sequence: *sub_sequence }
            }
            (Checkpoint::ShardEnd, _) => StartPosition::Ended,
        }
    }

    /// Where the reader has to start so that no lane misses anything.
    pub fn start(&self) -> StartPosition {
        self.start_of(&self.checkpoint)
    }
}
