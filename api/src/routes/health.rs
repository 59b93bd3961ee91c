//! `/healthz` (the process is alive) and `/readyz` (it can serve, and if not, why). Without
//! authentication.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::problem::Problem;
use super::render;

/// Path of the liveness check.
pub(crate) const HEALTHZ: &str = "/healthz";
/// Why a task that sees no changes of access is not ready.
pub(crate) const UNSEEN_CHANGES: &str = "changes of access cannot be read from the store";
/// Path of the readiness check.
pub(crate) const READYZ: &str = "/readyz";

/// Whether a route is one of the two.
pub(crate) fn is_health(route: &str) -> bool {
    route == HEALTHZ || route == READYZ
}

/// How this task is.
#[derive(Serialize, ToSchema)]
#[schema(as = Health)]
pub(crate) struct HealthJson {
    /// `alive` or `ready`.
    pub(crate) status: &'static str,
}

/// Whether this task is alive
#[utoipa::path(get, path = "/healthz", tag = "health", operation_id = "getHealth",
    responses((status = 200, description = "It is", body = HealthJson)))]
pub(crate) async fn healthz() -> Response {
    render::json(&HealthJson { status: "alive" })
}

/// Whether this task can serve
///
/// It can when it was told so by the app and sees who was revoked; `detail` says why it cannot.
#[utoipa::path(get, path = "/readyz", tag = "health", operation_id = "getReadiness",
    responses((status = 200, description = "It can", body = HealthJson)))]
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let reason = app.readiness.reason().or_else(|| {
        let blind = !app.authenticator.sees_changes();
        blind.then(|| UNSEEN_CHANGES.to_owned())
    });
    match reason {
        None => render::json(&HealthJson { status: "ready" }),
        Some(reason) => Problem::unavailable(&reason).into_response(),
    }
}
