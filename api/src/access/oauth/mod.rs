//! OAuth 2.0 access tokens (RFC 6750, 9068): this API as a resource server of any issuer that is
//! configured. It decides whether a token is one, whose it is in the issuer's words, and what its
//! scopes allow; which client of ours that is, is looked up by the authenticator.
//!
//! What a token says about its own key is never used: keys are the issuer's ([`keys`]), the algorithm
//! is one that the issuer may use and the key is for ([`jwk`]). Start at [`Tokens::verify`].

mod claims;
mod fault;
mod json;
mod jwk;
mod keys;
mod options;
mod scope;
#[cfg(test)]
mod tests;
mod token;

use std::sync::Arc;

use aws_smithy_async::time::SharedTimeSource;
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

pub(crate) use claims::Thumbprint;
pub(crate) use fault::TokenFault;
use keys::{IssuerKeys, NoKey};
pub use options::{ClientClaim, DocumentError, Documents, Issuer, OAuthOptions};
pub(crate) use scope::Scopes;
pub use token::Algorithm;
pub(crate) use token::looks_like_one;

/// A token that its issuer signed and that is good now.
#[derive(Clone, Debug)]
pub(crate) struct Verified {
    issuer: usize,
    /// Of the issuer's keys, when the signature was verified.
    generation: u64,
    ends_ms: i64,
    certificate: Option<Thumbprint>,
    /// The client's name at the issuer.
    pub(crate) oauth_client: Arc<str>,
    pub(crate) scopes: Scopes,
}

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// Because of what it is.
    Fault(TokenFault),
    /// Because its issuer's keys are not there.
    Unavailable,
    /// Because too many wait for them.
    Overloaded,
}

impl From<TokenFault> for Rejected {
    fn from(fault: TokenFault) -> Self {
        Self::Fault(fault)
    }
}

/// See the module.
pub(crate) struct Tokens {
    issuers: Vec<Arc<IssuerKeys>>,
    /// Their names, by the same places.
    names: Vec<Arc<str>>,
}

impl Tokens {
    pub(crate) fn new(
        options: &OAuthOptions,
        documents: &Arc<dyn Documents>,
        time: &SharedTimeSource,
    ) -> Self {
        let keys = |issuer: &Issuer| {
            IssuerKeys::new(issuer.clone(), options, Arc::clone(documents), time.clone())
        };
        let names = options.issuers.iter().map(|issuer| issuer.issuer.as_str().into());
        Self { issuers: options.issuers.iter().map(keys).collect(), names: names.collect() }
    }

    /// True if no token is ever taken.
    pub(crate) fn are_off(&self) -> bool {
        self.issuers.is_empty()
    }

    /// Keeps the keys of all issuers fresh until `stop`.
    pub(crate) async fn follow(&self, stop: CancellationToken) {
        let follow = |keys: &Arc<IssuerKeys>| Arc::clone(keys).follow(stop.clone());
        join_all(self.issuers.iter().map(follow)).await;
    }

    /// Fetches the keys of each issuer of which that is due, and waits for it.
    pub(crate) async fn freshen(&self) {
        join_all(self.issuers.iter().map(IssuerKeys::freshen)).await;
    }

    /// Verifies a token. What is cheap is judged first, so that only a token that could be good makes
    /// us fetch a key.
    pub(crate) async fn verify(&self, text: &str, now_ms: i64) -> Result<Verified, Rejected> {
        let token = token::parse(text)?;
        let name = claims::issuer(&token.claims).ok_or(TokenFault::Issuer)?;
        let place = self.names.iter().position(|issuer| **issuer == *name);
        let issuer = place.ok_or(TokenFault::Issuer)?;
        let keys = &self.issuers[issuer];
        let claims = claims::check(&token.header, &token.claims, &keys.issuer, now_ms)?;
        let held = keys.holding(&token.header).await.map_err(|no_key| match no_key {
            NoKey::Unknown => TokenFault::UnknownKey.into(),
            NoKey::Unavailable => Rejected::Unavailable,
            NoKey::Overloaded => Rejected::Overloaded,
        })?;
        let key = held.find(&token.header).ok_or(TokenFault::UnknownKey)?;
        if !key.verifies(token.header.algorithm, token.signed, &token.signature) {
            return Err(TokenFault::Signature.into());
        }
        Ok(Verified {
            issuer,
            generation: held.generation,
            ends_ms: claims.ends_ms,
            certificate: claims.certificate,
            oauth_client: claims.oauth_client.into(),
            scopes: claims.scopes,
        })
    }

    /// Whether a token that was verified before still is: it has not ended, and its issuer has the
    /// same keys.
    pub(crate) fn still_hold(&self, verified: &Verified, now_ms: i64) -> bool {
        now_ms < verified.ends_ms
            && self.issuers[verified.issuer]
                .usable()
                .is_some_and(|held| held.generation == verified.generation)
    }

    /// Name of the issuer of a token.
    pub(crate) fn issuer(&self, verified: &Verified) -> Arc<str> {
        Arc::clone(&self.names[verified.issuer])
    }
}

impl Verified {
    /// Whether the connection showed what the token is bound to.
    pub(crate) fn is_shown_by(&self, certificate: Option<&Thumbprint>) -> bool {
        self.certificate.is_none() || self.certificate.as_ref() == certificate
    }
}
