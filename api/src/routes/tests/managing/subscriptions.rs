//! `/v1/subscriptions`: made, seen, changed and deleted by their owner, and by nobody else.

use http::Request;
use serde_json::{Value, json};
use store::{SubscriptionId, WebhookAuth};

use super::super::access::shown;
use super::super::{NOW_MS, World, reads};
use super::{PASSWORD, TOKEN, subscribes, text, webhook};

const ALL: &str = "/v1/subscriptions";

fn one(id: &str) -> String {
    format!("{ALL}/{id}")
}

async fn kept(world: &World, id: &str) -> store::Subscription {
    let id = SubscriptionId::parse(id).unwrap();
    world.managing.subscriptions.get(&id).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_client_makes_a_subscription_and_is_shown_its_secret_once() {
    let mut world = World::new().await;
    let (client, key) = world.client("acme", vec![subscribes("quakes")]).await;
    let made = world
        .post(
            ALL,
            &key,
            &json!({
                "destination": { "webhook": webhook() },
                "integrations": ["quakes"],
                "entityPrefix": "ci",
                "eventTypes": ["earthquake"],
                "filter": { "properties": { "mag": [{ "numeric": [">=", 4.5] }] } },
                "policy": { "timeoutMs": 5000, "ratePerSecond": 20, "order": "key", "onExhausted": "stop" },
            }),
        )
        .await;
    assert_eq!(made.status, 201, "{}", made.json());
    let body = made.json();
    let id = text(&body, "id");
    assert_eq!(made.header("location"), one(id));
    assert_eq!(made.header("etag"), "\"1\"");
    assert!(text(&body, "secret").starts_with("whsec_"), "{body}");
    let stored = kept(&world, id).await;
    assert_eq!(stored.client, client.id);
    assert_eq!(stored.created_at_ms, NOW_MS);
    let webhook = stored.destination.webhook().unwrap();
    assert_eq!(webhook.keys[0].secret.expose(), text(&body, "secret"));
    assert_eq!(webhook.url.as_str(), format!("https://hooks.example/{TOKEN}"));
    assert!(
        matches!(webhook.auth.as_deref(), Some(WebhookAuth::Basic { user, .. }) if user == "acme")
    );
    assert!(webhook.public_only, "what operators vouch for is theirs");
    assert_eq!((stored.policy.timeout_ms, stored.policy.rate_per_second), (5_000, Some(20)));

    let shown = world.get(&one(id), &key).await;
    assert_eq!((shown.status.as_u16(), shown.header("etag")), (200, "\"1\""));
    let mut without = body.clone();
    without.as_object_mut().unwrap().remove("secret");
    assert_eq!(shown.json(), without, "the same, but for the secret");
    assert_eq!(without["destination"]["webhook"]["origin"], "https://hooks.example:443");
    assert_eq!(without["destination"]["webhook"]["headers"], json!(["x-tenant-key"]));
    assert_eq!(without["destination"]["webhook"]["auth"], "basic");
    assert_eq!(without["filter"]["properties"]["mag"][0]["numeric"][1], 4.5);
    let list = world.get(ALL, &key).await.json();
    assert_eq!(list, json!({ "subscriptions": [without], "next": null }));
    let unchanged = Request::get(one(id)).header("if-none-match", "\"1\"");
    assert_eq!(world.send(unchanged.header("x-api-key", key.expose())).await.status, 304);
}

#[tokio::test]
async fn every_change_is_written_down_with_who_and_in_which_request() {
    let mut world = World::new().await;
    let (_, key) = world.client("acme", vec![subscribes("quakes")]).await;
    let made = world.subscribe(&key).await;
    let id = text(&made, "id");
    let changed = world.patch(&one(id), &key, &json!({ "enabled": false })).await;
    let same = world.patch(&one(id), &key, &json!({ "enabled": false })).await;
    assert_eq!((changed.header("etag"), same.header("etag")), ("\"2\"", "\"2\""), "no change");
    world.post(&format!("{}/secret/rotate", one(id)), &key, &json!({})).await;
    assert_eq!(world.delete(&one(id), &key).await.status, 204);
    let entries = world.access.audit(NOW_MS.div_euclid(86_400_000)).await.unwrap();
    let of_it: Vec<&str> =
        entries.iter().filter(|e| e.subject == id).map(|e| e.action.as_str()).collect();
    // All at the same moment: in the order of their names.
    let all = [
        "subscription.change",
        "subscription.create",
        "subscription.delete",
        "subscription.rotate",
    ];
    assert_eq!(of_it, all);
    let change = entries.iter().find(|e| e.action == "subscription.change").unwrap();
    assert_eq!(change.by, format!("client acme, request {}", changed.header("x-request-id")));
    assert_eq!(world.managing.subscriptions.epochs().await.unwrap().subscriptions, 4);
}

#[tokio::test]
async fn a_change_takes_what_it_names_and_leaves_the_rest() {
    let mut world = World::new().await;
    let grants = vec![subscribes("quakes"), subscribes("flights")];
    let (_, key) = world.client("acme", grants).await;
    let made = world.subscribe(&key).await;
    let id = text(&made, "id");
    let changed = world
        .patch(
            &one(id),
            &key,
            &json!({
                "integrations": ["flights"],
                "filter": { "n": [1] },
                "policy": { "concurrency": 3 },
                "destination": { "webhook": { "headers": { "x-new": "1" }, "auth": null } },
            }),
        )
        .await
        .json();
    let webhook = &changed["destination"]["webhook"];
    assert_eq!((&webhook["headers"], &webhook["auth"]), (&json!(["x-new"]), &Value::Null));
    assert_eq!(webhook["origin"], "https://hooks.example:443", "it stays");
    assert_eq!(
        (&changed["policy"]["concurrency"], &changed["policy"]["timeoutMs"]),
        (&json!(3), &json!(15_000))
    );
    assert_eq!(
        (&changed["integrations"], &changed["filter"]),
        (&json!(["flights"]), &json!({ "n": [1] }))
    );
    let cleared = world.patch(&one(id), &key, &json!({ "filter": null })).await.json();
    assert_eq!((&cleared["filter"], &cleared["version"]), (&Value::Null, &json!(3)));
    let signs = |subscription: &store::Subscription| {
        subscription.destination.webhook().unwrap().keys.clone()
    };
    assert_eq!(signs(&kept(&world, id).await)[0].secret.expose(), text(&made, "secret"));
}

#[tokio::test]
async fn a_change_of_what_was_not_read_is_refused() {
    let mut world = World::new().await;
    let (_, key) = world.client("acme", vec![subscribes("quakes")]).await;
    let made = world.subscribe(&key).await;
    let path = one(text(&made, "id"));
    let off = json!({ "enabled": false });
    let at = |tag: &str| Request::patch(&path).header("if-match", tag);
    world.send_json(at("\"7\""), &key, &off).await.problem(412);
    assert_eq!(world.send_json(at("\"1\""), &key, &off).await.json()["version"], 2);
    world.send_json(at("\"1\""), &key, &off).await.problem(412);
    let delete = |tag: &str| {
        Request::delete(&path).header("if-match", tag).header("x-api-key", key.expose())
    };
    world.send(delete("\"1\"")).await.problem(412);
    assert_eq!(world.send(delete("\"2\"")).await.status, 204);
    world.send(delete("\"2\"")).await.problem(404);
    world.get(&path, &key).await.problem(404);
    assert_eq!(world.get(ALL, &key).await.json()["subscriptions"], json!([]));
}

#[tokio::test]
async fn a_rotated_key_signs_beside_the_old_one_and_a_pair_shows_its_public_half() {
    let mut world = World::new().await;
    let (_, key) = world.client("acme", vec![subscribes("quakes")]).await;
    let made = world.subscribe(&key).await;
    let id = text(&made, "id");
    let rotate = format!("{}/secret/rotate", one(id));
    let request = Request::post(&rotate).header("x-api-key", key.expose());
    let rotated = world.send(request).await.json();
    assert_ne!(text(&rotated, "secret"), text(&made, "secret"));
    let keys = rotated["destination"]["webhook"]["keys"].as_array().unwrap().clone();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[1]["signsUntil"], "2026-11-24T12:00:00.000Z", "for a day");
    let pair = json!({ "signing": "ed25519", "overlapSeconds": 0 });
    let rotated = world.post(&rotate, &key, &pair).await.json();
    assert_eq!(rotated["secret"], Value::Null);
    let keys = rotated["destination"]["webhook"]["keys"].as_array().unwrap().clone();
    assert_eq!((keys.len(), &keys[0]["signature"]), (1, &json!("v1a")));
    assert!(text(&keys[0], "publicKey").starts_with("whpk_"));
    let long = world.post(&rotate, &key, &json!({ "overlapSeconds": 700_000 })).await;
    assert_eq!(long.problem(400)["pointer"], "/overlapSeconds");
}

