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

mod climate;
mod counts;
mod course;
mod deliveries;
mod faults;
mod leases;
mod ledger;
mod notes;
mod operator;
mod progress;
mod ranges;
mod reader;
mod receivers;
mod reshard;
mod runner;
mod scale;
mod scheduler;
mod starts;
mod traffic;
mod wire;
mod worker;
mod world;

use std::sync::Mutex;

use course::Outcome;
use progress::Progress;

/// Seeds that are run unless `SIM_SEEDS` says how many, from `SIM_FIRST` on.
const SEEDS: u64 = 200;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"))
}

#[test]
fn p1_p4_p5_records_survive_seeded_faults() {
    let first = number("SIM_FIRST").unwrap_or(1);
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let progress = Mutex::new(Progress::of(seeds));
    runner::run_all(first, seeds, threads.min(seeds), &|seed, outcome| {
        progress.lock().unwrap().add(seed, outcome);
    });
    let progress = progress.into_inner().unwrap();
    println!("{progress}");
    let Outcome { lanes, ranges, notes, .. } = progress.sum();
    let polled_badly = lanes.expired > 0 && lanes.throttled > 0;
    assert!(polled_badly || seeds < SEEDS, "GetRecords was never refused: {lanes:?}");
    assert!(notes > 0 || seeds < SEEDS, "nothing was noted for those who tail");
    let all_happened = ranges.opened > 0 && ranges.closed > 0 && ranges.spilled > 0;
    assert!(all_happened || seeds < SEEDS, "no range was opened, closed or spilled: {ranges:?}");
}

/// Seeds that are run twice, unless `SIM_FIRST` and `SIM_SEEDS` say others: with kills, pauses and reshards among them.
const TWICE: std::ops::Range<u64> = 7..11;

#[test]
fn one_seed_is_one_course() {
    let first = number("SIM_FIRST").unwrap_or(TWICE.start);
    let seeds = first..number("SIM_SEEDS").map_or(TWICE.end, |seeds| first + seeds);
    let mut sum = Outcome::default();
    for seed in seeds.clone() {
        let (outcome, trace) = runner::run(seed, true);
        let (again, trace_again) = runner::run(seed, true);
        let (trace, trace_again) = (trace.unwrap(), trace_again.unwrap());
        assert_eq!(trace.fork(&trace_again), None, "seed {seed} forks");
        assert_eq!((outcome, trace.hash()), (again, trace_again.hash()), "seed {seed}");
        sum += outcome;
    }
    let eventful = sum.kills > 0 && sum.pauses > 0 && sum.reshards > 0;
    assert!(eventful || seeds != TWICE, "{sum:?}");
}
