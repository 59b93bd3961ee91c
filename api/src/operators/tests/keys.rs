//! Keys, made once and shown once, rotated, looked up, revoked.

use std::time::Duration;

use serde_json::{Value, json};
use store::ApiKey;

use super::{ANNA, Port, text};
use crate::operators::tests::token;

const KEYS: &str = "/v1/admin/clients/partner/keys";
const ROTATE: &str = "/v1/admin/clients/partner/keys/rotate";

fn key_of(made: &Value) -> ApiKey {
    ApiKey::parse(&text(&made["apiKey"])).unwrap()
}

fn path_of(made: &Value) -> String {
    format!("/v1/admin/keys/{}", text(&made["id"]))
}

#[tokio::test(start_paused = true)]
async fn a_key_works_until_it_is_rotated_away_or_revoked() {
    let port = Port::new().await;
    port.partner().await;
    let issued = port.ask(ANNA, http::Method::POST, KEYS, None).await;
    assert_eq!(issued.status, 201);
    assert_eq!(issued.header("cache-control"), "no-store");
    let first = issued.json();
    assert_eq!(first["endsAt"], "2027-02-21T12:00:00.000Z", "90 days");
    assert!(first.get("replacedKeys").is_none());
    let wanted =
        json!({ "label": "batch", "lifetimeSeconds": 3_600, "networks": ["203.0.113.0/24"] });
    let second = port.post(KEYS, wanted).await.json();
    assert_eq!(second["endsAt"], "2026-11-23T13:00:00.000Z");
    assert_eq!(port.world.get("/v1/me", &key_of(&first)).await.status, 200);
    port.world.get("/v1/me", &key_of(&second)).await.problem(401);

    let only = json!({ "keys": [first["id"]], "overlapSeconds": 60 });
    let third = port.post(ROTATE, only).await;
    assert_eq!(third.status, 201, "{}", third.text());
    let third = third.json();
    assert_eq!(third["replacedKeys"], json!([first["id"]]));
    assert_eq!(third["replacedKeysEndAt"], "2026-11-23T12:01:00.000Z");
    for made in [&first, &third] {
        port.world.pass(Duration::from_secs(2)).await;
        assert_eq!(port.world.get("/v1/me", &key_of(made)).await.status, 200);
    }
    port.world.pass(Duration::from_secs(60)).await;
    port.world.get("/v1/me", &key_of(&first)).await.problem(401);

    let all = port.post(ROTATE, json!({ "overlapSeconds": 0 })).await.json();
    let mut replaced: Vec<String> =
        all["replacedKeys"].as_array().unwrap().iter().map(text).collect();
    replaced.sort();
    let mut both = [text(&second["id"]), text(&third["id"])];
    both.sort();
    assert_eq!(replaced, both);
    port.world.pass(Duration::from_secs(2)).await;
    port.world.get("/v1/me", &key_of(&third)).await.problem(401);
    assert_eq!(port.world.get("/v1/me", &key_of(&all)).await.status, 200);

    for _ in 0..2 {
        assert_eq!(port.delete(&path_of(&all)).await.status, 204, "again is the same");
    }
    port.world.pass(Duration::from_secs(2)).await;
    port.world.get("/v1/me", &key_of(&all)).await.problem(401);
    let states = port.get("/v1/admin/clients/partner").await.json();
    let states: Vec<String> =
        states["keys"].as_array().unwrap().iter().map(|key| text(&key["state"])).collect();
    assert_eq!(states, ["revoked", "ended", "ended", "ended"], "the newest first");
}

#[tokio::test]
async fn a_key_that_was_found_says_whose_it_is_by_its_id_alone() {
    let port = Port::new().await;
    port.partner().await;
    let made = port.post(KEYS, json!({ "label": "ci" })).await.json();
    let key = key_of(&made);
    port.access.note_key_use(key.id(), 1_795_435_260_000).await.unwrap();
    let found = port.get(&path_of(&made)).await.json();
    for (member, value) in [
        ("client", "partner"),
        ("clientState", "on"),
        ("state", "works"),
        ("label", "ci"),
        ("lastUsedAt", "2026-11-23T12:01:00.000Z"),
    ] {
        assert_eq!(found[member], value, "{member}");
    }
    let whole = port.get(&format!("/v1/admin/keys/{}", key.expose())).await;
    let said = whole.problem(400).to_string();
    assert!(said.contains("12 characters behind sg_live_") && !said.contains(&key.expose()[8..20]));
    for path in ["/v1/admin/keys/nobodyskey00", "/v1/admin/keys/x"] {
        port.get(path).await.problem(404);
        port.delete(path).await.problem(404);
    }
    port.delete("/v1/admin/clients/partner").await;
    assert_eq!(port.get(&path_of(&made)).await.json()["clientState"], "gone");
}

