//! Which client of ours an OAuth client of some issuer is: bound and unbound by operators, looked up
//! for every new access token.

use super::document::list_partition_of;
use super::{AccessStore, Change, ClientId, audit};
use crate::error::StoreError;
use crate::item::{Item, ItemReader, key, n, s};

const CLIENT: &str = "client";
const ISSUER: &str = "issuer";
const OAUTH_CLIENT: &str = "oauthClient";
const CREATED_AT: &str = "createdAt";
/// Bytes that an issuer may have.
const MAX_ISSUER_BYTES: usize = 512;
/// Bytes that an issuer's name of a client may have.
const MAX_OAUTH_CLIENT_BYTES: usize = 256;
/// Most bindings of one client.
const MAX_BINDINGS: usize = 100;

/// An issuer's client, and whose tokens those are here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuthBinding {
    /// The issuer as its tokens' `iss` has it, byte for byte: up to 512 bytes without white space.
    pub issuer: String,
    /// The client's name at the issuer: up to 256 bytes.
    pub oauth_client: String,
    /// The client that tokens of it are taken for.
    pub client: ClientId,
    /// When it was bound, in ms since 1970.
    pub created_at_ms: i64,
}

impl AccessStore {
    /// From now on tokens that `issuer` gives to `oauth_client` are `client`'s.
    /// [`StoreError::Conflict`] if they are somebody's already, or there is no such client.
    pub async fn bind_oauth(
        &self,
        client: &ClientId,
        issuer: &str,
        oauth_client: &str,
        change: &Change<'_>,
    ) -> Result<OAuthBinding, StoreError> {
        let operation = "bind OAuth client";
        check(issuer, oauth_client).map_err(|detail| StoreError::Invalid { operation, detail })?;
        let binding = OAuthBinding {
            issuer: issuer.to_owned(),
            oauth_client: oauth_client.to_owned(),
            client: client.clone(),
            created_at_ms: change.at_ms,
        };
        let what = format!(
            "client {client} (missing), or the OAuth client {oauth_client} of {issuer} (bound already)"
        );
        let changes = vec![
            self.client_exists(operation, client)?,
            self.table.put(operation, item(&binding, partition(issuer), oauth_client), 0)?,
            self.table.put(
                operation,
                item(&binding, list_partition_of(LIST, client), &row(&binding)),
                0,
            )?,
            self.table.put_any(operation, audit::to_item(change, "oauth.bind", &said(&binding)))?,
        ];
        self.table.commit(operation, &what, changes).await?;
        Ok(binding)
    }

    /// Tokens that `issuer` gives to `oauth_client` are nobody's any more; gives what was bound. With `of`: only if they
    /// are that client's.
    pub async fn unbind_oauth(
        &self,
        issuer: &str,
        oauth_client: &str,
        of: Option<&ClientId>,
        change: &Change<'_>,
    ) -> Result<Option<OAuthBinding>, StoreError> {
        let operation = "unbind OAuth client";
        let found = self.get_oauth(issuer, oauth_client).await?;
        let is_meant = |binding: &OAuthBinding| of.is_none_or(|client| binding.client == *client);
        let Some(binding) = found.filter(is_meant) else { return Ok(None) };
        // Both items must exist: one that was bound to another client meanwhile is not unbound.
        let list = list_partition_of(LIST, &binding.client);
        let changes = vec![
            self.table.delete(operation, &partition(issuer), oauth_client)?,
            self.table.delete(operation, &list, &row(&binding))?,
            self.table
                .put_any(operation, audit::to_item(change, "oauth.unbind", &said(&binding)))?,
        ];
        let what = format!("the OAuth client {oauth_client} of {issuer}");
        self.table.commit(operation, &what, changes).await?;
        Ok(Some(binding))
    }

    /// Whose tokens those of an issuer's client are.
    pub async fn get_oauth(
        &self,
        issuer: &str,
        oauth_client: &str,
    ) -> Result<Option<OAuthBinding>, StoreError> {
        // What could never be bound is not asked for.
        if check(issuer, oauth_client).is_err() {
            return Ok(None);
        }
        let found = self.table.get("get OAuth client", &partition(issuer), oauth_client).await?;
        found.as_ref().map(read).transpose()
    }

    /// What is bound to a client.
    pub async fn list_oauth(&self, client: &ClientId) -> Result<Vec<OAuthBinding>, StoreError> {
        let list = list_partition_of(LIST, client);
        let rows = self.table.all("list OAuth clients", &list, MAX_BINDINGS).await?;
        rows.iter().map(read).collect()
    }
}

/// Start of the partition that lists a client's bindings.
const LIST: &str = "client-oauth";

fn partition(issuer: &str) -> String {
    format!("oauth#{issuer}")
}

/// Sort key of a binding in its client's list: the issuer has no space, so no two are alike.
fn row(binding: &OAuthBinding) -> String {
    format!("{} {}", binding.issuer, binding.oauth_client)
}

/// A binding in the words of the audit.
fn said(binding: &OAuthBinding) -> String {
    format!("{} = {} of {}", binding.client, binding.oauth_client, binding.issuer)
}

fn item(binding: &OAuthBinding, partition: String, sort: &str) -> Item {
    let mut item = key(partition, sort);
    item.insert(CLIENT.to_owned(), s(binding.client.as_str()));
    item.insert(ISSUER.to_owned(), s(binding.issuer.as_str()));
    item.insert(OAUTH_CLIENT.to_owned(), s(binding.oauth_client.as_str()));
    item.insert(CREATED_AT.to_owned(), n(binding.created_at_ms));
    item
}

fn read(reader: &ItemReader) -> Result<OAuthBinding, StoreError> {
    Ok(OAuthBinding {
        issuer: reader.text(ISSUER)?.to_owned(),
        oauth_client: reader.text(OAUTH_CLIENT)?.to_owned(),
        client: reader.parsed(CLIENT, ClientId::parse)?,
        created_at_ms: reader.number(CREATED_AT)?,
    })
}

fn check(issuer: &str, oauth_client: &str) -> Result<(), String> {
    let is_issuer = (1..=MAX_ISSUER_BYTES).contains(&issuer.len())
        && !issuer.contains(|c: char| c.is_whitespace() || c.is_control());
    if !is_issuer {
        return Err(format!(
            "an issuer of {} bytes: 1 to {MAX_ISSUER_BYTES} without white space are allowed",
            issuer.len()
        ));
    }
    let is_client = (1..=MAX_OAUTH_CLIENT_BYTES).contains(&oauth_client.len())
        && !oauth_client.contains(char::is_control);
    if !is_client {
        return Err(format!(
            "an OAuth client id of {} bytes: 1 to {MAX_OAUTH_CLIENT_BYTES} without control characters are allowed",
            oauth_client.len()
        ));
    }
    Ok(())
}
