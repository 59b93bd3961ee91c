//! Whose access tokens are a client's: an issuer's clients, bound and unbound.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use store::{Change, OAuthBinding};
use utoipa::ToSchema;

use super::super::guard::Caller;
use super::super::service::Desk;
use super::failure::failed;
use super::{Segment, client_id, clients, segment};
use crate::routes::problem::Problem;
use crate::routes::{body, params, render};
use crate::timestamp;

/// Bytes that an issuer, and its name of a client, may have.
const MAX_ISSUER_BYTES: usize = 512;
const MAX_CLIENT_BYTES: usize = 256;

/// An issuer's client: body of `POST /v1/admin/clients/{client}/oauth-clients`.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewOAuthBinding)]
pub(super) struct BindingInput {
    /// The issuer, as its tokens' `iss` has it, byte for byte: up to 512 bytes without white space.
    #[schema(min_length = 1)]
    issuer: String,
    /// The client's name there, as its tokens have it: up to 256 bytes.
    #[schema(min_length = 1)]
    oauth_client_id: String,
}

/// An issuer's client that is bound.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = OAuthBinding)]
pub(super) struct BindingView<'a> {
    client: &'a str,
    issuer: &'a str,
    oauth_client_id: &'a str,
    #[schema(format = DateTime)]
    bound_at: String,
}

/// From now on the access tokens that an issuer gives to its client are this client's
///
/// The issuer must be in `[[api.oauth.issuers]]` of the API's configuration, written alike.
#[utoipa::path(post, path = "/v1/admin/clients/{client}/oauth-clients", tag = "clients", operation_id = "bindOAuthClient",
    params(("client" = String, Path, description = "Whose they are to be")),
    request_body = BindingInput,
    responses(
        (status = 201, description = "It is bound", body = BindingView),
        (status = 409, description = "It is bound already, to this client or to another"),
    ))]
pub(super) async fn bind(
    State(desk): State<Arc<Desk>>,
    Extension(caller): Extension<Caller>,
    path: Segment,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let id = client_id(&segment(path)?)?;
    params::none(&uri)?;
    let wanted: BindingInput = body::read(desk.limits.max_body_bytes, &headers, body).await?;
    check("/issuer", &wanted.issuer, MAX_ISSUER_BYTES, false)?;
    check("/oauthClientId", &wanted.oauth_client_id, MAX_CLIENT_BYTES, true)?;
    clients::get(&desk, &id).await?;
    let by = caller.by();
    let change = Change { by: &by, at_ms: desk.now_ms() };
    let (issuer, name) = (&wanted.issuer, &wanted.oauth_client_id);
    let bound = desk.backing.access.bind_oauth(&id, issuer, name, &change).await;
    let bound = bound.map_err(|error| match error.is_conflict() {
        true => Problem::conflict("it is bound already: unbind it from the client that it is of"),
        false => failed(error),
    })?;
    let mut response = render::json(&BindingView::of(&bound));
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// The access tokens that an issuer gives to its client are nobody's any more
#[utoipa::path(delete, path = "/v1/admin/clients/{client}/oauth-clients", tag = "clients", operation_id = "unbindOAuthClient",
    params(
        ("client" = String, Path, description = "Whose they are"),
        ("issuer" = String, Query, description = "The issuer, as it was bound"),
        ("oauthClientId" = String, Query, description = "The client's name there"),
    ),
    responses(
        (status = 204, description = "It is not bound any more"),
        (status = 409, description = "Somebody else changed it at the same moment"),
    ))]
pub(super) async fn unbind(
    State(desk): State<Arc<Desk>>,
    Extension(caller): Extension<Caller>,
    path: Segment,
    uri: Uri,
) -> Result<Response, Problem> {
    let id = client_id(&segment(path)?)?;
    let names = ["issuer", "oauthClientId"];
    let [issuer, name] = params::all_of(&uri, names)?;
    let by = caller.by();
    let change = Change { by: &by, at_ms: desk.now_ms() };
    let unbound = desk.backing.access.unbind_oauth(&issuer, &name, Some(&id), &change).await;
    match unbound.map_err(failed)? {
        Some(_) => Ok(StatusCode::NO_CONTENT.into_response()),
        None => Err(Problem::not_found()),
    }
}

/// What the store would refuse, by its place.
fn check(field: &str, found: &str, most: usize, may_have_spaces: bool) -> Result<(), Problem> {
    let is_odd = |c: char| c.is_control() || (!may_have_spaces && c.is_whitespace());
    if !(1..=most).contains(&found.len()) || found.contains(is_odd) {
        let what = if may_have_spaces { "control characters" } else { "white space" };
        let bytes = found.len();
        let detail = format!("found {bytes} bytes, allowed are 1 to {most} without {what}");
        return Err(Problem::invalid_field(field, &detail));
    }
    Ok(())
}

impl<'a> BindingView<'a> {
    pub(super) fn of(binding: &'a OAuthBinding) -> Self {
        Self {
            client: binding.client.as_str(),
            issuer: &binding.issuer,
            oauth_client_id: &binding.oauth_client,
            bound_at: timestamp::format(binding.created_at_ms),
        }
    }
}
