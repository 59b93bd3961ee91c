//! Whether a token says what an access token for this API must say, now. Pure.

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value};

use super::fault::TokenFault;
use super::options::Issuer;
use super::scope::Scopes;
use super::token::Header;

/// The SHA-256 of a client certificate in DER.
pub(crate) type Thumbprint = [u8; 32];

/// Bytes that the name of an issuer's client may have; DynamoDB keeps it in a key.
const MAX_CLIENT_BYTES: usize = 256;
/// Audiences of one token that are looked at.
const MAX_AUDIENCES: usize = 100;
/// The end of the year 9999, in seconds since 1970: what is later is no time.
const MAX_TIME_S: f64 = 253_402_300_799.0;
/// What only id tokens, logout tokens and the like have.
const OF_OTHER_TOKENS: [&str; 4] = ["nonce", "at_hash", "c_hash", "events"];

/// What a token's claims come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    /// Whom the issuer gave it to, in the issuer's words.
    pub(crate) oauth_client: String,
    /// What for.
    pub(crate) scopes: Scopes,
    /// From then on it is not taken, leeway included; in ms since 1970.
    pub(crate) ends_ms: i64,
    /// The client certificate that must be shown with it.
    pub(crate) certificate: Option<Thumbprint>,
}

/// The issuer that the token says it is from, before anything is proven.
pub(crate) fn issuer(claims: &Map<String, Value>) -> Option<&str> {
    claims.get("iss")?.as_str()
}

/// Judges everything but the signature, the certificate and the client.
pub(crate) fn check(
    header: &Header,
    claims: &Map<String, Value>,
    issuer: &Issuer,
    now_ms: i64,
) -> Result<Claims, TokenFault> {
    if !issuer.algorithms.contains(&header.algorithm) {
        return Err(TokenFault::Algorithm);
    }
    check_kind(header, claims, issuer)?;
    check_audience(claims, issuer)?;
    let ends_ms = check_times(claims, issuer, now_ms)?;
    let oauth_client = text(claims, issuer.client_claim.name())?.ok_or(TokenFault::Claims)?;
    if !(1..=MAX_CLIENT_BYTES).contains(&oauth_client.len()) {
        return Err(TokenFault::Claims);
    }
    let scope = text(claims, "scope")?.unwrap_or_default();
    Ok(Claims {
        oauth_client: oauth_client.to_owned(),
        scopes: Scopes::read(scope, &issuer.scope_prefix),
        ends_ms,
        certificate: certificate(claims)?,
    })
}

/// A text that may be missing, but not be something else.
fn text<'c>(claims: &'c Map<String, Value>, name: &str) -> Result<Option<&'c str>, TokenFault> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(TokenFault::Claims),
    }
}

/// An access token, and no other kind that the same issuer signs with the same key.
fn check_kind(
    header: &Header,
    claims: &Map<String, Value>,
    issuer: &Issuer,
) -> Result<(), TokenFault> {
    match header.kind.as_deref() {
        Some("at+jwt" | "jwt") => {}
        None if issuer.untyped => {}
        _ => return Err(TokenFault::Type),
    }
    if OF_OTHER_TOKENS.iter().any(|name| claims.contains_key(*name)) {
        return Err(TokenFault::IdToken);
    }
    // Amazon Cognito's and Keycloak's own words for the kind of a token.
    for (name, access) in [("token_use", "access"), ("typ", "bearer")] {
        if text(claims, name)?.is_some_and(|found| !found.eq_ignore_ascii_case(access)) {
            return Err(TokenFault::IdToken);
        }
    }
    Ok(())
}

fn check_audience(claims: &Map<String, Value>, issuer: &Issuer) -> Result<(), TokenFault> {
    let named: Vec<&str> = match claims.get("aud") {
        None => Vec::new(),
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) if (1..=MAX_AUDIENCES).contains(&several.len()) => {
            let texts: Option<Vec<&str>> = several.iter().map(Value::as_str).collect();
            texts.ok_or(TokenFault::Claims)?
        }
        Some(_) => return Err(TokenFault::Claims),
    };
    let is_for_us = if issuer.audiences.is_empty() {
        named.is_empty()
    } else {
        named.iter().any(|name| issuer.audiences.iter().any(|ours| ours == name))
    };
    if is_for_us { Ok(()) } else { Err(TokenFault::Audience) }
}

/// Gives the end of the token.
fn check_times(
    claims: &Map<String, Value>,
    issuer: &Issuer,
    now_ms: i64,
) -> Result<i64, TokenFault> {
    let leeway_ms = i64::try_from(issuer.leeway.as_millis()).unwrap_or_default();
    let expires_ms = time_ms(claims, "exp")?.ok_or(TokenFault::Claims)?;
    let ends_ms = expires_ms.saturating_add(leeway_ms);
    if now_ms >= ends_ms {
        return Err(TokenFault::Expired);
    }
    let latest_start_ms = now_ms.saturating_add(leeway_ms);
    for name in ["nbf", "iat"] {
        let Some(at_ms) = time_ms(claims, name)? else { continue };
        if at_ms > latest_start_ms {
            return Err(TokenFault::NotYet);
        }
        if at_ms > expires_ms {
            return Err(TokenFault::Claims);
        }
    }
    Ok(ends_ms)
}

/// A NumericDate, which may have a fraction, in ms.
fn time_ms(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, TokenFault> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| (0.0..=MAX_TIME_S).contains(seconds));
    // Within the range: it fits exactly enough.
    seconds.map(|seconds| Some((seconds * 1_000.0) as i64)).ok_or(TokenFault::Claims)
}

/// What the token is bound to (RFC 8705). A binding that is not known here is not passed over.
fn certificate(claims: &Map<String, Value>) -> Result<Option<Thumbprint>, TokenFault> {
    let Some(bound) = claims.get("cnf") else { return Ok(None) };
    let members = bound.as_object().filter(|members| members.len() == 1);
    let text = members.and_then(|members| members.get("x5t#S256")?.as_str());
    let bytes = text.and_then(|text| BASE64URL_NOPAD.decode(text.as_bytes()).ok());
    bytes.and_then(|bytes| bytes.try_into().ok()).map(Some).ok_or(TokenFault::Binding)
}
