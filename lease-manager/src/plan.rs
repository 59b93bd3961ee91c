//! Who should get which orphan, and which leases should move. Pure: the leader carries it out, and two leaders for a moment
//! do no harm, because every write is conditional.
//!
//! What a worker carries is measured twice: in bytes a second, weighted by the headroom that it has left, and in leases. Bytes
//! come first, but only where the difference is worth a move; where it is not, the counts are made even. Nothing moves
//! because of noise: a lease has a rest after a move, and one plan moves a bounded share of all leases.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{LeaseKey, WorkerId};
use crate::plan::fleet::Fleet;
use crate::view::{FleetView, LeaseView, OrphanReason, Standing};

mod fleet;

/// What the leader should do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Give an orphan to a worker.
    Assign { key: LeaseKey, to: WorkerId, why: OrphanReason },
    /// Ask the owner to drain a lease and hand it to another worker.
    Move { key: LeaseKey, from: WorkerId, to: WorkerId },
}

/// The figures of a plan.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rules {
    /// A worker whose heartbeat stood still for longer is given nothing.
    pub(crate) freshest_ms: u64,
    /// A lease rests so long after a move.
    pub(crate) rest_ms: u64,
    /// Differences in throughput below this are no reason to move anything, in KB/s.
    pub(crate) least_gap_kbps: f64,
    /// ... nor are differences below this share of the mean.
    pub(crate) least_gap_share: f64,
    /// The share of all leases that may be on their way at once.
    pub(crate) move_share: f64,
    /// ... but so many in any case.
    pub(crate) least_moves: usize,
}

impl Rules {
    /// The product's figures, for workers whose heartbeats are trusted for `freshest_ms`.
    pub(crate) fn new(freshest_ms: u64) -> Self {
        Self {
            freshest_ms,
            rest_ms: 20_000,
            least_gap_kbps: 512.0,
            least_gap_share: 0.2,
            move_share: 0.15,
            least_moves: 10,
        }
    }

    /// The same, but nothing is moved: for a fleet that is just changing.
    pub(crate) fn without_moves(self) -> Self {
        Self { move_share: 0.0, least_moves: 0, ..self }
    }

    fn budget(&self, leases: usize) -> usize {
        self.least_moves.max((leases as f64 * self.move_share) as usize)
    }
}

/// What the leader should do now.
pub(crate) fn plan(view: &FleetView, rules: &Rules) -> Vec<Action> {
    let mut fleet = Fleet::new(view, rules);
    if fleet.is_empty() {
        return Vec::new();
    }
    let mut actions = assignments(view, &mut fleet);
    actions.extend(moves(view, rules, &mut fleet));
    actions
}

/// Every orphan goes to a worker: back to the one that had it if that one works, else to the least loaded.
fn assignments(view: &FleetView, fleet: &mut Fleet<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    for (key, lease) in &view.leases {
        let Standing::Orphan { why, .. } = &lease.standing else { continue };
        let declined = decliner(view, lease);
        let had_it = lease.owner.as_ref().filter(|owner| fleet.has_room(owner));
        let Some(to) = had_it.or_else(|| fleet.least_loaded(key, declined)).cloned() else {
            continue;
        };
        fleet.add(&to, lease);
        actions.push(Action::Assign { key: key.clone(), to, why: *why });
    }
    actions
}

/// The worker that gave the lease up of its own accord, if it is still in the life in which it did.
fn decliner<'a>(view: &FleetView, lease: &'a LeaseView) -> Option<&'a WorkerId> {
    let declined = lease.declined_by.as_ref()?;
    let worker = view.workers.get(&declined.worker)?;
    (worker.incarnation == declined.incarnation).then_some(&declined.worker)
}

/// Leases move from the most to the least loaded workers while it is worth it.
fn moves(view: &FleetView, rules: &Rules, fleet: &mut Fleet<'_>) -> Vec<Action> {
    let under_way: usize = view.workers.values().map(|worker| worker.moving.len()).sum();
    let budget = rules.budget(view.leases.len()).saturating_sub(under_way);
    let mut movable = Movable::new(view, rules);
    let mut actions = Vec::new();
    while actions.len() < budget {
        let next = by_bytes(view, fleet, &movable).or_else(|| by_count(view, fleet, &movable));
        let Some((key, from, to)) = next else { break };
        fleet.shift(&from, &to, &view.leases[&key]);
        movable.take(&from, &key);
        actions.push(Action::Move { key, from, to });
    }
    actions
}

