//! API keys in the access table: issued once, listed without their secrets, revoked at once.

use std::time::Duration;

use super::document::{
    CLIENT, CLIENTS, DELETED_AT, EXPIRY, KEY, REVOKED_AT, USE, USED_AT, key_item, key_partition,
    list_partition, read_key, use_partition,
};
use super::{AccessStore, ApiKey, Change, ClientId, KeyId, KeyRecord, KeyTerms, NewKey, audit};
use crate::epoch::not_built;
use crate::error::StoreError;
use crate::item::{Item, PK, SK, key, n, s};
use aws_sdk_dynamodb::types::{ConditionCheck, TransactWriteItem, Update};
use futures::stream::{self, StreamExt, TryStreamExt};

/// How long a key works unless said otherwise.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3_600);
/// How long a key may work at most: 10 years.
const MAX_LIFETIME: Duration = Duration::from_secs(3_650 * 24 * 3_600);
/// Most keys ever made for one client.
const MAX_KEYS: usize = 1_000;

/// Most networks of one key.
const MAX_NETWORKS: usize = 50;
/// Most keys that one rotation ends: each is two items of a transaction, which has 100 with all else.
const MAX_ENDED: usize = 45;

/// Keys that are read beside each other.
const READS_AT_ONCE: usize = 16;

/// Keys that a new one takes the place of, and when they end.
#[derive(Clone, Copy, Debug)]
pub struct Replaced<'a> {
    /// Which ones; all must be those of the client, work, and end later than that.
    pub keys: &'a [KeyId],
    /// From then on they do not work any more, in ms since 1970.
    pub until_ms: i64,
}

impl AccessStore {
    /// Keeps what is needed of a new key ([`ApiKey::generate`]) for a client that exists. The answer
    /// holds the key in clear: show it once.
    pub async fn issue_key(
        &self,
        key: ApiKey,
        client: &ClientId,
        terms: &KeyTerms,
        change: &Change<'_>,
    ) -> Result<NewKey, StoreError> {
        self.replace_keys(key, client, terms, Replaced { keys: &[], until_ms: 0 }, change).await
    }

    /// The same, and in one transaction others of the client end earlier than they would have.
    /// [`StoreError::Conflict`] if one of them was revoked, or ends earlier already.
    pub async fn replace_keys(
        &self,
        key: ApiKey,
        client: &ClientId,
        terms: &KeyTerms,
        replaced: Replaced<'_>,
        change: &Change<'_>,
    ) -> Result<NewKey, StoreError> {
        let operation = "issue key";
        let lifetime = terms.lifetime.unwrap_or(DEFAULT_LIFETIME);
        let ended = replaced.keys.len();
        check(lifetime, terms, ended)
            .map_err(|detail| StoreError::Invalid { operation, detail: detail.to_owned() })?;
        let lifetime_ms = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
        let record = KeyRecord {
            id: key.id().clone(),
            client: client.clone(),
            hash: self.pepper.hash(&key),
            label: terms.label.clone(),
            created_at_ms: change.at_ms,
            expires_at_ms: change.at_ms.saturating_add(lifetime_ms),
            revoked_at_ms: None,
            networks: terms.networks.clone(),
        };
        let mut changes = vec![
            self.client_exists(operation, client)?,
            self.table.put(operation, key_item(&record), 0)?,
            self.table.put(operation, list_item(client, &record.id), 0)?,
            self.table
                .put_any(operation, audit::to_item(change, "key.issue", record.id.as_str()))?,
        ];
        for id in replaced.keys {
            changes.push(self.ends(operation, id, client, replaced.until_ms)?);
            changes.push(
                self.table.put_any(operation, audit::to_item(change, "key.end", id.as_str()))?,
            );
        }
        let what = match ended {
            0 => format!("client {client} (missing) or key {} (made before)", record.id),
            _ => format!("client {client} (missing) or one of its keys (changed meanwhile)"),
        };
        self.table.commit(operation, &what, changes).await?;
        Ok(NewKey { key, record })
    }

    /// A key of the client ends earlier than it would have.
    fn ends(
        &self,
        operation: &'static str,
        id: &KeyId,
        client: &ClientId,
        until_ms: i64,
    ) -> Result<TransactWriteItem, StoreError> {
        let update = Update::builder()
            .table_name(self.table.table())
            .set_key(Some(key(key_partition(id), KEY)))
            .update_expression("SET #expiry = :until")
            .condition_expression(
                "#client = :client AND attribute_not_exists(#revoked) AND #expiry > :until",
            )
            .expression_attribute_names("#client", CLIENT)
            .expression_attribute_names("#revoked", REVOKED_AT)
            .expression_attribute_names("#expiry", EXPIRY)
            .expression_attribute_values(":client", s(client.as_str()))
            .expression_attribute_values(":until", n(until_ms))
            .build()
            .map_err(|e| not_built(operation, &e))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }

    /// Notes that a key was used. No change of access: no epoch, no audit.
    pub async fn note_key_use(&self, id: &KeyId, at_ms: i64) -> Result<(), StoreError> {
        let mut item = key(use_partition(id), USE);
        item.insert(USED_AT.to_owned(), n(at_ms));
        self.table.put_quietly("note key use", item).await
    }

    /// When a key was last used, to the minute or so, in ms since 1970; `None`: never, or not seen yet.
    pub async fn last_key_use(&self, id: &KeyId) -> Result<Option<i64>, StoreError> {
        let found = self.table.get("read key use", &use_partition(id), USE).await?;
        found.map(|reader| reader.number(USED_AT)).transpose()
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
        let rows = self.table.all(operation, &list_partition(client), MAX_KEYS).await?;
        let ids = rows.iter().map(|row| row.parsed(SK, KeyId::parse));
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        let reads = ids.into_iter().map(|id| async move { self.get_key(&id).await });
        let found: Vec<Option<KeyRecord>> =
            stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
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

/// What no key may be made with.
fn check(lifetime: Duration, terms: &KeyTerms, ended: usize) -> Result<(), &'static str> {
    if lifetime.is_zero() || lifetime > MAX_LIFETIME || terms.label.len() > 200 {
        return Err("a lifetime of up to 10 years and a label of up to 200 bytes are allowed");
    }
    if terms.networks.len() > MAX_NETWORKS || ended > MAX_ENDED {
        return Err("up to 50 networks, and up to 45 keys that are replaced, are allowed");
    }
    Ok(())
}

/// One line of the list of a client's keys.
fn list_item(client: &ClientId, id: &KeyId) -> Item {
    key(list_partition(client), id.as_str())
}
