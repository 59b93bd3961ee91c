//! From an access token to its client: verified once, remembered by its hash until it ends, its client
//! changes or its issuer's keys do. Tokens of the same client and scopes share what they may do.

use std::sync::{Arc, Mutex, PoisonError};

use store::{AccessStore, Client, StoreError};
use tokio_util::sync::CancellationToken;

use super::generations::Generations;
use super::lookups::Lookups;
use super::oauth::{Scopes, TokenFault, Tokens, Verified};
use super::reason::{Denied, Reason};
use super::{Peer, sha256};
use crate::metrics;
use crate::options::Limits;

/// SHA-256 of a token's text: tokens themselves are not kept.
type TokenHash = [u8; 32];

/// Issuer, and the client's name there.
type OAuthClient = (Arc<str>, Arc<str>);

/// Sets of scopes that a client's tokens come with and that are remembered.
const MAX_SCOPE_SETS: usize = 8;

/// A client of ours that an issuer's client is bound to.
struct Bound {
    client: Client,
    /// With no more grants than its tokens' scopes allow. Held for a copy of one `Arc`, or while one
    /// is made.
    narrowed: Mutex<Generations<Scopes, Arc<Client>>>,
}

/// A token that was taken, and for whom under one epoch.
struct Known {
    verified: Verified,
    epoch: u64,
    bound: Arc<Bound>,
}

/// See the module.
pub(super) struct Bearers {
    access: AccessStore,
    tokens: Tokens,
    /// Every request takes it for a copy of one `Arc`; never held over an await.
    known: Mutex<Generations<TokenHash, Arc<Known>>>,
    clients: Lookups<OAuthClient, Bound>,
}

impl Bearers {
    pub(super) fn new(access: AccessStore, tokens: Tokens, limits: &Limits) -> Self {
        let (capacity, per_second) =
            (limits.max_cached_keys, limits.unknown_key_lookups_per_second);
        Self {
            access,
            tokens,
            known: Mutex::new(Generations::new(capacity)),
            clients: Lookups::new(capacity, per_second),
        }
    }

    /// True if no token is ever taken.
    pub(super) fn are_off(&self) -> bool {
        self.tokens.are_off()
    }

    /// Keeps the issuers' keys fresh until `stop`.
    pub(super) async fn follow(&self, stop: CancellationToken) {
        self.tokens.follow(stop).await;
    }

    /// Looks at the issuers' keys again where that is due: for a host that does not follow them.
    pub(super) async fn freshen(&self) {
        self.tokens.freshen().await;
    }

    /// The client that the token was given to, narrowed to its scopes, by what was true under this
    /// epoch.
    pub(super) async fn client(
        &self,
        text: &str,
        peer: &Peer,
        epoch: u64,
        now_ms: i64,
    ) -> Result<Arc<Client>, Denied> {
        let hash: TokenHash = sha256(text.as_bytes());
        let known = self.known.lock().ok().and_then(|mut known| known.get(&hash));
        let known = known.filter(|known| self.tokens.still_hold(&known.verified, now_ms));
        if let Some(known) = known.as_ref().filter(|known| known.epoch == epoch) {
            return known.client(peer);
        }
        let verified = match known {
            Some(known) => known.verified.clone(),
            None => {
                metrics::token_verified();
                self.tokens.verify(text, now_ms).await?
            }
        };
        let bound = self.bound(&verified, epoch).await?;
        let known = Arc::new(Known { verified, epoch, bound });
        let client = known.client(peer)?;
        if let Ok(mut all) = self.known.lock() {
            all.insert(hash, known);
        }
        Ok(client)
    }

    /// The client of ours that the token's client is bound to.
    async fn bound(&self, verified: &Verified, epoch: u64) -> Result<Arc<Bound>, Denied> {
        let issuer = self.tokens.issuer(verified);
        let name = (issuer, Arc::clone(&verified.oauth_client));
        let found = self.clients.get(&name, epoch, || self.look_up(&name)).await?;
        found.ok_or(TokenFault::UnknownClient.into())
    }

    async fn look_up(&self, name: &OAuthClient) -> Result<Option<Arc<Bound>>, StoreError> {
        metrics::key_looked_up();
        let Some(binding) = self.access.get_oauth(&name.0, &name.1).await? else {
            // Its issuer signed the name; it is said once for each look-up, not for each token.
            tracing::info!(issuer = %name.0, oauth_client = ?name.1, "no client is bound to this OAuth client");
            return Ok(None);
        };
        let client = self.access.get_client(&binding.client).await?;
        let narrowed = || Mutex::new(Generations::new(MAX_SCOPE_SETS));
        Ok(client.map(|client| Arc::new(Bound { client, narrowed: narrowed() })))
    }
}

impl Known {
    /// The client, if it may ask and the connection shows what the token is bound to.
    fn client(&self, peer: &Peer) -> Result<Arc<Client>, Denied> {
        if !self.verified.is_shown_by(peer.certificate.as_ref()) {
            return Err(TokenFault::Binding.into());
        }
        if !self.bound.client.enabled {
            return Err(Reason::ClientDisabled.into());
        }
        Ok(self.bound.narrowed_to(&self.verified.scopes))
    }
}

impl Bound {
    fn narrowed_to(&self, scopes: &Scopes) -> Arc<Client> {
        let mut narrowed = self.narrowed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = narrowed.get(scopes) {
            return client;
        }
        let client = Arc::new(scopes.narrow(&self.client));
        narrowed.insert(scopes.clone(), Arc::clone(&client));
        client
    }
}
