//! `/v1/subscriptions`: what a client has pushed, where to, and how.
//!
//! `input` is what it writes, `view` what it sees; what is allowed is decided in `manage`. Every answer about one
//! subscription has its version as a strong `ETag`; `If-Match` holds a change to it.

mod input;
mod view;

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use store::{ROTATION_OVERLAP, Subscription, SubscriptionId};

use self::input::{NewSubscription, RotationInput, SubscriptionPatch};
use self::view::{SubscriptionView, SubscriptionsView, TestView};
use super::authenticated::Caller;
use super::envelope::RequestContext;
use super::problem::Problem;
use super::{App, body, conditional, params, render};
use crate::manage::{Actor, ManageError, Rotation};

/// The only segment of a path.
pub(super) type Segment = Result<Path<String>, PathRejection>;

/// Who asks, and in which request.
pub(super) type Context = Extension<Arc<RequestContext>>;

/// The client's own subscriptions, in the order of their ids
///
/// A client that has none, or may have none, gets an empty page.
#[utoipa::path(get, path = "/v1/subscriptions", tag = "subscriptions", operation_id = "listSubscriptions",
    params(
        ("limit" = Option<u32>, Query, description = "Subscriptions in the page; 50 by default", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "`next` of an earlier page, unchanged"),
    ),
    responses((status = 200, description = "A page", body = SubscriptionsView)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Problem> {
    let page = params::ListParams::read(&uri, &[])?;
    let after = page.cursor.as_deref().map(cursor).transpose()?;
    let found = app.manager.subscriptions(&caller.client, after.as_ref(), page.limit()).await?;
    let now_ms = app.manager.now_ms();
    let subscriptions = found.0.iter().map(|one| SubscriptionView::of(one, now_ms)).collect();
    let next = found.1.map(|id| id.to_string());
    Ok(render::json(&SubscriptionsView { subscriptions, next }))
}

fn cursor(text: &str) -> Result<SubscriptionId, Problem> {
    SubscriptionId::parse(text).map_err(|_| {
        Problem::invalid_parameter("cursor", text, "the next of an earlier page, unchanged")
    })
}

/// Has messages pushed to a destination, from now on
///
/// The secret that a webhook is signed with is in this answer and in no other.
#[utoipa::path(post, path = "/v1/subscriptions", tag = "subscriptions", operation_id = "createSubscription",
    request_body = NewSubscription,
    responses(
        (status = 201, description = "It is made", body = SubscriptionView,
            headers(("location" = String, description = "Its address"), ("etag" = String, description = "Names this version of it"))),
        (status = 404, description = "The client may subscribe to nothing"),
        (status = 409, description = "The client has as many as it may have"),
    ))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(context): Context,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    params::none(&uri)?;
    let wanted: NewSubscription = body::read(app.limits.max_body_bytes, &headers, body).await?;
    let draft = wanted.read().map_err(ManageError::from)?;
    let made = Box::pin(app.manager.subscribe(actor(&caller, &context), draft)).await?;
    let one = &made.subscription;
    let view = SubscriptionView::made(one, made.key.as_ref(), app.manager.now_ms());
    let mut response = tagged(one, render::json(&view));
    *response.status_mut() = StatusCode::CREATED;
    if let Ok(place) =
        HeaderValue::from_str(&format!("{}/v1/subscriptions/{}", app.base_url, one.id))
    {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// One of the client's subscriptions
#[utoipa::path(get, path = "/v1/subscriptions/{subscription}", tag = "subscriptions", operation_id = "getSubscription",
    params(
        ("subscription" = String, Path, description = "Its id"),
        ("if-none-match" = Option<String>, Header, description = "An `ETag` that the client has already"),
    ),
    responses(
        (status = 200, description = "It", body = SubscriptionView, headers(("etag" = String, description = "Names this version of it"))),
        (status = 304, description = "The client has this version", headers(("etag" = String))),
    ))]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    segment: Segment,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = read(segment)?;
    params::none(&uri)?;
    let one = app.manager.subscription(&caller.client, &id).await?;
    let response = match conditional::none_match(&headers, &tag(&one)) {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => render::json(&SubscriptionView::of(&one, app.manager.now_ms())),
    };
    Ok(tagged(&one, response))
}

/// Changes one of the client's subscriptions
///
/// A merge patch (RFC 7396): what the body leaves out stays, `null` takes away.
#[utoipa::path(patch, path = "/v1/subscriptions/{subscription}", tag = "subscriptions", operation_id = "changeSubscription",
    params(("subscription" = String, Path, description = "Its id"), ("if-match" = Option<String>, Header, description = "The `ETag` of the version that is to be changed")),
    request_body = SubscriptionPatch,
    responses(
        (status = 200, description = "As it is now", body = SubscriptionView, headers(("etag" = String, description = "Names this version of it"))),
        (status = 409, description = "Somebody else changed it at the same moment"),
        (status = 412, description = "It is not at the version of `If-Match`"),
    ))]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(context): Context,
    segment: Segment,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let id = read(segment)?;
    params::none(&uri)?;
    let patch: SubscriptionPatch = body::read(app.limits.max_body_bytes, &headers, body).await?;
    let change = patch.read().map_err(ManageError::from)?;
    let at = |version| conditional::matches(&headers, &version_tag(version));
    let actor = actor(&caller, &context);
    let changed = Box::pin(app.manager.change_subscription(actor, &id, at, change)).await;
    let one = changed.map_err(|error| conditioned(&headers, error))?;
    Ok(tagged(&one, render::json(&SubscriptionView::of(&one, app.manager.now_ms()))))
}

