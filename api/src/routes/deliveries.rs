//! `/v1/deliveries`: what waits for a client's destinations, what was given up, and what became of one message.
//!
//! No payload is shown here, and nothing of a message that its client may not see.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Uri};
use serde::{Deserialize, Serialize};
use store::{
    AttemptRecord, DeadReason, DeliveryCase, DeliveryFate, GivenUp, Message, MessageId,
    ParkedSummary,
};
use utoipa::ToSchema;

use super::authenticated::Caller;
use super::problem::Problem;
use super::replays::{self, ReplayView, message_ids};
use super::subscriptions::{Context, Segment, actor, read};
use super::{App, body, params, render};
use crate::manage::{Kept, KeptState, ManageError, ReplayWanted, ReplayWhat, Traced};
use crate::timestamp;

/// Some deliveries.
#[derive(Serialize, ToSchema)]
#[schema(as = Deliveries)]
pub(super) struct DeliveriesView {
    deliveries: Vec<KeptView>,
    /// The cursor of the next page; null on the last one. A page may be short, or even empty, and not be the last.
    next: Option<String>,
}

/// A delivery that failed.
#[derive(Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Delivery)]
struct KeptView {
    /// The message's id.
    message: String,
    integration: String,
    /// What the message is about, where all of that is granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    entity: Option<String>,
    /// `waits` or `given-up`.
    state: &'static str,
    /// Attempts made.
    attempts: u32,
    /// Of what waits: when its first attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    first_failed_at: Option<String>,
    /// Of what waits: when its next attempt is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    due_at: Option<String>,
    /// Of what was given up: when its message arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    arrived_at: Option<String>,
    /// Of what was given up: when.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    given_up_at: Option<String>,
    /// Of what was given up: why, as a code.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<&'static str>,
    /// What the last attempt met, in words.
    detail: String,
}

/// What became of one message.
#[derive(Serialize, ToSchema)]
#[schema(as = DeliveryTrace)]
pub(super) struct TracedView {
    message: TracedMessage,
    /// For each subscription; by a message's id alone, only those that know of it.
    deliveries: Vec<CaseView>,
}

/// The message itself; of what is known by its id alone, the id.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TracedMessage {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    integration: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    entity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    arrived_at: Option<String>,
}

/// What became of a message for one subscription.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeliveryCase)]
struct CaseView {
    subscription: String,
    /// `delivered`, `waits`, `in-stream`, `given-up`, `not-wanted`, `not-yet` or `no-trace`.
    state: &'static str,
    /// Of what was delivered: not before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    delivered_after: Option<String>,
    /// Of what was delivered: not after.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    delivered_by: Option<String>,
    /// Of what waits: when its next attempt is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    due_at: Option<String>,
    /// Of what waits in the stream: since when its destination is down or behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    behind_since: Option<String>,
    /// Of what was given up: why, as a code.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<&'static str>,
    /// What it met last, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    detail: Option<String>,
    /// Those of a delivery that did not succeed at once, the oldest first.
    attempts: Vec<AttemptView>,
}

/// One attempt.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Attempt)]
struct AttemptView {
    number: u32,
    #[schema(format = DateTime)]
    at: String,
    took_ms: u64,
    /// `accepted`, or how it failed.
    outcome: String,
    /// The status and the beginning of the answer, in words.
    detail: String,
}

/// What is to be delivered again: body of `POST /v1/deliveries/redrive`.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Redrive {
    /// For which of the client's subscriptions.
    subscription: String,
    /// Only these messages, up to 100; all that was given up, if there are none.
    #[serde(default)]
    messages: Vec<String>,
}

/// What is kept of a subscription's deliveries that failed
///
/// What waits comes with what is due first, what was given up with the newest arrival. Nothing is kept of deliveries that succeeded at once.
#[utoipa::path(get, path = "/v1/deliveries", tag = "deliveries", operation_id = "listDeliveries",
    params(
        ("subscription" = String, Query, description = "Which of the client's subscriptions"),
        ("state" = Option<String>, Query, description = "`waits` (default) or `given-up`", pattern = "^(waits|given-up)$"),
        ("limit" = Option<u32>, Query, description = "Deliveries in the page; 50 by default", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "`next` of an earlier page of the same, unchanged"),
    ),
    responses(
        (status = 200, description = "A page", body = DeliveriesView),
        (status = 404, description = "There is no such subscription of the client's"),
    ))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Problem> {
    let page = params::ListParams::read(&uri, &["subscription", "state"])?;
    let Some(subscription) = page.get("subscription") else {
        let allowed = "the id of one of your subscriptions";
        return Err(Problem::invalid_parameter("subscription", "", allowed));
    };
    let state = match page.get("state") {
        None | Some("waits") => KeptState::Waits,
        Some("given-up") => KeptState::GivenUp,
        Some(other) => {
            return Err(Problem::invalid_parameter("state", other, "waits or given-up"));
        }
    };
    let (client, cursor) = (&caller.client, page.cursor.as_deref());
    let found = app.manager.kept_deliveries(client, subscription, state, cursor, page.limit());
    let (kept, next) = found.await?;
    let deliveries = match kept {
        Kept::Waiting(rows) => rows.into_iter().map(waiting).collect(),
        Kept::GivenUp(rows) => rows.into_iter().map(given_up).collect(),
    };
    Ok(render::json(&DeliveriesView { deliveries, next }))
}

