//! Access tokens through the whole router: which are taken, that all others are refused alike, and
//! what a token may do.

mod certificates;
mod cost;
mod hostile;

use std::time::Duration;

use http::Request;
use serde_json::{Value, json};
use store::{Client, Grant};

use super::{Answer, CHANGE, NOW_MS, World, message, reads, reads_prefix};
use crate::testing::forge::Forge;
use crate::{Algorithm, Issuer, OAuthOptions, Options};

const ISSUER: &str = "https://login.example/realms/a";
const KEYS: &str = "https://login.example/realms/a/keys";
const API: &str = "https://api.example.com";
const NOW_S: i64 = NOW_MS / 1_000;

fn options() -> OAuthOptions {
    let issuer = Issuer {
        audiences: vec![API.to_owned()],
        algorithms: ["RS256", "PS256", "ES256", "EdDSA"]
            .map(|a| Algorithm::parse(a).unwrap())
            .into(),
        jwks_uri: Some(KEYS.to_owned()),
        ..Issuer::new(ISSUER)
    };
    OAuthOptions { issuers: vec![issuer], ..OAuthOptions::default() }
}

/// What a good token says; each test changes what it is about.
fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": API, "client_id": "partner", "sub": "partner",
        "iat": NOW_S - 10, "exp": NOW_S + 3_600, "jti": "1",
        "scope": "openid integration:quakes:read integration:flights:read",
    })
}

