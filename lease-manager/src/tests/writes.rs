//! The conditional writes themselves, raced.

use super::*;
use crate::change::{Change, after, write};
use crate::lease::Holder;
use crate::lease_table::Outcome;

fn take(seen: &LeaseRecord, worker: &str) -> crate::change::Write {
    let to = Holder { worker: id(worker), incarnation: Incarnation(1) };
    let change = Change::Take { to, reason: "unowned".to_owned() };
    write(seen, after(seen, &change, &lanes()).unwrap())
}

async fn fresh(world: &World) -> LeaseRecord {
    let key = LeaseKey::parse("shardId-000000000007").unwrap();
    let lease = LeaseRecord::new(key, Checkpoint::TrimHorizon, 5);
    assert!(world.table().create(&lease).await.unwrap());
    lease
}

#[tokio::test(start_paused = true)]
async fn creating_a_lease_twice_leaves_the_first() {
    let world = World::new(1, InitialPosition::Latest).await;
    let lease = fresh(&world).await;
    let mut other = lease.clone();
    other.checkpoint = at("99");
    assert!(!world.table().create(&other).await.unwrap());
    assert_eq!(world.table().get(&lease.key).await.unwrap(), Some(lease));
}

#[tokio::test(start_paused = true)]
async fn of_two_takes_exactly_one_wins_and_the_other_sees_who() {
    let world = World::new(1, InitialPosition::Latest).await;
    let lease = fresh(&world).await;
    let (a, b) = (take(&lease, "a"), take(&lease, "b"));
    assert!(matches!(world.table().apply(&a).await.unwrap(), Outcome::Done));
    let Outcome::Refused(Some(is)) = world.table().apply(&b).await.unwrap() else { panic!() };
    assert_eq!(*is, a.after);
}

#[tokio::test(start_paused = true)]
async fn every_step_of_a_lease_keeps_the_promises() {
    let world = World::new(1, InitialPosition::Latest).await;
    let table = world.table();
    let mut history = vec![fresh(&world).await];
    let holder = |worker| Holder { worker: id(worker), incarnation: Incarnation(4) };
    let reason = || "test".to_owned();
    let children = BTreeSet::from([ShardId::parse("shardId-000000000008").unwrap()]);
    let changes = [
        Change::Take { to: holder("a"), reason: reason() },
        Change::Checkpoint { progress: progress("5") },
        Change::HandOver {
            progress: progress("6"),
            to: holder("b"),
            reason: reason(),
            declined: false,
        },
        Change::Checkpoint { progress: progress("6") },
        Change::Release { progress: progress("9"), reason: reason(), declined: false },
        Change::Take { to: holder("a"), reason: reason() },
        Change::ReaderEnded { children },
        Change::Finish { progress: progress("SHARD_END") },
    ];
    for change in changes {
        let seen = history.last().unwrap();
        let write = write(seen, after(seen, &change, &lanes()).unwrap());
        let outcome = table.apply(&write).await.unwrap();
        assert!(matches!(outcome, Outcome::Done), "{change:?}: {outcome:?}");
        // What the table holds is what was planned, attribute by attribute.
        assert_eq!(table.get(&seen.key).await.unwrap().as_ref(), Some(&write.after), "{change:?}");
        history.push(write.after);
    }
    invariants::l1_one_writer(&history).unwrap();
    invariants::l2_counter_rises(&history).unwrap();
    invariants::l3_checkpoint_rises(&history).unwrap();
    assert_eq!(history.last().unwrap().counter, LeaseCounter(5));

    let stale = &history[history.len() - 2];
    assert!(!table.delete(stale).await.unwrap());
    assert!(table.delete(history.last().unwrap()).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_item_that_cannot_be_read_hides_no_other() {
    use aws_sdk_dynamodb::types::AttributeValue;
    let world = World::new(1, InitialPosition::Latest).await;
    let lease = fresh(&world).await;
    let put = |key: &str, name: &str, value: &str| {
        let text = |t: &str| AttributeValue::S(t.to_owned());
        let put = world.dynamodb("x").put_item().table_name(APP).item("leaseKey", text(key));
        put.item(name, text(value)).send()
    };
    put("shardId-bad", "checkpoint", "NONSENSE").await.unwrap();
    put("Leader", "entityType", "LEADER").await.unwrap();
    let listing = world.table().list().await.unwrap();
    assert_eq!(listing.leases, vec![lease]);
    assert_eq!(listing.bad.len(), 1);
    assert_eq!(listing.bad[0].key, "shardId-bad");
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_goes_back_is_refused_and_nothing_is_written() {
    let world = World::new(1, InitialPosition::TrimHorizon).await;
    let (manager, fleet) = world.manager(world.options("a"));
    let _run = AbortOnDropHandle::new(tokio::spawn(manager.run(CancellationToken::new())));
    let handle = fleet.next_lease().await.unwrap();
    handle.checkpoint(progress("10")).await.unwrap();
    let before = world.leases().await;
    let back = handle.checkpoint(progress("9")).await;
    assert!(matches!(back, Err(CheckpointError::Refused(_))), "{back:?}");
    let early = handle.finish(progress("SHARD_END")).await;
    assert!(matches!(early, Err(CheckpointError::Refused(_))), "{early:?}");
    let key = before.keys().next().unwrap();
    assert_eq!(world.leases().await[key].checkpoint, at("10"));
}