fn waiting((row, shows_entity): (ParkedSummary, bool)) -> KeptView {
    KeptView {
        message: row.key.message.to_string(),
        integration: row.integration.to_string(),
        entity: shows_entity.then(|| row.entity.to_string()),
        state: DeliveryFate::Waits.code(),
        attempts: row.attempts,
        first_failed_at: Some(timestamp::format(row.first_failed_at_ms)),
        due_at: Some(timestamp::format(row.due_at_ms)),
        detail: row.last_error,
        ..KeptView::default()
    }
}

fn given_up(row: GivenUp) -> KeptView {
    KeptView {
        message: row.message.to_string(),
        integration: row.integration.to_string(),
        state: DeliveryFate::GivenUp.code(),
        attempts: row.attempts,
        arrived_at: Some(timestamp::format(row.arrived_at_ms)),
        given_up_at: Some(timestamp::format(row.at_ms)),
        reason: Some(row.reason.code()),
        detail: row.detail,
        ..KeptView::default()
    }
}

/// What became of one message for the client's subscriptions
///
/// By the last segment of the message's `self` link everything that is known is told; by its id (`msg_...`) only what waits or was attempted is found.
#[utoipa::path(get, path = "/v1/deliveries/{message}", tag = "deliveries", operation_id = "traceMessage",
    params(
        ("message" = String, Path, description = "The last segment of a message's `self`, or its id"),
        ("subscription" = Option<String>, Query, description = "Only for this one of the client's subscriptions"),
    ),
    responses((status = 200, description = "What became of it", body = TracedView)))]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    segment: Segment,
    uri: Uri,
) -> Result<Response, Problem> {
    let message = read(segment)?;
    let only = params::only(&uri, "subscription")?;
    let traced = app.manager.trace(&caller.client, &message, only.as_deref());
    Ok(render::json(&traced_view(&Box::pin(traced).await?)))
}

fn traced_view(traced: &Traced) -> TracedView {
    let message = traced.message.as_ref();
    let about = TracedMessage {
        id: traced.id.to_string(),
        integration: message.map(|message| message.integration.to_string()),
        entity: message.map(|message| message.entity.to_string()),
        arrived_at: message.map(|message| timestamp::format(message.arrived_at_ms)),
    };
    let deliveries = traced.cases.iter().map(|case| case_view(case, message)).collect();
    TracedView { message: about, deliveries }
}

fn case_view(case: &DeliveryCase, message: Option<&Message>) -> CaseView {
    let trace = &case.trace;
    // What was given up because it is not granted any more does not exist for its client.
    let withheld = trace.dead.as_ref().is_some_and(|dead| dead.reason == DeadReason::NotGranted);
    let fate = match case.fate(message) {
        DeliveryFate::GivenUp if withheld => DeliveryFate::NotWanted,
        fate => fate,
    };
    let (mut delivered, mut behind_since, mut reason) = (None, None, None);
    let mut detail = None;
    match &fate {
        DeliveryFate::Delivered { from_ms, by_ms, .. }
        | DeliveryFate::CaughtUp { from_ms, by_ms } => delivered = Some((*from_ms, *by_ms)),
        DeliveryFate::InStream { since_ms } => behind_since = Some(timestamp::format(*since_ms)),
        DeliveryFate::Waits => detail = trace.parked.as_ref().map(|it| it.last_error.clone()),
        DeliveryFate::GivenUp => {
            reason = trace.dead.as_ref().map(|dead| dead.reason.code());
            detail = trace.dead.as_ref().map(|dead| dead.detail.clone());
        }
        DeliveryFate::NotWanted | DeliveryFate::NotYet | DeliveryFate::NoTrace => {}
    }
    CaseView {
        subscription: case.subscription.to_string(),
        state: fate.code(),
        delivered_after: delivered.map(|(from_ms, _)| timestamp::format(from_ms)),
        delivered_by: delivered.map(|(_, by_ms)| timestamp::format(by_ms)),
        due_at: trace.parked.as_ref().map(|parked| timestamp::format(parked.due_at_ms)),
        behind_since,
        reason,
        detail,
        attempts: trace.attempts.iter().map(attempt).collect(),
    }
}

/// Without who made it: that is nobody else's business.
fn attempt(record: &AttemptRecord) -> AttemptView {
    AttemptView {
        number: record.number,
        at: timestamp::format(record.at_ms),
        took_ms: record.took_ms,
        outcome: record.outcome.clone(),
        detail: record.detail.clone(),
    }
}

/// Delivers again what was given up
///
/// A replay does it: the answer says where to see how far it is. Messages keep their ids, and their attempts begin anew.
#[utoipa::path(post, path = "/v1/deliveries/redrive", tag = "deliveries", operation_id = "redriveDeliveries",
    request_body = Redrive,
    responses(
        (status = 202, description = "It is asked for", body = ReplayView,
            headers(("location" = String, description = "The replay"))),
        (status = 404, description = "There is no such subscription of the client's"),
        (status = 409, description = "The client has as many replays as it may have"),
    ))]
pub(crate) async fn redrive(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(context): Context,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    params::none(&uri)?;
    let asked: Redrive = body::read(app.limits.max_body_bytes, &headers, body).await?;
    let only: Vec<MessageId> = message_ids(&asked.messages).map_err(ManageError::from)?;
    let wanted = ReplayWanted {
        subscription: asked.subscription,
        what: ReplayWhat::Kept(KeptState::GivenUp, only),
        rate_per_second: store::DEFAULT_REPLAY_RATE,
    };
    let replay = app.manager.replay(actor(&caller, &context), wanted).await?;
    Ok(replays::accepted(&app, &replay))
}
