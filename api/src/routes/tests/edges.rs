//! Requests that cannot be answered as asked, and what holds for every answer.

use std::time::Duration;

use axum::routing::get;
use http::{Method, Request, StatusCode};
use local_aws::{Effect, Fault};

use super::{World, message, reads};

const LATEST: &str = "/v1/integrations/quakes/entities/ci/latest";

#[tokio::test]
async fn every_error_is_a_problem() {
    let mut world = World::new().await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    let ask = |method: Method, path: &str| {
        Request::builder().method(method).uri(path).header("x-api-key", key.expose())
    };
    world.send(ask(Method::GET, "/nowhere")).await.problem(404);
    world.send(ask(Method::GET, "/v1/integrations/quakes/entities/ci")).await.problem(404);
    let wrong = world.send(ask(Method::DELETE, LATEST)).await;
    wrong.problem(405);
    assert_eq!(wrong.header("allow"), "GET,HEAD");
    let long = format!("{LATEST}?x={}", "x".repeat(9_000));
    world.send(ask(Method::GET, &long)).await.problem(414);
    world.send(ask(Method::GET, LATEST).header("x-large", "x".repeat(17_000))).await.problem(431);
    world.send(ask(Method::GET, LATEST).header("content-length", "9999999")).await.problem(413);
    let unknown = world.send(ask(Method::GET, &format!("{LATEST}?wait=5"))).await.problem(400);
    assert_eq!(unknown["found"], "wait");
}

#[tokio::test]
async fn every_answer_has_the_protecting_headers_and_opens_no_cors() {
    let mut world = World::new().await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    world.store(vec![message("quakes", "ci", 1)]).await;
    let mut ids = std::collections::BTreeSet::new();
    for path in ["/healthz", "/readyz", "/nowhere", "/v1/me", LATEST] {
        let ask = Request::get(path)
            .header("x-api-key", key.expose())
            .header("origin", "https://evil.example");
        let answer = world.send(ask).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert!(answer.header("strict-transport-security").starts_with("max-age="));
        assert!(["no-store", "private, no-cache"].contains(&answer.header("cache-control")));
        assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control")));
        assert!(ids.insert(answer.header("x-request-id").to_owned()));
    }
    let preflight = Request::builder().method(Method::OPTIONS).uri(LATEST);
    assert_eq!(world.send(preflight).await.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn readiness_is_the_apps_word_and_health_needs_none() {
    let mut world = World::new().await;
    let (_, key) = world.client("reader", vec![]).await;
    assert_eq!(world.send(Request::get("/healthz")).await.status, 200);
    let ready = || world.send(Request::get("/readyz"));
    assert_eq!(ready().await.problem(503)["detail"], "starting");
    world.handle.ready();
    let blind = ready().await.problem(503);
    assert!(blind["detail"].as_str().unwrap().contains("changes of access"));
    world.get("/v1/me", &key).await;
    assert_eq!(ready().await.status, 200);
    world.handle.not_ready("draining");
    assert_eq!(ready().await.problem(503)["detail"], "draining");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_costs_a_request_its_time_and_no_more() {
    let mut world = World::new().await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    world.get("/v1/me", &key).await;
    let fault = |effect| {
        Fault::new(local_aws::Service::Dynamodb, effect).resource("test-messages").times(1)
    };
    world.aws.faults().inject(fault(Effect::Unanswered));
    let begun = tokio::time::Instant::now();
    world.get(LATEST, &key).await.problem(504);
    assert!(begun.elapsed() <= Duration::from_secs(16), "{:?}", begun.elapsed());
    world.aws.faults().inject(fault(Effect::Throttle));
    world.get(LATEST, &key).await.problem(503);
    world.get(LATEST, &key).await.problem(404);
    assert_eq!(world.handle.stats().requests_in_flight, 0);
}

#[tokio::test]
async fn there_is_room_for_so_many_requests_and_always_for_health() {
    use tower::ServiceExt;
    let mut world = World::with(|options| options.limits.max_requests_in_flight = 1).await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    let ask = |path: &str| {
        let request = Request::get(path).header("x-api-key", key.expose());
        world.router.clone().oneshot(request.body(axum::body::Body::empty()).unwrap())
    };
    let small = ask("/v1/me").await.unwrap();
    assert_eq!(world.handle.stats().requests_in_flight, 0, "what is whole and small is done");
    let held = ask("/v1/integrations/quakes/tail").await.unwrap();
    assert_eq!((small.status(), held.status()), (StatusCode::OK, StatusCode::OK));
    assert_eq!(world.handle.stats().requests_in_flight, 1, "until the body was sent");
    let refused = world.send(Request::get("/nowhere")).await;
    assert!(
        refused.problem(503)["type"].as_str().unwrap().ends_with("#temporary-reduced-capacity")
    );
    assert_eq!(world.send(Request::get("/healthz")).await.status, 200);
    drop(held);
    world.send(Request::get("/nowhere")).await.problem(404);
}

#[tokio::test]
async fn a_defect_is_a_problem_too_and_tells_nothing_of_itself() {
    async fn defect() -> &'static str {
        panic!("secret detail")
    }
    async fn foreign() -> (http::StatusCode, &'static str) {
        (http::StatusCode::INTERNAL_SERVER_ERROR, "secret detail")
    }
    let mut world = World::new().await;
    let app = std::sync::Arc::clone(&world.service.as_ref().unwrap().app);
    let routes = axum::Router::new().route("/defect", get(defect)).route("/foreign", get(foreign));
    world.router = crate::routes::enveloped(routes, app);
    for path in ["/defect", "/foreign"] {
        let answer = world.send(Request::get(path)).await;
        assert_eq!(answer.problem(500)["title"], "Internal Server Error");
        assert!(!String::from_utf8_lossy(&answer.body).contains("secret"));
    }
    assert_eq!(world.handle.stats().requests_in_flight, 0);
}

#[tokio::test]
async fn a_bad_option_is_refused_with_what_is_allowed() {
    use crate::{Backing, Error, Options, Service, Transport};
    let world = World::new().await;
    let backing = || Backing {
        messages: std::sync::Arc::new(world.messages.clone()),
        access: world.access.clone(),
        usage: world.usage.clone(),
        signer: store::Signer::new(&[5; 32]).unwrap(),
        documents: std::sync::Arc::new(world.published.clone()),
        managing: world.managing.clone(),
        time: aws_smithy_async::time::SharedTimeSource::new(world.wall.clone()),
        publisher: None,
        requests: world.requests.clone(),
    };
    let options = || Options::new(Transport::PlainBehindLoadBalancer, vec![]);
    let mut zero = options();
    zero.limits.max_connections = 0;
    let mut path = options();
    path.base_url = Some("https://example.com/api".to_owned());
    let mut twice = options();
    twice.integrations = vec![super::integration("quakes"), super::integration("quakes")];
    let mut plain = options();
    plain.oauth.issuers = vec![crate::Issuer::new("http://login.example")];
    let mut slow = options();
    slow.oauth.issuers = vec![crate::Issuer {
        leeway: std::time::Duration::from_secs(61),
        ..crate::Issuer::new("https://login.example")
    }];
    for (options, found) in [
        (zero, "max_connections"),
        (path, "base_url"),
        (twice, "quakes twice"),
        (plain, "http://login.example"),
        (slow, "leeway"),
    ] {
        let Err(Error::Options(text)) = Service::bind(options, backing()).await else {
            panic!("{found}")
        };
        assert!(text.contains(found) && text.contains("allowed"), "{text}");
    }
}
