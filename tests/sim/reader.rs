//! A worker of the lease manager alone: whoever consumes its leases reads nothing and checkpoints now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lease_manager::{
    Checkpoint, FleetHandle, LanePosition, LeaseHandle, LeaseManager, Progress, WorkerId,
};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::leases::lanes;
use crate::worker::Worker;
use crate::world::{APP, World};

/// How often a lease is written while its shard has records, and while it has none: as the processor does it.
const LOADED: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(60);
/// What each shard carries while there is load.
const KBPS: f64 = 200.0;

impl World {
    /// Starts a worker of the lease manager alone; `loaded` says whether its shards have records.
    pub fn start_reader(&mut self, name: &str, life: u64, loaded: &Arc<AtomicBool>) -> Worker {
        let (site, stream, loaded) = (self.site(), self.stream.clone(), Arc::clone(loaded));
        let seed = self.seed.wrapping_mul(31).wrapping_add(life);
        let stop = CancellationToken::new();
        let (worker, stopped) = (name.to_owned(), stop.clone());
        let id = self.processes.start(async move {
            let (kinesis, dynamodb) = site.clients(&worker);
            let worker_id = WorkerId::parse(&*worker).unwrap();
            let mut options =
                lease_manager::Options::new(APP, worker_id, lanes().to_vec(), vec![stream]);
            options.seed = seed;
            let (manager, fleet) = LeaseManager::new(options, dynamodb, kinesis, site.time);
            let (exit, ()) = tokio::join!(manager.run(stopped), consume(fleet, loaded, seed));
            format!("{exit:?}")
        });
        Worker { id, name: name.to_owned(), stop, handle: Arc::default() }
    }
}

async fn consume(fleet: FleetHandle, loaded: Arc<AtomicBool>, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut shards = JoinSet::new();
    while let Some(lease) = fleet.next_lease().await {
        while shards.try_join_next().is_some() {}
        shards.spawn(consume_shard(lease, Arc::clone(&loaded), rng.fork()));
    }
    while shards.join_next().await.is_some() {}
}

/// Moves on by one record for each write.
async fn consume_shard(lease: LeaseHandle, loaded: Arc<AtomicBool>, mut rng: fastrand::Rng) {
    let mut at = match &lease.lease().checkpoint {
        Checkpoint::At { sequence, .. } => sequence.as_str().parse().unwrap(),
        _ => 0_u64,
    };
    // Shards do not write in step.
    let mut interval = interval_of(&loaded);
    let mut since_write = interval.mul_f64(rng.f64());
    loop {
        let is_loaded = loaded.load(Ordering::Relaxed);
        if interval != interval_of(&loaded) {
            interval = interval_of(&loaded);
            since_write = interval.mul_f64(rng.f64());
        }
        if since_write >= interval {
            since_write = Duration::ZERO;
            if lease.is_valid() {
                at += 1;
                let _ = lease.checkpoint(progress(at, is_loaded)).await;
            }
        }
        tokio::select! {
            biased;
            () = lease.lost() => return,
            () = lease.release_requested() => break,
            () = sleep(Duration::from_secs(1)) => since_write += Duration::from_secs(1),
        }
    }
    let is_loaded = loaded.load(Ordering::Relaxed);
    let _ = lease.release(progress(at, is_loaded), "asked to give it up".to_owned()).await;
}

fn interval_of(loaded: &AtomicBool) -> Duration {
    if loaded.load(Ordering::Relaxed) { LOADED } else { IDLE }
}

fn progress(at: u64, loaded: bool) -> Progress {
    if at == 0 {
        return Progress::default();
    }
    let checkpoint = Checkpoint::parse(&at.to_string(), 0).unwrap();
    let position = LanePosition::at(checkpoint.clone());
    Progress {
        lanes: lanes().into_iter().map(|lane| (lane, position.clone())).collect(),
        read_to: Some(checkpoint),
        throughput_kbps: Some(if loaded { KBPS } else { 0.0 }),
    }
}
