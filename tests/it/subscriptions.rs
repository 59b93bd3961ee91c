//! `sluicegate subscriptions`, run as an operator runs it beside a live processor.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::harness::child::{Ended, Sluicegate, file, run};
use crate::harness::eventually;
use crate::harness::platform::{Platform, Processor, earthquakes};
use crate::harness::receiver::Receiver;

/// Events that are written in each half of the test.
const EVENTS: usize = 40;

async fn subscriptions(platform: &Platform, args: &[&str]) -> Ended {
    run(&[&["subscriptions"][..], args, &["--config", &platform.config]].concat()).await
}

async fn json(platform: &Platform, args: &[&str]) -> Value {
    let ended = subscriptions(platform, &[args, &["--output", "json"]].concat()).await;
    assert_eq!(ended.code, Some(0), "{args:?}: {:#?}", ended.log);
    serde_json::from_str(&ended.stdout.join("\n")).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_with_the_old_secret_misses_nothing_while_keys_are_replaced() {
    let platform = Platform::start().await;
    let processor = Processor::start(&platform).await;
    let events = earthquakes();
    platform.aws.put("earthquakes", &events[..EVENTS]).await;
    platform.everything_arrived(EVENTS).await;

    let list = json(&platform, &["list"]).await;
    let id = list["subscriptions"][0]["id"].as_str().expect("one").to_owned();
    let made = json(&platform, &["rotate-secret", &id]).await;
    let secret = made["secret"].as_str().expect("shown once").to_owned();
    assert!(secret.starts_with("whsec_"), "{made}");
    let made = json(&platform, &["rotate-secret", &id, "--kind", "ed25519"]).await;
    assert!(made["public_key"].as_str().expect("the public half").starts_with("whpk_"), "{made}");
    platform.aws.put("earthquakes", &events[EVENTS..2 * EVENTS]).await;
    platform.everything_arrived(2 * EVENTS).await;
    assert_eq!(platform.receiver.ledger().unverified, 0, "the first secret signs beside both");

    let shown = subscriptions(&platform, &["show", &id]).await.stdout.join("\n");
    let all = subscriptions(&platform, &["list"]).await.stdout.join("\n");
    assert!(shown.contains("v1a") && shown.contains("signs_until"), "{shown}");
    assert!(all.contains("1 shown") && all.contains(&platform.receiver.authority()), "{all}");
    for text in [shown, all, json(&platform, &["show", &id]).await.to_string()] {
        assert!(!text.contains("whsec_") && !text.contains("whsk_"), "{text}");
    }
    let nobody = subscriptions(&platform, &["show", "sub_none"]).await;
    assert_eq!(nobody.code, Some(3), "{:#?}", nobody.log);
    assert!(nobody.log.join("\n").contains("there is no subscription sub_none"));
    let long = subscriptions(&platform, &["rotate-secret", &id, "--overlap", "30d"]).await;
    assert_eq!(long.code, Some(2), "{:#?}", long.log);
    assert_eq!(processor.stop().await.code, Some(0));
}

/// A client's own operations hear of a destination that fails and recovers; an operator makes, switches off and deletes.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_what_happens_to_its_destination() {
    let loopback = ["--set", "async_delivery.allowed_private=127.0.0.0/8"];
    let mut platform = Platform::start().await;
    let ops = Receiver::start().await;
    let list = json(&platform, &["list"]).await;
    let (id, client) = (&list["subscriptions"][0]["id"], &list["subscriptions"][0]["client"]);
    let (id, client) = (id.as_str().expect("an id"), client.as_str().expect("a client"));
    let url = ops.url();
    let wanted = ["create", "--client", client, "--webhook", &url, "--events"];
    let made = json(&platform, &[&wanted[..], &loopback].concat()).await;
    assert_eq!(made["integrations"][0], "sluicegate.events", "{made:#}");
    ops.expect_secret(made["secret"].as_str().expect("shown once"));
    let stranger = ["create", "--client", "nobody", "--webhook", &url, "--events"];
    let refused = subscriptions(&platform, &[&stranger[..], &loopback].concat()).await;
    assert_eq!(refused.code, Some(3), "{:#?}", refused.log);
    assert!(refused.log.join("\n").contains("there is no client nobody"), "{:#?}", refused.log);

    let processor = Processor::start_with(&platform, &loopback[1..]).await;
    platform.receiver.stop().await;
    platform.aws.put("earthquakes", &earthquakes()[..EVENTS]).await;
    told(&ops, &["destination.failing"], id).await;
    platform.receiver.start_again().await;
    platform.everything_arrived(EVENTS).await;
    told(&ops, &["destination.failing", "destination.recovered"], id).await;
    assert_eq!(ops.ledger().unverified, 0);

    let made = made["id"].as_str().expect("an id");
    assert_eq!(json(&platform, &["disable", made]).await["enabled"], false);
    assert_eq!(json(&platform, &["enable", made]).await["enabled"], true);
    assert_eq!(json(&platform, &["delete", made]).await["deleted"], true);
    assert_eq!(subscriptions(&platform, &["show", made]).await.code, Some(3));
    assert_eq!(processor.stop().await.code, Some(0));
}

