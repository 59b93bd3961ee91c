//! Requests over the embedded DynamoDB, with what goes wrong between the steps.

use local_aws::{Effect, LocalAws};

use super::*;
use crate::testing::{APP, NOW, dynamodb, fail, repeating_client_of};

const LEASE: Duration = Duration::from_secs(30);
const FIRST: Fingerprint = Fingerprint([1; 32]);

fn name(client: &str, key: &str) -> RequestName {
    let (client, key) = (ClientId::parse(client).unwrap(), RequestKey::parse(key).unwrap());
    RequestName { client, key }
}

async fn store() -> (LocalAws, RequestStore) {
    let (aws, client) = dynamodb().await;
    (aws, RequestStore::new(client, APP))
}

fn kept() -> KeptAnswer {
    KeptAnswer { status: 200, body: Bytes::from_static(b"{\"taken\":1}") }
}

async fn claimed(
    store: &RequestStore,
    name: &RequestName,
    token: &str,
    now_ms: i64,
) -> RequestClaim {
    match store.begin(name, &FIRST, token, now_ms, LEASE).await.unwrap() {
        Begun::Mine(claim) => claim,
        found => panic!("{token}: {found:?}"),
    }
}

#[test]
fn keys_are_short_visible_text() {
    for good in ["a", "8e03978e-40d5-43dd-bc93-6894a57f9324", "a#b c~", &"k".repeat(255)] {
        assert_eq!(RequestKey::parse(good).unwrap().as_str(), good);
    }
    for bad in ["", "a\n", "ä", &"k".repeat(256)] {
        assert!(RequestKey::parse(bad).is_err(), "{bad:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_done_once_and_its_answer_kept_for_a_day() {
    let (_aws, store) = store().await;
    let one = name("c", "k");
    let claim = claimed(&store, &one, "t1", NOW).await;
    let again = async |fingerprint: &Fingerprint, now_ms: i64| {
        store.begin(&one, fingerprint, "t2", now_ms, LEASE).await.unwrap()
    };
    assert_eq!(again(&FIRST, NOW + 1).await, Begun::InWork { until_ms: NOW + 30_000 });
    assert_eq!(again(&Fingerprint([2; 32]), NOW + 1).await, Begun::Other);
    store.answer(&claim, &kept(), NOW + 5).await.unwrap();
    assert_eq!(again(&FIRST, NOW + 40_000).await, Begun::Answered(kept()));
    assert_eq!(again(&Fingerprint([2; 32]), NOW + 40_000).await, Begun::Other);
    let day = i64::try_from(REQUEST_RETENTION.as_millis()).unwrap();
    assert_eq!(again(&FIRST, NOW + day).await, Begun::Answered(kept()));
    // TTL may take its time: what has expired is not there.
    assert!(matches!(again(&Fingerprint([2; 32]), NOW + day + 2_000).await, Begun::Mine(_)));
}

#[tokio::test(start_paused = true)]
async fn the_same_key_of_another_client_is_another_request() {
    let (_aws, store) = store().await;
    for (client, key) in [("c", "k"), ("d", "k"), ("c", "k#k"), ("c", "K")] {
        claimed(&store, &name(client, key), "t1", NOW).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_dies_on_a_request_leaves_it_to_the_next_after_its_lease() {
    let (_aws, store) = store().await;
    let one = name("c", "k");
    let dead = claimed(&store, &one, "t1", NOW).await;
    let late = NOW + 30_000;
    let other = store.begin(&one, &Fingerprint([2; 32]), "t2", late, LEASE).await.unwrap();
    assert_eq!(other, Begun::Other, "the key is still that request's");
    let next = claimed(&store, &one, "t3", late).await;
    // The dead was only slow: it has lost, and changes nothing.
    assert!(store.answer(&dead, &kept(), late).await.unwrap_err().is_conflict());
    assert!(store.forget(&dead).await.unwrap_err().is_conflict());
    store.answer(&next, &kept(), late).await.unwrap();
    assert!(store.forget(&next).await.unwrap_err().is_conflict(), "an answer stays");
}

#[tokio::test(start_paused = true)]
async fn what_came_to_nothing_begins_anew_also_as_another_request() {
    let (_aws, store) = store().await;
    let one = name("c", "k");
    let claim = claimed(&store, &one, "t1", NOW).await;
    store.forget(&claim).await.unwrap();
    let other = store.begin(&one, &Fingerprint([2; 32]), "t2", NOW, LEASE).await.unwrap();
    assert!(matches!(other, Begun::Mine(_)));
}

#[tokio::test(start_paused = true)]
async fn a_step_whose_reply_is_lost_is_known_when_it_is_repeated() {
    let (aws, store) = store().await;
    let store = RequestStore { client: repeating_client_of(&aws), table: store.table };
    let one = name("c", "k");
    fail(&aws, "PutItem", Effect::LostReply, 1);
    let claim = claimed(&store, &one, "t1", NOW).await;
    fail(&aws, "UpdateItem", Effect::LostReply, 1);
    store.answer(&claim, &kept(), NOW).await.unwrap();
    let found = store.begin(&one, &FIRST, "t2", NOW, LEASE).await.unwrap();
    assert_eq!(found, Begun::Answered(kept()));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_no_item_holds_is_refused() {
    let (_aws, store) = store().await;
    let claim = claimed(&store, &name("c", "k"), "t1", NOW).await;
    let large = KeptAnswer { status: 200, body: Bytes::from(vec![b'1'; MAX_ANSWER_BYTES + 1]) };
    let refused = store.answer(&claim, &large, NOW).await.unwrap_err().to_string();
    assert!(refused.contains("bytes") && refused.contains("allowed"), "{refused}");
    let largest = KeptAnswer { status: 200, body: Bytes::from(vec![b'1'; MAX_ANSWER_BYTES]) };
    store.answer(&claim, &largest, NOW).await.unwrap();
}
