//! Who is asking: from what a request carries to a client, by caches that know when they are out of
//! date. Start at [`Authenticator::client`]; API keys are in `keys`, access tokens in `bearers`.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use aws_smithy_async::time::SharedTimeSource;
use http::HeaderMap;
use store::{AccessStore, Class, Client, KeyId};
use tokio_util::sync::CancellationToken;

use super::Peer;
use super::bearers::Bearers;
use super::budget::{Limiter, limiter};
use super::epoch::{EpochError, EpochView};
use super::keys::Keys;
use super::oauth::Tokens;
use super::presented::{self, Presented};
use super::reason::{Denied, Reason, Refused};
use crate::options::Limits;
use crate::{audit, metrics};

/// See the module.
pub(crate) struct Authenticator {
    time: SharedTimeSource,
    view: Arc<EpochView>,
    keys: Keys,
    bearers: Bearers,
    failures: Limiter,
}

impl Authenticator {
    pub(crate) fn new(
        access: AccessStore,
        tokens: Tokens,
        time: SharedTimeSource,
        limits: &Limits,
    ) -> Self {
        let failures = limits.failed_authentications_per_second;
        Self {
            view: Arc::new(EpochView::new(access.clone(), time.clone())),
            keys: Keys::new(access.clone(), limits),
            bearers: Bearers::new(access, tokens, limits),
            time,
            failures: limiter(failures, failures),
        }
    }

    /// Follows changes of access and the keys of issuers, and writes when keys were last used, until
    /// `stop`.
    pub(crate) async fn watch(&self, stop: CancellationToken) {
        tokio::join!(
            self.view.watch(stop.clone()),
            self.bearers.follow(stop.clone()),
            self.keys.write_uses(stop),
        );
    }

    /// What it knows of changes of access.
    pub(crate) fn view(&self) -> Arc<EpochView> {
        Arc::clone(&self.view)
    }

    /// Looks again at what may be too old to judge these headers by: for a host without the watch.
    pub(crate) async fn freshen(&self, headers: &HeaderMap) {
        // Whoever needs the view and cannot have it says so.
        let _ = self.view.current().await;
        if matches!(presented::credential(headers, true), Ok(Presented::Token(_))) {
            self.bearers.freshen().await;
        }
    }

    /// Writes when keys were last used, as far as that is not written yet.
    pub(crate) async fn settle(&self) {
        self.keys.settle().await;
    }

    /// Whether changes of access have been visible lately.
    pub(crate) fn sees_changes(&self) -> bool {
        self.view.sees_changes()
    }

    /// The client whose key or token the request carries.
    pub(crate) async fn client(
        &self,
        headers: &HeaderMap,
        peer: &Peer,
    ) -> Result<Arc<Client>, Refused> {
        let presented = match presented::credential(headers, !self.bearers.are_off()) {
            Ok(presented) => presented,
            Err(unusable) => return Err(self.failed(Reason::Unusable(unusable), None)),
        };
        let epoch = self.view.current().await.map_err(|error| unreadable(&error))?;
        match presented {
            Presented::Key(key) => {
                let client = self.keys.client(&key, peer, epoch, self.now_ms()).await;
                audit::recognised_by(key.id());
                client.map_err(|denied| self.denied(denied, Some(key.id())))
            }
            Presented::Token(text) => {
                let client = self.bearers.client(text, peer, epoch, self.now_ms()).await;
                client.map_err(|denied| self.denied(denied, None))
            }
        }
    }

    fn denied(&self, denied: Denied, key: Option<&KeyId>) -> Refused {
        match denied {
            Denied::Because(reason) => self.failed(reason, key),
            Denied::Overloaded => {
                metrics::authentication_failed("overloaded");
                Refused::Overloaded
            }
            Denied::Store(error) => unreadable(&EpochError::Store(error)),
            // What cannot be fetched is said where it is fetched.
            Denied::NoIssuerKeys => Refused::Unavailable,
        }
    }

    /// Counts and notes a failure; the first ones of each second are answered as such, the others
    /// as overload.
    fn failed(&self, reason: Reason, key: Option<&KeyId>) -> Refused {
        metrics::authentication_failed(reason.as_str());
        if self.failures.check().is_err() {
            return Refused::Overloaded;
        }
        audit::unauthenticated(reason.as_str(), key);
        Refused::Unauthenticated
    }

    fn now_ms(&self) -> i64 {
        let since = self.time.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

fn unreadable(error: &EpochError) -> Refused {
    let class = match error {
        EpochError::Store(error) => error.class(),
        EpochError::Timeout => Class::Retry,
    };
    metrics::store_failed(class);
    tracing::warn!(%error, "nobody can be recognised");
    Refused::Unavailable
}
