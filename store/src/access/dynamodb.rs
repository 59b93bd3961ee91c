//! [`AccessStore`]: clients in the access table, each change with its epoch and its audit entry.
//!
//! All reads are strongly consistent; caching with a bounded age is the caller's. Keys are in
//! `keys_store`.

use super::document::{CLIENTS, DELETED_AT, client_item, read_client, tombstone};
use super::{Action, AuditEntry, Change, Client, ClientId, Grant, Pepper, audit};
use crate::epoch::EpochTable;
use crate::error::StoreError;
use crate::item::SK;

/// Most clients of one application, deleted ones included.
pub(crate) const MAX_CLIENTS: usize = 10_000;
/// The epoch of clients and keys.
pub(crate) const EPOCH: &str = "access";
/// Most grants of one client.
const MAX_GRANTS: usize = 200;
/// Most bytes that the grants of one client have as JSON: an item has up to 400 KB.
const MAX_GRANT_BYTES: usize = 128 * 1024;
/// Calls that one page of clients takes at most.
const MAX_ROUNDS: usize = 20;
/// Most audit entries read at once.
const MAX_AUDIT: usize = 100_000;

/// Clients and keys in the table `<app>-access`.
#[derive(Clone, Debug)]
pub struct AccessStore {
    pub(super) table: EpochTable,
    pub(super) pepper: Pepper,
}

impl AccessStore {
    /// Over the table of the application `app`; `pepper` makes and checks the hashes of keys. The
    /// SDK client's timeouts are its maker's.
    pub fn new(client: aws_sdk_dynamodb::Client, app: &str, pepper: Pepper) -> AccessStore {
        let table = EpochTable::new(client, crate::tables::access_table(app), EPOCH);
        AccessStore { table, pepper }
    }

    /// What keys are checked with.
    pub fn pepper(&self) -> &Pepper {
        &self.pepper
    }

    /// The epoch: it changes with every change of a client or a key. 0 before the first.
    pub async fn epoch(&self) -> Result<u64, StoreError> {
        self.table.read("read access epoch").await
    }

    /// Stores a client if nobody changed it since its version was read (0: it must be new), and
    /// gives it back with its new version. [`StoreError::Conflict`] if somebody did.
    pub async fn put_client(
        &self,
        client: &Client,
        change: &Change<'_>,
    ) -> Result<Client, StoreError> {
        let operation = "put client";
        check(client).map_err(|detail| StoreError::Invalid { operation, detail })?;
        let action = if client.version == 0 { "client.create" } else { "client.change" };
        let changes = vec![
            self.table.put(operation, client_item(client)?, client.version)?,
            self.table.put_any(operation, audit::to_item(change, action, client.id.as_str()))?,
        ];
        self.table.commit(operation, &format!("client {}", client.id), changes).await?;
        let version = client.version.saturating_add(1);
        Ok(Client { version, ..client.clone() })
    }

    /// Reads one client.
    pub async fn get_client(&self, id: &ClientId) -> Result<Option<Client>, StoreError> {
        let found = self.table.get("get client", CLIENTS, id.as_str()).await?;
        found.as_ref().map(read_client).transpose().map(Option::flatten)
    }

    /// Reads all clients, in the order of their ids.
    pub async fn list_clients(&self) -> Result<Vec<Client>, StoreError> {
        let items = self.table.all("list clients", CLIENTS, MAX_CLIENTS).await?;
        items.iter().filter_map(|item| read_client(item).transpose()).collect()
    }

    /// Some clients in the order of their ids, behind `after`, at most `limit`; and, if there may be more, behind
    /// which id they are. A page may be short: deleted ones are not in it.
    pub async fn some_clients(
        &self,
        after: Option<&ClientId>,
        limit: usize,
    ) -> Result<(Vec<Client>, Option<ClientId>), StoreError> {
        let mut clients: Vec<Client> = Vec::new();
        let mut after = after.cloned();
        // What stays of deleted clients is passed over, for a while.
        for _ in 0..MAX_ROUNDS {
            let behind = after.as_ref().map(ClientId::as_str);
            let (rows, more) = self.table.some("list clients", CLIENTS, behind, limit).await?;
            for row in &rows {
                clients.extend(read_client(row)?);
            }
            let last = rows.last().map(|row| row.parsed(SK, ClientId::parse)).transpose()?;
            after = last.filter(|_| more);
            if after.is_none() || clients.len() >= limit {
                break;
            }
        }
        if clients.len() > limit {
            clients.truncate(limit);
            after = clients.last().map(|client| client.id.clone());
        }
        Ok((clients, after))
    }

