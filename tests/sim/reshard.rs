//! Splits and merges under load, twice in a row, while workers restart: order per key is kept, nothing is lost, and the gap between a
//! parent's last and its child's first record is told.

use std::collections::BTreeMap;
use std::time::Duration;

use local_aws::KinesisOptions;

use crate::climate::Climate;
use crate::worker::Worker;
use crate::world::{Setup, World};

const KEYS: u64 = 200;
/// Between two calls that put records.
const PACE: Duration = Duration::from_millis(100);
const RECORDS: usize = 40;

struct Load {
    world: World,
    workers: Vec<Worker>,
    next_key: u64,
    lives: u64,
}

#[test]
fn scale_reshards_under_load_keep_every_keys_order() {
    fastrand::seed(2);
    let kinesis = KinesisOptions::default();
    let world = World::make(Setup {
        seed: 2,
        shards: 4,
        receivers: 0,
        climate: Climate::MILD,
        kinesis,
        traced: false,
    });
    world.slow_down();
    let mut load = Load { world, workers: Vec::new(), next_key: 0, lives: 0 };
    load.start("worker-a");
    load.start("worker-b");
    load.start("worker-c");
    load.run(Duration::from_secs(15));
    load.tell("nobody restarts", |load| {
        load.reshard();
        load.run(Duration::from_secs(2));
        load.reshard();
        load.run(Duration::from_secs(20));
    });
    load.tell("one worker is killed, one restarts, one is paused", |load| {
        load.reshard();
        load.kill("worker-a");
        load.run(Duration::from_secs(1));
        load.start("worker-a");
        load.reshard();
        load.stop("worker-b");
        load.run(Duration::from_secs(2));
        load.start("worker-b");
        let paused = load.find("worker-c");
        load.world.processes.pause(load.workers[paused].id);
        load.reshard();
        load.run(Duration::from_secs(10));
        load.world.processes.resume(load.workers[paused].id);
        load.run(Duration::from_secs(20));
    });
    let all = load.world.run_until(Duration::from_secs(30), |world| world.ledger().missing() == 0);
    assert!(all, "{} records did not arrive", load.world.ledger().missing());
    load.world.run_for(Duration::from_secs(5));
    load.world.check_end();
}

impl Load {
    fn start(&mut self, name: &str) {
        self.lives += 1;
        let worker = self.world.start(name, self.lives);
        self.workers.push(worker);
    }

    fn find(&self, name: &str) -> usize {
        self.workers.iter().position(|worker| worker.name == name).unwrap()
    }

    fn kill(&mut self, name: &str) {
        let worker = self.workers.swap_remove(self.find(name));
        self.world.processes.kill(worker.id);
    }

    fn stop(&mut self, name: &str) {
        let worker = self.workers.swap_remove(self.find(name));
        worker.stop.cancel();
    }

    /// Puts records of all keys in turn for a while.
    fn run(&mut self, time: Duration) {
        let end = self.world.now() + time;
        while self.world.now() < end {
            let keys: Vec<String> = (0..RECORDS as u64)
                .map(|n| format!("key-{}", (self.next_key + n) % KEYS))
                .collect();
            self.next_key += RECORDS as u64;
            self.world.put(keys);
            self.world.run_for(PACE);
        }
    }

    /// Splits the first open shard, and merges the last two.
    fn reshard(&mut self) {
        let open = self.world.open_shards();
        let [.., left, right] = open.as_slice() else { panic!("too few shards") };
        assert!(self.world.split(&open[0]) && self.world.merge(left, right));
    }

    fn tell(&mut self, name: &str, happens: impl FnOnce(&mut Load)) {
        let began = self.world.now();
        happens(self);
        let mut gaps = self.gaps(began);
        gaps.sort_unstable();
        let (least, median, most) = (gaps[0], gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
        println!(
            "{name}: {} shards' gaps between the parent's last stored record and the child's first: \
             {least:?} least, {median:?} median, {most:?} most",
            gaps.len()
        );
    }

    /// For each shard that was opened since `began`: from the last store of its parents to its own first.
    fn gaps(&self, began: Duration) -> Vec<Duration> {
        let ledger = self.world.ledger();
        let mut stored: BTreeMap<&str, (Duration, Duration)> = BTreeMap::new();
        let mut first_put: BTreeMap<&str, Duration> = BTreeMap::new();
        for record in &ledger.records {
            first_put.entry(&record.shard).or_insert(record.put_at);
            if let Some(at) = record.stored_at {
                let (first, last) = stored.entry(&record.shard).or_insert((at, at));
                (*first, *last) = ((*first).min(at), (*last).max(at));
            }
        }
        let parents = ledger.leases.parents();
        let opened = parents
            .iter()
            .filter(|(shard, _)| first_put.get(*shard).is_some_and(|put| *put >= began));
        opened
            .filter_map(|(shard, parents)| {
                let parents = parents.iter().filter_map(|parent| stored.get(parent));
                let last = parents.map(|(_, last)| *last).max()?;
                Some(stored.get(shard)?.0.saturating_sub(last))
            })
            .collect()
    }
}
