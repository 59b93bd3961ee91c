//! What a fleet costs, and how fast many leases are shared out.

use super::*;

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

fn calls(world: &World) -> BTreeMap<(String, String), u64> {
    let calls = world.aws.calls().into_iter();
    calls.map(|c| ((c.operation, c.resource.unwrap_or_default()), c.calls)).collect()
}

#[tokio::test(start_paused = true)]
async fn an_idle_fleet_writes_its_heartbeats_and_nothing_else() {
    let world = World::new(6, InitialPosition::TrimHorizon).await;
    let _workers = ["a", "b", "c"].map(|name| world.start(name));
    let even = BTreeMap::from([("a", 2), ("b", 2), ("c", 2)]);
    world.until(SECONDS(20), "shared", |leases| shares(leases) == even).await;
    sleep(SECONDS(10)).await;
    let before = calls(&world);
    sleep(SECONDS(50)).await;
    let after = calls(&world);
    let made = |operation: &str, table: &str| {
        let key = (operation.to_owned(), table.to_owned());
        after.get(&key).copied().unwrap_or(0) - before.get(&key).copied().unwrap_or(0)
    };
    let heartbeats = made("UpdateItem", "orders-app-fleet");
    assert!((145..=170).contains(&heartbeats), "{heartbeats} heartbeats of 3 workers in 50 s");
    for write in ["UpdateItem", "PutItem", "DeleteItem"] {
        assert_eq!(made(write, APP), 0, "{write}");
    }
    // Each worker reads the leases every plan interval, and one of them audits every minute.
    let reads = made("Scan", APP);
    assert!(reads <= 3 * 50 / 4 + 4, "{reads} readings of the leases");
    assert_eq!(made("PutItem", "orders-app-fleet"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_doubled_fleet_is_even_within_seconds_and_no_lease_moves_twice() {
    let world = World::new(60, InitialPosition::TrimHorizon).await;
    let mut workers = vec![world.start("a"), world.start("b"), world.start("c")];
    let even = |each: usize| {
        move |leases: &BTreeMap<String, LeaseRecord>| {
            shares(leases).values().all(|owned| *owned == each) && leases.len() == 60
        }
    };
    let took = world.until(SECONDS(60), "20 each", even(20)).await;
    assert!(took < SECONDS(30), "a cold start: {took:?}");
    sleep(SECONDS(10)).await;
    let before = world.leases().await;
    workers.extend(["d", "e", "f"].map(|name| world.start(name)));
    let took = world.until(SECONDS(60), "10 each", even(10)).await;
    assert!(took < SECONDS(30), "{took:?}");
    sleep(SECONDS(20)).await;
    let after = world.leases().await;
    let moved = after.iter().map(|(key, lease)| lease.counter.0 - before[key].counter.0);
    let moves: Vec<u64> = moved.collect();
    assert_eq!(moves.iter().max(), Some(&1), "each lease moves at most once");
    assert_eq!(moves.iter().sum::<u64>(), 30, "and only those that have to");
    assert!(workers.iter().all(|worker| worker.lost() == 0));
}
