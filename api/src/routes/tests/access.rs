//! Who gets in, how much, and what nobody sees: A1, P7 and the limits.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Request;
use local_aws::{Effect, Fault};
use serde_json::json;
use store::{Action, ApiKey, ClientLimits, Grant, GrantScope};

use super::{Answer, CHANGE, Random, World, message, reads, reads_prefix};

const ME: &str = "/v1/me";
const ENTITIES: [&str; 4] = ["eu/1", "eu/2", "us/1", "e"];

fn encoded(entity: &str) -> String {
    entity.replace('/', "%2F")
}

fn entity_path(integration: &str, entity: &str, what: &str) -> String {
    format!("/v1/integrations/{integration}/entities/{}/{what}", encoded(entity))
}

/// Everything that does not differ from request to request.
pub(super) fn shown(answer: &Answer) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let headers = answer.headers.iter().filter(|(name, _)| *name != "x-request-id");
    let headers =
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    let mut headers: Vec<_> = headers.filter(|(name, _)| !name.starts_with("ratelimit")).collect();
    headers.sort();
    (answer.status.as_u16(), headers, answer.body.to_vec())
}

/// Whether messages of an (integration, entity) are a client's to read.
type Theirs = fn(&str, &str) -> bool;

/// A grant matrix: who, with which grants, and which (integration, entity) pairs are theirs.
fn matrix() -> Vec<(&'static str, Vec<Grant>, Theirs)> {
    let all = |action| Grant::new(GrantScope::All, action);
    vec![
        ("nobody", vec![], |_, _| false),
        ("everything", vec![all(Action::Read)], |_, _| true),
        ("quakes", vec![reads("quakes")], |integration, _| integration == "quakes"),
        ("europe", vec![reads_prefix("quakes", Some("eu/"))], |integration, entity| {
            integration == "quakes" && entity.starts_with("eu/")
        }),
        (
            "two",
            vec![reads_prefix("quakes", Some("us/")), reads_prefix("flights", Some("eu/1"))],
            |integration, entity| {
                matches!((integration, entity), ("quakes", "us/1") | ("flights", "eu/1"))
            },
        ),
        ("publisher", vec![all(Action::Publish), all(Action::Subscribe)], |_, _| false),
    ]
}

/// A1: no response body carries a message outside the caller's grants.
#[tokio::test]
async fn a_client_sees_what_it_was_granted_and_nothing_else() {
    let mut world = World::with(|options| options.limits.client.burst = 10_000).await;
    let (_, auditor) = world.client("auditor", vec![reads("quakes"), reads("flights")]).await;
    let mut links = Vec::new();
    for (at, (integration, entity)) in pairs().enumerate() {
        let n = u32::try_from(at).unwrap();
        world
            .store(vec![message(integration, entity, n), message(integration, entity, n + 100)])
            .await;
        let latest = world.get(&entity_path(integration, entity, "latest"), &auditor).await.json();
        links.push((integration, entity, latest["self"].as_str().unwrap().to_owned()));
    }
    for (who, grants, theirs) in matrix() {
        let (_, key) = world.client(who, grants).await;
        for (integration, entity, link) in &links {
            for path in [
                &entity_path(integration, entity, "latest"),
                &entity_path(integration, entity, "messages"),
                link,
            ] {
                let answer = world.get(path, &key).await;
                if theirs(integration, entity) {
                    assert_eq!(answer.status, 200, "{who} {path}");
                    let marker = format!("\"entity\":{entity:?}");
                    assert!(String::from_utf8_lossy(&answer.body).contains(&marker));
                } else {
                    answer.problem(404);
                    let unknown = world.get("/v1/integrations/none/entities/x/latest", &key).await;
                    assert_eq!(shown(&answer), shown(&unknown), "{who} {path}");
                }
            }
        }
    }
}

fn pairs() -> impl Iterator<Item = (&'static str, &'static str)> {
    ["quakes", "flights"]
        .into_iter()
        .flat_map(|integration| ENTITIES.map(|entity| (integration, entity)))
}

