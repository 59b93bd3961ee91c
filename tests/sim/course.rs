//! One seed's course of events.

use std::time::Duration;

use local_aws::KinesisOptions;

use crate::climate::Climate;
use crate::counts::{Counts, LanesDid, RangesDid};
use crate::deliveries::Tally;
use crate::faults::Weather;
use crate::wire::Trace;
use crate::worker::Worker;
use crate::world::{Setup, World};

/// How long everything may take to arrive once nothing fails any more, simulated.
const RECOVERY: Duration = Duration::from_secs(120);
/// How long a clean stop may take, simulated.
const STOPPING: Duration = Duration::from_secs(30);
const NAMES: [&str; 3] = ["worker-a", "worker-b", "worker-c"];
const MOST_SHARDS: usize = 6;

/// What a course left behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Records that were put, and arrived.
    pub records: usize,
    /// Calls of all kinds, faulted ones included.
    pub calls: u64,
    /// How long it lasted, simulated.
    pub lasted: Duration,
    pub kills: u64,
    pub pauses: u64,
    pub stops: u64,
    pub reshards: u64,
    pub faults: u64,
    /// Attempts to deliver a message; deliveries that were parked, and that were given up.
    pub attempts: u64,
    pub parked: u64,
    pub dead: u64,
    /// Notes of where messages are, for those who tail them.
    pub notes: u64,
    pub lanes: LanesDid,
    pub ranges: RangesDid,
}

impl std::ops::AddAssign for Outcome {
    fn add_assign(&mut self, other: Outcome) {
        self.records += other.records;
        self.calls += other.calls;
        self.lasted += other.lasted;
        self.kills += other.kills;
        self.pauses += other.pauses;
        self.stops += other.stops;
        self.reshards += other.reshards;
        self.faults += other.faults;
        self.attempts += other.attempts;
        self.parked += other.parked;
        self.dead += other.dead;
        self.notes += other.notes;
        self.lanes += other.lanes;
        self.ranges += other.ranges;
    }
}

/// Runs a seed to its end; panics when a promise is broken.
pub fn run(seed: u64, traced: bool) -> (Outcome, Option<Trace>) {
    // The SDK draws its jitter here.
    fastrand::seed(seed);
    let mut rng = fastrand::Rng::with_seed(seed);
    // Subscriptions expire within a course, too.
    let subscription_lifetime = Duration::from_secs(rng.u64(15..60));
    let shards = rng.i32(1..=3);
    let receivers = [0, 1, 2, 3][rng.usize(..4)];
    let climate = Climate::draw(&mut rng);
    let service = KinesisOptions::default();
    let kinesis = KinesisOptions {
        subscription_lifetime,
        iterator_lifetime: climate.iterators.unwrap_or(service.iterator_lifetime),
        ..service
    };
    let setup = Setup { seed, shards, receivers, kinesis, climate, traced };
    let counts = Counts::default();
    metrics::with_local_recorder(&counts, || run_in(setup, rng, &counts))
}

fn run_in(setup: Setup, rng: fastrand::Rng, counts: &Counts) -> (Outcome, Option<Trace>) {
    let mut course = Course {
        world: World::make(setup),
        rng,
        weather: Weather::default(),
        workers: Vec::new(),
        paused: Vec::new(),
        stopping: Vec::new(),
        lives: 0,
        outcome: Outcome::default(),
    };
    course.disturbed();
    course.recovery();
    let trace = course.world.trace();
    let (lanes, ranges) = counts.read();
    (Outcome { lanes, ranges, ..course.outcome() }, trace)
}

struct Course {
    world: World,
    rng: fastrand::Rng,
    weather: Weather,
    workers: Vec<Worker>,
    /// With the time at which each goes on.
    paused: Vec<(Duration, Worker)>,
    stopping: Vec<Worker>,
    lives: u64,
    outcome: Outcome,
}

