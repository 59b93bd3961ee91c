//! Who should take which orphan, and which leases should move. Pure, and the same on every worker that sees the same
//! fleet: so workers do not collide for ever, and where they see different fleets the conditional writes decide.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{LeaseKey, WorkerId};
use crate::view::{FleetView, OrphanReason, Standing};
use crate::worker::WorkerState;

/// What a worker should do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Take an orphan.
    Take { key: LeaseKey, why: OrphanReason },
    /// Drain a lease of its own and hand it to another worker.
    HandOver { key: LeaseKey, to: WorkerId },
}

/// What one worker knows beside the view.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wishes {
    /// Children of shards that this worker has just finished: it takes them whatever the plan says, so that a reshard
    /// leaves no gap.
    pub(crate) prefer: BTreeSet<LeaseKey>,
    /// Leases that this worker has just given up for a reason: it takes them only when nobody else can.
    pub(crate) refuse: BTreeSet<LeaseKey>,
    /// Own leases that are about to move already.
    pub(crate) moving: BTreeMap<LeaseKey, Option<WorkerId>>,
    /// An orphan older than this is taken by whoever sees it, in milliseconds.
    pub(crate) anybody_after_ms: u64,
}

struct Room {
    leases: u64,
    most: u64,
}

/// What `me` should do now.
pub(crate) fn plan_takes(view: &FleetView, me: &WorkerId, wishes: &Wishes) -> Vec<Action> {
    let mut rooms: BTreeMap<&WorkerId, Room> = view
        .workers
        .iter()
        .filter(|(_, worker)| worker.state == WorkerState::Active)
        .map(|(id, worker)| (id, Room { leases: worker.leases, most: worker.max_leases }))
        .collect();
    if !rooms.contains_key(me) {
        return Vec::new();
    }
    for to in wishes.moving.values() {
        shift(&mut rooms, me, to.as_ref());
    }
    let mut actions = takes(view, me, wishes, &mut rooms);
    actions.extend(moves(view, me, wishes, &mut rooms));
    actions
}

/// Every orphan goes to a worker: back to the one that had it if that one lives, else to the least loaded.
fn takes(
    view: &FleetView,
    me: &WorkerId,
    wishes: &Wishes,
    rooms: &mut BTreeMap<&WorkerId, Room>,
) -> Vec<Action> {
    let mut mine = Vec::new();
    for (key, lease) in &view.leases {
        let Standing::Orphan { why, for_ms } = &lease.standing else { continue };
        let refused = wishes.refuse.contains(key) && rooms.len() > 1;
        let had_it = lease.owner.as_ref().filter(|owner| has_room(rooms, owner));
        let to = had_it.or_else(|| least_loaded(rooms, key)).cloned();
        let urgent = wishes.prefer.contains(key) || *for_ms > wishes.anybody_after_ms;
        let take = !refused && (to.as_ref() == Some(me) || (urgent && has_room(rooms, me)));
        let to = if take { Some(me) } else { to.as_ref() };
        if let Some(room) = to.and_then(|to| rooms.get_mut(to)) {
            room.leases += 1;
        }
        if take {
            mine.push(Action::Take { key: key.clone(), why: *why });
        }
    }
    mine
}

/// Leases move from the most to the least loaded worker while that makes the fleet more even.
fn moves(
    view: &FleetView,
    me: &WorkerId,
    wishes: &Wishes,
    rooms: &mut BTreeMap<&WorkerId, Room>,
) -> Vec<Action> {
    let is_mine = |key: &&LeaseKey| {
        let lease = &view.leases[*key];
        lease.owner.as_ref() == Some(me)
            && lease.standing == Standing::Owned
            && !wishes.moving.contains_key(*key)
    };
    let mut mine: Vec<&LeaseKey> = view.leases.keys().filter(is_mine).collect();
    let mut actions = Vec::new();
    // Each round moves one lease, and no fleet needs more rounds than it has leases.
    for _ in 0..view.leases.len() {
        let most = rooms.iter().max_by_key(|(id, room)| (room.leases, std::cmp::Reverse(**id)));
        let least = rooms
            .iter()
            .filter(|(_, room)| room.leases < room.most)
            .min_by_key(|(id, room)| (room.leases, **id));
        let (Some((from, full)), Some((to, empty))) = (most, least) else { break };
        if full.leases < empty.leases + 2 {
            break;
        }
        let (from, to): (WorkerId, WorkerId) = ((*from).clone(), (*to).clone());
        if from == *me {
            let Some(key) = mine.pop() else { break };
            actions.push(Action::HandOver { key: key.clone(), to: to.clone() });
        }
        shift(rooms, &from, Some(&to));
    }
    actions
}

fn shift(rooms: &mut BTreeMap<&WorkerId, Room>, from: &WorkerId, to: Option<&WorkerId>) {
    if let Some(room) = rooms.get_mut(from) {
        room.leases = room.leases.saturating_sub(1);
    }
    if let Some(room) = to.and_then(|to| rooms.get_mut(to)) {
        room.leases += 1;
    }
}

fn has_room(rooms: &BTreeMap<&WorkerId, Room>, worker: &WorkerId) -> bool {
    rooms.get(worker).is_some_and(|room| room.leases < room.most)
}

/// The least loaded worker with room; among equals a different one for each lease, but the same on every worker.
fn least_loaded<'a>(rooms: &BTreeMap<&'a WorkerId, Room>, key: &LeaseKey) -> Option<&'a WorkerId> {
    let open = rooms.iter().filter(|(_, room)| room.leases < room.most);
    open.min_by_key(|(id, room)| (room.leases, mix(key.as_str(), id.as_str()))).map(|(id, _)| *id)
}

fn mix(a: &str, b: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    a.bytes().chain([0]).chain(b.bytes()).fold(0xcbf2_9ce4_8422_2325, step)
}

/// The worker that a lease given up by `me` should go to: the least loaded other one that works and whose heartbeat is
/// younger than `freshest_ms`. `given` counts what was handed to each since the view was made.
pub(crate) fn heir(
    view: &FleetView,
    me: &WorkerId,
    freshest_ms: u64,
    given: &BTreeMap<WorkerId, u64>,
) -> Option<WorkerId> {
    let load = |id: &WorkerId, leases: u64| leases + given.get(id).copied().unwrap_or(0);
    view.workers
        .iter()
        .filter(|(id, worker)| {
            *id != me
                && worker.state == WorkerState::Active
                && worker.beat_age_ms < freshest_ms
                && load(id, worker.leases) < worker.max_leases
        })
        .min_by_key(|(id, worker)| (load(id, worker.leases), *id))
        .map(|(id, _)| id.clone())
}

#[cfg(test)]
mod tests;
