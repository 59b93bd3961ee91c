//! One function per route: reads the request, asks the backend, writes the answer.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use serde_json::{Value, json};
use store::{Action, Client, GrantScope};

use super::authenticated::Caller;
use super::params::{self, PageParams};
use super::problem::Problem;
use super::{App, conditional, render};
use crate::backend::{BackendError, Exposed, PageQuestion};
use crate::options::IntegrationInfo;

/// What may be kept and must be asked about again before it is used.
const REVALIDATE: HeaderValue = HeaderValue::from_static("private, no-cache");

pub(super) type Segments = Result<Path<(String, String)>, PathRejection>;

/// `GET /v1/integrations/{integration}/entities/{entity}/messages`
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

/// `GET /v1/integrations/{integration}/messages/{locator}`
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

/// `GET /v1/integrations`
pub(crate) async fn integrations(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Problem> {
    params::none(&uri)?;
    let seen = app.backend.integrations(&caller.client);
    let described: Vec<Value> =
        seen.into_iter().map(|info| describe(info, &caller.client)).collect();
    Ok(render::json(&json!({ "integrations": described })))
}

fn describe(info: &IntegrationInfo, client: &Client) -> Value {
    let actions = [Action::Read, Action::Publish, Action::Subscribe];
    let granted: Vec<Action> =
        actions.into_iter().filter(|action| client.may_see(*action, &info.name)).collect();
    json!({
        "name": info.name,
        "description": info.description,
        "retentionSeconds": info.retention.as_secs(),
        "fields": { "entity": info.entity_pointer, "time": info.time_pointer },
        "actions": granted,
    })
}

/// `GET /v1/me`
pub(crate) async fn me(
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Problem> {
    params::none(&uri)?;
    let (client, standing) = (&caller.client, caller.standing);
    let grants: Vec<Value> = client
        .grants
        .iter()
        .map(|grant| {
            let integration = match &grant.integration {
                GrantScope::All => "*",
                GrantScope::One(name) => name.as_str(),
            };
            json!({
                "integration": integration,
                "action": grant.action,
                "entityPrefix": grant.entity_prefix,
                "filter": grant.filter,
                "fields": grant.fields,
            })
        })
        .collect();
    Ok(render::json(&json!({
        "id": client.id,
        "name": client.name,
        "grants": grants,
        "limits": {
            "requestsPerSecond": standing.limits.rate_per_second,
            "burst": standing.limits.burst,
            "concurrentRequests": standing.limits.concurrent,
        },
        "remaining": { "requests": standing.remaining },
    })))
}

pub(super) fn read(segments: Segments) -> Result<(String, String), Problem> {
    let Path(pair) = segments
        .map_err(|_| Problem::bad_request("a path segment is not UTF-8 after percent-decoding"))?;
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
    if let Ok(tag) = HeaderValue::from_str(&tag) {
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
            BackendError::Unavailable => Self::unavailable("messages cannot be read now"),
            BackendError::Internal => Self::internal(),
        }
    }
}
