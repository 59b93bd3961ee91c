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
