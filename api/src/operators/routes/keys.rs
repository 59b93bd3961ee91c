//! API keys: issued, rotated, looked up by their ids, revoked. A key in clear is in the one answer that made it.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use store::{
    ApiKey, Change, ClientId, KeyId, KeyRecord, KeyTerms, Network, NewKey, NotReplaced, Replaced,
    StoreError, plan_rotation,
};
use utoipa::ToSchema;

use super::super::guard::Caller;
use super::super::service::Desk;
use super::failure::failed;
use super::{Segment, client_id, clients, segment};
use crate::routes::problem::Problem;
use crate::routes::{body, params, render};
use crate::timestamp;

/// Longest label, in bytes.
const MAX_LABEL_BYTES: usize = 200;
/// How long a key may work: 10 years.
const MAX_LIFETIME_S: u64 = 3_650 * 24 * 3_600;
/// Most networks of one key.
const MAX_NETWORKS: usize = 50;
/// Most keys that one rotation names.
const MAX_NAMED: usize = 45;
/// How long the old keys of a rotation still work unless it is said: a day; and at most: 30 days.
const OVERLAP_S: u64 = 24 * 3_600;
const MAX_OVERLAP_S: u64 = 30 * OVERLAP_S;

/// A key that is to be made; what is absent is as for any key.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewKey)]
pub(super) struct KeyInput {
    /// What people call it: up to 200 bytes.
    label: Option<String>,
    /// How long it works; 90 days unless it is said.
    #[schema(minimum = 1, maximum = 315360000)]
    lifetime_seconds: Option<u64>,
    /// It works from these networks only, such as `203.0.113.0/24`; without any, from everywhere.
    #[schema(max_items = 50)]
    networks: Option<Vec<String>>,
}

/// Body of `POST /v1/admin/clients/{client}/keys/rotate`. The new key has the label and the networks of the newest one
/// that it replaces, unless they are given.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = KeysRotation)]
pub(super) struct RotationInput {
    /// How long the old keys still work: a day unless it is said, 0 ends them at once.
    #[schema(maximum = 2592000)]
    overlap_seconds: Option<u64>,
    /// Only these keys are replaced; all that work, if there are none.
    #[serde(default)]
    #[schema(max_items = 45)]
    keys: Vec<String>,
    label: Option<String>,
    #[schema(minimum = 1, maximum = 315360000)]
    lifetime_seconds: Option<u64>,
    #[schema(max_items = 50)]
    networks: Option<Vec<String>>,
}

/// What is kept of a key.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Key)]
pub(super) struct KeyView<'a> {
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
struct OwnedKeyView<'a> {
    #[serde(flatten)]
    key: KeyView<'a>,
    /// `on`, `off` or `gone`.
    client_state: &'static str,
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

/// Gives a client a further API key
///
/// The key is in this answer and in no other.
#[utoipa::path(post, path = "/v1/admin/clients/{client}/keys", tag = "keys", operation_id = "issueKey",
    params(("client" = String, Path, description = "Whose it is to be")),
    request_body(content = Option<KeyInput>),
    responses(
        (status = 201, description = "With the key, shown this once", body = MadeKeyView),
        (status = 409, description = "Somebody else deleted the client at the same moment"),
    ))]
pub(super) async fn issue(
    State(desk): State<Arc<Desk>>,
    Extension(caller): Extension<Caller>,
    path: Segment,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let id = client_id(&segment(path)?)?;
    params::none(&uri)?;
    let wanted: KeyInput =
        body::read_or_default(desk.limits.max_body_bytes, &headers, body).await?;
    let terms = wanted.read(None)?;
    makes_keys(&desk)?;
    clients::get(&desk, &id).await?;
    let none = Replaced { keys: &[], until_ms: 0 };
    let new = make(&desk, &caller, &id, &terms, none).await.map_err(failed)?;
    Ok(made(&MadeKeyView::of(&new)))
}

/// Gives a client a new API key in the place of others
///
/// They still work until the overlap ends. The key is in this answer and in no other.
#[utoipa::path(post, path = "/v1/admin/clients/{client}/keys/rotate", tag = "keys", operation_id = "rotateKeys",
    params(("client" = String, Path, description = "Whose")),
    request_body(content = Option<RotationInput>),
    responses(
        (status = 201, description = "With the new key, shown this once", body = MadeKeyView),
        (status = 409, description = "A key that was named has ended, there are too many to end at once, or one was changed at the same moment"),
    ))]
