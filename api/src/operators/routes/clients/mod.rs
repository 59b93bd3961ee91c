//! `/v1/admin/clients`: who may ask the API, and what. `input` is what an operator writes, `view` what they see.

mod input;
mod view;

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::stream::{self, StreamExt, TryStreamExt};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use store::{Change, Client, ClientId, KeyId};

use self::input::{ClientPatch, NewClient};
use self::view::{ClientView, ClientsView, WholeClientView};
pub(super) use self::view::{DAY_MS, UsedView};
use super::super::guard::Caller;
use super::super::service::Desk;
use super::failure::{conditioned, failed};
use super::keys::KeyView;
use super::oauth::BindingView;
use super::{Segment, client_id, segment};
use crate::routes::problem::Problem;
use crate::routes::{body, conditional, params, render};

/// Look-ups beside each other, for what is read one by one.
pub(super) const READS_AT_ONCE: usize = 16;

/// All clients, in the order of their ids
#[utoipa::path(get, path = "/v1/admin/clients", tag = "clients", operation_id = "listClients",
    params(
        ("limit" = Option<u32>, Query, description = "Clients in the page; 50 by default", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "`next` of an earlier page, unchanged"),
    ),
    responses((status = 200, description = "A page, which may be short although there are more", body = ClientsView)))]
pub(super) async fn list(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Problem> {
    let page = params::ListParams::read(&uri, &[])?;
    let (clients, next) = some(&desk, &page).await?;
    let clients = clients.iter().map(ClientView::of).collect();
    Ok(render::json(&ClientsView { clients, next: next.map(|id| id.to_string()) }))
}

/// The page of clients that a request asks for.
pub(super) async fn some(
    desk: &Desk,
    page: &params::ListParams,
) -> Result<(Vec<Client>, Option<ClientId>), Problem> {
    let after = page.cursor.as_deref().map(|text| {
        ClientId::parse(text).map_err(|_| {
            Problem::invalid_parameter("cursor", text, "the next of an earlier page, unchanged")
        })
    });
    let found = desk.backing.access.some_clients(after.transpose()?.as_ref(), page.limit()).await;
    found.map_err(failed)
}

/// Makes a client
///
/// It has no key: `POST /v1/admin/clients/{client}/keys` gives it one.
#[utoipa::path(post, path = "/v1/admin/clients", tag = "clients", operation_id = "createClient",
    request_body = NewClient,
    responses(
        (status = 201, description = "It is made", body = ClientView,
            headers(("location" = String, description = "Its address"), ("etag" = String, description = "Names this version of it"))),
        (status = 409, description = "There is, or was, a client of this id"),
    ))]
pub(super) async fn create(
    State(desk): State<Arc<Desk>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    params::none(&uri)?;
    let wanted: NewClient = body::read(desk.limits.max_body_bytes, &headers, body).await?;
    let at_ms = desk.now_ms();
    let client = wanted.read(at_ms, &mut |bytes: &mut [u8]| (desk.backing.random)(bytes))?;
    let by = caller.by();
    let made = desk.backing.access.put_client(&client, &Change { by: &by, at_ms }).await;
    let client = made.map_err(|error| match error.is_conflict() {
        true => Problem::conflict("there is, or was, a client of this id: ids are not given twice"),
        false => failed(error),
    })?;
    let mut response = tagged(&client, render::json(&ClientView::of(&client)));
    *response.status_mut() = StatusCode::CREATED;
    if let Ok(place) = HeaderValue::from_str(&format!("/v1/admin/clients/{}", client.id)) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// One client, with its keys (never their secrets), its OAuth clients and what it used today
///
/// The `ETag` names the version of the client itself, for `If-Match`: its keys and what it used change without it.
#[utoipa::path(get, path = "/v1/admin/clients/{client}", tag = "clients", operation_id = "getClient",
    params(("client" = String, Path, description = "Its id")),
    responses((status = 200, description = "It", body = WholeClientView, headers(("etag" = String, description = "Names this version of it")))))]
