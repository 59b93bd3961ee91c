//! Who is let in, and what is written down of it.

use std::sync::atomic::Ordering;

use axum::body::Body;
use http::{Method, Request};
use serde_json::json;

use super::{ANNA, BEN, Port, operator, token};
use crate::Error;
use crate::operators::{May, Options};
use crate::routes::tests::Captured;

const CLIENTS: &str = "/v1/admin/clients";

#[tokio::test]
async fn how_the_process_is_needs_no_token() {
    let port = Port::new().await;
    let open = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    assert_eq!(port.send(open("/healthz")).await.json()["status"], "alive");
    assert_eq!(port.send(open("/readyz")).await.json()["status"], "ready");
    assert_eq!(port.send(open("/v1/admin/state")).await.json()["shards"], 3);
    port.process.broken.store(true, Ordering::Relaxed);
    assert_eq!(port.send(open("/readyz")).await.problem(503)["detail"], "no shards yet");
    assert_eq!(port.send(open("/healthz")).await.status, 200);
    let head = Request::head("/healthz").body(Body::empty()).unwrap();
    assert_eq!(port.send(head).await.status, 200);
    let post = Request::post("/healthz").body(Body::empty()).unwrap();
    port.send(post).await.problem(405);
    port.send(open("/v1/admin")).await.problem(404);
}

#[tokio::test]
async fn every_other_call_needs_one_and_a_change_needs_one_that_may() {
    let port = Port::new().await;
    let calls = [
        (Method::GET, CLIENTS),
        (Method::POST, CLIENTS),
        (Method::GET, "/v1/admin/clients/a"),
        (Method::PATCH, "/v1/admin/clients/a"),
        (Method::DELETE, "/v1/admin/clients/a"),
        (Method::POST, "/v1/admin/clients/a/keys"),
        (Method::POST, "/v1/admin/clients/a/keys/rotate"),
        (Method::GET, "/v1/admin/keys/abcdefghijkl"),
        (Method::DELETE, "/v1/admin/keys/abcdefghijkl"),
        (Method::POST, "/v1/admin/clients/a/oauth-clients"),
        (Method::DELETE, "/v1/admin/clients/a/oauth-clients"),
        (Method::GET, "/v1/admin/audit"),
        (Method::GET, "/v1/admin/usage"),
    ];
    for (method, path) in calls {
        let request = || Request::builder().method(&method).uri(path);
        let without = port.send(request().body(Body::empty()).unwrap()).await;
        let detail = without.problem(401)["detail"].clone();
        assert!(without.header("www-authenticate").starts_with("Bearer"));
        for wrong in [format!("Bearer {}", token(9).expose()), "Bearer x".to_owned()] {
            let request = request().header("authorization", wrong).body(Body::empty());
            let refused = port.send(request.unwrap()).await.problem(401);
            assert_eq!(refused["detail"], detail, "what is wrong is not said");
        }
        let looked = port.ask(BEN, method.clone(), path, None).await;
        match method.is_safe() {
            true => assert!([200, 404].contains(&looked.status.as_u16()), "{path}"),
            false => {
                let detail = looked.problem(403)["detail"].clone();
                assert!(detail.to_string().contains("may = "), "{detail}");
            }
        }
    }
    let key = "sg_live_abcdefghijkl_secretsecretsecretsecretsecret12abcdef";
    let with_key = Request::get(CLIENTS).header("x-api-key", key).body(Body::empty());
    port.send(with_key.unwrap()).await.problem(401);
}

#[tokio::test]
async fn without_operators_the_calls_say_how_there_would_be_some() {
    let port = Port::with(|options, _| options.operators.clear()).await;
    let refused = port.get(CLIENTS).await.problem(403)["detail"].to_string();
    assert!(refused.contains("[operators.tokens.NAME]"), "{refused}");
    assert!(refused.contains("sluicegate operators token NAME"), "{refused}");
    let state = Request::get("/v1/admin/state").body(Body::empty()).unwrap();
    assert_eq!(port.send(state).await.status, 200);
}

#[tokio::test]
async fn no_browser_is_let_in() {
    let port = Port::new().await;
    let preflight = Request::options(CLIENTS)
        .header("origin", "https://evil.example")
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "authorization")
        .body(Body::empty());
    let answer = port.send(preflight.unwrap()).await;
    assert_ne!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), "");
    let answer = port.get(CLIENTS).await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
    assert_eq!(answer.header("set-cookie"), "");
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn two_operators_with_one_token_and_an_address_that_is_taken_are_refused() {
    let port = Port::new().await;
    for (name, n) in [("anna", 7), ("other", ANNA)] {
        let mut options = Options::new("127.0.0.1:0".parse().unwrap());
        options.operators = vec![operator("anna", ANNA, May::Change), operator(name, n, May::Look)];
        let refused =
            super::Service::bind(options, port.backing.clone(), port.process.clone()).await;
        let Err(Error::Options(why)) = refused else { panic!("must be refused") };
        assert!(why.contains("a token of its own for each"));
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let options = Options::new(taken.local_addr().unwrap());
    let bound = super::Service::bind(options, port.backing.clone(), port.process.clone()).await;
    assert!(matches!(bound, Err(Error::Listen { .. })));
}

#[tokio::test(start_paused = true)]
async fn every_request_leaves_a_line_with_who_and_how_it_ended_and_no_secret() {
    let port = Port::new().await;
    let (log, _guard) = Captured::start();
    port.partner().await;
    port.get("/v1/admin/clients/nobody?x=1").await;
    let path = "/v1/admin/clients/partner/keys";
    let made = port.post(path, json!({ "label": "the label" })).await;
    let key = super::text(&made.json()["apiKey"]);
    port.ask(BEN, Method::DELETE, "/v1/admin/clients/partner", None).await;
    let wrong = Request::get(CLIENTS).header("authorization", "Bearer sgo_wrong");
    port.send(wrong.body(Body::empty()).unwrap()).await;
    let health = Request::get("/healthz").body(Body::empty()).unwrap();
    port.send(health).await;
    let all = log.take();
    let lines: Vec<String> = all
        .iter()
        .filter(|line| line["target"] == "audit")
        .map(|line| {
            assert_eq!((&line["log"], &line["decision"]), (&json!("audit"), &json!("operator")));
            let field = |name: &str| line[name].as_str().unwrap().to_owned();
            ["operator", "method", "route", "reason"].map(field).join(" ")
        })
        .collect();
    assert_eq!(
        lines,
        [
            "anna POST /v1/admin/clients 201",
            "anna GET /v1/admin/clients/{client} 400",
            "anna POST /v1/admin/clients/{client}/keys 201",
            "ben DELETE /v1/admin/clients/{client} may-only-look",
            "- GET /v1/admin/clients malformed",
        ]
    );
    let said = format!("{all:?}");
    for hidden in [&key[8..], token(ANNA).expose(), "sgo_wrong", "the label", "partner"] {
        assert!(!said.contains(hidden), "{hidden}: {said}");
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_are_written_within_a_limit_and_what_was_left_out_is_counted() {
    let port = Port::new().await;
    let (log, _guard) = Captured::start();
    let refused = || Request::get(CLIENTS).body(Body::empty()).unwrap();
    for _ in 0..25 {
        port.send(refused()).await.problem(401);
    }
    assert_eq!(log.audit().len(), 10);
    for _ in 0..20 {
        port.get(CLIENTS).await;
    }
    let lines = log.audit();
    assert_eq!(lines.len(), 20, "operators are always written");
    assert_eq!(lines[0]["left_out"], 15);
    assert_eq!(lines[1]["left_out"], 0);
}
