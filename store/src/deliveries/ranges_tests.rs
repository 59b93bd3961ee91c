//! Open ranges in an embedded DynamoDB.

use super::*;
use crate::deliveries::ClosedRange;
use crate::testing::{APP, NOW, calls, dynamodb, fail};
use local_aws::Effect;

const STREAM_ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/quakes";

fn range(subscription: &str, claim: &str) -> OpenRange {
    OpenRange {
        subscription: SubscriptionId::parse(subscription).unwrap(),
        stream_arn: Arc::from(STREAM_ARN),
        shard_id: Arc::from("shardId-000000000001"),
        hash_keys: (0, u128::MAX),
        from: RangeStart { sequence: Arc::from("4959"), index: 3, arrived_at_ms: NOW },
        opened_at_ms: NOW,
        lost_at_ms: NOW + 86_400_000,
        version: 2,
        fence: 7,
        claim: claim.to_owned(),
        until_ms: NOW + 60_000,
    }
}

fn holder(claim: &str) -> Holder<'_> {
    Holder { claim, until_ms: NOW + 90_000 }
}

async fn store() -> (local_aws::LocalAws, DeliveryStore) {
    let (aws, client) = dynamodb().await;
    (aws, DeliveryStore::new(client, APP))
}

async fn take(store: &DeliveryStore, fence: u64, claim: &str) -> Result<usize, StoreError> {
    let taken = store.take_ranges(STREAM_ARN, "shardId-000000000001", fence, holder(claim)).await?;
    assert!(taken.iter().all(|range| range.claim == claim && range.fence == fence));
    Ok(taken.len())
}

#[tokio::test]
async fn a_range_comes_back_whole_and_is_listed_beside_the_parked_deliveries() {
    let (_aws, store) = store().await;
    let open = range("sub_a", "w1");
    store.open_range(&open).await.unwrap();
    store.open_range(&range("sub_b", "w1")).await.unwrap();
    let listed = store.list_ranges(&open.subscription).await.unwrap();
    assert_eq!(listed, std::slice::from_ref(&open));
    let parked = store.list(&open.subscription, None, 10).await.unwrap();
    assert_eq!(parked.deliveries, [], "a range is no parked delivery");
    assert_eq!(store.parked_count(&open.subscription, 10).await.unwrap().count, 0);
    let mut on = open.clone();
    on.from.index = 9;
    store.write_range(&on).await.unwrap();
    assert_eq!(store.list_ranges(&open.subscription).await.unwrap(), [on]);
    store.remove_range(&open.key(), "w1").await.unwrap();
    store.remove_range(&open.key(), "w1").await.unwrap();
    assert_eq!(store.list_ranges(&open.subscription).await.unwrap(), []);
}

#[tokio::test]
async fn a_trace_tells_of_the_range_that_is_open_and_of_the_one_that_was_closed() {
    use crate::deliveries::tests::parked;
    let (_aws, store) = store().await;
    let delivery = parked(1, 0);
    let position = &delivery.message.position;
    let open = OpenRange {
        subscription: delivery.subscription.clone(),
        stream_arn: Arc::clone(&position.stream_arn),
        shard_id: Arc::clone(&position.shard_id),
        ..range("sub", "w1")
    };
    let trace = async || {
        store.trace(&delivery.key(), Some((&delivery.message, 7)), NOW + 200_000).await.unwrap()
    };
    assert_eq!((trace().await.range, trace().await.closed), (None, None));
    store.open_range(&open).await.unwrap();
    assert_eq!(trace().await.range, Some(open.clone()));
    for at_ms in [NOW + 120_000, NOW + 60_000, delivery.message.arrived_at_ms - 1] {
        store.note_closed(&open, at_ms).await.unwrap();
    }
    store.remove_range(&open.key(), "w1").await.unwrap();
    let closed = ClosedRange { opened_at_ms: NOW, closed_at_ms: NOW + 60_000 };
    assert_eq!((trace().await.range, trace().await.closed), (None, Some(closed)));
}

#[tokio::test]
async fn a_former_holder_can_neither_move_nor_close_nor_open_a_range() {
    let (_aws, store) = store().await;
    let open = range("sub_a", "w1");
    store.open_range(&open).await.unwrap();
    store.open_range(&open).await.expect("written again after a lost answer");
    assert_eq!(take(&store, 8, "w2").await, Ok(1));
    assert!(store.write_range(&open).await.unwrap_err().is_conflict());
    assert!(store.open_range(&open).await.unwrap_err().is_conflict());
    assert!(store.remove_range(&open.key(), "w1").await.unwrap_err().is_conflict());
    assert!(take(&store, 7, "w1").await.unwrap_err().is_conflict(), "its lease is lost");
    store.remove_range(&open.key(), "w2").await.unwrap();
    assert!(store.write_range(&open).await.unwrap_err().is_conflict(), "it must not come back");
    assert_eq!(take(&store, 9, "w3").await, Ok(0));
}

#[tokio::test]
async fn what_nobody_holds_is_found_and_claimed_once() {
    let (_aws, store) = store().await;
    let open = range("sub_a", "w1");
    store.open_range(&open).await.unwrap();
    let adrift = async |now_ms| {
        let mut all = Vec::new();
        for bucket in 0..RANGE_BUCKETS {
            all.extend(store.adrift_ranges(bucket, now_ms, 10).await.unwrap());
        }
        all
    };
    assert_eq!(adrift(NOW + 59_999).await, []);
    let found = AdriftRange { key: open.key(), since_ms: NOW + 60_000 };
    assert_eq!(adrift(NOW + 60_000).await, [found]);
    let claim = async |who| store.claim_range(&open.key(), NOW + 60_000, holder(who)).await;
    assert_eq!(claim("w2").await.unwrap().unwrap().fence, 7, "its lease stays what it was");
    assert_eq!(claim("w3").await, Ok(None));
    assert!(store.write_range(&open).await.unwrap_err().is_conflict());
    assert_eq!(take(&store, 7, "w4").await, Ok(1), "a lease goes before a claim");
    let under = async |fence| store.take_range(&open.key(), fence, holder("w5")).await;
    assert!(
        under(6).await.unwrap_err().is_conflict(),
        "a lease that was lost gives no right to it"
    );
    assert_eq!(under(8).await.unwrap().unwrap().fence, 8);
}

#[tokio::test]
async fn an_answer_that_was_lost_is_no_loss_of_the_range() {
    let (aws, client) = crate::testing::empty_dynamodb();
    crate::create_tables(&client, APP).await.unwrap();
    let store = DeliveryStore::new(crate::testing::repeating_client_of(&aws), APP);
    let open = range("sub_a", "w1");
    fail(&aws, "PutItem", Effect::LostReply, 1);
    store.open_range(&open).await.unwrap();
    fail(&aws, "UpdateItem", Effect::LostReply, 1);
    assert_eq!(take(&store, 8, "w2").await, Ok(1));
    fail(&aws, "DeleteItem", Effect::LostReply, 1);
    store.remove_range(&open.key(), "w2").await.unwrap();
    assert!(calls(&aws, "DeleteItem") > 1, "it was repeated");
}