impl Course {
    fn disturbed(&mut self) {
        self.world.tell(format!("{:?}", self.world.climate));
        let Climate { down_for_long, disturbed, .. } = self.world.climate;
        for receiver in (0..self.world.receivers.count()).filter(|_| down_for_long) {
            self.weather.down(&self.world, receiver, disturbed.mul_f64(0.8));
            self.outcome.faults += 1;
        }
        while self.world.now() < self.world.climate.disturbed {
            if self.workers.is_empty() {
                self.start();
            }
            self.act();
            let pause = Duration::from_millis(self.rng.u64(10..1_500));
            self.pass(pause);
        }
    }

    /// Nothing fails any more: everything arrives, and every worker ends when it is told to.
    fn recovery(&mut self) {
        self.world.tell("the faults end");
        self.world.aws.faults().clear_all();
        self.weather.clear(&self.world);
        self.resume(Duration::MAX);
        let until = self.world.now() + RECOVERY;
        // A worker that went back has also to come forward again, to where the one before it was.
        let unfinished = |course: &Self| {
            let ledger = course.world.ledger();
            ledger.missing() > 0 || ledger.deliveries.stale().is_some()
        };
        while (unfinished(self) || self.holds()) && self.world.now() < until {
            // A worker that wakes up and finds itself replaced ends; somebody starts another.
            if self.workers.is_empty() {
                self.start();
            }
            self.pass(Duration::from_millis(250));
        }
        let missing = self.world.ledger().missing();
        if missing > 0 || self.holds() {
            self.tell_how_workers_are();
        }
        assert!(
            missing == 0,
            "P1: {missing} records did not arrive in {RECOVERY:?} without faults"
        );
        assert!(!self.holds(), "C3: everything arrived, and bytes are in flight for ever");
        // What is read to its end is finished a moment later.
        self.pass(Duration::from_secs(2));
        while let Some(worker) = self.workers.pop() {
            self.stop(worker);
        }
        let until = self.world.now() + STOPPING;
        while !self.stopping.is_empty() && self.world.now() < until {
            self.pass(Duration::from_millis(250));
        }
        assert!(
            self.stopping.is_empty(),
            "not stopped in {STOPPING:?}: {:?}",
            names(&self.stopping)
        );
        self.world.check_end();
    }

    fn tell_how_workers_are(&self) {
        for worker in &self.workers {
            let status = worker.handle.get().map(|handle| handle.status());
            self.world.tell(format!("{} is {status:#?}", worker.name));
        }
    }

    /// Whether any worker holds bytes of what it read.
    fn holds(&self) -> bool {
        let mut handles = self.workers.iter().filter_map(|worker| worker.handle.get());
        handles.any(|handle| handle.in_flight_bytes() > 0)
    }

    fn outcome(self) -> Outcome {
        let ledger = self.world.ledger();
        let Tally { attempts, parked, dead } = ledger.deliveries.tally();
        Outcome {
            records: ledger.records.len(),
            attempts,
            parked,
            dead,
            notes: ledger.notes.written(),
            calls: self.world.aws.calls().iter().map(|call| call.calls).sum(),
            lasted: self.world.now(),
            ..self.outcome
        }
    }

    /// Lets time pass, and sees who goes on, who has ended, and which faults are over.
    fn pass(&mut self, time: Duration) {
        self.world.run_for(time);
        self.weather.pass(&self.world);
        self.resume(self.world.now());
        let world = &mut self.world;
        self.workers.retain(|worker| match world.ended(worker.id) {
            None => true,
            Some(why) => {
                // Only a later life of the same name, started while this one was paused, may end a worker.
                assert!(why.contains("Replaced"), "{} ended by itself: {why}", worker.name);
                world.tell(format!("{} ended: {why}", worker.name));
                false
            }
        });
        self.stopping.retain(|worker| match world.ended(worker.id) {
            None => true,
            Some(why) => {
                let clean = why == "Shutdown, Stopped" || why.contains("Replaced");
                assert!(clean, "{} was stopped and ended: {why}", worker.name);
                world.tell(format!("{} stopped: {why}", worker.name));
                false
            }
        });
    }

