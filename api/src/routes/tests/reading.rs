//! What a client with grants reads.

use http::Request;
use serde_json::{Value, json};

use super::{DAY, NOW_MS, World, message, reads};
use crate::timestamp;

const PAGE: &str = "/v1/integrations/quakes/entities/ci/messages";
const LATEST: &str = "/v1/integrations/quakes/entities/ci/latest";

/// The `n` of every message of a page.
fn numbers(page: &Value) -> Vec<u64> {
    page["messages"].as_array().unwrap().iter().map(|m| m["data"]["n"].as_u64().unwrap()).collect()
}

async fn world_with(count: u32) -> (World, store::ApiKey) {
    let mut world = World::new().await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    world.store((0..count).map(|n| message("quakes", "ci", n)).collect()).await;
    (world, key)
}

#[tokio::test]
async fn a_message_carries_the_original_payload_and_what_is_known_of_it() {
    let (world, key) = world_with(1).await;
    let answer = world.get(LATEST, &key).await;
    let stored = message("quakes", "ci", 0);
    let json = answer.json();
    assert_eq!(json["id"], stored.id.as_str());
    assert_eq!((&json["integration"], &json["entity"]), (&json!("quakes"), &json!("ci")));
    assert_eq!(json["time"], "2026-11-23T12:00:00.000Z");
    assert_eq!(json["arrivedAt"], "2026-11-23T12:00:00.005Z");
    let payload = std::str::from_utf8(&stored.payload).unwrap();
    assert!(std::str::from_utf8(&answer.body).unwrap().contains(payload), "byte for byte");

    let link = json["self"].as_str().unwrap();
    assert_eq!(world.get(link, &key).await.json(), json);
}

#[tokio::test]
async fn pages_come_newest_first_or_oldest_first_within_a_range() {
    let (world, key) = world_with(10).await;
    let page = |query: &str| {
        let path = format!("{PAGE}?{query}");
        let (world, key) = (&world, &key);
        async move { numbers(&world.get(&path, key).await.json()) }
    };
    assert_eq!(page("").await, (0..10).collect::<Vec<_>>());
    assert_eq!(page("order=oldest").await, (0..10).rev().collect::<Vec<_>>());
    assert_eq!(page("limit=3").await, [0, 1, 2]);
    let (from, to) = (timestamp::format(NOW_MS - 5_000), NOW_MS - 2_000);
    assert_eq!(page(&format!("from={from}&to={to}")).await, [3, 4, 5]);
}

#[tokio::test]
async fn following_next_gives_every_message_once() {
    let (world, key) = world_with(25).await;
    let from = NOW_MS - 21_000;
    let mut page = world.get(&format!("{PAGE}?limit=7&from={from}"), &key).await;
    let mut seen = numbers(&page.json());
    while let Some(cursor) = page.json()["next"].as_str() {
        let link = page.header("link").to_owned();
        assert_eq!(link, format!("<?limit=7&cursor={cursor}>; rel=\"next\""));
        page = world.get(&format!("{PAGE}?limit=7&cursor={cursor}"), &key).await;
        seen.extend(numbers(&page.json()));
    }
    assert_eq!(seen, (0..=21).collect::<Vec<_>>());
    assert_eq!(page.header("link"), "");
}

#[tokio::test]
async fn a_cursor_is_good_for_its_own_question_only() {
    let (world, key) = world_with(5).await;
    let first = world.get(&format!("{PAGE}?limit=2&from=0"), &key).await.json();
    let cursor = first["next"].as_str().unwrap().to_owned();
    for (query, parameter) in [("from=1", "from"), ("to=9", "to"), ("order=oldest", "order")] {
        let problem =
            world.get(&format!("{PAGE}?{query}&cursor={cursor}"), &key).await.problem(400);
        assert_eq!(problem["parameter"], parameter);
    }
    let elsewhere = PAGE.replace("/ci/", "/us/");
    let tampered = format!("A{}", &cursor[1..]);
    for path in [
        format!("{elsewhere}?cursor={cursor}"),
        format!("{PAGE}?cursor={tampered}"),
        format!("{PAGE}?cursor="),
    ] {
        assert_eq!(world.get(&path, &key).await.problem(400)["parameter"], "cursor");
    }
    let again =
        world.get(&format!("{PAGE}?limit=2&from=0&order=newest&cursor={cursor}"), &key).await;
    assert_eq!(numbers(&again.json()), [2, 3]);
}

