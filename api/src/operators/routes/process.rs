//! What the process tells of itself: alive, ready, and what it is doing. Without a token: figures, no secrets, nothing
//! of a client's data.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::super::service::Desk;
use crate::routes::health::HealthJson;
use crate::routes::problem::Problem;
use crate::routes::render;

/// Whether this process is alive
#[utoipa::path(get, path = "/healthz", tag = "process", operation_id = "getHealth",
    responses((status = 200, description = "It is", body = HealthJson)))]
pub(super) async fn healthz() -> Response {
    render::json(&HealthJson { status: "alive" })
}

/// Whether this process does its work
///
/// `detail` says why it does not.
#[utoipa::path(get, path = "/readyz", tag = "process", operation_id = "getReadiness",
    responses((status = 200, description = "It does", body = HealthJson)))]
pub(super) async fn readyz(State(desk): State<Arc<Desk>>) -> Response {
    match desk.process.ready() {
        Ok(()) => render::json(&HealthJson { status: "ready" }),
        Err(reason) => Problem::unavailable(&reason).into_response(),
    }
}

/// What this process is doing
///
/// Its form is the process's own, and may change from version to version.
#[utoipa::path(get, path = "/v1/admin/state", tag = "process", operation_id = "getState",
    responses((status = 200, description = "Figures, and names of its parts", body = Object)))]
pub(super) async fn state(State(desk): State<Arc<Desk>>) -> Response {
    match desk.process.state() {
        Ok(state) => render::of_json(state),
        Err(error) => {
            tracing::error!(%error, "the state has no JSON form");
            Problem::internal().into_response()
        }
    }
}
