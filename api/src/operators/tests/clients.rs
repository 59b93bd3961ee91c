//! Clients, made, changed, deleted; and whose access tokens are theirs.

use std::time::Duration;

use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};
use store::{Action, ApiKey, ClientId, IntegrationName, authorise};

use super::{ANNA, Port, text, token};

const CLIENTS: &str = "/v1/admin/clients";
const PARTNER: &str = "/v1/admin/clients/partner";

impl Port {
    async fn patch(&self, path: &str, body: Value) -> crate::routes::tests::Answer {
        self.ask(ANNA, Method::PATCH, path, Some(body)).await
    }
}

#[tokio::test]
async fn a_client_is_made_shown_changed_and_deleted_for_ever() {
    let port = Port::new().await;
    let grants = json!([
        { "integration": "quakes", "action": "read", "entityPrefix": "us",
          "filter": { "mag": [{ "numeric": [">=", 4.5] }] }, "fields": ["/mag"] },
        { "integration": "*", "action": "publish" },
    ]);
    let limits = json!({ "requestsPerSecond": 7, "requestsPerDay": 0, "plan": "gold" });
    let wanted = json!({ "id": "partner", "name": "Partner", "grants": grants, "limits": limits });
    let made = port.post(CLIENTS, wanted.clone()).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!((made.header("location"), made.header("etag")), (PARTNER, "\"1\""));
    let made = made.json();
    assert_eq!(
        (&made["id"], &made["enabled"], &made["version"]),
        (&json!("partner"), &json!(true), &json!(1))
    );
    assert_eq!(made["createdAt"], "2026-11-23T12:00:00.000Z");
    assert_eq!(
        (&made["limits"]["plan"], &made["limits"]["requestsPerDay"]),
        (&json!("gold"), &json!(0))
    );
    port.post(CLIENTS, wanted.clone()).await.problem(409);

    let stored =
        port.access.get_client(&ClientId::parse("partner").unwrap()).await.unwrap().unwrap();
    let quakes = IntegrationName::parse("quakes").unwrap();
    let us = store::Entity::parse("us-west").unwrap();
    assert!(authorise(&stored, Action::Read, &quakes, Some(&us)).is_allowed());
    assert!(!authorise(&stored, Action::Read, &quakes, None).is_allowed());

    let shown = port.get(PARTNER).await;
    assert_eq!(shown.header("etag"), "\"1\"");
    let shown = shown.json();
    assert_eq!(shown["grants"][0]["filter"], wanted["grants"][0]["filter"]);
    assert_eq!(shown["effectiveLimits"]["requestsPerSecond"], 7);
    assert_eq!(shown["effectiveLimits"]["burst"], 100, "there is no plan gold here");
    assert_eq!(shown["usedToday"], json!({ "requests": 0, "bytes": 0 }));
    assert_eq!((&shown["keys"], &shown["oauthClients"]), (&json!([]), &json!([])));

    let patch = json!({ "name": "Renamed", "limits": { "requestsPerSecond": null, "burst": 9 }, "enabled": false });
    let changed = port.patch(PARTNER, patch).await.json();
    assert_eq!((&changed["name"], &changed["enabled"]), (&json!("Renamed"), &json!(false)));
    assert_eq!(
        (&changed["limits"]["requestsPerSecond"], &changed["limits"]["burst"]),
        (&Value::Null, &json!(9))
    );
    assert_eq!(changed["limits"]["plan"], "gold", "what is not said stays");
    assert_eq!(changed["grants"].as_array().unwrap().len(), 2);
    let bare = port.patch(PARTNER, json!({ "limits": null, "grants": [] })).await.json();
    assert_eq!(
        (&bare["limits"], &bare["grants"], &bare["version"]),
        (&Value::Null, &json!([]), &json!(3))
    );

    assert_eq!(port.delete(PARTNER).await.status, 204);
    port.get(PARTNER).await.problem(404);
    port.delete(PARTNER).await.problem(404);
    port.post(CLIENTS, wanted).await.problem(409);
}