pub(super) async fn rotate(
    State(desk): State<Arc<Desk>>,
    Extension(caller): Extension<Caller>,
    path: Segment,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let id = client_id(&segment(path)?)?;
    params::none(&uri)?;
    let wanted: RotationInput =
        body::read_or_default(desk.limits.max_body_bytes, &headers, body).await?;
    let (named, overlap_ms) = (wanted.named()?, wanted.overlap_ms()?);
    makes_keys(&desk)?;
    clients::get(&desk, &id).await?;
    let keys = desk.backing.access.list_keys(&id).await.map_err(failed)?;
    let now_ms = desk.now_ms();
    let until_ms = now_ms.saturating_add(overlap_ms);
    let ended =
        plan_rotation(&keys, &named, now_ms, until_ms).map_err(|why| not_replaced(&why, &named))?;
    if ended.len() > MAX_NAMED {
        let found = ended.len();
        return Err(Problem::conflict(&format!(
            "{found} keys would end, and {MAX_NAMED} can at once: name those that are to"
        )));
    }
    let terms = wanted.key().read(ended.last().copied())?;
    let ids: Vec<KeyId> = ended.iter().map(|key| key.id.clone()).collect();
    let replaced = Replaced { keys: &ids, until_ms };
    let new = make(&desk, &caller, &id, &terms, replaced).await.map_err(failed)?;
    let view = MadeKeyView {
        replaced_keys: Some(ids.iter().map(KeyId::as_str).collect()),
        replaced_keys_end_at: (!ids.is_empty()).then(|| timestamp::format(until_ms)),
        ..MadeKeyView::of(&new)
    };
    Ok(made(&view))
}

/// Whose a key is, and whether it works: for one that was found somewhere
///
/// By its id alone, the 12 characters behind `sg_live_`; never send the whole of it.
#[utoipa::path(get, path = "/v1/admin/keys/{key}", tag = "keys", operation_id = "getKey",
    params(("key" = String, Path, description = "Its id")),
    responses((status = 200, description = "What is kept of it", body = OwnedKeyView)))]
pub(super) async fn show(
    State(desk): State<Arc<Desk>>,
    path: Segment,
    uri: Uri,
) -> Result<Response, Problem> {
    let id = key_id(&segment(path)?)?;
    params::none(&uri)?;
    let key = get(&desk, &id).await?;
    let access = &desk.backing.access;
    let used_at_ms = access.last_key_use(&id).await.map_err(failed)?;
    let client_state = match access.get_client(&key.client).await.map_err(failed)? {
        None => "gone",
        Some(client) if client.enabled => "on",
        Some(_) => "off",
    };
    let key = KeyView::of(&key, used_at_ms, desk.now_ms());
    Ok(render::json(&OwnedKeyView { key, client_state }))
}

/// Revokes a key, for ever and at once
///
/// It is refused by every task of the API within two seconds. One that was revoked before stays so.
#[utoipa::path(delete, path = "/v1/admin/keys/{key}", tag = "keys", operation_id = "revokeKey",
    params(("key" = String, Path, description = "Its id")),
    responses((status = 204, description = "It is revoked")))]
