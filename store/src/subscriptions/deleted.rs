//! Subscriptions that were deleted, for as long as something may be left of them: what waits in chains is found by its subscription's id
//! alone.

use super::{SubscriptionId, SubscriptionStore};
use crate::error::StoreError;
use crate::item::{ItemReader, SK, key, n};

const PARTITION: &str = "deleted-subscriptions";
const DELETED_AT: &str = "deletedAt";
/// Most that may be noted at once.
const MOST: usize = 20_000;

/// A subscription that was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedSubscription {
    /// Its id.
    pub id: SubscriptionId,
    /// When it was deleted, in ms since 1970.
    pub at_ms: i64,
}

impl SubscriptionStore {
    /// Deletes a subscription, and notes at `now_ms` that it was; false if there was none.
    pub async fn delete(&self, id: &SubscriptionId, now_ms: i64) -> Result<bool, StoreError> {
        let operation = "delete subscription";
        let delete = self.table.delete(operation, super::document::PARTITION, id.as_str())?;
        let mut note = key(PARTITION, id.as_str());
        note.insert(DELETED_AT.to_owned(), n(now_ms));
        let note = self.table.put_any(operation, note)?;
        match self.table.commit(operation, &format!("subscription {id}"), vec![delete, note]).await
        {
            Ok(()) => Ok(true),
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The subscriptions that were deleted and not [forgotten](Self::forget) since, in the order of their ids; one of them may be there
    /// again.
    pub async fn deleted(&self) -> Result<Vec<DeletedSubscription>, StoreError> {
        let found = self.table.all("list deleted subscriptions", PARTITION, MOST).await?;
        let read = |reader: &ItemReader| {
            let at_ms = reader.number(DELETED_AT)?;
            Ok(DeletedSubscription { id: reader.parsed(SK, SubscriptionId::parse)?, at_ms })
        };
        found.iter().map(read).collect()
    }

    /// Nothing is left of a deleted subscription: it is noted no longer.
    pub async fn forget(&self, id: &SubscriptionId) -> Result<(), StoreError> {
        self.table.remove("forget a deleted subscription", PARTITION, id.as_str()).await
    }
}
