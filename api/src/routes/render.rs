//! Messages as JSON: the original payload, byte for byte, inside what we know of it.

use axum::body::Body;
use axum::response::Response;
use data_encoding::BASE64;
use http::{HeaderValue, header};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::{IntoResponses, ToSchema};

use crate::backend::Exposed;
use crate::timestamp;

/// What a message has beside values of its own: names, quotes, its id and two times.
const FRAME_BYTES: usize = 192;

/// A message.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Message)]
pub(crate) struct MessageJson<'a> {
    /// The same wherever the message is seen, pushed or read.
    id: &'a str,
    integration: &'a str,
    entity: &'a str,
    /// When it happened, by the message itself.
    #[schema(format = DateTime)]
    time: String,
    /// When it arrived in the stream.
    #[schema(format = DateTime)]
    arrived_at: String,
    /// Where this message can be read again, for as long as it is kept.
    #[serde(rename = "self")]
    link: String,
    /// The message as it was written, or the fields of it that this client may see.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    data: Option<&'a RawValue>,
    /// Instead of `data`, if the payload is no JSON after all: nothing is lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    data_base64: Option<String>,
}

/// A page of messages.
#[derive(Serialize, ToSchema)]
#[schema(as = Page)]
pub(crate) struct PageJson<'a> {
    messages: Vec<MessageJson<'a>>,
    /// The cursor of the next page; null on the last one.
    #[schema(required = true)]
    next: Option<&'a str>,
}

/// A message that the client may have already.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "describes what `handlers::revalidatable` answers")]
pub(crate) enum Revalidated {
    /// The message
    #[response(status = 200, headers(("etag" = String, description = "Names this message, with the fields that this client may see")))]
    Message(MessageJson<'static>),
    /// The client has it already
    #[response(status = 304, headers(("etag" = String)))]
    NotModified,
}

/// The path of a message, behind `base`.
fn link(base: &str, exposed: &Exposed) -> String {
    let integration = exposed.message().integration.as_str();
    [base, "/v1/integrations/", integration, "/messages/", exposed.locator()].concat()
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
    sized_json(&message_json(base, exposed), bytes_of(base, exposed))
}

/// One message as a JSON text.
pub(crate) fn text(base: &str, exposed: &Exposed) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes_of(base, exposed));
    // What has a JSON form in the body of an answer has one here.
    let _ = serde_json::to_writer(&mut text, &message_json(base, exposed));
    text
}

/// About what a message takes as JSON.
fn bytes_of(base: &str, exposed: &Exposed) -> usize {
    let message = exposed.message();
    let named = 2 * message.integration.as_str().len() + message.entity.as_str().len();
    FRAME_BYTES + named + base.len() + exposed.locator().len() + message.payload.len()
}

/// A page of messages, as the body of an answer.
pub(crate) fn page(base: &str, messages: &[Exposed], next: Option<&str>) -> Response {
    let page = PageJson {
        messages: messages.iter().map(|exposed| message_json(base, exposed)).collect(),
        next,
    };
    let bytes: usize = messages.iter().map(|exposed| bytes_of(base, exposed)).sum();
    sized_json(&page, FRAME_BYTES + bytes + next.map_or(0, str::len))
}

/// JSON that was written already, as an answer.
pub(crate) fn of_json(bytes: impl Into<Body>) -> Response {
    let mut response = Response::new(bytes.into());
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Any value as a JSON answer.
pub(crate) fn json<T: Serialize>(value: &T) -> Response {
    sized_json(value, 128)
}

/// The same, of a value that takes about so many bytes.
fn sized_json<T: Serialize>(value: &T, bytes: usize) -> Response {
    let mut text = Vec::with_capacity(bytes);
    match serde_json::to_writer(&mut text, value) {
        Ok(()) => of_json(text),
        Err(error) => {
            tracing::error!(%error, "an answer has no JSON form");
            axum::response::IntoResponse::into_response(super::problem::Problem::internal())
        }
    }
}
