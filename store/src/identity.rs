//! The names of things: integrations, entities, positions in a stream and message ids.
//!
//! Built only by validating constructors, so that a key made of them is always well formed. Never
//! does I/O. Start at [`MessageId::derive`]: the id that a record keeps for ever.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes that an integration's name may have.
const MAX_INTEGRATION_BYTES: usize = 64;
/// Bytes that an entity may have.
const MAX_ENTITY_BYTES: usize = 512;
/// Length of `msg_` and 26 characters of base32.
const MESSAGE_ID_BYTES: usize = 30;

/// A name that is not one: what was found and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not an integration's name.
    #[error(
        "integration name {found:?} is refused: 1 to 64 of a-z 0-9 _ . - are allowed, the first a letter or digit"
    )]
    Integration {
        /// The name as found, cut at 80 characters.
        found: String,
    },
    /// Not an entity.
    #[error("entity of {bytes} bytes is refused: 1 to 512 bytes of UTF-8 are allowed")]
    Entity {
        /// Length as found.
        bytes: usize,
    },
    /// Not a message id.
    #[error("message id {found:?} is refused: \"msg_\" and 26 of a-z 2-7 are allowed")]
    MessageId {
        /// The id as found, cut at 80 characters.
        found: String,
    },
    /// Not the key of a request.
    #[error("request key {found:?} is refused: 1 to 255 visible ASCII characters are allowed")]
    RequestKey {
        /// The key as found, cut at 80 characters.
        found: String,
    },
    /// Not the id of a client, a key or a subscription.
    #[error("{kind} {found:?} is refused: 1 to {max} of A-Z a-z 0-9 _ - are allowed")]
    Id {
        /// What the id was to name.
        kind: &'static str,
        /// The id as found, cut at 80 characters.
        found: String,
        /// Characters allowed.
        max: usize,
    },
}

