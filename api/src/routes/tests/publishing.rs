//! Publishing: what is looked into, what is sent, what is answered; over a publisher that remembers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request};
use serde_json::{Value, json};
use store::{Action, ApiKey, Entity, Grant, GrantScope, IntegrationName, MessageId, Position};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{Answer, World, reads};
use crate::{Outcome, Outgoing, Publisher, Refusal, Taken, Unfit};

const PATH: &str = "/v1/integrations/quakes/messages";
const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";

/// Takes messages whose entity is at `/net`, else the key.
#[derive(Clone)]
pub(crate) struct FakePublisher {
    pub(crate) sent: Arc<Mutex<Vec<Outgoing>>>,
    /// What becomes of the next messages, in this order; behind them all are taken.
    pub(crate) outcomes: Arc<Mutex<VecDeque<Outcome>>>,
    /// Sending waits for one of these.
    pub(crate) gate: Arc<Semaphore>,
    /// There is no way to these integrations.
    pub(crate) closed: Arc<Mutex<Vec<&'static str>>>,
    /// How much time the last sending had.
    pub(crate) had: Arc<Mutex<Duration>>,
}

impl FakePublisher {
    pub(crate) fn new() -> Self {
        Self {
            sent: Arc::default(),
            outcomes: Arc::default(),
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            closed: Arc::default(),
            had: Arc::default(),
        }
    }

    /// The payloads and keys that were sent so far.
    pub(crate) fn sent(&self) -> Vec<(String, String)> {
        let sent = self.sent.lock().unwrap();
        sent.iter()
            .map(|m| (m.partition_key.clone(), String::from_utf8(m.payload.to_vec()).unwrap()))
            .collect()
    }

    pub(crate) fn refuse(&self, refusals: &[Option<Refusal>]) {
        let outcome = |refusal: &Option<Refusal>| match refusal {
            Some(refusal) => Outcome::Refused(*refusal),
            None => Outcome::Taken(taken(7)),
        };
        self.outcomes.lock().unwrap().extend(refusals.iter().map(outcome));
    }
}

fn taken(n: usize) -> Taken {
    let position = Position {
        stream_arn: "arn".into(),
        shard_id: "shardId-000000000000".into(),
        sequence: n.to_string().into(),
        index: 0,
    };
    Taken {
        id: MessageId::derive(&position),
        shard_id: position.shard_id.to_string(),
        sequence_number: n.to_string(),
        may_be_duplicate: false,
    }
}

impl Publisher for FakePublisher {
    fn takes(&self, integration: &IntegrationName) -> bool {
        !self.closed.lock().unwrap().contains(&integration.as_str())
    }

    fn examine(
        &self,
        _: &IntegrationName,
        key: Option<&str>,
        payload: &[u8],
    ) -> Result<Entity, Unfit> {
        let json: Value =
            serde_json::from_slice(payload).map_err(|e| Unfit::NotJson(e.to_string()))?;
        if json.get("flight").is_some() {
            return Err(Unfit::Elsewhere);
        }
        let entity = json["net"].as_str().or(key).ok_or(Unfit::NoKey)?;
        Entity::parse(entity).map_err(|error| Unfit::Malformed(error.to_string()))
    }

    fn publish<'a>(
        &'a self,
        _: &'a IntegrationName,
        messages: Vec<Outgoing>,
        deadline: Instant,
    ) -> BoxFuture<'a, Vec<Outcome>> {
        async move {
            *self.had.lock().unwrap() = deadline - Instant::now();
            self.gate.acquire().await.unwrap().forget();
            let mut sent = self.sent.lock().unwrap();
            let mut outcomes = self.outcomes.lock().unwrap();
            let outcome = |message| {
                sent.push(message);
                outcomes.pop_front().unwrap_or_else(|| Outcome::Taken(taken(sent.len())))
            };
            messages.into_iter().map(outcome).collect()
        }
        .boxed()
    }
}

pub(super) fn publishes(integration: &str, prefix: Option<&str>) -> Grant {
    let scope = GrantScope::One(IntegrationName::parse(integration).unwrap());
    Grant { entity_prefix: prefix.map(str::to_owned), ..Grant::new(scope, Action::Publish) }
}

fn post(path: &str, key: &ApiKey, media_type: &str) -> http::request::Builder {
    Request::post(path).header("x-api-key", key.expose()).header("content-type", media_type)
}

async fn publish(world: &World, key: &ApiKey, media_type: &str, body: &str) -> Answer {
    world.send_with(post(PATH, key, media_type), body.to_owned()).await
}

async fn world() -> (World, ApiKey) {
    let mut world = World::new().await;
    let (_, key) = world.client("producer", vec![publishes("quakes", Some("ci"))]).await;
    (world, key)
}

