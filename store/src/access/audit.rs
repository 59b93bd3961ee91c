//! What is written down about every change of access.

/// Who changes something, and when.
#[derive(Clone, Debug)]
pub struct Change<'a> {
    /// Who asked for it, in words an auditor understands (an operator's name, a client id).
    pub by: &'a str,
    /// When, in ms since 1970.
    pub at_ms: i64,
}

/// One change of access, as written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// When, in ms since 1970.
    pub at_ms: i64,
    /// Who.
    pub by: String,
    /// What was done, e.g. `key.issue`.
    pub action: String,
    /// To what, e.g. a client's id or a key's id. Never a secret.
    pub subject: String,
    /// The access epoch that the change made.
    pub epoch: u64,
}
