//! What the model holds every step and every moment to: the named invariants of `invariants.rs`, and what they stand for.

use stateright::Property;

use crate::checkpoint::Checkpoint;
use crate::invariants::{
    Violation, l1_one_writer, l2_counter_rises, l3_checkpoint_rises, l4_children_wait,
    l5_every_shard_has_a_lease,
};
use crate::lease::LeaseRecord;
use crate::model::Leases;
use crate::model::rules;
use crate::model::state::{LANES, Mode, Rec, SHARDS, Shard, State, WORKERS};

/// Promises that a step can break, as bits of `State::broken`.
pub(super) struct Broken;

impl Broken {
    pub(super) const L1: u16 = 1;
    pub(super) const L2: u16 = 1 << 1;
    pub(super) const L3: u16 = 1 << 2;
    pub(super) const L4: u16 = 1 << 3;
    pub(super) const L5: u16 = 1 << 4;
    pub(super) const FINISHED_IS_TAKEN: u16 = 1 << 5;
    pub(super) const UNFENCED: u16 = 1 << 6;
    pub(super) const NOT_AS_PLANNED: u16 = 1 << 7;
    pub(super) const LOSS_NOT_PROVEN: u16 = 1 << 8;
}

/// The promises about one lease's history that the step from `was` to `is` breaks.
pub(super) fn broken_by_step(was: &LeaseRecord, is: &LeaseRecord) -> u16 {
    let history = [was.clone(), is.clone()];
    let taken_again = was.is_finished() && (is.owner != was.owner || !is.is_finished());
    bit(&l1_one_writer(&history), Broken::L1)
        | bit(&l2_counter_rises(&history), Broken::L2)
        | bit(&l3_checkpoint_rises(&history), Broken::L3)
        | if taken_again { Broken::FINISHED_IS_TAKEN } else { 0 }
}

/// The promises about all leases of one moment that are broken. `shards` are the stream's, each with its parents.
pub(super) fn broken_at_once(leases: &[LeaseRecord], shards: &[Vec<Shard>]) -> u16 {
    let parents = |of: &Vec<Shard>| of.iter().copied().map(rules::shard).collect();
    let listed =
        shards.iter().enumerate().map(|(id, of)| (rules::shard(id), parents(of))).collect();
    bit(&l4_children_wait(leases, &rules::lanes()), Broken::L4)
        | bit(&l5_every_shard_has_a_lease(&listed, leases), Broken::L5)
}

fn bit(found: &Result<(), Violation>, bit: u16) -> u16 {
    if found.is_ok() { 0 } else { bit }
}

/// True if a shard that replaces another would be read from anywhere else than its oldest record.
pub(super) fn child_skips(record: &LeaseRecord) -> bool {
    !record.parents.is_empty()
        && !record.checkpoint.has_moved()
        && record.checkpoint != Checkpoint::TrimHorizon
}

