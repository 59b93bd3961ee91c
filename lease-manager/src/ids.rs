//! The names and numbers of the lease world, each built only by a constructor that validates.
//!
//! Start at [`ShardId`] and [`LeaseKey`]: a key names one lease, and in a table that serves several streams it carries
//! the stream's identity in front of the shard id, exactly as the Kinesis Client Library writes it.

use std::fmt;

use serde::Serialize;

/// A text that is not the name it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{found}` is not valid: {allowed}")]
pub struct InvalidName {
    /// What was being read, e.g. `shard id`.
    pub what: &'static str,
    /// The text found, cut to 200 characters.
    pub found: String,
    /// What would have been allowed.
    pub allowed: &'static str,
}

impl InvalidName {
    pub(crate) fn new(what: &'static str, found: &str, allowed: &'static str) -> Self {
        Self { what, found: found.chars().take(200).collect(), allowed }
    }
}

macro_rules! text_name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $allowed:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Reads the name; anything else than its documented form is an error.
            pub fn parse(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                let valid: fn(&str) -> bool = $valid;
                if valid(&text) { Ok(Self(text)) } else { Err(InvalidName::new($what, &text, $allowed)) }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::parse(text)
            }
        }
    };
}

text_name! {
    /// A worker of the fleet: the value of `leaseOwner`. 1 to 256 bytes of printable text without control characters.
    WorkerId, "worker id", "1 to 256 bytes without control characters",
    |t| (1..=256).contains(&t.len()) && !t.chars().any(char::is_control)
}

text_name! {
    /// A shard as Kinesis names it, e.g. `shardId-000000000042`: `[a-zA-Z0-9_.-]{1,128}`.
    ShardId, "shard id", "1 to 128 of a-z A-Z 0-9 _ . -",
    |t| (1..=128).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

text_name! {
    /// The lane (pipeline) whose position a lease keeps, e.g. `sync-store`: `[a-z0-9][a-z0-9-]{0,39}`.
    LaneName, "lane name", "1 to 40 of a-z 0-9 -, not starting with -",
    |t| (1..=40).contains(&t.len()) && !t.starts_with('-')
        && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

text_name! {
    /// The key of one lease: a shard id, or `account:stream:creationEpoch:shardId` in a table of several streams.
    LeaseKey, "lease key", "a shard id, or account:stream:creationEpoch:shardId",
    |t| (1..=1024).contains(&t.len()) && (ShardId::parse(t).is_ok() || split_multi_stream(t).is_some())
}

impl LeaseKey {
    /// The key in a table that serves one stream.
    pub fn of_shard(shard: &ShardId) -> Self {
        Self(shard.as_str().to_owned())
    }

    /// The key in a table that serves several streams.
    pub fn of_stream_shard(stream: &StreamIdentity, shard: &ShardId) -> Self {
        Self(format!("{stream}:{shard}"))
    }

    /// The shard that the lease is of.
    pub fn shard_id(&self) -> ShardId {
        ShardId(split_multi_stream(&self.0).map_or(self.0.as_str(), |(_, shard)| shard).to_owned())
    }

    /// The stream's identity, where the key carries one.
    pub fn stream(&self) -> Option<StreamIdentity> {
        split_multi_stream(&self.0).map(|(stream, _)| stream)
    }
}

/// The identity of a stream as multi-stream keys and the attribute `streamName` carry it: `account:stream:creationEpoch`.
/// A stream that was deleted and made again has another creation epoch, so its leases never mix with the old ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamIdentity {
    account: String,
    name: String,
    creation_epoch_s: i64,
}

impl StreamIdentity {
    /// Account (12 digits), stream name (`[a-zA-Z0-9_.-]{1,128}`) and creation time in seconds since 1970.
    pub fn new(account: &str, name: &str, creation_epoch_s: i64) -> Result<Self, InvalidName> {
        if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidName::new("account id", account, "12 digits"));
        }
        // A stream's name has the same alphabet and length as a shard id.
        if ShardId::parse(name).is_err() {
            return Err(InvalidName::new("stream name", name, "1 to 128 of a-z A-Z 0-9 _ . -"));
        }
        Ok(Self { account: account.to_owned(), name: name.to_owned(), creation_epoch_s })
    }

    /// Reads `account:stream:creationEpoch`.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let form = "account:stream:creationEpoch";
        let mut parts = text.split(':');
        match (parts.next(), parts.next(), parts.next().map(str::parse), parts.next()) {
            (Some(account), Some(name), Some(Ok(epoch)), None) => Self::new(account, name, epoch),
            _ => Err(InvalidName::new("stream identity", text, form)),
        }
    }

    /// The stream's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for StreamIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.account, self.name, self.creation_epoch_s)
    }
}

fn split_multi_stream(key: &str) -> Option<(StreamIdentity, &str)> {
    let (stream, shard) = key.rsplit_once(':')?;
    ShardId::parse(shard).ok()?;
    Some((StreamIdentity::parse(stream).ok()?, shard))
}

/// One life of a worker id: a start or a return after being declared dead makes a new, larger one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

/// The fencing token of a lease: grows with every change of ownership and never otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct LeaseCounter(pub u64);

impl LeaseCounter {
    /// The counter after one more change of ownership.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for LeaseCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_key_is_a_shard_id_or_carries_its_stream() {
        let plain = LeaseKey::parse("shardId-000000000042").unwrap();
        assert_eq!(plain.shard_id().as_str(), "shardId-000000000042");
        assert_eq!(plain.stream(), None);

        let stream = StreamIdentity::new("000000000000", "orders", 1_700_000_000).unwrap();
        let key = LeaseKey::of_stream_shard(&stream, &plain.shard_id());
        assert_eq!(key.as_str(), "000000000000:orders:1700000000:shardId-000000000042");
        assert_eq!(LeaseKey::parse(key.as_str()).unwrap(), key);
        assert_eq!(key.shard_id(), plain.shard_id());
        assert_eq!(key.stream(), Some(stream));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in ["", "a b", "a:b", "0:orders:1:shardId-0", "000000000000:orders:x:shardId-0"] {
            assert!(LeaseKey::parse(bad).is_err(), "{bad}");
        }
        assert!(WorkerId::parse("").is_err());
        assert!(WorkerId::parse("a\nb").is_err());
        assert!(LaneName::parse("Sync").is_err());
        assert!(ShardId::parse("x".repeat(129)).is_err());
    }
}
