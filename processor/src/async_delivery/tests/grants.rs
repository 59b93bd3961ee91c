//! Push obeys the same grants as pull: what an owner is not granted never reaches its receiver.

use local_aws::{Effect, Fault, Service};
use store::pattern::Pattern;
use store::{Action, Client, DeadReason, FieldMask, Grant, GrantScope};
use tokio::time::sleep;

use super::{SOON, secs};
use crate::async_delivery::testing::{Behaviour, CHANGE, World, owner, subscription};

const HOST: &str = "receiver.example";

async fn world() -> World {
    World::with(&[subscription("sub", "https://receiver.example/")]).await
}

/// Changes the owner, and waits until every worker must have seen it.
async fn change(world: &World, change: impl FnOnce(Client) -> Client) {
    let stored = world.access.get_client(&owner().id).await.unwrap().unwrap();
    world.access.put_client(&change(stored), &CHANGE).await.unwrap();
    sleep(SOON).await;
}

fn only(prefix: &str) -> Vec<Grant> {
    let entity_prefix = Some(prefix.to_owned());
    vec![Grant { entity_prefix, ..Grant::new(GrantScope::All, Action::Subscribe) }]
}

#[tokio::test(start_paused = true)]
async fn a_changed_grant_bounds_what_is_delivered_within_two_seconds() {
    let world = world().await;
    world.settled(&world.offer(10), SOON).await;
    assert_eq!(world.receivers.got(HOST).len(), 10);
    change(&world, |client| Client { grants: only("entity-3"), ..client }).await;
    world.settled(&world.offer(10), SOON).await;
    assert_eq!(world.receivers.got(HOST).len(), 11, "one entity of ten");
    change(&world, |client| Client { grants: Vec::new(), ..client }).await;
    world.settled(&world.offer(10), SOON).await;
    assert_eq!(world.receivers.got(HOST).len(), 11);
    change(&world, |client| Client { grants: owner().grants, ..client }).await;
    world.settled(&world.offer(10), SOON).await;
    assert_eq!(world.receivers.got(HOST).len(), 21);
    assert!(world.dead_letters().await.is_empty());
}

/// Row filter and field mask hold for what is pushed as for what is read, also for what was parked before.
#[tokio::test(start_paused = true)]
async fn only_granted_messages_and_fields_are_pushed() {
    let world = world().await;
    world.receivers.set(HOST, Behaviour::Answers(422));
    world.settled(&world.offer(10), SOON).await;
    let number = |body: &[u8]| -> u64 {
        serde_json::from_slice::<serde_json::Value>(body).unwrap()["number"].as_u64().unwrap()
    };
    let first = world.receivers.got(HOST).iter().map(|got| number(&got.body)).min().unwrap();
    let grant = |numbers: [u64; 2], field| Grant {
        filter: Some(Pattern::parse(&format!(r#"{{"number":{numbers:?}}}"#)).unwrap()),
        fields: Some(FieldMask::new(&[field]).unwrap()),
        ..Grant::new(GrantScope::All, Action::Subscribe)
    };
    // Of the ten that are parked and of the ten that are to come.
    let grants =
        vec![grant([first, first + 10], "/number"), grant([first + 1, first + 11], "/none")];
    change(&world, |client| Client { grants, ..client }).await;
    let before = world.receivers.got(HOST).len();
    world.receivers.set(HOST, Behaviour::Accepts);
    world.until_none_parked("sub", secs(60)).await;
    world.settled(&world.offer(10), SOON).await;
    let got = world.receivers.got(HOST).split_off(before);
    let mut bodies: Vec<&str> =
        got.iter().map(|got| std::str::from_utf8(&got.body).unwrap()).collect();
    bodies.sort_unstable();
    let mut expected = [first, first + 10].map(|n| format!(r#"{{"number":{n}}}"#)).to_vec();
    expected.extend(["{}", "{}"].map(str::to_owned));
    expected.sort_unstable();
    assert_eq!(bodies, expected);
    assert_eq!(world.dead_letters().await.len(), 8, "parked before, and not granted any more");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_delivered_for_a_client_that_is_disabled_or_deleted() {
    let world = world().await;
    change(&world, |client| Client { enabled: false, ..client }).await;
    world.settled(&world.offer(5), SOON).await;
    change(&world, |client| Client { enabled: true, ..client }).await;
    let wanted = world.offer(5);
    world.settled(&wanted, SOON).await;
    assert!(world.access.delete_client(&owner().id, &CHANGE).await.unwrap());
    sleep(SOON).await;
    world.settled(&world.offer(5), SOON).await;
    assert_eq!(world.receivers.accepted(HOST), wanted.ids);
}

#[tokio::test(start_paused = true)]
async fn what_was_parked_before_a_grant_was_taken_away_becomes_a_dead_letter_unseen() {
    let world = world().await;
    world.receivers.set(HOST, Behaviour::Answers(422));
    world.settled(&world.offer(10), SOON).await;
    assert_eq!(world.parked("sub").await, 10);
    change(&world, |client| Client { grants: only("entity-3"), ..client }).await;
    let before = world.receivers.got(HOST).len();
    world.receivers.set(HOST, Behaviour::Accepts);
    world.until_none_parked("sub", secs(60)).await;
    assert_eq!(world.receivers.accepted(HOST).len(), 1);
    let got = world.receivers.got(HOST);
    assert!(got[before..].iter().all(|got| got.accepted), "nothing else was attempted");
    let letters = world.dead_letters().await;
    assert_eq!(letters.len(), 9);
    assert!(letters.iter().all(|letter| letter.reason == DeadReason::NotGranted));
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_disabled_client_is_kept_until_it_is_enabled_again() {
    let world = world().await;
    world.receivers.set(HOST, Behaviour::IsDown);
    let offered = world.offer(10);
    world.settled(&offered, SOON).await;
    change(&world, |client| Client { enabled: false, ..client }).await;
    world.receivers.set(HOST, Behaviour::Accepts);
    let before = (world.receivers.got(HOST).len(), world.parked("sub").await);
    sleep(secs(120)).await;
    assert_eq!((world.receivers.got(HOST).len(), world.parked("sub").await), before);
    change(&world, |client| Client { enabled: true, ..client }).await;
    world.until_none_parked("sub", secs(30)).await;
    let all = || world.receivers.accepted(HOST) == offered.ids;
    world.until("what waited in the stream is delivered, too", secs(30), all).await;
}

#[tokio::test(start_paused = true)]
async fn while_grants_cannot_be_read_nothing_is_attempted() {
    let mut slow = subscription("sub", "https://receiver.example/");
    slow.policy.rate_per_second = Some(1);
    let world = World::with(&[slow]).await;
    let offered = world.offer(10);
    let fault = Fault::new(Service::Dynamodb, Effect::InternalError).resource("app-access");
    let fault = world.aws.faults().inject(fault);
    world.until("the view is stale", secs(5), || world.handle.stats().paused).await;
    sleep(secs(1)).await;
    let before = world.receivers.got(HOST).len();
    assert!(before < 10);
    sleep(secs(60)).await;
    assert_eq!(world.receivers.got(HOST).len(), before);
    assert!(world.aws.faults().clear(fault));
    world.settled(&offered, secs(15)).await;
    assert_eq!(world.receivers.accepted(HOST), offered.ids);
}
