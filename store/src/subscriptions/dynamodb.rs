//! [`SubscriptionStore`]: subscriptions in the access table, each change with its epoch.
//!
//! All reads are strongly consistent: nothing is ever filtered out by a stale view.

use aws_sdk_dynamodb::Client;

use super::document::{PARTITION, from_item, to_item};
use super::{Destination, Subscription, SubscriptionId};
use crate::epoch::EpochTable;
use crate::error::StoreError;

/// Most subscriptions of one application.
const MAX_SUBSCRIPTIONS: usize = 20_000;
/// Times a snapshot is read again because something changed meanwhile.
const MAX_READS: usize = 5;
/// Most secrets that sign for one destination at once.
const MAX_SECRETS: usize = 10;

/// All subscriptions as of one epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriptionSnapshot {
    /// The epoch that they are of.
    pub epoch: u64,
    /// All of them, in the order of their ids.
    pub subscriptions: Vec<Subscription>,
}

/// Subscriptions in the table `<app>-access`.
#[derive(Clone, Debug)]
pub struct SubscriptionStore {
    table: EpochTable,
}

impl SubscriptionStore {
    /// Over the table of the application `app`. The client's timeouts are its maker's.
    pub fn new(client: Client, app: &str) -> SubscriptionStore {
        let table = EpochTable::new(client, crate::tables::access_table(app), "subscriptions");
        SubscriptionStore { table }
    }

    /// Stores a subscription if nobody changed it since its version was read (0: it must be new), and
    /// gives it back with its new version. [`StoreError::Conflict`] if somebody did.
    pub async fn put(&self, subscription: &Subscription) -> Result<Subscription, StoreError> {
        let operation = "put subscription";
        check(subscription).map_err(|detail| StoreError::Invalid { operation, detail })?;
        let put = self.table.put(operation, to_item(subscription)?, subscription.version)?;
        let what = format!("subscription {}", subscription.id);
        self.table.commit(operation, &what, vec![put]).await?;
        let version = subscription.version.saturating_add(1);
        Ok(Subscription { version, ..subscription.clone() })
    }

    /// Deletes a subscription; false if there was none.
    pub async fn delete(&self, id: &SubscriptionId) -> Result<bool, StoreError> {
        let operation = "delete subscription";
        let delete = self.table.delete(operation, PARTITION, id.as_str())?;
        match self.table.commit(operation, &format!("subscription {id}"), vec![delete]).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads one subscription.
    pub async fn get(&self, id: &SubscriptionId) -> Result<Option<Subscription>, StoreError> {
        let found = self.table.get("get subscription", PARTITION, id.as_str()).await?;
        found.as_ref().map(from_item).transpose()
    }

    /// Reads all subscriptions, in the order of their ids. One that cannot be read fails the whole:
    /// going on without it would lose its messages in silence.
    pub async fn load_all(&self) -> Result<Vec<Subscription>, StoreError> {
        let items = self.table.all("load subscriptions", PARTITION, MAX_SUBSCRIPTIONS).await?;
        items.iter().map(from_item).collect()
    }

    /// Reads all subscriptions with the epoch that they are of: nothing changed while they were read.
    pub async fn snapshot(&self) -> Result<SubscriptionSnapshot, StoreError> {
        let mut before = self.epoch().await?;
        for _ in 0..MAX_READS {
            let subscriptions = self.load_all().await?;
            let after = self.epoch().await?;
            if after == before {
                return Ok(SubscriptionSnapshot { epoch: after, subscriptions });
            }
            before = after;
        }
        Err(StoreError::Unavailable {
            operation: "load subscriptions",
            detail: format!("they changed during each of {MAX_READS} readings"),
        })
    }

    /// The epoch: it changes with every change of any subscription. 0 before the first.
    pub async fn epoch(&self) -> Result<u64, StoreError> {
        self.table.read("read subscriptions' epoch").await
    }
}

/// What no subscription may be stored with.
fn check(subscription: &Subscription) -> Result<(), String> {
    subscription.policy.check().map_err(|e| e.to_string())?;
    let Destination::Webhook { secrets, .. } = &subscription.destination;
    if !(1..=MAX_SECRETS).contains(&secrets.len()) {
        return Err(format!("{} signing secrets: 1 to {MAX_SECRETS} are allowed", secrets.len()));
    }
    if subscription.integrations.len() > 100 {
        return Err(format!(
            "{} integrations: up to 100 are allowed",
            subscription.integrations.len()
        ));
    }
    if subscription.entity_prefix.as_ref().is_some_and(|prefix| prefix.len() > 512) {
        return Err("the entity prefix has more than 512 bytes".to_owned());
    }
    Ok(())
}