/// The claims with some changed; null takes one away.
fn with(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

/// An API that takes the tokens of one issuer, and that issuer. `partner` is bound to a client.
async fn world(grants: Vec<Grant>) -> (World, Forge, Client) {
    world_with(grants, |_| {}).await
}

async fn world_with(
    grants: Vec<Grant>,
    change: impl FnOnce(&mut Options),
) -> (World, Forge, Client) {
    let mut world = World::with(|given| {
        change(given);
        given.oauth = options();
        given.limits.failed_authentications_per_second = 10_000;
        given.limits.client.burst = 10_000;
    })
    .await;
    let forge = Forge::new(0);
    world.published.put(KEYS, &forge.key_set());
    let (client, _) = world.client("reader", grants).await;
    world.access.bind_oauth(&client.id, ISSUER, "partner", &CHANGE).await.unwrap();
    (world, forge, client)
}

impl World {
    async fn with_token(&self, path: &str, token: &str) -> Answer {
        self.send(Request::get(path).header("authorization", format!("Bearer {token}"))).await
    }
}

#[tokio::test]
async fn tokens_of_every_allowed_kind_are_taken() {
    let (world, forge, _) = world(vec![reads("quakes")]).await;
    let algorithms = [("RS256", "rsa"), ("PS256", "rsa"), ("ES256", "ec"), ("EdDSA", "ed")];
    for (algorithm, kid) in algorithms {
        let me = world.with_token("/v1/me", &forge.token(algorithm, kid, &claims())).await;
        assert_eq!(me.json()["id"], "reader", "{algorithm}");
        assert_eq!(me.status, 200);
    }
    for kind in ["at+jwt", "AT+JWT", "application/at+jwt", "JWT"] {
        let header = json!({ "alg": "ES256", "typ": kind, "kid": "ec" });
        let answer = world.with_token("/v1/me", &forge.token_of(&header, &claims())).await;
        assert_eq!(answer.status, 200, "{kind}");
    }
    let unnamed = json!({ "alg": "EdDSA", "typ": "JWT" });
    for good in [
        forge.token_of(&unnamed, &claims()),
        forge.token("ES256", "ec", &with(json!({ "aud": ["other", API] }))),
        forge.token("ES256", "ec", &with(json!({ "exp": NOW_S - 29, "iat": NOW_S - 600 }))),
        forge.token("ES256", "ec", &with(json!({ "nbf": NOW_S + 29, "iat": null }))),
        forge.token("ES256", "ec", &with(json!({ "exp": NOW_S as f64 + 60.5, "scope": null }))),
        forge.token("ES256", "ec", &with(json!({ "token_use": "access", "typ": "Bearer" }))),
    ] {
        assert_eq!(world.with_token("/v1/me", &good).await.status, 200);
    }
    assert_eq!(world.published.fetches(KEYS), 1);
}

/// A1: what a token may do is what both its scopes and its client's grants allow.
#[tokio::test]
async fn a_token_reads_what_its_scopes_and_its_clients_grants_both_allow() {
    let (world, forge, _) =
        world(vec![reads_prefix("quakes", Some("eu/")), reads("flights")]).await;
    world.store(vec![message("quakes", "eu/1", 1), message("quakes", "us/1", 2)]).await;
    world.store(vec![message("flights", "x", 3)]).await;
    let status = async |scope: &str, integration: &str, entity: &str| {
        let token = forge.token("ES256", "ec", &with(json!({ "scope": scope })));
        let path = format!("/v1/integrations/{integration}/entities/{entity}/latest");
        world.with_token(&path, &token).await.status.as_u16()
    };
    let quakes = "integration:quakes:read";
    assert_eq!(status(quakes, "quakes", "eu%2F1").await, 200);
    assert_eq!(status(quakes, "quakes", "us%2F1").await, 404, "outside the grant");
    assert_eq!(status(quakes, "flights", "x").await, 404, "outside the scope");
    assert_eq!(status("integration:quakes:publish", "quakes", "eu%2F1").await, 404);
    assert_eq!(status("", "quakes", "eu%2F1").await, 404);
    let both = format!("{quakes} integration:flights:read");
    assert_eq!(status(&both, "flights", "x").await, 200);
    let token = forge.token("ES256", "ec", &with(json!({ "scope": quakes })));
    let seen = world.with_token("/v1/integrations", &token).await.json();
    let names: Vec<_> =
        seen["integrations"].as_array().unwrap().iter().map(|i| &i["name"]).collect();
    assert_eq!(names, ["quakes"]);
}

/// P7: also for a token that was taken before.
#[tokio::test(start_paused = true)]
async fn a_token_ends_with_its_binding_its_client_and_its_time() {
    let (world, forge, client) = world(vec![reads("quakes")]).await;
    let token = forge.token("ES256", "ec", &with(json!({ "exp": NOW_S + 100 })));
    let status = async || world.with_token("/v1/me", &token).await.status.as_u16();
    let two_seconds = Duration::from_millis(2_001);
    assert_eq!(status().await, 200);
    world.access.unbind_oauth(ISSUER, "partner", None, &CHANGE).await.unwrap();
    world.pass(two_seconds).await;
    assert_eq!(status().await, 401);
    world.access.bind_oauth(&client.id, ISSUER, "partner", &CHANGE).await.unwrap();
    world.pass(two_seconds).await;
    assert_eq!(status().await, 200);
    let off = Client { enabled: false, ..client.clone() };
    let off = world.access.put_client(&off, &CHANGE).await.unwrap();
    world.pass(two_seconds).await;
    assert_eq!(status().await, 401);
    let on = Client { enabled: true, grants: vec![], ..off };
    world.access.put_client(&on, &CHANGE).await.unwrap();
    world.pass(two_seconds).await;
    let me = world.with_token("/v1/me", &token).await;
    assert_eq!(me.json()["grants"], json!([]), "of the client as it is now");
    world.pass(Duration::from_secs(130)).await;
    assert_eq!(status().await, 401);
}

/// Amazon Cognito's access tokens: no `typ`, no `aud`, scopes behind the resource server's name.
#[tokio::test]
async fn a_token_of_cognitos_form_is_taken_where_that_is_configured() {
    let issuer = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEf";
    let mut world = World::with(|given| {
        given.oauth.issuers = vec![Issuer {
            untyped: true,
            scope_prefix: "https://api.example.com/".to_owned(),
            ..Issuer::new(issuer)
        }];
    })
    .await;
    let forge = Forge::new(0);
    let discovery = format!("{issuer}/.well-known/openid-configuration");
    let keys = format!("{issuer}/.well-known/jwks.json");
    world.published.put(&discovery, &json!({ "issuer": issuer, "jwks_uri": keys }));
    world.published.put(&keys, &forge.key_set());
    let (client, _) = world.client("partner", vec![reads("quakes")]).await;
    world.access.bind_oauth(&client.id, issuer, "1example23456789", &CHANGE).await.unwrap();
    let header = json!({ "kid": "rsa", "alg": "RS256" });
    let claims = json!({
        "sub": "1example23456789", "token_use": "access", "auth_time": NOW_S,
        "scope": "https://api.example.com/integration:quakes:read", "iss": issuer,
        "exp": NOW_S + 3_600, "iat": NOW_S, "version": 2, "jti": "a", "client_id": "1example23456789",
    });
    let me = world.with_token("/v1/me", &forge.token_of(&header, &claims)).await.json();
    assert_eq!(me["grants"][0]["integration"], "quakes");
    let mut for_another = claims.clone();
    for_another["aud"] = "another".into();
    world.with_token("/v1/me", &forge.token_of(&header, &for_another)).await.problem(401);
    let mut id = claims;
    id["token_use"] = "id".into();
    world.with_token("/v1/me", &forge.token_of(&header, &id)).await.problem(401);
}

#[tokio::test]
async fn without_an_issuer_no_token_is_taken_and_none_fetches_anything() {
    let world = World::new().await;
    let token = Forge::new(0).token("ES256", "ec", &claims());
    world.with_token("/v1/me", &token).await.problem(401);
    assert_eq!(world.published.fetches(KEYS), 0);
}