#[tokio::test]
async fn one_message_is_taken_as_it_is_and_answered_with_its_place() {
    let (world, key) = world().await;
    let answer = publish(&world, &key, JSON, " {\"net\": \"ci\",\n \"n\":1.0}\n").await;
    let body = answer.json();
    assert_eq!(
        (answer.status.as_u16(), &body["taken"], &body["failed"]),
        (200, &json!(1), &json!(0))
    );
    assert_eq!(
        body["messages"],
        json!([{
            "id": taken(1).id, "shardId": "shardId-000000000000", "sequenceNumber": "1"
        }])
    );
    let sent = ("ci".to_owned(), "{\"net\": \"ci\",\n \"n\":1.0}".to_owned());
    assert_eq!(world.publisher.sent(), [sent]);
}

#[tokio::test]
async fn a_batch_is_answered_message_by_message_also_where_some_failed() {
    let (world, key) = world().await;
    let refusals = [None, Some(Refusal::Throttled), Some(Refusal::Unknown), None];
    world.publisher.refuse(&refusals);
    let batch =
        "{\"net\":\"ci\",\"n\":1}\r\n\n{\"net\":\"ci2\"}\n{\"net\":\"ci\"}\n{\"net\":\"ci\"}\n";
    let answer = publish(&world, &key, LINES, batch).await;
    let body = answer.json();
    assert_eq!(
        (answer.status.as_u16(), &body["taken"], &body["failed"]),
        (200, &json!(2), &json!(2))
    );
    let error = |n: usize| &body["messages"][n]["error"];
    assert_eq!((&error(1)["code"], &error(1)["retryable"]), (&json!("throttled"), &json!(true)));
    assert_eq!(error(1)["mayHaveBeenTaken"], false);
    assert_eq!(
        (&error(2)["code"], &error(2)["mayHaveBeenTaken"]),
        (&json!("unknown"), &json!(true))
    );
    assert!(body["messages"][3]["id"].is_string());
    let keys: Vec<_> = world.publisher.sent().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["ci", "ci2", "ci", "ci"]);
}

#[tokio::test]
async fn where_none_was_taken_the_answer_is_503_with_each_reason() {
    let (world, key) = world().await;
    world.publisher.refuse(&[Some(Refusal::Throttled), Some(Refusal::Unknown)]);
    let answer = publish(&world, &key, LINES, "{\"net\":\"ci\"}\n{\"net\":\"ci\"}").await;
    let problem = answer.problem(503);
    assert_eq!(problem["messages"][0]["error"]["code"], "throttled");
    assert!(problem["detail"].as_str().unwrap().contains("it may have been taken"), "{problem}");
    assert_eq!(answer.header("retry-after"), "1");
}

#[tokio::test]
async fn a_bad_message_is_named_by_its_line_and_nothing_is_sent() {
    let (world, key) = world().await;
    for (body, status, reason) in [
        ("{\"net\":\"ci\"}\n\n{\"net\":", 400, "not-json"),
        ("{\"net\":\"ci\"}\n\n{\"flight\":1}", 422, "not-of-this-integration"),
        ("{\"net\":\"ci\"}\n\n{\"net\":\"\"}", 422, "malformed"),
        ("{\"net\":\"ci\"}\n\n{}", 422, "no-partition-key"),
        ("{\"net\":\"ci\"}\n\n{\"net\":\"us\"}", 422, "entity-not-granted"),
    ] {
        let problem = publish(&world, &key, LINES, body).await.problem(status);
        assert_eq!(
            (&problem["line"], &problem["reason"]),
            (&json!(3), &json!(reason)),
            "{problem}"
        );
        assert!(problem["found"].is_string() && problem["allowed"].is_string(), "{problem}");
        let problem = publish(&world, &key, JSON, &body[14..]).await.problem(status);
        assert_eq!((&problem["line"], &problem["reason"]), (&Value::Null, &json!(reason)));
    }
    let nothing = publish(&world, &key, LINES, " \n\n").await.problem(422);
    assert_eq!(nothing["reason"], "no-message");
    let many = publish(&world, &key, LINES, &"{\"net\":\"ci\"}\n".repeat(501)).await.problem(422);
    assert_eq!(many["reason"], "too-many");
    assert!(world.publisher.sent().is_empty());
}

#[tokio::test]
async fn a_partition_key_can_be_given_and_is_the_entity_of_what_has_none() {
    let (world, key) = world().await;
    let ask = |query: &str| post(&format!("{PATH}?{query}"), &key, JSON);
    let answer = world.send_with(ask("partition_key=k%201"), "{\"net\":\"ci\"}").await;
    assert_eq!(answer.status, 200);
    assert_eq!(world.send_with(ask("partition_key=ci7"), "{}").await.status, 200);
    let keys: Vec<_> = world.publisher.sent().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["k 1", "ci7"]);
    world.send_with(ask("partition_key=us"), "{}").await.problem(422);
    let unknown = world.send_with(ask("key=ci"), "{}").await.problem(400);
    assert_eq!(unknown["found"], "key");
}

