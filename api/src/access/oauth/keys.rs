//! The keys of one issuer as this process holds them: fetched in the background, and at once when a
//! token names one that is not there; never more often than [`OAuthOptions::min_refresh_interval`],
//! never two at a time. Keys outlive an issuer that does not answer, up to
//! [`OAuthOptions::max_stale`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use aws_smithy_async::time::SharedTimeSource;
use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::json;
use super::jwk::{Key, KeySet};
use super::options::{DocumentError, Documents, Issuer, OAuthOptions, may_be_fetched};
use super::token::Header;
use crate::metrics;

/// A larger document is refused.
const MAX_DOCUMENT_BYTES: usize = 256 * 1024;
/// Requests that wait for one fetch; more are told to come again.
const MAX_WAITING: usize = 64;

/// Why there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoKey {
    /// The issuer has none of this name and kind.
    Unknown,
    /// The issuer's keys could never be fetched, or not for too long.
    Unavailable,
    /// Too many wait for the issuer already.
    Overloaded,
}

/// What an issuer published.
#[derive(Debug)]
pub(crate) struct Held {
    keys: KeySet,
    /// Counts the times that the keys were others than before.
    pub(crate) generation: u64,
    fetched: Instant,
    fetched_wall: SystemTime,
}

impl Held {
    /// The key that a token names.
    pub(crate) fn find(&self, header: &Header) -> Option<&Key> {
        self.keys.find(header)
    }
}

/// See the module.
pub(crate) struct IssuerKeys {
    pub(crate) issuer: Issuer,
    refresh_interval: Duration,
    min_refresh_interval: Duration,
    max_stale: Duration,
    fetch_timeout: Duration,
    documents: Arc<dyn Documents>,
    time: SharedTimeSource,
    held: ArcSwapOption<Held>,
    /// Held by the one fetch under way.
    flight: Arc<tokio::sync::Mutex<()>>,
    /// When the last fetch began, by both clocks. Held for a copy only.
    last_try: Mutex<Option<(Instant, SystemTime)>>,
    waiting: Semaphore,
}

impl IssuerKeys {
    pub(crate) fn new(
        issuer: Issuer,
        options: &OAuthOptions,
        documents: Arc<dyn Documents>,
        time: SharedTimeSource,
    ) -> Arc<Self> {
        Arc::new(Self {
            issuer,
            refresh_interval: options.refresh_interval,
            min_refresh_interval: options.min_refresh_interval,
            max_stale: options.max_stale,
            fetch_timeout: options.fetch_timeout,
            documents,
            time,
            held: ArcSwapOption::empty(),
            flight: Arc::default(),
            last_try: Mutex::new(None),
            waiting: Semaphore::new(MAX_WAITING),
        })
    }

    /// The keys, unless they are too old.
    pub(crate) fn usable(&self) -> Option<Arc<Held>> {
        let held = self.held.load_full()?;
        (self.age(&held) <= self.max_stale).then_some(held)
    }

    fn age(&self, held: &Held) -> Duration {
        self.since(held.fetched, held.fetched_wall)
    }

    /// Of a process that was frozen the monotonic clock may have stood still.
    fn since(&self, at: Instant, wall: SystemTime) -> Duration {
        at.elapsed().max(self.time.now().duration_since(wall).unwrap_or_default())
    }

    /// The keys with the one that a token names among them, fetched for it if need be.
    pub(crate) async fn holding(self: &Arc<Self>, header: &Header) -> Result<Arc<Held>, NoKey> {
        if let Some(held) = self.usable().filter(|held| held.find(header).is_some()) {
            return Ok(held);
        }
        self.look_again().await?;
        let held = self.usable().ok_or(NoKey::Unavailable)?;
        if held.find(header).is_some() { Ok(held) } else { Err(NoKey::Unknown) }
    }

    /// Fetches, waits for who does, or leaves it because it was done a moment ago.
    async fn look_again(self: &Arc<Self>) -> Result<(), NoKey> {
        match Arc::clone(&self.flight).try_lock_owned() {
            Ok(_) if self.tried_lately() => Ok(()),
            Ok(flight) => {
                let _place = self.waiting.try_acquire().map_err(|_| NoKey::Overloaded)?;
                // A task of its own: a client that hangs up does not end the fetch for the others.
                let fetch = tokio::spawn(Arc::clone(self).fetch(flight));
                // It has a limit of its own and says itself what went wrong.
                let _ = fetch.await;
                Ok(())
            }
            Err(_) => {
                let _place = self.waiting.try_acquire().map_err(|_| NoKey::Overloaded)?;
                drop(self.flight.lock().await);
                Ok(())
            }
        }
    }