/// Deletes one of the client's subscriptions
///
/// What waited for it becomes dead letters.
#[utoipa::path(delete, path = "/v1/subscriptions/{subscription}", tag = "subscriptions", operation_id = "deleteSubscription",
    params(("subscription" = String, Path, description = "Its id"), ("if-match" = Option<String>, Header, description = "The `ETag` of the version that is to be changed")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 412, description = "It is not at the version of `If-Match`"),
    ))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(context): Context,
    segment: Segment,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = read(segment)?;
    params::none(&uri)?;
    let at = |version| conditional::matches(&headers, &version_tag(version));
    let deleted = app.manager.unsubscribe(actor(&caller, &context), &id, at).await;
    deleted.map_err(|error| conditioned(&headers, error))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Gives a webhook a new signing key
///
/// The old ones sign beside it until the overlap ends. Of an Ed25519 pair the public half stands in the keys, and no secret is shown.
#[utoipa::path(post, path = "/v1/subscriptions/{subscription}/secret/rotate", tag = "subscriptions", operation_id = "rotateSecret",
    params(("subscription" = String, Path, description = "Its id")),
    request_body(content = Option<RotationInput>),
    responses(
        (status = 200, description = "With the new secret, shown this once", body = SubscriptionView, headers(("etag" = String, description = "Names this version of it"))),
        (status = 409, description = "It is signed by no key, or somebody else changed it at the same moment"),
    ))]
pub(crate) async fn rotate(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(context): Context,
    segment: Segment,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let id = read(segment)?;
    params::none(&uri)?;
    let wanted: RotationInput =
        body::read_or_default(app.limits.max_body_bytes, &headers, body).await?;
    let overlap = wanted.overlap_seconds.map_or(ROTATION_OVERLAP, Duration::from_secs);
    let rotation = Rotation { kind: wanted.signing.into(), overlap };
    let made = app.manager.rotate_secret(actor(&caller, &context), &id, rotation).await?;
    let one = &made.subscription;
    let view = SubscriptionView::made(one, made.key.as_ref(), app.manager.now_ms());
    Ok(tagged(one, render::json(&view)))
}

/// Has a test delivered to one of the client's subscriptions
///
/// A signed message of the integration `sluicegate.events` with the type `subscription.test`, delivered like any other: what became of it is told under the answer's `Location`.
#[utoipa::path(post, path = "/v1/subscriptions/{subscription}/test", tag = "subscriptions", operation_id = "testSubscription",
    params(("subscription" = String, Path, description = "Its id")),
    responses(
        (status = 202, description = "It is due now", body = TestView,
            headers(("location" = String, description = "What became of it"))),
        (status = 409, description = "The subscription is switched off"),
    ))]
pub(crate) async fn test(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(context): Context,
    segment: Segment,
    uri: Uri,
) -> Result<Response, Problem> {
    let id = read(segment)?;
    params::none(&uri)?;
    let message = app.manager.test_delivery(actor(&caller, &context), &id).await?;
    let place = format!("{}/v1/deliveries/{message}?subscription={id}", app.base_url);
    let view = TestView { message: message.to_string(), subscription: id };
    let mut response = render::json(&view);
    *response.status_mut() = StatusCode::ACCEPTED;
    if let Ok(place) = HeaderValue::from_str(&place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

pub(super) fn actor<'a>(caller: &'a Caller, context: &'a RequestContext) -> Actor<'a> {
    Actor { client: &caller.client, request: &context.id }
}

pub(super) fn read(segment: Segment) -> Result<String, Problem> {
    let Path(text) = segment
        .map_err(|_| Problem::bad_request("a path segment is not UTF-8 after percent-decoding"))?;
    Ok(text)
}

fn version_tag(version: u64) -> String {
    conditional::tag(&version.to_string())
}

fn tag(subscription: &Subscription) -> String {
    version_tag(subscription.version)
}

fn tagged(subscription: &Subscription, mut response: Response) -> Response {
    if let Ok(tag) = HeaderValue::from_str(&tag(subscription)) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// A change that met another one: what the client was told to expect did not hold, or nothing was told.
fn conditioned(headers: &HeaderMap, error: ManageError) -> Problem {
    match error {
        ManageError::Changed if headers.contains_key(header::IF_MATCH) => {
            Problem::precondition_failed()
        }
        error => error.into(),
    }
}

impl From<ManageError> for Problem {
    fn from(error: ManageError) -> Self {
        match error {
            ManageError::NotFound => Self::not_found(),
            ManageError::Invalid(fault) => Self::invalid_field(&fault.field, &fault.detail),
            ManageError::Parameter { name, found, allowed } => {
                Self::invalid_parameter(name, &found, allowed)
            }
            ManageError::Conflict(why) => Self::conflict(&why),
            ManageError::Changed => {
                Self::conflict("somebody else changed it at the same moment: read it and try again")
            }
            ManageError::Unavailable => Self::unavailable("this cannot be read or changed now"),
            ManageError::Internal => Self::internal(),
        }
    }
}
