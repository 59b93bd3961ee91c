//! Who of the fleet lives, decided from what one observer read. Pure: `manager/observe.rs` reads and acts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ids::{Incarnation, WorkerId};
use crate::still::{Reading, StillWatch};
use crate::worker::WorkerRecord;

/// A worker is silent only over at least this many successful readings.
const READINGS: u32 = 4;
/// A longer gap between two readings starts every count again.
const LONGEST_GAP: Duration = Duration::from_secs(2);

/// The fleet as the last readings showed it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) workers: BTreeMap<WorkerId, WorkerRecord>,
    /// How long each live worker's heartbeat has stood still. Of a worker that is read rarely it is a hint.
    pub(crate) beat_age: BTreeMap<WorkerId, Duration>,
    /// Lease owners that have been in no fleet table for the whole detection period.
    pub(crate) unknown_owners: BTreeSet<WorkerId>,
    /// True if the last reading was of the whole fleet.
    pub(crate) whole: bool,
}

/// Watches heartbeats.
#[derive(Debug)]
pub(crate) struct Observer {
    me: WorkerId,
    failure_detection: Duration,
    beats: StillWatch<WorkerId, (Incarnation, u64)>,
    absent: StillWatch<WorkerId, ()>,
    workers: BTreeMap<WorkerId, WorkerRecord>,
    unknown_owners: BTreeSet<WorkerId>,
}

impl Observer {
    pub(crate) fn new(me: WorkerId, failure_detection: Duration, interval: Duration) -> Self {
        let gap = LONGEST_GAP.max(interval * 2);
        Self {
            me,
            failure_detection,
            beats: StillWatch::new(gap),
            absent: StillWatch::new(gap),
            workers: BTreeMap::new(),
            unknown_owners: BTreeSet::new(),
        }
    }

    /// Takes in a reading of the whole fleet. `owners` are the workers that leases name as owners.
    pub(crate) fn read_all(
        &mut self,
        reading: Reading,
        workers: BTreeMap<WorkerId, WorkerRecord>,
        owners: &BTreeSet<WorkerId>,
    ) -> Snapshot {
        self.beats.read(reading, beats(&workers));
        let absent = owners.iter().filter(|owner| !workers.contains_key(*owner));
        self.absent.read(reading, absent.map(|owner| (owner.clone(), ())));
        let unknown = |id: &&WorkerId| self.absent.is_still(id, self.failure_detection, READINGS);
        self.unknown_owners = owners.iter().filter(unknown).cloned().collect();
        self.workers = workers;
        self.snapshot(true)
    }

    /// Takes in a reading of some workers. What is known of the others stays, and so does what is known to be newer.
    pub(crate) fn read_some(
        &mut self,
        reading: Reading,
        mut workers: BTreeMap<WorkerId, WorkerRecord>,
    ) -> Snapshot {
        let age = |worker: &WorkerRecord| (worker.incarnation, worker.beat);
        workers.retain(|id, read| self.workers.get(id).is_none_or(|known| age(known) <= age(read)));
        self.beats.read_some(reading, beats(&workers));
        self.workers.extend(workers);
        self.snapshot(false)
    }

    fn snapshot(&self, whole: bool) -> Snapshot {
        let live = self.workers.values().filter(|worker| worker.state.is_live());
        let beat_age = live.map(|w| (w.id.clone(), self.beats.age(&w.id))).collect();
        let (workers, unknown_owners) = (self.workers.clone(), self.unknown_owners.clone());
        Snapshot { workers, beat_age, unknown_owners, whole }
    }

    /// The workers to be declared dead. When more than half of those that are watched look silent, the fault is more likely to
    /// be the observer's or the table's, and everybody gets one period more.
    pub(crate) fn silent<'a>(&self, snapshot: &'a Snapshot) -> Vec<&'a WorkerRecord> {
        let live = || snapshot.workers.values().filter(|worker| worker.state.is_live());
        let still = |w: &WorkerRecord, period| self.beats.is_still(&w.id, period, READINGS);
        let others = || live().filter(|worker| worker.id != self.me);
        let silent: Vec<_> = others().filter(|w| still(w, self.failure_detection)).collect();
        let watched = others().filter(|w| snapshot.whole || self.beats.still(&w.id).1 >= READINGS);
        if silent.len() * 2 > watched.count() + 1 {
            return others().filter(|w| still(w, self.failure_detection * 2)).collect();
        }
        silent
    }

    /// True if another worker's heartbeat is late by more than `late`: worth a closer look.
    pub(crate) fn suspects(&self, snapshot: &Snapshot, late: Duration) -> bool {
        let live = snapshot.workers.values().filter(|worker| worker.state.is_live());
        live.filter(|worker| worker.id != self.me).any(|w| self.beats.still(&w.id).0 > late)
    }
}

