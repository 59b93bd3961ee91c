//! Messages over a real SDK client and an embedded DynamoDB.

use local_aws::Effect;

use super::*;
use crate::Signer;
use crate::testing::{
    APP, NOW, calls, client_of, dynamodb, entity, fail, integration, kept, message, noise,
};

/// Stores messages `0..count` about `us` and gives the store.
async fn filled(count: u32) -> (local_aws::LocalAws, DynamoMessages) {
    let (aws, client) = dynamodb().await;
    let store = DynamoMessages::new(client, APP);
    let batch: Vec<StoreItem> =
        (0..count).map(|n| kept(message("us", n, format!("{{\"n\":{n}}}")))).collect();
    let report = store.put(&batch).await;
    assert!(report.outcomes.iter().all(|o| *o == PutOutcome::Stored), "{report:?}");
    (aws, store)
}

fn query(limit: usize) -> MessageQuery {
    let mut query = MessageQuery::new(integration("quakes"), entity("us"), NOW);
    query.limit = limit;
    query
}

/// Reads all pages and gives the payloads, in order.
async fn read_all(store: &DynamoMessages, mut query: MessageQuery) -> Vec<String> {
    let mut all = Vec::new();
    for _ in 0..100 {
        let page = store.query(&query).await.unwrap();
        assert!(page.messages.len() <= query.limit);
        all.extend(page.messages.iter().map(|m| String::from_utf8(m.payload.to_vec()).unwrap()));
        match page.next {
            None => return all,
            next => query.after = next,
        }
    }
    panic!("pages do not end");
}

#[tokio::test]
async fn a_message_comes_back_as_it_was_put() {
    let (_aws, client) = dynamodb().await;
    let store = DynamoMessages::new(client, APP);
    let mut odd = message("a#b\tc/\u{fc}", 3, "{}");
    odd.time_ms = -62_135_596_700_000;
    odd.position.index = 4_294_967;
    let report = store.put(&[kept(odd.clone())]).await;
    assert_eq!(report.outcomes, [PutOutcome::Stored]);
    let found = store.latest(&odd.integration, &odd.entity, NOW, true).await.unwrap();
    assert_eq!(found.as_ref(), Some(&odd));
    let found = store.get(&Locator::of(&odd), NOW, false).await.unwrap();
    assert_eq!(found, Some(odd));
}

#[tokio::test]
async fn pages_are_in_time_order_without_gap_or_overlap() {
    let (_aws, store) = filled(60).await;
    let newest: Vec<String> = (0..60).rev().map(|n| format!("{{\"n\":{n}}}")).collect();
    for limit in [1, 7, 60, 500] {
        assert_eq!(read_all(&store, query(limit)).await, newest, "limit {limit}");
    }
    let mut oldest = query(7);
    oldest.order = Order::Oldest;
    let expected: Vec<String> = newest.into_iter().rev().collect();
    assert_eq!(read_all(&store, oldest).await, expected);
}

#[tokio::test]
async fn a_page_that_holds_everything_has_no_next() {
    let (_aws, store) = filled(5).await;
    assert_eq!(store.query(&query(5)).await.unwrap().next, None);
    assert!(store.query(&query(4)).await.unwrap().next.is_some());
}

#[tokio::test]
async fn times_bound_a_page_from_inclusive_to_exclusive() {
    let (_aws, store) = filled(10).await;
    let mut bounded = query(50);
    (bounded.from_ms, bounded.to_ms) = (Some(NOW + 2_000), Some(NOW + 5_000));
    bounded.order = Order::Oldest;
    assert_eq!(read_all(&store, bounded).await, ["{\"n\":2}", "{\"n\":3}", "{\"n\":4}"]);
}

#[tokio::test]
async fn a_redelivery_writes_the_same_item_again() {
    let (_aws, store) = filled(3).await;
    let mut again = kept(message("us", 1, "{\"n\":1}"));
    again.fence = 8;
    assert_eq!(
        store.put(&[again.clone(), again]).await.outcomes,
        [PutOutcome::Stored, PutOutcome::Stored]
    );
    assert_eq!(read_all(&store, query(50)).await.len(), 3);
}

#[tokio::test]
async fn a_clock_in_the_future_does_not_pin_latest() {
    let (_aws, store) = filled(1).await;
    let mut ahead = message("us", 5, "ahead");
    ahead.time_ms = NOW + 100 * 365 * 24 * 3_600 * 1_000;
    let mut later = message("us", 6, "later");
    later.time_ms = ahead.arrived_at_ms + 24 * 3_600 * 1_000 + 1;
    later.arrived_at_ms = later.time_ms;
    store.put(&[kept(ahead.clone()), kept(later)]).await;
    let latest = store.latest(&ahead.integration, &ahead.entity, NOW, true).await.unwrap().unwrap();
    assert_eq!(latest.payload, "later");
    let found = store.get(&Locator::of(&ahead), NOW, true).await.unwrap().unwrap();
    assert_eq!(found.time_ms, ahead.time_ms, "the original time is kept");
}