pub(super) async fn show(
    State(desk): State<Arc<Desk>>,
    path: Segment,
    uri: Uri,
) -> Result<Response, Problem> {
    let id = client_id(&segment(path)?)?;
    params::none(&uri)?;
    let client = get(&desk, &id).await?;
    let access = &desk.backing.access;
    let now_ms = desk.now_ms();
    let mut keys = access.list_keys(&id).await.map_err(failed)?;
    // The newest first: of many keys these are the ones that matter.
    keys.sort_by_key(|key| (std::cmp::Reverse(key.created_at_ms), key.id.clone()));
    let ids: Vec<KeyId> = keys.iter().map(|key| key.id.clone()).collect();
    let looks = ids.into_iter().map(|id| async move { access.last_key_use(&id).await });
    let used_at = stream::iter(looks).buffered(READS_AT_ONCE).try_collect::<Vec<_>>();
    let used_at = used_at.await.map_err(failed)?;
    let oauth = access.list_oauth(&id).await.map_err(failed)?;
    let used = desk.backing.usage.used(&id, now_ms.div_euclid(DAY_MS)).await.map_err(failed)?;
    let keys = keys.iter().zip(used_at).map(|(key, used_at)| KeyView::of(key, used_at, now_ms));
    let view = WholeClientView::of(
        &client,
        &desk.limits,
        keys.collect(),
        oauth.iter().map(BindingView::of).collect(),
        used,
    );
    Ok(tagged(&client, render::json(&view)))
}

/// Changes a client: its name, whether it is on, its grants, its limits
///
/// A merge patch (RFC 7396): what the body leaves out stays, `null` takes away. Grants are replaced as a whole. It holds in every task of the API within two seconds.
#[utoipa::path(patch, path = "/v1/admin/clients/{client}", tag = "clients", operation_id = "changeClient",
    params(("client" = String, Path, description = "Its id"), ("if-match" = Option<String>, Header, description = "The `ETag` of the version that is to be changed")),
    request_body = ClientPatch,
    responses(
        (status = 200, description = "As it is now", body = ClientView, headers(("etag" = String, description = "Names this version of it"))),
        (status = 409, description = "Somebody else changed it at the same moment"),
        (status = 412, description = "It is not at the version of `If-Match`"),
    ))]
pub(super) async fn change(
    State(desk): State<Arc<Desk>>,
    Extension(caller): Extension<Caller>,
    path: Segment,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let id = client_id(&segment(path)?)?;
    params::none(&uri)?;
    let patch: ClientPatch = body::read(desk.limits.max_body_bytes, &headers, body).await?;
    let client = expected(&headers, get(&desk, &id).await?)?;
    let client = patch.apply(client)?;
    let by = caller.by();
    let change = Change { by: &by, at_ms: desk.now_ms() };
    let changed = desk.backing.access.put_client(&client, &change).await;
    let client = changed.map_err(|error| conditioned(&headers, error))?;
    Ok(tagged(&client, render::json(&ClientView::of(&client))))
}

/// Deletes a client, for ever
///
/// Its keys and tokens prove nothing any more, its subscriptions deliver nothing, and its id is never given out again.
#[utoipa::path(delete, path = "/v1/admin/clients/{client}", tag = "clients", operation_id = "deleteClient",
    params(("client" = String, Path, description = "Its id"), ("if-match" = Option<String>, Header, description = "The `ETag` of the version that is to be deleted")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 409, description = "Somebody else changed it at the same moment"),
        (status = 412, description = "It is not at the version of `If-Match`"),
    ))]
pub(super) async fn delete(
    State(desk): State<Arc<Desk>>,
    Extension(caller): Extension<Caller>,
    path: Segment,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = client_id(&segment(path)?)?;
    params::none(&uri)?;
    let client = expected(&headers, get(&desk, &id).await?)?;
    let by = caller.by();
    let change = Change { by: &by, at_ms: desk.now_ms() };
    let deleted = desk.backing.access.delete_client_at(&id, client.version, &change).await;
    deleted.map_err(|error| conditioned(&headers, error))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A client that exists.
pub(super) async fn get(desk: &Desk, id: &ClientId) -> Result<Client, Problem> {
    let found = desk.backing.access.get_client(id).await.map_err(failed)?;
    found.ok_or_else(Problem::not_found)
}

/// The client, if it is at the version that the request asks for.
fn expected(headers: &HeaderMap, client: Client) -> Result<Client, Problem> {
    match conditional::matches(headers, &tag(&client)) {
        true => Ok(client),
        false => Err(Problem::precondition_failed()),
    }
}

fn tag(client: &Client) -> String {
    conditional::tag(&client.version.to_string())
}

fn tagged(client: &Client, mut response: Response) -> Response {
    if let Ok(tag) = HeaderValue::from_str(&tag(client)) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}