    fn resume(&mut self, until: Duration) {
        let (due, still): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.paused).into_iter().partition(|(at, _)| *at <= until);
        self.paused = still;
        for (_, worker) in due {
            self.world.tell(format!("{} goes on", worker.name));
            self.world.processes.resume(worker.id);
            self.workers.push(worker);
        }
    }

    fn act(&mut self) {
        match self.rng.u32(0..100) {
            0..4 if self.world.climate.is_harsh() => {
                self.weather.outage(&self.world, &mut self.rng);
                self.outcome.faults += 1;
            }
            4..9 if self.world.climate.polls() => {
                self.weather.of_polls(&self.world, &mut self.rng);
                self.outcome.faults += 1;
            }
            0..46 => self.put(),
            46..52 if self.world.receivers.count() > 0 => {
                self.weather.of_receivers(&self.world, &mut self.rng);
                self.outcome.faults += 1;
            }
            46..66 => {
                let name = NAMES[self.rng.usize(..NAMES.len())];
                self.weather.turn(&self.world, &mut self.rng, name);
                self.outcome.faults += 1;
            }
            66..72 => self.kill(),
            72..79 => self.pause(),
            79..83 => {
                if let Some(worker) = self.any() {
                    self.stop(worker);
                }
            }
            83..91 if self.workers.len() < NAMES.len() => self.start(),
            // A shard that is closed is gone as soon as its last record is.
            91..100 if self.world.climate.retention.is_some() => self.put(),
            91..94 => self.split(),
            94..97 => self.merge(),
            97..100 => {
                // Two in a row: the children are resharded before anybody can have read their parents to the end.
                self.split();
                self.put();
                if self.rng.bool() {
                    self.split()
                } else {
                    self.merge()
                }
                self.put();
            }
            _ => {}
        }
    }

    fn any(&mut self) -> Option<Worker> {
        let count = self.workers.len();
        (count > 0).then(|| self.workers.swap_remove(self.rng.usize(..count)))
    }

    /// Starts a worker under a name that is free; that of a paused one is: its process may be given up for lost.
    fn start(&mut self) {
        let taken = |name: &str| {
            let mut running = self.workers.iter().chain(&self.stopping);
            running.any(|worker| worker.name == name)
        };
        let free: Vec<&str> = NAMES.into_iter().filter(|name| !taken(name)).collect();
        if free.is_empty() {
            return;
        }
        self.lives += 1;
        let name = free[self.rng.usize(..free.len())];
        let worker = self.world.start(name, self.lives);
        self.workers.push(worker);
    }

    fn kill(&mut self) {
        if let Some(worker) = self.any() {
            self.outcome.kills += 1;
            self.world.tell(format!("{} is killed", worker.name));
            self.world.processes.kill(worker.id);
        }
    }

    fn stop(&mut self, worker: Worker) {
        self.outcome.stops += 1;
        self.world.tell(format!("{} is told to stop", worker.name));
        worker.stop.cancel();
        self.stopping.push(worker);
    }

    fn pause(&mut self) {
        if let Some(worker) = self.any() {
            self.outcome.pauses += 1;
            let longest = [1_000, 6_000, 25_000][self.rng.usize(..3)];
            let until = self.world.now() + Duration::from_millis(self.rng.u64(100..longest));
            self.world.tell(format!("{} is paused until {until:?}", worker.name));
            self.world.processes.pause(worker.id);
            self.paused.push((until, worker));
        }
    }

    fn put(&mut self) {
        let rng = &mut self.rng;
        let record =
            |rng: &mut fastrand::Rng| (format!("key-{}", rng.u32(0..20)), rng.u32(0..50) == 0);
        let records: Vec<(String, bool)> = (0..rng.usize(1..40)).map(|_| record(rng)).collect();
        self.world.put_all(records);
    }

    fn split(&mut self) {
        let open = self.world.open_shards();
        if open.len() < MOST_SHARDS {
            let done = self.world.split(&open[self.rng.usize(..open.len())]);
            self.outcome.reshards += u64::from(done);
        }
    }

    fn merge(&mut self) {
        let open = self.world.open_shards();
        if open.len() > 1 {
            let left = self.rng.usize(..open.len() - 1);
            let done = self.world.merge(&open[left], &open[left + 1]);
            self.outcome.reshards += u64::from(done);
        }
    }
}

fn names(workers: &[Worker]) -> Vec<&str> {
    workers.iter().map(|worker| worker.name.as_str()).collect()
}
