//! The whole service over real sockets and real TLS, on an embedded DynamoDB.

use std::cell::RefCell;
use std::time::Duration;

use http::Request;
use store::ApiKey;
use tokio_util::sync::CancellationToken;
use tracing::field::{Field, Visit};

use super::Exit;
use crate::routes::tests::{World, message, reads};
use crate::testing::raw::{HEADERS, RST_STREAM, Raw, request};
use crate::testing::{Certificate, Http};
use crate::{ClientCertificates, TlsReloader, Transport};

#[tokio::test]
async fn a_client_reads_over_https_and_a_stop_ends_in_order() {
    let certificate = Certificate::new();
    let (chain, key) = (certificate.chain_pem.as_bytes(), certificate.key_pem.as_bytes());
    let reloader = TlsReloader::from_pem(chain, key, ClientCertificates::Ignored).unwrap();
    let mut world = World::with(|options| options.transport = Transport::Tls(reloader)).await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    world.store(vec![message("quakes", "ci", 1)]).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(world.service.take().unwrap().run(stop.clone()));
    world.handle.ready();

    let stream = certificate.connect(world.handle.address(), &["h2"]).await.unwrap();
    let mut client = Http::over_tls(stream).await;
    while client.get("/readyz").await.unwrap().status() != 200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(client.get("/v1/me").await.unwrap().status(), 401);
    let path = "/v1/integrations/quakes/entities/ci/latest";
    let ask = Request::get(path).header("x-api-key", key.expose());
    let answer = client.send(ask).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.headers().contains_key("strict-transport-security"));
    assert_eq!(world.handle.stats().connections, 1);

    stop.cancel();
    assert_eq!(running.await.unwrap(), Exit::Shutdown { cut_connections: 0 });
    assert_eq!(world.handle.stats().connections, 0);
    assert!(client.get("/healthz").await.is_err());
}

/// A service over TLS with room for so many requests in work, its certificate, and what stops it.
async fn with_room(
    max_requests_in_flight: usize,
) -> (World, Certificate, tokio::task::JoinHandle<Exit>, CancellationToken) {
    let certificate = Certificate::new();
    let (chain, key) = (certificate.chain_pem.as_bytes(), certificate.key_pem.as_bytes());
    let reloader = TlsReloader::from_pem(chain, key, ClientCertificates::Ignored).unwrap();
    let mut world = World::with(|options| {
        options.transport = Transport::Tls(reloader);
        options.limits.max_requests_in_flight = max_requests_in_flight;
    })
    .await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(world.service.take().unwrap().run(stop.clone()));
    (world, certificate, running, stop)
}

