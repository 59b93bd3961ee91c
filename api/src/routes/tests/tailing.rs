//! `tail`: what a client gets while it follows an integration, where it goes on, and when it ends.

mod ends;

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use serde_json::Value;
use store::{
    ApiKey, ArrivalRow, Client, FieldMask, Grant, Locator, Message, MessageStore, PutOutcome,
    pack_arrivals, pattern::Pattern,
};
use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt;

use super::{Answer, CHANGE, NOW_MS, World, message, reads, reads_prefix};

const TAIL: &str = "/v1/integrations/quakes/tail";
const SECOND: Duration = Duration::from_secs(1);
/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A block of a stream: an event, or what is none.
#[derive(Debug, Default, Clone, PartialEq)]
struct Block {
    id: String,
    event: String,
    data: String,
    comment: String,
}

impl Block {
    fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// Which message it is.
    fn n(&self) -> i64 {
        self.json()["data"]["n"].as_i64().unwrap()
    }
}

/// A client that follows.
struct Tailing {
    body: Body,
    text: String,
    last_id: String,
    request_id: String,
}

impl Tailing {
    /// Follows at this task, from the first block on.
    async fn at(router: &Router, path: &str, key: &ApiKey, last_id: &str) -> Tailing {
        let ask = Request::get(path).header("x-api-key", key.expose());
        let ask = ask.header("last-event-id", last_id).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(ask).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let request_id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        let (body, text, last_id) = (response.into_body(), String::new(), String::new());
        let mut tailing = Tailing { body, text, last_id, request_id };
        let first = tailing.block().await.unwrap();
        assert!(!first.id.is_empty() && first.data.is_empty(), "{first:?}");
        tailing
    }

    /// The next block; `None` at the end of the stream.
    async fn block(&mut self) -> Option<Block> {
        while !self.text.contains("\n\n") {
            let frame = timeout(PATIENCE, self.body.frame()).await.expect("in time")?;
            self.text += std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap();
        }
        let (text, rest) = self.text.split_once("\n\n").unwrap();
        let mut block = Block::default();
        for line in text.lines() {
            let (name, value) = line.split_once(": ").unwrap();
            match name {
                "id" => block.id = value.to_owned(),
                "event" => block.event = value.to_owned(),
                "data" => block.data += value,
                "" => block.comment = value.to_owned(),
                "retry" => assert_eq!(value, "1000"),
                name => panic!("a field {name}"),
            }
        }
        self.text = rest.to_owned();
        self.last_id = block.id.clone();
        Some(block)
    }

    /// The next event.
    async fn event(&mut self) -> Block {
        loop {
            let block = self.block().await.expect("an event");
            if !block.data.is_empty() {
                return block;
            }
        }
    }

    /// The numbers of the next messages.
    async fn numbers(&mut self, count: usize) -> Vec<i64> {
        let mut numbers = Vec::new();
        for _ in 0..count {
            numbers.push(self.event().await.n());
        }
        numbers
    }

    /// The reason that the stream ends with, and that it does.
    async fn end(&mut self) -> String {
        let end = self.event().await;
        assert_eq!(end.event, "end", "{end:?}");
        assert_eq!(self.block().await, None);
        end.json()["reason"].as_str().unwrap().to_owned()
    }
}

impl World {
    /// Follows, from the first block on.
    async fn tail(&self, path: &str, key: &ApiKey, last_id: &str) -> Tailing {
        Tailing::at(&self.router, path, key, last_id).await
    }

    async fn refused(&self, path: &str, key: &ApiKey, last_id: &str) -> Answer {
        let ask = Request::get(path).header("x-api-key", key.expose());
        self.send(ask.header("last-event-id", last_id)).await
    }

    /// Stores messages and notes them as one process of writers would, `late_ms` ago by its clock.
    async fn arrive_of(&self, writer: u64, number: u32, late_ms: i64, messages: Vec<Message>) {
        self.store(messages.clone()).await;
        let at_ms = self.wall.0.load(Ordering::Relaxed) - late_ms;
        let places = messages.iter().map(Locator::of).collect();
        let row = || ArrivalRow { at_ms, writer, number };
        let notes = pack_arrivals(&messages[0].integration, places, row);
        let report = self.messages.announce(&notes).await;
        assert_eq!(report.outcomes, [PutOutcome::Stored]);
    }

