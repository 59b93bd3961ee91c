//! API keys: their form, their checksum and the only way they are ever kept.
//!
//! `sg_live_<12 id>_<32 secret><6 checksum>`, all base62 (`0-9 A-Z a-z`): 190 random bits, and six
//! characters hold a whole CRC-32. The checksum lets a mistyped or made-up key fail without a
//! look-up and lets scanners recognise a leaked one; it protects nothing.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::identity::{IdentityError, shown, text_type};

/// What every key starts with.
const PREFIX: &str = "sg_live_";
/// Characters of a key's id.
const ID: usize = 12;
/// Characters of its secret.
const SECRET: usize = 32;
/// Characters of its checksum.
pub(super) const CHECKSUM: usize = 6;
/// Length of a whole key.
const LENGTH: usize = PREFIX.len() + ID + 1 + SECRET + CHECKSUM;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Not an API key. Deliberately one answer for everything that may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an API key: its form or its checksum is wrong")]
pub struct ApiKeyError;

/// The public part of a key: 12 characters of base62.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(Arc<str>);
text_type!(KeyId);

impl KeyId {
    /// Checks and takes an id.
    pub fn parse(text: &str) -> Result<KeyId, IdentityError> {
        if text.len() == ID && text.bytes().all(|b| b.is_ascii_alphanumeric()) {
            Ok(KeyId(Arc::from(text)))
        } else {
            Err(IdentityError::Id { kind: "key id", found: shown(text), max: ID })
        }
    }
}

/// A key in clear. It lives as long as a request, or as long as it takes to show it once.
#[derive(Clone)]
pub struct ApiKey {
    id: KeyId,
    text: String,
}

impl ApiKey {
    /// Checks form and checksum: no key that fails here is worth a look-up.
    pub fn parse(text: &str) -> Result<ApiKey, ApiKeyError> {
        if text.len() != LENGTH || !text.is_ascii() {
            return Err(ApiKeyError);
        }
        let rest = text.strip_prefix(PREFIX).ok_or(ApiKeyError)?;
        let (id, secret_and_checksum) = rest.split_at(ID);
        let secret_and_checksum = secret_and_checksum.strip_prefix('_').ok_or(ApiKeyError)?;
        if !secret_and_checksum.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(ApiKeyError);
        }
        let (body, found) = text.split_at(LENGTH - CHECKSUM);
        if checksum(body).as_bytes() != found.as_bytes() {
            return Err(ApiKeyError);
        }
        let id = KeyId::parse(id).map_err(|_| ApiKeyError)?;
        Ok(ApiKey { id, text: text.to_owned() })
    }

    /// A new key.
    pub fn generate(random: crate::RandomBytes<'_>) -> ApiKey {
        let id = base62(ID, random);
        let body = format!("{PREFIX}{id}_{}", base62(SECRET, random));
        let text = format!("{body}{}", checksum(&body));
        ApiKey { id: KeyId(Arc::from(id)), text }
    }

    /// Its public part.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// The key in clear, for the one time it is shown.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({}, redacted)", self.id)
    }
}

/// CRC-32 of the text up to here, as six characters of base62, the most significant first.
pub(super) fn checksum(body: &str) -> String {
    let mut rest = crc32fast::hash(body.as_bytes()) as usize;
    let mut text = [b'0'; CHECKSUM];
    for place in text.iter_mut().rev() {
        *place = ALPHABET[rest % ALPHABET.len()];
        rest /= ALPHABET.len();
    }
    text.iter().map(|b| char::from(*b)).collect()
}

/// `length` characters of base62, each equally likely: bytes above the last whole multiple of 62
/// are drawn again.
pub(crate) fn base62(length: usize, random: crate::RandomBytes<'_>) -> String {
    let mut text = String::with_capacity(length);
    let mut bytes = [0u8; 32];
    while text.len() < length {
        random(&mut bytes);
        let fair = bytes.iter().filter(|b| **b < 248);
        for byte in fair.take(length - text.len()) {
            text.push(char::from(ALPHABET[usize::from(byte % 62)]));
        }
    }
    text
}

/// The service's own secret that keyed hashes are made with: a copy of the table alone proves nothing.
#[derive(Clone)]
pub struct Pepper(Hmac<Sha256>);

impl Pepper {
    /// Takes a pepper of at least 32 bytes; `None` if it is shorter.
    pub fn new(bytes: &[u8]) -> Option<Pepper> {
        if bytes.len() < 32 {
            return None;
        }
        Hmac::<Sha256>::new_from_slice(bytes).ok().map(Pepper)
    }

    /// What is kept of a key.
    pub fn hash(&self, key: &ApiKey) -> KeyHash {
        let mut mac = self.0.clone();
        mac.update(b"sluicegate api key v1");
        mac.update(key.text.as_bytes());
        KeyHash(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(redacted)")
    }
}

/// HMAC-SHA-256 of a key under the pepper. Compared in constant time only.
#[derive(Clone)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// Reads it back from an item.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<KeyHash> {
        bytes.try_into().ok().map(KeyHash)
    }

    /// For an item.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for KeyHash {
    fn eq(&self, other: &KeyHash) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for KeyHash {}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(redacted)")
    }
}
