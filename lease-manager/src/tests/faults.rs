//! What goes wrong on the way: partitions, busy tables, lost replies, writes that land late.

use local_aws::{Effect, Fault, Service};

use super::*;
use crate::fleet_table::FleetTable;

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

fn dynamodb(effect: Effect) -> Fault {
    Fault::new(Service::Dynamodb, effect)
}

/// One worker with one lease that the test consumes itself.
async fn one_lease(world: &World) -> (LeaseHandle, FleetHandle, AbortOnDropHandle<Exit>) {
    let (manager, fleet) = world.manager(world.options("a"));
    let run = AbortOnDropHandle::new(tokio::spawn(manager.run(CancellationToken::new())));
    (fleet.next_lease().await.unwrap(), fleet, run)
}

#[tokio::test(start_paused = true)]
async fn a_zombie_can_write_nothing_and_comes_back_in_a_new_life() {
    let world = World::new(1, InitialPosition::TrimHorizon).await;
    let (zombie, fleet, _run) = one_lease(&world).await;
    zombie.checkpoint(progress("7")).await.unwrap();
    let first = fleet.view().workers[&id("a")].incarnation;
    let b = world.start("b");
    sleep(SECONDS(8)).await;
    let cut = world.aws.faults().inject(dynamodb(Effect::Partition).caller("a"));
    let is = |leases: &BTreeMap<_, _>| shares(leases) == BTreeMap::from([("b", 1)]);
    let took = world.until(SECONDS(10), "b took it", is).await;
    assert!(took < SECONDS(7), "{took:?}");
    assert!(!zombie.is_valid(), "trust ends before others may take the lease");
    world.aws.faults().clear(cut);
    assert_eq!(zombie.checkpoint(progress("9")).await, Err(CheckpointError::Lost));
    assert_eq!(world.leases().await.values().next().unwrap().checkpoint, at("7"));
    zombie.lost().await;
    sleep(SECONDS(3)).await;
    let view = fleet.view();
    let a = &view.workers[&id("a")];
    assert!(a.incarnation > first);
    assert_eq!(a.state, WorkerState::Active);
    assert_eq!(b.lost(), 0);
}

#[tokio::test(start_paused = true)]
async fn trust_ends_before_anybody_may_take_the_lease() {
    let world = World::new(1, InitialPosition::TrimHorizon).await;
    let (zombie, _fleet, _run) = one_lease(&world).await;
    let _b = world.start("b");
    sleep(SECONDS(8)).await;
    world.aws.faults().inject(dynamodb(Effect::Partition).caller("a"));
    let started = Instant::now();
    while zombie.is_valid() {
        sleep(Duration::from_millis(50)).await;
        assert_eq!(shares(&world.leases().await), BTreeMap::from([("a", 1)]));
    }
    assert!(started.elapsed() <= SECONDS(3) + Duration::from_millis(50));
}

#[tokio::test(start_paused = true)]
async fn a_short_fault_costs_a_pause_and_no_lease() {
    let world = World::new(2, InitialPosition::TrimHorizon).await;
    let (a, b) = (world.start("a"), world.start("b"));
    let half = BTreeMap::from([("a", 1), ("b", 1)]);
    world.until(SECONDS(15), "shared", |leases| shares(leases) == half).await;
    sleep(SECONDS(8)).await;
    let before = world.leases().await;
    for effect in [Effect::Throttle, Effect::InternalError, Effect::Partition, Effect::Cut] {
        let fault = world.aws.faults().inject(dynamodb(effect));
        sleep(SECONDS(6)).await;
        world.aws.faults().clear(fault);
        sleep(SECONDS(8)).await;
    }
    assert_eq!((a.lost(), b.lost()), (0, 0));
    assert_eq!(world.leases().await, before);
}

