//! The API in a host that brings requests and may freeze the process between them. Nothing runs here but what a request, or the
//! settling after it, runs.

use std::net::IpAddr;
use std::time::Duration;

use axum::body::Bytes;
use http::Request;
use local_aws::{Effect, Fault};
use serde_json::json;
use store::{ApiKey, ClientId, KeyTerms, Message};
use tokio::time::Instant;

use super::{Answer, CHANGE, NOW_MS, World, message, reads};
use crate::testing::forge::Forge;
use crate::{Arrival, Hosted, Issuer, OAuthOptions};

const LATEST: &str = "/v1/integrations/quakes/entities/ci/latest";
const SECOND: Duration = Duration::from_secs(1);
/// What a request of a test has, unless it is about that.
const TIME: Duration = Duration::from_secs(28);

/// One process of a host.
struct Process(Hosted);

impl World {
    fn process(&self) -> Process {
        let (options, backing) = self.made_of.clone();
        Process(Hosted::new(options, backing).unwrap())
    }

    /// Time goes by for everybody else: a frozen process sees it in none of its own clocks but the wall's.
    fn freeze(&self, time: Duration) {
        let ms = i64::try_from(time.as_millis()).unwrap();
        self.wall.0.fetch_add(ms, std::sync::atomic::Ordering::Relaxed);
    }
}

fn arrival(time: Duration) -> Arrival {
    let address = Some(IpAddr::from([192, 0, 2, 1]));
    Arrival { address, deadline: Instant::now() + time, max_answer_bytes: 1024 * 1024 }
}

impl Process {
    async fn send(&self, request: http::request::Builder, arrival: Arrival) -> Answer {
        let request = request.body(Bytes::new()).unwrap();
        let (head, body) = self.0.answer(request, arrival).await.into_parts();
        Answer { status: head.status, headers: head.headers, body }
    }

    async fn get(&self, path: &str, key: &ApiKey) -> Answer {
        self.send(Request::get(path).header("x-api-key", key.expose()), arrival(TIME)).await
    }

    /// What a host does with a request, from its arrival until the process may be frozen.
    async fn invoke(&self, path: &str, key: &ApiKey) -> Answer {
        let answer = self.get(path, key).await;
        self.0.settle(Instant::now() + 2 * SECOND).await;
        answer
    }
}

/// What is left of the client's requests of the day.
fn left(answer: &Answer) -> u64 {
    let (_, rest) = answer.header("ratelimit").split_once("\"daily-requests\";r=").unwrap();
    rest.split(';').next().unwrap().parse().unwrap()
}

/// A client may ask for so much a day.
async fn world_with_quota(requests: u64) -> (World, ApiKey) {
    let quota = std::num::NonZeroU64::new(requests);
    let mut world = World::with(|options| options.limits.client.requests_per_day = quota).await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    (world, key)
}

/// P7: nothing looks while a process is frozen, so the first request after it must.
#[tokio::test(start_paused = true)]
async fn p7_a_key_that_was_revoked_during_a_freeze_is_refused_at_the_first_request() {
    let mut world = World::new().await;
    let (client, by_wall) = world.client("reader", vec![reads("quakes")]).await;
    let by_monotonic = world.key(&client, None).await;
    let process = world.process();
    for key in [&by_wall, &by_monotonic] {
        assert_eq!(process.get("/v1/me", key).await.status, 200);
    }
    world.revoke(&by_wall).await;
    assert_eq!(process.get("/v1/me", &by_wall).await.status, 200, "its view is young");
    world.freeze(Duration::from_millis(2_001));
    process.get("/v1/me", &by_wall).await.problem(401);
    assert_eq!(process.get("/v1/me", &by_monotonic).await.status, 200);
    world.revoke(&by_monotonic).await;
    tokio::time::advance(Duration::from_millis(2_001)).await;
    process.get("/v1/me", &by_monotonic).await.problem(401);
}

#[tokio::test(start_paused = true)]
async fn readiness_is_told_by_a_view_that_is_looked_at_first() {
    let world = World::new().await;
    let process = world.process();
    let ready = async || process.send(Request::get("/readyz"), arrival(TIME)).await;
    assert_eq!(ready().await.status, 200);
    world.freeze(Duration::from_secs(3_600));
    assert_eq!(ready().await.status, 200);
    world.freeze(Duration::from_secs(3_600));
    let broken = Fault::new(local_aws::Service::Dynamodb, Effect::InternalError);
    world.aws.faults().inject(broken.resource("test-access"));
    ready().await.problem(503);
}

