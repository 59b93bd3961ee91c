//! Publishing through the real API into the real stream, and what readers and receivers see of it.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use crate::harness::child::{Sluicegate, run};
use crate::harness::eventually;
use crate::harness::platform::{Platform, Processor, earthquakes};

const LINES: &str = "application/x-ndjson";

/// A running API, and the key that it is asked with.
struct Api {
    child: Sluicegate,
    address: String,
    key: String,
}

/// An answer, read whole.
struct Answer {
    status: u16,
    body: Value,
}

impl Api {
    async fn start(platform: &Platform, set: &[&str]) -> Api {
        let mut args = vec!["api", "--config", &platform.config];
        args.extend(set.iter().flat_map(|set| ["--set", set]));
        let mut child = Sluicegate::start(&args);
        let address = child.line().await.rsplit(' ').next().expect("an address").to_owned();
        Api { child, address, key: platform.api_key.clone() }
    }

    async fn send(&self, request: http::request::Builder, body: impl Into<Bytes>) -> Answer {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let request = request.header("x-api-key", &self.key).body(Full::new(body.into()));
        let answer = client.request(request.expect("a request")).await.expect("an answer");
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        let body = serde_json::from_slice(&body).expect("JSON");
        Answer { status, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(http::Request::get(format!("http://{}{path}", self.address)), "").await
    }

    fn post(&self, integration: &str, media_type: &str) -> http::request::Builder {
        let (address, path) = (&self.address, format!("/v1/integrations/{integration}/messages"));
        http::Request::post(format!("http://{address}{path}")).header("content-type", media_type)
    }

    async fn publish(&self, media_type: &str, body: impl Into<Bytes>) -> Answer {
        self.send(self.post("earthquakes", media_type), body).await
    }
}

/// The ids in an answer of which every message was taken.
fn ids(answer: &Answer) -> Vec<String> {
    assert_eq!((answer.status, &answer.body["failed"]), (200, &json!(0)), "{}", answer.body);
    let messages = answer.body["messages"].as_array().expect("messages");
    messages.iter().map(|m| m["id"].as_str().expect("an id").to_owned()).collect()
}

fn batch(events: &[(String, Vec<u8>)]) -> Vec<u8> {
    events.iter().flat_map(|(_, event)| [event.as_slice(), b"\n"].concat()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_read_and_delivered_under_the_ids_that_were_answered() {
    let platform = Platform::start().await;
    let api = Api::start(&platform, &[]).await;
    let processor = Processor::start(&platform).await;
    let events: Vec<_> = earthquakes().into_iter().take(300).collect();

    let one = api.publish("application/json", events[0].1.clone()).await;
    let mut published = ids(&one);
    published.extend(ids(&api.publish(LINES, batch(&events[1..])).await));
    platform.everything_arrived(events.len()).await;

    let stored = platform.stored().await;
    let delivered = platform.receiver.ledger().deliveries;
    for (id, (entity, event)) in published.iter().zip(&events) {
        assert_eq!(&stored[id].payload, event, "{id} is stored as it was published");
        assert_eq!(&delivered[id].1, event, "{id} is delivered as it was published");
        let path = format!("/v1/integrations/earthquakes/entities/{entity}/messages?limit=500");
        if *id == published[0] {
            let page = api.get(&path).await.body;
            let read = page["messages"].as_array().expect("messages").iter();
            assert!(
                read.clone().any(|message| message["id"] == **id),
                "{id} is read by its entity"
            );
        }
    }
    assert_eq!(platform.dead_letters().await.len(), 0);
    assert_eq!(processor.stop().await.code, Some(0));
    assert_eq!(api.child.terminate().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_a_dead_letter_or_is_not_granted_is_refused_and_nothing_is_sent() {
    let platform = Platform::start().await;
    let mut api = Api::start(&platform, &[]).await;
    let events = earthquakes();
    let (good, other) = (&events[0].1, br#"{"type":"Other"}"#.to_vec());
    let broken = br#"{"type":"Feature","properties":{"net":null}}"#.to_vec();
    let cut = good[..good.len() - 1].to_vec();
    let large = String::from_utf8(good.clone()).expect("UTF-8");
    let large = large.replacen('{', &format!("{{\"x\":\"{}\",", "x".repeat(65_536)), 1);
    for (bad, status, reason, found) in [
        (cut, 400, "not-json", "not one JSON document"),
        (other, 422, "not-of-this-integration", "do not take"),
        (broken, 422, "malformed", "/properties/net is null"),
        (large.into_bytes(), 422, "malformed", "max_message_bytes"),
    ] {
        let body = [good.as_slice(), b"\n", &bad].concat();
        let answer = api.publish(LINES, body).await;
        assert_eq!((answer.status, &answer.body["line"]), (status, &json!(2)), "{}", answer.body);
        assert_eq!(answer.body["reason"], reason);
        assert!(answer.body["found"].as_str().expect("words").contains(found), "{}", answer.body);
    }
    let keyless = api.send(api.post("default", "application/json"), "7").await;
    assert_eq!((keyless.status, &keyless.body["reason"]), (422, &json!("no-partition-key")));

    let grants = ["--grant", "earthquakes:publish:ci", "--grant", "default:read"];
    let create = ["clients", "create", "Partner", "--output", "json", "--config", &platform.config];
    let made = run(&[&create[..], &grants].concat()).await;
    let made: Value = serde_json::from_str(&made.stdout.join("\n")).expect("JSON");
    api.key = made["api_key"].as_str().expect("a key").to_owned();
    let of = |network: &str| events.iter().find(|(key, _)| key == network).expect("one").1.clone();
    eventually("the new client is known", async || {
        let answer = api.publish("application/json", of("us")).await;
        if answer.status == 401 { Err("not yet".to_owned()) } else { Ok(()) }
    })
    .await;
    let outside = api.publish("application/json", of("us")).await;
    assert_eq!((outside.status, &outside.body["reason"]), (422, &json!("entity-not-granted")));
    assert_eq!(api.send(api.post("default", "text/plain"), "7").await.status, 404);
    assert_eq!(ids(&api.publish("application/json", of("ci")).await).len(), 1);

    let processor = Processor::start(&platform).await;
    platform.everything_arrived(1).await;
    assert_eq!(platform.dead_letters().await.len(), 0);
    assert_eq!(processor.stop().await.code, Some(0));
    assert_eq!(api.child.terminate().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_way_there_is_nothing_to_publish_to() {
    let platform = Platform::start().await;
    let api = Api::start(&platform, &["api.publish.mode=off"]).await;
    let answer = api.publish("application/json", earthquakes()[0].1.clone()).await;
    assert_eq!(answer.status, 404);
    let seen = api.get("/v1/integrations").await.body;
    assert_eq!(seen["integrations"][0]["actions"], json!(["read", "subscribe"]), "{seen}");
    assert_eq!(api.child.terminate().await.code, Some(0));
}

/// A fault of PutRecords, as local-aws takes it.
fn put_records(effect: Value, times: u64) -> Value {
    json!({ "service": "kinesis", "operation": "PutRecords", "effect": effect, "times": times })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_stream_refuses_for_now_is_sent_again_and_each_arrives_once() {
    let platform = Platform::start().await;
    let api = Api::start(&platform, &[]).await;
    let processor = Processor::start(&platform).await;
    let events: Vec<_> = earthquakes().into_iter().take(400).collect();
    platform.inject(put_records(json!({ "partial": 0.5 }), 5)).await;
    platform.inject(put_records(json!("throttle"), 2)).await;
    let published = ids(&api.publish(LINES, batch(&events)).await);
    platform.everything_arrived(events.len()).await;
    let stored = platform.stored().await;
    for (id, (_, event)) in published.iter().zip(&events) {
        assert_eq!(&stored[id].payload, event, "{id} is stored as it was published");
    }
    assert_eq!(processor.stop().await.code, Some(0));
    assert_eq!(api.child.terminate().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_been_taken_is_said_and_what_was_not_is_not_lost_sight_of() {
    let platform = Platform::start().await;
    let set = ["api.limits.request_timeout=3s", "aws.attempt_timeout=1s"];
    let api = Api::start(&platform, &set).await;
    let event = earthquakes()[0].1.clone();

    platform.inject(put_records(json!("lost_reply"), 1)).await;
    let twice = api.publish("application/json", event.clone()).await;
    assert_eq!((twice.status, &twice.body["messages"][0]["mayBeDuplicate"]), (200, &json!(true)));
    let silent = platform.inject(put_records(json!("unanswered"), 1_000)).await;
    let unknown = api.publish("application/json", event.clone()).await;
    platform.clear(silent).await;
    let error = &unknown.body["messages"][0]["error"];
    assert_eq!((unknown.status, &error["code"]), (503, &json!("unknown")), "{}", unknown.body);
    assert_eq!((&error["mayHaveBeenTaken"], &error["retryable"]), (&json!(true), &json!(true)));
    let full = platform.inject(put_records(json!("throttle"), 1_000)).await;
    let throttled = api.publish("application/json", event.clone()).await;
    platform.clear(full).await;
    let error = &throttled.body["messages"][0]["error"];
    assert_eq!((throttled.status, &error["code"]), (503, &json!("throttled")));
    assert_eq!(error["mayHaveBeenTaken"], false);
    assert_eq!(ids(&api.publish("application/json", event).await).len(), 1);
    assert_eq!(api.child.terminate().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_a_key_is_done_once_whichever_task_it_comes_to() {
    let platform = Platform::start().await;
    let (one, two) = (Api::start(&platform, &[]).await, Api::start(&platform, &[]).await);
    let processor = Processor::start(&platform).await;
    let events: Vec<_> = earthquakes().into_iter().take(100).collect();
    let ask = |api: &Api, key: &str| {
        api.post("earthquakes", LINES).header("idempotency-key", format!("\"{key}\""))
    };
    let first = ids(&one.send(ask(&one, "batch-1"), batch(&events)).await);
    for api in [&one, &two] {
        assert_eq!(ids(&api.send(ask(api, "batch-1"), batch(&events)).await), first);
    }
    let other = two.send(ask(&two, "batch-1"), batch(&events[1..])).await;
    assert_eq!(other.status, 422, "{}", other.body);

    // At once to both, with PutRecords held up: one of them does it, the other one says so.
    let slow = put_records(json!({ "latency_ms": 500 }), 1);
    platform.inject(slow).await;
    let both = [&one, &two].map(|api| api.send(ask(api, "batch-2"), batch(&events[..1])));
    let mut statuses: Vec<u16> =
        futures::future::join_all(both).await.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    // On a machine that is slow enough the second finds the answer of the first.
    assert!(statuses[0] == 200 && [200, 409].contains(&statuses[1]), "{statuses:?}");

    platform.everything_arrived(events.len() + 1).await;
    assert_eq!(processor.stop().await.code, Some(0));
    for api in [one, two] {
        assert_eq!(api.child.terminate().await.code, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_dies_while_it_publishes_leaves_the_key_to_another_one() {
    let platform = Platform::start().await;
    let set = ["api.limits.request_timeout=2s"];
    let (dies, lives) = (Api::start(&platform, &set).await, Api::start(&platform, &set).await);
    let event = earthquakes()[0].1.clone();
    let ask = |api: &Api| {
        api.post("earthquakes", "application/json").header("idempotency-key", "\"one\"")
    };
    // The stream takes it and nobody hears of it.
    let silent = platform.inject(put_records(json!("unanswered"), 1)).await;
    let request = ask(&dies);
    let sent = tokio::spawn({
        let (key, event) = (dies.key.clone(), event.clone());
        async move {
            let client = Client::builder(TokioExecutor::new()).build_http();
            let request = request.header("x-api-key", key).body(Full::new(Bytes::from(event)));
            client.request(request.expect("a request")).await.is_ok()
        }
    });
    eventually("the request is in work", async || {
        match platform.aws.count(&platform.table("requests"), None).await {
            1 => Ok(()),
            count => Err(format!("{count} requests")),
        }
    })
    .await;
    dies.child.kill().await;
    assert!(!sent.await.expect("ended"), "its client has no answer");
    drop(silent);
    let in_work = lives.send(ask(&lives), event.clone()).await;
    assert_eq!(in_work.status, 409, "{}", in_work.body);
    let taken = eventually("the lease is over", async || {
        let answer = lives.send(ask(&lives), event.clone()).await;
        if answer.status == 200 { Ok(answer) } else { Err(answer.body.to_string()) }
    })
    .await;
    let again = lives.send(ask(&lives), event.clone()).await;
    assert_eq!(ids(&again), ids(&taken), "from now on it is answered again");
    assert_eq!(lives.child.terminate().await.code, Some(0));
}