    fn tried_lately(&self) -> bool {
        let last = *self.last_try.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|(at, wall)| self.since(at, wall) < self.min_refresh_interval)
    }

    /// Fetches the keys if that is due, as [`IssuerKeys::follow`] would have done it, and waits for it.
    pub(crate) async fn freshen(self: &Arc<Self>) {
        let held = self.held.load_full();
        if held.is_none_or(|held| self.age(&held) >= self.refresh_interval) {
            // What there is not then is missed where it is needed.
            let _ = self.look_again().await;
        }
    }

    /// Keeps the keys fresh until `stop`.
    pub(crate) async fn follow(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let flight = Arc::clone(&self.flight).lock_owned().await;
            let well = match self.tried_lately() {
                true => self.usable().is_some(),
                false => tokio::select! { biased;
                    () = stop.cancelled() => return,
                    well = Arc::clone(&self).fetch(flight) => well,
                },
            };
            let pause = if well { self.refresh_interval } else { self.min_refresh_interval };
            tokio::select! { biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One try; true if there are new, or the same, keys.
    async fn fetch(self: Arc<Self>, _flight: OwnedMutexGuard<()>) -> bool {
        let (fetched, fetched_wall) = (Instant::now(), self.time.now());
        *self.last_try.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((fetched, fetched_wall));
        let answer = tokio::time::timeout(self.fetch_timeout, self.key_set()).await;
        let timeout = || DocumentError(format!("no answer within {:?}", self.fetch_timeout));
        let outcome = answer.unwrap_or_else(|_| Err(timeout()));
        metrics::issuer_keys_fetched(outcome.is_ok());
        let issuer = self.issuer.issuer.as_str();
        match outcome {
            Ok(keys) => {
                let before = self.held.load_full();
                let generation = match &before {
                    Some(before) if before.keys == keys => before.generation,
                    Some(before) => before.generation + 1,
                    None => 0,
                };
                if before.is_none_or(|before| before.generation != generation) {
                    tracing::info!(
                        issuer,
                        keys = keys.len(),
                        generation,
                        "keys of an issuer taken"
                    );
                }
                let held = Held { keys, generation, fetched, fetched_wall };
                self.held.store(Some(Arc::new(held)));
                true
            }
            Err(error) => {
                let kept = self.usable().is_some();
                tracing::warn!(issuer, %error, kept, "keys of an issuer cannot be fetched");
                false
            }
        }
    }

    async fn key_set(&self) -> Result<KeySet, DocumentError> {
        let uri = match &self.issuer.jwks_uri {
            Some(uri) => uri.clone(),
            None => self.discovered().await?,
        };
        let document = self.documents.get(&uri, MAX_DOCUMENT_BYTES).await?;
        let keys = KeySet::read(&document).filter(|keys| keys.len() > 0);
        keys.ok_or_else(|| {
            DocumentError(format!("{uri}: not a key set with a key that can be used"))
        })
    }

    /// Where the issuer says that its keys are.
    async fn discovered(&self) -> Result<String, DocumentError> {
        let issuer = self.issuer.issuer.as_str();
        let uri = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let document = self.documents.get(&uri, MAX_DOCUMENT_BYTES).await?;
        let refused = |why: &str| DocumentError(format!("{uri}: {why}"));
        let members = json::object(&document).ok_or_else(|| refused("not a JSON object"))?;
        let text = |name: &str| members.get(name).and_then(|value| value.as_str());
        if text("issuer") != Some(issuer) {
            return Err(refused("its issuer is another one"));
        }
        let keys = text("jwks_uri").ok_or_else(|| refused("it has no jwks_uri"))?;
        let plain_is_fine = issuer.starts_with("http://") || keys.starts_with("https://");
        if may_be_fetched(keys) && plain_is_fine {
            Ok(keys.to_owned())
        } else {
            Err(refused("its jwks_uri is not an https URL"))
        }
    }
}
