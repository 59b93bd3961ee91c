//! Placeholder.
/// Where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartsRef;
