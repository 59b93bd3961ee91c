//! What a client manages over HTTP, beside a live processor: it subscribes, gets signed webhooks, sees what its receiver
//! refused, has it delivered again, and leaves.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use crate::harness::child::{Sluicegate, run};
use crate::harness::eventually;
use crate::harness::platform::{Platform, Processor, earthquakes};
use crate::harness::receiver::Receiver;

const EVENTS: usize = 40;

/// A client at the API, with its key.
struct Caller {
    address: String,
    key: String,
}

impl Caller {
    /// Sends a request; the status and the body, null if there is none.
    async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header("x-api-key", &self.key);
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body))).expect("a request");
        let answer = client.request(request).await.expect("an answer");
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        let body = match body.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&body).expect("JSON"),
        };
        (status, body)
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// A replay, once it is done.
    async fn done(&self, replay: &Value) -> Value {
        let path = format!("/v1/replays/{}", text(replay, "id"));
        eventually("the replay is done", async || match self.get(&path).await {
            replay if replay["state"] == "done" => Ok(replay),
            replay => Err(replay.to_string()),
        })
        .await
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} of {value}"))
}

/// The API, and processors that go where its clients may send them.
async fn services(platform: &Platform, receiver: &Receiver) -> (Sluicegate, Processor, Caller) {
    let (first, second) = (platform.receiver.authority(), receiver.authority());
    let allowed = format!("async_delivery.allowed_private={first},{second}");
    let args = ["api", "--config", &platform.config, "--set", &allowed, "--set"];
    let mut api = Sluicegate::start(&[&args[..], &["api.private_webhooks=true"]].concat());
    let address = api.line().await.rsplit(' ').next().expect("an address").to_owned();
    let processor = Processor::start_with(platform, &[&allowed]).await;
    let caller = Caller { address, key: platform.api_key.clone() };
    (api, processor, caller)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_subscribes_sees_what_failed_has_it_again_and_leaves() {
    let platform = Platform::start().await;
    let receiver = Receiver::start().await;
    let (api, processor, client) = services(&platform, &receiver).await;
    platform.aws.put("earthquakes", &earthquakes()[..EVENTS]).await;
    platform.everything_arrived(EVENTS).await;

    let wanted = json!({
        "integrations": ["earthquakes"],
        "destination": { "webhook": { "url": receiver.url(), "headers": { "x-tenant": "acme" } } },
        "policy": { "retryScheduleMs": [0, 200] },
    });
    let (status, made) = client.call("POST", "/v1/subscriptions", Some(&wanted)).await;
    assert_eq!(status, 201, "{made}");
    let (id, secret) = (text(&made, "id"), text(&made, "secret"));
    let path = format!("/v1/subscriptions/{id}");
    assert!(!client.get(&path).await.to_string().contains("whsec_"));

    // The receiver does not know the secret yet: it refuses what is sent.
    let page = client.get("/v1/integrations/earthquakes/entities/ci/messages?limit=1").await;
    let message = &page["messages"][0];
    let (one, link) = (text(message, "id"), text(message, "self"));
    let locator = link.rsplit('/').next().expect("a locator");
    let some = json!({ "subscription": id, "messages": [one] });
    let (status, replay) = client.call("POST", "/v1/replays", Some(&some)).await;
    assert_eq!(status, 202, "{replay}");
    assert_eq!(client.done(&replay).await["matched"], 1);
    let given_up = format!("/v1/deliveries?subscription={id}&state=given-up");
    let letters = eventually("it is given up", async || match client.get(&given_up).await {
        page if page["deliveries"][0]["message"] == one => Ok(page),
        page => Err(page.to_string()),
    })
    .await;
    assert_eq!(letters["deliveries"][0]["attempts"], 2, "{letters}");
    let traced = format!("/v1/deliveries/{locator}?subscription={id}");
    let trace = client.get(&traced).await;
    assert_eq!(trace["deliveries"][0]["state"], "given-up", "{trace}");
    assert!(text(&trace["deliveries"][0]["attempts"][0], "detail").contains("401"), "{trace}");

    // It learns it, and what was given up comes again, signed.
    receiver.expect_secret(secret);
    let (status, replay) = client.call("POST", "/v1/deliveries/redrive", Some(&some)).await;
    assert_eq!(status, 202, "{replay}");
    eventually("it is delivered", async || match receiver.ledger().deliveries.get(one) {
        Some(_) => Ok(()),
        None => Err("not there".to_owned()),
    })
    .await;
    client.done(&replay).await;
    assert_eq!(client.get(&given_up).await["deliveries"], json!([]));

    // Everything that the stream has, for the first time.
    let all = json!({ "subscription": id, "from": "horizon", "to": "subscribed" });
    let (_, replay) = client.call("POST", "/v1/replays", Some(&all)).await;
    assert_eq!(client.done(&replay).await["matched"], EVENTS);
    eventually("all of it is delivered", async || match receiver.ledger().messages() {
        EVENTS => Ok(()),
        messages => Err(format!("{messages} of {EVENTS}")),
    })
    .await;
    assert_eq!(receiver.ledger().changed_bodies, 0);
    tests_itself(&client, &receiver, &path).await;
    assert_eq!(client.get("/v1/replays").await["replays"].as_array().expect("a list").len(), 3);
    nobody_else_finds_it(&platform, &client, id, text(&replay, "id")).await;
    leaves(&platform, &client, &path).await;
    assert_eq!(processor.stop().await.code, Some(0));
    assert_eq!(api.terminate().await.code, Some(0));
}

/// It asks for a test, which comes signed, and is told that it arrived.
async fn tests_itself(client: &Caller, receiver: &Receiver, path: &str) {
    let (status, test) = client.call("POST", &format!("{path}/test"), None).await;
    assert_eq!(status, 202, "{test}");
    let (message, subscription) = (text(&test, "message"), text(&test, "subscription"));
    let body = eventually("the test is delivered", async || {
        receiver.ledger().deliveries.get(message).cloned().ok_or("not there".to_owned())
    })
    .await
    .1;
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(body["type"], "subscription.test");
    assert_eq!(body["data"]["subscription"], subscription);
    let path = format!("/v1/deliveries/{message}");
    eventually("it is known", async || match client.call("GET", &path, None).await {
        (200, trace) if trace["deliveries"][0]["state"] == "delivered" => Ok(()),
        (_, trace) => Err(trace.to_string()),
    })
    .await;
}

/// What another client is told of a subscription and a replay that are not its own.
async fn nobody_else_finds_it(platform: &Platform, client: &Caller, id: &str, replay: &str) {
    let create = ["clients", "create", "Peer", "--grant", "*:subscribe", "--grant", "*:read"];
    let ended =
        run(&[&create[..], &["--output", "json", "--config", &platform.config]].concat()).await;
    let made: Value = serde_json::from_str(&ended.stdout.join("\n")).expect("JSON");
    let peer = Caller { address: client.address.clone(), key: text(&made, "api_key").to_owned() };
    eventually("its key works", async || match peer.call("GET", "/v1/me", None).await {
        (200, _) => Ok(()),
        (status, _) => Err(status.to_string()),
    })
    .await;
    for path in [
        format!("/v1/subscriptions/{id}"),
        format!("/v1/deliveries?subscription={id}"),
        format!("/v1/replays/{replay}"),
    ] {
        assert_eq!(peer.call("GET", &path, None).await.0, 404, "{path}");
    }
    assert_eq!(peer.get("/v1/subscriptions").await["subscriptions"], json!([]));
}

/// It switches its subscription off, gives it a new key, deletes it, and an operator sees each.
async fn leaves(platform: &Platform, client: &Caller, path: &str) {
    let (status, off) = client.call("PATCH", path, Some(&json!({ "enabled": false }))).await;
    assert_eq!((status, &off["enabled"]), (200, &json!(false)), "{off}");
    let (status, rotated) = client.call("POST", &format!("{path}/secret/rotate"), None).await;
    assert_eq!(status, 200, "{rotated}");
    assert!(text(&rotated, "secret").starts_with("whsec_"));
    assert_eq!(client.call("DELETE", path, None).await.0, 204);
    assert_eq!(client.call("GET", path, None).await.0, 404);
    let list = ["subscriptions", "list", "--output", "json", "--config", &platform.config];
    let ended = run(&list).await;
    let list: Value = serde_json::from_str(&ended.stdout.join("\n")).expect("JSON");
    assert_eq!(list["subscriptions"].as_array().expect("a list").len(), 1, "{list}");
}