    /// Deletes a client if nobody changed it since this version of it was read; [`StoreError::Conflict`] if somebody
    /// did. What that means is as with [`AccessStore::delete_client`].
    pub async fn delete_client_at(
        &self,
        id: &ClientId,
        version: u64,
        change: &Change<'_>,
    ) -> Result<(), StoreError> {
        let operation = "delete client";
        let what = format!("client {id}");
        // It was never stored; to the table 0 would mean that it must not exist.
        if version == 0 {
            return Err(StoreError::Conflict { operation, what });
        }
        let changes = vec![
            self.table.put(operation, tombstone(id, change.at_ms), version)?,
            self.table.put_any(operation, audit::to_item(change, "client.delete", id.as_str()))?,
        ];
        self.table.commit(operation, &what, changes).await
    }

    /// Deletes a client, whose keys then prove nothing and whose subscriptions deliver nothing; false
    /// if there was none. Its id is never given out again: a new client of that name would have the
    /// keys of the old one.
    pub async fn delete_client(
        &self,
        id: &ClientId,
        change: &Change<'_>,
    ) -> Result<bool, StoreError> {
        let operation = "delete client";
        let changes = vec![
            self.table.replace(operation, tombstone(id, change.at_ms), DELETED_AT)?,
            self.table.put_any(operation, audit::to_item(change, "client.delete", id.as_str()))?,
        ];
        match self.table.commit(operation, &format!("client {id}"), changes).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The changes of access on one UTC day (counted from 1970), oldest first.
    pub async fn audit(&self, day: i64) -> Result<Vec<AuditEntry>, StoreError> {
        let items = self.table.all("read audit", &audit::partition(day), MAX_AUDIT).await?;
        items.iter().map(audit::from_item).collect()
    }

    /// Some of the changes of access on one UTC day (counted from 1970), newest first, behind the place `after`, at most
    /// `limit`; and, if there are more, the place that they are behind.
    pub async fn audit_page(
        &self,
        day: i64,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<AuditEntry>, Option<String>), StoreError> {
        let partition = audit::partition(day);
        let (rows, more) = self.table.last("read audit", &partition, after, limit).await?;
        let entries = rows.iter().map(audit::from_item).collect::<Result<_, _>>()?;
        let last = rows.last().map(|row| row.text(SK).map(str::to_owned)).transpose()?;
        Ok((entries, last.filter(|_| more)))
    }
}

/// What no client may be stored with.
fn check(client: &Client) -> Result<(), String> {
    if client.grants.len() > MAX_GRANTS {
        return Err(format!("{} grants: up to {MAX_GRANTS} are allowed", client.grants.len()));
    }
    if client.name.is_empty() || client.name.len() > 200 {
        return Err(format!("a name of {} bytes: 1 to 200 are allowed", client.name.len()));
    }
    let bytes = serde_json::to_vec(&client.grants).map_or(usize::MAX, |json| json.len());
    if bytes > MAX_GRANT_BYTES {
        return Err(format!("grants of {bytes} bytes: up to {MAX_GRANT_BYTES} are allowed"));
    }
    let too_long = |prefix: &String| prefix.len() > 512;
    if client.grants.iter().any(|g| g.entity_prefix.as_ref().is_some_and(too_long)) {
        return Err("a grant's entity prefix has more than 512 bytes".to_owned());
    }
    let looks_in = |g: &Grant| g.filter.is_some() || g.fields.is_some();
    if client.grants.iter().any(|g| g.action == Action::Publish && looks_in(g)) {
        return Err(
            "a grant to publish with a filter or fields: it may have an entity prefix only"
                .to_owned(),
        );
    }
    client.limits.as_ref().map_or(Ok(()), |limits| limits.check())
}