#[tokio::test]
async fn expired_messages_do_not_exist_and_do_not_hide_live_ones() {
    let (_aws, client) = dynamodb().await;
    let store = DynamoMessages::new(client, APP);
    let mut batch: Vec<StoreItem> = (0..50).map(|n| kept(message("us", n, "old"))).collect();
    let mut live = message("us", 0, "live");
    live.time_ms = NOW - 1_000;
    live.position.index = 1;
    live.arrived_at_ms = NOW + 7_200_000;
    batch.push(kept(live));
    store.put(&batch).await;
    let mut late = query(2);
    late.now_ms = NOW + 3_600_000 + 50_000;
    assert_eq!(read_all(&store, late.clone()).await, ["live"]);
    let latest = store.latest(&late.integration, &late.entity, late.now_ms, false).await.unwrap();
    assert_eq!(latest.unwrap().payload, "live");
    let gone = store.get(&Locator::of(&batch[0].message), late.now_ms, true).await.unwrap();
    assert_eq!(gone, None);
}

#[tokio::test]
async fn large_payloads_are_stored_in_parts_and_read_back_whole() {
    let (_aws, client) = dynamodb().await;
    let store = DynamoMessages::new(client, APP);
    let large = kept(message("us", 1, noise(4 * 1024 * 1024)));
    let middling = kept(message("us", 2, noise(400 * 1024)));
    let small = kept(message("us", 3, "small"));
    let batch = [large.clone(), small.clone(), middling.clone()];
    assert!(store.put(&batch).await.outcomes.iter().all(|o| *o == PutOutcome::Stored));
    let found = store.get(&Locator::of(&large.message), NOW, true).await.unwrap();
    assert!(found.as_ref() == Some(&large.message));
    let page = store.query(&query(50)).await.unwrap();
    let lengths: Vec<usize> = page.messages.iter().map(|m| m.payload.len()).collect();
    assert_eq!(lengths, [5, 400 * 1024], "the page ends before it is over its bytes");
    let mut rest = query(50);
    rest.after = page.next;
    let page = store.query(&rest).await.unwrap();
    assert!(page.messages == [large.message] && page.next.is_none());
}

#[tokio::test]
async fn the_largest_record_is_stored_again_as_the_same_items_and_disappears_with_its_head() {
    let (_aws, client) = dynamodb().await;
    let store = DynamoMessages::new(client.clone(), APP);
    let largest = kept(message("us", 1, noise(10 * 1024 * 1024)));
    for _ in 0..2 {
        let stored = store.put(std::slice::from_ref(&largest)).await.outcomes;
        assert_eq!(stored, [PutOutcome::Stored]);
    }
    let page = store.query(&query(50)).await.unwrap();
    assert!(page.messages == [largest.message] && page.next.is_none());
    let mut expiries = Vec::new();
    let mut items = client.scan().table_name(format!("{APP}-messages")).into_paginator().send();
    while let Some(scanned) = items.next().await {
        let expiry =
            |item: &crate::item::Item| item[crate::item::EXPIRES_AT].as_n().unwrap().clone();
        expiries.extend(scanned.unwrap().items().iter().map(expiry));
    }
    assert_eq!(expiries.len(), 28, "27 parts and their head, however often it is stored");
    assert!(expiries.iter().all(|expiry| *expiry == expiries[0]), "the TTL removes them together");
    let mut late = query(50);
    late.now_ms = NOW + 2 * 3_600_000;
    assert!(store.query(&late).await.unwrap().messages.is_empty(), "expired is gone at once");
}

#[tokio::test(start_paused = true)]
async fn parts_that_are_left_out_are_written_again_before_the_head() {
    let (aws, client) = dynamodb().await;
    let store = DynamoMessages::new(client, APP);
    fail(&aws, "BatchWriteItem", Effect::Partial(0.5), 2);
    let large = kept(message("us", 1, noise(2 * 1024 * 1024)));
    assert_eq!(store.put(std::slice::from_ref(&large)).await.outcomes, [PutOutcome::Stored]);
    let found = store.get(&Locator::of(&large.message), NOW, true).await.unwrap();
    assert!(found == Some(large.message));
}

#[tokio::test]
async fn a_message_that_no_item_can_hold_is_rejected_alone() {
    let (_aws, client) = dynamodb().await;
    let store = DynamoMessages::new(client, APP);
    let huge = kept(message("us", 1, vec![0; 16 * 1024 * 1024]));
    let mut endless = message("us", 2, "x");
    endless.position.sequence = Arc::from("9".repeat(2_000));
    let mut batch: Vec<StoreItem> = (10..30).map(|n| kept(message("us", n, "fine"))).collect();
    batch.insert(4, huge);
    batch.insert(9, kept(endless));
    let outcomes = store.put(&batch).await.outcomes;
    for (index, outcome) in outcomes.iter().enumerate() {
        let rejected = matches!(outcome, PutOutcome::Rejected(_));
        assert_eq!(rejected, index == 4 || index == 9, "{index}: {outcome:?}");
    }
    assert_eq!(read_all(&store, query(50)).await.len(), 20);
}