    async fn arrive(&self, number: u32, messages: Vec<Message>) {
        self.arrive_of(1, number, 0, messages).await;
    }

    async fn change(&self, client: &Client, grants: Vec<Grant>) {
        let changed = Client { grants, ..client.clone() };
        self.access.put_client(&changed, &CHANGE).await.unwrap();
    }
}

/// Messages of these numbers about one entity.
fn about(entity: &str, numbers: std::ops::Range<u32>) -> Vec<Message> {
    numbers.map(|n| message("quakes", entity, n)).collect()
}

async fn world() -> (World, ApiKey) {
    let mut world = World::with(|options| options.limits.client.concurrent = 100).await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    (world, key)
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_comes_within_about_a_second_as_it_is_in_pages() {
    let (world, key) = world().await;
    world.arrive(0, about("ci", 90..95)).await;
    let mut tailing = world.tail(TAIL, &key, "").await;
    sleep(5 * SECOND).await;
    let stored = Instant::now();
    world.arrive(1, about("ci", 0..3)).await;
    let first = tailing.event().await;
    assert!(stored.elapsed() <= 2 * SECOND, "{:?}", stored.elapsed());
    assert_eq!((first.event.as_str(), first.n()), ("", 0), "and nothing of before");
    let page = world.get("/v1/integrations/quakes/entities/ci/messages?limit=1", &key).await;
    assert_eq!(first.json(), page.json()["messages"][0]);
    assert_eq!(tailing.numbers(2).await, [1, 2]);
    world.arrive(2, about("us", 3..60)).await;
    assert_eq!(tailing.numbers(57).await, (3..60).collect::<Vec<i64>>());
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_back_gets_what_he_did_not_get_and_nothing_else() {
    let (world, key) = world().await;
    let mut tailing = world.tail(TAIL, &key, "").await;
    let beginning = tailing.last_id.clone();
    world.arrive(0, about("ci", 0..5)).await;
    world.arrive(1, about("us", 5..8)).await;
    let mut ids = vec![beginning];
    for n in 0..8 {
        let event = tailing.event().await;
        assert_eq!(event.n(), n);
        ids.push(event.id);
    }
    drop(tailing);
    world.arrive(2, about("nc", 8..10)).await;
    for (had, id) in ids.iter().enumerate() {
        let mut again = world.tail(TAIL, &key, id).await;
        let rest: Vec<i64> = (had as i64..10).collect();
        assert_eq!(again.numbers(rest.len()).await, rest, "behind {had}");
        world.arrive(20 + had as u32, about("hv", 100 + had as u32..101 + had as u32)).await;
        // What the ones before him led to was stored as well, behind what he asked for.
        let news: Vec<i64> = (100..=100 + had as i64).collect();
        assert_eq!(again.numbers(news.len()).await, news, "then what is new");
    }
    let mut by_query = world.tail(&format!("{TAIL}?cursor={}", ids[7]), &key, "").await;
    assert_eq!(by_query.event().await.n(), 7);
    let mut header = world.tail(&format!("{TAIL}?cursor={}", ids[0]), &key, &ids[8]).await;
    assert_eq!(header.event().await.n(), 8, "what a client adds by itself counts");
}

#[tokio::test(start_paused = true)]
async fn a_note_that_is_found_late_is_neither_missed_nor_given_twice() {
    let (world, key) = world().await;
    let mut tailing = world.tail(TAIL, &key, "").await;
    world.arrive_of(1, 0, 0, about("ci", 0..1)).await;
    let first = tailing.event().await;
    world.arrive_of(2, 7, 5_000, about("us", 1..2)).await;
    let second = tailing.event().await;
    assert_eq!((first.n(), second.n()), (0, 1), "of a clock that is five seconds behind");
    world.arrive_of(1, 1, 0, about("ci", 2..3)).await;
    assert_eq!(tailing.event().await.n(), 2);
    assert_eq!(world.tail(TAIL, &key, &first.id).await.numbers(2).await, [1, 2]);
    assert_eq!(world.tail(TAIL, &key, &second.id).await.numbers(1).await, [2]);
}

#[tokio::test(start_paused = true)]
async fn a_time_within_the_hour_is_gone_back_to() {
    let (world, key) = world().await;
    for minute in 0..50u32 {
        world.arrive(minute, about("ci", minute..minute + 1)).await;
        world.pass(Duration::from_secs(60)).await;
    }
    let from_ms = NOW_MS + 10 * 60_000;
    let mut tailing = world.tail(&format!("{TAIL}?from={from_ms}"), &key, "").await;
    assert_eq!(tailing.numbers(40).await, (10..50).collect::<Vec<i64>>());
    world.arrive(50, about("ci", 50..51)).await;
    assert_eq!(tailing.event().await.n(), 50);
    let old = tailing.last_id.clone();
    world.pass(Duration::from_secs(4_000)).await;
    let problem = world.refused(TAIL, &key, &old).await.problem(410);
    assert_eq!(problem["type"], "urn:sluicegate:problem:cursor-expired");
    for from in [from_ms, NOW_MS + 100 * 60_000 * 60] {
        let problem = world.refused(&format!("{TAIL}?from={from}"), &key, "").await.problem(400);
        assert_eq!(problem["parameter"], "from");
    }
}

/// A1: a stream carries no message, and no field, outside the client's grants.
#[tokio::test(start_paused = true)]
async fn a1_each_client_gets_what_it_may_see_of_the_same_messages() {
    let (mut world, whole) = world().await;
    let (_, prefix) = world.client("prefix", vec![reads_prefix("quakes", Some("c"))]).await;
    let filter = Pattern::parse(r#"{"n":[{"numeric":[">=",4]}]}"#).ok();
    let narrow = Grant { filter, fields: FieldMask::new(&["/n"]).ok(), ..reads("quakes") };
    let (_, masked) = world.client("masked", vec![narrow]).await;
    let mut tails = Vec::new();
    for (key, path) in [
        (&whole, TAIL.to_owned()),
        (&prefix, TAIL.to_owned()),
        (&masked, TAIL.to_owned()),
        (&whole, format!("{TAIL}?entity=us")),
    ] {
        tails.push(world.tail(&path, key, "").await);
    }
    world.arrive(0, about("ci", 0..3)).await;
    world.arrive(1, about("us", 3..6)).await;
    let mut seen = Vec::new();
    for (tail, count) in tails.iter_mut().zip([6, 3, 2, 3]) {
        let mut events = Vec::new();
        for _ in 0..count {
            events.push(tail.event().await);
        }
        seen.push(events);
    }
    let numbers = |at: usize| seen[at].iter().map(Block::n).collect::<Vec<_>>();
    assert_eq!(numbers(1), [0, 1, 2]);
    assert_eq!(numbers(2), [4, 5]);
    assert_eq!(numbers(3), [3, 4, 5]);
    assert_eq!(seen[2][0].json()["data"], serde_json::json!({ "n": 4 }), "the granted field alone");
    // A client that is shown little does not fall behind: its last id moves with what it hears.
    let before = tails[1].last_id.clone();
    let beat = tails[1].block().await.unwrap();
    assert_eq!((beat.comment.as_str(), beat.data.as_str()), ("still here", ""));
    assert_ne!(beat.id, before);
    world.arrive(2, about("ca", 6..7)).await;
    assert_eq!(world.tail(TAIL, &prefix, &beat.id).await.numbers(1).await, [6]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_followed_is_said_to_those_who_may_see_it() {
    let (mut world, key) = world().await;
    let (_, flights) = world.client("flights", vec![reads("flights")]).await;
    let (_, prefix) = world.client("prefix", vec![reads_prefix("quakes", Some("c"))]).await;
    let off = world.refused("/v1/integrations/flights/tail", &flights, "").await.problem(409);
    assert_eq!(off["type"], "urn:sluicegate:problem:tail-off");
    for path in ["flights/tail", "nothing/tail", "Q/tail"] {
        world.refused(&format!("/v1/integrations/{path}"), &key, "").await.problem(404);
    }
    world.refused(&format!("{TAIL}?entity=us"), &prefix, "").await.problem(404);
    let other = world.tail(TAIL, &key, "").await.last_id;
    for (query, last_id) in [
        ("?cursor=abc", ""),
        ("", "abc"),
        ("?from=yesterday", ""),
        ("?limit=5", ""),
        ("?cursor=a&cursor=b", ""),
        (&format!("?cursor={other}&from={NOW_MS}"), ""),
    ] {
        world.refused(&format!("{TAIL}{query}"), &key, last_id).await.problem(400);
    }
    let listed = world.get("/v1/integrations", &key).await.json();
    assert_eq!(listed["integrations"][0]["tail"], true);
}
