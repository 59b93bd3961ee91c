//! Subscriptions that were deleted, for as long as something may be left of them: what waits in chains is found by its subscription's id
//! alone.

use aws_sdk_dynamodb::types::TransactWriteItem;

use super::owned::owned_partition;
use super::{SubscriptionId, SubscriptionStore};
use crate::access::{Change, audit};
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
        self.delete_with(id, now_ms, Vec::new()).await
    }

    /// The same, and it is written down who did it.
    pub async fn delete_as(
        &self,
        id: &SubscriptionId,
        change: &Change<'_>,
    ) -> Result<bool, StoreError> {
        let entry = audit::to_item(change, "subscription.delete", id.as_str());
        let entry = self.table.put_any("delete subscription", entry)?;
        self.delete_with(id, change.at_ms, vec![entry]).await
    }

    async fn delete_with(
        &self,
        id: &SubscriptionId,
        now_ms: i64,
        mut changes: Vec<TransactWriteItem>,
    ) -> Result<bool, StoreError> {
        let operation = "delete subscription";
        // Its owner is read for its place in the owner's list; an owner never changes.
        let Some(found) = self.get(id).await? else { return Ok(false) };
        let mut note = key(PARTITION, id.as_str());
        note.insert(DELETED_AT.to_owned(), n(now_ms));
        changes.extend([
            self.table.delete(operation, super::document::PARTITION, id.as_str())?,
            self.table.delete_any(operation, &owned_partition(&found.client), id.as_str())?,
            self.table.put_any(operation, note)?,
        ]);
        match self.table.commit(operation, &format!("subscription {id}"), changes).await {
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