#[tokio::test]
async fn what_no_key_may_be_is_refused_by_its_place() {
    let port = Port::new().await;
    port.partner().await;
    for (body, pointer) in [
        (json!({ "label": "x".repeat(201) }), "/label"),
        (json!({ "lifetimeSeconds": 0 }), "/lifetimeSeconds"),
        (json!({ "lifetimeSeconds": 315_360_001 }), "/lifetimeSeconds"),
        (json!({ "networks": ["10.0.0.0/8", "10.1.2.3/8"] }), "/networks/1"),
    ] {
        for path in [KEYS, ROTATE] {
            assert_eq!(port.post(path, body.clone()).await.problem(400)["pointer"], pointer);
        }
    }
    let secret = "sg_live_abcdefghijkl_secretsecretsecretsecretsecret12abcdef";
    for (body, pointer) in [
        (json!({ "overlapSeconds": 2_592_001 }), "/overlapSeconds"),
        (json!({ "keys": ["nobodyskey00"] }), "/keys/0"),
        (json!({ "keys": [secret] }), "/keys/0"),
        (json!({ "keys": vec!["nobodyskey00"; 46] }), "/keys"),
    ] {
        let problem = port.post(ROTATE, body).await.problem(400);
        assert_eq!(problem["pointer"], pointer);
        assert!(!problem.to_string().contains(&secret[8..]), "{problem}");
    }
    let made = port.post(KEYS, json!({})).await.json();
    port.delete(&path_of(&made)).await;
    port.post(ROTATE, json!({ "keys": [made["id"]] })).await.problem(409);
    for path in ["/v1/admin/clients/none/keys", "/v1/admin/clients/none/keys/rotate"] {
        port.post(path, json!({})).await.problem(404);
    }
}

#[tokio::test]
async fn as_many_keys_as_one_transaction_can_end_are_ended_at_once() {
    let port = Port::new().await;
    port.partner().await;
    for _ in 0..46 {
        assert_eq!(port.post(KEYS, json!({})).await.status, 201);
    }
    let too_many = port.post(ROTATE, json!({})).await.problem(409)["detail"].to_string();
    assert!(too_many.contains("46 keys would end, and 45 can"), "{too_many}");
    let keys = port.get("/v1/admin/clients/partner").await.json();
    let ids: Vec<&Value> =
        keys["keys"].as_array().unwrap().iter().map(|key| &key["id"]).take(45).collect();
    let rotated = port.post(ROTATE, json!({ "keys": ids })).await;
    assert_eq!(rotated.status, 201, "{}", rotated.text());
    assert_eq!(rotated.json()["replacedKeys"].as_array().unwrap().len(), 45);
}

#[tokio::test]
async fn a_process_without_the_pepper_makes_no_keys_and_does_all_else() {
    let port = Port::with(|_, backing| backing.makes_keys = false).await;
    port.partner().await;
    for path in [KEYS, ROTATE] {
        let detail = port.post(path, json!({})).await.problem(503)["detail"].to_string();
        assert!(detail.contains("secrets.pepper"), "{detail}");
    }
    assert_eq!(port.get("/v1/admin/clients/partner").await.json()["keys"], json!([]));
}

#[tokio::test]
async fn a_key_in_clear_is_in_the_answer_that_made_it_and_in_no_other() {
    let port = Port::new().await;
    port.partner().await;
    let made = port.post(KEYS, json!({})).await.json();
    let rotated = port.post(ROTATE, json!({})).await.json();
    let paths = [
        "/v1/admin/clients",
        "/v1/admin/clients/partner",
        "/v1/admin/audit",
        "/v1/admin/usage",
        &path_of(&made),
        &path_of(&rotated),
    ];
    for path in paths {
        let answer = port.get(path).await;
        assert_eq!(answer.status, 200);
        for key in [key_of(&made), key_of(&rotated)] {
            assert!(!answer.text().contains(&key.expose()[21..]), "{path}");
        }
        assert!(!answer.text().contains(&token(ANNA).expose()[4..20]), "{path}");
    }
}
