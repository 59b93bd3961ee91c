//! The simulation: whole workers in paused time over the real SDK clients, with seeded faults.
//!
//! Every seed is a different course: how records are spread and paced, which calls fail and how, when workers die, stop, are paused
//! and start again, when shards split and merge. Each worker is a process of its own (`scheduler.rs`); the promises are checked on
//! the wire at every write (`leases.rs`, `ledger.rs`), and once more at the end. A failing seed prints the command that replays it.
//!
//! `SIM_FIRST` and `SIM_SEEDS` say which seeds are run. Start reading at [`course::run`].
// Which seeds are run is said from outside.
#![allow(clippy::disallowed_methods)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    missing_docs
)]

mod course;
mod faults;
mod leases;
mod ledger;
mod operator;
mod runner;
mod scheduler;
mod wire;
mod worker;
mod world;

use std::sync::Mutex;
use std::time::Duration;

use course::Outcome;

/// Seeds that are run unless `SIM_SEEDS` says how many, from `SIM_FIRST` on.
const SEEDS: u64 = 200;
/// Seeds that run at the same time.
const THREADS: u64 = 2;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"))
}

#[test]
fn p1_p4_p5_records_survive_seeded_faults() {
    let first = number("SIM_FIRST").unwrap_or(1);
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let progress = Mutex::new(Progress { seeds, ..Progress::default() });
    runner::run_all(first, seeds, THREADS.min(seeds), &|seed, outcome| {
        progress.lock().unwrap().add(seed, outcome);
    });
    progress.lock().unwrap().summary();
}

/// Counts what the seeds did.
#[derive(Default)]
struct Progress {
    seeds: u64,
    done: u64,
    sum: Outcome,
    simulated: Duration,
}

impl Progress {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.done += 1;
        self.simulated += outcome.lasted;
        let sum = &mut self.sum;
        sum.records += outcome.records;
        sum.calls += outcome.calls;
        sum.kills += outcome.kills;
        sum.pauses += outcome.pauses;
        sum.stops += outcome.stops;
        sum.reshards += outcome.reshards;
        sum.faults += outcome.faults;
        if self.seeds <= 20 {
            println!("seed {seed}: {outcome:?}");
        }
    }

    fn summary(&self) {
        let Outcome { records, calls, kills, pauses, stops, reshards, faults, .. } = self.sum;
        println!(
            "{} seeds, no promise broken: {records} records, {calls} calls, {faults} faults, {kills} kills, \
             {pauses} pauses, {stops} stops, {reshards} splits and merges in {:?} simulated",
            self.done, self.simulated
        );
    }
}

/// With kills, pauses and reshards among them.
#[test]
fn one_seed_is_one_course() {
    let mut sum = Outcome::default();
    for seed in [7, 8, 9, 10] {
        let (outcome, trace) = runner::run(seed, true);
        let (again, trace_again) = runner::run(seed, true);
        let (trace, trace_again) = (trace.unwrap(), trace_again.unwrap());
        assert_eq!(trace.fork(&trace_again), None, "seed {seed} forks");
        assert_eq!((outcome, trace.hash()), (again, trace_again.hash()), "seed {seed}");
        sum.kills += outcome.kills;
        sum.pauses += outcome.pauses;
        sum.reshards += outcome.reshards;
    }
    assert!(sum.kills > 0 && sum.pauses > 0 && sum.reshards > 0, "{sum:?}");
}
