//! An exhaustive model of the lease protocol: two workers, two or three shards, and everything that may go wrong, in
//! every order. Test code only.
//!
//! It calls production's own decisions: what becomes of a lease and under which condition (`change.rs`, whose condition
//! and update texts are evaluated as DynamoDB does), what is an orphan (`standing.rs`), which lanes may start (`gate.rs`), what an owner concludes from an
//! item after an unknown outcome (`writer.rs`), where a child starts (`handle.rs`), which lanes are believed (`lease.rs`),
//! the time limits (`options.rs`), and the invariants (`invariants.rs`). What it states by itself, because production has
//! it inside asynchronous code: the conditions of the fleet table, the order of one worker's calls, and that a reading of all
//! leases is used at the moment it is made. It says nothing about progress: only about what must never happen.
//!
//! Time has no ticks. Two moments matter to a worker: `lease_validity` and `failure_detection` after its last heartbeat, in
//! the order that `Options` gives them. Heartbeats may come at any moment before, between and after. A worker that is
//! paused is one that does nothing while others do; every order of steps is tried, so that needs no state.
//!
//! `cargo test -p lease-manager model:: -- --nocapture` prints how many states there were. The environment variable
//! `LEASE_MODEL=large` gives every scenario its large bounds (minutes instead of seconds, in a release build).
//!
//! Start at [`Scenario`], then `steps.rs` (what a step does) and `promises.rs` (what must hold).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod memory;
mod promises;
mod rules;
mod state;
mod steps;
mod table;
mod tests;

use stateright::{Model, Property};

use crate::lease::LeaseRecord;
use memory::Memory;
use state::{
    Action, Budget, LANES, Member, Mode, Planned, Process, Rec, SHARDS, Shard, State, WORKERS,
    Worker,
};

/// What is modelled: the stream, and how much may go wrong.
#[derive(Debug, Clone)]
struct Scenario {
    name: &'static str,
    /// The stream's shards, each with its parents.
    shards: Vec<Vec<Shard>>,
    /// The last record of an open shard, for each lane.
    last: [u8; LANES],
    /// The last record before the end of a shard that has children, for each lane.
    last_of_parents: [u8; LANES],
    /// This shard's lease was checkpointed by a Kinesis Client Library since its lanes were written.
    from_kcl: Option<Shard>,
    budget: Budget,
}

/// The model.
struct Leases {
    scenario: Scenario,
    memory: Memory,
    /// Which of the two moments ends the validity of leases, and which ends the patience of observers.
    lapses_at: u8,
    silent_at: u8,
}

impl Leases {
    fn new(scenario: Scenario) -> Self {
        let options = rules::options();
        let (validity, detection) = (options.lease_validity, options.failure_detection);
        let lapses_at = if validity <= detection { 1 } else { 2 };
        let silent_at = if detection <= validity { 1 } else { 2 };
        let memory = Memory::new(scenario.shards.clone());
        Self { scenario, memory, lapses_at, silent_at }
    }

    /// The worker's leases are valid, as far as it knows.
    fn trusts(&self, process: &Process) -> bool {
        process.up && process.life > 0 && !process.unverified && process.phase < self.lapses_at
    }

    /// Observers have seen the worker's beat stand still for long enough to declare it dead.
    fn is_silent(&self, process: &Process) -> bool {
        process.phase >= self.silent_at
    }

    /// The worker's consumer may work on the shard now.
    fn works_on(&self, state: &State, worker: Worker, shard: Shard) -> bool {
        let process = &state.workers[worker];
        let may_work = |holding| self.memory.may_work((worker, process.life), holding);
        self.trusts(process) && process.held[shard].is_some_and(may_work)
    }

    fn children(&self, parent: Shard) -> impl Iterator<Item = Shard> {
        let shards = self.scenario.shards.iter().enumerate();
        shards.filter(move |(_, parents)| parents.contains(&parent)).map(|(child, _)| child)
    }

    fn started_children(&self, state: &State) -> impl Iterator<Item = Shard> {
        (0..self.scenario.shards.len()).filter(|shard| {
            let there = state.leases[*shard] != Rec::default();
            let started = || self.memory.facts(state.leases[*shard]).lanes.iter().any(|at| *at > 0);
            !self.scenario.shards[*shard].is_empty() && there && started()
        })
    }

    fn first_lease(&self, shard: Shard) -> LeaseRecord {
        let mut lease = rules::first_lease(shard, &self.scenario.shards);
        if self.scenario.from_kcl == Some(shard) {
            rules::as_a_kcl_left_it(&mut lease);
        }
        lease
    }
}

impl Model for Leases {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let fleet = [Member { life: 1, mode: Mode::Active }; WORKERS];
        let process = Process {
            up: true,
            life: 1,
            phase: 0,
            unverified: false,
            view: fleet,
            held: [None; SHARDS],
        };
        let mut state = State {
            leases: [Rec::default(); SHARDS],
            fleet,
            workers: [process; WORKERS],
            flight: [Planned::default(); state::FLIGHT],
            acknowledged: [[0; LANES]; SHARDS],
            left: self.scenario.budget,
            broken: 0,
        };
        for (shard, parents) in self.scenario.shards.iter().enumerate() {
            if parents.is_empty() {
                let lease = self.first_lease(shard);
                state.acknowledged[shard] = [rules::position(&lease.checkpoint); LANES];
                state.leases[shard] = self.memory.number(lease);
            }
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        steps::possible(self, state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        steps::take(self, last, action).filter(|next| next != last)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises::properties(self)
    }
}