/// A matrix: who asks for whose, by every call. What is another's does not exist.
#[tokio::test]
async fn what_is_another_clients_is_answered_as_what_does_not_exist() {
    let mut world = World::with(|options| options.limits.client.burst = 10_000).await;
    let (_, owner) = world.client("owner", vec![subscribes("quakes")]).await;
    let made = world.subscribe(&owner).await;
    let id = text(&made, "id").to_owned();
    for (who, grants) in [
        ("nobody", vec![]),
        ("reader", vec![reads("quakes")]),
        ("peer", vec![subscribes("quakes")]),
        ("elsewhere", vec![subscribes("flights")]),
    ] {
        let (_, key) = world.client(who, grants).await;
        for path in [one(&id), format!("{}/secret/rotate", one(&id))] {
            let none = path.replace(&id, "sub_doesnotexist");
            for method in ["GET", "PATCH", "DELETE", "POST"] {
                let request = |path: &str| Request::builder().method(method).uri(path);
                let found = world.send_json(request(&path), &key, &json!({})).await;
                let missing = world.send_json(request(&none), &key, &json!({})).await;
                assert!([404, 405].contains(&found.status.as_u16()), "{who} {method} {path}");
                assert_eq!(shown(&found), shown(&missing), "{who} {method} {path}");
            }
        }
        let list = world.get(ALL, &key).await.json();
        assert_eq!(list, json!({ "subscriptions": [], "next": null }), "{who}");
    }
    assert_eq!(world.get(&one(&id), &owner).await.json()["version"], 1, "nobody changed it");
}