/// The leases that may be moved, by owner.
struct Movable<'a>(BTreeMap<&'a WorkerId, BTreeSet<&'a LeaseKey>>);

impl<'a> Movable<'a> {
    fn new(view: &'a FleetView, rules: &Rules) -> Self {
        let mut movable: BTreeMap<&WorkerId, BTreeSet<&LeaseKey>> = BTreeMap::new();
        for (key, lease) in view.leases.iter().filter(|(_, l)| l.standing == Standing::Owned) {
            let rests = lease.moved_ago_ms.is_some_and(|ago| ago < rules.rest_ms);
            let Some(owner) = lease.owner.as_ref().filter(|_| !rests) else { continue };
            let moving = |w: &crate::view::WorkerView| w.moving.contains_key(key);
            if view.workers.get(owner).is_some_and(|w| w.is_active() && !moving(w)) {
                movable.entry(owner).or_default().insert(key);
            }
        }
        Self(movable)
    }

    fn of(&self, owner: &WorkerId) -> impl Iterator<Item = &'a LeaseKey> {
        self.0.get(owner).into_iter().flatten().copied()
    }

    fn take(&mut self, owner: &WorkerId, key: &LeaseKey) {
        if let Some(keys) = self.0.get_mut(owner) {
            keys.remove(key);
        }
    }
}

type Next = Option<(LeaseKey, WorkerId, WorkerId)>;

/// The move that narrows the widest gap in throughput the most, if that gap is worth it.
fn by_bytes(view: &FleetView, fleet: &Fleet<'_>, movable: &Movable<'_>) -> Next {
    let (from, to) = fleet.widest_in_bytes()?;
    // Half of the gap would make the two even; more than the gap would only turn it round.
    let half = fleet.gap(from, to) / 2.0;
    let fits = |key: &&LeaseKey| {
        let lease = &view.leases[*key];
        let kbps = lease.throughput_kbps;
        kbps > 0.0 && fleet.narrows(from, to, kbps) && decliner(view, lease) != Some(to)
    };
    let distance = |key: &&LeaseKey| (view.leases[*key].throughput_kbps - half).abs();
    let best = movable.of(from).filter(fits).min_by(|a, b| distance(a).total_cmp(&distance(b)))?;
    Some((best.clone(), from.clone(), to.clone()))
}

/// The move that makes the counts more even without making the throughput uneven.
fn by_count(view: &FleetView, fleet: &Fleet<'_>, movable: &Movable<'_>) -> Next {
    let (from, to) = fleet.widest_in_count()?;
    let fits = |key: &&LeaseKey| {
        let lease = &view.leases[*key];
        fleet.stays_even(from, to, lease.throughput_kbps) && decliner(view, lease) != Some(to)
    };
    // The quietest lease disturbs the least.
    let quiet = |key: &&LeaseKey| view.leases[*key].throughput_kbps;
    let best = movable.of(from).filter(fits).min_by(|a, b| quiet(a).total_cmp(&quiet(b)))?;
    Some((best.clone(), from.clone(), to.clone()))
}

/// The worker that a lease given up by `me` should go to: the least loaded other one that works, is well, and whose heartbeat
/// is younger than `freshest_ms`. `given` counts what was handed to each since the view was made; `unfit` are those that turned
/// out not to work.
pub(crate) fn heir(
    view: &FleetView,
    me: &WorkerId,
    freshest_ms: u64,
    given: &BTreeMap<WorkerId, u64>,
    unfit: &BTreeSet<WorkerId>,
) -> Option<WorkerId> {
    let load = |id: &WorkerId, leases: u64| leases + given.get(id).copied().unwrap_or(0);
    let fit = view.workers.iter().filter(|(id, worker)| {
        *id != me
            && !unfit.contains(*id)
            && worker.is_fit(freshest_ms)
            && load(id, worker.leases) < worker.max_leases
    });
    fit.min_by_key(|(id, worker)| (worker.health.len(), load(id, worker.leases), *id))
        .map(|(id, _)| id.clone())
}

/// True if another worker works and is in no worse health than `me`: only then is it of use to give up what cannot be done.
pub(crate) fn peer_is_no_worse(view: &FleetView, me: &WorkerId, freshest_ms: u64) -> bool {
    let ailments = view.workers.get(me).map_or(0, |worker| worker.health.len());
    let mut peers =
        view.workers.iter().filter(|(id, worker)| *id != me && worker.is_fit(freshest_ms));
    peers.any(|(_, worker)| worker.health.len() <= ailments)
}

#[cfg(test)]
mod tests;
