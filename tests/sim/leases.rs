//! Every lease through all its writes, held to the named invariants at each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lease_manager::{HashRange, LaneName, LeaseRecord, ShardId, WorkerId, invariants};
use processor::PIPELINES;
use serde_json::Value;

use crate::wire;

/// One write of a lease.
struct Written {
    at: Duration,
    by: String,
    lease: LeaseRecord,
}

/// All leases of a world, and how they became what they are.
#[derive(Default)]
pub struct Leases {
    now: BTreeMap<String, LeaseRecord>,
    /// The leases that name a shard as their parent.
    children: BTreeMap<ShardId, BTreeSet<String>>,
    deleted: BTreeSet<String>,
    /// The hash keys of every shard, also of leases that are gone.
    ranges: BTreeMap<String, HashRange>,
    /// How often each lease came to another owner.
    moves: BTreeMap<String, u64>,
    /// The last owner of each lease that had one.
    owners: BTreeMap<String, WorkerId>,
    history: Vec<Written>,
}

impl Leases {
    /// A lease was written by `by`. Says which promise that broke.
    pub fn wrote(&mut self, at: Duration, by: &str, item: &Value) -> Result<&LeaseRecord, String> {
        let item = wire::item(item).into_iter().collect();
        let lease = LeaseRecord::from_item(item).map_err(|error| error.to_string())?;
        let lease = lease.ok_or("an item of the lease table is no lease")?;
        let key = lease.key.as_str().to_owned();
        self.history.push(Written { at, by: by.to_owned(), lease: lease.clone() });
        if self.deleted.contains(&key) {
            return Err(format!("{key} was deleted, and came again"));
        }
        for parent in &lease.parents {
            self.children.entry(parent.clone()).or_default().insert(key.clone());
        }
        if let Some(range) = lease.hash_range {
            self.ranges.insert(key.clone(), range);
        }
        let before = self.now.remove(&key);
        if lease.owner.is_some() && self.owners.get(&key) != lease.owner.as_ref() {
            *self.moves.entry(key.clone()).or_default() += 1;
            self.owners.extend(lease.owner.clone().map(|owner| (key.clone(), owner)));
        }
        let step: Vec<_> = before.into_iter().chain([lease.clone()]).collect();
        let smallest = lease.lanes.values().map(|lane| &lane.checkpoint).min();
        if smallest.is_some_and(|smallest| *smallest != lease.checkpoint) {
            return Err(format!("C1: the checkpoint is not the smallest lane's: {lease:?}"));
        }
        self.now.insert(key.clone(), lease);
        [invariants::l1_one_writer, invariants::l2_counter_rises, invariants::l3_checkpoint_rises]
            .iter()
            .try_for_each(|holds| holds(&step))
            .and_then(|()| invariants::l4_children_wait(&self.family(&key), &lanes()))
            .map_err(|violation| violation.to_string())?;
        Ok(&self.now[&key])
    }

    /// Whether this lease was written before.
    pub fn is_known(&self, item: &Value) -> bool {
        let key = item["leaseKey"]["S"].as_str().expect("a lease's key");
        self.now.contains_key(key) || self.deleted.contains(key)
    }

    /// A lease was deleted.
    pub fn deleted(&mut self, key: &Value) -> Result<(), String> {
        let key = key["leaseKey"]["S"].as_str().expect("a lease's key").to_owned();
        let last = self.now.remove(&key);
        self.deleted.insert(key.clone());
        match last {
            Some(lease) if !lease.is_finished() => Err(format!("deleted unfinished: {lease:?}")),
            _ => Ok(()),
        }
    }

    /// A lease with its parents and children.
    fn family(&self, key: &str) -> Vec<LeaseRecord> {
        let lease = &self.now[key];
        let parents = lease.parents.iter().filter_map(|parent| self.now.get(parent.as_str()));
        let children = self.children.get(&lease.shard_id).into_iter().flatten();
        let children = children.filter_map(|child| self.now.get(child));
        std::iter::once(lease).chain(parents).chain(children).cloned().collect()
    }

    /// Every shard that replaced others, with those: also of leases that are gone.
    pub fn parents(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut parents: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (parent, children) in &self.children {
            for child in children {
                parents.entry(child).or_default().push(parent.as_str());
            }
        }
        parents
    }

    /// Whether the shards have a hash key in common, as far as their leases say which they have: without that a shard counts as all of
    /// the stream, as it does for its owner.
    pub fn overlap(&self, one: &str, other: &str) -> bool {
        match [one, other].map(|shard| self.ranges.get(shard)) {
            [Some(one), Some(other)] => one.start <= other.end && other.start <= one.end,
            _ => true,
        }
    }

    /// How often each lease came to another owner since the last time this was asked.
    pub fn moves(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.moves).into_values().collect()
    }

    /// L5, and that nothing ended without its children.
    pub fn check_cover(&self, listed: &BTreeMap<ShardId, BTreeSet<ShardId>>) {
        let snapshot: Vec<LeaseRecord> = self.now.values().cloned().collect();
        if let Err(violation) = invariants::l5_every_shard_has_a_lease(listed, &snapshot) {
            panic!("{violation}");
        }
        for lease in snapshot.iter().filter(|lease| lease.is_finished()) {
            let known = |child: &ShardId| {
                self.now.contains_key(child.as_str()) || self.deleted.contains(child.as_str())
            };
            let handed_on = !lease.children.is_empty() && lease.children.iter().all(known);
            assert!(handed_on, "finished, but a child has no lease: {lease:?}");
        }
    }

    /// The counter of a shard's lease; it changes with the owner.
    pub fn counter(&self, shard: &str) -> u64 {
        self.now.get(shard).map_or(0, |lease| lease.counter.0)
    }

    /// The leases as they are.
    pub fn now(&self) -> impl Iterator<Item = &LeaseRecord> {
        self.now.values()
    }

    pub fn tell(&self) -> impl Iterator<Item = (Duration, String)> {
        self.history.iter().map(|written| {
            let Written { at, by, lease } = written;
            let owner = lease.owner.as_ref().map_or("nobody", |owner| owner.as_str());
            let lanes: Vec<String> =
                lease.lanes.iter().map(|(name, lane)| format!("{name} {}", lane.checkpoint)).collect();
            let line = format!(
                "{by} writes {}: {owner}'s, counter {}, rev {:?}, {} {lanes:?}, read to {:?}, reason {:?}",
                lease.key, lease.counter, lease.rev, lease.checkpoint, lease.read_to, lease.reason
            );
            (*at, line)
        })
    }
}

pub fn lanes() -> [LaneName; 2] {
    PIPELINES.map(|name| LaneName::parse(name).expect("a lane's name"))
}
