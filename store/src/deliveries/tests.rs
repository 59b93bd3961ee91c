//! Parked deliveries and dead letters over a real SDK client and an embedded DynamoDB.

use local_aws::Effect;

use super::*;
use crate::messages::PutOutcome;
use crate::testing::{
    APP, NOW, calls, dynamodb, fail, integration, message, noise, repeating_client_of,
};
use crate::{Class, StoreError};

const LEASE: Duration = Duration::from_secs(30);

pub(super) fn subscription(name: &str) -> SubscriptionId {
    SubscriptionId::parse(name).unwrap()
}

/// Message `n` parked for `sub_a`, due `due_in_ms` after now.
pub(super) fn parked(n: u32, due_in_ms: i64) -> ParkedDelivery {
    ParkedDelivery {
        subscription: subscription("sub_a"),
        message: message("us", n, format!("payload {n}")),
        attempts: 1,
        first_failed_at_ms: NOW,
        due_at_ms: NOW + due_in_ms,
        last_error: "connection refused".to_owned(),
        fence: 7,
    }
}

pub(super) async fn store() -> (local_aws::LocalAws, DeliveryStore) {
    let (aws, client) = dynamodb().await;
    (aws, DeliveryStore::new(client, APP))
}

/// What is due at `now_ms`, over all buckets.
async fn due(store: &DeliveryStore, now_ms: i64) -> Vec<DueDelivery> {
    let mut all = Vec::new();
    for bucket in 0..DUE_BUCKETS {
        all.extend(store.due(bucket, now_ms, 100).await.unwrap());
    }
    all
}

#[tokio::test]
async fn a_parked_delivery_is_due_in_time_and_comes_back_whole() {
    let (_aws, store) = store().await;
    let delivery = parked(1, 5_000);
    assert_eq!(store.park(std::slice::from_ref(&delivery)).await, [Ok(Parked::New)]);
    assert_eq!(due(&store, NOW + 4_999).await, []);
    let found = due(&store, NOW + 5_000).await;
    assert_eq!(found, [DueDelivery { key: delivery.key(), due_at_ms: NOW + 5_000 }]);
    let claimed = store.claim(&found[0].key, "w1", NOW + 5_000, LEASE).await.unwrap().unwrap();
    assert_eq!(claimed.delivery, delivery);
    assert_eq!(claimed.claim.until_ms, NOW + 35_000);
    store.settle(&claimed.claim).await.unwrap();
    assert_eq!(due(&store, i64::MAX / 2).await, []);
}

#[tokio::test]
async fn parking_a_redelivered_message_makes_no_second_delivery() {
    let (_aws, store) = store().await;
    store.park(&[parked(1, 5_000)]).await[0].clone().unwrap();
    let mut again = parked(1, 60_000);
    (again.attempts, again.first_failed_at_ms, again.fence) = (9, NOW + 55_000, 8);
    assert_eq!(store.park(&[again]).await, [Ok(Parked::Already)]);
    let count = store.parked_count(&subscription("sub_a"), 10).await.unwrap();
    assert_eq!(count, ParkedCount { count: 1, complete: true });
    let key = parked(1, 0).key();
    let claimed = store.claim(&key, "w1", NOW + 5_000, LEASE).await.unwrap().unwrap();
    assert_eq!(claimed.delivery, parked(1, 5_000), "attempts and schedule stand");
}

#[tokio::test]
async fn one_message_for_two_subscriptions_is_two_deliveries() {
    let (_aws, store) = store().await;
    let mut other = parked(1, 0);
    other.subscription = subscription("sub_b");
    let outcomes = store.park(&[parked(1, 0), other]).await;
    assert_eq!(outcomes, [Ok(Parked::New), Ok(Parked::New)]);
    assert_eq!(due(&store, NOW).await.len(), 2);
}

