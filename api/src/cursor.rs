//! Where a client goes on reading: an opaque signed token that carries the question with the place,
//! so that a client repeats nothing and cannot take a place over to another question.

use serde::{Deserialize, Serialize};
use store::{Cursor, Signer, TokenError};

/// Separates these tokens from every other kind.
const DOMAIN: &str = "sluicegate api page v1";

/// A place within the answer to a question.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PageToken {
    /// Earliest time of the question, inclusive.
    pub(crate) from_ms: Option<i64>,
    /// Latest time of the question, exclusive.
    pub(crate) to_ms: Option<i64>,
    /// Where the page before ended; carries entity and order.
    pub(crate) place: Cursor,
}

/// What a [`PageToken`] is between the quotes: short names, since it travels in every URL.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    from: Option<i64>,
    to: Option<i64>,
    place: String,
}

impl PageToken {
    /// As URL-safe text.
    pub(crate) fn encode(&self, signer: &Signer) -> String {
        let sealed =
            Sealed { from: self.from_ms, to: self.to_ms, place: self.place.encode(signer) };
        // A struct of numbers and text always has a JSON form; an empty token would be refused on
        // its way back.
        let content = serde_json::to_vec(&sealed).unwrap_or_default();
        signer.seal(DOMAIN, &content)
    }

    /// From text that [`PageToken::encode`] made.
    pub(crate) fn decode(signer: &Signer, text: &str) -> Result<Self, TokenError> {
        let content = signer.open(DOMAIN, text)?;
        let sealed: Sealed = serde_json::from_slice(&content).map_err(|_| TokenError::Content)?;
        Ok(Self {
            from_ms: sealed.from,
            to_ms: sealed.to,
            place: Cursor::decode(signer, &sealed.place)?,
        })
    }
}
