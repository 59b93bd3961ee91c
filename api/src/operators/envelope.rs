//! What holds for every request on the operators' port, whatever its route: limits, time, panics, headers.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::service::Desk;
use crate::metrics;
use crate::routes::envelope::{check_size, finish, run};
use crate::routes::health::is_health;
use crate::routes::held::HeldBody;
use crate::routes::problem::Problem;

/// What is known of a request beside its own content.
#[derive(Debug)]
pub(super) struct RequestContext {
    /// Its name in the log and in the answer.
    pub(super) id: String,
}

/// The outermost layer of every route.
pub(super) async fn envelope(
    State(desk): State<Arc<Desk>>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("unmatched", MatchedPath::as_str);
    let context = Arc::new(RequestContext { id: desk.request_ids.next() });
    request.extensions_mut().insert(Arc::clone(&context));
    let limits = &desk.limits;
    let response = match enter(&desk, route, &request) {
        Err(problem) => problem.into_response(),
        Ok(permit) => {
            let answer = run(limits.max_body_bytes, limits.request_timeout, request, next).await;
            answer.map(|body| HeldBody::wrap(body, permit))
        }
    };
    // The port is plain HTTP on purpose: no browser is told to come by HTTPS.
    let response = finish(response, &method, &context.id, false);
    metrics::operator_request_answered(route, response.status(), started.elapsed());
    response
}

/// The place that a request takes among all in work. Health checks take none: they must be answered most of all when
/// there is no room.
fn enter(
    desk: &Desk,
    route: &str,
    request: &Request,
) -> Result<Option<OwnedSemaphorePermit>, Problem> {
    check_size(&desk.limits, desk.limits.max_body_bytes, request)?;
    if is_health(route) {
        return Ok(None);
    }
    let permit = Arc::clone(&desk.in_flight).try_acquire_owned();
    permit
        .map(Some)
        .map_err(|_| Problem::reduced_capacity("too many requests in work", Duration::from_secs(1)))
}
