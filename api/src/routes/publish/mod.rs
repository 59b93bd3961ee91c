//! `POST /v1/integrations/{integration}/messages`: one message, or a batch, put on its way.

mod answer;
mod body;
mod repeat;

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::{StatusCode, Uri};
use store::IntegrationName;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::authenticated::Caller;
use super::body::bytes;
use super::envelope::RequestContext;
use super::problem::{MEDIA_TYPE, Problem};
use super::{App, params, render};
use crate::metrics;
use crate::publish::{Asked, BadMessage, Outcome, Outgoing, Publishing, plan};
use answer::PublishJson;
use body::Form;
use repeat::{Repeatable, Step};

/// Of a request's time, what is kept for everything after the sending: a fifth, and no more than this.
const LONGEST_MARGIN: Duration = Duration::from_secs(2);
/// The least that an attempt has, before another may take over.
const SHORTEST_LEASE: Duration = Duration::from_secs(10);

/// Publishes messages into an integration
///
/// One message as `application/json`, or a batch as `application/x-ndjson`: one message a line, lines of white space alone are skipped. All
/// are looked into before any is sent: what is not JSON, would not be a message of this integration, or is not about an entity that the
/// client may publish about, stands against all of them. What was sent may be taken in part, which the answer says message by message.
#[utoipa::path(post, path = "/v1/integrations/{integration}/messages", tag = "messages", operation_id = "publishMessages",
    params(
        ("integration" = String, Path, description = "Name of the integration"),
        ("partition_key" = Option<String>, Query, min_length = 1, max_length = 256,
            description = "The key of all messages; without it each one's entity. Needed, and the entity, where messages do not say theirs"),
        ("idempotency-key" = Option<String>, Header,
            description = "A name for this request, in quotes, of 1 to 255 characters: sent again within a day it is answered again, and not done again"),
    ),
    request_body(description = "The message, or messages", content(
        (serde_json::Value = "application/json",
            example = json!({ "type": "Feature", "properties": { "net": "us", "mag": 4.2, "time": 1_795_435_200_000_u64 } })), (String = "application/x-ndjson"))),
    responses(
        (status = 200, description = "At least one message was taken; `failed` of them were not", body = PublishJson,
            headers(("idempotent-replayed" = String, description = "`true` for the answer of an earlier request"))),
        (status = 400, description = "A parameter is wrong, or a message is not JSON: `line` says which. Nothing was sent",
            body = ref("#/components/schemas/Problem"), content_type = MEDIA_TYPE),
        (status = 409, description = "The same request is in work: sent again it is answered",
            body = ref("#/components/schemas/Problem"), content_type = MEDIA_TYPE,
            headers(("retry-after" = u64, description = "Not worth trying again before so many seconds"))),
        (status = 415, description = "The body is of another media type, or compressed",
            body = ref("#/components/schemas/Problem"), content_type = MEDIA_TYPE,
            headers(("accept-post" = String, description = "The media types that are taken"))),
        (status = 422, description = "A message is none of this integration, or not granted, or there are none, or too many; or the key is that of another request. Nothing was sent",
            body = ref("#/components/schemas/Problem"), content_type = MEDIA_TYPE),
        (status = 503, description = "No message is known to be taken (`messages` says why of each), or there is no room now",
            body = ref("#/components/schemas/Problem"), content_type = MEDIA_TYPE),
    ))]
pub(crate) async fn publish(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(context): Extension<Arc<RequestContext>>,
    segment: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let Path(integration) = segment.map_err(|_| params::not_utf8())?;
    let integration = app.backend.publishable(&caller.client, &integration)?;
    let has_way = |publishing: &&Publishing| publishing.publisher.takes(&integration);
    let publishing = app.publishing.as_ref().filter(has_way).ok_or_else(Problem::not_found)?;
    let key = params::partition_key(request.uri())?;
    let form = Form::of(request.headers())?;
    let room = publishing.room(body::announced(request.headers())).ok_or_else(no_room)?;
    let (head, body) = request.into_parts();
    let body = bytes(body, publishing.limits.max_body_bytes).await?;
    let fingerprint = || repeat::fingerprint(path_and_query(&head.uri), form, &body);
    let repeatable = Repeatable::of(&head.headers, &caller.client.id, fingerprint, &context.id)?;
    let asked =
        Asked { client: &caller.client, integration: &integration, partition_key: key.as_deref() };
    let messages = plan(&*publishing.publisher, &publishing.limits, &asked, form.split(&body))?;
    let work = Work { app: Arc::clone(&app), integration, messages, repeatable, _room: room };
    // A task of its own: a client that goes away while its messages are sent does not leave them half sent.
    let settled = tokio::spawn(work.settle(context.deadline)).await;
    settled.map_err(|_| Problem::internal())?
}

