//! Who is asking: from a request's key to a client, by a cache that knows when it is out of date.
//!
//! An entry holds while the access epoch is the one it was read under. Keys that do not exist are
//! remembered apart, so that no flood of them can push out the others, and are looked up at a
//! limited rate. Start at [`Authenticator::client`].

use std::sync::{Arc, Mutex};
use std::time::UNIX_EPOCH;

use aws_smithy_async::time::SharedTimeSource;
use http::HeaderMap;
use store::{AccessStore, ApiKey, Class, Client, KeyCheck, KeyId, KeyRecord, StoreError};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::epoch::{EpochError, EpochView};
use super::gate::{Limiter, limiter};
use super::generations::Generations;
use super::presented::{self, Unusable};
use crate::metrics;
use crate::options::Limits;

/// Why nobody was let in. Only the kind reaches the client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Whoever asks has not proven who they are; always answered alike.
    Unauthenticated,
    /// Too many unknown or failing keys at the moment; known ones still work.
    Overloaded,
    /// The store does not answer, so nobody can be recognised.
    Unavailable,
}

/// Why a key was not taken, for the log and the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Unusable(Unusable),
    UnknownKey,
    Check(KeyCheck),
    ClientGone,
    ClientDisabled,
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Unusable(Unusable::Missing) => "missing",
            Self::Unusable(Unusable::Several) => "several",
            Self::Unusable(Unusable::Malformed) => "malformed",
            Self::UnknownKey => "unknown-key",
            Self::Check(KeyCheck::Valid) => "valid",
            Self::Check(KeyCheck::WrongSecret) => "wrong-secret",
            Self::Check(KeyCheck::Expired) => "expired",
            Self::Check(KeyCheck::Revoked) => "revoked",
            Self::ClientGone => "client-gone",
            Self::ClientDisabled => "client-disabled",
        }
    }
}

/// A key's record with the client it belongs to, if that still exists.
#[derive(Debug)]
struct Holder {
    record: KeyRecord,
    client: Option<Arc<Client>>,
}

/// What was read of a key id under one epoch; requests for the same id wait for one look-up.
#[derive(Debug)]
struct Slot {
    epoch: u64,
    holder: OnceCell<Option<Arc<Holder>>>,
}

/// See the module.
pub(crate) struct Authenticator {
    access: AccessStore,
    time: SharedTimeSource,
    view: EpochView,
    /// Ids that exist or existed. Every request takes it for a copy of one `Arc`; never held over
    /// an await.
    known: Mutex<Generations<KeyId, Arc<Slot>>>,
    /// Ids that did not exist under an epoch. Same rule.
    unknown: Mutex<Generations<KeyId, u64>>,
    lookups: Limiter,
    failures: Limiter,
}

impl Authenticator {
    pub(crate) fn new(access: AccessStore, time: SharedTimeSource, limits: &Limits) -> Self {
        let (lookups, failures) =
            (limits.unknown_key_lookups_per_second, limits.failed_authentications_per_second);
        Self {
            view: EpochView::new(access.clone(), time.clone()),
            access,
            time,
            known: Mutex::new(Generations::new(limits.max_cached_keys)),
            unknown: Mutex::new(Generations::new(limits.max_cached_keys)),
            lookups: limiter(lookups, lookups),
            failures: limiter(failures, failures),
        }
    }

    /// Follows changes of access until `stop`.
    pub(crate) async fn watch(&self, stop: CancellationToken) {
        self.view.watch(stop).await;
    }

    /// Whether changes of access have been visible lately.
    pub(crate) fn sees_changes(&self) -> bool {
        self.view.sees_changes()
    }

    /// The client whose key the request carries.
    pub(crate) async fn client(&self, headers: &HeaderMap) -> Result<Arc<Client>, Refused> {
        let key = match presented::key(headers) {
            Ok(key) => key,
            Err(unusable) => return Err(self.failed(Reason::Unusable(unusable), None)),
        };
        let epoch = self.view.current().await.map_err(|error| unreadable(&error))?;
        let holder = self.holder(key.id(), epoch).await?;
        self.judge(holder.as_deref(), &key).map_err(|reason| self.failed(reason, Some(key.id())))
    }

    fn judge(&self, holder: Option<&Holder>, key: &ApiKey) -> Result<Arc<Client>, Reason> {
        let holder = holder.ok_or(Reason::UnknownKey)?;
        match holder.record.check(key, self.access.pepper(), self.now_ms()) {
            KeyCheck::Valid => {}
            bad => return Err(Reason::Check(bad)),
        }
        let client = holder.client.as_ref().ok_or(Reason::ClientGone)?;
        if client.enabled { Ok(Arc::clone(client)) } else { Err(Reason::ClientDisabled) }
    }

    /// What is known of a key id under this epoch; `None`: there is no such key.
    async fn holder(&self, id: &KeyId, epoch: u64) -> Result<Option<Arc<Holder>>, Refused> {
        if let Some(slot) = self.slot(id, epoch) {
            let holder = slot.holder.get_or_try_init(|| self.look_up(id)).await;
            return holder.cloned().map_err(|error| unreadable(&EpochError::Store(error)));
        }
        if self.unknown.lock().is_ok_and(|mut unknown| unknown.get(id) == Some(epoch)) {
            return Ok(None);
        }
        if self.lookups.check().is_err() {
            metrics::authentication_failed("overloaded");
            return Err(Refused::Overloaded);
        }
        let holder =
            self.look_up(id).await.map_err(|error| unreadable(&EpochError::Store(error)))?;
        if holder.is_none() {
            if let Ok(mut unknown) = self.unknown.lock() {
                unknown.insert(id.clone(), epoch);
            }
        } else if let Ok(mut known) = self.known.lock() {
            let slot = Slot { epoch, holder: OnceCell::new_with(Some(holder.clone())) };
            known.insert(id.clone(), Arc::new(slot));
        }
        Ok(holder)
    }

    /// The slot of an id that was seen before, a fresh one if the epoch has moved on.
    fn slot(&self, id: &KeyId, epoch: u64) -> Option<Arc<Slot>> {
        let mut known = self.known.lock().ok()?;
        let slot = known.get(id)?;
        if slot.epoch == epoch {
            return Some(slot);
        }
        let fresh = Arc::new(Slot { epoch, holder: OnceCell::new() });
        known.insert(id.clone(), Arc::clone(&fresh));
        Some(fresh)
    }

    async fn look_up(&self, id: &KeyId) -> Result<Option<Arc<Holder>>, StoreError> {
        metrics::key_looked_up();
        let Some(record) = self.access.get_key(id).await? else {
            return Ok(None);
        };
        let client = self.access.get_client(&record.client).await?.map(Arc::new);
        Ok(Some(Arc::new(Holder { record, client })))
    }

    /// Counts and notes a failure; the first ones of each second are answered as such, the others
    /// as overload.
    fn failed(&self, reason: Reason, id: Option<&KeyId>) -> Refused {
        metrics::authentication_failed(reason.as_str());
        if self.failures.check().is_err() {
            return Refused::Overloaded;
        }
        tracing::info!(
            reason = reason.as_str(),
            key_id = id.map_or("-", KeyId::as_str),
            "authentication failed"
        );
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
