//! What may be done with each lease, and the picture of the fleet that follows from it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ids::{Incarnation, LaneName, LeaseKey, WorkerId};
use crate::lease::{HashRange, LeaseRecord};
use crate::liveness::Snapshot;
use crate::options::Options;
use crate::still::{Reading, StillWatch};
use crate::view::{FleetView, LeaseView, OrphanReason, Standing, WorkerView};
use crate::worker::{WorkerRecord, WorkerState};

/// A foreign owner must stand still over at least this many readings.
const READINGS: u32 = 3;

/// Watches what only repeated readings of the leases can tell: foreign owners that stand still, and the age of orphans.
#[derive(Debug)]
pub(crate) struct LeaseWatch {
    foreign_detection: Duration,
    foreign: StillWatch<LeaseKey, (Option<WorkerId>, u64)>,
    orphans: StillWatch<LeaseKey, u64>,
}

impl LeaseWatch {
    pub(crate) fn new(options: &Options) -> Self {
        // Readings come at `plan_interval` or sooner; a gap of several means that this worker was away.
        let gap = options.plan_interval * 4;
        Self {
            foreign_detection: options.foreign_detection,
            foreign: StillWatch::new(gap),
            orphans: StillWatch::new(gap),
        }
    }

    /// Takes in one reading of the leases, and says what may be done with each.
    pub(crate) fn read(
        &mut self,
        reading: Reading,
        leases: &[LeaseRecord],
        fleet: &Snapshot,
    ) -> BTreeMap<LeaseKey, Standing> {
        let foreign = leases.iter().filter(|l| l.owner.is_some() && l.granted_to().is_none());
        self.foreign
            .read(reading, foreign.map(|l| (l.key.clone(), (l.owner.clone(), l.counter.0))));
        let finished: BTreeMap<_, _> = leases
            .iter()
            .map(|l| ((l.stream.clone(), l.shard_id.clone()), l.is_finished()))
            .collect();
        let orphan = |lease: &LeaseRecord| self.ownership(lease, fleet);
        let owned: Vec<(&LeaseRecord, Result<(), OrphanReason>)> =
            leases.iter().map(|lease| (lease, orphan(lease))).collect();
        let orphans = owned.iter().filter(|(l, o)| o.is_err() && !l.is_finished());
        let orphans: Vec<_> = orphans.map(|(l, _)| (l.key.clone(), l.counter.0)).collect();
        self.orphans.read(reading, orphans);
        let parents_finished = |lease: &LeaseRecord| {
            let parent = |id| finished.get(&(lease.stream.clone(), id)).copied();
            let parents: Vec<Option<bool>> = lease.parents.iter().cloned().map(parent).collect();
            parents.iter().all(|finished| finished.unwrap_or(true))
                && (!parents.contains(&None) || !ancestor_is_open(lease, leases))
        };
        owned
            .into_iter()
            .map(|(lease, ownership)| {
                let standing = match ownership {
                    _ if lease.is_finished() => Standing::Finished,
                    Ok(()) if lease.granted_to().is_some() => Standing::Owned,
                    Ok(()) => Standing::Foreign,
                    Err(_) if !parents_finished(lease) => Standing::WaitsForParents,
                    Err(why) => {
                        Standing::Orphan { why, for_ms: millis(self.orphans.still(&lease.key).0) }
                    }
                };
                (lease.key.clone(), standing)
            })
            .collect()
    }

    /// `Ok` while somebody who lives owns the lease, as far as this observer knows.
    fn ownership(&self, lease: &LeaseRecord, fleet: &Snapshot) -> Result<(), OrphanReason> {
        let Some(owner) = &lease.owner else { return Err(OrphanReason::Unowned) };
        match lease.granted_to() {
            Some(life) => {
                of_life(life, fleet.workers.get(owner), fleet.unknown_owners.contains(owner))
            }
            None if self.foreign.is_still(&lease.key, self.foreign_detection, READINGS) => {
                Err(OrphanReason::ForeignOwnerSilent)
            }
            None => Ok(()),
        }
    }
}

