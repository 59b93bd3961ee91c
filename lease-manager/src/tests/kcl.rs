//! Coming from the Kinesis Client Library, and going back to it: tables that it wrote, and its rules for reading ours.

use aws_sdk_dynamodb::types::AttributeValue;

use super::*;
use crate::item::tests::item;
use crate::operate::{AdoptError, Course};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;
const WAIT: Duration = Duration::from_secs(30);

/// The lease items that a running Kinesis Client Library 3 wrote, at one of two moments.
fn dump(moment: &str) -> BTreeMap<String, Item> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/kcl/lease-table-dump.json");
    let dump: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let items = dump[moment]["app-poll"]["Items"].as_array().unwrap().iter().map(item);
    items.map(|item| (text(&item, "leaseKey").to_owned(), item)).collect()
}

fn text<'a>(item: &'a Item, name: &str) -> &'a str {
    item[name].as_s().unwrap()
}

impl World {
    /// A stream of the dump's shards: two, the first of which was split.
    async fn of_the_dump() -> World {
        let world = World::new(2, InitialPosition::TrimHorizon).await;
        let kinesis = world.kinesis("init");
        let half = "85070591730234615865843651857942052864";
        let split =
            kinesis.split_shard().stream_name(STREAM).shard_to_split("shardId-000000000000");
        split.new_starting_hash_key(half).send().await.unwrap();
        world
    }

    async fn put(&self, table: &str, item: Item) {
        let put = self.dynamodb("kcl").put_item().table_name(table).set_item(Some(item));
        put.send().await.unwrap();
    }

    async fn items(&self, table: &str) -> BTreeMap<String, Item> {
        let scan = self.dynamodb("kcl").scan().table_name(table).consistent_read(true);
        let items = scan.send().await.unwrap().items.unwrap();
        items.into_iter().map(|item| (text(&item, "leaseKey").to_owned(), item)).collect()
    }

    async fn put_all(&self, table: &str, items: &BTreeMap<String, Item>) {
        for item in items.values() {
            self.put(table, item.clone()).await;
        }
    }

    /// A lease table as the library makes it.
    async fn make_kcl_table(&self, table: &str) {
        create_tables(&self.dynamodb("kcl"), table).await.unwrap();
    }
}

/// A lease as the library sees it.
#[derive(Debug, PartialEq)]
struct KclLease {
    owner: Option<String>,
    counter: u64,
    checkpoint: String,
    sub_sequence: u64,
    parents: BTreeSet<String>,
}

