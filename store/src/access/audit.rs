//! What is written down about every change of access and of what is pushed, in the transaction that makes it.

use crate::error::StoreError;
use crate::item::{Item, ItemReader, key, n, s};
use crate::messages::time_part;

const AT: &str = "at";
const BY: &str = "by";
const ACTION: &str = "action";
const SUBJECT: &str = "subject";
const DAY_MS: i64 = 24 * 3_600 * 1_000;

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
    /// What was done, e.g. `key.issue` or `subscription.create`.
    pub action: String,
    /// To what: the id of a client, a key, a subscription or a replay. Never a secret.
    pub subject: String,
}

/// Partition of one UTC day, counted from 1970.
pub(super) fn partition(day: i64) -> String {
    format!("audit#{day}")
}

/// The entry of a change.
pub(crate) fn to_item(change: &Change<'_>, action: &str, subject: &str) -> Item {
    let sort = format!("{}#{action}#{subject}", time_part(change.at_ms));
    let mut item = key(partition(change.at_ms.div_euclid(DAY_MS)), sort);
    item.insert(AT.to_owned(), n(change.at_ms));
    item.insert(BY.to_owned(), s(change.by.chars().take(200).collect::<String>()));
    item.insert(ACTION.to_owned(), s(action));
    item.insert(SUBJECT.to_owned(), s(subject));
    item
}

pub(super) fn from_item(reader: &ItemReader) -> Result<AuditEntry, StoreError> {
    Ok(AuditEntry {
        at_ms: reader.number(AT)?,
        by: reader.text(BY)?.to_owned(),
        action: reader.text(ACTION)?.to_owned(),
        subject: reader.text(SUBJECT)?.to_owned(),
    })
}
