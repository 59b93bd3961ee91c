//! P1, P2, P3: sinks that are dead for long, while producers go on. Memory has a ceiling, no lease is lost, the healthy pipeline
//! stays at the tip, and when the dead come back nothing is missing.
//!
//! Short in CI; as long and as large as wanted by `PRESSURE_SHARDS`, `PRESSURE_RATE` (bytes a second and shard), `PRESSURE_DEAD_SECONDS`
//! and `PRESSURE_RECOVERY_SECONDS`. `PRESSURE_OUT` names a directory for the samples (JSON) and a plot of each scenario (SVG).

mod plot;
mod samples;
mod stage;

use std::time::Duration;

use samples::Phase;
use stage::{Dead, Scale, Stage};

/// Pipelines hold 27 MiB each at the least; reading too.
const MIB: u64 = 1024 * 1024;
/// What a process needs beside its budgets, at most.
const BESIDE_BUDGETS: u64 = 64 * MIB;

#[tokio::test(flavor = "multi_thread")]
async fn p1_p2_both_sinks_dead_memory_has_a_ceiling_and_all_comes_back() {
    let scale = Scale::from_environment(32, 20_000);
    let mut stage = Stage::set("both-dead", &scale, Dead::Both).await;
    stage.run().await;
    let budgets = 3 * stage.budget_bytes();
    let highest = stage.samples().highest_rss();
    assert!(highest <= budgets + BESIDE_BUDGETS, "{highest} bytes resident, budgets of {budgets}");
    stage.leases_stayed().await;
    stage.all_is_there().await;
    stage.tell();
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_deliveries_dead_the_store_stays_at_the_tip_then_the_lane_meets_it() {
    isolation("deliveries-dead", Dead::Delivery, "sync-store").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_store_dead_deliveries_stay_at_the_tip_then_the_lane_meets_them() {
    isolation("store-dead", Dead::Store, "async-delivery").await;
}

/// One pipeline's sink is dead: the other one notices nothing, and the lanes meet again without gap or overlap.
async fn isolation(name: &str, dead: Dead, healthy: &str) {
    let scale = Scale::from_environment(4, 20_000);
    let mut stage = Stage::set(name, &scale, dead).await;
    stage.run().await;
    stage.until_all_lanes_are_live().await;
    stage.leases_stayed().await;
    stage.all_is_there().await;
    stage.nothing_was_read_twice().await;
    stage.tell();
    let lag = |phase| stage.samples().lag(healthy, phase);
    let (before, during) = (lag(Phase::Before), lag(Phase::Dead));
    // What a slow machine does to both is no difference; being held up for long would be one.
    let allowed = before.p99.max(Duration::from_secs(2)) * 4;
    assert!(
        during.p99 <= allowed,
        "{healthy}: {during:?} while the other was dead, {before:?} before"
    );
}
