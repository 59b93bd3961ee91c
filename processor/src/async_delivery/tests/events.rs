//! What a client is told about its own destinations.

use store::{DeliveryPolicy, IntegrationName, Subscription};

use super::{SOON, secs};
use crate::async_delivery::testing::{Behaviour, World, subscription};

const HOST: &str = "receiver.example";
const OPS: &str = "ops.example";

async fn world(schedule_ms: Option<Vec<u64>>) -> World {
    let mut watched = subscription("sub", "https://receiver.example/");
    if let Some(retry_schedule_ms) = schedule_ms {
        watched.policy = DeliveryPolicy { retry_schedule_ms, ..watched.policy };
    }
    let ops = Subscription {
        integrations: vec![IntegrationName::events()],
        ..subscription("ops", "https://ops.example/")
    };
    World::with(&[watched, ops]).await
}

/// The types of the events that the client was told, in order.
fn told(world: &World) -> Vec<String> {
    let got = world.receivers.got(OPS);
    let events = got.iter().map(|got| serde_json::from_slice(&got.body).unwrap());
    events.map(|event: serde_json::Value| event["type"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_fails_and_recovers_is_told_once_each() {
    let world = world(None).await;
    world.receivers.set(HOST, Behaviour::IsDown);
    world.settled(&world.offer(50), SOON).await;
    world.until("it is told", secs(10), || told(&world) == ["destination.failing"]).await;
    world.settled(&world.offer(50), SOON).await;
    world.receivers.set(HOST, Behaviour::Accepts);
    world.until_none_parked("sub", secs(120)).await;
    let both = ["destination.failing", "destination.recovered"];
    world.until("its recovery is told", secs(10), || told(&world) == both).await;
    assert!(world.receivers.got(OPS).iter().all(|got| got.accepted));
    assert!(world.dead_letters().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_is_gone_and_a_delivery_given_up_are_told() {
    let world = world(Some(vec![0])).await;
    world.receivers.set(HOST, Behaviour::Answers(400));
    world.settled(&world.offer(20), SOON).await;
    world.until("it is told once", secs(10), || told(&world) == ["delivery.exhausted"]).await;
    let first: serde_json::Value =
        serde_json::from_slice(&world.receivers.got(OPS)[0].body).unwrap();
    assert_eq!(first["data"]["subscription"], "sub");
    assert_eq!(first["data"]["reason"], "delivery-exhausted");
    assert_eq!(world.dead_letters().await.len(), 20);
    world.receivers.set(HOST, Behaviour::Answers(410));
    world.settled(&world.offer(1), SOON).await;
    let both = ["delivery.exhausted", "destination.disabled"];
    world.until("it is told", secs(10), || told(&world) == both).await;
}

#[tokio::test(start_paused = true)]
async fn an_operational_webhook_that_fails_is_not_told_of_itself() {
    let world = world(None).await;
    world.receivers.set(HOST, Behaviour::IsDown);
    world.receivers.set(OPS, Behaviour::IsDown);
    world.settled(&world.offer(50), SOON).await;
    let tried = || {
        world.handle.stats().destinations.iter().any(|d| d.subscription == "ops" && d.failed > 0)
    };
    world.until("it was tried", secs(10), tried).await;
    world.receivers.set(OPS, Behaviour::Accepts);
    world.until_none_parked("ops", secs(900)).await;
    let accepted = world.receivers.accepted(OPS);
    assert_eq!(accepted.len(), 1, "the one event, whatever became of its attempts");
}
