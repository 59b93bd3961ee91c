//! The key that signs webhooks, in Standard Webhooks' form. It shows itself only when asked to.

use std::fmt;

use data_encoding::{BASE64, BASE64_NOPAD};
use subtle::ConstantTimeEq;

use super::SubscriptionError;

/// What every secret starts with.
const PREFIX: &str = "whsec_";
/// Bytes that a key may have.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// `whsec_` and base64 of 24 to 64 bytes. Its Debug is redacted and it has no Display.
#[derive(Clone)]
pub struct SigningSecret {
    key: Vec<u8>,
}

impl SigningSecret {
    /// Checks and takes a secret, with or without base64 padding.
    pub fn parse(text: &str) -> Result<SigningSecret, SubscriptionError> {
        let refused = |detail| SubscriptionError::Secret { detail };
        let encoded = text.strip_prefix(PREFIX).ok_or(refused("it does not start with whsec_"))?;
        let key = BASE64
            .decode(encoded.as_bytes())
            .or_else(|_| BASE64_NOPAD.decode(encoded.as_bytes()))
            .map_err(|_| refused("what follows is not base64"))?;
        if KEY_BYTES.contains(&key.len()) {
            Ok(SigningSecret { key })
        } else {
            Err(refused("the key's length is not allowed"))
        }
    }

    /// A new secret of 32 random bytes.
    pub fn generate(random: crate::RandomBytes<'_>) -> SigningSecret {
        let mut key = vec![0; 32];
        random(&mut key);
        SigningSecret { key }
    }

    /// The key's bytes, for signing.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The secret in clear, for the one time it is shown and for keeping it.
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}", BASE64.encode(&self.key))
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(redacted)")
    }
}

impl PartialEq for SigningSecret {
    fn eq(&self, other: &SigningSecret) -> bool {
        self.key.ct_eq(&other.key).into()
    }
}
