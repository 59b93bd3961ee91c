//! What the leader does, what it is not needed for, and how it is replaced while it lives.

use local_aws::{Effect, Fault, Service};

use super::*;
use crate::change::{Change, after, write};
use crate::lease::Holder;

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

/// Two or more workers that share the shards, the first of them leading.
async fn fleet(world: &World, names: &[&str]) -> Vec<Worker> {
    let mut workers = Vec::new();
    for name in names {
        workers.push(world.start(name));
        sleep(SECONDS(1)).await;
    }
    let even = |leases: &BTreeMap<String, LeaseRecord>| {
        let shares = shares(leases);
        let (most, least) = (shares.values().max(), shares.values().min());
        shares.len() == names.len()
            && !shares.contains_key("nobody")
            && most.zip(least).is_some_and(|(most, least)| most - least <= 1)
    };
    world.until(SECONDS(30), "shared", even).await;
    sleep(SECONDS(12)).await;
    assert!(workers.iter().all(|worker| worker.fleet.view().leader == Some(id(names[0]))));
    workers
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_read_or_write_leases_stands_back_and_keeps_its_own() {
    for operation in ["Scan", "UpdateItem"] {
        let world = World::new(6, InitialPosition::TrimHorizon).await;
        let mut workers = fleet(&world, &["a", "b", "c"]).await;
        let fault = Fault::new(Service::Dynamodb, Effect::InternalError).operation(operation);
        world.aws.faults().inject(fault.resource(APP).caller("a"));
        workers.pop().unwrap().kill().await;
        let all = |leases: &BTreeMap<String, LeaseRecord>| {
            shares(leases).keys().all(|owner| ["a", "b"].contains(owner))
        };
        let took = world.until(SECONDS(40), "c's leases are owned again", all).await;
        assert!(took < SECONDS(25), "{operation}: {took:?}");
        let view = workers[1].fleet.view();
        assert_eq!(view.leader, Some(id("b")), "{operation}");
        let ailment = &view.workers[&id("a")].health["lease-table"];
        assert!(ailment.contains("InternalServerError"), "{ailment}");
        assert_eq!(workers[0].lost(), 0, "what it owns it keeps");
        world.aws.faults().clear_all();
        sleep(SECONDS(30)).await;
        assert_eq!(workers[1].fleet.view().leader, Some(id("a")), "well again, it leads again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_mail_is_lost_is_found_by_the_index() {
    let world = World::new(4, InitialPosition::TrimHorizon).await;
    let workers = fleet(&world, &["a", "b"]).await;
    let leases = world.leases().await;
    let of_a = leases.values().find(|lease| lease.owner == Some(id("a"))).unwrap();
    let incarnation = workers[0].fleet.view().workers[&id("b")].incarnation;
    let to = Holder { worker: id("b"), incarnation };
    let given = after(of_a, &Change::Take { to, reason: "test".to_owned() }, &lanes()).unwrap();
    world.table().apply(&write(of_a, given.clone())).await.unwrap();
    let (shard, counter) = (given.shard_id.to_string(), given.counter.0);
    let started = Instant::now();
    let found = Event::Acquired(shard.clone(), counter);
    let lost = Event::Lost(shard, counter - 1);
    while !workers[1].events().contains(&found) || !workers[0].events().contains(&lost) {
        assert!(
            started.elapsed() < SECONDS(12),
            "nobody told either of them: {:?}",
            workers[1].events()
        );
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_ask_to_move_stays_in_the_table_until_the_lease_is_gone() {
    let world = World::new(2, InitialPosition::TrimHorizon).await;
    let (manager, fleet) = world.manager(world.options("a"));
    let _run = AbortOnDropHandle::new(tokio::spawn(manager.run(CancellationToken::new())));
    let slow = [fleet.next_lease().await.unwrap(), fleet.next_lease().await.unwrap()];
    let _b = world.start("b");
    let moving = tokio::select! {
        () = slow[0].release_requested() => slow[0].lease().key.clone(),
        () = slow[1].release_requested() => slow[1].lease().key.clone(),
    };
    // The consumer does not drain: everybody sees that the lease is on its way, and nobody asks for a second one.
    sleep(SECONDS(3)).await;
    let view = fleet.view();
    let asked = BTreeMap::from([(moving.clone(), Some(id("b")))]);
    assert_eq!(view.workers[&id("a")].moving, asked);
    sleep(SECONDS(8)).await;
    assert_eq!(fleet.view().workers[&id("a")].moving, BTreeMap::new());
    let lease = &world.leases().await[moving.as_str()];
    assert_eq!(lease.owner, Some(id("b")), "handed over at its last checkpoint");
    assert_eq!(lease.reason.as_deref(), Some("move"));
}

#[tokio::test(start_paused = true)]
async fn workers_that_do_not_lead_read_little() {
    let world = World::new(12, InitialPosition::TrimHorizon).await;
    let names = ["a", "b", "c", "d", "e", "f"];
    let _workers = fleet(&world, &names).await;
    let calls = |operation: &str, table: &str| {
        let calls = world.aws.calls().into_iter();
        let these =
            calls.filter(|c| c.operation == operation && c.resource.as_deref() == Some(table));
        these.map(|c| c.calls).sum::<u64>()
    };
    let before = (calls("Scan", APP), calls("Scan", "orders-app-fleet"), calls("Query", APP));
    sleep(SECONDS(120)).await;
    let leases = calls("Scan", APP) - before.0;
    let whole = calls("Scan", "orders-app-fleet") - before.1;
    let index = calls("Query", APP) - before.2;
    // One leader reads the leases each 5 s; five others once a minute; and one audit a minute.
    assert!(leases <= 120 / 4 + 5 * 3 + 3, "{leases} readings of all leases");
    // Three heads read the fleet each second, three others each 10 s.
    assert!(whole <= 3 * 120 * 5 / 4 + 3 * 15, "{whole} readings of the whole fleet");
    assert!((50..=90).contains(&index), "{index} questions to the index by five workers");
}

#[tokio::test(start_paused = true)]
async fn l4_a_lane_of_a_child_is_open_as_soon_as_that_lane_ended_in_the_parent() {
    let world = World::new(1, InitialPosition::TrimHorizon).await;
    let (manager, fleet) = world.manager(world.options("a"));
    let _run = AbortOnDropHandle::new(tokio::spawn(manager.run(CancellationToken::new())));
    let parent = fleet.next_lease().await.unwrap();
    assert_eq!(parent.open_lanes().len(), 2);
    let child = ChildShard {
        shard_id: ShardId::parse("shardId-000000000001").unwrap(),
        parents: vec![parent.lease().shard_id.clone()],
        starting_hash_key: "0".to_owned(),
        ending_hash_key: u128::MAX.to_string(),
    };
    parent.reader_ended(vec![child]).await.unwrap();
    let at = |text: &str| LanePosition::at(at(text));
    let [delivery, store] = [&lanes()[0], &lanes()[1]].map(Clone::clone);
    let behind = BTreeMap::from([(store.clone(), at("SHARD_END")), (delivery, at("7"))]);
    parent.checkpoint(Progress { lanes: behind, ..Progress::default() }).await.unwrap();
    let started = Instant::now();
    let child = fleet.next_lease().await.unwrap();
    assert!(started.elapsed() < SECONDS(1), "{:?}", started.elapsed());
    assert_eq!(child.open_lanes(), BTreeSet::from([store]));
    let other_opens = child.lane_opens(1);
    tokio::pin!(other_opens);
    assert!(tokio::time::timeout(SECONDS(30), &mut other_opens).await.is_err());
    parent.finish(progress("SHARD_END")).await.unwrap();
    tokio::time::timeout(SECONDS(1), other_opens).await.expect("both lanes are open");
}
