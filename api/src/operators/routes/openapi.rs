//! The OpenAPI document of the operators' port: apart from the clients', who have no business with it.

use std::sync::OnceLock;

use axum::body::Bytes;
use axum::response::Response;
use serde_json::json;
use utoipa::OpenApi;

use super::{guarded, open};
use crate::routes::openapi::{Shape, headers, plain_problem, whole};
use crate::routes::render;

/// What stands in front of the operations.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sluicegate for operators",
        description = "The operators' port: what a process is doing, and who may ask the API. Never reachable for clients. Every error is a problem (RFC 9457).",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "clients", description = "Who may ask the API, and what"),
        (name = "keys", description = "How clients prove who they are"),
        (name = "fleet", description = "Which worker reads which shard, how far, and why"),
        (name = "dead letters", description = "What could not be processed, and sending it again"),
        (name = "record", description = "What was changed, and what was used"),
        (name = "process", description = "How this process is"),
    )
)]
struct Frame;

/// The operations that need an operator.
const OPERATORS: Shape = Shape {
    schemes: &["operator"],
    refusals: &[
        ("401", "No operator's token that works", false),
        ("403", "The token is good for looking only, or no operator has one", false),
    ],
    named: ("404", "It does not exist", false),
    fields: &[],
};

/// The document, as JSON for people: the same in every build of a version.
pub fn document() -> String {
    let scheme = json!({
        "operator": {
            "type": "http",
            "scheme": "bearer",
            "description": "An operator's token: `sluicegate operators token NAME` makes one",
        },
    });
    let (guarded, open) = (guarded().split_for_parts().1, open().split_for_parts().1);
    whole(Frame::openapi(), guarded, open, &OPERATORS, (scheme, headers(), plain_problem()))
}

/// `/openapi.json`
pub(super) async fn served() -> Response {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    render::of_json(DOCUMENT.get_or_init(|| Bytes::from(document())).clone())
}