impl World {
    async fn asks_who_it_is(&self, certificate: &Certificate, key: &ApiKey) -> http::StatusCode {
        let stream = certificate.connect(self.handle.address(), &["h2"]).await.unwrap();
        let ask = Request::get("/v1/me").header("x-api-key", key.expose());
        Http::over_tls(stream).await.send(ask).await.unwrap().status()
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_that_never_come_are_given_up_in_time_and_hold_up_nobody() {
    let (mut world, certificate, running, stop) = with_room(6).await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    let mut raw = Raw::connect(&certificate, world.handle.address(), 65_535).await;
    let began = tokio::time::Instant::now();
    for stream in [1, 3, 5, 7, 9] {
        let fields = [("x-api-key", key.expose()), ("content-type", "application/json")];
        raw.send(&request(stream, 3, "/v1/subscriptions", &fields, false)).await.unwrap();
    }
    while world.handle.stats().requests_in_flight < 5 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.asks_who_it_is(&certificate, &key).await, 200);
    for _ in 0..5 {
        assert_eq!(raw.next_of(RST_STREAM).await.unwrap().code(), 0, "answered, and ended");
    }
    assert!(began.elapsed() >= crate::Limits::default().request_timeout);
    assert_eq!(world.handle.stats().requests_in_flight, 0);
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn answers_that_nobody_takes_keep_nobody_out() {
    let (mut world, certificate, running, stop) = with_room(6).await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    let mut raw = Raw::connect(&certificate, world.handle.address(), 0).await;
    for number in 0..100 {
        raw.send(&request(2 * number + 1, 2, "/v1/me", &[], true)).await.unwrap();
    }
    for _ in 0..100 {
        assert!(raw.next_of(HEADERS).await.is_some());
    }
    assert_eq!(world.handle.stats().requests_in_flight, 0);
    assert_eq!(world.asks_who_it_is(&certificate, &key).await, 200);
    stop.cancel();
    running.await.unwrap();
}

/// P7: the service looks by itself, so a revocation is seen before anyone asks.
#[tokio::test(start_paused = true)]
async fn a_running_service_sees_a_revocation_within_a_second() {
    let mut world = World::new().await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(world.service.take().unwrap().run(stop.clone()));
    assert_eq!(world.get("/v1/me", &key).await.status, 200);
    world.revoke(&key).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    world.get("/v1/me", &key).await.problem(401);
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_use_of_a_key_is_written_once_a_minute_beside_its_requests() {
    let mut world = World::with(|options| options.limits.client.burst = 1_000).await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(world.service.take().unwrap().run(stop.clone()));
    let wrong = Request::get("/v1/me").header("x-api-key", format!("{}x", key.expose()));
    world.send(wrong).await.problem(401);
    for _ in 0..130 {
        for _ in 0..3 {
            assert_eq!(world.get("/v1/me", &key).await.status, 200);
        }
        world.pass(Duration::from_secs(1)).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.cancel();
    running.await.unwrap();
    assert_eq!(world.calls("PutItem"), 3);
    assert_eq!(world.last_use(&key).await, Some(120_000), "after the start");
}

thread_local! {
    /// What an operator's log would hold of this thread, while a test listens.
    static LOG: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Writes this room's lines, and what others hold important, to `LOG`. It is set for the whole
/// process, because a thread without a subscriber switches call sites off for all threads.
struct Listener;

struct Line;

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        use std::fmt::Write;
        LOG.with_borrow_mut(|log| {
            if let Some(log) = log {
                write!(log, "{field}={value:?} ").unwrap();
            }
        });
    }
}

impl tracing::Subscriber for Listener {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO || metadata.target().starts_with("api")
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        span.record(&mut Line);
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        values.record(&mut Line);
    }

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut Line);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// Has every line heard, on each thread by whoever listens there. Where a test's thread had no subscriber, tracing could take it
/// that nobody wants a line, for all threads.
pub(crate) fn listen() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Listener).unwrap());
}

/// A2: a secret never appears in logs, errors or Debug.
#[tokio::test]
async fn the_log_tells_who_asked_for_what_kind_of_thing_and_no_secret() {
    let mut world = World::new().await;
    let (_, key) = world.client("reader", vec![reads("quakes")]).await;
    world
        .store(vec![message("quakes", "private-entity", 1), message("quakes", "private-entity", 2)])
        .await;
    listen();
    LOG.set(Some(String::new()));
    let path = "/v1/integrations/quakes/entities/private-entity/messages?limit=1";
    let page = world.get(path, &key).await.json();
    let cursor = page["next"].as_str().unwrap();
    world.get(&format!("{path}&cursor={cursor}"), &key).await;
    let wrong = format!("Bearer {}x", key.expose());
    world.send(Request::get("/v1/me").header("authorization", wrong)).await.problem(401);

    let log = LOG.take().unwrap();
    let secret = &key.expose()["sg_live_123456789012_".len()..];
    for hidden in [secret, cursor, "private-entity"] {
        assert!(!log.contains(hidden), "{log}");
    }
    assert!(
        log.contains("route=\"/v1/integrations/{integration}/entities/{entity}/messages\""),
        "{log}"
    );
    for told in [
        "status=200",
        "status=401",
        "client=\"reader\"",
        "reason=\"malformed\"",
        "request_id=\"req_",
    ] {
        assert!(log.contains(told), "{told}: {log}");
    }
}
