//! What reading all sections leaves behind: what is wrong, and what holds.

use super::problem::{Origin, Problem};

/// What all sections share.
#[derive(Debug, Default)]
pub(super) struct Context {
    pub(super) problems: Vec<Problem>,
    /// Every key that was read, in the order of reading.
    pub(super) effective: Vec<Effective>,
}

/// A key's value as it will be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Effective {
    /// Path of the table: `api.limits`, or `streams[0]`.
    pub(crate) section: String,
    /// The key in it.
    pub(crate) key: &'static str,
    /// As TOML; `None` = not set, and there is no default.
    pub(crate) value: Option<String>,
    /// Who said so.
    pub(crate) origin: Origin,
}

impl Context {
    /// Where the value of a key that was read came from.
    pub(super) fn origin_of(&self, section: &str, key: &str) -> Origin {
        let found = self.effective.iter().find(|e| e.section == section && e.key == key);
        found.map_or(Origin::Default, |effective| effective.origin.clone())
    }
}
