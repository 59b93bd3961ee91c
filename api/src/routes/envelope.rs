//! What holds for every request, whatever its route: limits, time, panics, headers, the access log.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::Limited;
use store::ClientId;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::held::HeldBody;
use super::prefer;
use super::problem::Problem;
use super::{App, UNMATCHED, WholeBy};
use crate::access::Peer;
use crate::options::Limits;
use crate::{audit, metrics};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Only for browsers that reached us by HTTPS; two years, as the preload lists ask.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=63072000; includeSubDomains");

/// Up to this an answer is done when it is made.
const DONE_BYTES: u64 = 16 * 1024;

/// What is known of a request beside its own content.
#[derive(Debug)]
pub(crate) struct RequestContext {
    /// Its name in the log and in the answer.
    pub(crate) id: String,
    /// Who asks, once that is known.
    pub(crate) client: OnceLock<ClientId>,
    /// Until when it must be answered.
    pub(crate) deadline: Instant,
}

/// The outermost layer of every route.
pub(crate) async fn envelope(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or(UNMATCHED, MatchedPath::as_str);
    let (id, time) = (app.next_request_id(), time_limit(&app.limits, route, &request));
    let context =
        Arc::new(RequestContext { id, client: OnceLock::new(), deadline: started + time });
    request.extensions_mut().insert(Arc::clone(&context));

    let response = match enter(&app, route, &request) {
        Err(problem) => problem.into_response(),
        Ok(permit) => {
            let asked = asked(&app, &context.id, route, &request);
            let max_body_bytes = super::max_body_bytes(route, &app.limits);
            let answer = run(max_body_bytes, time, request, next);
            let response = audit::of_request(asked, answer).await;
            hold(response, permit)
        }
    };
    let response = finish(response, &method, &context.id, app.hsts);
    note(&method, route, response.status(), &context, started.elapsed());
    response
}

/// What the audit says of a request.
fn asked(app: &App, id: &str, route: &str, request: &Request) -> Arc<audit::Request> {
    let peer = request.extensions().get::<Peer>().and_then(|peer| peer.address);
    let (audit, method) = (Arc::clone(&app.audit), method_name(request.method()));
    audit::Request::new(audit, id, route, method, peer)
}

/// The place that a request takes among all requests in work, or what stands against the request as
/// a whole. Health checks take none: they must be answered most of all when there is no room.
fn enter(
    app: &App,
    route: &str,
    request: &Request,
) -> Result<Option<OwnedSemaphorePermit>, Problem> {
    check_size(&app.limits, super::max_body_bytes(route, &app.limits), request)?;
    if super::health::is_health(route) {
        return Ok(None);
    }
    let permit = Arc::clone(&app.in_flight).try_acquire_owned();
    permit
        .map(Some)
        .map_err(|_| Problem::reduced_capacity("too many requests in work", Duration::from_secs(1)))
}

/// What stands against a request by its size, as far as that is known before its body came.
pub(crate) fn check_size(
    limits: &Limits,
    max_body_bytes: u64,
    request: &Request,
) -> Result<(), Problem> {
    let uri = request.uri();
    if uri.path_and_query().map_or(0, |text| text.as_str().len()) > limits.max_uri_bytes {
        return Err(Problem::uri_too_long(limits.max_uri_bytes));
    }
    let header_bytes: usize =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if header_bytes > limits.max_header_bytes {
        return Err(Problem::header_too_large(limits.max_header_bytes));
    }
    let declared = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|bytes| bytes > max_body_bytes) {
        return Err(Problem::body_too_large(max_body_bytes));
    }
    Ok(())
}

/// The time that a request has.
fn time_limit(limits: &Limits, route: &str, request: &Request) -> Duration {
    let waits = super::may_wait(route).then(|| prefer::wait(request.headers(), limits.max_wait));
    let limit = limits.request_timeout + waits.flatten().unwrap_or_default();
    match request.extensions().get::<WholeBy>() {
        Some(WholeBy(at)) => limit.min(at.saturating_duration_since(Instant::now())),
        None => limit,
    }
}

/// The route's answer, or one for its silence, or for its panic.
pub(crate) async fn run(
    max_body_bytes: u64,
    limit: Duration,
    request: Request,
    next: Next,
) -> Response {
    let max_body_bytes = usize::try_from(max_body_bytes).unwrap_or(usize::MAX);
    let request = request.map(|body| Body::new(Limited::new(body, max_body_bytes)));
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            tracing::error!("a request handler panicked");
            Problem::internal().into_response()
        }
        Err(_) => Problem::timeout(limit).into_response(),
    }
}

/// The headers that every answer has.
pub(crate) fn finish(mut response: Response, method: &Method, id: &str, hsts: bool) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if hsts {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
    }
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
    if method == Method::HEAD { without_body(response) } else { response }
}

/// An answer that is whole and not large is no work any more: its place is free, whether its client takes it or not.
fn hold(response: Response, place: Option<OwnedSemaphorePermit>) -> Response {
    let length = axum::body::HttpBody::size_hint(response.body()).exact();
    match length.is_some_and(|length| length <= DONE_BYTES) {
        true => response,
        false => response.map(|body| HeldBody::wrap(body, place)),
    }
}

/// The answer to HEAD: the length that GET would have, and nothing of it.
fn without_body(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let length = axum::body::HttpBody::size_hint(&body).exact();
    if let Some(length) = length.filter(|length| *length > 0) {
        parts.headers.entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from(length));
    }
    Response::from_parts(parts, Body::empty())
}

/// One line of the access log. Never the raw path: it may carry cursors and entities.
fn note(
    method: &Method,
    route: &str,
    status: StatusCode,
    context: &RequestContext,
    took: Duration,
) {
    metrics::request_answered(route, status, took);
    let client = context.client.get().map_or("-", ClientId::as_str);
    // As a number: logs write 128 bits as a text.
    let duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let status = status.as_u16();
    let (method, request_id) = (method_name(method), context.id.as_str());
    if super::health::is_health(route) {
        tracing::debug!(method, route, status, client, duration_us, request_id, "request");
    } else {
        tracing::info!(method, route, status, client, duration_us, request_id, "request");
    }
}

/// A method as a bounded word: clients may invent methods.
pub(crate) fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}
