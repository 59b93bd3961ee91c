//! What is kept of an API key, and whether a presented key is good.

use std::net::IpAddr;
use std::time::Duration;

use super::{ApiKey, ClientId, KeyHash, KeyId, Network, Pepper};

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
    /// It may be used from these networks only; none: from everywhere.
    pub networks: Vec<Network>,
}

/// What a new key is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyTerms {
    /// What people call it: up to 200 bytes.
    pub label: String,
    /// How long it works, up to 10 years; `None` is 90 days.
    pub lifetime: Option<Duration>,
    /// It may be used from these networks only, up to 50; none: from everywhere.
    pub networks: Vec<Network>,
}

impl KeyTerms {
    /// 90 days, from everywhere.
    pub fn new(label: impl Into<String>) -> KeyTerms {
        KeyTerms { label: label.into(), ..KeyTerms::default() }
    }
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
    /// It is the key and it works, but not from there.
    WrongNetwork,
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
    /// Checks a key that was presented at `now_ms` from `address` (if that is known). The secret is
    /// compared first and in constant time, so that only its owner could learn that a key has
    /// expired, was revoked or is not for there.
    pub fn check(
        &self,
        key: &ApiKey,
        pepper: &Pepper,
        now_ms: i64,
        address: Option<IpAddr>,
    ) -> KeyCheck {
        if self.id != *key.id() || self.hash != pepper.hash(key) {
            KeyCheck::WrongSecret
        } else if self.revoked_at_ms.is_some() {
            KeyCheck::Revoked
        } else if now_ms >= self.expires_at_ms {
            KeyCheck::Expired
        } else if !self.may_come_from(address) {
            KeyCheck::WrongNetwork
        } else {
            KeyCheck::Valid
        }
    }

    /// An address that is not known is in no network.
    fn may_come_from(&self, address: Option<IpAddr>) -> bool {
        let is_in = |network: &Network| address.is_some_and(|address| network.contains(address));
        self.networks.is_empty() || self.networks.iter().any(is_in)
    }

    /// True if it can still work at `now_ms`.
    pub fn is_live(&self, now_ms: i64) -> bool {
        self.revoked_at_ms.is_none() && now_ms < self.expires_at_ms
    }
}