#[tokio::test]
async fn a_locator_opens_nothing_under_another_name_or_after_a_change() {
    let mut world = World::new().await;
    let (_, key) = world.client("reader", vec![reads("quakes"), reads("flights")]).await;
    world.store(vec![message("quakes", "ci", 1)]).await;
    let latest = world.get(&entity_path("quakes", "ci", "latest"), &key).await.json();
    let link = latest["self"].as_str().unwrap();
    world.get(&link.replace("/quakes/", "/flights/"), &key).await.problem(404);
    let (head, last) = link.split_at(link.len() - 1);
    let tampered = format!("{head}{}", if last == "A" { "B" } else { "A" });
    world.get(&tampered, &key).await.problem(404);
}

#[tokio::test]
async fn the_integrations_are_those_of_the_client() {
    let mut world = World::new().await;
    let (_, none) = world.client("none", vec![]).await;
    let publish = Grant { action: Action::Publish, ..reads("flights") };
    let (_, some) = world.client("some", vec![reads_prefix("quakes", Some("eu/")), publish]).await;
    assert_eq!(world.get("/v1/integrations", &none).await.json(), json!({ "integrations": [] }));
    let seen = world.get("/v1/integrations", &some).await.json();
    assert_eq!(seen["integrations"][0]["name"], "flights");
    assert_eq!(seen["integrations"][0]["actions"], json!(["publish"]));
    assert_eq!(seen["integrations"][1]["fields"]["entity"], "/properties/net");
    assert_eq!(seen["integrations"][1]["retentionSeconds"], 7 * 86_400);
}

#[tokio::test]
async fn every_failed_authentication_is_answered_alike() {
    let mut world = World::new().await;
    let (client, key) = world.client("reader", vec![reads("quakes")]).await;
    let expired = world.key(&client, Some(Duration::from_millis(1))).await;
    world.wall.0.fetch_add(1, Ordering::Relaxed);
    let revoked = world.key(&client, None).await;
    world.revoke(&revoked).await;
    let (mut gone, disabled) = world.client("disabled", vec![reads("quakes")]).await;
    gone.enabled = false;
    world.access.put_client(&gone, &CHANGE).await.unwrap();
    let unknown = ApiKey::generate(&mut |bytes: &mut [u8]| Random(99).fill(bytes));

    let missing = world.send(Request::get(ME)).await;
    missing.problem(401);
    assert_eq!(missing.header("www-authenticate"), "Bearer realm=\"sluicegate\"");
    let malformed = Request::get(ME).header("x-api-key", "sg_live_no");
    let basic = Request::get(ME).header("authorization", "Basic dXNlcjpwYXNz");
    let double = Request::get(ME)
        .header("x-api-key", key.expose())
        .header("authorization", format!("Bearer {}", key.expose()));
    let mut answers = Vec::new();
    for request in [malformed, basic, double] {
        answers.push(world.send(request).await);
    }
    for key in [&expired, &revoked, &disabled, &unknown] {
        answers.push(world.get(ME, key).await);
    }
    for answer in &answers {
        assert_eq!(shown(answer), shown(&missing));
    }
    assert_eq!(world.get(ME, &key).await.status, 200);
    assert_eq!(
        world
            .send(Request::get(ME).header("authorization", format!("Bearer {}", key.expose())))
            .await
            .status,
        200
    );
}

