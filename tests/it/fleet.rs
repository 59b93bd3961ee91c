//! Failover of whole processes over real sockets: three workers, six shards, a producer that never pauses.
//!
//! What is measured, per shard: the *gap*, the longest time between two deliveries of new records of the shard that follow
//! each other (a record that comes again is no news), of those that reach into the time from the event until the fleet has
//! settled. The producer writes a record to every shard every 100 ms, so an undisturbed shard shows gaps of little more than
//! that. A run's gap is the largest of the shards that the event took the owner from; those of the other shards are told
//! apart. Deliveries are looked at where they arrive, by one clock, that of the receiver; the tables are read at the end:
//! every record is stored once and was delivered.
//!
//! Each scenario runs once here and only says what must hold. `FLEET_RUNS=20 FLEET_JSON=out.json cargo test -p sluicegate
//! --test it fleet:: -- --nocapture --test-threads 4` measures, prints minimum, median and maximum, and writes them down.
//! With the name of one scenario, `FLEET_LOG=out.log` keeps what its workers logged.

mod handled;
mod lease_watch;
mod producer;
mod report;
mod stage;

use std::time::Duration;

use tokio::time::Instant;

use report::Report;
use stage::{Holding, Stage, WORKERS};

use crate::harness::eventually;
use crate::harness::platform::Processor;

/// How long a stopped process stands still.
const STANDSTILL: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_s_shards_are_consumed_again() {
    killed("kill -9, worker", async |stage, run| {
        let leader = stage.leader().await;
        (0..WORKERS).filter(|worker| *worker != leader).nth(run % (WORKERS - 1)).expect("another")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_s_shards_are_consumed_again() {
    killed("kill -9, leader", async |stage, _| stage.leader().await).await;
}

async fn killed(name: &'static str, victim: impl AsyncFn(&Stage, usize) -> usize) {
    let mut report = Report::new(name);
    let mut stage = Stage::set().await;
    for run in 0..report.runs {
        let victim = victim(&stage, run).await;
        let before = stage.holdings().await;
        let theirs = Stage::owned_by(&before, victim);
        stage.at_any_moment().await;
        let phase = stage.phase(&theirs);
        stage.take_out(victim).kill().await;
        let measured = stage.settled(phase, |now| taken_over(&before, now, victim)).await;
        report.note(run, "dead worker", &measured);
        if run + 1 < report.runs {
            let phase = stage.phase(&(0..stage::SHARDS).collect());
            stage.start(victim).await;
            let measured = stage.settled(phase, Stage::is_balanced).await;
            stage.nothing_came_twice(&measured);
            report.note(run, "it comes back", &measured);
        }
    }
    stage.strike().await;
    report.tell();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stood_still_is_fenced_and_comes_back() {
    let mut report = Report::new("SIGSTOP for 20 s");
    let mut stage = Stage::set().await;
    for run in 0..report.runs {
        let victim = run % WORKERS;
        let before = stage.holdings().await;
        let theirs = Stage::owned_by(&before, victim);
        stage.at_any_moment().await;
        let phase = stage.phase(&theirs);
        stage.worker(victim).signal("STOP").await;
        let stopped = Instant::now();
        let measured = stage.settled(phase, |now| taken_over(&before, now, victim)).await;
        report.note(run, "others take over", &measured);
        tokio::time::sleep_until(stopped + STANDSTILL).await;

        let taken = stage.holdings().await;
        assert!(taken_over(&before, &taken, victim).is_ok(), "{taken:?}");
        let phase = stage.phase(&(0..stage::SHARDS).collect());
        let said = stage.worker(victim).log().len();
        stage.worker(victim).signal("CONT").await;
        fenced(stage.worker(victim), said, theirs.len()).await;
        let measured = stage.settled(phase, Stage::is_balanced).await;
        report.note(run, "it wakes up", &measured);
    }
    stage.strike().await;
    report.tell();
}

/// The worker says that its life is over, that each of its leases is lost, and that it joined anew.
async fn fenced(worker: &mut Processor, said: usize, leases: usize) {
    eventually("the worker that woke up says that it was fenced", async || {
        let log = &worker.log()[said..];
        let says = |text: &str| log.iter().filter(|line| line.contains(text)).count();
        let over = says("this life of the worker is over");
        let joined = says("joined the fleet");
        match (over, says("lease lost"), joined) {
            (1.., lost, 1..) if lost >= leases => Ok(()),
            _ => Err(format!("{log:#?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_hands_every_shard_over_without_a_duplicate() {
    let mut report = Report::new("SIGTERM, all three in turn");
    let mut stage = Stage::set().await;
    for run in 0..report.runs {
        for worker in 0..WORKERS {
            let before = stage.holdings().await;
            let theirs = Stage::owned_by(&before, worker);
            stage.at_any_moment().await;
            let phase = stage.phase(&theirs);
            stage.stop(worker).await;
            let measured = stage.settled(phase, |now| taken_over(&before, now, worker)).await;
            stage.nothing_came_twice(&measured);
            report.note(run, "stop", &measured);

            let phase = stage.phase(&(0..stage::SHARDS).collect());
            stage.start(worker).await;
            let measured = stage.settled(phase, Stage::is_balanced).await;
            stage.nothing_came_twice(&measured);
            report.note(run, "start", &measured);
        }
    }
    stage.strike().await;
    report.tell();
}

/// Every shard has an owner that is not `gone`, and what `gone` had has a higher counter.
fn taken_over(before: &[Holding], now: &[Holding], gone: usize) -> Result<(), String> {
    let taken = |(before, now): (&Holding, &Holding)| {
        let was_theirs = before.owner == Some(gone);
        now.owner.is_some_and(|owner| owner != gone)
            && (!was_theirs || now.counter > before.counter)
    };
    if before.iter().zip(now).all(taken) { Ok(()) } else { Err(format!("{now:?}")) }
}
