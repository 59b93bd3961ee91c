//! The routes: what HTTP asks, put to a backend that does not know HTTP. Start at [`router`].

mod authenticated;
pub(crate) mod body;
pub(crate) mod conditional;
mod deliveries;
pub(crate) mod described;
mod docs;
pub(crate) mod envelope;
mod handlers;
pub(crate) mod health;
pub(crate) mod held;
mod latest;
mod metered;
pub(crate) mod openapi;
pub(crate) mod params;
pub(crate) mod prefer;
pub(crate) mod problem;
mod publish;
pub(crate) mod render;
mod replays;
mod sse;
mod subscriptions;
mod tail;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::{Authenticator, Gates};
use crate::audit::Audit;
use crate::backend::Backend;
use crate::manage::Manager;
use crate::options::Limits;
use crate::publish::Publishing;
use crate::readiness::Readiness;
use problem::Problem;

/// The route of a request that none is for.
const UNMATCHED: &str = "unmatched";

/// Every `route` that a metric or a line of the log can name: templates of paths, and the lack of one.
pub fn templates() -> Vec<String> {
    let described = [guarded(), open()].map(|routes| routes.split_for_parts().1.paths.paths);
    let described = described.into_iter().flat_map(BTreeMap::into_keys);
    let fixed = docs::PATHS.into_iter().chain([UNMATCHED]).map(str::to_owned);
    described.chain(fixed).collect()
}

/// What the routes share.
pub(crate) struct App {
    pub(crate) backend: Backend,
    pub(crate) manager: Manager,
    pub(crate) authenticator: Authenticator,
    pub(crate) gates: Gates,
    pub(crate) audit: Arc<Audit>,
    pub(crate) limits: Limits,
    /// In front of `self` links; may be empty.
    pub(crate) base_url: String,
    /// Whether clients are told to use HTTPS only.
    pub(crate) hsts: bool,
    pub(crate) readiness: Readiness,
    /// A permit for every request in work.
    pub(crate) in_flight: Arc<Semaphore>,
    pub(crate) request_ids: RequestIds,
    /// A permit for every request that waits for something new.
    pub(crate) waiting: Arc<Semaphore>,
    /// A permit for every client that follows an integration.
    pub(crate) tailing: Arc<Semaphore>,
    /// Cancelled: what waits is answered as things stand.
    pub(crate) draining: CancellationToken,
    /// Whether anybody may follow an integration here.
    pub(crate) streams: Streams,
    /// `None`: nothing can be published.
    pub(crate) publishing: Option<Publishing>,
}

/// Whether answers without an end can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Streams {
    /// They can.
    Given,
    /// They cannot: what brings the requests takes answers whole.
    Refused,
}

/// By when an answer must be there as a whole, where something other than the limits says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WholeBy(pub(crate) Instant);

impl App {
    fn next_request_id(&self) -> String {
        self.request_ids.next()
    }
}

/// Names for requests: different within a process, and between processes as far as their seeds are.
pub(crate) struct RequestIds {
    seed: u64,
    next: AtomicU64,
}

impl RequestIds {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, next: AtomicU64::new(1) }
    }

    pub(crate) fn next(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        format!("req_{:08x}{number:08x}", self.seed & 0xffff_ffff)
    }
}

const LATEST: &str = "/v1/integrations/{integration}/entities/{entity}/latest";

const PUBLISH: &str = "/v1/integrations/{integration}/messages";

/// Requests for it may be held until there is something new.
fn may_wait(route: &str) -> bool {
    route == LATEST
}

/// The bytes that a request's body may have.
fn max_body_bytes(route: &str, limits: &Limits) -> u64 {
    if route == PUBLISH { limits.publish.max_body_bytes } else { limits.max_body_bytes }
}

/// All routes over one [`App`].
pub(crate) fn router(app: Arc<App>) -> Router {
    let (guarded, _) = guarded().split_for_parts();
    let (open, _) = open().split_for_parts();
    let authenticated = from_fn_with_state(Arc::clone(&app), authenticated::authenticated);
    let routes = open.merge(docs::routes()).merge(guarded.route_layer(authenticated));
    enveloped(routes, app)
}

/// The operations that need a client.
fn guarded() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(handlers::me))
        .routes(routes!(handlers::integrations))
        .routes(routes!(handlers::page))
        .routes(routes!(latest::latest))
        .routes(routes!(handlers::message))
        .routes(routes!(publish::publish))
        .routes(routes!(tail::tail))
        .merge(managed())
}

/// What a client manages of what is pushed to it.
fn managed() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(subscriptions::list, subscriptions::create))
        .routes(routes!(subscriptions::show, subscriptions::change, subscriptions::delete))
        .routes(routes!(subscriptions::rotate))
        .routes(routes!(subscriptions::test))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::redrive))
        .routes(routes!(deliveries::show))
        .routes(routes!(replays::list, replays::create))
        .routes(routes!(replays::show, replays::cancel))
}

/// The operations that anybody may call.
fn open() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(health::healthz)).routes(routes!(health::readyz))
}

/// What holds for every request, around these routes and around the lack of one.
fn enveloped(routes: Router<Arc<App>>, app: Arc<App>) -> Router {
    routes
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(problems_only))
        .layer(from_fn_with_state(Arc::clone(&app), envelope::envelope))
        .with_state(app)
}

pub(crate) async fn nothing_here() -> Response {
    Problem::not_found().into_response()
}

pub(crate) async fn wrong_method() -> Response {
    Problem::method_not_allowed().into_response()
}

/// An error that the framework answered in its own words is answered in ours.
pub(crate) async fn problems_only(
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    problem::normalise(next.run(request).await)
}
