//! `/v1/replays`: messages again, or for the first time, for one of a client's subscriptions.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use serde::{Deserialize, Serialize};
use store::{
    DEFAULT_REPLAY_RATE, MAX_REPLAY_MESSAGES, MessageId, Replay, ReplayOf, ReplayPart, ReplayState,
};
use utoipa::ToSchema;

use super::authenticated::Caller;
use super::problem::Problem;
use super::subscriptions::{Context, Segment, actor, read};
use super::{App, body, params, render};
use crate::manage::{Fault, KeptState, ManageError, ReplayUntil, ReplayWanted, ReplayWhat};
use crate::timestamp;

/// What is to be replayed: body of `POST /v1/replays`. At least one of `from`, `messages` and `state`.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NewReplay {
    /// For which of the client's subscriptions.
    subscription: String,
    /// What arrived since then: RFC 3339, milliseconds since 1970, or `horizon`: all that the streams still have.
    from: Option<String>,
    /// What arrived before then, in the same forms, or `subscribed`: when the subscription began to get messages as they
    /// come. Without it: now.
    to: Option<String>,
    /// Only these messages, up to 100; looked for in the range, or in all that the streams have, or in what is kept.
    #[serde(default)]
    messages: Vec<String>,
    /// What is kept of deliveries that failed: `waits` (due now) or `given-up` (delivered again). Not beside `from` and `to`.
    state: Option<String>,
    /// Most messages a second, up to 500.
    #[schema(minimum = 1, maximum = 500)]
    rate_per_second: Option<u32>,
}

/// One replay.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Replay)]
pub(super) struct ReplayView {
    id: String,
    subscription: String,
    what: WhatView,
    /// `queued`, `running`, `done`, `failed` or `cancelled`. `done` means that all of it is due at once.
    state: &'static str,
    /// What is to be known of its end, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    detail: Option<String>,
    rate_per_second: u32,
    /// How much of it is done, 0 to 1; of a list of replays, for those that are over only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    progress: Option<f64>,
    /// What was looked at.
    read: u64,
    /// What the subscription is to get of it.
    matched: u64,
    /// What is due now because of it and was not before.
    made_due: u64,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    started_at: Option<String>,
    #[schema(format = DateTime)]
    ended_at: Option<String>,
}

/// What a replay is about.
#[derive(Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReplayOf)]
struct WhatView {
    /// Of a range: from when on; `horizon` is all that the streams have.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    from: Option<String>,
    /// Of a range: until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    to: Option<String>,
    /// Of what is kept: `waits` or `given-up`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    state: Option<&'static str>,
    /// Only these messages; none means all.
    messages: Vec<String>,
}

/// The client's replays.
#[derive(Serialize, ToSchema)]
#[schema(as = Replays)]
pub(super) struct ReplaysView {
    replays: Vec<ReplayView>,
}

impl NewReplay {
    fn read(self) -> Result<ReplayWanted, Fault> {
        let rate_per_second = self.rate_per_second.unwrap_or(DEFAULT_REPLAY_RATE);
        if !(1..=DEFAULT_REPLAY_RATE).contains(&rate_per_second) {
            let detail = format!("found {rate_per_second}, allowed is 1 to {DEFAULT_REPLAY_RATE}");
            return Err(Fault::new("/ratePerSecond", detail));
        }
        let only = message_ids(&self.messages)?;
        let what = match (self.state.as_deref(), &self.from, &self.to) {
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
                let detail = "found it beside a range, allowed is one of the two";
                return Err(Fault::new("/state", detail));
            }
            (Some("waits"), ..) if !only.is_empty() => {
                let detail = "found messages beside \"waits\", allowed are they with \"given-up\", or in a range";
                return Err(Fault::new("/messages", detail));
            }
            (Some("waits"), ..) => ReplayWhat::Kept(KeptState::Waits, only),
            (Some("given-up"), ..) => ReplayWhat::Kept(KeptState::GivenUp, only),
            (Some(other), ..) => {
                let found: String = other.chars().take(50).collect();
                let detail = format!("found {found:?}, allowed are waits, given-up");
                return Err(Fault::new("/state", detail));
            }
            (None, None, _) if only.is_empty() => {
                let detail =
                    "found nothing, allowed is a time, horizon, or messages or state in its place";
                return Err(Fault::new("/from", detail));
            }
            (None, from, to) => ReplayWhat::Range {
                from_ms: from.as_deref().map_or(Ok(0), from_ms)?,
                to: to.as_deref().map_or(Ok(ReplayUntil::Now), until)?,
                only,
            },
        };
        Ok(ReplayWanted { subscription: self.subscription, what, rate_per_second })
    }
}

fn from_ms(text: &str) -> Result<i64, Fault> {
    if text == "horizon" { Ok(0) } else { moment("/from", text, "horizon") }
}

fn until(text: &str) -> Result<ReplayUntil, Fault> {
    match text {
        "subscribed" => Ok(ReplayUntil::Subscribed),
        _ => moment("/to", text, "subscribed").map(ReplayUntil::Moment),
    }
}

fn moment(field: &str, text: &str, word: &str) -> Result<i64, Fault> {
    let found: String = text.chars().take(50).collect();
    let allowed = format!(
        "an RFC 3339 time such as 2018-02-01T00:00:00Z, milliseconds since 1970, or {word}"
    );
    timestamp::parse(text)
        .ok_or_else(|| Fault::new(field, format!("found {found:?}, allowed is {allowed}")))
}

