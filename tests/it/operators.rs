//! The operators' ports of the real binary: a client made over one of them, and its keys at a live API; leases and dead letters.

use std::collections::BTreeSet;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::child::{Sluicegate, run};
use crate::harness::eventually;
use crate::harness::platform::{Platform, Processor};

/// Both services with an operator, and her token.
struct Ports {
    api: Sluicegate,
    processor: Sluicegate,
    /// Where clients ask.
    clients: String,
    api_port: String,
    processor_port: String,
    token: String,
}

impl Ports {
    async fn start(platform: &Platform) -> Ports {
        let made =
            run(&["operators", "token", "anna", "--may", "change", "--output", "json"]).await;
        let made: Value = serde_json::from_str(&made.stdout.join("\n")).expect("JSON");
        let digest = format!("operators.tokens.anna.sha256={}", text(&made["sha256"]));
        let set = ["--set", &digest, "--set", "operators.tokens.anna.may=change"];
        let start = |service| {
            Sluicegate::start(&[&[service, "--config", &platform.config][..], &set].concat())
        };
        let (mut api, mut processor) = (start("api"), start("processor"));
        let clients = last_word(api.line().await);
        let api_port = last_word(api.line().await);
        let processor_port = last_word(processor.line().await);
        let token = text(&made["token"]);
        Ports {
            api,
            processor,
            clients: format!("http://{clients}"),
            api_port,
            processor_port,
            token,
        }
    }

    /// As the operator, at one of the ports.
    async fn ask(&self, port: &str, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let bearer = format!("Bearer {}", self.token);
        send(method, &format!("{port}{path}"), ("authorization", &bearer), body).await
    }

    /// All leases, once so many workers own some and every lease has an owner.
    async fn leases_of_all(&self, workers: usize) -> Vec<Value> {
        eventually(&format!("{workers} workers own all leases"), async || {
            let (_, page) = self.ask(&self.api_port, "GET", "/v1/admin/leases", None).await;
            let leases = page["leases"].as_array().cloned().unwrap_or_default();
            let owners: BTreeSet<_> = leases.iter().filter_map(|l| l["owner"].as_str()).collect();
            let all_owned = leases.iter().all(|lease| lease["state"] == "owned");
            if owners.len() != workers || !all_owned {
                return Err(page.to_string());
            }
            Ok(leases.clone())
        })
        .await
    }

    /// What the API answers to whoever has this key.
    async fn status(&self, key: &str) -> u16 {
        let url = format!("{}/v1/me", self.clients);
        send("GET", &url, ("x-api-key", key), None).await.0
    }

    /// Waits until a key is answered so.
    async fn becomes(&self, key: &str, wanted: u16) {
        eventually(&format!("the key is answered {wanted}"), async || {
            match self.status(key).await {
                found if found == wanted => Ok(()),
                found => Err(format!("answered {found}")),
            }
        })
        .await;
    }
}

