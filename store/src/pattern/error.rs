//! What is wrong with a pattern.

/// A pattern that is refused. The messages are for whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is no JSON.
    #[error("the filter is not JSON: {detail}")]
    NotJson {
        /// What was found, and at which byte.
        detail: String,
    },
    /// It is JSON and no pattern.
    #[error("the filter at {}: found {found}; {allowed}", place(.at))]
    NotAPattern {
        /// A JSON Pointer into the pattern; empty for all of it.
        at: String,
        /// What stands there, cut.
        found: String,
        /// What may stand there.
        allowed: &'static str,
    },
    /// It is larger than a pattern may be.
    #[error("the filter has {found} {what}: up to {max} are allowed")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much was found, counted no further than needed.
        found: usize,
        /// The most that is allowed.
        max: usize,
    },
}

fn place(at: &str) -> String {
    if at.is_empty() { "its top".to_owned() } else { format!("`{at}`") }
}
