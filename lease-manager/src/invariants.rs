//! The promises about leases, as predicates: unit tests, simulations and models call the same ones by these names.
//!
//! A *history* is one lease's items in the order of their writes. A *snapshot* is every lease of one stream at one moment.

use std::collections::{BTreeMap, BTreeSet};

use crate::change::BY_OPERATOR;
use crate::checkpoint::Checkpoint;
use crate::ids::{LaneName, ShardId};
use crate::lease::LeaseRecord;
use crate::sync::{Call, Lineage};

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{invariant} is broken: {detail}")]
pub struct Violation {
    /// `L1` to `L5`.
    pub invariant: &'static str,
    /// What was found where.
    pub detail: String,
}

fn broken(invariant: &'static str, detail: String) -> Result<(), Violation> {
    Err(Violation { invariant, detail })
}

fn steps(history: &[LeaseRecord]) -> impl Iterator<Item = (&LeaseRecord, &LeaseRecord)> {
    history.iter().zip(history.iter().skip(1))
}

/// **L1**: at most one worker can write a checkpoint for a lease at a time. Every write builds on the one before it, and no
/// owner changes without a new counter; so the holder of an old counter can write nothing.
pub fn l1_one_writer(history: &[LeaseRecord]) -> Result<(), Violation> {
    for (was, is) in steps(history) {
        let key = &is.key;
        if is.rev != Some(was.rev.unwrap_or(0) + 1) {
            return broken("L1", format!("{key}: rev {:?} after {:?}", is.rev, was.rev));
        }
        let changed_hands = is.owner != was.owner || is.granted_to() != was.granted_to();
        if changed_hands && is.counter == was.counter {
            let counter = is.counter;
            return broken("L1", format!("{key}: {:?} to {:?} at {counter}", was.owner, is.owner));
        }
    }
    Ok(())
}

/// **L2**: a lease counter never goes down.
pub fn l2_counter_rises(history: &[LeaseRecord]) -> Result<(), Violation> {
    match steps(history).find(|(was, is)| is.counter < was.counter) {
        Some((was, is)) => {
            broken("L2", format!("{}: {} after {}", is.key, is.counter, was.counter))
        }
        None => Ok(()),
    }
}

/// The one step that L3 does not judge: an operator set the checkpoint. It is told by its reason, and allowed only with a
/// raised counter and without an owner, so that no worker goes on under it.
pub fn is_set_by_operator(was: &LeaseRecord, is: &LeaseRecord) -> bool {
    let by_operator = is.reason.as_deref().is_some_and(|reason| reason.starts_with(BY_OPERATOR));
    by_operator && is.counter > was.counter && is.owner.is_none()
}

/// **L3**: a checkpoint never goes back, neither the lease's nor a lane's. It is a promise about workers: an operator may
/// set a checkpoint back, see [`is_set_by_operator`].
pub fn l3_checkpoint_rises(history: &[LeaseRecord]) -> Result<(), Violation> {
    for (was, is) in steps(history).filter(|(was, is)| !is_set_by_operator(was, is)) {
        if is.checkpoint < was.checkpoint {
            let (to, from) = (&is.checkpoint, &was.checkpoint);
            return broken("L3", format!("{}: {to} after {from}", is.key));
        }
        let lanes: Vec<LaneName> = was.lanes.keys().cloned().collect();
        let (before, after) = (was.believed_lanes(&lanes), is.believed_lanes(&lanes));
        for (lane, at) in before {
            if after[&lane].checkpoint < at.checkpoint {
                let (to, from) = (&after[&lane].checkpoint, at.checkpoint);
                return broken("L3", format!("{} lane {lane}: {to} after {from}", is.key));
            }
        }
    }
    Ok(())
}

/// **L4**: no lane of a child shard starts before that lane ended in all its parents (those that have a lease).
pub fn l4_children_wait(snapshot: &[LeaseRecord], lanes: &[LaneName]) -> Result<(), Violation> {
    let by_shard: BTreeMap<_, _> = snapshot.iter().map(|l| (&l.shard_id, l)).collect();
    for child in snapshot {
        let started = child.believed_lanes(lanes);
        for parent in child.parents.iter().filter_map(|parent| by_shard.get(parent)) {
            for (lane, at) in parent.believed_lanes(lanes) {
                let ended = at.checkpoint == Checkpoint::ShardEnd;
                if started[&lane].checkpoint.has_moved() && !ended {
                    let (shard, parent) = (&child.shard_id, &parent.shard_id);
                    return broken(
                        "L4",
                        format!("{shard} lane {lane} started before {parent} ended"),
                    );
                }
            }
        }
    }
    Ok(())
}

/// The shards of a full listing (shard and its parents) that may hold unread records and that no lease answers for: neither
/// their own, nor an ancestor's that is still to be read to its end, nor a descendant's, which shows that they were read.
pub fn uncovered(
    listed: &BTreeMap<ShardId, BTreeSet<ShardId>>,
    snapshot: &[LeaseRecord],
) -> Vec<ShardId> {
    let leases: BTreeMap<_, _> = snapshot.iter().map(|l| (&l.shard_id, l)).collect();
    let pairs = listed.iter().map(|(id, parents)| (id.clone(), parents.iter().cloned().collect()));
    let lineage = Lineage::new(pairs, &leases);
    let ended = |id: &ShardId| {
        leases.get(id).is_some_and(|l| l.is_finished() || l.read_to == Some(Checkpoint::ShardEnd))
    };
    let unread_ancestor =
        |shard: &ShardId| lineage.any_ancestor(shard, |id| leases.contains_key(id) && !ended(id));
    let unanswered = |shard: &&ShardId| match lineage.call_for(shard, &leases, ended) {
        Call::Settled => false,
        Call::AncestorWill | Call::FromTheStart => !unread_ancestor(shard),
        Call::Initial => true,
    };
    let without_lease = listed.keys().filter(|shard| !leases.contains_key(shard));
    without_lease.filter(unanswered).cloned().collect()
}

/// **L5**: every shard of the stream that can still hold unread records has a lease, or will get one from an ancestor.
pub fn l5_every_shard_has_a_lease(
    listed: &BTreeMap<ShardId, BTreeSet<ShardId>>,
    snapshot: &[LeaseRecord],
) -> Result<(), Violation> {
    match uncovered(listed, snapshot).as_slice() {
        [] => Ok(()),
        shards => broken("L5", format!("no lease answers for {shards:?}")),
    }
}

#[cfg(test)]
mod tests;
