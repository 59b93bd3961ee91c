//! What may be done with each lease, and the picture of the fleet that follows from it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::gate::Gates;
use crate::held::{ASKED, MOVE};
use crate::ids::{Incarnation, LaneName, LeaseCounter, LeaseKey, WorkerId};
use crate::lease::LeaseRecord;
use crate::liveness::Snapshot;
use crate::options::Options;
use crate::still::{Reading, StillWatch};
use crate::view::{FleetView, LeaseView, OrphanReason, Standing, WorkerView};
use crate::worker::{Ask, WorkerRecord, WorkerState};

/// A foreign owner must stand still over at least this many readings.
const READINGS: u32 = 3;

/// Watches what only repeated readings of the leases can tell: foreign owners that stand still, the age of orphans, moves.
#[derive(Debug)]
pub(crate) struct LeaseWatch {
    foreign_detection: Duration,
    lanes: Vec<LaneName>,
    foreign: StillWatch<LeaseKey, (Option<WorkerId>, u64)>,
    orphans: StillWatch<LeaseKey, u64>,
    moves: BTreeMap<LeaseKey, (LeaseCounter, Option<Instant>)>,
}

/// What one reading says of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) standing: Standing,
    /// The lanes that may read the shard.
    pub(crate) open_lanes: BTreeSet<LaneName>,
    /// How long ago the lease was seen to have been moved to its owner.
    pub(crate) moved_ago: Option<Duration>,
}

impl LeaseWatch {
    pub(crate) fn new(options: &Options) -> Self {
        // A worker that does not lead reads the leases this rarely; a longer gap means that it was away.
        let gap = options.sync_interval.max(options.plan_interval) * 2;
        Self {
            foreign_detection: options.foreign_detection,
            lanes: options.lanes.clone(),
            foreign: StillWatch::new(gap),
            orphans: StillWatch::new(gap),
            moves: BTreeMap::new(),
        }
    }