#[tokio::test]
async fn what_is_not_granted_or_has_no_way_does_not_exist() {
    let (mut world, producer) = world().await;
    let (_, reader) = world.client("reader", vec![reads("quakes")]).await;
    let all = vec![publishes("quakes", None), publishes("flights", None)];
    let (_, both) = world.client("both", all).await;
    world.publisher.closed.lock().unwrap().push("flights");
    let body = "{\"net\":\"ci\"}";
    for (path, key) in [
        (PATH, &reader),
        ("/v1/integrations/flights/messages", &producer),
        ("/v1/integrations/flights/messages", &both),
        ("/v1/integrations/none/messages", &both),
        ("/v1/integrations/Q/messages", &both),
    ] {
        // Told before anything of the body is looked at.
        world.send_with(post(path, key, "text/plain"), body).await.problem(404);
        world.send_with(post(path, key, JSON), body).await.problem(404);
    }
    world.send_with(Request::post(PATH), body).await.problem(401);
    let seen = world.get("/v1/integrations", &both).await.json();
    let actions: Vec<_> = seen["integrations"].as_array().unwrap().iter().collect();
    assert_eq!((&actions[0]["actions"], &actions[1]["actions"]), (&json!([]), &json!(["publish"])));
    assert!(world.publisher.sent().is_empty());
}

#[tokio::test]
async fn bodies_have_two_types_and_a_limit_of_their_own() {
    let mut world = World::with(|options| {
        options.limits.max_body_bytes = 10;
        options.limits.publish.max_body_bytes = 3_000;
        options.limits.publish.max_message_bytes = 2_000;
    })
    .await;
    let (_, key) = world.client("producer", vec![publishes("quakes", None)]).await;
    let wrong = publish(&world, &key, "text/plain", "{}").await;
    assert!(wrong.problem(415)["detail"].as_str().unwrap().contains("text/plain"));
    assert_eq!(wrong.header("accept-post"), "application/json, application/x-ndjson");
    let fits = format!("{{\"net\":\"ci\",\"x\":\"{}\"}}", "x".repeat(1_900));
    assert_eq!(publish(&world, &key, JSON, &fits).await.status, 200);
    let large = format!("{{\"net\":\"ci\",\"x\":\"{}\"}}", "x".repeat(2_000));
    assert_eq!(publish(&world, &key, JSON, &large).await.problem(422)["reason"], "too-large");
    let whole = format!("{fits}\n{fits}");
    publish(&world, &key, LINES, &whole).await.problem(413);
    // Without a length that would tell before.
    let chunks = whole.as_bytes().chunks(100).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec()));
    let body = axum::body::Body::from_stream(futures::stream::iter(chunks.collect::<Vec<_>>()));
    world.send_with(post(PATH, &key, LINES), body).await.problem(413);
    let other = Request::get("/v1/me").header("x-api-key", key.expose());
    world.send(other.header("content-length", "11")).await.problem(413);
    let method = Request::builder().method(Method::PUT).uri(PATH).header("x-api-key", key.expose());
    let method = world.send(method).await;
    method.problem(405);
    assert_eq!(method.header("allow"), "POST");
    assert_eq!(world.publisher.sent().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_sending_has_less_time_than_the_request_and_outlives_its_client() {
    let (world, key) = world().await;
    world.publisher.gate.forget_permits(Semaphore::MAX_PERMITS);
    let gone = publish(&world, &key, JSON, "{\"net\":\"ci\"}");
    // The client goes away while its message is sent.
    assert!(tokio::time::timeout(Duration::from_secs(1), gone).await.is_err());
    assert!(world.publisher.sent().is_empty());
    world.publisher.gate.add_permits(1);
    while world.publisher.sent().is_empty() {
        tokio::task::yield_now().await;
    }
    let had = *world.publisher.had.lock().unwrap();
    assert!(had <= Duration::from_secs(13) && had > Duration::from_secs(12), "{had:?} of 15 s");
}

#[tokio::test]
async fn there_is_room_for_so_many_bytes_in_work() {
    let mut world = World::with(|options| {
        options.limits.publish.max_body_bytes = 4_096;
        options.limits.publish.max_in_work_bytes = 5_000;
    })
    .await;
    let (_, key) = world.client("producer", vec![publishes("quakes", None)]).await;
    world.publisher.gate.forget_permits(Semaphore::MAX_PERMITS);
    let body = format!("{{\"net\":\"ci\",\"x\":\"{}\"}}", "x".repeat(3_000));
    let first = publish(&world, &key, JSON, &body);
    let second = async {
        while world.publisher.had.lock().unwrap().is_zero() {
            tokio::task::yield_now().await;
        }
        let refused = publish(&world, &key, JSON, &body).await;
        world.publisher.gate.add_permits(2);
        refused
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.status, 200);
    assert!(second.problem(503)["type"].as_str().unwrap().ends_with("temporary-reduced-capacity"));
    assert_eq!(publish(&world, &key, JSON, &body).await.status, 200, "there is room again");
}