#[tokio::test]
async fn what_is_not_granted_cannot_be_asked_for() {
    let mut world = World::new().await;
    let body = |integrations: Value| json!({ "integrations": integrations, "destination": { "webhook": webhook() } });
    for grants in [vec![], vec![reads("quakes")]] {
        let (_, key) = world.client(&format!("c{}", grants.len()), grants).await;
        world.post(ALL, &key, &body(json!([]))).await.problem(404);
    }
    let (_, key) = world.client("acme", vec![subscribes("quakes")]).await;
    let refused = |name: &str| format!("found \"{name}\", allowed are quakes");
    for name in ["flights", "nothing"] {
        let problem = world.post(ALL, &key, &body(json!(["quakes", name]))).await.problem(400);
        assert_eq!(problem["pointer"], "/integrations/1");
        assert!(text(&problem, "detail").ends_with(&refused(name)), "{problem}");
    }
    let made = world.post(ALL, &key, &body(json!([]))).await;
    assert_eq!(
        (made.status.as_u16(), &made.json()["integrations"]),
        (201, &json!([])),
        "all that it may"
    );
    let path = one(text(&made.json(), "id"));
    let problem =
        world.patch(&path, &key, &json!({ "integrations": ["flights"] })).await.problem(400);
    assert_eq!(problem["pointer"], "/integrations/0");
    let events = world.patch(&path, &key, &json!({ "operationalEvents": true })).await.json();
    assert_eq!((&events["operationalEvents"], &events["integrations"]), (&json!(true), &json!([])));
    let both = json!({ "operationalEvents": true, "integrations": ["quakes"] });
    assert_eq!(world.patch(&path, &key, &both).await.problem(400)["pointer"], "/integrations");
}

