//! Publishing under an `Idempotency-Key`: what is sent again is answered again and not done again.

use std::time::Duration;

use http::Request;
use local_aws::{Effect, Fault};
use serde_json::json;
use store::ApiKey;
use tokio::sync::Semaphore;

use super::publishing::publishes;
use super::{Answer, World};
use crate::Refusal;

const PATH: &str = "/v1/integrations/quakes/messages";
const BODY: &str = "{\"net\":\"ci\",\"n\":1}";

async fn world() -> (World, ApiKey) {
    let mut world = World::with(|options| options.limits.client.burst = 1_000).await;
    let (_, key) = world.client("producer", vec![publishes("quakes", None)]).await;
    (world, key)
}

async fn send(world: &World, key: &ApiKey, path: &str, named: &str, body: &str) -> Answer {
    let request = Request::post(path).header("x-api-key", key.expose());
    let request = request.header("content-type", "application/json");
    world.send_with(request.header("idempotency-key", named), body.to_owned()).await
}

fn fault(operation: &str, effect: Effect) -> Fault {
    let fault = Fault::new(local_aws::Service::Dynamodb, effect).operation(operation);
    fault.resource("test-requests")
}

#[tokio::test]
async fn a_request_that_is_sent_again_is_answered_again_and_not_done_again() {
    let (mut world, key) = world().await;
    world.publisher.refuse(&[Some(Refusal::Throttled), None]);
    let lines = |named: &str| {
        let request = Request::post(PATH).header("x-api-key", key.expose());
        let request = request.header("content-type", "application/x-ndjson");
        let request = request.header("idempotency-key", named);
        world.send_with(request, format!("{BODY}\n{BODY}"))
    };
    let first = lines("\"one\"").await;
    let again = lines("one").await;
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (200, 200));
    assert_eq!(first.json(), again.json(), "what failed is not tried again by the same key");
    assert_eq!(
        (first.header("idempotent-replayed"), again.header("idempotent-replayed")),
        ("", "true")
    );
    assert_eq!(again.header("content-type"), "application/json");
    assert_eq!(world.publisher.sent().len(), 2);
    assert_eq!(lines("two").await.header("idempotent-replayed"), "");
    assert_eq!(world.publisher.sent().len(), 4);

    let (_, other) = world.client("other", vec![publishes("quakes", None)]).await;
    assert_eq!(send(&world, &other, PATH, "one", BODY).await.status, 200);
    assert_eq!(world.publisher.sent().len(), 5, "another client's key is another one");
    // The answer is for who may publish now.
    let (_, stranger) = world.client("stranger", vec![]).await;
    send(&world, &stranger, PATH, "one", BODY).await.problem(404);
}

#[tokio::test]
async fn a_key_is_for_one_request_alone() {
    let (world, key) = world().await;
    assert_eq!(send(&world, &key, PATH, "one", BODY).await.status, 200);
    for (path, body) in [
        (PATH, "{\"net\":\"ci\",\"n\":2}"),
        ("/v1/integrations/quakes/messages?partition_key=k", BODY),
    ] {
        let problem = send(&world, &key, path, "one", body).await.problem(422);
        assert_eq!(problem["type"], "urn:sluicegate:problem:idempotency-key-reused");
    }
    assert_eq!(world.publisher.sent().len(), 1);
    let bad = send(&world, &key, PATH, "\"one", BODY).await.problem(400);
    assert_eq!(bad["parameter"], "idempotency-key");
    // What is refused before anything is sent leaves the key free.
    send(&world, &key, PATH, "two", "{\"net\":").await.problem(400);
    assert_eq!(send(&world, &key, PATH, "two", BODY).await.status, 200);
}

#[tokio::test]
async fn a_request_in_work_is_not_begun_again() {
    let (world, key) = world().await;
    world.publisher.gate.forget_permits(Semaphore::MAX_PERMITS);
    let first = send(&world, &key, PATH, "one", BODY);
    let second = async {
        while world.publisher.had.lock().unwrap().is_zero() {
            tokio::task::yield_now().await;
        }
        let second = send(&world, &key, PATH, "one", BODY).await;
        world.publisher.gate.add_permits(1);
        second
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.status, 200);
    assert_eq!(second.problem(409)["type"], "urn:sluicegate:problem:request-in-work");
    assert_eq!(second.header("retry-after"), "2");
    let third = send(&world, &key, PATH, "one", BODY).await;
    assert_eq!((third.header("idempotent-replayed"), third.json()), ("true", first.json()));
    assert_eq!(world.publisher.sent().len(), 1);
}

#[tokio::test]
async fn what_came_to_nothing_is_tried_again_by_the_same_key() {
    let (world, key) = world().await;
    world.publisher.refuse(&[Some(Refusal::Unknown)]);
    send(&world, &key, PATH, "one", BODY).await.problem(503);
    let again = send(&world, &key, PATH, "one", BODY).await;
    assert_eq!((again.status.as_u16(), &again.json()["taken"]), (200, &json!(1)));
    assert_eq!(world.publisher.sent().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_while_it_cannot_be_told_whether_it_was_sent_before() {
    let (world, key) = world().await;
    for effect in [Effect::InternalError, Effect::Unanswered] {
        world.aws.faults().inject(fault("PutItem", effect).times(1));
        let problem = send(&world, &key, PATH, "one", BODY).await.problem(503);
        assert!(problem["detail"].as_str().unwrap().contains("nothing was sent"), "{problem}");
        assert!(world.publisher.sent().is_empty());
    }
    // Who never answered had the claim: it is taken over behind its lease.
    send(&world, &key, PATH, "one", BODY).await.problem(409);
    world.pass(Duration::from_secs(30)).await;
    assert_eq!(send(&world, &key, PATH, "one", BODY).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_kept_is_given_and_the_request_is_done_again_behind_its_lease() {
    let (world, key) = world().await;
    world.aws.faults().inject(fault("UpdateItem", Effect::Partition).times(1));
    let begun = tokio::time::Instant::now();
    let first = send(&world, &key, PATH, "one", BODY).await;
    assert_eq!(first.status, 200, "it was taken, which is what the client must know");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    send(&world, &key, PATH, "one", BODY).await.problem(409);
    world.pass(Duration::from_secs(30)).await;
    let again = send(&world, &key, PATH, "one", BODY).await;
    assert_eq!((again.status.as_u16(), again.header("idempotent-replayed")), (200, ""));
    assert_eq!(world.publisher.sent().len(), 2, "at least once");
}
