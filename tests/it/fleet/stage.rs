//! Three workers over one stream, with everything that watches them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::handled::Handled;
use super::lease_watch::LeaseWatch;
use super::producer::Producer;
use super::report::{Measured, variable};
use crate::harness::aws::{Item, text};
use crate::harness::eventually;
use crate::harness::platform::{Platform, Processor};

pub const WORKERS: usize = 3;
pub const SHARDS: usize = 6;
/// What a failure shows of the workers' logs.
const LINES_OF_STORY: usize = 100;

/// A shard's lease: the number of its worker, and its counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    pub owner: Option<usize>,
    pub counter: u64,
}

/// The time from an event until the fleet has settled.
pub struct Phase {
    from: Instant,
    duplicates_before: usize,
    /// The shards whose owner the event concerns.
    concerned: BTreeSet<usize>,
}

pub struct Stage {
    platform: Platform,
    workers: BTreeMap<usize, Processor>,
    producer: Producer,
    watch: LeaseWatch,
    handled: Handled,
    /// Of workers that have ended in good order.
    logs: Vec<String>,
    random: fastrand::Rng,
}

impl Stage {
    /// All workers run, share the shards evenly, and deliver.
    pub async fn set() -> Stage {
        let platform = Platform::with_shards(Some(SHARDS as i32)).await;
        let mut workers = BTreeMap::new();
        for worker in 0..WORKERS {
            workers.insert(worker, Processor::start_as(&platform, &name(worker)).await);
        }
        let producer = Producer::start(platform.aws.clone(), SHARDS);
        let watch = LeaseWatch::start(platform.aws.clone());
        let handled = Handled::of_shards(SHARDS);
        let random = fastrand::Rng::with_seed(0x51_1c_e6_a7);
        let logs = Vec::new();
        let mut stage = Stage { platform, workers, producer, watch, handled, logs, random };
        let start = stage.phase(&BTreeSet::new());
        stage.settled(start, Stage::is_balanced).await;
        stage
    }

    /// Every shard's lease, by the shard's number.
    pub async fn holdings(&self) -> Vec<Holding> {
        let items = self.platform.leases().await;
        let by_key: BTreeMap<_, _> =
            items.iter().map(|item| (text(item, "leaseKey").expect("a key"), item)).collect();
        by_key.into_values().map(holding).collect()
    }

    pub fn owned_by(holdings: &[Holding], worker: usize) -> BTreeSet<usize> {
        let owned = holdings.iter().enumerate().filter(|(_, lease)| lease.owner == Some(worker));
        owned.map(|(shard, _)| shard).collect()
    }

    /// Every worker owns the same number of shards.
    pub fn is_balanced(holdings: &[Holding]) -> Result<(), String> {
        let even = |worker| Stage::owned_by(holdings, worker).len() == SHARDS / WORKERS;
        if (0..WORKERS).all(even) { Ok(()) } else { Err(format!("{holdings:?}")) }
    }

    /// The worker that all of them take for the leader.
    pub async fn leader(&self) -> usize {
        eventually("all workers agree who leads", async || {
            let mut leaders = BTreeSet::new();
            for worker in self.workers.values() {
                let state = worker.state().await;
                leaders.insert(state["fleet"]["leader"].as_str().map(str::to_owned));
            }
            match leaders.iter().next() {
                Some(Some(leader)) if leaders.len() == 1 => Ok(number(leader)),
                _ => Err(format!("{leaders:?}")),
            }
        })
        .await
    }

    /// Lets a random time pass, so that an event comes at any moment between two heartbeats.
    pub async fn at_any_moment(&mut self) {
        tokio::time::sleep(Duration::from_millis(self.random.u64(0..1_000))).await;
    }

    pub fn worker(&mut self, worker: usize) -> &mut Processor {
        self.workers.get_mut(&worker).expect("it runs")
    }

    pub fn take_out(&mut self, worker: usize) -> Processor {
        self.workers.remove(&worker).expect("it runs")
    }

    /// SIGTERM, and a clean end.
    pub async fn stop(&mut self, worker: usize) {
        let ended = self.take_out(worker).stop().await;
        assert_eq!(ended.code, Some(0), "{}: {:#?}", name(worker), ended.log);
        self.logs.extend(ended.log.iter().map(|line| with_name(line, worker)));
    }

    /// Shards changed hands in good order: nothing came twice.
    pub fn nothing_came_twice(&mut self, measured: &Measured) {
        if measured.duplicates.is_empty() {
            return;
        }
        let mut story = self.story();
        let story = story.split_off(story.len().saturating_sub(LINES_OF_STORY));
        panic!(
            "shard and number of what came twice: {:?}\n{}",
            measured.duplicates,
            story.join("\n")
        );
    }

