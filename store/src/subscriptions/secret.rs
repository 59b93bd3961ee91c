//! The keys that sign webhooks, in Standard Webhooks' forms. They show themselves only when asked to.

use std::fmt;
use std::sync::Arc;

use data_encoding::{BASE64, BASE64_NOPAD};
use ring::signature::{Ed25519KeyPair, KeyPair};
use subtle::ConstantTimeEq;

use super::SubscriptionError;

/// What a shared key starts with.
const SHARED: &str = "whsec_";
/// What a private key starts with.
const PRIVATE: &str = "whsk_";
/// What a public key starts with.
const PUBLIC: &str = "whpk_";
/// Bytes that a shared key may have.
const SHARED_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Bytes of an Ed25519 seed, from which all else of a key follows.
const SEED_BYTES: usize = 32;

/// A key that signs webhooks. Its Debug is redacted and it has no Display.
#[derive(Clone, PartialEq)]
pub enum SigningSecret {
    /// Signs as `v1`: a key that the receiver knows, too.
    Hmac(HmacKey),
    /// Signs as `v1a`: the receiver knows its public half only.
    Ed25519(Ed25519Key),
}

/// `whsec_` and base64 of 24 to 64 bytes.
#[derive(Clone)]
pub struct HmacKey(Vec<u8>);

/// `whsk_` and base64 of a seed of 32 bytes, with or without the 32 bytes of the public key behind it.
#[derive(Clone)]
pub struct Ed25519Key {
    seed: [u8; SEED_BYTES],
    pair: Arc<Ed25519KeyPair>,
}

impl SigningSecret {
    /// Checks and takes a secret of either kind, with or without base64 padding.
    pub fn parse(text: &str) -> Result<SigningSecret, SubscriptionError> {
        let refused = |detail| SubscriptionError::Secret { detail };
        if let Some(encoded) = text.strip_prefix(SHARED) {
            let key = decoded(encoded)?;
            return if SHARED_BYTES.contains(&key.len()) {
                Ok(SigningSecret::Hmac(HmacKey(key)))
            } else {
                Err(refused("the key's length is not allowed"))
            };
        }
        if let Some(encoded) = text.strip_prefix(PRIVATE) {
            return Ed25519Key::from_bytes(&decoded(encoded)?).map(SigningSecret::Ed25519);
        }
        Err(refused(if text.starts_with(PUBLIC) {
            "it is a public key, which signs nothing"
        } else {
            "it starts with neither whsec_ nor whsk_"
        }))
    }

    /// A new shared key of 32 random bytes.
    pub fn generate(random: crate::RandomBytes<'_>) -> SigningSecret {
        let mut key = vec![0; 32];
        random(&mut key);
        SigningSecret::Hmac(HmacKey(key))
    }

    /// A new pair of keys.
    pub fn generate_ed25519(
        random: crate::RandomBytes<'_>,
    ) -> Result<SigningSecret, SubscriptionError> {
        let mut seed = [0; SEED_BYTES];
        random(&mut seed);
        Ed25519Key::from_bytes(&seed).map(SigningSecret::Ed25519)
    }

    /// The secret in clear, for the one time it is shown and for keeping it.
    pub fn expose(&self) -> String {
        match self {
            SigningSecret::Hmac(key) => format!("{SHARED}{}", BASE64.encode(&key.0)),
            SigningSecret::Ed25519(key) => {
                let bytes = [&key.seed[..], key.pair.public_key().as_ref()].concat();
                format!("{PRIVATE}{}", BASE64.encode(&bytes))
            }
        }
    }

    /// `whpk_` and base64 of the public key, which is no secret; `None` of a shared key.
    pub fn public_key(&self) -> Option<String> {
        match self {
            SigningSecret::Hmac(_) => None,
            SigningSecret::Ed25519(key) => {
                Some(format!("{PUBLIC}{}", BASE64.encode(key.pair.public_key().as_ref())))
            }
        }
    }