/// Reads an item as strictly as the library's serializer: names, types and forms. It is not our reader, and shares
/// nothing with it.
fn kcl_reads(item: &Item) -> KclLease {
    let s = |name: &str| {
        item.get(name).map(|v| v.as_s().unwrap_or_else(|v| panic!("{name} is {v:?}")).clone())
    };
    let n = |name: &str| -> Option<u64> {
        item.get(name)
            .map(|v| v.as_n().unwrap().parse().unwrap_or_else(|_| panic!("{name}: {v:?}")))
    };
    let set = |name: &str| -> BTreeSet<String> {
        let Some(value) = item.get(name) else { return BTreeSet::new() };
        let ids = value.as_ss().unwrap_or_else(|v| panic!("{name} is {v:?}"));
        assert!(!ids.is_empty(), "{name}: there are no empty sets");
        assert!(
            ids.iter().all(|id| id.starts_with("shardId-")),
            "{name}: plain shard ids: {ids:?}"
        );
        ids.iter().cloned().collect()
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let key = s("leaseKey").unwrap();
    match key.split(':').collect::<Vec<_>>()[..] {
        [shard] => assert!(shard.starts_with("shardId-"), "{key}"),
        [account, stream, epoch, shard] => {
            assert!(digits(account) && account.len() == 12 && digits(epoch), "{key}");
            assert_eq!(s("streamName").unwrap(), format!("{account}:{stream}:{epoch}"));
            assert_eq!(s("shardId").unwrap(), shard);
        }
        _ => panic!("{key}"),
    }
    let kind = s("entityType");
    assert!(kind.as_deref().is_none_or(|kind| kind == "LEASE"), "{kind:?}");
    let owner = s("leaseOwner");
    assert_ne!(owner.as_deref(), Some(""), "an unowned lease has no owner attribute");
    let checkpoint = s("checkpoint").unwrap();
    let sentinels = ["TRIM_HORIZON", "LATEST", "SHARD_END", "AT_TIMESTAMP"];
    assert!(digits(&checkpoint) || sentinels.contains(&checkpoint.as_str()), "{checkpoint}");
    for name in ["startingHashKey", "endingHashKey"] {
        assert!(s(name).is_none_or(|hash| hash.parse::<u128>().is_ok()), "{name}");
    }
    if let Some(throughput) = item.get("throughputKBps") {
        assert!(throughput.as_n().unwrap().parse::<f64>().unwrap().is_finite());
    }
    for name in ["checkpointOwner", "pendingCheckpoint"] {
        assert_eq!(
            s(name),
            None,
            "{name} is there only while the library itself works on the lease"
        );
    }
    set("childShardIds");
    n("ownerSwitchesSinceCheckpoint").unwrap();
    KclLease {
        owner,
        counter: n("leaseCounter").unwrap(),
        checkpoint,
        sub_sequence: n("checkpointSubSequenceNumber").unwrap(),
        parents: set("parentShardId"),
    }
}

const MOMENTS: [&str; 2] = ["polling_running_after_split", "polling_after_graceful_shutdown"];

#[tokio::test(start_paused = true)]
async fn a_table_of_the_kcl_is_adopted_in_place_and_every_checkpoint_is_kept() {
    for moment in MOMENTS {
        let world = World::of_the_dump().await;
        world.put_all(APP, &dump(moment)).await;
        let before = world.items(APP).await;
        assert_eq!(before.len(), 4, "{moment}");
        let operator = world.operator();
        let plan = operator.plan_adoption(APP, None, WAIT, |_| {}).await.unwrap();
        assert!(plan.leases.iter().all(|lease| lease.course == Course::AsItIs), "{plan:?}");
        assert!(plan.watched_ms >= 30_000 && plan.unreadable.is_empty());
        let done = operator.adopt(&plan).await.unwrap();
        assert_eq!((done.written, done.created.len()), (0, 0));
        assert_eq!(world.items(APP).await, before, "{moment}: not an attribute was touched");

        // A worker of ours takes what stands still, and goes on where the library was.
        let (manager, fleet) = world.manager(world.options("a"));
        let _run = AbortOnDropHandle::new(tokio::spawn(manager.run(CancellationToken::new())));
        let mut handles = Vec::new();
        for _ in 0..3 {
            handles.push(fleet.next_lease().await.unwrap());
        }
        let taken = world.items(APP).await;
        assert_eq!(taken.len(), 4, "no lease was added: {:?}", taken.keys());
        let changes = ["leaseOwner", "leaseCounter", "ownerSwitchesSinceCheckpoint"];
        for (key, old) in &before {
            let new = &taken[key];
            let kept = old.iter().filter(|(name, _)| !changes.contains(&name.as_str()));
            kept.for_each(|(name, value)| assert_eq!(new.get(name), Some(value), "{key} {name}"));
        }
        assert_eq!(taken["shardId-000000000000"], before["shardId-000000000000"], "finished");
        for handle in &handles {
            let lease = handle.lease();
            let old = &before[lease.key.as_str()];
            assert_eq!(lease.checkpoint.text(), text(old, "checkpoint"));
            assert!(lease.lanes.values().all(|lane| lane.checkpoint == lease.checkpoint));
            let counter: u64 = old["leaseCounter"].as_n().unwrap().parse().unwrap();
            assert_eq!(lease.counter.0, counter + 1);
            handle.checkpoint(progress(&format!("9{}", text(old, "checkpoint")))).await.unwrap();
        }
        for (key, item) in world.items(APP).await {
            let (read, old) = (kcl_reads(&item), &before[&key]);
            let expected = match text(old, "checkpoint") {
                "SHARD_END" => "SHARD_END".to_owned(),
                number => format!("9{number}"),
            };
            assert_eq!(read.checkpoint, expected, "{key}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_library_that_still_runs_is_told_by_its_counters() {
    let world = World::of_the_dump().await;
    world.put_all(APP, &dump(MOMENTS[0])).await;
    let client = world.dynamodb("kcl");
    let renew = tokio::spawn(async move {
        sleep(SECONDS(3)).await;
        let key = AttributeValue::S("shardId-000000000002".to_owned());
        let renew = client.update_item().table_name(APP).key("leaseKey", key);
        let renew = renew.update_expression("SET leaseCounter = leaseCounter + :one");
        let one = AttributeValue::N("1".to_owned());
        renew.expression_attribute_values(":one", one).send().await.unwrap();
    });
    let started = Instant::now();
    let plan = world.operator().plan_adoption(APP, None, WAIT, |_| {}).await;
    renew.await.unwrap();
    let Err(AdoptError::StillRuns { moved, .. }) = plan else { panic!("{plan:?}") };
    assert_eq!(moved, ["shardId-000000000002: counter 16 to 17, owner worker-A"]);
    assert!(started.elapsed() < SECONDS(10), "it is said at once");
}

#[tokio::test(start_paused = true)]
async fn another_table_is_copied_and_nothing_there_or_here_is_overwritten() {
    let world = World::of_the_dump().await;
    world.make_kcl_table("library").await;
    world.put_all("library", &dump(MOMENTS[1])).await;
    let theirs = world.items("library").await;
    let mut mine = theirs["shardId-000000000001"].clone();
    mine.insert("checkpoint".to_owned(), AttributeValue::S("7".to_owned()));
    world.put(APP, mine).await;

    let operator = world.operator();
    let survey = operator.look(|_| {}).await.unwrap();
    let plan = operator.plan_adoption("library", Some(&survey), WAIT, |_| {}).await.unwrap();
    let kept: Vec<_> = plan.leases.iter().filter(|l| l.course == Course::KeptThere).collect();
    assert_eq!(kept.len(), 1);
    assert!(kept[0].odd[0].contains("at 7: that one stays"), "{kept:?}");
    for repeated in [3, 0] {
        assert_eq!(operator.adopt(&plan).await.unwrap().written, repeated);
    }
    assert_eq!(world.items("library").await, theirs);
    for (key, item) in world.items(APP).await {
        let read = kcl_reads(&item);
        let expected =
            if key == "shardId-000000000001" { "7" } else { text(&theirs[&key], "checkpoint") };
        assert_eq!(read.checkpoint, expected);
        if expected != "7" {
            assert_eq!(read.owner, None);
            assert_eq!(read.parents, kcl_reads(&theirs[&key]).parents);
            assert_eq!(text(&item, "entityType"), "LEASE");
        }
    }

    let _a = world.start("a");
    sleep(SECONDS(2)).await;
    let survey = operator.look(|_| {}).await.unwrap();
    let refused = operator.plan_adoption("library", Some(&survey), WAIT, |_| {}).await;
    assert!(matches!(refused, Err(AdoptError::FleetRuns(_))), "{refused:?}");
}

/// One table for everything, as the library 3.5 writes it, with what is odd about single leases.
async fn odd_table(world: &World, table: &str) {
    let s = |text: &str| AttributeValue::S(text.to_owned());
    let n = |text: &str| AttributeValue::N(text.to_owned());
    let other = |key: &str, kind: &str| {
        Item::from([("leaseKey".to_owned(), s(key)), ("entityType".to_owned(), s(kind))])
    };
    world.put(table, other("worker-A", "WORKER_METRIC_STATS")).await;
    world.put(table, other("Leader", "LEADER")).await;
    world.put(table, other("Migration3.0", "CLIENT_VERSION_MIGRATION")).await;
    let lease = |key: &str, checkpoint: &str| {
        Item::from([
            ("leaseKey".to_owned(), s(key)),
            ("leaseCounter".to_owned(), n("5")),
            ("checkpoint".to_owned(), s(checkpoint)),
            ("checkpointSubSequenceNumber".to_owned(), n("0")),
            ("ownerSwitchesSinceCheckpoint".to_owned(), n("0")),
        ])
    };
    world.put(table, lease("shardId-000000000001", "LATEST")).await;
    let mut pending = lease("shardId-000000000002", "77");
    pending.insert("entityType".to_owned(), s("LEASE"));
    pending.insert("checkpointSubSequenceNumber".to_owned(), n("3"));
    pending.insert("pendingCheckpoint".to_owned(), s("99"));
    pending.insert("pendingCheckpointSubSequenceNumber".to_owned(), n("0"));
    // The library's own bug: a number when the lease is created, bytes when it is updated.
    pending.insert("pendingCheckpointState".to_owned(), n("0"));
    pending.insert("checkpointOwner".to_owned(), s("worker-B"));
    world.put(table, pending).await;
    let mut bytes = lease("shardId-000000000003", "88");
    let state = AttributeValue::B(vec![1, 2].into());
    bytes.insert("pendingCheckpointState".to_owned(), state);
    world.put(table, bytes).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_odd_in_a_table_is_said_and_nothing_of_it_is_lost() {
    let world = World::of_the_dump().await;
    odd_table(&world, APP).await;
    let bad = Item::from([
        ("leaseKey".to_owned(), AttributeValue::S("shardId-000000000009".to_owned())),
        ("leaseCounter".to_owned(), AttributeValue::S("five".to_owned())),
        ("checkpoint".to_owned(), AttributeValue::S("77".to_owned())),
    ]);
    world.put(APP, bad.clone()).await;
    let before = world.items(APP).await;
    let operator = world.operator();
    let plan = operator.plan_adoption(APP, None, WAIT, |_| {}).await.unwrap();
    assert_eq!((plan.leases.len(), plan.others, plan.unreadable.len()), (3, 3, 1));
    assert!(plan.unreadable[0].contains("shardId-000000000009"), "{:?}", plan.unreadable);
    assert_eq!(plan.leases[0].course, Course::GetsStartTime);
    let odd = plan.leases.iter().map(|lease| lease.odd.join("; ")).collect::<Vec<_>>();
    assert!(odd[0].contains("never acknowledged a record"), "{odd:?}");
    for says in ["handed over by worker-B", "pending checkpoint", "behind its part 3"] {
        assert!(odd[1].contains(says), "{odd:?}");
    }

    let done = operator.adopt(&plan).await.unwrap();
    assert_eq!(done.written, 1);
    let mut after = world.items(APP).await;
    let latest = after.get_mut("shardId-000000000001").unwrap();
    let start_at = latest.remove("startAt").unwrap();
    assert!(start_at.as_n().unwrap().parse::<i64>().unwrap() >= 1_700_000_000_000);
    assert_eq!(latest.remove("rev"), Some(AttributeValue::N("1".to_owned())));
    assert_eq!(after, before, "nothing else was touched");

    // A copy would leave the unreadable shard without a lease: it is refused.
    let elsewhere = world.operator_of("elsewhere");
    let refused = elsewhere.plan_adoption(APP, None, WAIT, |_| {}).await;
    assert!(matches!(refused, Err(AdoptError::Unreadable { .. })), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn the_kcl_can_read_whatever_our_workers_write() {
    let mut world = World::new(2, InitialPosition::TrimHorizon).await;
    world.add_stream("events", 1, InitialPosition::Latest).await;
    let (manager, fleet) = world.manager(world.options("a"));
    let stop = CancellationToken::new();
    let run = AbortOnDropHandle::new(tokio::spawn(manager.run(stop.clone())));
    let mut handles = Vec::new();
    for _ in 0..3 {
        handles.push(fleet.next_lease().await.unwrap());
    }
    let items = world.items(APP).await;
    let read: Vec<_> = items.values().map(kcl_reads).collect();
    assert!(read.iter().all(|lease| lease.owner.as_deref() == Some("a")));
    for handle in &handles {
        let mut progress = progress("17");
        let ahead =
            Checkpoint::At { sequence: SequenceNumber::parse("17").unwrap(), sub_sequence: 4 };
        progress.lanes.get_mut(&lanes()[0]).unwrap().checkpoint = ahead;
        handle.checkpoint(progress).await.unwrap();
    }
    for item in world.items(APP).await.values() {
        let read = kcl_reads(item);
        assert_eq!((read.checkpoint.as_str(), read.sub_sequence), ("17", 0), "the smallest lane");
        assert_eq!(text(item, "entityType"), "LEASE");
    }
    stop.cancel();
    for handle in handles {
        handle.release(progress("18"), "stop".to_owned()).await.unwrap();
    }
    run.await.unwrap();
    for item in world.items(APP).await.values() {
        let read = kcl_reads(item);
        assert_eq!((read.owner, read.checkpoint.as_str(), read.counter), (None, "18", 2));
    }
    let table = world.dynamodb("kcl").describe_table().table_name(APP).send().await.unwrap();
    let table = table.table.unwrap();
    let index = &table.global_secondary_indexes()[0];
    assert_eq!(index.index_name(), Some("LeaseOwnerToLeaseKeyIndex"));
    let keys: Vec<_> = index.key_schema().iter().map(|key| key.attribute_name()).collect();
    assert_eq!(keys, ["leaseOwner", "leaseKey"]);
    let projection = index.projection().unwrap().projection_type().unwrap();
    assert_eq!(projection.as_str(), "KEYS_ONLY");
}

#[tokio::test(start_paused = true)]
async fn what_the_kcl_checkpointed_in_between_is_believed_and_our_lanes_are_not() {
    let world = World::new(1, InitialPosition::TrimHorizon).await;
    let (manager, fleet) = world.manager(world.options("a"));
    let stop = CancellationToken::new();
    let run = AbortOnDropHandle::new(tokio::spawn(manager.run(stop.clone())));
    let handle = fleet.next_lease().await.unwrap();
    handle.checkpoint(progress("17")).await.unwrap();
    stop.cancel();
    handle.release(progress("18"), "stop".to_owned()).await.unwrap();
    run.await.unwrap();
    // The library takes over, checkpoints by its own rules and is stopped again.
    let (key, item) = world.items(APP).await.into_iter().next().unwrap();
    let counter = kcl_reads(&item).counter;
    let n = |n: u64| AttributeValue::N(n.to_string());
    let update = world.dynamodb("kcl").update_item().table_name(APP);
    let update = update
        .key("leaseKey", AttributeValue::S(key.clone()))
        .update_expression("SET leaseOwner = :me, leaseCounter = :next, checkpoint = :at, checkpointSubSequenceNumber = :zero")
        .condition_expression("leaseCounter = :seen")
        .expression_attribute_values(":me", AttributeValue::S("worker-A".to_owned()))
        .expression_attribute_values(":next", n(counter + 9))
        .expression_attribute_values(":seen", n(counter))
        .expression_attribute_values(":zero", n(0))
        .expression_attribute_values(":at", AttributeValue::S("40".to_owned()));
    update.send().await.unwrap();

    let plan = world.operator().plan_adoption(APP, None, WAIT, |_| {}).await.unwrap();
    assert_eq!(plan.leases[0].course, Course::AsItIs);
    assert!(plan.leases[0].odd[0].contains("every lane starts at the checkpoint"), "{plan:?}");
    let (manager, fleet) = world.manager(world.options("b"));
    let _run = AbortOnDropHandle::new(tokio::spawn(manager.run(CancellationToken::new())));
    let handle = fleet.next_lease().await.unwrap();
    assert_eq!(handle.lease().checkpoint, at("40"));
    assert!(handle.lease().lanes.values().all(|lane| lane.checkpoint == at("40")));
    assert_eq!(handle.lease().counter.0, counter + 10);
}