/// What is left to do once a request was looked into.
struct Work {
    app: Arc<App>,
    integration: IntegrationName,
    messages: Vec<Outgoing>,
    repeatable: Option<Repeatable>,
    _room: OwnedSemaphorePermit,
}

impl Work {
    async fn settle(self, request_ends: Instant) -> Result<Response, Problem> {
        let publishing = self.app.publishing.as_ref().ok_or_else(Problem::not_found)?;
        let sending_ends = sending_ends(Instant::now(), request_ends);
        let claim = match self.repeatable {
            None => None,
            Some(repeatable) => {
                let lease = lease(self.app.limits.request_timeout);
                match Box::pin(repeatable.begin(publishing, lease, sending_ends)).await? {
                    Step::Do(claim) => Some(claim),
                    Step::Answer(response) => return Ok(response),
                }
            }
        };
        let outcomes = send(publishing, &self.integration, self.messages, sending_ends).await;
        let answer = PublishJson::of(&outcomes);
        // Half of what is left: the answer itself takes no time, but it must not be too late.
        let kept_by = sending_ends + request_ends.saturating_duration_since(sending_ends) / 2;
        if answer.status() != StatusCode::OK {
            if let Some(claim) = &claim {
                repeat::forget(publishing, claim, kept_by).await;
            }
            let detail = answer::none_taken(&outcomes);
            return Err(Problem::nothing_taken(detail, &answer.messages));
        }
        let body = serde_json::to_vec(&answer).map(Bytes::from).map_err(|_| Problem::internal())?;
        if let Some(claim) = &claim {
            repeat::keep(publishing, claim, body.clone(), kept_by).await;
        }
        Ok(render::of_json(body))
    }
}

/// How long a request is its attempt's alone: longer than any attempt lasts, clocks that differ included.
fn lease(request_timeout: Duration) -> Duration {
    (request_timeout * 2).max(SHORTEST_LEASE)
}

fn path_and_query(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |text| text.as_str())
}

async fn send(
    publishing: &Publishing,
    integration: &IntegrationName,
    messages: Vec<Outgoing>,
    deadline: Instant,
) -> Vec<Outcome> {
    let outcomes = publishing.publisher.publish(integration, messages, deadline).await;
    for outcome in &outcomes {
        metrics::message_published(match outcome {
            Outcome::Taken(_) => "taken",
            Outcome::Refused(refusal) => refusal.code(),
        });
    }
    outcomes
}

/// When the sending must have ended, so that its outcome is answered before the request's own time is over.
fn sending_ends(now: Instant, request_ends: Instant) -> Instant {
    let left = request_ends.saturating_duration_since(now);
    request_ends - (left / 5).min(LONGEST_MARGIN)
}

fn no_room() -> Problem {
    Problem::reduced_capacity("too much is being published", Duration::from_secs(1))
}

impl From<BadMessage> for Problem {
    fn from(bad: BadMessage) -> Self {
        let status = match bad.is_syntax() {
            true => StatusCode::BAD_REQUEST,
            false => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::invalid_message(status, bad.line, bad.code, &bad.found, &bad.allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sending_ends_before_the_request_does() {
        let now = Instant::now();
        let left = |ms| (sending_ends(now, now + Duration::from_millis(ms)) - now).as_millis();
        assert_eq!((left(15_000), left(1_000), left(0)), (13_000, 800, 0));
    }
}
