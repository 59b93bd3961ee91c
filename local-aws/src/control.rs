//! The control endpoint under `/_local/`: faults and counters for a test in another process. Not part of AWS, for loopback peers only.
//!
//! | request | answer |
//! |---|---|
//! | `GET /_local/health` | `{"status":"ok"}` |
//! | `GET /_local/calls` | counts by service, operation and resource |
//! | `GET /_local/faults` | the faults that hold |
//! | `POST /_local/faults` | injects a [`Fault`], answers `{"id":1}` |
//! | `DELETE /_local/faults` and `/_local/faults/1` | clears all, or one |
//! | `POST /_local/sweep` | deletes expired DynamoDB items |

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::LocalAws;
use crate::faults::{Fault, FaultId};
use crate::wire::{BodyStream, response};

const PREFIX: &str = "/_local/";

/// Whether a path belongs to the control endpoint.
pub(crate) fn is_control(path: &str) -> bool {
    path.starts_with(PREFIX)
}

/// Answers one control request.
pub(crate) async fn answer(
    aws: &LocalAws,
    request: &http::Request<Bytes>,
    from_loopback: bool,
) -> http::Response<BodyStream> {
    let (status, body) = if from_loopback {
        route(aws, request).await
    } else {
        (403, json!({ "error": "the control endpoint answers loopback peers only" }))
    };
    let body = BodyStream::whole(body.to_string().into());
    response(status, "application/json", body)
}

async fn route(aws: &LocalAws, request: &http::Request<Bytes>) -> (u16, Value) {
    let path = request.uri().path().trim_start_matches(PREFIX);
    let faults = aws.faults();
    match (request.method(), path) {
        (&Method::GET, "health") => (200, json!({ "status": "ok" })),
        (&Method::GET, "calls") => (200, json!({ "calls": aws.calls() })),
        (&Method::GET, "faults") => {
            let active = faults.active().into_iter();
            let listed = active.map(|(id, fault)| json!({ "id": id, "fault": fault }));
            (200, json!({ "faults": listed.collect::<Vec<_>>() }))
        }
        (&Method::POST, "faults") => match serde_json::from_slice::<Fault>(request.body()) {
            Ok(fault) => (200, json!({ "id": faults.inject(fault) })),
            Err(error) => (400, json!({ "error": error.to_string() })),
        },
        (&Method::DELETE, "faults") => {
            faults.clear_all();
            (200, json!({}))
        }
        (&Method::DELETE, path) => match path.strip_prefix("faults/").map(str::parse) {
            Some(Ok(id)) if faults.clear(FaultId(id)) => (200, json!({})),
            _ => (404, json!({ "error": "no such fault" })),
        },
        (&Method::POST, "sweep") => match aws.sweep_expired().await {
            Ok(deleted) => (200, json!({ "deleted": deleted })),
            Err(error) => (500, json!({ "error": error })),
        },
        _ => (404, json!({ "error": "no such control request" })),
    }
}
