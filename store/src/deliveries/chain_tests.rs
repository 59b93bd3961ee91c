//! Chains over a real SDK client and an embedded DynamoDB: order, fencing, and what others see of them.

use std::time::Duration;

use local_aws::{Effect, LocalAws};
use tokio::time::sleep;

use super::tests::{parked, store, subscription};
use super::*;
use crate::StoreError;
use crate::testing::{NOW, fail};

const WHOLE: (u128, u128) = (0, u128::MAX);

fn key(start: u128, end: u128) -> ChainKey {
    ChainKey { start, end, shard: "shardId-000000000000".into() }
}

fn head(message: Option<&ParkedDelivery>) -> ChainHead {
    ChainHead {
        message: message.map(|parked| parked.message.id.clone()),
        attempts: 2,
        first_failed_at_ms: NOW,
        due_at_ms: NOW + 5_000,
        last_error: "503".to_owned(),
        stopped: false,
    }
}

async fn tenure(store: &DeliveryStore, fence: u64) -> Result<Tenure, StoreError> {
    let (stream, shard) = (Arc::from("arn"), Arc::from("shardId-000000000000"));
    store.take_tenure(&subscription("sub_a"), &stream, &shard, fence).await
}

fn ids(page: &ChainPage) -> Vec<MessageId> {
    page.deliveries.iter().map(|chained| chained.delivery.message.id.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_chain_reads_back_in_stream_order_however_it_was_written() {
    let (_aws, store) = store().await;
    let mine = tenure(&store, 1).await.unwrap();
    let messages: Vec<ParkedDelivery> = (0..5).map(|n| parked(n, 0)).collect();
    for n in [3, 0, 4, 1, 2] {
        let append = (key(7, 7), ChainWrite::Append(messages[n].clone()));
        store.write_chains(&mine, &[append]).await.unwrap();
    }
    let stand = (key(7, 7), ChainWrite::Stand(head(messages.first())));
    store.write_chains(&mine, &[stand]).await.unwrap();
    let chain = mine.chain(&key(7, 7));
    let page = store.chain_page(&chain, 3).await.unwrap();
    assert_eq!(ids(&page), messages[..3].iter().map(|m| m.message.id.clone()).collect::<Vec<_>>());
    assert!(page.more);
    let settled: Vec<_> =
        page.deliveries.into_iter().map(|one| (key(7, 7), ChainWrite::Settle(one))).collect();
    store.write_chains(&mine, &settled).await.unwrap();
    let rest = store.chain_page(&chain, 10).await.unwrap();
    assert_eq!((rest.deliveries.len(), rest.more), (2, false));
    assert_eq!(rest.deliveries[0].delivery, messages[3]);
    assert_eq!(store.chain(&chain).await.unwrap(), Some(head(messages.first())));
    store.write_chains(&mine, &[(key(7, 7), ChainWrite::Clear)]).await.unwrap();
    assert_eq!(store.chain(&chain).await.unwrap(), None);
}

/// O1 over reshards: shards 0 and 1 are merged into 2, which is split again. The owner of the lower child works off what 2 left,
/// and before that comes what 1 left, although nothing of it lies in the lower child's range.
#[tokio::test(start_paused = true)]
async fn what_stands_before_a_chain_is_found_also_outside_the_range() {
    let (_aws, store) = store().await;
    let mine = tenure(&store, 1).await.unwrap();
    let of = |shard: u32, start, end| ChainKey {
        start,
        end,
        shard: format!("shardId-{shard:012}").into(),
    };
    let (left_by_1, left_by_2, elsewhere) = (of(1, 50, 100), of(2, 0, 100), of(3, 101, 150));
    for key in [&left_by_1, &left_by_2, &elsewhere] {
        let stand = (key.clone(), ChainWrite::Stand(head(None)));
        store.write_chains(&mine, &[stand]).await.unwrap();
    }
    let sub = subscription("sub_a");
    let keys = |found: Vec<(ChainKey, ChainHead)>| -> Vec<ChainKey> {
        let mut keys: Vec<_> = found.into_iter().map(|(key, _)| key).collect();
        keys.sort();
        keys
    };
    let lower = (0, 30);
    assert_eq!(
        keys(store.chains(&sub, "arn", lower).await.unwrap()),
        std::slice::from_ref(&left_by_2)
    );
    let found = store.chains_and_before(&sub, "arn", lower).await.unwrap();
    assert_eq!(keys(found), [left_by_2, left_by_1]);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_was_replaced_writes_nothing_any_more() {
    let (_aws, store) = store().await;
    let before = tenure(&store, 4).await.unwrap();
    let append = [(key(7, 7), ChainWrite::Append(parked(1, 0)))];
    store.write_chains(&before, &append).await.unwrap();
    let after = tenure(&store, 5).await.unwrap();
    let refused = store.write_chains(&before, &append).await.unwrap_err();
    assert!(refused.is_conflict(), "{refused}");
    assert!(
        tenure(&store, 4).await.unwrap_err().is_conflict(),
        "an older lease takes nothing back"
    );
    let again = tenure(&store, 5).await.unwrap();
    assert!(store.write_chains(&after, &append).await.unwrap_err().is_conflict());
    store.write_chains(&again, &append).await.unwrap();
    assert_eq!(store.chain_page(&again.chain(&key(7, 7)), 10).await.unwrap().deliveries.len(), 1);
}

/// The next call of this kind is not answered, and applied when later ones were.
fn is_late(aws: &LocalAws, operation: &str) {
    fail(aws, operation, Effect::LateApply(Duration::from_secs(12)), 1);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_applied_late_brings_nothing_back_and_takes_nothing_away() {
    let (aws, store) = store().await;
    let mine = tenure(&store, 1).await.unwrap();
    let chain = mine.chain(&key(7, 7));
    let write = async |write: ChainWrite| store.write_chains(&mine, &[(key(7, 7), write)]).await;
    let given_up = async |late: ChainWrite| {
        is_late(&aws, "TransactWriteItems");
        assert!(write(late.clone()).await.is_err(), "no answer");
        write(late).await.unwrap();
    };
    let message = parked(1, 0);
    given_up(ChainWrite::Append(message.clone())).await;
    write(ChainWrite::Settle(ChainedDelivery::appended(message))).await.unwrap();
    given_up(ChainWrite::Clear).await;
    write(ChainWrite::Stand(head(None))).await.unwrap();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(ids(&store.chain_page(&chain, 10).await.unwrap()), []);
    assert!(store.chain(&chain).await.unwrap().is_some(), "it stands");
    write(ChainWrite::Append(parked(2, 0))).await.unwrap();
    assert_eq!(ids(&store.chain_page(&chain, 10).await.unwrap()).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_tenure_that_is_taken_late_ends_none_that_was_taken_after_it() {
    let (aws, store) = store().await;
    is_late(&aws, "UpdateItem");
    assert!(tenure(&store, 1).await.is_err(), "no answer");
    let mine = tenure(&store, 1).await.unwrap();
    let append = |n| [(key(7, 7), ChainWrite::Append(parked(n, 0)))];
    store.write_chains(&mine, &append(1)).await.unwrap();
    sleep(Duration::from_secs(30)).await;
    store.write_chains(&mine, &append(2)).await.unwrap();
    assert_eq!(ids(&store.chain_page(&mine.chain(&key(7, 7)), 10).await.unwrap()).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_owner_of_a_range_finds_its_keys_and_the_ranges_that_it_is_part_of() {
    let (_aws, store) = store().await;
    let mine = tenure(&store, 1).await.unwrap();
    let stand = |key| (key, ChainWrite::Stand(head(None)));
    let chains = [key(7, 7), key(60, 60), key(0, 99), key(50, 99), key(100, 199)];
    store.write_chains(&mine, &chains.map(stand)).await.unwrap();
    let found = async |range| {
        let found = store.chains(&subscription("sub_a"), "arn", range).await.unwrap();
        found.into_iter().map(|(key, _)| (key.start, key.end)).collect::<Vec<_>>()
    };
    assert_eq!(found((50, 99)).await, [(60, 60), (0, 99), (50, 99)]);
    assert_eq!(found((0, 49)).await, [(7, 7), (0, 99)]);
    assert_eq!(found(WHOLE).await.len(), 5);
    assert!(store.chains(&subscription("sub_b"), "arn", WHOLE).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_waits_in_a_chain_is_listed_and_counted_and_nobody_else_makes_it_due() {
    let (_aws, store) = store().await;
    let mine = tenure(&store, 1).await.unwrap();
    let writes = [
        (key(7, 7), ChainWrite::Stand(head(None))),
        (key(7, 7), ChainWrite::Append(parked(1, 60_000))),
        (key(7, 7), ChainWrite::Append(parked(2, 60_000))),
    ];
    store.write_chains(&mine, &writes).await.unwrap();
    let id = subscription("sub_a");
    assert_eq!(store.parked_count(&id, 10).await.unwrap().count, 2);
    let first = store.list(&id, None, 1).await.unwrap();
    let second = store.list(&id, first.next.as_deref(), 5).await.unwrap();
    let listed = [&first.deliveries[0].key, &second.deliveries[0].key];
    let both = [parked(1, 0).key(), parked(2, 0).key()];
    assert!(both.iter().all(|key| listed.contains(&key)), "{listed:?}");
    let made = store.make_due(&id, NOW, 10).await.unwrap();
    assert_eq!((made.made, made.more), (0, false));
    for bucket in 0..DUE_BUCKETS {
        assert!(store.due(bucket, NOW + 100_000, 10).await.unwrap().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopped_chain_goes_on_from_the_message_that_stopped_it_alone() {
    let (_aws, store) = store().await;
    let mine = tenure(&store, 1).await.unwrap();
    let (first, other) = (parked(1, 0), parked(2, 0));
    let stopped = ChainHead { stopped: true, ..head(Some(&first)) };
    store.write_chains(&mine, &[(key(7, 7), ChainWrite::Stand(stopped))]).await.unwrap();
    let (id, stream) = (subscription("sub_a"), Arc::from("arn"));
    let resume = async |message: &MessageId| {
        store.resume_chain(&id, &stream, message, NOW + 9).await.unwrap()
    };
    assert!(!resume(&other.message.id).await);
    assert!(resume(&first.message.id).await);
    assert!(resume(&first.message.id).await, "it goes on already");
    let now = store.chain(&mine.chain(&key(7, 7))).await.unwrap().unwrap();
    assert_eq!((now.attempts, now.due_at_ms, now.stopped), (0, NOW + 9, false));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_waits_in_order_is_traced_and_the_first_with_what_it_met() {
    let (_aws, store) = store().await;
    let (first, second) = (parked(1, 0), parked(2, 0));
    let Position { stream_arn, shard_id, .. } = &first.message.position;
    let mine = store.take_tenure(&subscription("sub_a"), stream_arn, shard_id, 1).await.unwrap();
    let at = ChainKey { start: 7, end: 7, shard: shard_id.clone() };
    let append = |one: &ParkedDelivery| (at.clone(), ChainWrite::Append(one.clone()));
    let stand = (at.clone(), ChainWrite::Stand(head(Some(&first))));
    store.write_chains(&mine, &[stand, append(&first), append(&second)]).await.unwrap();
    let traced = async |one: &ParkedDelivery, hash_key| {
        let trace = store.trace(&one.key(), Some((&one.message, hash_key)), NOW).await.unwrap();
        trace.parked.map(|found| (found.attempts, found.due_at_ms))
    };
    assert_eq!(traced(&first, 7).await, Some((2, NOW + 5_000)));
    assert_eq!(traced(&second, 7).await, Some((1, NOW)));
    assert_eq!(traced(&second, 8).await, None);
}

#[tokio::test(start_paused = true)]
async fn what_a_subscription_leaves_in_chains_is_found_by_its_id_and_removed_with_its_heads() {
    let (_aws, store) = store().await;
    let mine = tenure(&store, 1).await.unwrap();
    let mut writes: Vec<_> =
        (0..5).map(|n| (key(u128::from(n % 2), 7), ChainWrite::Append(parked(n, 0)))).collect();
    writes.extend([0, 1].map(|n| (key(n, 7), ChainWrite::Stand(head(None)))));
    store.write_chains(&mine, &writes).await.unwrap();
    // One that is in no chain is not meant.
    assert_eq!(store.park(&[parked(9, 0)]).await, [Ok(Parked::New)]);
    let id = subscription("sub_a");
    let some = store.leftovers(&id, 3).await.unwrap();
    assert_eq!(some.len(), 3);
    assert_eq!(store.leftovers(&subscription("sub_b"), 10).await.unwrap(), []);
    for (chain, chained) in store.leftovers(&id, 10).await.unwrap() {
        assert!((0..5).map(|n| parked(n, 0)).any(|one| one == chained.delivery));
        store.remove_leftover(&chain, &chained).await.unwrap();
    }
    assert_eq!(store.leftovers(&id, 10).await.unwrap(), []);
    assert!(store.chains(&id, "arn", WHOLE).await.unwrap().is_empty(), "nothing stands");
    assert_eq!(store.parked_count(&id, 10).await.unwrap().count, 1);
}

#[tokio::test(start_paused = true)]
async fn large_payloads_are_whole_again_and_leave_nothing_behind() {
    let (_aws, store) = store().await;
    let mine = tenure(&store, 1).await.unwrap();
    let mut large = parked(1, 0);
    large.message.payload = crate::testing::noise(500_000);
    store.write_chains(&mine, &[(key(7, 7), ChainWrite::Append(large.clone()))]).await.unwrap();
    let page = store.chain_page(&mine.chain(&key(7, 7)), 1).await.unwrap();
    assert_eq!(page.deliveries[0].delivery, large);
    let parts = page.deliveries[0].parts.clone().unwrap();
    let settle = (key(7, 7), ChainWrite::Settle(page.deliveries[0].clone()));
    store.write_chains(&mine, &[settle]).await.unwrap();
    assert!(store.parts.read("test", &parts, true).await.is_err(), "its parts are gone");
}
