//! `/healthz` (the process is alive) and `/readyz` (it can serve, and if not, why). Without
//! authentication.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::App;
use super::problem::Problem;
use super::render;

/// Path of the liveness check.
pub(crate) const HEALTHZ: &str = "/healthz";
/// Path of the readiness check.
pub(crate) const READYZ: &str = "/readyz";

/// Whether a route is one of the two.
pub(crate) fn is_health(route: &str) -> bool {
    route == HEALTHZ || route == READYZ
}

/// Alive: it answers.
pub(crate) async fn healthz() -> Response {
    render::json(&json!({ "status": "alive" }))
}

/// Ready: told so by the app, and able to see who was revoked.
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let reason = app.readiness.reason().or_else(|| {
        let blind = !app.authenticator.sees_changes();
        blind.then(|| "changes of access cannot be read from the store".to_owned())
    });
    match reason {
        None => render::json(&json!({ "status": "ready" })),
        Some(reason) => Problem::unavailable(&reason).into_response(),
    }
}
