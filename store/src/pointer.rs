//! A JSON Pointer (RFC 6901) to a field, checked when it is made.
//!
//! It never points at the whole message: every use asks for a field.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The most reference tokens a pointer may have: a bound on how deep a message is looked into.
const MAX_TOKENS: usize = 32;
/// The most bytes a pointer may have.
const MAX_BYTES: usize = 512;

/// A JSON Pointer such as `/properties/time`, with at least one reference token.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pointer {
    text: Box<str>,
    tokens: Box<[Box<str>]>,
}

/// Why a text is not a pointer to a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PointerError {
    /// The empty pointer stands for the whole message.
    #[error("`` points at the whole message: name a field, like `/id` or `/properties/time`")]
    WholeMessage,
    /// It does not begin with a slash.
    #[error("`{found}` is not a JSON Pointer: it must begin with `/`, like `/{found}`")]
    NoLeadingSlash {
        /// The text.
        found: String,
    },
    /// A tilde is not followed by 0 or 1.
    #[error(
        "`{found}` is not a JSON Pointer: `~` must be followed by `0` (for `~`) or `1` (for `/`)"
    )]
    BadEscape {
        /// The text.
        found: String,
    },
    /// It is longer or deeper than allowed.
    #[error(
        "a JSON Pointer of {bytes} bytes and {tokens} levels is too long: at most {MAX_BYTES} bytes and {MAX_TOKENS} levels are allowed"
    )]
    TooLong {
        /// Its bytes.
        bytes: usize,
        /// Its reference tokens.
        tokens: usize,
    },
}

impl Pointer {
    /// Reads a pointer to a field: `/` and an escaped reference token, once or more.
    ///
    /// # Errors
    /// When the text is not such a pointer; the error says what was found and what is allowed.
    pub fn parse(text: &str) -> Result<Pointer, PointerError> {
        if text.is_empty() {
            return Err(PointerError::WholeMessage);
        }
        let levels = text.bytes().filter(|b| *b == b'/').count();
        if text.len() > MAX_BYTES || levels > MAX_TOKENS {
            return Err(PointerError::TooLong { bytes: text.len(), tokens: levels });
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(PointerError::NoLeadingSlash { found: text.to_owned() });
        };
        let tokens: Option<Box<[Box<str>]>> = rest.split('/').map(unescape).collect();
        let tokens = tokens.ok_or_else(|| PointerError::BadEscape { found: text.to_owned() })?;
        Ok(Pointer { text: text.into(), tokens })
    }

    /// The pointer to a member of the message itself. `name` is short and needs no escapes.
    pub fn to_member(name: &str) -> Pointer {
        Pointer { text: format!("/{name}").into(), tokens: Box::new([name.into()]) }
    }

    /// The pointer as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its reference tokens, unescaped; at least one.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.tokens.iter().map(AsRef::as_ref)
    }
}

/// Undoes `~1` and `~0`; `None` when a tilde stands before anything else.
fn unescape(token: &str) -> Option<Box<str>> {
    let mut plain = String::with_capacity(token.len());
    let mut chars = token.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '~' => match chars.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            other => other,
        });
    }
    Some(plain.into())
}

impl FromStr for Pointer {
    type Err = PointerError;

    fn from_str(text: &str) -> Result<Pointer, PointerError> {
        Pointer::parse(text)
    }
}

impl TryFrom<String> for Pointer {
    type Error = PointerError;

    fn try_from(text: String) -> Result<Pointer, PointerError> {
        Pointer::parse(&text)
    }
}

impl From<Pointer> for String {
    fn from(pointer: Pointer) -> String {
        pointer.text.into()
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pointer({})", self.text)
    }
}