/// The messages that a body names.
pub(super) fn message_ids(texts: &[String]) -> Result<Vec<MessageId>, Fault> {
    if texts.len() > MAX_REPLAY_MESSAGES {
        let found = texts.len();
        let detail = format!("found {found} of them, allowed are up to {MAX_REPLAY_MESSAGES}");
        return Err(Fault::new("/messages", detail));
    }
    let parsed = texts.iter().enumerate().map(|(at, text)| {
        MessageId::parse(text).map_err(|error| Fault::new(format!("/messages/{at}"), error))
    });
    parsed.collect()
}

/// Has messages delivered again, or for the first time
///
/// They are matched by the subscription as it is now and by what its client is granted now. The answer says that it is asked for; processors do it.
#[utoipa::path(post, path = "/v1/replays", tag = "deliveries", operation_id = "createReplay",
    request_body = NewReplay,
    responses(
        (status = 202, description = "It is asked for", body = ReplayView,
            headers(("location" = String, description = "Its address"))),
        (status = 404, description = "There is no such subscription of the client's"),
        (status = 409, description = "The client, or all clients together, have as many replays as they may have"),
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
    let asked: NewReplay = body::read(app.limits.max_body_bytes, &headers, body).await?;
    let wanted = asked.read().map_err(ManageError::from)?;
    let replay = app.manager.replay(actor(&caller, &context), wanted).await?;
    Ok(accepted(&app, &replay))
}

/// 202 with a replay that was asked for, and where to see how far it is.
pub(super) fn accepted(app: &App, replay: &Replay) -> Response {
    let mut response = render::json(&view(replay, Some(&[])));
    *response.status_mut() = StatusCode::ACCEPTED;
    let place = format!("{}/v1/replays/{}", app.base_url, replay.id);
    if let Ok(place) = HeaderValue::from_str(&place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

/// The client's replays of the last four weeks, the newest first: up to 100
#[utoipa::path(get, path = "/v1/replays", tag = "deliveries", operation_id = "listReplays",
    responses((status = 200, description = "All of them", body = ReplaysView)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Problem> {
    params::none(&uri)?;
    let replays = app.manager.replays(&caller.client).await?;
    Ok(render::json(&ReplaysView { replays: replays.iter().map(|one| view(one, None)).collect() }))
}

/// One of the client's replays, with how far it is
#[utoipa::path(get, path = "/v1/replays/{replay}", tag = "deliveries", operation_id = "getReplay",
    params(("replay" = String, Path, description = "Its id")),
    responses((status = 200, description = "It", body = ReplayView)))]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    segment: Segment,
    uri: Uri,
) -> Result<Response, Problem> {
    let id = read(segment)?;
    params::none(&uri)?;
    let shown = app.manager.shown_replay(&caller.client, &id).await?;
    Ok(render::json(&view(&shown.replay, Some(&shown.parts))))
}

/// Cancels one of the client's replays
///
/// What it has made due until then is delivered.
#[utoipa::path(delete, path = "/v1/replays/{replay}", tag = "deliveries", operation_id = "cancelReplay",
    params(("replay" = String, Path, description = "Its id")),
    responses(
        (status = 200, description = "As it ended", body = ReplayView),
        (status = 409, description = "It is over already"),
    ))]
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(context): Context,
    segment: Segment,
    uri: Uri,
) -> Result<Response, Problem> {
    let id = read(segment)?;
    params::none(&uri)?;
    let shown = app.manager.cancel_replay(actor(&caller, &context), &id).await?;
    Ok(render::json(&view(&shown.replay, Some(&shown.parts))))
}

fn view(replay: &Replay, parts: Option<&[ReplayPart]>) -> ReplayView {
    let progress = match replay.state {
        ReplayState::Done => Some(1.0),
        _ => parts.map(|parts| replay.share_done(parts)),
    };
    ReplayView {
        id: replay.id.to_string(),
        subscription: replay.subscription.to_string(),
        what: what(&replay.what),
        state: replay.state.code(),
        detail: detail(replay),
        rate_per_second: replay.rate_per_second,
        progress,
        read: replay.counts.read,
        matched: replay.counts.matched,
        made_due: replay.counts.parked,
        created_at: timestamp::format(replay.created_at_ms),
        started_at: replay.started_at_ms.map(timestamp::format),
        ended_at: replay.ended_at_ms.map(timestamp::format),
    }
}

/// What a client may know of an end: why one failed may be about streams and tables, unless it is about the
/// subscription.
fn detail(replay: &Replay) -> Option<String> {
    match (replay.state, replay.detail.as_str()) {
        (_, "") => None,
        (ReplayState::Failed, why) if !why.starts_with("the subscription ") => {
            Some("it cannot be done; the operator can see why, by its id".to_owned())
        }
        (_, why) => Some(why.to_owned()),
    }
}

fn what(what: &ReplayOf) -> WhatView {
    let messages = what.only().iter().map(MessageId::to_string).collect();
    match what {
        ReplayOf::Range { from_ms, to_ms, .. } => WhatView {
            from: Some(match from_ms {
                0 => "horizon".to_owned(),
                ms => timestamp::format(*ms),
            }),
            to: Some(timestamp::format(*to_ms)),
            state: None,
            messages,
        },
        ReplayOf::Parked => WhatView { state: Some("waits"), ..WhatView::default() },
        ReplayOf::DeadLettered { .. } => {
            WhatView { state: Some("given-up"), messages, ..WhatView::default() }
        }
    }
}
