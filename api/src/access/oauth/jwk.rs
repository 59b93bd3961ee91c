//! An issuer's public keys (RFC 7517): read from its document, and the one place where a signature is
//! verified. Pure. A key of a kind that is not known here is passed over, as the standard asks.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::{Map, Value};

use super::json;
use super::token::{Algorithm, Header, MAX_KID_BYTES};

/// Keys of one issuer that are looked at.
const MAX_KEYS: usize = 100;
/// RSA keys have at least and at most so many bytes.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

/// All keys of an issuer, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeySet(Vec<Key>);

/// One key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key {
    kid: Option<String>,
    /// The one algorithm that it is for, if it says so; `Some(None)`: for one that is not known here.
    only: Option<Option<Algorithm>>,
    material: Material,
}

#[derive(Clone, PartialEq, Eq)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point.
    P256([u8; 65]),
    Ed25519([u8; 32]),
}

impl KeySet {
    /// Reads a key set; `None` if it is none. One without a single usable key is one.
    pub(crate) fn read(document: &[u8]) -> Option<KeySet> {
        let members = json::object(document)?;
        let keys = members.get("keys")?.as_array()?;
        Some(KeySet(keys.iter().take(MAX_KEYS).filter_map(Key::read).collect()))
    }

    /// The key that a token names; without a name, the only one that it can be.
    pub(crate) fn find(&self, header: &Header) -> Option<&Key> {
        let mut fitting = self.0.iter().filter(|key| {
            key.fits(header.algorithm) && (header.kid.is_none() || key.kid == header.kid)
        });
        let first = fitting.next()?;
        (header.kid.is_some() || fitting.next().is_none()).then_some(first)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Key {
    fn read(value: &Value) -> Option<Key> {
        let members = value.as_object()?;
        let text = |name: &str| members.get(name).map(|value| value.as_str().unwrap_or_default());
        if text("use").is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        if let Some(operations) = members.get("key_ops") {
            let verifies = |operations: &Vec<Value>| operations.iter().any(|op| op == "verify");
            if !operations.as_array().is_some_and(verifies) {
                return None;
            }
        }
        let kid = text("kid").map(str::to_owned);
        if kid.as_ref().is_some_and(|kid| !(1..=MAX_KID_BYTES).contains(&kid.len())) {
            return None;
        }
        let only = text("alg").map(Algorithm::parse);
        Some(Key { kid, only, material: Material::read(members)? })
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        self.only.is_none_or(|only| only == Some(algorithm))
            && matches!(
                (&self.material, algorithm),
                (Material::Rsa { .. }, Algorithm::Rs256 | Algorithm::Ps256)
                    | (Material::P256(_), Algorithm::Es256)
                    | (Material::Ed25519(_), Algorithm::EdDsa)
            )
    }

    /// Whether the key made this signature by this algorithm. False for an algorithm that is not the
    /// key's.
    pub(crate) fn verifies(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        let verified =
            match (&self.material, algorithm) {
                (Material::Rsa { n, e }, Algorithm::Rs256) => RsaPublicKeyComponents { n, e }
                    .verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature),
                (Material::Rsa { n, e }, Algorithm::Ps256) => RsaPublicKeyComponents { n, e }
                    .verify(&RSA_PSS_2048_8192_SHA256, signed, signature),
                (Material::P256(point), Algorithm::Es256) => {
                    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                        .verify(signed, signature)
                }
                (Material::Ed25519(key), Algorithm::EdDsa) => {
                    UnparsedPublicKey::new(&ED25519, key).verify(signed, signature)
                }
                _ => return false,
            };
        verified.is_ok()
    }
}

impl Material {
    fn read(members: &Map<String, Value>) -> Option<Material> {
        let bytes = |name: &str| {
            let text = members.get(name)?.as_str()?;
            BASE64URL_NOPAD.decode(text.as_bytes()).ok()
        };
        let curve = members.get("crv").and_then(Value::as_str);
        match (members.get("kty")?.as_str()?, curve) {
            ("RSA", _) => {
                // Some issuers write a leading zero, as for a signed number.
                let without_zeros = |bytes: Vec<u8>| -> Vec<u8> {
                    bytes.into_iter().skip_while(|byte| *byte == 0).collect()
                };
                let (n, e) = (without_zeros(bytes("n")?), without_zeros(bytes("e")?));
                RSA_BYTES.contains(&n.len()).then_some(Material::Rsa { n, e })
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes("x")?, bytes("y")?);
                let point = [&[4u8][..], &x, &y].concat();
                let lengths_fit = x.len() == 32 && y.len() == 32;
                point.try_into().ok().filter(|_| lengths_fit).map(Material::P256)
            }
            ("OKP", Some("Ed25519")) => bytes("x")?.try_into().ok().map(Material::Ed25519),
            _ => None,
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.material {
            Material::Rsa { .. } => "RSA",
            Material::P256(_) => "P-256",
            Material::Ed25519(_) => "Ed25519",
        };
        f.debug_struct("Key").field("kind", &kind).field("kid", &self.kid).finish_non_exhaustive()
    }
}
