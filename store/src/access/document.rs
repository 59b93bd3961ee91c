//! Clients and keys as items, and back.

use serde::{Deserialize, Serialize};

use super::{Client, ClientId, ClientLimits, Grant, KeyHash, KeyId, KeyRecord, Network};
use crate::epoch::VERSION;
use crate::error::StoreError;
use crate::item::{Item, ItemReader, PK, SK, b, key, n, s};

/// Partition of all clients.
pub(crate) const CLIENTS: &str = "clients";
/// Sort key of a key's record.
pub(super) const KEY: &str = "key";
/// The form that this version writes and reads.
const FORM: u32 = 1;
const DOCUMENT: &str = "document";
/// When the client was deleted, in ms since 1970.
pub(super) const DELETED_AT: &str = "deletedAt";
pub(super) const CLIENT: &str = "client";
const HASH: &str = "hash";
const LABEL: &str = "label";
const CREATED_AT: &str = "createdAt";
pub(super) const EXPIRY: &str = "validUntil";
/// Networks, with spaces between them.
const NETWORKS: &str = "networks";
/// Sort key of what is known of a key's use.
pub(super) const USE: &str = "use";
pub(super) const USED_AT: &str = "usedAt";
pub(super) const REVOKED_AT: &str = "revokedAt";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    form: u32,
    name: String,
    grants: Vec<Grant>,
    limits: Option<ClientLimits>,
    enabled: bool,
    created_at_ms: i64,
}

/// The item of a client at its next version.
pub(super) fn client_item(client: &Client) -> Result<Item, StoreError> {
    let document = Document {
        form: FORM,
        name: client.name.clone(),
        grants: client.grants.clone(),
        limits: client.limits.clone(),
        enabled: client.enabled,
        created_at_ms: client.created_at_ms,
    };
    let text = serde_json::to_string(&document)
        .map_err(|e| StoreError::Invalid { operation: "put client", detail: e.to_string() })?;
    let mut item = key(CLIENTS, client.id.as_str());
    item.insert(DOCUMENT.to_owned(), s(text));
    item.insert(VERSION.to_owned(), n(client.version.saturating_add(1)));
    Ok(item)
}

/// What stays of a deleted client: its id, so that nobody is ever given it again, and with it the
/// keys and subscriptions of the one before.
pub(super) fn tombstone(id: &ClientId, deleted_at_ms: i64) -> Item {
    let mut item = key(CLIENTS, id.as_str());
    item.insert(DELETED_AT.to_owned(), n(deleted_at_ms));
    item
}

/// Reads a client; `None` if it was deleted.
pub(crate) fn read_client(reader: &ItemReader) -> Result<Option<Client>, StoreError> {
    if reader.optional_number::<i64>(DELETED_AT)?.is_some() {
        return Ok(None);
    }
    let document: Document = serde_json::from_str(reader.text(DOCUMENT)?)
        .map_err(|e| reader.unreadable(format!("its document is not of form {FORM}: {e}")))?;
    if document.form != FORM {
        let found = document.form;
        return Err(
            reader.unreadable(format!("its document has form {found}, this version reads {FORM}"))
        );
    }
    Ok(Some(Client {
        id: reader.parsed(SK, ClientId::parse)?,
        name: document.name,
        grants: document.grants,
        limits: document.limits,
        enabled: document.enabled,
        created_at_ms: document.created_at_ms,
        version: reader.number(VERSION)?,
    }))
}

/// Partition of a key's record.
pub(super) fn key_partition(id: &KeyId) -> String {
    format!("key#{id}")
}

/// Partition of what is known of a key's use: apart from everything that anybody decides by, so that the
/// API can be allowed to write these items and no others.
pub(super) fn use_partition(id: &KeyId) -> String {
    format!("key-use#{id}")
}

/// Partition of the list of a client's keys.
pub(super) fn list_partition(client: &ClientId) -> String {
    list_partition_of("client-keys", client)
}

/// Partition of a list of what belongs to a client.
pub(crate) fn list_partition_of(kind: &str, client: &ClientId) -> String {
    format!("{kind}#{client}")
}

/// The item of a key: its hash, never the key.
pub(super) fn key_item(record: &KeyRecord) -> Item {
    let mut item = key(key_partition(&record.id), KEY);
    item.insert(CLIENT.to_owned(), s(record.client.as_str()));
    item.insert(HASH.to_owned(), b(record.hash.as_bytes()));
    item.insert(LABEL.to_owned(), s(record.label.as_str()));
    item.insert(CREATED_AT.to_owned(), n(record.created_at_ms));
    // Not `expiresAt`: an expired key is kept, so that it can be seen why it does not work.
    item.insert(EXPIRY.to_owned(), n(record.expires_at_ms));
    if let Some(at) = record.revoked_at_ms {
        item.insert(REVOKED_AT.to_owned(), n(at));
    }
    if !record.networks.is_empty() {
        let networks: Vec<String> = record.networks.iter().map(ToString::to_string).collect();
        item.insert(NETWORKS.to_owned(), s(networks.join(" ")));
    }
    item
}

/// Reads a key's record.
pub(super) fn read_key(mut reader: ItemReader) -> Result<KeyRecord, StoreError> {
    let hash = reader.take_bytes(HASH)?.and_then(|bytes| KeyHash::from_bytes(&bytes));
    let hash = hash.ok_or_else(|| reader.unreadable("its hash is missing or not of 32 bytes"))?;
    let networks = reader.optional_text(NETWORKS)?.unwrap_or_default();
    let networks: Result<Vec<Network>, _> =
        networks.split_whitespace().map(str::parse::<Network>).collect();
    let networks = networks.map_err(|error| reader.unreadable(format!("{NETWORKS}: {error}")))?;
    let id = reader
        .parsed(PK, |partition| KeyId::parse(partition.strip_prefix("key#").unwrap_or_default()))?;
    Ok(KeyRecord {
        id,
        client: reader.parsed(CLIENT, ClientId::parse)?,
        hash,
        label: reader.text(LABEL)?.to_owned(),
        created_at_ms: reader.number(CREATED_AT)?,
        expires_at_ms: reader.number(EXPIRY)?,
        revoked_at_ms: reader.optional_number(REVOKED_AT)?,
        networks,
    })
}
