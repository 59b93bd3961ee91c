//! What an answer costs beside one of the same bytes that the same router has ready. A measurement, no test:
//! `cargo test --release -p api --lib serving -- --ignored --nocapture`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use store::{
    Arrivals, ArrivalsPage, ArrivalsQuery, Entity, IntegrationName, Locator, Message, MessagePage,
    MessageQuery, MessageStore, PutReport, StoreError, StoreItem,
};
use tower::ServiceExt;

use super::{World, message, reads};
use crate::routes::{App, authenticated, enveloped};

const ROUNDS: usize = 7;
/// Of one round, so many that it takes many ticks of the scheduler, by which it counts.
const REQUESTS: u32 = 40_000;
const LATEST: &str = "/v1/integrations/quakes/entities/ci/latest";
const PAGE: &str = "/v1/integrations/quakes/entities/ci/messages?limit=50";
const EARTHQUAKES: &str = include_str!("../../../../tests/data/earthquakes.ndjson");

/// Messages in memory: what a store costs that costs nothing.
struct InMemory(Vec<Message>);

impl MessageStore for InMemory {
    fn put<'a>(&'a self, _: &'a [StoreItem]) -> BoxFuture<'a, PutReport> {
        std::future::pending().boxed()
    }

    fn query<'a>(
        &'a self,
        query: &'a MessageQuery,
    ) -> BoxFuture<'a, Result<MessagePage, StoreError>> {
        let messages = self.0.iter().take(query.limit).cloned().collect();
        std::future::ready(Ok(MessagePage { messages, next: None })).boxed()
    }

    fn latest<'a>(
        &'a self,
        _: &'a IntegrationName,
        _: &'a Entity,
        _: i64,
        _: bool,
    ) -> BoxFuture<'a, Result<Option<Message>, StoreError>> {
        std::future::ready(Ok(self.0.first().cloned())).boxed()
    }

    fn get<'a>(
        &'a self,
        _: &'a Locator,
        _: i64,
        _: bool,
    ) -> BoxFuture<'a, Result<Option<Message>, StoreError>> {
        std::future::ready(Ok(None)).boxed()
    }

    fn get_many<'a>(
        &'a self,
        places: &'a [Locator],
        _: i64,
        _: usize,
    ) -> BoxFuture<'a, Result<Vec<Option<Message>>, StoreError>> {
        std::future::ready(Ok(vec![None; places.len()])).boxed()
    }

    fn announce<'a>(&'a self, _: &'a [Arrivals]) -> BoxFuture<'a, PutReport> {
        std::future::pending().boxed()
    }

    fn arrivals<'a>(
        &'a self,
        _: &'a ArrivalsQuery,
    ) -> BoxFuture<'a, Result<ArrivalsPage, StoreError>> {
        std::future::pending().boxed()
    }
}

/// Real messages of one entity.
fn messages() -> Vec<Message> {
    let payloads = EARTHQUAKES.lines().take(50).map(|line| Bytes::from_static(line.as_bytes()));
    payloads
        .zip(0..)
        .map(|(payload, n)| Message { payload, ..message("quakes", "ci", n) })
        .collect()
}

/// The same layers around a body that is there.
fn constant(app: &Arc<App>, body: Bytes) -> Router {
    let authenticated = from_fn_with_state(Arc::clone(app), authenticated::authenticated);
    let answer = move || async move { ([(header::CONTENT_TYPE, "application/json")], body) };
    let routes = Router::new().route("/constant", get(answer)).route_layer(authenticated);
    enveloped(routes, Arc::clone(app))
}

/// CPU time of this thread so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
}

async fn ask(router: &Router, path: &str, key: &str) -> Bytes {
    let request = Request::get(path).header("x-api-key", key).body(Body::empty()).unwrap();
    let answer = router.clone().oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.into_body().collect().await.unwrap().to_bytes()
}

/// CPU time of one request.
async fn cost(router: &Router, path: &str, key: &str, requests: u32) -> Duration {
    let before = cpu();
    for _ in 0..requests {
        ask(router, path, key).await;
    }
    (cpu() - before) / requests
}

#[tokio::test]
#[ignore = "a measurement, no test: what an answer costs beside a constant one (issue 6)"]
async fn what_answers_cost() {
    let unlimited = |options: &mut crate::Options| {
        options.limits.client.rate_per_second = 1_000_000;
        options.limits.client.burst = 1_000_000;
    };
    let memory: Arc<dyn MessageStore> = Arc::new(InMemory(messages()));
    for (what, elsewhere, requests) in
        [("in memory", Some(memory), REQUESTS), ("embedded DynamoDB", None, REQUESTS / 20)]
    {
        let mut world = World::reading(elsewhere, unlimited).await;
        world.store(messages()).await;
        let (_, key) = world.client("partner", vec![reads("quakes")]).await;
        let app = Arc::clone(&world.service.as_ref().unwrap().app);
        for (path, requests) in [(LATEST, requests), (PAGE, requests / 10)] {
            let body = ask(&world.router, path, key.expose()).await;
            let (bytes, constant) = (body.len(), constant(&app, body));
            let (mut least, mut ready) = (Duration::MAX, Duration::MAX);
            for _ in 0..ROUNDS {
                least = least.min(cost(&world.router, path, key.expose(), requests).await);
                ready = ready.min(cost(&constant, "/constant", key.expose(), REQUESTS).await);
            }
            let share = ready.as_secs_f64() / least.as_secs_f64() * 100.0;
            let per_second = 1.0 / least.as_secs_f64();
            println!(
                "{what:18} {bytes:6} B  {least:?}, ready {ready:?}: {share:.0} %, {per_second:.0} a second and core  {path}"
            );
        }
    }
}