#[tokio::test]
async fn bad_input_is_refused_by_its_field_and_no_secret_is_repeated() {
    let mut world = World::with(|options| options.limits.client.burst = 10_000).await;
    let (_, key) = world.client("acme", vec![subscribes("quakes")]).await;
    let role = "arn:aws:iam::123456789012:role/deliver";
    let webhook = |name: &str, value: Value| {
        let mut webhook = webhook();
        webhook[name] = value;
        json!({ "webhook": webhook })
    };
    let oauth = |url: &str| json!({ "oauth": { "tokenUrl": url, "clientId": "me", "clientSecret": PASSWORD } });
    let cases = [
        (webhook("url", json!("http://10.0.0.1/x")), "/destination/webhook/url"),
        (webhook("url", json!("http://vouched/x")), "/destination/webhook/url"),
        (webhook("url", json!(format!("https://u:{PASSWORD}@x/"))), "/destination/webhook/url"),
        (webhook("form", json!("fat")), "/destination/webhook/form"),
        (webhook("form", json!("thin")), "/destination/webhook/form"),
        (webhook("headers", json!({ "host": PASSWORD })), "/destination/webhook/headers"),
        (
            webhook("auth", json!({ "bearer": { "token": format!("{PASSWORD} x") } })),
            "/destination/webhook/auth",
        ),
        (webhook("auth", oauth("https://10.0.0.1/t")), "/destination/webhook/auth/oauth/tokenUrl"),
        (
            webhook("clientCertificate", json!({ "certificates": PASSWORD, "key": PASSWORD })),
            "/destination/webhook/clientCertificate",
        ),
        (json!({ "sqs": { "queue": "orders", "roleArn": role } }), "/destination/sqs/queue"),
        (
            json!({ "sns": { "topic": "arn:aws:sns:eu-west-1:123456789012:t", "roleArn": "me" } }),
            "/destination/sns/roleArn",
        ),
        (
            json!({ "eventbridge": { "bus": "default", "roleArn": role } }),
            "/destination/eventbridge/bus",
        ),
    ];
    for (destination, pointer) in cases {
        let answer = world.post(ALL, &key, &json!({ "destination": destination })).await;
        let problem = answer.problem(400);
        assert_eq!(problem["pointer"], pointer, "{problem}");
        assert!(!problem.to_string().contains(PASSWORD), "{problem}");
    }
    let fields = [
        (json!({ "entityPrefix": "" }), "/entityPrefix"),
        (json!({ "entityPrefix": "x".repeat(513) }), "/entityPrefix"),
        (json!({ "eventTypes": vec!["x"; 101] }), "/eventTypes"),
        (json!({ "eventTypes": ["x", ""] }), "/eventTypes/1"),
        (json!({ "filter": { "a": 7 } }), "/filter"),
        (json!({ "integrations": ["No Name"] }), "/integrations/0"),
        (json!({ "policy": { "timeoutMs": 1 } }), "/policy/timeoutMs"),
        (json!({ "policy": { "order": "random" } }), "/policy/order"),
    ];
    for (mut body, pointer) in fields {
        body["destination"] = json!({ "webhook": super::webhook() });
        let problem = world.post(ALL, &key, &body).await.problem(400);
        assert_eq!(problem["pointer"], pointer, "{problem}");
    }
}

#[tokio::test]
async fn a_body_of_another_form_is_refused_and_makes_nothing() {
    let mut world = World::new().await;
    let (_, key) = world.client("acme", vec![subscribes("quakes")]).await;
    for body in [
        json!({}),
        json!({ "destination": { "sqs": { "queue": "arn:aws:sqs:eu-west-1:123456789012:q" } } }),
        json!({ "destination": {}, "integrations": [] }),
        json!({ "destination": { "webhook": { "url": PASSWORD, "secret": PASSWORD } } }),
        json!([PASSWORD]),
    ] {
        let problem = world.post(ALL, &key, &body).await.problem(400);
        assert!(!problem.to_string().contains(PASSWORD), "{problem}");
    }
    let plain = Request::post(ALL).header("x-api-key", key.expose());
    world.send(plain).await.problem(415);
    let large = json!({ "destination": "x".repeat(1024 * 1024) });
    world.post(ALL, &key, &large).await.problem(413);
    assert_eq!(world.get(ALL, &key).await.json()["subscriptions"], json!([]), "nothing was made");
}

