//! Placeholder.
#![allow(clippy::todo, clippy::unused_async, unused_variables, dead_code)]
use super::*;
use crate::StoreError;
use std::time::Duration;
/// Clients and keys in the table `<app>-access`.
#[derive(Clone, Debug)]
pub struct AccessStore { client: aws_sdk_dynamodb::Client, pepper: Pepper }
impl AccessStore {
    /// Over the table `<app>-access`.
    pub fn new(client: aws_sdk_dynamodb::Client, app: &str, pepper: Pepper) -> AccessStore { AccessStore { client, pepper } }
    /// For checking keys.
    pub fn pepper(&self) -> &Pepper { &self.pepper }
    /// The epoch: changes with every change of access. 0 before the first.
    pub async fn epoch(&self) -> Result<u64, StoreError> { todo!() }
    /// Stores a client if nobody changed it since its version was read; gives it back with its new version.
    pub async fn put_client(&self, client: &Client, change: &Change<'_>) -> Result<Client, StoreError> { todo!() }
    /// Reads one.
    pub async fn get_client(&self, id: &ClientId) -> Result<Option<Client>, StoreError> { todo!() }
    /// Reads all.
    pub async fn list_clients(&self) -> Result<Vec<Client>, StoreError> { todo!() }
    /// Deletes a client; its keys stop working. False if there was none.
    pub async fn delete_client(&self, id: &ClientId, change: &Change<'_>) -> Result<bool, StoreError> { todo!() }
    /// Keeps a new key (made by `ApiKey::generate`); `lifetime: None` = 90 days.
    pub async fn issue_key(&self, key: ApiKey, client: &ClientId, label: &str, lifetime: Option<Duration>, change: &Change<'_>) -> Result<NewKey, StoreError> { todo!() }
    /// Reads a key's record.
    pub async fn get_key(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> { todo!() }
    /// Reads a client's keys.
    pub async fn list_keys(&self, client: &ClientId) -> Result<Vec<KeyRecord>, StoreError> { todo!() }
    /// Revokes a key; false if there is none or it was revoked before.
    pub async fn revoke_key(&self, id: &KeyId, change: &Change<'_>) -> Result<bool, StoreError> { todo!() }
    /// Changes of access on one UTC day (days since 1970), oldest first, at most `limit`.
    pub async fn audit(&self, day: i64, limit: usize) -> Result<Vec<AuditEntry>, StoreError> { todo!() }
}
