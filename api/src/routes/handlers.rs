//! One function per route: reads the request, asks the backend, writes the answer.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use store::{Action, Client};

use super::authenticated::Caller;
use super::described::{
    FieldsJson, GrantJson, IntegrationJson, IntegrationsJson, LimitsJson, MeJson, RemainingJson,
    TimeText,
};
use super::params::{self, PageParams};
use super::problem::Problem;
use super::render::{PageJson, Revalidated};
use super::{App, conditional, render};
use crate::backend::{BackendError, Exposed, PageQuestion};
use crate::options::IntegrationInfo;
use crate::publish::Publishing;

/// What may be kept and must be asked about again before it is used.
const REVALIDATE: HeaderValue = HeaderValue::from_static("private, no-cache");

pub(super) type Segments = Result<Path<(String, String)>, PathRejection>;

/// An entity's messages, a page at a time
///
/// Newest first unless `order=oldest`. `next` is the cursor of the next page, and stands in `Link` too; without it this is the last page.
#[utoipa::path(get, path = "/v1/integrations/{integration}/entities/{entity}/messages", tag = "messages",
    operation_id = "listMessages",
    params(
        ("integration" = String, Path, description = "Name of the integration"),
        ("entity" = String, Path, description = "The entity, percent-encoded", min_length = 1, max_length = 512),
        ("from" = inline(Option<TimeText>), Query, description = "Earliest time, inclusive: RFC 3339, or milliseconds since 1970"),
        ("to" = inline(Option<TimeText>), Query, description = "Latest time, exclusive: RFC 3339, or milliseconds since 1970"),
        ("order" = Option<String>, Query, description = "Which end comes first: `newest` (default) or `oldest`", pattern = "^(newest|oldest)$"),
        ("limit" = Option<u32>, Query, description = "Messages in the page; 50 by default", minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query, description = "`next` of an earlier page of this entity, unchanged"),
    ),
    responses((status = 200, description = "A page", body = PageJson,
        headers(("link" = String, description = "Where the next page is, if there is one")))))]
pub(crate) async fn page(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    segments: Segments,
    uri: Uri,
) -> Result<Response, Problem> {
    let (integration, entity) = read(segments)?;
    let params = PageParams::read(&uri)?;
    let limit = params.limit();
    let question = PageQuestion {
        from_ms: params.from_ms,
        to_ms: params.to_ms,
        order: params.order,
        limit,
        cursor: params.cursor,
    };
    let page = app.backend.page(&caller.client, &integration, &entity, &question).await?;
    let mut response = render::page(&app.base_url, &page.messages, page.next.as_deref());
    if let Some(next) = &page.next {
        // A reference of a query alone is relative to the request, so the entity need not be
        // encoded again.
        if let Ok(link) =
            HeaderValue::from_str(&format!("<?limit={limit}&cursor={next}>; rel=\"next\""))
        {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    Ok(response)
}

/// One message, by its `self` link
#[utoipa::path(get, path = "/v1/integrations/{integration}/messages/{locator}", tag = "messages", operation_id = "getMessage",
    params(
        ("integration" = String, Path, description = "Name of the integration"),
        ("locator" = String, Path, description = "The last segment of a message's `self`"),
        ("if-none-match" = Option<String>, Header, description = "An `ETag` that the client has already"),
    ),
    responses(Revalidated))]
pub(crate) async fn message(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    segments: Segments,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (integration, locator) = read(segments)?;
    params::none(&uri)?;
    let exposed = app.backend.message(&caller.client, &integration, &locator).await?;
    Ok(revalidatable(&app.base_url, &headers, &exposed))
}

/// The integrations that this client may do anything with
#[utoipa::path(get, path = "/v1/integrations", tag = "messages", operation_id = "listIntegrations",
    responses((status = 200, description = "All of them", body = IntegrationsJson)))]
pub(crate) async fn integrations(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Problem> {
    params::none(&uri)?;
    let seen = app.backend.integrations(&caller.client);
    let integrations = seen.into_iter().map(|info| describe(&app, info, &caller.client)).collect();
    Ok(render::json(&IntegrationsJson { integrations }))
}

fn describe<'a>(app: &App, info: &'a IntegrationInfo, client: &Client) -> IntegrationJson<'a> {
    let actions = [Action::Read, Action::Publish, Action::Subscribe];
    let has_way = |publishing: &Publishing| publishing.publisher.takes(&info.name);
    let may = |action: &Action| match action {
        // A grant for what cannot be done is of no use.
        Action::Publish if !app.publishing.as_ref().is_some_and(has_way) => false,
        action => client.may_see(*action, &info.name),
    };
    IntegrationJson {
        name: info.name.as_str(),
        description: info.description.as_deref(),
        retention_seconds: info.retention.as_secs(),
        fields: FieldsJson {
            entity: info.entity_pointer.as_deref(),
            time: info.time_pointer.as_deref(),
        },
        actions: actions.into_iter().filter(may).collect(),
        tail: info.tail,
    }
}

/// Who is asking, what it may do, and what is left of its limits
#[utoipa::path(get, path = "/v1/me", tag = "client", operation_id = "getMe",
    responses((status = 200, description = "The client that the key or token is for", body = MeJson)))]
pub(crate) async fn me(
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Problem> {
    params::none(&uri)?;
    let (client, standing) = (&caller.client, caller.standing);
    Ok(render::json(&MeJson {
        id: client.id.as_str(),
        name: &client.name,
        grants: client.grants.iter().map(GrantJson::of).collect(),
        limits: LimitsJson::of(&standing),
        remaining: RemainingJson::of(&standing),
    }))
}

pub(super) fn read(segments: Segments) -> Result<(String, String), Problem> {
    let Path(pair) = segments.map_err(|_| params::not_utf8())?;
    Ok(pair)
}

/// A message, or only its tag for a client that has it already.
pub(super) fn revalidatable(base_url: &str, headers: &HeaderMap, exposed: &Exposed) -> Response {
    let tag = conditional::tag(&exposed.version());
    let mut response = if conditional::none_match(headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        render::message(base_url, exposed)
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, REVALIDATE);
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

impl From<BackendError> for Problem {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::NotFound => Self::not_found(),
            BackendError::Invalid { parameter, found, allowed } => {
                Self::invalid_parameter(parameter, &found, allowed)
            }
            BackendError::TailOff => Self::tail_off(),
            BackendError::CursorExpired => Self::cursor_expired(),
            BackendError::Unavailable => Self::unavailable("messages cannot be read now"),
            BackendError::Internal => Self::internal(),
        }
    }
}