#[tokio::test]
async fn a_claim_excludes_others_until_it_ends() {
    let (_aws, store) = store().await;
    let key = parked(1, 0).key();
    store.park(&[parked(1, 0)]).await[0].clone().unwrap();
    let first = store.claim(&key, "w1", NOW, LEASE).await.unwrap().unwrap();
    assert_eq!(store.claim(&key, "w2", NOW, LEASE).await.unwrap(), None);
    assert_eq!(store.claim(&key, "w1", NOW + 29_999, LEASE).await.unwrap(), None);
    assert_eq!(due(&store, NOW + 29_999).await, []);
    let second = store.claim(&key, "w2", NOW + 30_000, LEASE).await.unwrap().unwrap();
    for lost in [
        store.settle(&first.claim).await,
        store.reschedule(&first.claim, 2, NOW + 60_000, "500").await,
        store.renew(&first.claim, NOW + 90_000).await.map(drop),
    ] {
        let error = lost.unwrap_err();
        assert!(error.is_conflict() && error.class() == Class::Skip, "{error}");
    }
    store.settle(&second.claim).await.unwrap();
    assert_eq!(store.claim(&key, "w1", NOW + 99_000, LEASE).await.unwrap(), None);
}

#[tokio::test]
async fn of_many_workers_one_gets_the_claim() {
    let (_aws, store) = store().await;
    let key = parked(1, 0).key();
    store.park(&[parked(1, 0)]).await[0].clone().unwrap();
    let tries = (0..8).map(|_| store.claim(&key, "w1", NOW, LEASE));
    let claims = futures::future::try_join_all(tries).await.unwrap();
    assert_eq!(claims.iter().flatten().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_was_lost_is_still_a_claim() {
    let (aws, plain) = store().await;
    plain.park(&[parked(1, 0)]).await[0].clone().unwrap();
    let store = DeliveryStore::new(repeating_client_of(&aws), APP);
    fail(&aws, "UpdateItem", Effect::LostReply, 1);
    let claimed = store.claim(&parked(1, 0).key(), "w1", NOW, LEASE).await.unwrap().unwrap();
    assert_eq!(calls(&aws, "UpdateItem"), 2);
    store.settle(&claimed.claim).await.unwrap();
}

#[tokio::test]
async fn a_renewed_claim_lasts_longer() {
    let (_aws, store) = store().await;
    let key = parked(1, 0).key();
    store.park(&[parked(1, 0)]).await[0].clone().unwrap();
    let claimed = store.claim(&key, "w1", NOW, LEASE).await.unwrap().unwrap();
    let renewed = store.renew(&claimed.claim, NOW + 50_000).await.unwrap();
    assert_eq!(store.claim(&key, "w2", NOW + 40_000, LEASE).await.unwrap(), None);
    store.settle(&renewed).await.unwrap();
}

#[tokio::test]
async fn a_failed_attempt_moves_the_due_time() {
    let (_aws, store) = store().await;
    let key = parked(1, 0).key();
    store.park(&[parked(1, 0)]).await[0].clone().unwrap();
    let claimed = store.claim(&key, "w1", NOW, LEASE).await.unwrap().unwrap();
    store.reschedule(&claimed.claim, 2, NOW + 300_000, &"500 ".repeat(1_000)).await.unwrap();
    assert_eq!(due(&store, NOW + 299_999).await, []);
    let again = store.claim(&key, "w2", NOW + 300_000, LEASE).await.unwrap().unwrap();
    assert_eq!((again.delivery.attempts, again.delivery.due_at_ms), (2, NOW + 300_000));
    assert_eq!(again.delivery.last_error.len(), 1_000);
}

#[tokio::test]
async fn a_lost_answer_of_settling_is_not_a_lost_claim() {
    let (aws, store) = store().await;
    let key = parked(1, 0).key();
    store.park(&[parked(1, 0)]).await[0].clone().unwrap();
    let claimed = store.claim(&key, "w1", NOW, LEASE).await.unwrap().unwrap();
    fail(&aws, "DeleteItem", Effect::LostReply, 1);
    assert_eq!(store.settle(&claimed.claim).await.unwrap_err().class(), Class::Retry);
    store.settle(&claimed.claim).await.unwrap();
}

#[tokio::test]
async fn failures_of_parking_are_to_be_tried_again_each_for_itself() {
    let (aws, store) = store().await;
    fail(&aws, "PutItem", Effect::Throttle, 1);
    let outcomes = store.park(&[parked(1, 0), parked(2, 0), parked(3, 0)]).await;
    let failed: Vec<_> = outcomes.iter().filter_map(|o| o.as_ref().err()).collect();
    assert!(matches!(failed[..], [StoreError::Throttled { .. }]), "{outcomes:?}");
    assert_eq!(due(&store, NOW).await.len(), 2);
}

#[tokio::test]
async fn large_payloads_are_parked_in_parts() {
    let (_aws, store) = store().await;
    let mut large = parked(1, 0);
    large.message.payload = noise(3 * 1024 * 1024);
    store.park(std::slice::from_ref(&large)).await[0].clone().unwrap();
    let mut again = large.clone();
    again.first_failed_at_ms += 1_000;
    assert_eq!(store.park(&[again]).await, [Ok(Parked::Already)]);
    let claimed = store.claim(&large.key(), "w1", NOW, LEASE).await.unwrap().unwrap();
    assert!(claimed.delivery == large);
    store.settle(&claimed.claim).await.unwrap();
    let parts = claimed.claim.parts.unwrap();
    assert!(store.parts.read("test", &parts, true).await.is_err(), "the parts are gone");
}

#[tokio::test]
async fn a_recovered_destination_has_its_deliveries_due_at_its_rate() {
    let (_aws, store) = store().await;
    let deliveries: Vec<_> = (0..30).map(|n| parked(n, 60_000 + i64::from(n))).collect();
    assert!(store.park(&deliveries).await.iter().all(|o| *o == Ok(Parked::New)));
    let mut other = parked(1, 60_000);
    other.subscription = subscription("sub_b");
    store.park(&[other]).await[0].clone().unwrap();
    let sub = subscription("sub_a");
    let first = store.make_due(&sub, NOW, 10).await.unwrap();
    assert_eq!(first, MadeDue { made: 10, more: true });
    assert_eq!(due(&store, NOW).await.len(), 10);
    let claimed = store.claim(&deliveries[0].key(), "w1", NOW, LEASE).await.unwrap().unwrap();
    assert_eq!(claimed.delivery.due_at_ms, NOW);
    let second = store.make_due(&sub, NOW + 1_000, 100).await.unwrap();
    assert_eq!(second, MadeDue { made: 20, more: false }, "what is claimed is left alone");
    assert_eq!(due(&store, NOW + 1_000).await.len(), 29, "the other subscription is left alone");
    store.settle(&claimed.claim).await.unwrap();
}

#[tokio::test]
async fn counts_are_bounded_and_say_so() {
    let (_aws, store) = store().await;
    let deliveries: Vec<_> = (0..12).map(|n| parked(n, 0)).collect();
    store.park(&deliveries).await;
    let sub = subscription("sub_a");
    let count = async |cap| store.parked_count(&sub, cap).await.unwrap();
    assert_eq!(count(100).await, ParkedCount { count: 12, complete: true });
    assert_eq!(count(12).await, ParkedCount { count: 12, complete: true });
    assert_eq!(count(5).await, ParkedCount { count: 5, complete: false });
    let none = store.parked_count(&subscription("sub_z"), 5).await.unwrap();
    assert_eq!(none, ParkedCount { count: 0, complete: true });
}

#[tokio::test]
async fn a_list_pages_through_what_is_parked_in_due_order() {
    let (_aws, store) = store().await;
    let deliveries: Vec<_> = (0..7).map(|n| parked(n, 1_000 * i64::from(n))).collect();
    store.park(&deliveries).await;
    let (mut seen, mut after) = (Vec::new(), None);
    for _ in 0..10 {
        let page = store.list(&subscription("sub_a"), after.as_deref(), 3).await.unwrap();
        seen.extend(page.deliveries);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let keys: Vec<_> = seen.iter().map(|s| s.key.clone()).collect();
    assert_eq!(keys, deliveries.iter().map(ParkedDelivery::key).collect::<Vec<_>>());
    assert_eq!((seen[0].attempts, seen[0].last_error.as_str()), (1, "connection refused"));
    for bad in ["", "x", "1.msg_x", "1"] {
        assert!(store.list(&subscription("sub_a"), Some(bad), 3).await.is_err(), "{bad:?}");
    }
}

/// A letter about message `n`, given up at `NOW`.
fn letter(n: u32, payload: bytes::Bytes) -> DeadLetter {
    let message = message("us", n, payload);
    DeadLetter {
        integration: integration("quakes"),
        reason: DeadReason::NotJson,
        detail: "expected value at byte 0".to_owned(),
        position: message.position,
        partition_key: message.partition_key,
        arrived_at_ms: message.arrived_at_ms,
        fence: 7,
        attempts: 0,
        payload: message.payload,
        subscription: None,
        at_ms: NOW,
    }
}

#[tokio::test]
async fn dead_letters_keep_everything_and_are_listed_newest_first() {
    let (_aws, store) = store().await;
    let mut exhausted = letter(1, noise(100));
    (exhausted.reason, exhausted.attempts) = (DeadReason::DeliveryExhausted, 10);
    exhausted.subscription = Some(subscription("sub_a"));
    let letters =
        [letter(0, noise(0)), exhausted, letter(1, noise(100)), letter(2, noise(900_000))];
    let stored = vec![PutOutcome::Stored; 4];
    assert_eq!(store.dead_letter(&letters).await.outcomes, stored);
    assert_eq!(store.dead_letter(&letters).await.outcomes, stored, "again is harmless");
    let page = store.list_dead_letters(&integration("quakes"), None, 10, NOW).await.unwrap();
    let [zeroth, exhausted, first, second] = letters;
    assert!(page.letters == [second, exhausted, first, zeroth.clone()], "{:?}", page.letters.len());
    assert_eq!(page.next, None);
    let elsewhere = store.list_dead_letters(&integration("flights"), None, 10, NOW).await.unwrap();
    assert!(elsewhere.letters.is_empty());
    let given_up_anew = DeadLetter { at_ms: zeroth.at_ms - 1, ..zeroth.clone() };
    assert!(!store.forget_dead_letter(&given_up_anew).await.unwrap(), "it is another writing");
    assert!(store.forget_dead_letter(&zeroth).await.unwrap());
    let page = store.list_dead_letters(&integration("quakes"), None, 10, NOW).await.unwrap();
    assert_eq!(page.letters.len(), 3);
}

#[tokio::test]
async fn dead_letters_page_and_expire_after_a_fortnight() {
    let (_aws, store) = store().await;
    let letters: Vec<_> = (0..7).map(|n| letter(n, noise(10))).collect();
    store.dead_letter(&letters).await;
    let (mut seen, mut after) = (0, None);
    for _ in 0..10 {
        let page = store
            .list_dead_letters(&integration("quakes"), after.as_deref(), 3, NOW)
            .await
            .unwrap();
        seen += page.letters.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, 7);
    let fortnight = NOW + 14 * 24 * 3_600 * 1_000;
    let page = store.list_dead_letters(&integration("quakes"), None, 10, fortnight).await.unwrap();
    assert!(page.letters.is_empty());
}

#[tokio::test]
async fn a_dead_letter_that_was_not_taken_is_said() {
    let (aws, store) = store().await;
    fail(&aws, "BatchWriteItem", Effect::InternalError, 1);
    let report = store.dead_letter(&[letter(0, noise(10))]).await;
    assert!(matches!(report.outcomes[..], [PutOutcome::Retry(_)]), "{report:?}");
}

#[test]
fn every_reason_has_a_code_that_reads_back() {
    for reason in DeadReason::ALL {
        assert_eq!(DeadReason::from_code(reason.code()), Some(*reason));
        assert!(
            reason
                .code()
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b == b'-' || b.is_ascii_digit())
        );
    }
    assert_eq!(DeadReason::from_code("nonsense"), None);
}

#[tokio::test]
async fn a_page_of_large_dead_letters_ends_before_it_is_over_its_bytes() {
    let (_aws, store) = store().await;
    let letters: Vec<_> = (0..3).map(|n| letter(n, noise(4 * 1024 * 1024))).collect();
    store.dead_letter(&letters).await;
    let quakes = integration("quakes");
    let page = store.list_dead_letters(&quakes, None, 10, NOW).await.unwrap();
    assert_eq!(page.letters.len(), 2);
    let rest = store.list_dead_letters(&quakes, page.next.as_deref(), 10, NOW).await.unwrap();
    assert!(rest.letters == letters[..1] && rest.next.is_none());
}
