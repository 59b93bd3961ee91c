//! The form of a token: a signed JWT in the compact form (RFC 7515, 7519), taken apart within limits
//! and without a look at who signed it. Pure. What is read here is not proven yet.

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value};

use super::fault::TokenFault;
use super::json;

/// A token of more bytes is not looked at.
pub(crate) const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// A header of more bytes, before decoding, is not looked at.
const MAX_HEADER_BYTES: usize = 2 * 1024;
/// Signatures are as long as an RSA key at most, which is 4,096 bits.
const MAX_SIGNATURE_BYTES: usize = 512;
/// Bytes that a key's id may have.
pub(crate) const MAX_KID_BYTES: usize = 256;
/// Members of the header that would have us take a key, or a meaning, from the token itself.
const REFUSED_MEMBERS: [&str; 7] = ["crit", "jwk", "jku", "x5u", "x5c", "b64", "zip"];

/// How a token is signed. There is no `none`, and nothing whose key is a shared secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA PKCS#1 v1.5 with SHA-256; keys of 2,048 to 4,096 bits.
    Rs256,
    /// RSA PSS with SHA-256; keys of 2,048 to 4,096 bits.
    Ps256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// By its name in JOSE (`RS256`, `PS256`, `ES256`, `EdDSA`), to the letter.
    pub fn parse(name: &str) -> Option<Algorithm> {
        let all = [Self::Rs256, Self::Ps256, Self::Es256, Self::EdDsa];
        all.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Its name in JOSE.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// What the header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) algorithm: Algorithm,
    /// Media type, in lower case and without `application/`.
    pub(crate) kind: Option<String>,
    /// Names a key of the issuer: compared, never looked into.
    pub(crate) kid: Option<String>,
}

/// A token, taken apart.
#[derive(Debug)]
pub(crate) struct Token<'t> {
    pub(crate) header: Header,
    pub(crate) claims: Map<String, Value>,
    /// What is signed.
    pub(crate) signed: &'t [u8],
    pub(crate) signature: Vec<u8>,
}

/// True for what has the form of a token: three parts, two dots. An API key has none.
pub(crate) fn looks_like_one(text: &str) -> bool {
    text.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// Takes a token apart.
pub(crate) fn parse(text: &str) -> Result<Token<'_>, TokenFault> {
    if text.len() > MAX_TOKEN_BYTES {
        return Err(TokenFault::Malformed);
    }
    let (signed, signature) = text.rsplit_once('.').ok_or(TokenFault::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(TokenFault::Malformed)?;
    if header.len() > MAX_HEADER_BYTES {
        return Err(TokenFault::Malformed);
    }
    let header = read_header(&json::object(&decoded(header)?).ok_or(TokenFault::Malformed)?)?;
    let claims = json::object(&decoded(payload)?).ok_or(TokenFault::Malformed)?;
    let signature = decoded(signature)?;
    if signature.is_empty() || signature.len() > MAX_SIGNATURE_BYTES {
        return Err(TokenFault::Malformed);
    }
    Ok(Token { header, claims, signed: signed.as_bytes(), signature })
}

/// Base64url to the letter: no padding, no white space, no bits that mean nothing.
fn decoded(text: &str) -> Result<Vec<u8>, TokenFault> {
    BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| TokenFault::Malformed)
}

fn read_header(members: &Map<String, Value>) -> Result<Header, TokenFault> {
    if REFUSED_MEMBERS.iter().any(|name| members.contains_key(*name)) {
        return Err(TokenFault::Header);
    }
    let algorithm = members.get("alg").and_then(Value::as_str).and_then(Algorithm::parse);
    let kind = match members.get("typ") {
        None => None,
        Some(Value::String(kind)) => {
            let kind = kind.to_ascii_lowercase();
            Some(kind.strip_prefix("application/").unwrap_or(&kind).to_owned())
        }
        Some(_) => return Err(TokenFault::Type),
    };
    let kid = match members.get("kid") {
        None => None,
        Some(Value::String(kid)) if (1..=MAX_KID_BYTES).contains(&kid.len()) => Some(kid.clone()),
        Some(_) => return Err(TokenFault::Header),
    };
    Ok(Header { algorithm: algorithm.ok_or(TokenFault::Algorithm)?, kind, kid })
}