pub(super) async fn revoke(
    State(desk): State<Arc<Desk>>,
    Extension(caller): Extension<Caller>,
    path: Segment,
    uri: Uri,
) -> Result<Response, Problem> {
    let id = key_id(&segment(path)?)?;
    params::none(&uri)?;
    get(&desk, &id).await?;
    let by = caller.by();
    let change = Change { by: &by, at_ms: desk.now_ms() };
    // False: it was revoked before, which is what is wanted.
    desk.backing.access.revoke_key(&id, &change).await.map_err(failed)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn make(
    desk: &Desk,
    caller: &Caller,
    client: &ClientId,
    terms: &KeyTerms,
    replaced: Replaced<'_>,
) -> Result<NewKey, StoreError> {
    let key = ApiKey::generate(&mut |bytes: &mut [u8]| (desk.backing.random)(bytes));
    let by = caller.by();
    let change = Change { by: &by, at_ms: desk.now_ms() };
    desk.backing.access.replace_keys(key, client, terms, replaced, &change).await
}

/// Keys are kept as hashes under the pepper that the API has.
fn makes_keys(desk: &Desk) -> Result<(), Problem> {
    match desk.backing.makes_keys {
        true => Ok(()),
        false => Err(Problem::unavailable(
            "this process cannot make keys: it has no secrets.pepper (SLUICEGATE_SECRETS__PEPPER), which must be the API's",
        )),
    }
}

async fn get(desk: &Desk, id: &KeyId) -> Result<KeyRecord, Problem> {
    let found = desk.backing.access.get_key(id).await.map_err(failed)?;
    found.ok_or_else(Problem::not_found)
}

/// What was given may be a whole key: it is not repeated.
fn key_id(text: &str) -> Result<KeyId, Problem> {
    if text.starts_with("sg_live_") {
        return Err(Problem::bad_request(
            "a key is named by its id, the 12 characters behind sg_live_: the whole of it belongs into no address",
        ));
    }
    KeyId::parse(text).map_err(|_| Problem::not_found())
}

fn not_replaced(why: &NotReplaced, named: &[KeyId]) -> Problem {
    match why {
        NotReplaced::NotItsOwn(id) => {
            let at = named.iter().position(|one| one == id).unwrap_or_default();
            Problem::invalid_field(&format!("/keys/{at}"), &why.to_string())
        }
        NotReplaced::Ended(_) => Problem::conflict(&why.to_string()),
    }
}

fn made(view: &MadeKeyView<'_>) -> Response {
    let mut response = render::json(view);
    *response.status_mut() = StatusCode::CREATED;
    response
}

impl KeyInput {
    /// What a key is to be: as given, else as the one that it replaces.
    fn read(self, replaced: Option<&KeyRecord>) -> Result<KeyTerms, Problem> {
        let label = self.label.or_else(|| replaced.map(|old| old.label.clone()));
        let label = label.unwrap_or_default();
        if label.len() > MAX_LABEL_BYTES {
            let found = label.len();
            let detail = format!("found {found} bytes, allowed are up to {MAX_LABEL_BYTES}");
            return Err(Problem::invalid_field("/label", &detail));
        }
        let lifetime = self.lifetime_seconds;
        if let Some(found) = lifetime.filter(|s| !(1..=MAX_LIFETIME_S).contains(s)) {
            let detail = format!("found {found}, allowed is 1 to {MAX_LIFETIME_S}");
            return Err(Problem::invalid_field("/lifetimeSeconds", &detail));
        }
        let networks = match self.networks {
            Some(networks) => read_networks(&networks)?,
            None => replaced.map(|old| old.networks.clone()).unwrap_or_default(),
        };
        Ok(KeyTerms { label, lifetime: lifetime.map(Duration::from_secs), networks })
    }
}

fn read_networks(texts: &[String]) -> Result<Vec<Network>, Problem> {
    if texts.len() > MAX_NETWORKS {
        let found = texts.len();
        let detail = format!("found {found}, allowed are up to {MAX_NETWORKS}");
        return Err(Problem::invalid_field("/networks", &detail));
    }
    let read = |(at, text): (usize, &String)| {
        let network = text.parse::<Network>();
        network.map_err(|e| Problem::invalid_field(&format!("/networks/{at}"), &e.to_string()))
    };
    texts.iter().enumerate().map(read).collect()
}

impl RotationInput {
    fn named(&self) -> Result<Vec<KeyId>, Problem> {
        if self.keys.len() > MAX_NAMED {
            let detail = format!("found {}, allowed are up to {MAX_NAMED}", self.keys.len());
            return Err(Problem::invalid_field("/keys", &detail));
        }
        let read = |(at, text): (usize, &String)| {
            // It may be a whole key: it is not repeated.
            KeyId::parse(text).map_err(|_| {
                let detail = "found something else, allowed is a key's id: 12 letters and digits";
                Problem::invalid_field(&format!("/keys/{at}"), detail)
            })
        };
        self.keys.iter().enumerate().map(read).collect()
    }

    fn overlap_ms(&self) -> Result<i64, Problem> {
        let seconds = self.overlap_seconds.unwrap_or(OVERLAP_S);
        let ms = i64::try_from(seconds).ok().filter(|_| seconds <= MAX_OVERLAP_S);
        ms.map(|seconds| seconds * 1_000).ok_or_else(|| {
            let detail = format!("found {seconds}, allowed is up to {MAX_OVERLAP_S}");
            Problem::invalid_field("/overlapSeconds", &detail)
        })
    }

    fn key(self) -> KeyInput {
        KeyInput {
            label: self.label,
            lifetime_seconds: self.lifetime_seconds,
            networks: self.networks,
        }
    }
}

impl<'a> KeyView<'a> {
    pub(super) fn of(record: &'a KeyRecord, used_at_ms: Option<i64>, now_ms: i64) -> Self {
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
    fn of(new: &'a NewKey) -> Self {
        Self {
            id: new.record.id.as_str(),
            client: new.record.client.as_str(),
            api_key: new.key.expose(),
            ends_at: timestamp::format(new.record.expires_at_ms),
            replaced_keys: None,
            replaced_keys_end_at: None,
        }
    }
}