#[tokio::test]
async fn a_page_is_cut_before_it_gets_larger_than_allowed() {
    let mut world = World::with(|options| options.limits.max_page_bytes = 5_000).await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    let large = |n: u32| {
        let mut large = message("quakes", "ci", n);
        large.payload =
            serde_json::to_vec(&json!({ "n": n, "pad": "x".repeat(2_000) })).unwrap().into();
        large
    };
    world.store((0..5).map(large).collect()).await;
    let page = world.get(PAGE, &key).await.json();
    assert_eq!(numbers(&page), [0, 1]);
    let cursor = page["next"].as_str().unwrap();
    assert_eq!(numbers(&world.get(&format!("{PAGE}?cursor={cursor}"), &key).await.json()), [2, 3]);
}

#[tokio::test]
async fn the_latest_is_not_sent_twice_to_a_client_that_has_it() {
    let (world, key) = world_with(2).await;
    let first = world.get(LATEST, &key).await;
    let tag = first.header("etag").to_owned();
    assert!(tag.starts_with("\"msg_"));
    assert_eq!(first.header("cache-control"), "private, no-cache");
    let ask = || Request::get(LATEST).header("x-api-key", key.expose());
    let again = world.send(ask().header("if-none-match", &tag)).await;
    assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
    assert_eq!(again.header("etag"), tag);
    assert_eq!(world.send(ask().header("if-none-match", "\"msg_other\"")).await.status, 200);
}

#[tokio::test]
async fn head_is_get_without_its_body() {
    let (world, key) = world_with(3).await;
    let missing = LATEST.replace("/ci/", "/none/");
    for path in [LATEST, PAGE, missing.as_str(), "/nowhere"] {
        let get = world.get(path, &key).await;
        let head = world.send(Request::head(path).header("x-api-key", key.expose())).await;
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
        assert_eq!(head.header("content-length"), get.body.len().to_string(), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"));
    }
}

#[tokio::test]
async fn an_entity_may_contain_anything_once_it_is_percent_encoded() {
    let mut world = World::new().await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    world.store(vec![message("quakes", "a/b c?é#%", 1)]).await;
    let path = "/v1/integrations/quakes/entities/a%2Fb%20c%3F%C3%A9%23%25/latest";
    let json = world.get(path, &key).await.json();
    assert_eq!(json["entity"], "a/b c?é#%");
    assert_eq!(world.get(json["self"].as_str().unwrap(), &key).await.status, 200);
    let broken = world.get("/v1/integrations/quakes/entities/%FF/latest", &key).await;
    broken.problem(400);
    let long = format!("/v1/integrations/quakes/entities/{}/latest", "x".repeat(513));
    assert_eq!(world.get(&long, &key).await.problem(400)["parameter"], "entity");
}

#[tokio::test]
async fn a_payload_that_is_no_json_is_not_lost() {
    let mut world = World::new().await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    let mut odd = message("quakes", "ci", 1);
    odd.payload = bytes_of(&[0xff, 0x00, b'{']);
    world.store(vec![odd]).await;
    let json = world.get(LATEST, &key).await.json();
    assert_eq!((json["dataBase64"].as_str(), json.get("data")), (Some("/wB7"), None));
}

fn bytes_of(bytes: &'static [u8]) -> axum::body::Bytes {
    axum::body::Bytes::from_static(bytes)
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_does_not_exist() {
    let (world, key) = world_with(2).await;
    let link = world.get(LATEST, &key).await.json()["self"].as_str().unwrap().to_owned();
    world.pass(DAY * 8).await;
    world.get(LATEST, &key).await.problem(404);
    world.get(&link, &key).await.problem(404);
    assert_eq!(world.get(PAGE, &key).await.json(), json!({ "messages": [], "next": null }));
}

#[tokio::test]
async fn links_start_with_the_base_url_if_there_is_one() {
    let base = "https://api.example.com";
    let mut world = World::with(|options| options.base_url = Some(base.to_owned())).await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    world.store(vec![message("quakes", "ci", 1)]).await;
    let json = world.get(LATEST, &key).await.json();
    assert!(
        json["self"]
            .as_str()
            .unwrap()
            .starts_with("https://api.example.com/v1/integrations/quakes/messages/")
    );
}
