//! What is kept of an API key, and whether a presented key is good.

use super::{ApiKey, ClientId, KeyHash, KeyId, Pepper};

/// A key as the table has it: never the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its public part.
    pub id: KeyId,
    /// Whose it is.
    pub client: ClientId,
    /// Keyed hash of the whole key.
    pub hash: KeyHash,
    /// What people call it.
    pub label: String,
    /// When it was made, in ms since 1970.
    pub created_at_ms: i64,
    /// From when on it does not work any more, in ms since 1970.
    pub expires_at_ms: i64,
    /// When it was revoked, in ms since 1970.
    pub revoked_at_ms: Option<i64>,
}

/// Whether a presented key is good: the reason is for the audit log, never for the one who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyCheck {
    /// It is the key, and it works.
    Valid,
    /// The id is right, the rest is not.
    WrongSecret,
    /// It is the key, but past its time.
    Expired,
    /// It is the key, but it was revoked.
    Revoked,
}

/// A key just made. The key in clear exists nowhere else.
#[derive(Debug)]
pub struct NewKey {
    /// The key in clear: show it once, keep it nowhere.
    pub key: ApiKey,
    /// What is kept.
    pub record: KeyRecord,
}

impl KeyRecord {
    /// Checks a presented key at `now_ms`. The secret is compared first and in constant time, so
    /// that only its owner learns that a key has expired or was revoked.
    pub fn check(&self, key: &ApiKey, pepper: &Pepper, now_ms: i64) -> KeyCheck {
        if self.id != *key.id() || self.hash != pepper.hash(key) {
            KeyCheck::WrongSecret
        } else if self.revoked_at_ms.is_some() {
            KeyCheck::Revoked
        } else if now_ms >= self.expires_at_ms {
            KeyCheck::Expired
        } else {
            KeyCheck::Valid
        }
    }

    /// True if it can still work at `now_ms`.
    pub fn is_live(&self, now_ms: i64) -> bool {
        self.revoked_at_ms.is_none() && now_ms < self.expires_at_ms
    }
}
