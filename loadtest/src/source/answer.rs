//! What a call is answered with: JSON, a pushed stream, or a refusal in the service's words.

use bytes::Bytes;
use serde_json::{Value, json};

use super::subscription::Subscription;

/// An answer.
#[derive(Debug)]
pub(super) enum Answer {
    /// A body that is complete.
    Whole { status: u16, body: Bytes },
    /// Events, for as long as the subscription lives.
    Events(Box<Subscription>),
}

/// A call that is refused: the exception's name, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn argument(message: impl Into<String>) -> Refusal {
        Refusal { code: "InvalidArgumentException", message: message.into() }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Refusal {
        Refusal { code: "ResourceNotFoundException", message: message.into() }
    }
}

impl Answer {
    pub(super) fn json(value: &Value) -> Answer {
        Answer::Whole { status: 200, body: value.to_string().into() }
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Answer {
        let body = json!({ "__type": refusal.code, "message": refusal.message });
        Answer::Whole { status: 400, body: body.to_string().into() }
    }
}