async fn send(
    method: &str,
    url: &str,
    (name, value): (&str, &str),
    body: Option<Value>,
) -> (u16, Value) {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let mut request = http::Request::builder().method(method).uri(url).header(name, value);
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let request = request.body(Full::new(Bytes::from(body))).expect("a request");
    let answer = client.request(request).await.expect("an answer");
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

fn last_word(line: String) -> String {
    line.rsplit(' ').next().expect("an address").to_owned()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text: {value}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_operators_port_is_one_of_the_api_until_its_key_is_revoked() {
    let platform = Platform::start().await;
    let ports = Ports::start(&platform).await;
    let (at_api, at_processor) = (&ports.api_port, &ports.processor_port);
    let grants = json!([{ "integration": "earthquakes", "action": "read" }]);
    let wanted = json!({ "id": "partner", "name": "Partner", "grants": grants });
    let (status, made) = ports.ask(at_processor, "POST", "/v1/admin/clients", Some(wanted)).await;
    assert_eq!((status, &made["id"]), (201, &json!("partner")), "{made}");

    let keys = "/v1/admin/clients/partner/keys";
    let (status, first) = ports.ask(at_api, "POST", keys, None).await;
    assert_eq!(status, 201, "{first}");
    let (first, first_id) = (text(&first["apiKey"]), text(&first["id"]));
    ports.becomes(&first, 200).await;

    let none_left = Some(json!({ "overlapSeconds": 0 }));
    let rotate = format!("{keys}/rotate");
    let (status, second) = ports.ask(at_processor, "POST", &rotate, none_left).await;
    assert_eq!((status, &second["replacedKeys"]), (201, &json!([first_id])), "{second}");
    let (second, second_id) = (text(&second["apiKey"]), text(&second["id"]));
    let rotated = Instant::now();
    ports.becomes(&first, 401).await;
    println!("the old key is refused {:?} after its rotation", rotated.elapsed());
    ports.becomes(&second, 200).await;

    let path = format!("/v1/admin/keys/{second_id}");
    assert_eq!(ports.ask(at_api, "DELETE", &path, None).await.0, 204);
    let revoked = Instant::now();
    ports.becomes(&second, 401).await;
    // That it is less than two seconds is held to in paused time, beside the router.
    println!("the key is refused {:?} after it was revoked", revoked.elapsed());
    assert_eq!(ports.ask(at_processor, "GET", &path, None).await.1["state"], "revoked");

    let (_, page) = ports.ask(at_api, "GET", "/v1/admin/audit?limit=100", None).await;
    let changes = page["changes"].as_array().expect("changes");
    let hers = changes.iter().filter(|change| change["by"] == "operator anna");
    let mut actions: Vec<&str> = hers.filter_map(|change| change["action"].as_str()).collect();
    actions.sort_unstable();
    assert_eq!(
        actions,
        ["client.create", "key.end", "key.issue", "key.issue", "key.revoke"],
        "{page}"
    );
    let (api, processor) = (ports.api.terminate().await, ports.processor.terminate().await);
    assert_eq!((api.code, processor.code), (Some(0), Some(0)));
    let log = [api.log, processor.log].concat().join("\n");
    assert!(log.contains("anna"), "{log}");
    for secret in [&ports.token[4..], &first[21..], &second[21..]] {
        assert!(!log.contains(secret), "no secret is in a log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_services_tell_how_they_are_and_let_nobody_in_without_a_token() {
    let platform = Platform::start().await;
    let ports = Ports::start(&platform).await;
    let nobody = ("accept", "*/*");
    for (port, part) in [(&ports.api_port, "/access/epoch"), (&ports.processor_port, "/processor")]
    {
        eventually("it is ready", async || {
            let (status, said) = send("GET", &format!("{port}/readyz"), nobody, None).await;
            if status == 200 { Ok(()) } else { Err(format!("{status} {said}")) }
        })
        .await;
        let (status, state) = send("GET", &format!("{port}/v1/admin/state"), nobody, None).await;
        assert!(status == 200 && state.pointer(part).is_some(), "{port}: {state}");
        let (status, refused) =
            send("GET", &format!("{port}/v1/admin/clients"), nobody, None).await;
        assert_eq!((status, &refused["status"]), (401, &json!(401)));
        let (status, document) = send("GET", &format!("{port}/openapi.json"), nobody, None).await;
        assert!(status == 200 && document["paths"]["/v1/admin/usage"].is_object());
    }
    // Nothing of it is where clients ask.
    let (status, _) = ports.ask(&ports.clients, "GET", "/v1/admin/clients", None).await;
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_and_dead_letters_are_seen_and_acted_upon_over_the_port_of_the_api() {
    let platform = Platform::with_shards(Some(4)).await;
    let ports = Ports::start(&platform).await;
    let at_api = &ports.api_port;
    platform.aws.put("earthquakes", &[("key".to_owned(), b"not JSON".to_vec())]).await;
    eventually("the broken record is a dead letter", async || {
        let (_, page) = ports.ask(at_api, "GET", "/v1/admin/dead-letters", None).await;
        match page["deadLetters"].as_array().map(Vec::as_slice) {
            Some([letter]) if letter["payload"] == "not JSON" && letter["reason"] == "not-json" => {
                Ok(())
            }
            _ => Err(page.to_string()),
        }
    })
    .await;
    let redrive = "/v1/admin/dead-letters/redrive";
    let (status, report) = ports.ask(at_api, "POST", redrive, Some(json!({ "all": true }))).await;
    assert_eq!((status, &report["selected"], &report["sent"]), (200, &json!(1), &json!(0)));
    assert!(text(&report["stay"][0]["why"]).contains("still not-json"), "{report}");

    let first = ports.leases_of_all(1).await;
    let mine = text(&first[0]["owner"]);
    let path = format!("/v1/admin/leases/{}", text(&first[0]["key"]));
    let (status, why) = ports.ask(at_api, "GET", &path, None).await;
    assert_eq!((status, &why["state"]), (200, &json!("owned")), "{why}");
    assert!(text(&why["answer"]).contains(&mine), "{why}");
    let (status, alone) = ports.ask(at_api, "POST", &format!("{path}/release"), None).await;
    assert!(status == 409 && text(&alone["detail"]).contains("no other worker"), "{alone}");

    // With another worker each has some; one of the first one's is asked for, and goes where it was asked to go.
    let other = Processor::start_as(&platform, "worker-2").await;
    let leases = ports.leases_of_all(2).await;
    let kept = leases.iter().find(|lease| lease["owner"] == *mine).expect("one that it kept");
    let theirs = leases.iter().find(|lease| lease["owner"] != *mine).expect("one that it gave");
    let key = text(&kept["key"]);
    let to = json!({ "to": theirs["owner"] });
    let release = format!("/v1/admin/leases/{key}/release");
    let (status, asked) = ports.ask(at_api, "POST", &release, Some(to)).await;
    assert_eq!((status, &asked["owner"], &asked["to"]), (202, &json!(mine), &theirs["owner"]));
    eventually("the lease is handed over", async || {
        let path = format!("/v1/admin/leases/{key}");
        let (_, why) = ports.ask(at_api, "GET", &path, None).await;
        let moved = why["counter"].as_u64() > kept["counter"].as_u64();
        if moved { Ok(()) } else { Err(why.to_string()) }
    })
    .await;
    assert_eq!(other.stop().await.code, Some(0));
    let (api, processor) = (ports.api.terminate().await, ports.processor.terminate().await);
    assert_eq!((api.code, processor.code), (Some(0), Some(0)));
}
