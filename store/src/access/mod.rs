//! Who may see and do what: clients with grants, and the API keys that prove who is asking.
//!
//! Deny by default. A key is checked for form before any look-up ([`ApiKey::parse`]), kept only as a
//! keyed hash and compared in constant time ([`KeyRecord::check`]). Every change bumps an epoch and
//! leaves an audit entry in the same transaction. Nothing here caches or knows HTTP.
//! Start at [`authorise`], then [`AccessStore`].

pub(crate) mod audit;
mod document;
mod dynamodb;
mod exposure;
mod key;
mod keys_store;
mod limits;
mod mask;
mod network;
mod oauth;
mod operator;
#[cfg(test)]
mod pages_tests;
mod record;
mod rotation;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use audit::{AuditEntry, Change};
pub(crate) use document::{CLIENTS, list_partition_of, read_client};
pub use dynamodb::AccessStore;
pub(crate) use dynamodb::{EPOCH, MAX_CLIENTS};
pub use exposure::Exposure;
pub(crate) use key::base62;
pub use key::{ApiKey, ApiKeyError, KeyHash, KeyId, Pepper};
pub use keys_store::Replaced;
pub use limits::{ClientLimits, MAX_PER_DAY, MAX_RATE, is_plan_name};
pub use mask::{FieldMask, FieldMaskError, MAX_MASK_FIELDS};
pub use network::{Network, NetworkError};
pub use oauth::OAuthBinding;
pub use operator::{OperatorToken, TokenDigest};
pub use record::{KeyCheck, KeyRecord, KeyTerms, NewKey};
pub use rotation::{NotReplaced, plan_rotation};

use crate::identity::{Entity, IdentityError, IntegrationName, is_plain_id, shown, text_type};
use crate::pattern::Pattern;

/// Longest id of a client, in characters.
const MAX_CLIENT_ID: usize = 64;

/// Id of a client: 1 to 64 letters, digits, `_` and `-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(Arc<str>);
text_type!(ClientId);

impl ClientId {
    /// Checks and takes an id.
    pub fn parse(text: &str) -> Result<ClientId, IdentityError> {
        if is_plain_id(text, MAX_CLIENT_ID) {
            Ok(ClientId(Arc::from(text)))
        } else {
            Err(IdentityError::Id { kind: "client id", found: shown(text), max: MAX_CLIENT_ID })
        }
    }

    /// A new id: `cl_` and 16 characters of base62.
    pub fn generate(random: crate::RandomBytes<'_>) -> ClientId {
        ClientId(Arc::from(format!("cl_{}", base62(16, random))))
    }
}

/// Somebody who may ask: a program of another team or company.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its name for machines.
    pub id: ClientId,
    /// Its name for people.
    pub name: String,
    /// What it may do; nothing else.
    pub grants: Vec<Grant>,
    /// How much it may ask for; `None` takes the service's defaults.
    pub limits: Option<ClientLimits>,
    /// False: nothing is allowed and its keys do not work.
    pub enabled: bool,
    /// When it was made, in ms since 1970.
    pub created_at_ms: i64,
    /// Counts its changes; 0 before it is stored. A `put` must carry the version it read.
    pub version: u64,
}

/// One thing that a client may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// With which integration.
    pub integration: GrantScope,
    /// What.
    pub action: Action,
    /// Only with entities that start with this; `None` is with all of them.
    #[serde(default)]
    pub entity_prefix: Option<String>,
    /// Only messages that this describes; `None` is all of them. Means nothing for [`Action::Publish`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Pattern>,
    /// Only these fields of them; `None` is all fields. Means nothing for [`Action::Publish`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<FieldMask>,
}

/// Which integrations a grant is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GrantScope {
    /// Every one, also those made later.
    All,
    /// This one.
    One(IntegrationName),
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Read messages.
    Read,
    /// Publish messages.
    Publish,
    /// Have messages pushed.
    Subscribe,
}

/// Whether a client may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, by the grant at this index.
    Allowed {
        /// Index into [`Client::grants`].
        grant: usize,
    },
    /// No.
    Denied(Denial),
}

/// Why not: for the audit log, never for the one who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The client is switched off.
    ClientDisabled,
    /// No grant for this action on this integration.
    NoGrant,
    /// There is one, but not for this entity.
    EntityOutsideGrant,
}

impl Decision {
    /// True for yes.
    pub fn is_allowed(self) -> bool {
        matches!(self, Decision::Allowed { .. })
    }
}

impl Grant {
    /// All entities, all messages, all fields.
    pub fn new(integration: GrantScope, action: Action) -> Grant {
        Grant { integration, action, entity_prefix: None, filter: None, fields: None }
    }

    /// True if it is for this action on this integration, whatever the entity.
    fn covers(&self, action: Action, integration: &IntegrationName) -> bool {
        self.action == action
            && match &self.integration {
                GrantScope::All => true,
                GrantScope::One(one) => one == integration,
            }
    }

    /// True if it is for this entity. Without an entity: true only if it is for all of them.
    fn covers_entity(&self, entity: Option<&Entity>) -> bool {
        match (&self.entity_prefix, entity) {
            (None, _) => true,
            (Some(prefix), Some(entity)) => entity.as_str().starts_with(prefix.as_str()),
            (Some(prefix), None) => prefix.is_empty(),
        }
    }
}

/// Whether `client` may do `action` with `entity` of `integration`. `None` for the entity means all
/// of the integration's entities at once, which a grant with a prefix does not cover.
pub fn authorise(
    client: &Client,
    action: Action,
    integration: &IntegrationName,
    entity: Option<&Entity>,
) -> Decision {
    if !client.enabled {
        return Decision::Denied(Denial::ClientDisabled);
    }
    let mut denial = Denial::NoGrant;
    for (grant, candidate) in client.grants.iter().enumerate() {
        if candidate.covers(action, integration) {
            if candidate.covers_entity(entity) {
                return Decision::Allowed { grant };
            }
            denial = Denial::EntityOutsideGrant;
        }
    }
    Decision::Denied(denial)
}

impl Client {
    /// True if any grant lets it do `action` with at least some entities of `integration`: whether
    /// the integration exists for it.
    pub fn may_see(&self, action: Action, integration: &IntegrationName) -> bool {
        self.enabled && self.grants.iter().any(|g| g.covers(action, integration))
    }

    /// The entity prefixes that together are exactly what [`authorise`] allows it among the entities
    /// that start with `within`; none covers another. `""` is every entity, no prefix is nothing.
    pub fn reach<'a>(
        &'a self,
        action: Action,
        integration: &IntegrationName,
        within: &'a str,
    ) -> Vec<&'a str> {
        let granted = self.grants.iter().filter(|g| self.enabled && g.covers(action, integration));
        let narrowed = granted.filter_map(|grant| {
            let prefix = grant.entity_prefix.as_deref().unwrap_or_default();
            if within.starts_with(prefix) {
                Some(within)
            } else {
                prefix.starts_with(within).then_some(prefix)
            }
        });
        let mut prefixes: Vec<&str> = narrowed.collect();
        // What a prefix covers sorts directly behind it.
        prefixes.sort_unstable();
        prefixes.dedup_by(|later, kept| later.starts_with(*kept));
        prefixes
    }
}
