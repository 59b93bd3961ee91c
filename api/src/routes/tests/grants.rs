//! A1 where grants look into messages: row filters and field masks.

use std::collections::BTreeSet;

use http::Request;
use serde_json::{Value, json};
use store::pattern::Pattern;
use store::{Action, ApiKey, FieldMask, Grant};

use super::{World, message, reads, reads_prefix};

const PAGE: &str = "/v1/integrations/quakes/entities/ci/messages";
const LATEST: &str = "/v1/integrations/quakes/entities/ci/latest";

fn filtered(filter: &str) -> Grant {
    Grant { filter: Some(Pattern::parse(filter).unwrap()), ..reads("quakes") }
}

fn masked(fields: &[&str]) -> Grant {
    Grant { fields: Some(FieldMask::new(fields).unwrap()), ..reads("quakes") }
}

async fn world_with(count: u32, grants: Vec<Grant>) -> (World, ApiKey) {
    let mut world = World::with(|options| options.limits.client.burst = 10_000).await;
    let (_, key) = world.client("reader", grants).await;
    world.store((0..count).map(|n| message("quakes", "ci", n)).collect()).await;
    (world, key)
}

fn numbers(page: &Value) -> Vec<u64> {
    page["messages"].as_array().unwrap().iter().map(|m| m["data"]["n"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_row_filter_hides_messages_in_every_call() {
    let grant = filtered(r#"{"n":[{"numeric":[">=",3]},1]}"#);
    let (world, key) = world_with(6, vec![grant, reads_prefix("flights", Some("none"))]).await;
    assert_eq!(numbers(&world.get(PAGE, &key).await.json()), [1, 3, 4, 5]);
    assert_eq!(world.get(LATEST, &key).await.json()["data"]["n"], 1, "0 is newer, and hidden");

    let mut all = World::new().await;
    let (_, auditor) = all.client("auditor", vec![reads("quakes")]).await;
    all.store((0..6).map(|n| message("quakes", "ci", n)).collect()).await;
    let whole = all.get(PAGE, &auditor).await.json();
    for (n, seen) in [(0, false), (1, true), (2, false), (3, true)] {
        // The same position has the same link in both worlds.
        let link = whole["messages"][n]["self"].as_str().unwrap();
        let answer = world.get(link, &key).await;
        assert_eq!(answer.status, if seen { 200 } else { 404 }, "{n}");
    }
}

#[tokio::test]
async fn pages_of_a_filtered_client_are_full_and_follow_on() {
    let (world, key) = world_with(60, vec![filtered(r#"{"n":[7,8,9,40,41,59]}"#)]).await;
    let mut found = Vec::new();
    let mut path = format!("{PAGE}?limit=4");
    loop {
        let page = world.get(&path, &key).await.json();
        found.push(numbers(&page));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("{PAGE}?limit=4&cursor={next}");
    }
    assert_eq!(found, [vec![7, 8, 9, 40], vec![41, 59]]);
}

#[tokio::test]
async fn an_answer_looks_through_a_bounded_number_of_hidden_messages() {
    let (world, key) = world_with(600, vec![filtered(r#"{"n":[599]}"#)]).await;
    world.get(LATEST, &key).await.problem(404);
    let page = world.get(&format!("{PAGE}?limit=50"), &key).await.json();
    assert_eq!(page["messages"], json!([]));
    let next = page["next"].as_str().expect("more to look through");
    let page = world.get(&format!("{PAGE}?limit=50&cursor={next}"), &key).await.json();
    assert_eq!((numbers(&page), &page["next"]), (vec![599], &Value::Null));
}

#[tokio::test]
async fn a_mask_hides_fields_and_has_a_tag_of_its_own() {
    let (mut world, key) = world_with(2, vec![masked(&["/n"])]).await;
    let latest = world.get(LATEST, &key).await;
    assert_eq!(latest.json()["data"], json!({ "n": 0 }));
    let page = world.get(PAGE, &key).await.json();
    assert_eq!(page["messages"][1]["data"], json!({ "n": 1 }));

    let (_, whole) = world.client("whole", vec![reads("quakes")]).await;
    let tag = world.get(LATEST, &whole).await.header("etag").to_owned();
    assert_ne!(latest.header("etag"), tag);
    let ask = |key: &ApiKey, tag: &str| {
        Request::get(LATEST).header("x-api-key", key.expose()).header("if-none-match", tag)
    };
    assert_eq!(
        world.send(ask(&key, &tag)).await.status,
        200,
        "a wider grant's tag is not this one's"
    );
    assert_eq!(world.send(ask(&key, latest.header("etag"))).await.status, 304);
}

/// A matrix: client x row filter x field mask, over every call; expected by hand-made rules.
#[tokio::test]
async fn no_call_shows_a_message_or_a_field_outside_the_grants() {
    let (mut world, _) = world_with(12, vec![]).await;
    type Passes = fn(u64) -> bool;
    let filters: [(&str, Passes); 3] = [
        ("", |_| true),
        (r#"{"n":[{"numeric":["<",4]}]}"#, |n| n < 4),
        (r#"{"entity":["other"]}"#, |_| false),
    ];
    let masks: [&[&str]; 4] = [&[], &["/n"], &["/n", "/entity"], &["/n", "/none"]];
    for (f, (filter, passes)) in filters.into_iter().enumerate() {
        for (m, mask) in masks.into_iter().enumerate() {
            for action in [Action::Read, Action::Subscribe] {
                let mut grant = Grant { action, ..reads("quakes") };
                grant.filter = (!filter.is_empty()).then(|| Pattern::parse(filter).unwrap());
                grant.fields = (!mask.is_empty()).then(|| FieldMask::new(mask).unwrap());
                let name = format!("c-{f}-{m}-{}", u8::from(action == Action::Read));
                let (_, key) = world.client(&name, vec![grant]).await;
                let page = world.get(PAGE, &key).await;
                if action != Action::Read {
                    page.problem(404);
                    continue;
                }
                let page = page.json();
                let expected: Vec<u64> = (0..12).filter(|n| passes(*n)).collect();
                assert_eq!(numbers(&page), expected, "{filter} {mask:?}");
                let shown: BTreeSet<&str> = if mask.is_empty() || mask.contains(&"/entity") {
                    BTreeSet::from(["entity", "n"])
                } else {
                    BTreeSet::from(["n"])
                };
                for message in page["messages"].as_array().unwrap() {
                    let link = message["self"].as_str().unwrap();
                    let single = world.get(link, &key).await.json();
                    for data in [&message["data"], &single["data"]] {
                        let names: BTreeSet<&str> =
                            data.as_object().unwrap().keys().map(String::as_str).collect();
                        assert_eq!(names, shown, "{filter} {mask:?}");
                    }
                }
                let latest = world.get(LATEST, &key).await;
                assert_eq!(latest.status, if expected.is_empty() { 404 } else { 200 });
            }
        }
    }
}
