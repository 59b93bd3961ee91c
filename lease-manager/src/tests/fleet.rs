//! Joining, sharing, dying, stopping, coming back.

use super::*;

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

#[tokio::test(start_paused = true)]
async fn the_tables_are_made_once_and_a_second_time_changes_nothing() {
    let world = World::new(1, InitialPosition::Latest).await;
    create_tables(&world.dynamodb("init"), APP).await.unwrap();
    let client = world.dynamodb("init");
    let fleet = client.describe_time_to_live().table_name("orders-app-fleet").send().await.unwrap();
    let ttl = fleet.time_to_live_description.unwrap();
    assert_eq!(ttl.attribute_name.as_deref(), Some("expiresAt"));
    let leases = client.describe_table().table_name(APP).send().await.unwrap().table.unwrap();
    assert_eq!(
        leases.global_secondary_indexes()[0].index_name(),
        Some("LeaseOwnerToLeaseKeyIndex")
    );
}

#[tokio::test(start_paused = true)]
async fn a_lease_table_of_an_older_kcl_gets_the_owner_index() {
    use aws_sdk_dynamodb::types::*;
    let world = World::new(1, InitialPosition::Latest).await;
    let client = world.dynamodb("init");
    let key = KeySchemaElement::builder().attribute_name("leaseKey").key_type(KeyType::Hash);
    let attribute = AttributeDefinition::builder()
        .attribute_name("leaseKey")
        .attribute_type(ScalarAttributeType::S);
    let create = client.create_table().table_name("old").billing_mode(BillingMode::PayPerRequest);
    let create = create.key_schema(key.build().unwrap());
    create.attribute_definitions(attribute.build().unwrap()).send().await.unwrap();
    create_tables(&client, "old").await.unwrap();
    let table = client.describe_table().table_name("old").send().await.unwrap().table.unwrap();
    assert_eq!(table.global_secondary_indexes().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_tables_a_worker_says_so_and_ends() {
    let world = World::new(1, InitialPosition::Latest).await;
    let options = Options { app: "elsewhere".to_owned(), ..world.options("a") };
    let (manager, _fleet) = world.manager(options);
    let exit = manager.run(CancellationToken::new()).await;
    let Exit::Failed(LeaseManagerError::Refused { detail, .. }) = exit else { panic!("{exit:?}") };
    assert!(detail.contains("ResourceNotFoundException"), "{detail}");
}

#[tokio::test(start_paused = true)]
async fn a_first_start_reads_every_shard_and_a_second_worker_gets_half() {
    let world = World::new(4, InitialPosition::TrimHorizon).await;
    let a = world.start("a");
    let all = |shares: BTreeMap<&str, usize>| shares == BTreeMap::from([("a", 4)]);
    let took = world.until(SECONDS(5), "a owns all", |leases| all(shares(leases))).await;
    assert!(took < SECONDS(4), "{took:?}");

    let b = world.start("b");
    let half = BTreeMap::from([("a", 2), ("b", 2)]);
    let took = world.until(SECONDS(10), "b owns half", |leases| shares(leases) == half).await;
    // The leader moves nothing before the fleet has been the same for a moment.
    assert!(took < SECONDS(8), "{took:?}");
    // Nobody was robbed: every lease moved at most once, and by its owner's own doing.
    assert_eq!((a.lost(), b.lost()), (0, 0));
    assert!(world.leases().await.values().all(|lease| lease.counter.0 <= 2));

    sleep(SECONDS(60)).await;
    assert!(world.leases().await.values().all(|lease| lease.counter.0 <= 2), "no churn");
    let view = a.fleet.view();
    assert_eq!(view.leader, Some(id("a")));
    assert_eq!(view.workers[&id("b")].leases, 2);
    assert!(view.leases.values().all(|lease| lease.standing == Standing::Owned));
    assert!(serde_json::to_string(&*view).unwrap().contains("sync-store"));
}

#[tokio::test(start_paused = true)]
async fn the_shards_of_a_dead_worker_are_taken_within_failure_detection_and_a_bit() {
    let world = World::new(4, InitialPosition::TrimHorizon).await;
    let (a, b) = (world.start("a"), world.start("b"));
    let half = BTreeMap::from([("a", 2), ("b", 2)]);
    world.until(SECONDS(15), "shared", |leases| shares(leases) == half).await;
    sleep(SECONDS(7)).await;
    b.kill().await;
    let all = BTreeMap::from([("a", 4)]);
    let took = world.until(SECONDS(10), "a owns all", |leases| shares(leases) == all).await;
    assert!(took < SECONDS(7), "{took:?}");
    assert!(took >= SECONDS(3), "nobody may be declared dead sooner: {took:?}");
    assert_eq!(a.lost(), 0);
    assert_eq!(a.fleet.view().workers[&id("b")].state, WorkerState::Dead);
}

#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_no_different() {
    let world = World::new(3, InitialPosition::TrimHorizon).await;
    let a = world.start("a");
    let is = |leases: &BTreeMap<_, _>| shares(leases) == BTreeMap::from([("a", 3)]);
    world.until(SECONDS(5), "a owns all", is).await;
    let b = world.start("b");
    let both = |leases: &BTreeMap<_, _>| shares(leases) == BTreeMap::from([("a", 2), ("b", 1)]);
    world.until(SECONDS(10), "shared", both).await;
    sleep(SECONDS(7)).await;
    assert_eq!(b.fleet.view().leader, Some(id("a")));
    a.kill().await;
    let is = |leases: &BTreeMap<_, _>| shares(leases) == BTreeMap::from([("b", 3)]);
    let took = world.until(SECONDS(10), "b owns all", is).await;
    assert!(took < SECONDS(7), "{took:?}");
    sleep(SECONDS(2)).await;
    assert_eq!(b.fleet.view().leader, Some(id("b")));
}

#[tokio::test(start_paused = true)]
async fn a_stop_hands_every_lease_over_at_once() {
    let world = World::new(4, InitialPosition::TrimHorizon).await;
    let (a, b) = (world.start("a"), world.start("b"));
    let half = BTreeMap::from([("a", 2), ("b", 2)]);
    world.until(SECONDS(15), "shared", |leases| shares(leases) == half).await;
    sleep(SECONDS(7)).await;
    let acquired = || {
        let events = a.events();
        events.iter().filter(|event| matches!(event, Event::Acquired(..))).count()
    };
    let before = acquired();
    let started = Instant::now();
    let exit = b.shut_down().await;
    assert!(matches!(exit, Exit::Shutdown), "{exit:?}");
    assert!(started.elapsed() < SECONDS(1), "{:?}", started.elapsed());
    assert_eq!(shares(&world.leases().await), BTreeMap::from([("a", 4)]));
    // The mail reaches the new owner with its next heartbeat.
    while acquired() < before + 2 {
        assert!(started.elapsed() < Duration::from_millis(1_500), "{:?}", a.events());
        sleep(Duration::from_millis(10)).await;
    }
    sleep(SECONDS(3)).await;
    assert_eq!(a.fleet.view().workers[&id("b")].state, WorkerState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn the_last_worker_releases_and_the_next_takes_at_once() {
    let world = World::new(2, InitialPosition::TrimHorizon).await;
    let a = world.start("a");
    let is = |leases: &BTreeMap<_, _>| shares(leases) == BTreeMap::from([("a", 2)]);
    world.until(SECONDS(5), "a owns all", is).await;
    assert!(matches!(a.shut_down().await, Exit::Shutdown));
    assert_eq!(shares(&world.leases().await), BTreeMap::from([("nobody", 2)]));
    let _b = world.start("b");
    let is = |leases: &BTreeMap<_, _>| shares(leases) == BTreeMap::from([("b", 2)]);
    let took = world.until(SECONDS(5), "b owns all", is).await;
    assert!(took < SECONDS(3), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_restart_under_the_same_name_takes_its_own_leases_at_once() {
    let world = World::new(3, InitialPosition::TrimHorizon).await;
    let a = world.start("a");
    let is = |leases: &BTreeMap<_, _>| shares(leases) == BTreeMap::from([("a", 3)]);
    world.until(SECONDS(5), "a owns all", is).await;
    let before = world.leases().await;
    a.kill().await;
    let _again = world.start("a");
    let taken = |leases: &BTreeMap<String, LeaseRecord>| {
        leases.iter().all(|(key, lease)| lease.counter > before[key].counter)
    };
    let took = world.until(SECONDS(5), "taken again", taken).await;
    assert!(took < SECONDS(3), "sooner than failure detection: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn of_two_processes_with_one_name_the_older_ends() {
    let world = World::new(1, InitialPosition::TrimHorizon).await;
    let older = world.start("a");
    let is = |leases: &BTreeMap<_, _>| shares(leases) == BTreeMap::from([("a", 1)]);
    world.until(SECONDS(5), "a owns all", is).await;
    let _newer = world.start("a");
    let exit = older.run.await.unwrap();
    assert!(matches!(exit, Exit::Failed(LeaseManagerError::Replaced(_))), "{exit:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_consumer_breaks_down_is_given_up_and_taken_again() {
    let world = World::new(1, InitialPosition::TrimHorizon).await;
    let (manager, fleet) = world.manager(world.options("a"));
    let stop = CancellationToken::new();
    let run = tokio::spawn(manager.run(stop.clone()));
    let handle = fleet.next_lease().await.unwrap();
    let first = handle.lease().counter;
    handle.checkpoint(progress("17")).await.unwrap();
    drop(handle);
    let handle = fleet.next_lease().await.unwrap();
    assert!(handle.lease().counter > first);
    assert_eq!(
        handle.lease().start(),
        StartPosition::After { sequence: SequenceNumber::parse("17").unwrap(), sub_sequence: 0 }
    );
    stop.cancel();
    handle.release(Progress::default(), "stop".to_owned()).await.unwrap();
    assert!(matches!(run.await.unwrap(), Exit::Shutdown));
    assert!(fleet.next_lease().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_does_not_drain_loses_the_lease_at_its_last_checkpoint() {
    let world = World::new(2, InitialPosition::TrimHorizon).await;
    let (manager, fleet) = world.manager(world.options("a"));
    let _run = AbortOnDropHandle::new(tokio::spawn(manager.run(CancellationToken::new())));
    let stuck = [fleet.next_lease().await.unwrap(), fleet.next_lease().await.unwrap()];
    for handle in &stuck {
        handle.checkpoint(progress("5")).await.unwrap();
    }
    let _b = world.start("b");
    let half = BTreeMap::from([("a", 1), ("b", 1)]);
    let took = world.until(SECONDS(20), "moved", |leases| shares(leases) == half).await;
    assert!(took >= SECONDS(5), "{took:?}");
    let lost = stuck.iter().filter(|handle| !handle.is_valid()).count();
    assert_eq!(lost, 1);
    assert!(world.leases().await.values().all(|lease| lease.checkpoint == at("5")));
}
