//! From an API key to its client.

use std::sync::Arc;

use store::{AccessStore, ApiKey, Client, KeyCheck, KeyId, KeyRecord, StoreError};
use tokio_util::sync::CancellationToken;

use super::Peer;
use super::lookups::Lookups;
use super::reason::{Denied, Reason};
use super::uses::{LastNoted, Uses};
use crate::metrics;
use crate::options::Limits;

/// A key's record with the client it belongs to, if that still exists.
#[derive(Debug)]
struct Holder {
    record: KeyRecord,
    client: Option<Arc<Client>>,
    last_noted: LastNoted,
}

/// See the module.
pub(super) struct Keys {
    access: AccessStore,
    holders: Lookups<KeyId, Holder>,
    uses: Uses,
}

impl Keys {
    pub(super) fn new(access: AccessStore, limits: &Limits) -> Self {
        let per_second = limits.unknown_key_lookups_per_second;
        Self {
            holders: Lookups::new(limits.max_cached_keys, per_second),
            uses: Uses::new(access.clone(), limits.max_cached_keys),
            access,
        }
    }

    /// Writes when keys were last used, until `stop`.
    pub(super) async fn write_uses(&self, stop: CancellationToken) {
        self.uses.write(stop).await;
    }

    /// Writes when keys were last used, now.
    pub(super) async fn settle(&self) {
        self.uses.settle().await;
    }

    /// The client whose key this is, by what was true under this epoch.
    pub(super) async fn client(
        &self,
        key: &ApiKey,
        peer: &Peer,
        epoch: u64,
        now_ms: i64,
    ) -> Result<Arc<Client>, Denied> {
        let holder = self.holders.get(key.id(), epoch, || self.look_up(key.id())).await?;
        let holder = holder.ok_or(Reason::UnknownKey)?;
        match holder.record.check(key, self.access.pepper(), now_ms, peer.address) {
            KeyCheck::Valid => {}
            bad => return Err(Reason::Check(bad).into()),
        }
        let client = holder.client.as_ref().ok_or(Reason::ClientGone)?;
        if !client.enabled {
            return Err(Reason::ClientDisabled.into());
        }
        self.uses.note(key.id(), &holder.last_noted, now_ms);
        Ok(Arc::clone(client))
    }

    async fn look_up(&self, id: &KeyId) -> Result<Option<Arc<Holder>>, StoreError> {
        metrics::key_looked_up();
        let Some(record) = self.access.get_key(id).await? else {
            return Ok(None);
        };
        let client = self.access.get_client(&record.client).await?.map(Arc::new);
        Ok(Some(Arc::new(Holder { record, client, last_noted: LastNoted::default() })))
    }
}
