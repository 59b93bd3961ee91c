//! API keys in the access table: issued once, listed without their secrets, revoked at once.

use std::time::Duration;

use super::document::{
    CLIENTS, DELETED_AT, KEY, REVOKED_AT, key_item, key_partition, list_partition, read_key,
};
use super::{AccessStore, ApiKey, Change, ClientId, KeyId, KeyRecord, NewKey, audit};
use crate::epoch::not_built;
use crate::error::StoreError;
use crate::item::{Item, PK, SK, key, n};
use aws_sdk_dynamodb::types::{ConditionCheck, TransactWriteItem, Update};

/// How long a key works unless said otherwise.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3_600);
/// How long a key may work at most: 10 years.
const MAX_LIFETIME: Duration = Duration::from_secs(3_650 * 24 * 3_600);
/// Most keys ever made for one client.
const MAX_KEYS: usize = 1_000;

impl AccessStore {
    /// Keeps what is needed of a new key ([`ApiKey::generate`]) for a client that exists. Without a
    /// lifetime it works for 90 days. The answer holds the key in clear: show it once.
    pub async fn issue_key(
        &self,
        key: ApiKey,
        client: &ClientId,
        label: &str,
        lifetime: Option<Duration>,
        change: &Change<'_>,
    ) -> Result<NewKey, StoreError> {
        let operation = "issue key";
        let lifetime = lifetime.unwrap_or(DEFAULT_LIFETIME);
        if lifetime.is_zero() || lifetime > MAX_LIFETIME || label.len() > 200 {
            let detail = "a lifetime of up to 10 years and a label of up to 200 bytes are allowed";
            return Err(StoreError::Invalid { operation, detail: detail.to_owned() });
        }
        let lifetime_ms = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
        let record = KeyRecord {
            id: key.id().clone(),
            client: client.clone(),
            hash: self.pepper.hash(&key),
            label: label.to_owned(),
            created_at_ms: change.at_ms,
            expires_at_ms: change.at_ms.saturating_add(lifetime_ms),
            revoked_at_ms: None,
        };
        let changes = vec![
            self.client_exists(operation, client)?,
            self.table.put(operation, key_item(&record), 0)?,
            self.table.put(operation, list_item(client, &record.id), 0)?,
            self.table
                .put_any(operation, audit::to_item(change, "key.issue", record.id.as_str()))?,
        ];
        let what = format!("client {client} (missing) or key {} (made before)", record.id);
        self.table.commit(operation, &what, changes).await?;
        Ok(NewKey { key, record })
    }

    /// Holds a transaction to a client that exists.
    pub(super) fn client_exists(
        &self,
        operation: &'static str,
        client: &ClientId,
    ) -> Result<TransactWriteItem, StoreError> {
        let check = ConditionCheck::builder()
            .table_name(self.table.table())
            .set_key(Some(key(CLIENTS, client.as_str())))
            .condition_expression("attribute_exists(#pk) AND attribute_not_exists(#deleted)")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#deleted", DELETED_AT)
            .build()
            .map_err(|e| not_built(operation, &e))?;
        Ok(TransactWriteItem::builder().condition_check(check).build())
    }

    /// Reads what is kept of a key.
    pub async fn get_key(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        let found = self.table.get("get key", &key_partition(id), KEY).await?;
        found.map(read_key).transpose()
    }

    /// Reads what is kept of a client's keys, revoked and expired ones included.
    pub async fn list_keys(&self, client: &ClientId) -> Result<Vec<KeyRecord>, StoreError> {
        let operation = "list keys";
        let mut records = Vec::new();
        for row in self.table.all(operation, &list_partition(client), MAX_KEYS).await? {
            let id = row.parsed(SK, KeyId::parse)?;
            records.extend(self.get_key(&id).await?);
        }
        Ok(records)
    }

    /// Revokes a key, for ever; false if there is none, or it was revoked before.
    pub async fn revoke_key(&self, id: &KeyId, change: &Change<'_>) -> Result<bool, StoreError> {
        let operation = "revoke key";
        let update = Update::builder()
            .table_name(self.table.table())
            .set_key(Some(key(key_partition(id), KEY)))
            .update_expression("SET #revoked = :at")
            .condition_expression("attribute_exists(#pk) AND attribute_not_exists(#revoked)")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#revoked", REVOKED_AT)
            .expression_attribute_values(":at", n(change.at_ms))
            .build()
            .map_err(|e| not_built(operation, &e))?;
        let changes = vec![
            TransactWriteItem::builder().update(update).build(),
            self.table.put_any(operation, audit::to_item(change, "key.revoke", id.as_str()))?,
        ];
        match self.table.commit(operation, &format!("key {id}"), changes).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// One line of the list of a client's keys.
fn list_item(client: &ClientId, id: &KeyId) -> Item {
    key(list_partition(client), id.as_str())
}