fn beats(
    workers: &BTreeMap<WorkerId, WorkerRecord>,
) -> impl Iterator<Item = (WorkerId, (Incarnation, u64))> {
    let live = workers.values().filter(|worker| worker.state.is_live());
    live.map(|worker| (worker.id.clone(), (worker.incarnation, worker.beat)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::WorkerState;
    use tokio::time::Instant;

    fn id(name: &str) -> WorkerId {
        WorkerId::parse(name).unwrap()
    }

    fn worker(name: &str, beat: u64) -> (WorkerId, WorkerRecord) {
        let mut record = WorkerRecord::joining(id(name), Incarnation(1), 0);
        (record.beat, record.state) = (beat, WorkerState::Active);
        (id(name), record)
    }

    fn fleet(beats: &[(&str, u64)]) -> BTreeMap<WorkerId, WorkerRecord> {
        beats.iter().map(|(name, beat)| worker(name, *beat)).collect()
    }

    fn observer() -> Observer {
        Observer::new(id("me"), Duration::from_secs(4), Duration::from_secs(1))
    }

    /// Feeds one reading a second, and returns when each worker was first called silent.
    fn watch(
        observer: &mut Observer,
        seconds: std::ops::Range<u64>,
        base: Instant,
        fleet_at: impl Fn(u64) -> BTreeMap<WorkerId, WorkerRecord>,
    ) -> BTreeMap<WorkerId, u64> {
        let mut silent = BTreeMap::new();
        for second in seconds {
            let moment = base + Duration::from_secs(second);
            let reading = Reading { started: moment, ended: moment };
            let snapshot = observer.read_all(reading, fleet_at(second), &BTreeSet::new());
            for worker in observer.silent(&snapshot) {
                silent.entry(worker.id.clone()).or_insert(second);
            }
        }
        silent
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_is_silent_after_its_beat_stood_still_for_the_whole_period() {
        let fleet_at = |second: u64| fleet(&[("me", second), ("a", second), ("b", second.min(3))]);
        let silent = watch(&mut observer(), 0..12, Instant::now(), fleet_at);
        assert_eq!(silent, BTreeMap::from([(id("b"), 7)]));
    }

    #[tokio::test(start_paused = true)]
    async fn when_more_than_half_looks_silent_the_observer_waits_one_period_more() {
        let fleet_at = |second: u64| fleet(&[("me", second), ("a", 0), ("b", 0)]);
        let silent = watch(&mut observer(), 0..12, Instant::now(), fleet_at);
        assert_eq!(silent, BTreeMap::from([(id("a"), 8), (id("b"), 8)]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_of_the_observer_is_not_the_silence_of_others() {
        let base = Instant::now();
        let mut observer = observer();
        let fleet_at = |_| fleet(&[("me", 1), ("a", 1), ("b", 1)]);
        watch(&mut observer, 0..3, base, fleet_at);
        // Ten seconds without a reading, then three: nobody is silent yet.
        assert!(watch(&mut observer, 13..16, base, fleet_at).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_in_no_fleet_table_is_unknown_after_the_period() {
        let base = Instant::now();
        let mut observer = observer();
        let owners = BTreeSet::from([id("gone"), id("a")]);
        let mut unknown = BTreeSet::new();
        for second in 0..6 {
            let moment = base + Duration::from_secs(second);
            let reading = Reading { started: moment, ended: moment };
            let fleet = fleet(&[("me", second), ("a", second)]);
            unknown = observer.read_all(reading, fleet, &owners).unknown_owners;
            assert_eq!(unknown.is_empty(), second < 4);
        }
        assert_eq!(unknown, BTreeSet::from([id("gone")]));
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_reading_of_some_only_those_are_judged() {
        let base = Instant::now();
        let mut observer = observer();
        let mut silent = BTreeMap::new();
        for second in 0..20 {
            let moment = base + Duration::from_secs(second);
            let reading = Reading { started: moment, ended: moment };
            let snapshot = if second % 10 == 0 {
                // `c` was never heard again after the first reading.
                let all = fleet(&[("me", second), ("a", second), ("b", 0), ("c", 0)]);
                observer.read_all(reading, all, &BTreeSet::new())
            } else {
                observer.read_some(reading, fleet(&[("a", second), ("b", 0)]))
            };
            for worker in observer.silent(&snapshot) {
                silent.entry(worker.id.clone()).or_insert(second);
            }
        }
        assert_eq!(silent, BTreeMap::from([(id("b"), 4)]), "ten seconds are a gap, and no silence");
        let later = base + Duration::from_secs(20);
        let reading = Reading { started: later, ended: later };
        let older = observer.read_some(reading, fleet(&[("a", 3)]));
        assert_eq!(
            older.workers[&id("a")].beat,
            19,
            "a reading that lags behind takes nothing back"
        );
        let last = observer.snapshot(false);
        assert_eq!(last.beat_age[&id("c")], Duration::from_secs(10), "but they make a poor heir");
    }
}