/// At most the first 80 characters: errors stay small whatever was sent.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// True for 1 to `max` letters, digits, `_` and `-`.
pub(crate) fn is_plain_id(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

macro_rules! text_type {
    ($name:ident) => {
        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({:?})", stringify!($name), &self.0)
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<$name, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                $name::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use text_type;

/// Name of an integration: `[a-z0-9][a-z0-9_.-]{0,63}`. It contains no `#`, so keys split at the first one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntegrationName(Arc<str>);
text_type!(IntegrationName);

/// The name of the integration of operational events.
const EVENTS: &str = "sluicegate.events";

/// A map of names is asked by text, without a name being made of it: both compare and hash alike.
impl std::borrow::Borrow<str> for IntegrationName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl IntegrationName {
    /// Checks and takes a name.
    pub fn parse(text: &str) -> Result<IntegrationName, IdentityError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let ok = text.len() <= MAX_INTEGRATION_BYTES
            && text.bytes().next().is_some_and(allowed)
            && text.bytes().all(|b| allowed(b) || matches!(b, b'_' | b'.' | b'-'));
        if ok {
            Ok(IntegrationName(Arc::from(text)))
        } else {
            Err(IdentityError::Integration { found: shown(text) })
        }
    }

    /// `sluicegate.events`, which no stream has messages of: what a client is told about its own destinations.
    pub fn events() -> IntegrationName {
        IntegrationName(Arc::from(EVENTS))
    }

    /// It is that one.
    pub fn is_events(&self) -> bool {
        &*self.0 == EVENTS
    }
}

/// What a message is about (a device, an account, ...): 1 to 512 bytes of any UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entity(Arc<str>);
text_type!(Entity);

impl Entity {
    /// Checks and takes an entity.
    pub fn parse(text: &str) -> Result<Entity, IdentityError> {
        Entity::check(text)?;
        Ok(Entity(Arc::from(text)))
    }

    /// Whether [`Entity::parse`] would take the text, which is UTF-8; for readers that keep the text where it is.
    pub fn check(text: impl AsRef<[u8]>) -> Result<(), IdentityError> {
        let text = text.as_ref();
        if (1..=MAX_ENTITY_BYTES).contains(&text.len()) {
            Ok(())
        } else {
            Err(IdentityError::Entity { bytes: text.len() })
        }
    }
}

/// Where a message stands in a stream: the same for every reading of it. Its `Ord` is that of text,
/// good for sets and maps; it is not the stream's order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// ARN of the stream.
    pub stream_arn: Arc<str>,
    /// Id of the shard within the stream.
    pub shard_id: Arc<str>,
    /// Sequence number of the Kinesis record.
    pub sequence: Arc<str>,
    /// Index of the user record in its aggregate; 0 if there is none.
    pub index: u32,
}

/// `msg_` and 26 characters of lower-case base32: the message's name outside, for ever the same
/// for the same record. It contains no `.`, as webhook ids must not.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(Arc<str>);
text_type!(MessageId);

impl MessageId {
    /// The id of the message at `position`: base32 of the first 16 bytes of SHA-256 over the four
    /// parts, each preceded by its length, so that no two positions read the same.
    pub fn derive(position: &Position) -> MessageId {
        let mut hash = Sha256::new();
        for part in [&position.stream_arn, &position.shard_id, &position.sequence] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        hash.update(4u64.to_be_bytes());
        hash.update(position.index.to_be_bytes());
        let digest = hash.finalize();
        let mut text = String::with_capacity(MESSAGE_ID_BYTES);
        text.push_str("msg_");
        data_encoding::BASE32_NOPAD.encode_append(&digest[..16], &mut text);
        text.make_ascii_lowercase();
        MessageId(Arc::from(text))
    }

    /// Checks and takes an id that was given out before.
    pub fn parse(text: &str) -> Result<MessageId, IdentityError> {
        let base32 = |b: u8| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b);
        match text.strip_prefix("msg_") {
            Some(rest) if text.len() == MESSAGE_ID_BYTES && rest.bytes().all(base32) => {
                Ok(MessageId(Arc::from(text)))
            }
            _ => Err(IdentityError::MessageId { found: shown(text) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(sequence: &str, index: u32) -> Position {
        Position {
            stream_arn: Arc::from("arn:aws:kinesis:us-east-1:000000000000:stream/quakes"),
            shard_id: Arc::from("shardId-000000000000"),
            sequence: Arc::from(sequence),
            index,
        }
    }

    #[test]
    fn integration_names_keep_to_their_alphabet() {
        for good in ["a", "0", "default", "usgs.quakes-v2_x", &"a".repeat(64)] {
            assert_eq!(IntegrationName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "A", "-a", "a#b", "a b", "ä", &"a".repeat(65)] {
            assert!(IntegrationName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn entities_are_bounded_in_bytes_not_characters() {
        assert!(Entity::parse("").is_err());
        assert!(Entity::parse(&"ä".repeat(256)).is_ok());
        assert!(Entity::parse(&"ä".repeat(257)).is_err());
        assert_eq!(Entity::parse("a#b/c").unwrap().as_str(), "a#b/c");
    }

    #[test]
    fn a_message_id_is_the_same_for_ever() {
        let id = MessageId::derive(&position(
            "49590338271490256608559692538361571095921575989136588898",
            0,
        ));
        assert_eq!(id.as_str(), "msg_ceml4cvndjpwmfx2txsyur4b5e");
        assert_eq!(MessageId::parse(id.as_str()).unwrap(), id);
    }

    #[test]
    fn no_two_positions_share_a_message_id() {
        let mut moved = position("12", 3);
        moved.shard_id = Arc::from("shardId-0000000000001");
        moved.sequence = Arc::from("2");
        let ids = [
            MessageId::derive(&position("12", 3)),
            MessageId::derive(&position("1", 3)),
            MessageId::derive(&position("12", 4)),
            MessageId::derive(&moved),
        ];
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }

    #[test]
    fn message_ids_are_checked() {
        for bad in [
            "msg_",
            "msg_AAAAAAAAAAAAAAAAAAAAAAAAAA",
            "mxg_aaaaaaaaaaaaaaaaaaaaaaaaaa",
            "msg_aaaaaaaaaaaaaaaaaaaaaaaa.a",
        ] {
            assert!(MessageId::parse(bad).is_err(), "{bad:?}");
        }
    }
}