/// True while an older shard of the same hash keys is not finished. A parent without a lease was settled long ago, or was
/// never to be read, or will only get its lease when its own parents end: this tells the last apart from the others. Shards
/// whose hash keys overlap are each other's ancestors and descendants, and a shard's id is higher than its ancestors'.
fn ancestor_is_open(lease: &LeaseRecord, leases: &[LeaseRecord]) -> bool {
    let Some(range) = lease.hash_range else { return false };
    leases.iter().any(|other| {
        let overlaps = |at: HashRange| at.start <= range.end && range.start <= at.end;
        other.stream == lease.stream
            && other.shard_id < lease.shard_id
            && !other.is_finished()
            && other.hash_range.is_some_and(overlaps)
    })
}

fn of_life(
    life: Incarnation,
    owner: Option<&WorkerRecord>,
    long_unknown: bool,
) -> Result<(), OrphanReason> {
    match owner {
        None if long_unknown => Err(OrphanReason::OwnerUnknown),
        None => Ok(()),
        Some(owner) if owner.incarnation > life => Err(OrphanReason::OwnerRestarted),
        // The fleet was read before the owner's newest life began.
        Some(owner) if owner.incarnation < life => Ok(()),
        Some(owner) => match owner.state {
            WorkerState::Stopped => Err(OrphanReason::OwnerStopped),
            WorkerState::Dead => Err(OrphanReason::OwnerDead),
            WorkerState::Joining | WorkerState::Active | WorkerState::Draining => Ok(()),
        },
    }
}

/// The auditor of the streams' shards: the first worker that works, by start time.
pub(crate) fn leader(fleet: &Snapshot, failure_detection: Duration) -> Option<WorkerId> {
    let age = |id| fleet.beat_age.get(id).copied().unwrap_or_default();
    let working = fleet.workers.values().filter(|worker| {
        matches!(worker.state, WorkerState::Active | WorkerState::Joining)
            && age(&worker.id) < failure_detection
    });
    working.min_by_key(|worker| (worker.started_at_ms, &worker.id)).map(|worker| worker.id.clone())
}

/// The workers of a view. `owned` counts the unfinished leases of each.
pub(crate) fn worker_views(
    fleet: &Snapshot,
    owned: &BTreeMap<WorkerId, u64>,
) -> BTreeMap<WorkerId, WorkerView> {
    let view = |worker: &WorkerRecord| WorkerView {
        incarnation: worker.incarnation,
        state: worker.state,
        beat_age_ms: millis(fleet.beat_age.get(&worker.id).copied().unwrap_or_default()),
        started_at_ms: worker.started_at_ms,
        max_leases: worker.max_leases,
        version: worker.version.clone(),
        load: worker.load,
        leases: owned.get(&worker.id).copied().unwrap_or(0),
    };
    fleet.workers.values().map(|worker| (worker.id.clone(), view(worker))).collect()
}

/// How many unfinished leases each worker owns.
pub(crate) fn owned(leases: &BTreeMap<LeaseKey, LeaseView>) -> BTreeMap<WorkerId, u64> {
    let mut owned = BTreeMap::new();
    for lease in leases.values().filter(|lease| lease.standing == Standing::Owned) {
        if let Some(owner) = &lease.owner {
            *owned.entry(owner.clone()).or_insert(0) += 1;
        }
    }
    owned
}

/// The leases of a view.
pub(crate) fn lease_views(
    leases: &[LeaseRecord],
    standings: &BTreeMap<LeaseKey, Standing>,
    lanes: &[LaneName],
) -> BTreeMap<LeaseKey, LeaseView> {
    let view = |lease: &LeaseRecord, standing: &Standing| LeaseView {
        shard_id: lease.shard_id.clone(),
        stream: lease.stream.as_ref().map(|stream| stream.name().to_owned()),
        owner: lease.owner.clone(),
        counter: lease.counter,
        checkpoint: lease.checkpoint.clone(),
        lanes: lease.believed_lanes(lanes),
        read_to: lease.read_to.clone(),
        throughput_kbps: lease.throughput_kbps.unwrap_or(0.0),
        reason: lease.reason.clone(),
        parents: lease.parents.clone(),
        children: lease.children.clone(),
        standing: standing.clone(),
    };
    let known = |lease: &LeaseRecord| {
        standings.get(&lease.key).map(|standing| (lease.key.clone(), view(lease, standing)))
    };
    leases.iter().filter_map(known).collect()
}

/// The workers that leases name as owners.
pub(crate) fn owners(view: &FleetView) -> BTreeSet<WorkerId> {
    view.leases.values().filter_map(|lease| lease.owner.clone()).collect()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
