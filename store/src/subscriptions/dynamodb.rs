//! [`SubscriptionStore`]: subscriptions in the access table, each change with its epoch.
//!
//! All reads are strongly consistent: nothing is ever filtered out by a stale view.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_dynamodb::types::TransactWriteItem;

use super::document::{PARTITION, from_item, to_item};
use super::owned::owned_row;
use super::{DeliveryOrder, Destination, Subscription, SubscriptionId};
use crate::access::{self, Change, Client, ClientId, audit};
use crate::epoch::EpochTable;
use crate::error::StoreError;

/// Most subscriptions of one application.
const MAX_SUBSCRIPTIONS: usize = 20_000;
/// Times a snapshot is read again because something changed meanwhile.
const MAX_READS: usize = 5;

/// Most event types of one subscription.
const MAX_TYPES: usize = 100;
/// Longest event type, in bytes.
const MAX_TYPE_BYTES: usize = 256;

/// The epoch of subscriptions.
const EPOCH: &str = "subscriptions";

/// What changes with every change of what may be pushed to whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionEpochs {
    /// Of the subscriptions; 0 before the first.
    pub subscriptions: u64,
    /// Of clients and keys; 0 before the first.
    pub access: u64,
}

/// All subscriptions, and the clients that own them, as of one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriptionSnapshot {
    /// The epochs that they are of.
    pub epochs: SubscriptionEpochs,
    /// All of them, in the order of their ids.
    pub subscriptions: Vec<Subscription>,
    /// All clients: a subscription may deliver what its owner is granted, and nothing else.
    pub clients: BTreeMap<ClientId, Arc<Client>>,
}

/// Subscriptions in the table `<app>-access`.
#[derive(Clone, Debug)]
pub struct SubscriptionStore {
    pub(super) table: EpochTable,
}

impl SubscriptionStore {
    /// Over the table of the application `app`. The client's timeouts are its maker's.
    pub fn new(client: aws_sdk_dynamodb::Client, app: &str) -> SubscriptionStore {
        let table = EpochTable::new(client, crate::tables::access_table(app), EPOCH);
        SubscriptionStore { table }
    }

    /// Stores a subscription if nobody changed it since its version was read (0: it must be new), and
    /// gives it back with its new version. [`StoreError::Conflict`] if somebody did.
    pub async fn put(&self, subscription: &Subscription) -> Result<Subscription, StoreError> {
        self.put_with(subscription, Vec::new()).await
    }

    /// The same, and it is written down who did it: `action` says what, such as `subscription.create`.
    pub async fn put_as(
        &self,
        subscription: &Subscription,
        action: &str,
        change: &Change<'_>,
    ) -> Result<Subscription, StoreError> {
        let entry = audit::to_item(change, action, subscription.id.as_str());
        self.put_with(subscription, vec![self.table.put_any("put subscription", entry)?]).await
    }

    /// Writes down who did something that is kept elsewhere, before it is done: `action` says what, `subject` to what.
    pub async fn note_as(
        &self,
        action: &str,
        subject: &str,
        change: &Change<'_>,
    ) -> Result<(), StoreError> {
        let entry = audit::to_item(change, action, subject);
        self.table.put_quietly("write the audit log", entry).await
    }

    async fn put_with(
        &self,
        subscription: &Subscription,
        mut changes: Vec<TransactWriteItem>,
    ) -> Result<Subscription, StoreError> {
        let operation = "put subscription";
        check(subscription).map_err(|detail| StoreError::Invalid { operation, detail })?;
        self.check_order(operation, subscription).await?;
        changes.push(self.table.put(operation, to_item(subscription)?, subscription.version)?);
        // Whatever there was: it says the same, and one that was not listed yet is from now on.
        changes.push(self.table.put_any(operation, owned_row(subscription))?);
        let what = format!("subscription {}", subscription.id);
        self.table.commit(operation, &what, changes).await?;
        let version = subscription.version.saturating_add(1);
        Ok(Subscription { version, ..subscription.clone() })
    }

    /// What waits in order can only be worked off in order: a subscription that has an order keeps one.
    async fn check_order(
        &self,
        operation: &'static str,
        subscription: &Subscription,
    ) -> Result<(), StoreError> {
        if subscription.policy.order != DeliveryOrder::None || subscription.version == 0 {
            return Ok(());
        }
        match self.get(&subscription.id).await? {
            Some(before) if before.policy.order != DeliveryOrder::None => {
                let found = &subscription.id;
                let detail = format!(
                    "order of {found} is changed to \"none\": \"key\" and \"shard\" are allowed, because messages may wait in order; make another subscription"
                );
                Err(StoreError::Invalid { operation, detail })
            }
            _ => Ok(()),
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

    /// Reads all subscriptions and clients with the epochs that they are of: nothing changed while
    /// they were read.
    pub async fn snapshot(&self) -> Result<SubscriptionSnapshot, StoreError> {
        let mut before = self.epochs().await?;
        for _ in 0..MAX_READS {
            let subscriptions = self.load_all().await?;
            let clients = self.load_clients().await?;
            let after = self.epochs().await?;
            if after == before {
                return Ok(SubscriptionSnapshot { epochs: after, subscriptions, clients });
            }
            before = after;
        }
        Err(StoreError::Unavailable {
            operation: "load subscriptions",
            detail: format!("they or their clients changed during each of {MAX_READS} readings"),
        })
    }

    /// One that cannot be read fails the whole: without its grants, its messages would be lost in
    /// silence.
    async fn load_clients(&self) -> Result<BTreeMap<ClientId, Arc<Client>>, StoreError> {
        let operation = "load the subscriptions' clients";
        let items = self.table.all(operation, access::CLIENTS, access::MAX_CLIENTS).await?;
        let clients = items.iter().filter_map(|item| access::read_client(item).transpose());
        clients.map(|client| client.map(|c| (c.id.clone(), Arc::new(c)))).collect()
    }

    /// The epochs, in one small read: they change with every change of any subscription, client or key.
    pub async fn epochs(&self) -> Result<SubscriptionEpochs, StoreError> {
        let names = [EPOCH, access::EPOCH];
        let [subscriptions, access] = self.table.read_all("read epochs", names).await?;
        Ok(SubscriptionEpochs { subscriptions, access })
    }
}

/// What no subscription may be stored with.
fn check(subscription: &Subscription) -> Result<(), String> {
    subscription.policy.check().map_err(|e| e.to_string())?;
    match &subscription.destination {
        Destination::Webhook(webhook) => webhook.check()?,
        Destination::Sqs(_) | Destination::Sns(_) | Destination::EventBridge(_) => {}
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
    if subscription.types.len() > MAX_TYPES {
        let found = subscription.types.len();
        return Err(format!("{found} event types: up to {MAX_TYPES} are allowed"));
    }
    let is_type = |text: &String| (1..=MAX_TYPE_BYTES).contains(&text.len());
    if let Some(found) = subscription.types.iter().find(|text| !is_type(text)) {
        let bytes = found.len();
        return Err(format!("an event type of {bytes} bytes: 1 to {MAX_TYPE_BYTES} are allowed"));
    }
    Ok(())
}
