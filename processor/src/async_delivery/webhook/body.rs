//! The body of a webhook in the form that its subscription asks for. Pure.

use base64_simd::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde::Serialize;
use sha2::{Digest, Sha256};
use store::{BodyForm, Message};

use super::cloud_event;
use super::links::MessageLinks;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENT: HeaderValue = HeaderValue::from_static("application/cloudevents+json");
const EVENTS: HeaderValue = HeaderValue::from_static("application/cloudevents-batch+json");

/// What is sent: a body, what it is, and the name that it is signed with.
#[derive(Debug)]
pub(super) struct Rendered {
    /// The message's id; of a batch, one that only these messages in this order have.
    pub(super) id: String,
    pub(super) content_type: Option<HeaderValue>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
}

/// Why a message has no body in a form.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unrenderable {
    /// This processor cannot; another, or this one tomorrow, may.
    #[error(
        "a thin webhook needs api.public_url and secrets.link_signing_key, and this processor is not told them"
    )]
    NoLinks,
    /// This message never will.
    #[error("it is no event that headers can carry")]
    Headers,
    /// This message never will.
    #[error("it has no JSON form: {0}")]
    Json(#[from] serde_json::Error),
}

/// What a thin webhook says.
#[derive(Serialize)]
struct Thin<'a> {
    id: &'a str,
    integration: &'a str,
    #[serde(rename = "self")]
    link: String,
}

/// One message in a form of one message a call.
pub(super) fn single(
    form: BodyForm,
    message: &Message,
    links: Option<&MessageLinks>,
) -> Result<Rendered, Unrenderable> {
    let id = message.id.as_str().to_owned();
    let plain = |content_type, body| Rendered {
        id: id.clone(),
        content_type: Some(content_type),
        headers: Vec::new(),
        body,
    };
    match form {
        BodyForm::Raw => Ok(plain(JSON, message.payload.clone())),
        BodyForm::CloudeventsBatch => batch(&[message]),
        BodyForm::CloudeventsStructured => {
            Ok(plain(EVENT, cloud_event::structured(message)?.into()))
        }
        BodyForm::CloudeventsBinary => {
            let event = cloud_event::binary(message).ok_or(Unrenderable::Headers)?;
            let (content_type, headers) = (event.content_type, event.headers);
            Ok(Rendered { id, content_type, headers, body: event.body.into() })
        }
        BodyForm::Thin => {
            let link = links.ok_or(Unrenderable::NoLinks)?.link(message);
            let thin = Thin { id: &id, integration: message.integration.as_str(), link };
            Ok(plain(JSON, serde_json::to_vec(&thin)?.into()))
        }
    }
}

/// Several messages in one call.
pub(super) fn batch(messages: &[&Message]) -> Result<Rendered, Unrenderable> {
    let mut body = Vec::new();
    let mut ids = Sha256::new();
    for message in messages {
        body.push(if body.is_empty() { b'[' } else { b',' });
        body.extend(cloud_event::structured(message)?);
        ids.update(message.id.as_str());
        ids.update(b"\n");
    }
    body.push(b']');
    // Not the id of a message: a receiver that remembers it would take another batch for this one.
    let id = format!("batch_{}", URL_SAFE_NO_PAD.encode_to_string(&ids.finalize()[..16]));
    Ok(Rendered { id, content_type: Some(EVENTS), headers: Vec::new(), body: body.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::async_delivery::testing::outgoing;
    use serde_json::Value;
    use store::{Locator, Signer};

    fn message(payload: &str) -> Message {
        let mut message = outgoing("{}").message;
        message.payload = Bytes::copy_from_slice(payload.as_bytes());
        message
    }

    #[test]
    fn raw_is_the_messages_own_bytes() {
        let message = message("{ \"a\" : 1 }\n");
        let sent = single(BodyForm::Raw, &message, None).unwrap();
        assert_eq!((sent.body, sent.id.as_str()), (message.payload, message.id.as_str()));
    }

    #[test]
    fn thin_is_a_link_that_the_api_takes_and_nothing_of_the_message() {
        let message = message(r#"{"secret":"s3cret"}"#);
        let signer = || Signer::new(&[5; 32]).unwrap();
        let links = MessageLinks::new("https://api.example".to_owned(), signer());
        let sent = single(BodyForm::Thin, &message, Some(&links)).unwrap();
        let thin: Value = serde_json::from_slice(&sent.body).unwrap();
        assert_eq!(thin["id"], message.id.as_str());
        let path = format!("https://api.example/v1/integrations/{}/messages/", message.integration);
        let locator = thin["self"].as_str().unwrap().strip_prefix(&path).unwrap();
        assert_eq!(Locator::decode(&signer(), locator).unwrap(), Locator::of(&message));
        assert!(!String::from_utf8_lossy(&sent.body).contains("s3cret"));
        let error = single(BodyForm::Thin, &message, None).unwrap_err();
        assert!(error.to_string().contains("api.public_url"), "{error}");
    }

    #[test]
    fn a_batch_is_an_array_of_events_with_an_id_of_its_own() {
        let mut messages = [message(r#"{"n":1}"#), message(r#"{"n":2}"#)];
        messages[1].position.index += 1;
        messages[1].id = store::MessageId::derive(&messages[1].position);
        let [first, second] = &messages;
        let both = batch(&[first, second]).unwrap();
        let events: Value = serde_json::from_slice(&both.body).unwrap();
        let ids: Vec<_> = events.as_array().unwrap().iter().map(|e| &e["id"]).collect();
        assert_eq!(ids, [first.id.as_str(), second.id.as_str()]);
        assert_eq!(events[1]["data"]["n"], 2);
        assert_eq!(both.id, batch(&[first, second]).unwrap().id, "the same again");
        assert!(both.id.starts_with("batch_") && !both.id.contains('.'), "{}", both.id);
        for other in [
            batch(&[first]),
            batch(&[second, first]),
            single(BodyForm::CloudeventsBatch, first, None),
        ] {
            assert_ne!(both.id, other.unwrap().id);
        }
    }
}
