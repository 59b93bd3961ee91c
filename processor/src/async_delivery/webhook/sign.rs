//! The Standard Webhooks signatures over `id.timestamp.body`: `v1` by HMAC-SHA-256, `v1a` by Ed25519.
//!
//! Every key of a destination that has not ended signs, newest first, so that a receiver can rotate its key
//! without missing a message. Keys are prepared once and never printed.

use std::fmt;

use base64_simd::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use store::{Ed25519Key, SigningKey, SigningSecret};

/// Room for a version, a comma and base64 of the longer kind of signature.
const SIGNATURE_CHARS: usize = 96;

/// Signs deliveries with all the keys of one destination.
#[derive(Clone)]
pub(super) struct Signer {
    keys: Vec<(Key, Option<i64>)>,
}

/// A key, ready to sign.
#[derive(Clone)]
enum Key {
    Hmac(Hmac<Sha256>),
    Ed25519(Ed25519Key),
}

impl Signer {
    /// Prepares the keys, newest first.
    pub(super) fn new(keys: &[SigningKey]) -> Signer {
        let prepared = keys.iter().filter_map(|key| {
            let prepared = match &key.secret {
                // HMAC takes a key of any length; the error in the signature of `new_from_slice` is
                // for fixed-length MACs, so that no key is ever left out here.
                SigningSecret::Hmac(key) => Hmac::new_from_slice(key.bytes()).ok().map(Key::Hmac),
                SigningSecret::Ed25519(key) => Some(Key::Ed25519(key.clone())),
            };
            Some((prepared?, key.expires_at_ms))
        });
        Signer { keys: prepared.collect() }
    }

    /// The value of `webhook-signature`: one `v1,<base64>` or `v1a,<base64>` for each key that signs then,
    /// separated by spaces.
    pub(super) fn signature(&self, id: &str, timestamp_s: i64, body: &[u8]) -> String {
        let mut value = String::with_capacity(self.keys.len() * SIGNATURE_CHARS);
        let timestamp = timestamp_s.to_string();
        let parts = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
        let now_ms = timestamp_s.saturating_mul(1_000);
        let signing = self.keys.iter().filter(|(_, end_ms)| end_ms.is_none_or(|end| now_ms < end));
        for (key, _) in signing {
            if !value.is_empty() {
                value.push(' ');
            }
            match key {
                Key::Hmac(mac) => {
                    let mut mac = mac.clone();
                    parts.iter().for_each(|part| mac.update(part));
                    value.push_str("v1,");
                    STANDARD.encode_append(mac.finalize().into_bytes().as_slice(), &mut value);
                }
                Key::Ed25519(key) => {
                    value.push_str("v1a,");
                    STANDARD.encode_append(key.sign(&parts.concat()), &mut value);
                }
            }
        }
        value
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({} keys)", self.keys.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification.
    const PAIR: &str = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
    const BY_PAIR: &str = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";
    const BY_SECRET: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn key(text: &str) -> SigningKey {
        let text = if text.starts_with("wh") { text.to_owned() } else { format!("whsec_{text}") };
        SigningKey::current(SigningSecret::parse(&text).unwrap())
    }

    fn signer(secrets: &[&str]) -> Signer {
        Signer::new(&secrets.iter().map(|s| key(s)).collect::<Vec<_>>())
    }

    fn example(signer: &Signer) -> String {
        signer.signature("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#)
    }

    #[test]
    fn reproduces_the_published_vector_of_standard_webhooks() {
        let value = signer(&["C2FVsBQIhrscChlQIMV+b5sSYspob7oD"]).signature(
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1_649_367_553,
            br#"{"email":"test@example.com","username":"test_user"}"#,
        );
        assert_eq!(value, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
    }

    #[test]
    fn reproduces_the_published_vector_of_svix() {
        assert_eq!(example(&signer(&["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])), BY_SECRET);
    }

    #[test]
    fn reproduces_the_published_vector_of_the_asymmetric_signature() {
        assert_eq!(example(&signer(&[PAIR])), BY_PAIR);
    }

    #[test]
    fn the_official_library_agrees_on_any_body_and_timestamp() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..50 {
            let key: Vec<u8> = (0..rng.usize(24..=64)).map(|_| rng.u8(..)).collect();
            let body: String = (0..rng.usize(0..400)).map(|_| rng.char(..)).collect();
            let timestamp_s = rng.i64(0..4_000_000_000);
            let secret = STANDARD.encode_to_string(&key);
            let judge = standardwebhooks::Webhook::from_bytes(key).unwrap();
            let expected = judge.sign("msg_a", timestamp_s, body.as_bytes()).unwrap();
            let signer = signer(&[&secret]);
            assert_eq!(signer.signature("msg_a", timestamp_s, body.as_bytes()), expected);
        }
    }

    #[test]
    fn while_rotating_all_keys_sign_newest_first_and_each_until_its_end() {
        let ending = |secret, expires_at_ms| SigningKey {
            expires_at_ms: Some(expires_at_ms),
            ..key(secret)
        };
        let rotating = Signer::new(&[
            key(PAIR),
            ending("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 1_614_265_330_001),
            ending("C2FVsBQIhrscChlQIMV+b5sSYspob7oD", 1_614_265_330_000),
        ]);
        assert_eq!(example(&rotating), format!("{BY_PAIR} {BY_SECRET}"), "the last one has ended");
    }

    #[test]
    fn a_key_never_shows_in_debug() {
        assert_eq!(
            format!("{:?}", signer(&["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", PAIR])),
            "Signer(2 keys)"
        );
    }
}
