//! Which lanes of a shard may start: those that ended in all of its parents. Pure.
//!
//! Each lane is judged by itself, so that a reshard never makes one pipeline wait for the other.

use std::collections::{BTreeMap, BTreeSet};

use crate::checkpoint::Checkpoint;
use crate::ids::{LaneName, ShardId, StreamIdentity};
use crate::lease::{HashRange, LeaseRecord};

/// The leases of a table by stream and shard.
pub(crate) struct Gates<'a> {
    leases: BTreeMap<(Option<&'a StreamIdentity>, &'a ShardId), &'a LeaseRecord>,
}

impl<'a> Gates<'a> {
    pub(crate) fn new(leases: impl IntoIterator<Item = &'a LeaseRecord>) -> Self {
        let place = |lease: &'a LeaseRecord| ((lease.stream.as_ref(), &lease.shard_id), lease);
        Self { leases: leases.into_iter().map(place).collect() }
    }

    fn parent(&self, of: &LeaseRecord, shard: &ShardId) -> Option<&LeaseRecord> {
        self.leases.get(&(of.stream.as_ref(), shard)).copied()
    }

    /// True if every parent has a lease among these: then nothing else decides.
    pub(crate) fn knows_parents(&self, of: &LeaseRecord) -> bool {
        of.parents.iter().all(|shard| self.parent(of, shard).is_some())
    }

    /// The lanes of `lanes` that may read the shard.
    pub(crate) fn open_lanes(&self, lease: &LeaseRecord, lanes: &[LaneName]) -> BTreeSet<LaneName> {
        let own = lease.believed_lanes(lanes);
        let open = |lane: &&LaneName| {
            // A lane that has begun was let in once.
            own[*lane].checkpoint.has_moved()
                || lease.parents.iter().all(|shard| match self.parent(lease, shard) {
                    Some(parent) => ended(parent, lane),
                    None => !self.ancestor_is_open(lease, lane),
                })
        };
        lanes.iter().filter(open).cloned().collect()
    }

    /// True while an older shard of the same hash keys is not settled to its end. A parent without a lease was settled long
    /// ago, or was never to be read, or will only get its lease when its own parents end: this tells the last apart from the
    /// others. Shards whose hash keys overlap are each other's ancestors and descendants, and a shard's id is higher than its
    /// ancestors'.
    fn ancestor_is_open(&self, lease: &LeaseRecord, lane: &LaneName) -> bool {
        let Some(range) = lease.hash_range else { return false };
        let overlaps = |at: HashRange| at.start <= range.end && range.start <= at.end;
        self.leases.values().any(|other| {
            other.stream == lease.stream
                && other.shard_id < lease.shard_id
                && !ended(other, lane)
                && other.hash_range.is_some_and(overlaps)
        })
    }
}

fn ended(lease: &LeaseRecord, lane: &LaneName) -> bool {
    let at = lease.believed_lanes(std::slice::from_ref(lane));
    lease.is_finished() || at[lane].checkpoint == Checkpoint::ShardEnd
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::LeaseKey;
    use crate::lease::LanePosition;

    fn lane(name: &str) -> LaneName {
        LaneName::parse(name).unwrap()
    }

    fn lanes() -> [LaneName; 2] {
        ["async-delivery", "sync-store"].map(lane)
    }

    fn lease(shard: &str, parents: &[&str], range: (u128, u128)) -> LeaseRecord {
        let key = LeaseKey::parse(shard).unwrap();
        let mut lease = LeaseRecord::new(key, Checkpoint::TrimHorizon, 0);
        lease.parents = parents.iter().map(|id| ShardId::parse(*id).unwrap()).collect();
        lease.hash_range = Some(HashRange { start: range.0, end: range.1 });
        lease
    }

    fn at(lease: &mut LeaseRecord, positions: [&str; 2]) {
        let position = |text| LanePosition::at(Checkpoint::parse(text, 0).unwrap());
        lease.lanes = lanes().into_iter().zip(positions.map(position)).collect();
        lease.checkpoint = lease.lanes.values().map(|at| at.checkpoint.clone()).min().unwrap();
    }

    fn open(lease: &LeaseRecord, among: &[LeaseRecord]) -> Vec<String> {
        let open = Gates::new(among).open_lanes(lease, &lanes());
        open.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn l4_each_lane_of_a_child_waits_for_that_lane_in_every_parent() {
        let child = lease("shardId-9", &["shardId-0", "shardId-1"], (0, 9));
        let mut parents = [lease("shardId-0", &[], (0, 4)), lease("shardId-1", &[], (5, 9))];
        assert!(open(&child, &parents).is_empty());
        at(&mut parents[0], ["SHARD_END", "SHARD_END"]);
        assert!(open(&child, &parents).is_empty(), "the other parent is open");
        at(&mut parents[1], ["7", "SHARD_END"]);
        assert_eq!(open(&child, &parents), ["sync-store"]);
        // A Kinesis Client Library moved the checkpoint meanwhile: the stored lanes mean nothing.
        parents[1].checkpoint = Checkpoint::parse("8", 0).unwrap();
        assert!(open(&child, &parents).is_empty());
        at(&mut parents[1], ["SHARD_END", "SHARD_END"]);
        assert_eq!(open(&child, &parents), ["async-delivery", "sync-store"]);
    }

    #[test]
    fn a_lane_that_has_begun_stays_open_when_its_parents_are_gone() {
        let older = lease("shardId-0", &[], (0, 9));
        let mut child = lease("shardId-9", &["shardId-5"], (0, 9));
        assert!(open(&child, std::slice::from_ref(&older)).is_empty(), "5 comes after 0");
        at(&mut child, ["3", "TRIM_HORIZON"]);
        // The checkpoint is the smallest lane, so the lane that has begun is believed.
        assert_eq!(open(&child, std::slice::from_ref(&older)), ["async-delivery"]);
        assert_eq!(open(&child, &[]).len(), 2, "nothing that is still to be read leads to 5");
    }
}