#[tokio::test(start_paused = true)]
async fn what_is_used_is_told_before_the_process_may_be_frozen_or_dropped() {
    let (world, key) = world_with_quota(1_000).await;
    let first = world.process();
    for _ in 0..3 {
        assert_eq!(first.invoke("/v1/me", &key).await.status, 200);
    }
    assert_eq!(world.last_use(&key).await, Some(0));
    drop(first);
    let second = world.process();
    assert_eq!(left(&second.invoke("/v1/me", &key).await), 999, "it has not asked yet");
    assert_eq!(left(&second.invoke("/v1/me", &key).await), 995, "3 elsewhere, 2 here");
}

/// The bound that `docs/limits.md` states: a process lets in one request by itself, then it knows.
#[tokio::test(start_paused = true)]
async fn a_process_lets_in_one_request_beyond_a_quota_that_others_used_up() {
    let (world, key) = world_with_quota(5).await;
    let first = world.process();
    for _ in 0..5 {
        assert_eq!(first.invoke("/v1/me", &key).await.status, 200);
    }
    first.invoke("/v1/me", &key).await.problem(429);
    for _ in 0..3 {
        let other = world.process();
        assert_eq!(other.invoke("/v1/me", &key).await.status, 200);
        other.invoke("/v1/me", &key).await.problem(429);
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_that_does_not_answer_holds_up_no_host_for_longer_than_it_allows() {
    let (world, key) = world_with_quota(1_000).await;
    let process = world.process();
    assert_eq!(process.get("/v1/me", &key).await.status, 200);
    let silent = Fault::new(local_aws::Service::Dynamodb, Effect::Partition);
    let silent = world.aws.faults().inject(silent.operation("UpdateItem"));
    let began = Instant::now();
    process.0.settle(began + SECOND).await;
    assert!(began.elapsed() <= SECOND, "{:?}", began.elapsed());
    world.aws.faults().clear(silent);
    world.pass(60 * SECOND).await;
    assert_eq!(left(&process.invoke("/v1/me", &key).await), 998);
    drop(process);
    let other = world.process();
    other.invoke("/v1/me", &key).await;
    assert_eq!(
        left(&other.invoke("/v1/me", &key).await),
        996,
        "what was not told came with the next"
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_longer_than_the_host_has_time() {
    let mut world = World::new().await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    world.store(vec![message("quakes", "ci", 1)]).await;
    let process = world.process();
    let tag = process.get(LATEST, &key).await.header("etag").to_owned();
    for (has, asked, applied) in
        [(12, 300, "wait=10"), (28, 5, "wait=5"), (28, 300, "wait=20"), (2, 9, "")]
    {
        let ask = Request::get(LATEST).header("x-api-key", key.expose());
        let ask = ask.header("if-none-match", &tag).header("prefer", format!("wait={asked}"));
        let began = Instant::now();
        let answer = process.send(ask, arrival(has * SECOND)).await;
        assert_eq!(answer.status, 304);
        assert_eq!(answer.header("preference-applied"), applied);
        assert!(began.elapsed() < has * SECOND, "{has}: {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_answered_in_time_whatever_the_store_does() {
    let mut world = World::new().await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    let process = world.process();
    assert_eq!(process.get("/v1/me", &key).await.status, 200);
    let silent = Fault::new(local_aws::Service::Dynamodb, Effect::Unanswered);
    world.aws.faults().inject(silent.resource("test-messages"));
    let began = Instant::now();
    let ask = Request::get(LATEST).header("x-api-key", key.expose());
    process.send(ask, arrival(3 * SECOND)).await.problem(504);
    assert!(began.elapsed() <= 3 * SECOND + Duration::from_millis(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn streams_are_refused_to_those_who_could_have_them_elsewhere_and_unknown_to_others() {
    let mut world = World::new().await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    let (_, other) = world.client("other", vec![reads("flights")]).await;
    let process = world.process();
    let tail = "/v1/integrations/quakes/tail";
    let refused = process.get(tail, &key).await;
    assert_eq!(refused.problem(501)["type"], "urn:sluicegate:problem:not-served-here");
    assert!(refused.header("ratelimit").contains("requests"));
    process.get(tail, &other).await.problem(404);
    process.get("/v1/integrations/flights/tail", &other).await.problem(409);
}

#[tokio::test]
async fn an_answer_that_the_host_cannot_give_is_a_problem_that_says_what_to_do() {
    let mut world = World::new().await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    world.store((0..20).map(|n| message("quakes", "ci", n)).collect::<Vec<Message>>()).await;
    let process = world.process();
    let page = "/v1/integrations/quakes/entities/ci/messages";
    let ask = |path: &str| Request::get(path).header("x-api-key", key.expose());
    let small = Arrival { max_answer_bytes: 1_500, ..arrival(TIME) };
    let refused = process.send(ask(page), small).await;
    let problem = refused.problem(501);
    assert!(problem["detail"].as_str().unwrap().contains("limit"), "{problem}");
    assert!(refused.header("x-request-id").starts_with("req_"));
    assert_eq!((refused.header("link"), refused.header("cache-control")), ("", "no-store"));
    assert!(refused.header("ratelimit").contains("requests"));
    let fewer = process.send(ask(&format!("{page}?limit=2")), small).await;
    assert_eq!(fewer.status, 200);
    assert!(fewer.header("link").contains("rel=\"next\""));
}

/// A key that is held to a network, used from where the host says, which is not what the request says.
#[tokio::test]
async fn an_address_is_what_the_host_says_and_not_what_the_request_says() {
    let mut world = World::with(|options| {
        options.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    })
    .await;
    let (client, _) = world.client("reader", vec![reads("quakes")]).await;
    let key = ApiKey::generate(&mut |bytes: &mut [u8]| world.random.fill(bytes));
    let terms =
        KeyTerms { networks: vec!["203.0.113.0/24".parse().unwrap()], ..KeyTerms::new("test") };
    let id: &ClientId = &client.id;
    let key = world.access.issue_key(key, id, &terms, &CHANGE).await.unwrap().key;
    let process = world.process();
    let from = async |address: Option<&str>, forwarded: &str| {
        let ask = Request::get("/v1/me").header("x-api-key", key.expose());
        let ask = ask.header("x-forwarded-for", forwarded);
        let address = address.map(|address| address.parse().unwrap());
        process.send(ask, Arrival { address, ..arrival(TIME) }).await.status.as_u16()
    };
    assert_eq!(from(Some("203.0.113.7"), "").await, 200);
    assert_eq!(from(Some("192.0.2.1"), "203.0.113.7").await, 401, "made up");
    assert_eq!(from(None, "203.0.113.7").await, 401);
    assert_eq!(from(Some("10.0.0.1"), "203.0.113.7").await, 200, "of our proxy");
    assert_eq!(from(Some("10.0.0.1"), "203.0.113.7, 192.0.2.1").await, 401);
}

/// What an issuer took back is refused after a freeze as it would be by the service, and not a day later.
#[tokio::test(start_paused = true)]
async fn issuers_keys_are_looked_at_again_when_that_was_due_during_a_freeze() {
    let (issuer, keys) = ("https://login.example", "https://login.example/keys");
    let mut world = World::with(|options| {
        let issuer = Issuer {
            audiences: vec!["https://api.example".to_owned()],
            jwks_uri: Some(keys.to_owned()),
            ..Issuer::new(issuer)
        };
        options.oauth = OAuthOptions { issuers: vec![issuer], ..OAuthOptions::default() };
    })
    .await;
    let (before, after) = (Forge::new(0), Forge::new(1));
    world.published.put(keys, &before.key_set());
    let (client, key) = world.client("reader", vec![reads("quakes")]).await;
    world.access.bind_oauth(&client.id, issuer, "partner", &CHANGE).await.unwrap();
    let now_s = NOW_MS / 1_000;
    let claims = json!({ "iss": issuer, "aud": "https://api.example", "client_id": "partner",
        "iat": now_s, "exp": now_s + 86_400, "scope": "integration:quakes:read" });
    let token = before.token("ES256", "ec", &claims);
    let process = world.process();
    let me = async || {
        let ask = Request::get("/v1/me").header("authorization", format!("Bearer {token}"));
        process.send(ask, arrival(TIME)).await.status.as_u16()
    };
    assert_eq!(me().await, 200);
    world.published.put(keys, &after.key_set());
    world.freeze(Duration::from_secs(599));
    assert_eq!((me().await, world.published.fetches(keys)), (200, 1), "not due yet");
    world.freeze(SECOND);
    assert_eq!(process.get("/v1/me", &key).await.status, 200);
    assert_eq!(world.published.fetches(keys), 1, "nobody came with a token");
    assert_eq!((me().await, world.published.fetches(keys)), (401, 2));
}
