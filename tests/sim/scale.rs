//! 1,000 shards and 20 workers of the lease manager in one world: how fast leases are shared out, and what that costs.
//!
//! It asserts that the fleet becomes even in time and that no lease moves twice, and prints the rest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use local_aws::KinesisOptions;

use crate::climate::Climate;
use crate::traffic::{calls, rates};
use crate::worker::Worker;
use crate::world::{Setup, World};

const SHARDS: i32 = 1_000;
const WORKERS: u64 = 20;
const MORE: u64 = 10;
const KILLED: usize = 5;
const LIMIT: Duration = Duration::from_secs(30);
const STEADY: Duration = Duration::from_secs(30);

/// A fleet with everything that is counted about it.
struct Fleet {
    world: World,
    workers: Vec<Worker>,
    loaded: Arc<AtomicBool>,
    lives: u64,
}

#[test]
fn scale_1000_shards_are_shared_out_among_20_workers() {
    fastrand::seed(1);
    let setup = Setup {
        seed: 1,
        shards: SHARDS,
        receivers: 0,
        climate: Climate::MILD,
        kinesis: KinesisOptions::default(),
        traced: false,
    };
    let world = World::make(setup);
    // Calls take time, as over a network: views are then old when something is decided by them.
    world.slow_down();
    let mut fleet = Fleet { world, workers: Vec::new(), loaded: Arc::default(), lives: 0 };
    fleet.phase("20 workers start", Some(LIMIT), |fleet| fleet.start(WORKERS));
    fleet.world.run_for(Duration::from_secs(10));
    fleet.phase("idle", None, |_| {});
    fleet.phase("load begins", None, |fleet| fleet.loaded.store(true, Ordering::Relaxed));
    fleet.phase("loaded", None, |_| {});
    fleet.phase("10 more join", Some(LIMIT), |fleet| fleet.start(MORE));
    fleet.world.run_for(Duration::from_secs(10));
    fleet.phase("5 of 30 die", Some(LIMIT), |fleet| {
        for worker in fleet.workers.drain(..KILLED) {
            fleet.world.processes.kill(worker.id);
        }
    });
}

impl Fleet {
    fn start(&mut self, count: u64) {
        for _ in 0..count {
            self.lives += 1;
            let name = format!("worker-{:02}", self.lives);
            self.workers.push(self.world.start_reader(&name, self.lives, &self.loaded));
        }
    }

    /// Lets something happen, and counts: until the fleet is even where that has a limit, else for a while.
    fn phase(&mut self, name: &str, limit: Option<Duration>, happens: impl FnOnce(&mut Fleet)) {
        self.world.ledger().leases.moves();
        self.world.traffic.lock().unwrap().busiest();
        let (before, began) = (calls(&self.world.aws), self.world.now());
        happens(self);
        let even_after = limit.map(|limit| {
            let live: Vec<String> = self.workers.iter().map(|worker| worker.name.clone()).collect();
            let even = |world: &mut World| is_even(&shares(world), &live);
            let in_time = self.world.run_until(limit, even);
            assert!(in_time, "{name}: not even in {limit:?}: {:?}", shares(&self.world));
            self.world.now() - began
        });
        if limit.is_none() {
            self.world.run_for(STEADY);
        }
        self.tell(name, even_after, &before, began);
    }

    fn tell(
        &self,
        name: &str,
        even_after: Option<Duration>,
        before: &crate::traffic::Calls,
        began: Duration,
    ) {
        let over = self.world.now() - began;
        let shares = shares(&self.world);
        let (least, most) = (shares.values().min(), shares.values().max());
        let even = even_after.map_or(String::new(), |after| format!("even after {after:.1?}, "));
        let (least, most) = (least.unwrap_or(&0), most.unwrap_or(&0));
        println!("{name}: {even}{} workers own {least} to {most} leases each", shares.len());
        let moves = self.world.ledger().leases.moves();
        let most = moves.iter().max().copied().unwrap_or(0);
        println!("  moves: {} leases, each at most {most} times", moves.len());
        assert!(most <= 1, "{name}: a lease moved {most} times");
        let rates = rates(before, &calls(&self.world.aws), over);
        let total: f64 = rates.iter().map(|(_, rate)| rate).sum();
        println!("  {total:>8.1} calls of DynamoDB a second over {over:.1?}");
        rates.iter().for_each(|(call, rate)| println!("  {rate:>8.1} {call}"));
        for (table, (writes, key)) in self.world.traffic.lock().unwrap().busiest() {
            println!("  busiest partition of {table}: {writes} writes in a second, {key}");
        }
    }
}

/// How many leases each owner has; "" is nobody.
fn shares(world: &World) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for lease in world.ledger().leases.now().filter(|lease| !lease.is_finished()) {
        let owner = lease.owner.as_ref().map_or("", |owner| owner.as_str());
        *shares.entry(owner.to_owned()).or_default() += 1;
    }
    shares
}

/// Every shard is owned by somebody who lives, and nobody has a tenth more or less than the others.
fn is_even(shares: &BTreeMap<String, usize>, live: &[String]) -> bool {
    let fair = SHARDS as usize / live.len();
    let slack = (fair / 10).max(2);
    let owned: usize = shares.values().sum();
    let fair_share = |owned: &usize| (fair - slack..=fair + slack).contains(owned);
    owned == SHARDS as usize
        && shares.len() == live.len()
        && live.iter().all(|name| shares.get(name).is_some_and(fair_share))
}
