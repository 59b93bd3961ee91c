//! The Standard Webhooks signature, version `v1`: HMAC-SHA-256 over `id.timestamp.body`.
//!
//! Every secret of a destination signs, newest first, so that a receiver can rotate its key without
//! missing a message. Keys are prepared once and never printed.

use std::fmt;

use base64_simd::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Base64 of a SHA-256 digest.
const DIGEST_CHARS: usize = 44;

/// Signs deliveries with all the secrets of one destination.
#[derive(Clone)]
pub(super) struct Signer {
    keys: Vec<Hmac<Sha256>>,
}

impl Signer {
    /// Prepares the raw key bytes (what stands behind `whsec_`, decoded), newest first.
    pub(super) fn new<K: AsRef<[u8]>>(keys: impl IntoIterator<Item = K>) -> Signer {
        // HMAC takes a key of any length; the error in the signature of `new_from_slice` is for
        // fixed-length MACs, so that no key is ever left out here.
        let keys =
            keys.into_iter().filter_map(|key| Hmac::new_from_slice(key.as_ref()).ok()).collect();
        Signer { keys }
    }

    /// The value of `webhook-signature`: one `v1,<base64>` for each key, separated by spaces.
    pub(super) fn signature(&self, id: &str, timestamp_s: i64, body: &[u8]) -> String {
        let mut value = String::with_capacity(self.keys.len() * (DIGEST_CHARS + 4));
        let timestamp = timestamp_s.to_string();
        for key in &self.keys {
            let mut mac = key.clone();
            for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
                mac.update(part);
            }
            if !value.is_empty() {
                value.push(' ');
            }
            value.push_str("v1,");
            STANDARD.encode_append(mac.finalize().into_bytes().as_slice(), &mut value);
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

    fn signer(secrets: &[&str]) -> Signer {
        Signer::new(secrets.iter().map(|s| STANDARD.decode_to_vec(s).unwrap()))
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
        let value = signer(&["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]).signature(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(value, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn the_official_library_agrees_on_any_body_and_timestamp() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..50 {
            let key: Vec<u8> = (0..rng.usize(24..=64)).map(|_| rng.u8(..)).collect();
            let body: String = (0..rng.usize(0..400)).map(|_| rng.char(..)).collect();
            let timestamp_s = rng.i64(0..4_000_000_000);
            let judge = standardwebhooks::Webhook::from_bytes(key.clone()).unwrap();
            let expected = judge.sign("msg_a", timestamp_s, body.as_bytes()).unwrap();
            assert_eq!(
                Signer::new([key]).signature("msg_a", timestamp_s, body.as_bytes()),
                expected
            );
        }
    }

    #[test]
    fn while_rotating_both_keys_sign_newest_first() {
        let both =
            signer(&["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "C2FVsBQIhrscChlQIMV+b5sSYspob7oD"]);
        let value = both.signature(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        let parts: Vec<&str> = value.split(' ').collect();
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(parts[1].starts_with("v1,") && parts[1] != parts[0]);
    }

    #[test]
    fn a_key_never_shows_in_debug() {
        assert_eq!(
            format!("{:?}", signer(&["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])),
            "Signer(1 keys)"
        );
    }
}