#[tokio::test]
async fn what_a_clients_role_is_assumed_with_is_its_own_id() {
    let mut world = World::new().await;
    let (_, key) = world.client("acme", vec![subscribes("quakes")]).await;
    let role = "arn:aws:iam::123456789012:role/deliver";
    let (queue, topic) =
        ("arn:aws:sqs:eu-west-1:123456789012:q", "arn:aws:sns:eu-west-1:123456789012:t");
    let bus = "arn:aws:events:eu-west-1:123456789012:event-bus/orders";
    for (kind, destination) in [
        ("sqs", json!({ "sqs": { "queue": queue, "roleArn": role } })),
        ("sns", json!({ "sns": { "topic": topic, "roleArn": role } })),
        ("eventbridge", json!({ "eventbridge": { "bus": bus, "roleArn": role } })),
    ] {
        let made = world.post(ALL, &key, &json!({ "destination": destination })).await.json();
        let shown = &made["destination"][kind]["role"];
        assert_eq!(shown, &json!({ "arn": role, "externalId": "acme" }), "{made}");
        assert_eq!(made.get("secret"), None);
        let path = one(text(&made, "id"));
        let other = json!({ "destination": { "webhook": { "url": "https://x.example/" } } });
        assert_eq!(world.patch(&path, &key, &other).await.problem(400)["pointer"], "/destination");
        world.post(&format!("{path}/secret/rotate"), &key, &json!({})).await.problem(409);
    }
}

#[tokio::test]
async fn there_are_so_many_of_a_client_and_pages_of_them() {
    let mut world = World::with(|options| options.limits.max_subscriptions = 5).await;
    let (_, key) = world.client("acme", vec![subscribes("quakes")]).await;
    let (_, other) = world.client("other", vec![subscribes("quakes")]).await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(text(&world.subscribe(&key).await, "id").to_owned());
    }
    let body = json!({ "destination": { "webhook": webhook() } });
    let problem = world.post(ALL, &key, &body).await.problem(409);
    assert!(text(&problem, "detail").contains("up to 5"), "{problem}");
    world.subscribe(&other).await;
    let (mut found, mut path) = (Vec::new(), format!("{ALL}?limit=2"));
    loop {
        let page = world.get(&path, &key).await.json();
        let ids = page["subscriptions"].as_array().unwrap();
        assert!(ids.len() <= 2);
        found.extend(ids.iter().map(|one| text(one, "id").to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("{ALL}?limit=2&cursor={next}");
    }
    made.sort();
    assert_eq!(found, made);
    for (query, named) in [("limit=101", "limit"), ("cursor=%21", "cursor"), ("x=1", "query")] {
        let problem = world.get(&format!("{ALL}?{query}"), &key).await.problem(400);
        assert_eq!(problem["parameter"], named);
    }
    world.delete(&one(&made[0]), &key).await;
    world.subscribe(&key).await;
}

#[tokio::test]
async fn an_operators_webhook_stays_where_it_is_until_its_client_leads_it_elsewhere() {
    let mut world = World::new().await;
    let (_, key) = world.client("acme", vec![subscribes("quakes")]).await;
    let made = world.subscribe(&key).await;
    let mut operators = kept(&world, text(&made, "id")).await;
    let webhook = operators.destination.webhook_mut().unwrap();
    webhook.url = store::WebhookUrl::parse("http://vouched/in").unwrap();
    webhook.public_only = false;
    world.managing.subscriptions.put(&operators).await.unwrap();
    let path = one(text(&made, "id"));
    let form = json!({ "destination": { "webhook": { "form": "cloudevents-structured" } } });
    assert_eq!(world.patch(&path, &key, &form).await.status, 200);
    let there = json!({ "destination": { "webhook": { "url": "http://vouched/out" } } });
    world.patch(&path, &key, &there).await.problem(400);
    let away = json!({ "destination": { "webhook": { "url": "https://hooks.example/" } } });
    assert_eq!(world.patch(&path, &key, &away).await.status, 200);
    assert!(kept(&world, text(&made, "id")).await.destination.webhook().unwrap().public_only);
}