#[tokio::test]
async fn what_a_call_leaves_out_is_reported_and_nothing_else() {
    let (aws, client) = dynamodb().await;
    let store = DynamoMessages::new(client, APP);
    fail(&aws, "BatchWriteItem", Effect::Partial(0.4), 1);
    let batch: Vec<StoreItem> = (0..20).map(|n| kept(message("us", n, "x"))).collect();
    let outcomes = store.put(&batch).await.outcomes;
    let stored = outcomes.iter().filter(|o| **o == PutOutcome::Stored).count();
    let again = PutOutcome::Retry(RetryReason::Unprocessed);
    assert!((1..20).contains(&stored), "{outcomes:?}");
    assert!(outcomes.iter().all(|o| *o == PutOutcome::Stored || *o == again));
    assert_eq!(read_all(&store, query(50)).await.len(), stored);
    assert_eq!(calls(&aws, "BatchWriteItem"), 1, "one round, nothing repeated inside");
}

#[tokio::test]
async fn failures_of_the_table_are_to_be_tried_again() {
    let (aws, client) = dynamodb().await;
    let store = DynamoMessages::new(client, APP);
    let batch = [kept(message("us", 1, "x"))];
    let outcome = async |effect| {
        fail(&aws, "BatchWriteItem", effect, 1);
        store.put(&batch).await.outcomes.pop().unwrap()
    };
    assert_eq!(outcome(Effect::Throttle).await, PutOutcome::Retry(RetryReason::Throttled));
    let unavailable = |o: &PutOutcome| matches!(o, PutOutcome::Retry(RetryReason::Unavailable(_)));
    for effect in [Effect::InternalError, Effect::LostReply, Effect::Cut] {
        let found = outcome(effect.clone()).await;
        assert!(unavailable(&found), "{effect:?}: {found:?}");
    }
    let elsewhere = DynamoMessages::new(client_of(&aws), "nothing-here");
    let found = elsewhere.put(&batch).await.outcomes.pop().unwrap();
    assert!(matches!(found, PutOutcome::Retry(RetryReason::Refused(_))), "{found:?}");
}

#[tokio::test]
async fn sixty_messages_take_three_calls() {
    let (aws, _store) = filled(60).await;
    assert_eq!(calls(&aws, "BatchWriteItem"), 3);
}

#[test]
fn sort_times_are_clamped_ahead_and_kept_behind() {
    let day = 24 * 3_600 * 1_000;
    assert_eq!(sort_time(NOW + 5, NOW), NOW + 5);
    assert_eq!(sort_time(NOW + day + 1, NOW), NOW + day);
    assert_eq!(sort_time(-NOW, NOW), -NOW);
    assert_eq!(sort_time(i64::MAX, i64::MAX), i64::MAX);
}

#[test]
fn string_order_is_time_order_then_stream_order() {
    let mut keys = Vec::new();
    for (time_ms, sequence, index) in [
        (-1, "9", 0),
        (0, "9", 0),
        (5, "9", 0),
        (5, "10", 0),
        (5, "10", 2),
        (5, "10", 10),
        (70_000_000_000_000, "1", 0),
    ] {
        let mut one = message("us", 0, "");
        (one.time_ms, one.arrived_at_ms) = (time_ms, i64::MAX / 2);
        (one.position.sequence, one.position.index) = (Arc::from(sequence), index);
        keys.push(Key::of(&one).sort);
    }
    let mut sorted = keys.clone();
    sorted.sort();
    assert_eq!(keys, sorted);
}

#[test]
fn a_locator_and_a_cursor_come_back_and_cannot_be_changed() {
    let signer = Signer::new(&[1; 32]).unwrap();
    let locator = Locator::of(&message("a\tb#c", 1, ""));
    let text = locator.encode(&signer);
    assert_eq!(Locator::decode(&signer, &text).unwrap(), locator);
    assert!(text.len() < 400, "{}", text.len());
    let cursor = Cursor { after: locator, order: Order::Oldest };
    let cursor_text = cursor.encode(&signer);
    assert_eq!(Cursor::decode(&signer, &cursor_text).unwrap(), cursor);
    assert!(Cursor::decode(&signer, &text).is_err(), "a locator is no cursor");
    assert!(Locator::decode(&signer, &cursor_text).is_err(), "a cursor is no locator");
    assert!(Locator::decode(&Signer::new(&[2; 32]).unwrap(), &text).is_err());
}