type Always = (&'static str, fn(&Leases, &State) -> bool);

const ALWAYS: [Always; 13] = [
    ("L1: at most one worker trusts that it holds a lease", |model, state| {
        (0..SHARDS).all(|shard| {
            (0..WORKERS).filter(|worker| model.works_on(state, *worker, shard)).count() <= 1
        })
    }),
    (
        "L1: every write builds on the one before, and no owner changes without a new counter",
        |_, s| s.broken & Broken::L1 == 0,
    ),
    ("L1: an owner's write happens only while it is the owner", |_, s| {
        s.broken & Broken::UNFENCED == 0
    }),
    ("L2: a lease counter never goes down", |_, s| s.broken & Broken::L2 == 0),
    ("L3: a checkpoint never goes back", |_, s| s.broken & Broken::L3 == 0),
    ("L4: no lane of a child starts before it ended in all parents", |_, s| {
        s.broken & Broken::L4 == 0
    }),
    ("L5: every shard with unread records has a lease", |_, s| s.broken & Broken::L5 == 0),
    ("an acknowledged checkpoint is never undone", |model, state| {
        (0..SHARDS).filter(|shard| state.leases[*shard] != Rec::default()).all(|shard| {
            let starts_at = model.memory.facts(state.leases[shard]).lanes;
            (0..LANES).all(|lane| starts_at[lane] >= state.acknowledged[shard][lane])
        })
    }),
    ("a finished lease is never taken again", |_, s| s.broken & Broken::FINISHED_IS_TAKEN == 0),
    ("a child is read from its oldest record", |model, state| {
        let there = state.leases.iter().filter(|rec| **rec != Rec::default());
        there.into_iter().all(|rec| !model.memory.facts(*rec).child_skips)
    }),
    ("a write leaves the record that was planned", |_, s| s.broken & Broken::NOT_AS_PLANNED == 0),
    ("a loss is concluded only when it is proven", |_, s| s.broken & Broken::LOSS_NOT_PROVEN == 0),
    ("a worker's life is never ahead of the fleet table", |_, state| {
        (0..WORKERS).all(|w| state.workers[w].life <= state.fleet[w].life)
    }),
];

/// The promises, and what must be reachable for the model to have tried them.
pub(super) fn properties(model: &Leases) -> Vec<Property<Leases>> {
    let always = ALWAYS.iter().map(|(name, holds)| Property::always(name, *holds));
    let mut properties: Vec<_> = always.collect();
    let mut reachable = |name, there| properties.push(Property::sometimes(name, there));
    if model.scenario.budget.pauses > 0 || model.scenario.budget.crashes > 0 {
        reachable("a dead worker's lease is taken by another", taken_from_the_dead);
    }
    if model.scenario.budget.late_writes > 0 {
        reachable("a late write of an owner meets another owner and is refused", fenced);
    }
    if model.scenario.budget.pauses > 0 {
        reachable("a worker wakes up and finds its lease taken", |model, state| {
            (0..WORKERS).any(|w| {
                (0..SHARDS).any(|shard| {
                    let holding = state.workers[w].held[shard];
                    holding.is_some() && model.memory.facts(state.leases[shard]).owner != Some(w)
                })
            })
        });
    }
    if model.scenario.budget.lost_replies > 0 {
        reachable("a write happens and its worker does not know", |_, state| {
            let holdings = || state.workers.iter().flat_map(|w| w.held.iter().enumerate());
            holdings().any(|(shard, held)| {
                held.is_some_and(|held| {
                    held.doubt != Rec::default() && state.leases[shard] == held.doubt
                })
            })
        });
    }
    if model.scenario.shards.iter().any(|parents| !parents.is_empty()) {
        reachable("a child starts after its parents", |model, state| {
            model.started_children(state).next().is_some()
        });
    }
    if model.scenario.shards.iter().any(|parents| parents.len() > 1) {
        reachable("a child starts whose parents had different owners", |model, state| {
            model.started_children(state).any(|child| {
                let owner = |p: &Shard| model.memory.facts(state.leases[*p]).owner;
                let mut owners = model.scenario.shards[child].iter().map(owner);
                let first = owners.next();
                owners.any(|owner| Some(owner) != first)
            })
        });
    }
    properties
}

fn taken_from_the_dead(model: &Leases, state: &State) -> bool {
    let nothing_was_moved = state.left.moves == model.scenario.budget.moves;
    let dead = |w: usize| state.fleet[w].mode == Mode::Dead;
    nothing_was_moved
        && state.leases.iter().filter(|rec| **rec != Rec::default()).any(|rec| {
            let facts = model.memory.facts(*rec);
            facts.counter > 1
                && facts.owner.is_some_and(|owner| (0..WORKERS).any(|w| w != owner && dead(w)))
        })
}

fn fenced(model: &Leases, state: &State) -> bool {
    state.flight.iter().filter(|planned| planned.0 > 0).any(|planned| {
        let plan = model.memory.plan(*planned);
        let now = state.leases[plan.shard];
        let other = model.memory.facts(now).owner.is_some_and(|owner| owner != plan.by);
        plan.by_owner && other && !model.memory.holds(*planned, now)
    })
}
