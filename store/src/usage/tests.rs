//! Charges over a real SDK client and an embedded DynamoDB.

use local_aws::Effect;

use super::*;
use crate::testing::{APP, calls, dynamodb, fail};

const DAY: i64 = 20_783;
const SECOND: i64 = 1_000_000_000;
const NOON: i64 = (DAY * 24 + 12) * 3_600 * SECOND;

fn client(id: &str) -> ClientId {
    ClientId::parse(id).unwrap()
}

fn charge(requests: u64, from_ns: i64) -> Charge {
    let cost_ns = i64::try_from(requests).unwrap() * SECOND / 10;
    Charge { requests, bytes: requests * 100, cost_ns, from_ns, is_going_on: false }
}

#[tokio::test]
async fn charges_add_up_and_the_rate_is_paid_on_from_where_it_is() {
    let (_aws, dynamodb) = dynamodb().await;
    let store = UsageStore::new(dynamodb, APP);
    let one = client("one");
    assert_eq!(store.used(&one, DAY).await.unwrap(), Usage::default());
    let first = store.charge(&one, DAY, &charge(20, NOON)).await.unwrap();
    let paid = |seconds: i64| NOON + seconds * SECOND;
    assert_eq!(first, Usage { requests: 20, bytes: 2_000, paid_until_ns: paid(2) });
    let earlier = store.charge(&one, DAY, &charge(10, NOON)).await.unwrap();
    assert_eq!(earlier.paid_until_ns, paid(3), "behind what is paid for");
    let later = store.charge(&one, DAY, &charge(10, paid(60))).await.unwrap();
    assert_eq!(later, Usage { requests: 40, bytes: 4_000, paid_until_ns: paid(61) });
    assert_eq!(store.used(&one, DAY).await.unwrap(), later);
    for (who, day) in [("one", DAY + 1), ("two", DAY)] {
        assert_eq!(store.used(&client(who), day).await.unwrap(), Usage::default(), "{who} {day}");
    }
}

#[tokio::test]
async fn a_right_guess_is_one_write_and_a_wrong_one_two() {
    let (aws, dynamodb) = dynamodb().await;
    let store = UsageStore::new(dynamodb, APP);
    let one = client("one");
    for (guess, from, writes) in [(false, 0, 1), (true, 0, 2), (false, 1, 4), (true, 90, 6)] {
        let charge = Charge { is_going_on: guess, ..charge(20, NOON + from * SECOND) };
        store.charge(&one, DAY, &charge).await.unwrap();
        assert_eq!(calls(&aws, "UpdateItem"), writes, "{guess} {from}");
    }
}

#[tokio::test]
async fn many_tasks_lose_nothing_of_each_other() {
    let (_aws, dynamodb) = dynamodb().await;
    let one = client("one");
    let tasks = (0..40).map(|n| {
        let (store, one) = (UsageStore::new(dynamodb.clone(), APP), one.clone());
        async move { store.charge(&one, DAY, &charge(5, NOON + n)).await.unwrap() }
    });
    futures::future::join_all(tasks).await;
    let used = UsageStore::new(dynamodb, APP).used(&one, DAY).await.unwrap();
    assert_eq!((used.requests, used.bytes), (200, 20_000));
    let paid = used.paid_until_ns - NOON - 20 * SECOND;
    assert!((0..40).contains(&paid), "from the first of them on: {paid}");
}

#[tokio::test]
async fn an_item_expires_five_weeks_after_its_day_and_failures_say_what_helps() {
    let (aws, dynamodb) = dynamodb().await;
    let store = UsageStore::new(dynamodb.clone(), APP);
    let one = client("one");
    store.charge(&one, DAY, &charge(1, NOON)).await.unwrap();
    let scan = dynamodb.scan().table_name("test-access").send().await.unwrap();
    let item = ItemReader::new("scan", scan.items()[0].clone());
    assert_eq!(item.text("pk").unwrap(), "usage#one");
    assert_eq!(item.number::<i64>(EXPIRES_AT).unwrap(), (DAY + 1 + 35) * 86_400);
    fail(&aws, "UpdateItem", Effect::Throttle, 1);
    let error = store.charge(&one, DAY, &charge(1, NOON)).await.unwrap_err();
    assert_eq!(error.class(), crate::Class::Retry);
}
