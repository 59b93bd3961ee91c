//! How far a run over many seeds is, and what it did.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::course::Outcome;

/// How often a long run says how far it is.
const INTERVAL: Duration = Duration::from_secs(10);
/// Up to so many seeds are told one by one.
const FEW: u64 = 20;

/// Counts what the seeds did. It lives outside every runtime, where time is the machine's.
pub struct Progress {
    seeds: u64,
    done: u64,
    sum: Outcome,
    began: Instant,
    told: Instant,
}

impl Progress {
    pub fn of(seeds: u64) -> Progress {
        let now = Instant::now();
        Progress { seeds, done: 0, sum: Outcome::default(), began: now, told: now }
    }

    pub fn add(&mut self, seed: u64, outcome: Outcome) {
        self.done += 1;
        self.sum += outcome;
        if self.seeds <= FEW {
            println!("seed {seed}: {outcome:?}");
        } else if self.told.elapsed() >= INTERVAL {
            self.told = Instant::now();
            println!("{} of {} seeds, {:.1} a second", self.done, self.seeds, self.rate());
        }
    }

    /// What all of them did.
    pub fn sum(&self) -> Outcome {
        self.sum
    }

    fn rate(&self) -> f64 {
        self.done as f64 / self.began.elapsed().as_secs_f64()
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { records, calls, kills, pauses, stops, reshards, faults, lasted, .. } =
            self.sum;
        let Outcome { attempts, parked, dead, notes, ranges, lanes, .. } = self.sum;
        let (seeds, took) = (self.done, self.began.elapsed().as_secs_f64());
        write!(
            f,
            "{seeds} seeds, no promise broken, {took:.1} s, {:.1} seeds a second: ",
            self.rate()
        )?;
        write!(
            f,
            "{records} records, {calls} calls, {faults} faults, {kills} kills, {pauses} pauses, "
        )?;
        write!(f, "{attempts} attempts, {parked} parked, {dead} dead letters, {notes} notes, ")?;
        write!(f, "{lanes:?}, {ranges:?}, ")?;
        write!(
            f,
            "{stops} stops, {reshards} splits and merges, {:.1} h simulated",
            lasted.as_secs_f64() / 3600.0
        )
    }
}