#[tokio::test(start_paused = true)]
async fn validity_returns_only_after_the_leases_were_read_again() {
    let world = World::new(1, InitialPosition::TrimHorizon).await;
    let (handle, _fleet, _run) = one_lease(&world).await;
    let all = world.aws.faults().inject(dynamodb(Effect::Partition).caller("a"));
    sleep(SECONDS(5)).await;
    assert!(!handle.is_valid());
    // Heartbeats get through again, but the leases cannot be read.
    world.aws.faults().clear(all);
    let leases = world.aws.faults().inject(dynamodb(Effect::Throttle).caller("a").resource(APP));
    sleep(SECONDS(5)).await;
    assert!(!handle.is_valid());
    world.aws.faults().clear(leases);
    sleep(SECONDS(6)).await;
    assert!(handle.is_valid());
    handle.checkpoint(progress("3")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_leaves_the_outcome_unknown_and_the_next_write_finds_out() {
    let world = World::new(1, InitialPosition::TrimHorizon).await;
    let (handle, _fleet, _run) = one_lease(&world).await;
    let lose = || dynamodb(Effect::LostReply).operation("UpdateItem").resource(APP).times(1);
    world.aws.faults().inject(lose());
    let unknown = handle.checkpoint(progress("7")).await;
    assert!(matches!(unknown, Err(CheckpointError::Unknown(_))), "{unknown:?}");
    assert_eq!(world.leases().await.values().next().unwrap().checkpoint, at("7"));
    handle.checkpoint(progress("8")).await.unwrap();

    // A release finds out for itself. Alone in the fleet, this worker may have taken the lease again before that: then it is
    // told that the old holding is over.
    world.aws.faults().inject(lose());
    let counter = handle.lease().counter;
    let released = handle.release(progress("9"), "test".to_owned()).await;
    let lease = world.leases().await.into_values().next().unwrap();
    assert_eq!(lease.checkpoint, at("9"), "it happened");
    match released {
        Ok(()) => assert_eq!(lease.reason.as_deref(), Some("test")),
        Err(CheckpointError::Lost) => assert!(lease.counter > counter.next(), "{lease:?}"),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_shows_what_was_written_is_a_success() {
    let world = World::new(1, InitialPosition::TrimHorizon).await;
    let client = world.dynamodb_with("a", RetryConfig::standard());
    let time = SharedTimeSource::new(TokioTime(world.clock.clone()));
    let (manager, fleet) = LeaseManager::new(world.options("a"), client, world.kinesis("a"), time);
    // The SDK sends again what was applied already: joining, heartbeats, taking, and the checkpoint.
    for (operation, table) in [("PutItem", "orders-app-fleet"), ("UpdateItem", APP)] {
        let lose = dynamodb(Effect::LostReply).operation(operation).resource(table).caller("a");
        world.aws.faults().inject(lose.times(1));
    }
    let _run = AbortOnDropHandle::new(tokio::spawn(manager.run(CancellationToken::new())));
    let handle = fleet.next_lease().await.unwrap();
    let lose = dynamodb(Effect::LostReply).operation("UpdateItem").resource(APP).caller("a");
    world.aws.faults().inject(lose.times(1));
    handle.checkpoint(progress("7")).await.unwrap();
    assert!(handle.is_valid());
    assert_eq!(handle.lease().counter, LeaseCounter(1));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_lands_late_undoes_nothing() {
    let world = World::new(1, InitialPosition::TrimHorizon).await;
    let (handle, _fleet, _run) = one_lease(&world).await;
    let late = dynamodb(Effect::LateApply(SECONDS(6))).operation("UpdateItem").resource(APP);
    world.aws.faults().inject(late.times(1));
    let unknown = handle.checkpoint(progress("7")).await;
    assert!(matches!(unknown, Err(CheckpointError::Unknown(_))), "{unknown:?}");
    handle.checkpoint(progress("8")).await.unwrap();
    let written = world.leases().await;
    sleep(SECONDS(20)).await;
    assert_eq!(world.leases().await, written);
    handle.checkpoint(progress("9")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_write_that_lands_between_the_look_and_the_next_write_is_planned_over() {
    let world = World::new(1, InitialPosition::TrimHorizon).await;
    let (handle, _fleet, _run) = one_lease(&world).await;
    // Somebody who is not the owner notes something on the lease (the leader of a later version, say).
    let table = world.table();
    let seen = table.get(&handle.lease().key).await.unwrap().unwrap();
    let mut noted = seen.clone();
    noted.rev = Some(seen.rev.unwrap() + 1);
    noted.children.insert(ShardId::parse("shardId-9").unwrap());
    table.apply(&crate::change::write(&seen, noted)).await.unwrap();
    handle.checkpoint(progress("8")).await.unwrap();
    let lease = table.get(&handle.lease().key).await.unwrap().unwrap();
    assert_eq!(lease.checkpoint, at("8"));
    assert_eq!(lease.children.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_dynamodb_is_away_ends_within_its_deadline() {
    let world = World::new(2, InitialPosition::TrimHorizon).await;
    let a = world.start("a");
    let is = |leases: &BTreeMap<_, _>| shares(leases) == BTreeMap::from([("a", 2)]);
    world.until(SECONDS(5), "a owns all", is).await;
    let fault = world.aws.faults().inject(dynamodb(Effect::Partition));
    let started = Instant::now();
    let exit = a.shut_down().await;
    assert!(matches!(exit, Exit::Shutdown), "{exit:?}");
    assert!(started.elapsed() <= SECONDS(25), "{:?}", started.elapsed());
    world.aws.faults().clear(fault);
    // The next worker declares it dead and takes the leases as orphans.
    let _b = world.start("b");
    let is = |leases: &BTreeMap<_, _>| shares(leases) == BTreeMap::from([("b", 2)]);
    world.until(SECONDS(12), "b owns all", is).await;
}

#[tokio::test(start_paused = true)]
async fn l1_a_worker_that_stops_with_leases_left_works_on_none_of_them() {
    let world = World::new(1, InitialPosition::TrimHorizon).await;
    let options = Options { shutdown_deadline: Duration::from_secs(5), ..world.options("a") };
    let (manager, fleet) = world.manager(options);
    let stop = CancellationToken::new();
    let _run = AbortOnDropHandle::new(tokio::spawn(manager.run(stop.clone())));
    // This consumer does not give its lease up, however often it is asked to.
    let handle = fleet.next_lease().await.unwrap();
    let _b = world.start("b");
    sleep(Duration::from_secs(5)).await;
    assert!(handle.is_valid());
    world.aws.faults().inject(dynamodb(Effect::LostReply).caller("a"));
    stop.cancel();
    let by_b = |leases: &BTreeMap<String, LeaseRecord>| shares(leases).contains_key("b");
    world.until(Duration::from_secs(10), "b has the lease", by_b).await;
    assert!(!handle.is_valid(), "the stop was noted, and the note's reply is still to come");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_declared_dead_on_the_strength_of_an_older_beat() {
    let world = World::new(1, InitialPosition::TrimHorizon).await;
    let _a = world.start("a");
    sleep(SECONDS(3)).await;
    let fleet = FleetTable::new(world.dynamodb("x"), "orders-app-fleet".to_owned(), SECONDS(2));
    let before = fleet.get(&id("a")).await.unwrap().unwrap();
    sleep(SECONDS(3)).await;
    assert!(!fleet.declare_dead(&before, 0).await.unwrap(), "its heart has beaten since");
    let is = fleet.get(&id("a")).await.unwrap().unwrap();
    assert!(is.beat > before.beat && is.state == WorkerState::Active);
}
