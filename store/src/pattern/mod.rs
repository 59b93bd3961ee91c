//! [`Pattern`]: which messages somebody wants, or may see, by what is in them.
//!
//! The language is that of EventBridge's event patterns, with the differences that `docs/filters.md` lists. A
//! pattern is parsed once, within bounds, and asked many times; what it is asked about is a
//! [`Document`], which a [`Reader`] makes of a message without allocating once it is warm. Many patterns
//! are asked together through a [`PatternSet`], which looks only at those that may match, and asks what several of them
//! ask once.
//!
//! A message that cannot be read as a document ([`Unreadable`]) has no answer here. Who asks decides
//! what that means: a subscription gets the message, because nothing may be filtered out wrongly; a
//! grant withholds it, because nothing may be shown wrongly.
//!
//! Nothing here knows where messages come from, and nothing does I/O. Start at [`Pattern::parse`], then
//! `ask` (what is compiled, and how it is answered).

mod ask;
mod conditions;
mod document;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod number;
mod parse;
mod set;
mod text;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

pub use conditions::Answers;
pub use document::{Document, Reader, Unreadable};
pub use error::PatternError;
pub use set::PatternSet;

use ask::{Object, Question};

/// The most bytes that a pattern may have as JSON.
pub const MAX_PATTERN_BYTES: usize = 8 * 1024;
/// The most objects inside each other, `$or` included.
pub const MAX_PATTERN_DEPTH: usize = 16;
/// The most fields that a pattern may ask for.
pub const MAX_PATTERN_FIELDS: usize = 64;
/// The most alternatives of all fields together.
pub const MAX_PATTERN_ALTERNATIVES: usize = 512;
/// The most `*` of one wildcard.
pub const MAX_WILDCARDS: usize = 8;

/// A content pattern, compiled. Cheap to clone; equal when its JSON is, byte for byte.
#[derive(Clone)]
pub struct Pattern(Arc<Compiled>);

struct Compiled {
    json: Box<RawValue>,
    root: Object,
}

impl Pattern {
    /// Parses and compiles a pattern.
    ///
    /// # Errors
    /// When it is no pattern, or larger than allowed: where, what was found and what is allowed.
    pub fn parse(json: &str) -> Result<Pattern, PatternError> {
        let root = parse::parse(json)?;
        let json = RawValue::from_string(json.to_owned())
            .map_err(|e| PatternError::NotJson { detail: e.to_string() })?;
        Ok(Pattern(Arc::new(Compiled { json, root })))
    }

    /// The JSON that it was parsed from.
    pub fn as_json(&self) -> &str {
        self.0.json.get()
    }

    /// Whether the message is one that the pattern describes.
    pub fn matches(&self, document: &Document<'_>) -> bool {
        Question::about(document.root()).holds(&self.0.root)
    }

    /// The same, to be written into another document as it is.
    pub(crate) fn to_raw(&self) -> Box<RawValue> {
        self.0.json.clone()
    }

    fn root(&self) -> &Object {
        &self.0.root
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.as_json() == other.as_json()
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.as_json()).finish()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_json())
    }
}

impl std::str::FromStr for Pattern {
    type Err = PatternError;

    fn from_str(json: &str) -> Result<Pattern, PatternError> {
        Pattern::parse(json)
    }
}

/// As the JSON that was given.
impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.json.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pattern, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        Pattern::parse(json.get()).map_err(serde::de::Error::custom)
    }
}
