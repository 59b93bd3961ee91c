//! Whose access tokens are accepted, and how their keys are fetched.

use std::time::Duration;

use futures::future::BoxFuture;

use super::token::Algorithm;

/// Clocks of others may be off by so much at most.
const MAX_LEEWAY: Duration = Duration::from_secs(60);
/// Most issuers.
const MAX_ISSUERS: usize = 32;

/// The claim that says whom a token was given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientClaim {
    /// `client_id`, as RFC 9068 has it; Amazon Cognito, Keycloak.
    ClientId,
    /// `azp`; older issuers.
    Azp,
    /// `sub`, where it is the client itself.
    Sub,
}

impl ClientClaim {
    /// The claim's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClientId => "client_id",
            Self::Azp => "azp",
            Self::Sub => "sub",
        }
    }
}

/// An authorisation server whose access tokens are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Its name as the claim `iss` has it, byte for byte: a URL.
    pub issuer: String,
    /// Names of this API; a token must be for one of them. Empty: tokens that name no audience, and
    /// only those (Amazon Cognito's).
    pub audiences: Vec<String>,
    /// Which claim says whom a token was given to.
    pub client_claim: ClientClaim,
    /// How its tokens may be signed; at least one.
    pub algorithms: Vec<Algorithm>,
    /// Where its keys are; `None`: where `/.well-known/openid-configuration` says.
    pub jwks_uri: Option<String>,
    /// Whether a token's header may lack `typ` (Amazon Cognito's does).
    pub untyped: bool,
    /// What stands before our scopes: `https://api.example.com/` for a resource server of Cognito.
    pub scope_prefix: String,
    /// How far clocks may be apart, up to 60 s.
    pub leeway: Duration,
}

impl Issuer {
    /// Keys by discovery, RS256 and ES256, `client_id`, a leeway of 30 s, no audience yet.
    pub fn new(issuer: impl Into<String>) -> Issuer {
        Issuer {
            issuer: issuer.into(),
            audiences: Vec::new(),
            client_claim: ClientClaim::ClientId,
            algorithms: vec![Algorithm::Rs256, Algorithm::Es256],
            jwks_uri: None,
            untyped: false,
            scope_prefix: String::new(),
            leeway: Duration::from_secs(30),
        }
    }
}

/// Access tokens: nobody's are accepted without an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuthOptions {
    /// Whose tokens are accepted.
    pub issuers: Vec<Issuer>,
    /// Between two looks at an issuer's keys.
    pub refresh_interval: Duration,
    /// Between two tries to fetch them, whatever asks for them: an unknown key, a failure.
    pub min_refresh_interval: Duration,
    /// Keys that could not be fetched again for so long are used no more.
    pub max_stale: Duration,
    /// What one document may take.
    pub fetch_timeout: Duration,
}

impl Default for OAuthOptions {
    fn default() -> Self {
        Self {
            issuers: Vec::new(),
            refresh_interval: Duration::from_secs(600),
            min_refresh_interval: Duration::from_secs(10),
            max_stale: Duration::from_secs(24 * 3_600),
            fetch_timeout: Duration::from_secs(5),
        }
    }
}

impl OAuthOptions {
    /// What is wrong, naming the key, what was found and what is allowed.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.issuers.len() > MAX_ISSUERS {
            let found = self.issuers.len();
            return Err(format!("oauth.issuers: found {found}, allowed are up to {MAX_ISSUERS}"));
        }
        if self.max_stale < self.refresh_interval {
            return Err("oauth.max_stale: allowed is refresh_interval or more".to_owned());
        }
        let mut seen = std::collections::BTreeSet::new();
        for issuer in &self.issuers {
            let name = &issuer.issuer;
            if !seen.insert(name) {
                return Err(format!("oauth.issuers: found {name} twice, allowed is once"));
            }
            for url in [Some(name), issuer.jwks_uri.as_ref()].into_iter().flatten() {
                if !may_be_fetched(url) {
                    return Err(format!(
                        "oauth.issuers: found {url:?}, allowed is an https URL (http only to this machine)"
                    ));
                }
            }
            if issuer.algorithms.is_empty() {
                return Err(format!(
                    "oauth.issuers: {name} has no algorithm, allowed is at least one"
                ));
            }
            if issuer.leeway > MAX_LEEWAY {
                return Err(format!("oauth.issuers: {name}: leeway: allowed is up to 60 s"));
            }
        }
        Ok(())
    }
}

/// Keys come over HTTPS; plain HTTP is for issuers on this machine, in tests.
pub(crate) fn may_be_fetched(url: &str) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_here =
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match uri.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => is_here,
        _ => false,
    }
}

/// Fetches what issuers publish; the app makes it. It follows no redirects and trusts only what it
/// is told to.
pub trait Documents: Send + Sync {
    /// GETs a document of at most `max_bytes`; anything but 200 is an error. The caller limits the
    /// time.
    fn get<'a>(
        &'a self,
        url: &'a str,
        max_bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<u8>, DocumentError>>;
}

/// A document could not be had; the text says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DocumentError(pub String);