/// P7: a revoked key is refused everywhere within two seconds, also by a process that looks at
/// nothing in between.
#[tokio::test(start_paused = true)]
async fn a_revoked_key_is_refused_within_two_seconds() {
    let mut world = World::new().await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    assert_eq!(world.get(ME, &key).await.status, 200);
    world.revoke(&key).await;
    world.pass(Duration::from_secs(2)).await;
    world.get(ME, &key).await.problem(401);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_grants_holds_within_two_seconds() {
    let mut world = World::new().await;
    let (client, key) = world.client("reader", vec![]).await;
    let path = entity_path("quakes", "ci", "messages");
    world.get(&path, &key).await.problem(404);
    let granted = store::Client { grants: vec![reads("quakes")], ..client };
    world.access.put_client(&granted, &CHANGE).await.unwrap();
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(world.get(&path, &key).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_frozen_process_looks_again_although_its_own_clock_stood_still() {
    let mut world = World::new().await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    assert_eq!(world.get(ME, &key).await.status, 200);
    world.revoke(&key).await;
    world.wall.0.fetch_add(60_000, Ordering::Relaxed);
    world.get(ME, &key).await.problem(401);
}

#[tokio::test]
async fn neither_a_known_nor_an_unknown_key_is_read_twice() {
    let mut world = World::new().await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    let unknown = ApiKey::generate(&mut |bytes: &mut [u8]| Random(99).fill(bytes));
    let reads_so_far = |world: &World| -> u64 {
        let reads = world.aws.calls().into_iter().filter(|count| count.operation == "GetItem");
        reads.map(|count| count.calls).sum()
    };
    world.get(ME, &key).await;
    world.get(ME, &unknown).await;
    let before = reads_so_far(&world);
    for _ in 0..20 {
        world.get(ME, &key).await;
        world.get(ME, &unknown).await.problem(401);
    }
    // At most a look at the epoch, should the machine have been very slow.
    assert!(reads_so_far(&world) - before <= 2, "{} reads", reads_so_far(&world) - before);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_keys_costs_few_reads_and_does_not_lock_out_known_ones() {
    let mut world = World::with(|options| options.limits.unknown_key_lookups_per_second = 5).await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    assert_eq!(world.get(ME, &key).await.status, 200);
    let mut random = Random(7);
    let mut refused = [0, 0];
    for _ in 0..50 {
        let made_up = ApiKey::generate(&mut |bytes: &mut [u8]| random.fill(bytes));
        let answer = world.get(ME, &made_up).await;
        refused[usize::from(answer.status == 503)] += 1;
    }
    assert_eq!(refused[0] + refused[1], 50);
    assert!(refused[0] <= 6, "{refused:?}");
    assert_eq!(world.get(ME, &key).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_let_in_while_changes_cannot_be_seen() {
    let mut world = World::new().await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    assert_eq!(world.get(ME, &key).await.status, 200);
    let fault = world.aws.faults().inject(
        Fault::new(local_aws::Service::Dynamodb, Effect::InternalError).resource("test-access"),
    );
    assert_eq!(world.get(ME, &key).await.status, 200, "a young view still holds");
    world.pass(Duration::from_secs(2)).await;
    let problem = world.get(ME, &key).await;
    problem.problem(503);
    assert_eq!(problem.header("retry-after"), "1");
    world.aws.faults().clear(fault);
    assert_eq!(world.get(ME, &key).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_client_is_held_to_its_limits_and_told_about_them() {
    let mut world = World::new().await;
    let (client, key) = world.client("reader", vec![reads("quakes")]).await;
    let limits =
        Some(ClientLimits { rate_per_second: Some(2), burst: Some(3), ..ClientLimits::default() });
    world.access.put_client(&store::Client { limits, ..client }, &CHANGE).await.unwrap();
    let (_, other) = world.client("other", vec![]).await;
    let me = world.get(ME, &key).await;
    assert_eq!(me.json()["limits"]["burst"], 3);
    assert_eq!(me.json()["remaining"]["requests"], 2);
    assert_eq!(
        me.header("ratelimit-policy"),
        "\"requests\";q=3;w=2, \"concurrent\";q=20;qu=\"concurrent-requests\""
    );
    assert_eq!(me.header("ratelimit"), "\"requests\";r=2;t=1, \"concurrent\";r=19");
    world.get(ME, &key).await;
    world.get(ME, &key).await;
    let limited = world.get(ME, &key).await;
    assert_eq!(limited.problem(429)["violated-policies"], json!(["requests"]));
    assert_eq!(
        (limited.header("retry-after"), limited.header("ratelimit")),
        ("1", "\"requests\";r=0;t=1, \"concurrent\";r=20")
    );
    assert_eq!(world.get(ME, &other).await.status, 200, "limits are each client's own");
    world.pass(Duration::from_millis(500)).await;
    assert_eq!(world.get(ME, &key).await.status, 200);
}

#[tokio::test]
async fn me_says_who_and_what() {
    let mut world = World::new().await;
    let (_, key) = world.client("reader", vec![reads_prefix("quakes", Some("eu/"))]).await;
    let me = world.get(ME, &key).await.json();
    assert_eq!((&me["id"], &me["name"]), (&json!("reader"), &json!("The reader")));
    assert_eq!(
        me["grants"],
        json!([{
            "integration": "quakes", "action": "read", "entityPrefix": "eu/", "filter": null, "fields": null
        }])
    );
}