    /// The version of the signatures that it makes: `v1` or `v1a`.
    pub fn version(&self) -> &'static str {
        match self {
            SigningSecret::Hmac(_) => "v1",
            SigningSecret::Ed25519(_) => "v1a",
        }
    }
}

impl HmacKey {
    /// The key's bytes, for signing.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Ed25519Key {
    fn from_bytes(bytes: &[u8]) -> Result<Ed25519Key, SubscriptionError> {
        let refused = |detail| SubscriptionError::Secret { detail };
        let (seed, public) = bytes.split_first_chunk().ok_or(refused("the key is too short"))?;
        let pair = match public {
            [] => Ed25519KeyPair::from_seed_unchecked(seed),
            public => Ed25519KeyPair::from_seed_and_public_key(seed, public),
        };
        let pair = pair.map_err(|_| refused("its public half does not belong to it"))?;
        Ok(Ed25519Key { seed: *seed, pair: Arc::new(pair) })
    }

    /// The signature of `content`: 64 bytes, the same for the same content.
    pub fn sign(&self, content: &[u8]) -> [u8; 64] {
        let mut bytes = [0; 64];
        let signature = self.pair.sign(content);
        bytes.copy_from_slice(signature.as_ref());
        bytes
    }
}

fn decoded(encoded: &str) -> Result<Vec<u8>, SubscriptionError> {
    let bytes = encoded.as_bytes();
    BASE64
        .decode(bytes)
        .or_else(|_| BASE64_NOPAD.decode(bytes))
        .map_err(|_| SubscriptionError::Secret { detail: "what follows is not base64" })
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(redacted)")
    }
}

impl fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HmacKey(redacted)")
    }
}

impl fmt::Debug for Ed25519Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ed25519Key(redacted)")
    }
}

impl PartialEq for HmacKey {
    fn eq(&self, other: &HmacKey) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl PartialEq for Ed25519Key {
    fn eq(&self, other: &Ed25519Key) -> bool {
        self.seed.ct_eq(&other.seed).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;

    /// The example of the Standard Webhooks specification.
    const KNOWN: &str = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";

    #[test]
    fn shared_keys_have_the_form_of_standard_webhooks() {
        let known = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
        let secret = SigningSecret::parse(known).unwrap();
        assert_eq!((secret.expose().as_str(), secret.version()), (known, "v1"));
        assert!(matches!(&secret, SigningSecret::Hmac(key) if key.bytes().len() == 24));
        let made = SigningSecret::generate(&mut random(3));
        assert_eq!(SigningSecret::parse(&made.expose()).unwrap(), made);
        let unpadded = made.expose().trim_end_matches('=').to_owned();
        assert_eq!(SigningSecret::parse(&unpadded).unwrap(), made);
    }

    #[test]
    fn private_keys_are_taken_with_and_without_their_public_half() {
        let known = SigningSecret::parse(KNOWN).unwrap();
        assert_eq!((known.expose().as_str(), known.version()), (KNOWN, "v1a"));
        let public = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
        assert_eq!(known.public_key().as_deref(), Some(public));
        let seed = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc=";
        assert_eq!(SigningSecret::parse(seed).unwrap(), known);
        let made = SigningSecret::generate_ed25519(&mut random(3)).unwrap();
        assert_eq!(SigningSecret::parse(&made.expose()).unwrap(), made);
        assert_ne!(made, known);
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_repeated() {
        let other_half = KNOWN.replace("VKIDij2H", "VKIDij2I");
        for bad in [
            "",
            "whsec_",
            "whsec_AAAA",
            "C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            "whsec_!!!!C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            "whsk_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=",
            other_half.as_str(),
        ] {
            let error = SigningSecret::parse(bad).unwrap_err().to_string();
            assert!(
                !["C2FVs", "1SiA4", "6Xb/d"].iter().any(|part| error.contains(part)),
                "{error}"
            );
        }
    }
}
