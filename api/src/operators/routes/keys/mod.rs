//! API keys: issued, rotated, looked up by their ids, revoked. A key in clear is in the one answer that made it. `input` is
//! what an operator writes, `view` what they see.

mod input;
mod view;

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, Uri};
use store::{
    ApiKey, Change, ClientId, KeyId, KeyRecord, KeyTerms, NewKey, NotReplaced, Replaced,
    StoreError, plan_rotation,
};

use self::input::{KeyInput, MAX_NAMED, RotationInput};
pub(super) use self::view::KeyView;
use self::view::{MadeKeyView, OwnedKeyView};
use super::super::guard::Caller;
use super::super::service::Desk;
use super::failure::failed;
use super::{Segment, client_id, clients, segment};
use crate::routes::problem::Problem;
use crate::routes::{body, params, render};

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
    Ok(made(&MadeKeyView::of(&new).replacing(&ids, until_ms)))
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
