//! From an access token to its client: verified once, remembered by its hash until it ends, its client
//! changes or its issuer's keys do.

use std::sync::{Arc, Mutex};

use ring::digest::{SHA256, digest};
use store::{AccessStore, Client, StoreError};
use tokio_util::sync::CancellationToken;

use super::Peer;
use super::generations::Generations;
use super::lookups::Lookups;
use super::oauth::{TokenFault, Tokens, Verified};
use super::reason::{Denied, Reason};
use crate::metrics;
use crate::options::Limits;

/// SHA-256 of a token's text: tokens themselves are not kept.
type TokenHash = [u8; 32];

/// Issuer, and the client's name there.
type OAuthClient = (Arc<str>, Arc<str>);

/// A token that was taken, and for whom under one epoch.
struct Known {
    verified: Verified,
    epoch: u64,
    /// With no more grants than the token's scopes allow.
    client: Arc<Client>,
}

/// See the module.
pub(super) struct Bearers {
    access: AccessStore,
    tokens: Tokens,
    /// Every request takes it for a copy of one `Arc`; never held over an await.
    known: Mutex<Generations<TokenHash, Arc<Known>>>,
    clients: Lookups<OAuthClient, Client>,
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

    /// The client that the token was given to, narrowed to its scopes, by what was true under this
    /// epoch.
    pub(super) async fn client(
        &self,
        text: &str,
        peer: &Peer,
        epoch: u64,
        now_ms: i64,
    ) -> Result<Arc<Client>, Denied> {
        let hash = hash(text);
        let known = self.known.lock().ok().and_then(|mut known| known.get(&hash));
        let known = known.filter(|known| self.tokens.still_hold(&known.verified, now_ms));
        if let Some(known) = known.as_ref().filter(|known| known.epoch == epoch) {
            return match known.verified.is_shown_by(peer.certificate.as_ref()) {
                true => Ok(Arc::clone(&known.client)),
                false => Err(TokenFault::Binding.into()),
            };
        }
        let verified = match known {
            Some(known) => known.verified.clone(),
            None => {
                metrics::token_verified();
                self.tokens.verify(text, now_ms).await?
            }
        };
        if !verified.is_shown_by(peer.certificate.as_ref()) {
            return Err(TokenFault::Binding.into());
        }
        let client = self.bound(&verified, epoch).await?;
        if !client.enabled {
            return Err(Reason::ClientDisabled.into());
        }
        let client = Arc::new(verified.scopes.narrow(&client));
        let known = Known { verified, epoch, client: Arc::clone(&client) };
        if let Ok(mut all) = self.known.lock() {
            all.insert(hash, Arc::new(known));
        }
        Ok(client)
    }

    /// The client of ours that the token's client is bound to.
    async fn bound(&self, verified: &Verified, epoch: u64) -> Result<Arc<Client>, Denied> {
        let issuer = self.tokens.issuer(verified);
        let name = (issuer, Arc::clone(&verified.oauth_client));
        let found = self.clients.get(&name, epoch, || self.look_up(&name)).await?;
        found.ok_or(TokenFault::UnknownClient.into())
    }

    async fn look_up(&self, name: &OAuthClient) -> Result<Option<Arc<Client>>, StoreError> {
        metrics::key_looked_up();
        let Some(binding) = self.access.get_oauth(&name.0, &name.1).await? else {
            return Ok(None);
        };
        Ok(self.access.get_client(&binding.client).await?.map(Arc::new))
    }
}

fn hash(text: &str) -> TokenHash {
    let mut hash = TokenHash::default();
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}