#[tokio::test]
async fn a_change_is_held_to_the_version_that_was_read() {
    let port = Port::new().await;
    port.partner().await;
    let at = |method: Method, tag: &str, body: &str| {
        let request = Request::builder().method(method).uri(PARTNER).header("if-match", tag);
        let request = request.header("authorization", format!("Bearer {}", token(ANNA).expose()));
        request
            .header("content-type", "application/json")
            .body(Body::from(body.to_owned()))
            .unwrap()
    };
    let off = r#"{"enabled":false}"#;
    port.send(at(Method::PATCH, "\"2\"", off)).await.problem(412);
    assert_eq!(port.send(at(Method::PATCH, "\"1\"", off)).await.header("etag"), "\"2\"");
    port.send(at(Method::DELETE, "\"1\"", "")).await.problem(412);
    assert_eq!(port.send(at(Method::DELETE, "\"2\"", "")).await.status, 204);
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_by_its_place_and_nothing_is_made() {
    let port = Port::new().await;
    let refused = [
        (json!({ "name": "" }), "/name"),
        (json!({ "name": "x".repeat(201) }), "/name"),
        (json!({ "id": "a b", "name": "x" }), "/id"),
        (
            json!({ "name": "x", "grants": [{ "integration": "Q", "action": "read" }] }),
            "/grants/0/integration",
        ),
        (
            json!({ "name": "x", "grants": [{ "integration": "*", "action": "publish", "fields": ["/a"] }] }),
            "/grants/0/fields",
        ),
        (
            json!({ "name": "x", "grants": [{ "integration": "*", "action": "read", "fields": ["a"] }] }),
            "/grants/0/fields",
        ),
        (
            json!({ "name": "x", "grants": [{ "integration": "*", "action": "read", "filter": { "a": [] } }] }),
            "/grants/0/filter",
        ),
        (
            json!({ "name": "x", "grants": [{ "integration": "*", "action": "read", "entityPrefix": "p".repeat(513) }] }),
            "/grants/0/entityPrefix",
        ),
        (json!({ "name": "x", "limits": { "burst": 0 } }), "/limits/burst"),
        (
            json!({ "name": "x", "limits": { "bytesPerDay": 1_000_000_000_000_000u64 } }),
            "/limits/bytesPerDay",
        ),
        (json!({ "name": "x", "limits": { "plan": "a b" } }), "/limits/plan"),
    ];
    for (body, pointer) in refused {
        let problem = port.post(CLIENTS, body.clone()).await.problem(400);
        assert_eq!(problem["pointer"], pointer, "{body} {problem}");
    }
    let many: Vec<Value> = vec![json!({ "integration": "*", "action": "read" }); 201];
    let problem = port.post(CLIENTS, json!({ "name": "x", "grants": many })).await.problem(400);
    assert_eq!(problem["pointer"], "/grants");
    for body in [json!({}), json!({ "name": "x", "colour": "red" }), json!([])] {
        port.post(CLIENTS, body).await.problem(400);
    }
    assert_eq!(port.get(CLIENTS).await.json()["clients"], json!([]));
    for path in ["/v1/admin/clients/none", "/v1/admin/clients/a%20b"] {
        port.patch(path, json!({ "enabled": false })).await.problem(404);
        port.get(path).await.problem(404);
    }
}

#[tokio::test]
async fn a_list_is_paged_and_passes_over_what_was_deleted() {
    let port = Port::new().await;
    for n in 0..7 {
        let body = json!({ "id": format!("c{n}"), "name": "x" });
        assert_eq!(port.post(CLIENTS, body).await.status, 201);
    }
    for n in [2, 3, 6] {
        assert_eq!(port.delete(&format!("{CLIENTS}/c{n}")).await.status, 204);
    }
    let mut pages = Vec::new();
    let mut path = format!("{CLIENTS}?limit=2");
    loop {
        let page = port.get(&path).await.json();
        let ids = page["clients"].as_array().unwrap().iter().map(|one| text(&one["id"]));
        pages.push(ids.collect::<Vec<_>>());
        let Some(next) = page["next"].as_str() else { break };
        path = format!("{CLIENTS}?limit=2&cursor={next}");
    }
    assert_eq!(pages.concat(), ["c0", "c1", "c4", "c5"]);
    assert!(pages.len() <= 4, "{pages:?}");
    for bad in ["limit=0", "limit=101", "cursor=a%20b", "x=1", "limit=1&limit=1"] {
        port.get(&format!("{CLIENTS}?{bad}")).await.problem(400);
    }
}

#[tokio::test]
async fn an_issuers_client_is_bound_to_one_client_and_unbound_by_that_one_alone() {
    let port = Port::new().await;
    port.partner().await;
    port.post(CLIENTS, json!({ "id": "other", "name": "Other" })).await;
    let path = "/v1/admin/clients/partner/oauth-clients";
    let acme = json!({ "issuer": "https://login.example.com", "oauthClientId": "acme corp" });
    let bound = port.post(path, acme.clone()).await;
    assert_eq!(bound.status, 201, "{}", bound.text());
    assert_eq!(bound.json()["oauthClientId"], "acme corp");
    port.post(path, acme.clone()).await.problem(409);
    port.post("/v1/admin/clients/other/oauth-clients", acme).await.problem(409);
    let shown = port.get(PARTNER).await.json();
    assert_eq!(shown["oauthClients"][0]["issuer"], "https://login.example.com");
    for (body, pointer) in [
        (json!({ "issuer": "a b", "oauthClientId": "x" }), "/issuer"),
        (json!({ "issuer": "i", "oauthClientId": "" }), "/oauthClientId"),
    ] {
        assert_eq!(port.post(path, body).await.problem(400)["pointer"], pointer);
    }
    let free = json!({ "issuer": "i", "oauthClientId": "free" });
    port.post("/v1/admin/clients/none/oauth-clients", free).await.problem(404);

    let query = "issuer=https://login.example.com&oauthClientId=acme%20corp";
    port.delete(&format!("/v1/admin/clients/other/oauth-clients?{query}")).await.problem(404);
    assert_eq!(port.delete(&format!("{path}?{query}")).await.status, 204);
    port.delete(&format!("{path}?{query}")).await.problem(404);
    for bad in
        ["", "?issuer=i", "?issuer=i&oauthClientId=c&x=1", "?issuer=i&issuer=i&oauthClientId=c"]
    {
        port.delete(&format!("{path}{bad}")).await.problem(400);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_switched_off_is_refused_by_the_api() {
    let port = Port::new().await;
    port.partner().await;
    let made = port.post("/v1/admin/clients/partner/keys", json!({})).await.json();
    let key = ApiKey::parse(&text(&made["apiKey"])).unwrap();
    assert_eq!(port.world.get("/v1/me", &key).await.status, 200);
    port.patch(PARTNER, json!({ "enabled": false })).await;
    port.world.pass(Duration::from_secs(2)).await;
    port.world.get("/v1/me", &key).await.problem(401);
    port.patch(PARTNER, json!({ "enabled": true })).await;
    port.world.pass(Duration::from_secs(2)).await;
    assert_eq!(port.world.get("/v1/me", &key).await.status, 200);
}
