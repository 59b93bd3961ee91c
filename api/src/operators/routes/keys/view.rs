//! Keys as operators see them. The key itself is in what was just made, and in nothing else.

use serde::Serialize;
use store::{KeyId, KeyRecord, NewKey};
use utoipa::ToSchema;

use crate::timestamp;

/// What is kept of a key.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Key)]
pub(in crate::operators::routes) struct KeyView<'a> {
    /// The 12 characters behind `sg_live_`.
    id: &'a str,
    client: &'a str,
    label: &'a str,
    /// `works`, `ended` or `revoked`. It proves nothing where its client is off or gone.
    state: &'static str,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    ends_at: String,
    #[schema(format = DateTime)]
    revoked_at: Option<String>,
    /// To the minute or so; null: not yet.
    #[schema(format = DateTime)]
    last_used_at: Option<String>,
    /// From where it works; none: from everywhere.
    networks: Vec<String>,
}

/// A key, and how its client is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = KeyOfClient)]
pub(super) struct OwnedKeyView<'a> {
    #[serde(flatten)]
    pub(super) key: KeyView<'a>,
    /// `on`, `off` or `gone`.
    pub(super) client_state: &'static str,
}

/// A key just made.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MadeKey)]
pub(super) struct MadeKeyView<'a> {
    id: &'a str,
    client: &'a str,
    /// The key itself, shown this once.
    api_key: &'a str,
    #[schema(format = DateTime)]
    ends_at: String,
    /// Of a rotation: the keys that it replaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    replaced_keys: Option<Vec<&'a str>>,
    /// Of a rotation: from then on they do not work.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    replaced_keys_end_at: Option<String>,
}

impl<'a> KeyView<'a> {
    pub(in crate::operators::routes) fn of(
        record: &'a KeyRecord,
        used_at_ms: Option<i64>,
        now_ms: i64,
    ) -> Self {
        let state = match record.revoked_at_ms {
            Some(_) => "revoked",
            None if record.is_live(now_ms) => "works",
            None => "ended",
        };
        Self {
            id: record.id.as_str(),
            client: record.client.as_str(),
            label: &record.label,
            state,
            created_at: timestamp::format(record.created_at_ms),
            ends_at: timestamp::format(record.expires_at_ms),
            revoked_at: record.revoked_at_ms.map(timestamp::format),
            last_used_at: used_at_ms.map(timestamp::format),
            networks: record.networks.iter().map(ToString::to_string).collect(),
        }
    }
}

impl<'a> MadeKeyView<'a> {
    pub(super) fn of(new: &'a NewKey) -> Self {
        Self {
            id: new.record.id.as_str(),
            client: new.record.client.as_str(),
            api_key: new.key.expose(),
            ends_at: timestamp::format(new.record.expires_at_ms),
            replaced_keys: None,
            replaced_keys_end_at: None,
        }
    }

    /// It takes the place of these, which end then.
    pub(super) fn replacing(self, ids: &'a [KeyId], until_ms: i64) -> Self {
        Self {
            replaced_keys: Some(ids.iter().map(KeyId::as_str).collect()),
            replaced_keys_end_at: (!ids.is_empty()).then(|| timestamp::format(until_ms)),
            ..self
        }
    }
}
