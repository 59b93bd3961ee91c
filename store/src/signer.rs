//! Signed opaque tokens: what the API gives out as cursors and `self` links and takes back.
//!
//! HMAC-SHA-256 over a domain and the content, cut to 16 bytes and compared in constant time: a
//! token of one kind is never taken for another, and a tampered one is an error. Tokens are signed,
//! not secret: they must carry nothing that their holder may not know.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Bytes of the signature that a token carries.
const TAG_BYTES: usize = 16;
/// Longest token taken back, in characters.
const MAX_TOKEN: usize = 4_096;
/// Shortest key taken, in bytes.
const MIN_KEY: usize = 32;

/// A token that this service did not give out, or not for this purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not even the form of a token.
    #[error("not a token of this service: up to 4096 of A-Z a-z 0-9 _ - are allowed")]
    Form,
    /// The signature does not fit: tampered with, of another kind, or signed with a key long gone.
    #[error("the token is not valid here")]
    Signature,
    /// Well signed, but of a form that this version does not know.
    #[error("the token has a form that this version does not know")]
    Content,
}

/// Signs tokens with its newest key and accepts its older ones.
#[derive(Clone)]
pub struct Signer {
    keys: Vec<Hmac<Sha256>>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer {{ keys: {} (redacted) }}", self.keys.len())
    }
}

impl Signer {
    /// A signer with one key of at least 32 bytes; `None` if the key is shorter.
    pub fn new(key: &[u8]) -> Option<Signer> {
        Signer { keys: Vec::new() }.accepting(key)
    }

    /// The same, accepting also what was signed with an `older` key: for rotation with overlap.
    pub fn accepting(mut self, older: &[u8]) -> Option<Signer> {
        if older.len() < MIN_KEY {
            return None;
        }
        self.keys.push(Hmac::<Sha256>::new_from_slice(older).ok()?);
        Some(self)
    }

    /// Content and signature as URL-safe text.
    pub fn seal(&self, domain: &str, content: &[u8]) -> String {
        self.seal_with(domain, content.len(), |bytes| bytes.extend_from_slice(content))
    }

    /// As [`Signer::seal`], for content that `write` makes: about `content_bytes` of it.
    pub(crate) fn seal_with(
        &self,
        domain: &str,
        content_bytes: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> String {
        let mut bytes = Vec::with_capacity(TAG_BYTES + content_bytes);
        bytes.extend_from_slice(&[0; TAG_BYTES]);
        write(&mut bytes);
        let (place, content) = bytes.split_at_mut(TAG_BYTES);
        // There is a key from the constructor on.
        if let Some(key) = self.keys.first() {
            place.copy_from_slice(&tag(key, domain, content));
        }
        BASE64URL_NOPAD.encode(&bytes)
    }

    /// The content of a token that [`Signer::seal`] made for the same domain.
    pub fn open(&self, domain: &str, token: &str) -> Result<Vec<u8>, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Form);
        }
        let bytes = BASE64URL_NOPAD.decode(token.as_bytes()).map_err(|_| TokenError::Form)?;
        let (found, content) = bytes.split_at_checked(TAG_BYTES).ok_or(TokenError::Form)?;
        let valid = self.keys.iter().fold(subtle::Choice::from(0), |valid, key| {
            valid | tag(key, domain, content)[..].ct_eq(found)
        });
        if bool::from(valid) { Ok(content.to_vec()) } else { Err(TokenError::Signature) }
    }
}

/// The domain's length goes first, so that no domain and content read like another pair.
fn tag(key: &Hmac<Sha256>, domain: &str, content: &[u8]) -> [u8; TAG_BYTES] {
    let mut mac = key.clone();
    mac.update(&(domain.len() as u64).to_be_bytes());
    mac.update(domain.as_bytes());
    mac.update(content);
    let full = mac.finalize().into_bytes();
    let mut cut = [0; TAG_BYTES];
    cut.copy_from_slice(&full[..TAG_BYTES]);
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_went() {
        let signer = Signer::new(&[7; 32]).unwrap();
        let token = signer.seal("cursor", b"content");
        assert_eq!(signer.open("cursor", &token).unwrap(), b"content");
        assert_eq!(signer.open("cursor", &signer.seal("cursor", b"")).unwrap(), b"");
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let signer = Signer::new(&[7; 32]).unwrap();
        let token = signer.seal("cursor", b"some content");
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(bytes).unwrap();
            assert!(signer.open("cursor", &forged).is_err(), "character {at}");
        }
    }

    #[test]
    fn other_domains_keys_and_forms_are_refused() {
        let signer = Signer::new(&[7; 32]).unwrap();
        let token = signer.seal("cursor", b"x");
        assert_eq!(signer.open("locator", &token), Err(TokenError::Signature));
        assert_eq!(
            Signer::new(&[8; 32]).unwrap().open("cursor", &token),
            Err(TokenError::Signature)
        );
        for bad in ["", "AAAA", "***", &"A".repeat(5_000)] {
            assert_eq!(signer.open("cursor", bad), Err(TokenError::Form));
        }
    }

    #[test]
    fn older_keys_are_accepted_and_the_newest_signs() {
        let old = Signer::new(&[7; 32]).unwrap();
        let both = Signer::new(&[8; 32]).unwrap().accepting(&[7; 32]).unwrap();
        assert_eq!(both.open("c", &old.seal("c", b"x")).unwrap(), b"x");
        assert!(old.open("c", &both.seal("c", b"x")).is_err());
    }

    #[test]
    fn short_keys_are_refused_and_debug_shows_none() {
        assert!(Signer::new(&[7; 31]).is_none());
        assert_eq!(
            format!("{:?}", Signer::new(&[7; 32]).unwrap()),
            "Signer { keys: 1 (redacted) }"
        );
    }
}