    /// What all workers have logged, but for those that were killed; each line begins with its time.
    fn story(&mut self) -> Vec<String> {
        let running = self.workers.iter_mut().flat_map(|(worker, processor)| {
            processor.log().iter().map(|line| with_name(line, *worker)).collect::<Vec<_>>()
        });
        let mut story: Vec<String> = running.chain(self.logs.clone()).collect();
        story.sort();
        story
    }

    pub async fn start(&mut self, worker: usize) {
        let processor = Processor::start_as(&self.platform, &name(worker)).await;
        self.workers.insert(worker, processor);
    }

    /// An event is about to come that concerns the owner of some shards.
    pub fn phase(&mut self, concerned: &BTreeSet<usize>) -> Phase {
        self.absorb();
        let duplicates_before = self.handled.duplicates();
        Phase { from: Instant::now(), duplicates_before, concerned: concerned.clone() }
    }

    /// Waits until the leases are as they should be, and then until each shard delivers records that were written after
    /// that, and nothing that was written before is missing. Says what the phase cost.
    pub async fn settled(
        &mut self,
        phase: Phase,
        as_wanted: impl Fn(&[Holding]) -> Result<(), String>,
    ) -> Measured {
        eventually("the leases are as they should be", async || {
            let holdings = self.holdings().await;
            if holdings.len() == SHARDS {
                as_wanted(&holdings)
            } else {
                Err(format!("{holdings:?}"))
            }
        })
        .await;
        let owned = Instant::now();
        eventually("every shard is consumed", async || {
            self.absorb();
            match self.handled.silent_since(self.producer.first_after(owned)) {
                silent if silent.is_empty() => Ok(()),
                silent => Err(format!("shards {silent:?} are silent")),
            }
        })
        .await;
        let to = Instant::now();
        self.nothing_is_missing(self.producer.count()).await;
        self.watch.check();
        let gap = |concerned: bool| {
            let shards = (0..SHARDS).filter(|shard| phase.concerned.contains(shard) == concerned);
            shards.map(|shard| self.handled.gap(shard, phase.from, to)).max()
        };
        Measured {
            gap: gap(true).unwrap_or_default(),
            others: gap(false),
            duplicates: self.handled.again_after(phase.duplicates_before).to_vec(),
        }
    }

    /// Ends everything in good order and counts: stored once, delivered, nothing put aside.
    pub async fn strike(mut self) {
        let count = self.producer.stop().await;
        let handled = &mut self.handled;
        let receiver = &self.platform.receiver;
        missing(handled, count, || receiver.take_arrivals()).await;
        for worker in 0..WORKERS {
            if self.workers.contains_key(&worker) {
                self.stop(worker).await;
            }
        }
        if let Some(path) = variable("FLEET_LOG") {
            std::fs::write(path, self.story().join("\n")).expect("the file is written");
        }
        self.watch.check();
        assert_eq!(self.platform.stored().await.len(), count * SHARDS, "stored, each once");
        let ledger = self.platform.receiver.ledger();
        assert_eq!(ledger.messages(), count * SHARDS, "delivered, and nothing else was");
        assert_eq!((ledger.unverified, ledger.changed_bodies), (0, 0));
        assert_eq!(self.platform.dead_letters().await.len(), 0);
        assert_eq!(self.platform.parked().await, 0);
    }

    async fn nothing_is_missing(&mut self, count: usize) {
        let receiver = &self.platform.receiver;
        missing(&mut self.handled, count, || receiver.take_arrivals()).await;
    }

    fn absorb(&mut self) {
        self.handled.absorb(self.platform.receiver.take_arrivals());
    }
}

/// Waits until the first `count` records of every shard were delivered.
async fn missing(
    handled: &mut Handled,
    count: usize,
    arrivals: impl Fn() -> Vec<crate::harness::receiver::Arrival>,
) {
    eventually("every record is delivered", async || {
        handled.absorb(arrivals());
        let incomplete = handled.incomplete(count);
        if incomplete.is_empty() { Ok(()) } else { Err(format!("{incomplete:?}")) }
    })
    .await;
}

/// A line of a log with the name of the worker behind its time.
fn with_name(line: &str, worker: usize) -> String {
    let (time, rest) = line.split_once(' ').unwrap_or((line, ""));
    format!("{time} {} {rest}", name(worker))
}

fn name(worker: usize) -> String {
    format!("worker-{}", worker + 1)
}

fn number(name: &str) -> usize {
    (0..WORKERS).find(|worker| self::name(*worker) == name).expect("one of the workers")
}

fn holding(item: &Item) -> Holding {
    let counter = item["leaseCounter"].as_n().expect("a number");
    Holding {
        owner: text(item, "leaseOwner").map(number),
        counter: counter.parse().expect("a number"),
    }
}