    /// Takes in one reading of the leases, and says what may be done with each.
    pub(crate) fn read(
        &mut self,
        reading: Reading,
        leases: &[LeaseRecord],
        fleet: &Snapshot,
    ) -> BTreeMap<LeaseKey, Judgement> {
        let foreign = leases.iter().filter(|l| l.owner.is_some() && l.granted_to().is_none());
        self.foreign
            .read(reading, foreign.map(|l| (l.key.clone(), (l.owner.clone(), l.counter.0))));
        let owned: Vec<(&LeaseRecord, Result<(), OrphanReason>)> =
            leases.iter().map(|lease| (lease, self.ownership(lease, fleet))).collect();
        let orphans = owned.iter().filter(|(l, o)| o.is_err() && !l.is_finished());
        let orphans: Vec<_> = orphans.map(|(l, _)| (l.key.clone(), l.counter.0)).collect();
        self.orphans.read(reading, orphans);
        self.note_moves(reading, leases);
        let gates = Gates::new(leases);
        let judge = |(lease, ownership): (&LeaseRecord, Result<(), OrphanReason>)| {
            let open_lanes = gates.open_lanes(lease, &self.lanes);
            let standing = match ownership {
                _ if lease.is_finished() => Standing::Finished,
                Ok(()) if lease.granted_to().is_some() => Standing::Owned,
                Ok(()) => Standing::Foreign,
                Err(_) if open_lanes.is_empty() => Standing::WaitsForParents,
                Err(why) => {
                    Standing::Orphan { why, for_ms: millis(self.orphans.still(&lease.key).0) }
                }
            };
            let moved = self.moves.get(&lease.key).and_then(|(_, at)| *at);
            let moved_ago = moved.map(|at| reading.ended.saturating_duration_since(at));
            (lease.key.clone(), Judgement { standing, open_lanes, moved_ago })
        };
        owned.into_iter().map(judge).collect()
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

    /// A counter that rose between two readings because the leader or an operator wanted it is a move.
    fn note_moves(&mut self, reading: Reading, leases: &[LeaseRecord]) {
        let before = std::mem::take(&mut self.moves);
        let note = |lease: &LeaseRecord| {
            let moved = matches!(lease.reason.as_deref(), Some(MOVE | ASKED));
            let at = match before.get(&lease.key) {
                Some((counter, at)) if *counter == lease.counter => *at,
                Some(_) if moved => Some(reading.ended),
                _ => None,
            };
            (lease.key.clone(), (lease.counter, at))
        };
        self.moves = leases.iter().map(note).collect();
    }
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

/// The workers that work, by start time: what ails one puts it behind those that are well.
fn by_seniority(fleet: &Snapshot) -> Vec<&WorkerRecord> {
    let works = |w: &&WorkerRecord| matches!(w.state, WorkerState::Active | WorkerState::Joining);
    let mut working: Vec<&WorkerRecord> = fleet.workers.values().filter(works).collect();
    working.sort_by_key(|worker| (worker.health.len(), worker.started_at_ms, &worker.id));
    working
}

/// Who shares the leases out and audits the shards: the first worker that works and whose heartbeat is heard.
pub(crate) fn leader(fleet: &Snapshot, failure_detection: Duration) -> Option<WorkerId> {
    let heard = |worker: &&WorkerRecord| {
        fleet.beat_age.get(&worker.id).copied().unwrap_or_default() < failure_detection
    };
    by_seniority(fleet).into_iter().find(heard).map(|worker| worker.id.clone())
}

/// The leader and its standbys: they watch the whole fleet, and everybody watches them.
pub(crate) fn heads(fleet: &Snapshot) -> Vec<WorkerId> {
    const HEADS: usize = 3;
    by_seniority(fleet).into_iter().take(HEADS).map(|worker| worker.id.clone()).collect()
}

/// The workers of a view. An ask to move counts while the lease is still held under the counter that it names.
pub(crate) fn worker_views(
    fleet: &Snapshot,
    leases: &BTreeMap<LeaseKey, LeaseView>,
) -> BTreeMap<WorkerId, WorkerView> {
    let moving = |worker: &WorkerRecord| {
        let asked = worker.asks.iter().filter_map(|(key, ask)| match ask {
            Ask::Move { counter, to } => Some((key, counter, to)),
            Ask::Assigned { .. } => None,
        });
        let open = asked.filter(|(key, counter, _)| {
            leases.get(*key).is_some_and(|lease| {
                lease.owner.as_ref() == Some(&worker.id) && lease.counter == **counter
            })
        });
        open.map(|(key, _, to)| (key.clone(), to.clone())).collect()
    };
    let view = |worker: &WorkerRecord| WorkerView {
        incarnation: worker.incarnation,
        state: worker.state,
        beat_age_ms: millis(fleet.beat_age.get(&worker.id).copied().unwrap_or_default()),
        started_at_ms: worker.started_at_ms,
        max_leases: worker.max_leases,
        version: worker.version.clone(),
        load: worker.load,
        throughput_kbps: worker.throughput_kbps,
        health: worker.health.clone(),
        moving: moving(worker),
        leases: worker.leases,
    };
    fleet.workers.values().map(|worker| (worker.id.clone(), view(worker))).collect()
}

/// The leases of a view.
pub(crate) fn lease_views(
    leases: &[LeaseRecord],
    judgements: &BTreeMap<LeaseKey, Judgement>,
    lanes: &[LaneName],
) -> BTreeMap<LeaseKey, LeaseView> {
    let view = |lease: &LeaseRecord, judgement: &Judgement| LeaseView {
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
        declined_by: lease.declined_by.clone(),
        moved_ago_ms: judgement.moved_ago.map(millis),
        open_lanes: judgement.open_lanes.clone(),
        standing: judgement.standing.clone(),
    };
    let known = |lease: &LeaseRecord| {
        judgements.get(&lease.key).map(|judgement| (lease.key.clone(), view(lease, judgement)))
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
