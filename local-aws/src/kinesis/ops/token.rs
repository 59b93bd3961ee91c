//! Opaque tokens: shard iterators and `NextToken`s. A token carries its whole state, so the engine remembers none.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// How long tokens are good for.
pub(super) const TOKEN_LIFETIME_MS: i64 = 300_000;

/// Writes a token. `kind` keeps a token of one operation from being taken by another.
pub(super) fn seal<T: Serialize>(kind: u8, content: &T) -> Option<String> {
    let mut bytes = vec![0, 0, 0, 0, kind];
    serde_json::to_writer(&mut bytes, content).ok()?;
    let checksum = crc32fast::hash(&bytes[4..]).to_be_bytes();
    bytes[..4].copy_from_slice(&checksum);
    Some(base64_simd::STANDARD.encode_to_string(bytes))
}

/// Reads a token that [`seal`] wrote; `None` for anything else.
pub(super) fn open<T: DeserializeOwned>(kind: u8, token: &str) -> Option<T> {
    let bytes = base64_simd::STANDARD.decode_to_vec(token).ok()?;
    let (checksum, rest) = bytes.split_at_checked(4)?;
    let intact = crc32fast::hash(rest).to_be_bytes() == checksum && rest.first() == Some(&kind);
    intact.then(|| serde_json::from_slice(&rest[1..]).ok()).flatten()
}
