//! The scenarios. Every one is tried in every order of steps, to the end.

// Whether the large bounds are wanted is said from outside.
#![allow(clippy::disallowed_methods)]

use stateright::{Checker, HasDiscoveries, Model};
use tokio::time::Instant;

use crate::model::state::{Budget, Shard};
use crate::model::{Leases, Scenario};

fn check(small: Scenario, large: impl FnOnce(&mut Scenario)) {
    let mut scenario = small;
    if std::env::var("LEASE_MODEL").is_ok_and(|bounds| bounds == "large") {
        large(&mut scenario);
    }
    let name = scenario.name;
    let started = Instant::now();
    let checker = Leases::new(scenario).checker();
    let checker = checker.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let (records, writes) = checker.model().memory.size();
    println!(
        "model {name}: {} states, {} steps tried, depth {}, {records} lease records, {writes} writes, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        started.elapsed().as_secs_f64(),
    );
    let failed = checker.model().properties().into_iter().find(|property| {
        property.expectation.discovery_is_failure() == checker.discovery(property.name).is_some()
    });
    if let Some(property) = failed {
        let steps = checker.discovery(property.name).map(|path| {
            let steps = path.into_actions();
            steps.iter().map(|step| format!("  {step:?}\n")).collect::<String>()
        });
        let steps = steps.unwrap_or_else(|| "  no order of steps leads there".to_owned());
        panic!("{name}: {}\n{steps}", property.name);
    }
}

/// Everything once.
const LARGE: Budget =
    Budget { crashes: 1, pauses: 1, lost_replies: 1, late_writes: 1, moves: 1, stops: 1 };

fn scenario(name: &'static str, shards: Vec<Vec<Shard>>, budget: Budget) -> Scenario {
    Scenario { name, shards, last: [1, 1], last_of_parents: [0, 0], from_kcl: None, budget }
}

#[test]
fn two_workers_and_two_shards_keep_every_promise_in_every_order_of_steps() {
    let budget = Budget { crashes: 1, pauses: 1, lost_replies: 1, ..Budget::default() };
    let scenario = scenario("fleet", vec![vec![], vec![]], budget);
    check(scenario, |large| large.budget.late_writes = 1);
}

#[test]
fn a_write_that_arrives_late_undoes_nothing() {
    let budget = Budget { pauses: 1, lost_replies: 1, late_writes: 1, ..Budget::default() };
    let mut scenario = scenario("late", vec![vec![]], budget);
    scenario.last = [2, 1];
    check(scenario, |large| large.budget = Budget { late_writes: 2, ..LARGE });
}

#[test]
fn a_lease_that_moves_is_worked_on_by_one_at_a_time() {
    let budget = Budget { pauses: 1, late_writes: 1, moves: 1, ..Budget::default() };
    let scenario = scenario("move", vec![vec![]], budget);
    check(scenario, |large| large.budget = Budget { moves: 2, ..LARGE });
}

#[test]
fn a_worker_that_stops_leaves_its_leases_to_be_taken() {
    let budget = Budget { pauses: 1, lost_replies: 1, moves: 1, stops: 1, ..Budget::default() };
    let scenario = scenario("stop", vec![vec![]], budget);
    check(scenario, |large| large.budget = Budget { stops: 2, ..LARGE });
}

#[test]
fn a_table_that_another_library_wrote_meanwhile_is_read_from_its_checkpoint() {
    let budget = Budget { crashes: 1, pauses: 1, lost_replies: 1, ..Budget::default() };
    let mut scenario = scenario("after a kcl", vec![vec![]], budget);
    (scenario.last, scenario.from_kcl) = ([3, 3], Some(0));
    check(scenario, |large| large.budget = LARGE);
}

#[test]
fn a_splits_children_start_when_their_parent_ended() {
    let budget = Budget { crashes: 1, lost_replies: 1, ..Budget::default() };
    let scenario = scenario("split", vec![vec![], vec![0], vec![0]], budget);
    check(scenario, |large| {
        (large.last_of_parents, large.budget.pauses) = ([1, 1], 1);
    });
}

#[test]
fn a_merges_child_starts_when_both_parents_ended_whoever_owned_them() {
    let budget = Budget { crashes: 1, ..Budget::default() };
    let scenario = scenario("merge", vec![vec![], vec![], vec![0, 1]], budget);
    check(scenario, |large| {
        (large.last_of_parents, large.budget.pauses, large.budget.lost_replies) = ([1, 1], 1, 1);
    });
}