/// The events of these types, each about this subscription, and no others.
async fn told(ops: &Receiver, types: &[&str], about: &str) {
    eventually("the client is told", async || {
        let bodies = ops.ledger().deliveries.into_values().map(|(_, body)| body);
        let events = bodies.map(|body| serde_json::from_slice::<Value>(&body).expect("JSON"));
        let mut found: Vec<String> = events
            .inspect(|event| assert_eq!(event["data"]["subscription"], about, "{event:#}"))
            .map(|event| event["type"].as_str().expect("a type").to_owned())
            .collect();
        found.sort();
        if found == types { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

/// What the API answers under a link to whoever has this key.
async fn read(link: &str, key: &str) -> Value {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = http::Request::get(link).header("authorization", format!("Bearer {key}"));
    let request = request.body(Empty::<Bytes>::new()).expect("a request");
    let answer = client.request(request).await.expect("an answer");
    let status = answer.status();
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    assert_eq!(status, 200, "{link}: {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thin_webhook_links_to_the_message_at_the_api() {
    let platform = Platform::start().await;
    let mut api = Sluicegate::start(&["api", "--config", &platform.config]);
    let line = api.line().await;
    let address = line.rsplit(' ').next().expect("an address").to_owned();
    let public_url = format!("api.public_url=http://{address}");

    let thin = file(platform.scratch(), "webhook.toml", "form = \"thin\"\n");
    let list = json(&platform, &["list"]).await;
    let id = list["subscriptions"][0]["id"].as_str().expect("one").to_owned();
    let nowhere = subscriptions(&platform, &["configure", &id, "--file", &thin]).await;
    assert_eq!(nowhere.code, Some(3), "{:#?}", nowhere.log);
    assert!(nowhere.log.join("\n").contains("api.public_url"), "{:#?}", nowhere.log);
    let configured =
        json(&platform, &["configure", &id, "--file", &thin, "--set", &public_url]).await;
    assert_eq!(configured["webhook"]["form"], "thin");

    let processor = Processor::start_with(&platform, &[&public_url]).await;
    let events = earthquakes();
    platform.aws.put("earthquakes", &events[..EVENTS]).await;
    platform.everything_arrived(EVENTS).await;
    let stored = platform.stored().await;
    let ledger = platform.receiver.ledger();
    assert_eq!(ledger.unverified, 0);
    for (id, (_, body)) in ledger.deliveries.iter().take(5) {
        let sent: Value = serde_json::from_slice(body).expect("JSON");
        assert_eq!(sent["id"], id.as_str());
        assert!(!sent.to_string().contains("properties"), "nothing of the message: {sent}");
        let message = read(sent["self"].as_str().expect("a link"), &platform.api_key).await;
        let payload: Value = serde_json::from_slice(&stored[id].payload).expect("JSON");
        assert_eq!(message["data"], payload);
    }
    for ended in [processor.stop().await, api.terminate().await] {
        assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_no_processor_could_use_are_refused_and_change_nothing() {
    let platform = Platform::start().await;
    let list = json(&platform, &["list"]).await;
    let id = list["subscriptions"][0]["id"].as_str().expect("one").to_owned();
    let before = json(&platform, &["show", &id]).await;
    for (text, said) in [
        ("form = \"fat\"", "line 1"),
        ("[headers]\nhost = \"s3cret\"", "header \"host\" is refused"),
        ("[auth.bearer]\ntoken = \"s3cret s3cret\"", "token is refused"),
        (
            "[auth.oauth]\ntoken_url = \"http://10.0.0.1/token\"\nclient_id = \"me\"\nclient_secret = \"s3cret\"",
            "the processor would not go there",
        ),
        ("[client_certificate]\ncertificates = \"s3cret\"\nkey = \"s3cret\"", "client certificate"),
    ] {
        let wrong = file(platform.scratch(), "wrong.toml", text);
        let ended = subscriptions(&platform, &["configure", &id, "--file", &wrong]).await;
        let log = ended.log.join("\n");
        assert_eq!(ended.code, Some(3), "{text}: {log}");
        assert!(log.contains(said) && !log.contains("s3cret"), "{text}: {log}");
    }
    assert_eq!(json(&platform, &["show", &id]).await, before);
}
