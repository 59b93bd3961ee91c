//! From an API key to its client.

use std::sync::Arc;

use store::{AccessStore, ApiKey, Client, KeyCheck, KeyId, KeyRecord, StoreError};

use super::lookups::Lookups;
use super::reason::{Denied, Reason};
use crate::metrics;
use crate::options::Limits;

/// A key's record with the client it belongs to, if that still exists.
#[derive(Debug)]
struct Holder {
    record: KeyRecord,
    client: Option<Arc<Client>>,
}

/// See the module.
pub(super) struct Keys {
    access: AccessStore,
    holders: Lookups<KeyId, Holder>,
}

impl Keys {
    pub(super) fn new(access: AccessStore, limits: &Limits) -> Self {
        let per_second = limits.unknown_key_lookups_per_second;
        Self { access, holders: Lookups::new(limits.max_cached_keys, per_second) }
    }

    /// The client whose key this is, by what was true under this epoch.
    pub(super) async fn client(
        &self,
        key: &ApiKey,
        epoch: u64,
        now_ms: i64,
    ) -> Result<Arc<Client>, Denied> {
        let holder = self.holders.get(key.id(), epoch, || self.look_up(key.id())).await?;
        let holder = holder.ok_or(Reason::UnknownKey)?;
        match holder.record.check(key, self.access.pepper(), now_ms) {
            KeyCheck::Valid => {}
            bad => return Err(Reason::Check(bad).into()),
        }
        let client = holder.client.as_ref().ok_or(Reason::ClientGone)?;
        if client.enabled { Ok(Arc::clone(client)) } else { Err(Reason::ClientDisabled.into()) }
    }

    async fn look_up(&self, id: &KeyId) -> Result<Option<Arc<Holder>>, StoreError> {
        metrics::key_looked_up();
        let Some(record) = self.access.get_key(id).await? else {
            return Ok(None);
        };
        let client = self.access.get_client(&record.client).await?.map(Arc::new);
        Ok(Some(Arc::new(Holder { record, client })))
    }
}
