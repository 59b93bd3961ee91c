//! Issuers of tests: their keys, what they publish, and tokens of every kind, good and forged.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use data_encoding::BASE64URL_NOPAD;
use futures::FutureExt;
use futures::future::BoxFuture;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};

use crate::{DocumentError, Documents};

/// Made for these tests and used nowhere else.
const RSA: [&[u8]; 2] = [include_bytes!("rsa-one.pk8"), include_bytes!("rsa-two.pk8")];

pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64URL_NOPAD.encode(bytes.as_ref())
}

/// A token of these two texts, whatever they are, and a signature over them.
pub(crate) fn compact(header: &str, payload: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", base64(header), base64(payload));
    let signature = base64(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// Key pairs of an issuer, or of somebody who would like to be one.
pub(crate) struct Forge {
    rsa: RsaKeyPair,
    p256: Vec<u8>,
    p384: Vec<u8>,
    ed25519: Ed25519KeyPair,
    random: SystemRandom,
}

impl Forge {
    /// The `n`th of two; their elliptic keys are new each time.
    pub(crate) fn new(n: usize) -> Self {
        let random = SystemRandom::new();
        let generate = |algorithm: &'static EcdsaSigningAlgorithm| {
            EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap().as_ref().to_vec()
        };
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Self {
            rsa: RsaKeyPair::from_pkcs8(RSA[n]).unwrap(),
            p256: generate(&ECDSA_P256_SHA256_FIXED_SIGNING),
            p384: generate(&ECDSA_P384_SHA384_FIXED_SIGNING),
            ed25519: Ed25519KeyPair::from_pkcs8(ed25519.as_ref()).unwrap(),
            random,
        }
    }

    fn ecdsa(&self, algorithm: &'static EcdsaSigningAlgorithm, pkcs8: &[u8]) -> EcdsaKeyPair {
        EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &self.random).unwrap()
    }

    /// The RSA public key as it stands in files (PKCS#1, DER).
    pub(crate) fn rsa_public(&self) -> Vec<u8> {
        self.rsa.public().as_ref().to_vec()
    }

    /// What the issuer publishes: `rsa`, `ec` and `ed`, and keys that are not for signatures of
    /// tokens.
    pub(crate) fn key_set(&self) -> Value {
        let rsa = PublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        let point = |pair: &EcdsaKeyPair, length: usize| {
            let point = pair.public_key().as_ref()[1..].to_vec();
            (base64(&point[..length]), base64(&point[length..]))
        };
        let (x, y) = point(&self.ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.p256), 32);
        let (x3, y3) = point(&self.ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, &self.p384), 48);
        let (n, e) = (base64(&rsa.n), base64(&rsa.e));
        json!({ "keys": [
            { "kty": "RSA", "kid": "rsa", "use": "sig", "n": n, "e": e },
            { "kty": "EC", "kid": "ec", "crv": "P-256", "alg": "ES256", "x": x, "y": y },
            { "kty": "OKP", "kid": "ed", "crv": "Ed25519", "key_ops": ["verify"],
              "x": base64(self.ed25519.public_key()) },
            { "kty": "EC", "kid": "p384", "crv": "P-384", "x": x3, "y": y3 },
            { "kty": "RSA", "kid": "enc", "use": "enc", "n": n, "e": e },
            { "kty": "RSA", "kid": "rs512", "alg": "RS512", "n": n, "e": e },
            { "kty": "oct", "kid": "shared", "k": base64(b"secret") },
            { "kty": "PQC", "kid": "new" },
        ] })
    }

    /// Signs by the algorithm of this name; also by some that nobody should take.
    pub(crate) fn sign(&self, algorithm: &str, signed: &[u8]) -> Vec<u8> {
        match algorithm {
            "RS256" | "PS256" => {
                let mut signature = vec![0; self.rsa.public().modulus_len()];
                let padding: &dyn ring::signature::RsaEncoding = match algorithm {
                    "RS256" => &RSA_PKCS1_SHA256,
                    _ => &RSA_PSS_SHA256,
                };
                self.rsa.sign(padding, &self.random, signed, &mut signature).unwrap();
                signature
            }
            "ES256" => self.by_curve(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.p256, signed),
            "ES256-DER" => self.by_curve(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.p256, signed),
            "ES384" => self.by_curve(&ECDSA_P384_SHA384_FIXED_SIGNING, &self.p384, signed),
            "EdDSA" => self.ed25519.sign(signed).as_ref().to_vec(),
            other => panic!("{other}"),
        }
    }

    fn by_curve(
        &self,
        algorithm: &'static EcdsaSigningAlgorithm,
        pkcs8: &[u8],
        signed: &[u8],
    ) -> Vec<u8> {
        self.ecdsa(algorithm, pkcs8).sign(&self.random, signed).unwrap().as_ref().to_vec()
    }

    /// A token as an issuer makes it.
    pub(crate) fn token(&self, algorithm: &str, kid: &str, claims: &Value) -> String {
        let header = json!({ "alg": algorithm, "typ": "at+jwt", "kid": kid });
        self.token_of(&header, claims)
    }

    /// A token with this header, signed by the algorithm that it names.
    pub(crate) fn token_of(&self, header: &Value, claims: &Value) -> String {
        let algorithm = header["alg"].as_str().unwrap().to_owned();
        compact(&header.to_string(), &claims.to_string(), |signed| self.sign(&algorithm, signed))
    }
}

/// What issuers publish, by URL; counts who asks.
#[derive(Clone, Default)]
pub(crate) struct Published(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    documents: BTreeMap<String, Vec<u8>>,
    fetches: BTreeMap<String, usize>,
    is_down: bool,
    hangs: bool,
}

impl Published {
    pub(crate) fn put(&self, url: &str, document: &Value) {
        let mut state = self.0.lock().unwrap();
        state.documents.insert(url.to_owned(), document.to_string().into_bytes());
    }

    /// From now on nothing is answered, or everything again.
    pub(crate) fn down(&self, is_down: bool) {
        self.0.lock().unwrap().is_down = is_down;
    }

    /// From now on no answer ever comes, or answers come again.
    pub(crate) fn hangs(&self, hangs: bool) {
        self.0.lock().unwrap().hangs = hangs;
    }

    /// How often a URL was asked for.
    pub(crate) fn fetches(&self, url: &str) -> usize {
        self.0.lock().unwrap().fetches.get(url).copied().unwrap_or_default()
    }
}

impl Documents for Published {
    fn get<'a>(
        &'a self,
        url: &'a str,
        max_bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<u8>, DocumentError>> {
        async move {
            let (answer, hangs) = {
                let mut state = self.0.lock().unwrap();
                *state.fetches.entry(url.to_owned()).or_default() += 1;
                (state.documents.get(url).cloned().filter(|_| !state.is_down), state.hangs)
            };
            if hangs {
                std::future::pending::<()>().await;
            }
            let found = answer.filter(|bytes| bytes.len() <= max_bytes);
            found.ok_or_else(|| DocumentError(format!("{url}: not here")))
        }
        .boxed()
    }
}
