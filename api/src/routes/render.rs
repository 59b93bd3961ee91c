//! Messages as JSON: the original payload, byte for byte, inside what we know of it.

use axum::body::Body;
use axum::response::Response;
use data_encoding::BASE64;
use http::{HeaderValue, header};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::backend::Exposed;
use crate::timestamp;

/// A message on the wire.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageJson<'a> {
    id: &'a str,
    integration: &'a str,
    entity: &'a str,
    time: String,
    arrived_at: String,
    #[serde(rename = "self")]
    link: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    /// Instead of `data`, if the payload is no JSON after all: nothing is lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

/// A page on the wire.
#[derive(Serialize)]
struct PageJson<'a> {
    messages: Vec<MessageJson<'a>>,
    next: Option<&'a str>,
}

/// The path of a message, behind `base`.
fn link(base: &str, exposed: &Exposed) -> String {
    format!(
        "{base}/v1/integrations/{}/messages/{}",
        exposed.message().integration,
        exposed.locator()
    )
}

fn message_json<'a>(base: &str, exposed: &'a Exposed) -> MessageJson<'a> {
    let message = exposed.message();
    let data: Option<&RawValue> = serde_json::from_slice(&message.payload).ok();
    MessageJson {
        id: message.id.as_str(),
        integration: message.integration.as_str(),
        entity: message.entity.as_str(),
        time: timestamp::format(message.time_ms),
        arrived_at: timestamp::format(message.arrived_at_ms),
        link: link(base, exposed),
        data,
        data_base64: data.is_none().then(|| BASE64.encode(&message.payload)),
    }
}

/// One message, as the body of an answer.
pub(crate) fn message(base: &str, exposed: &Exposed) -> Response {
    json(&message_json(base, exposed))
}

/// A page of messages, as the body of an answer.
pub(crate) fn page(base: &str, messages: &[Exposed], next: Option<&str>) -> Response {
    json(&PageJson {
        messages: messages.iter().map(|exposed| message_json(base, exposed)).collect(),
        next,
    })
}

/// Any value as a JSON answer.
pub(crate) fn json<T: Serialize>(value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let mut response = Response::new(Body::from(bytes));
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => {
            tracing::error!(%error, "an answer has no JSON form");
            axum::response::IntoResponse::into_response(super::problem::Problem::internal())
        }
    }
}
