//! `GET /v1/integrations/{integration}/tail`: every new message that the client may see, as it is stored.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, HeaderName, Uri};
use serde::Serialize;
use store::Client;
use store::pattern::Reader;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::authenticated::Caller;
use super::problem::Problem;
use super::{App, Streams, params, render, sse};
use crate::access::{BytesLeft, DAILY_BYTES, Peer, Refused};
use crate::backend::{FollowFrom, Followed};
use crate::server::Closing;
use crate::tail::{Follower, Given, Step};
use crate::{audit, metrics};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Between two looks at whether the client may still follow. With the epoch's second it is less than two.
const CHECK: Duration = Duration::from_millis(500);
/// A client hears something at least this often, and its last id moves.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// What a client that was ended waits before it connects again.
const RETRY_MS: u32 = 1_000;

/// Every new message of an integration, as it is stored
///
/// A stream of server-sent events. Each message is an event without a name: its data is the message as in a page, its id where to go on behind it
/// (at least once: the same message may come again, with the same `id` inside). Events without data, and comments, say that the stream lives and
/// move the last id. The last event is named `end`; its data says why: `access-ended`, `quota-exceeded`, `draining`, `max-age`, `lagging` or `unavailable`. A client goes on from its last id.
#[utoipa::path(get, path = "/v1/integrations/{integration}/tail", tag = "messages", operation_id = "tailMessages",
    params(
        ("integration" = String, Path, description = "Name of the integration"),
        ("entity" = Option<String>, Query, description = "Only this entity", min_length = 1, max_length = 512),
        ("from" = Option<String>, Query, description = "Begin with what was stored since then, within the last hour: RFC 3339, or milliseconds since 1970"),
        ("cursor" = Option<String>, Query, description = "The id of an event of this integration, unchanged: go on behind it"),
        ("last-event-id" = Option<String>, Header, description = "The same; a client adds it by itself when it connects again, and it counts before the others"),
    ),
    responses(
        (status = 200, description = "Messages as they are stored, without an end", content_type = "text/event-stream", body = String),
        (status = 409, description = "This integration is not set up to be followed", content_type = "application/problem+json", body = ref("#/components/schemas/Problem")),
        (status = 410, description = "The cursor is older than the hour in which a tail can be resumed", content_type = "application/problem+json", body = ref("#/components/schemas/Problem")),
        (status = 501, description = "This host takes answers whole: follow at the service that streams", content_type = "application/problem+json", body = ref("#/components/schemas/Problem")),
    ))]
pub(crate) async fn tail(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    peer: Option<Extension<Peer>>,
    closing: Option<Extension<Closing>>,
    segment: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Path(integration) = segment
        .map_err(|_| Problem::bad_request("a path segment is not UTF-8 after percent-decoding"))?;
    let asked = TailParams::read(&uri)?;
    let followed = app.backend.followed(&caller.client, &integration, asked.entity.as_deref())?;
    if app.streams == Streams::Refused {
        let detail = "answers are given whole here: follow at the service that streams, or ask for latest with Prefer: wait";
        return Err(Problem::not_here(detail));
    }
    let from = from(&headers, asked)?;
    let place = Arc::clone(&app.tailing).try_acquire_owned().map_err(|_| {
        Problem::reduced_capacity("too many clients follow here now", Duration::from_secs(1))
    })?;
    let follower = app.backend.follow(&followed, &from).await?;
    let now = Instant::now();
    let tail = Tail {
        client: caller.client,
        bytes_left: caller.bytes_left,
        asked: audit::current(),
        peer: peer.map(|Extension(peer)| peer).unwrap_or_default(),
        closing: closing.map(|Extension(Closing(token))| token).unwrap_or_default(),
        headers,
        followed,
        follower,
        reader: Reader::default(),
        ends_at: now + app.limits.max_tail_age,
        check_at: now + CHECK,
        beat_at: now + HEARTBEAT,
        phase: Phase::Beginning,
        open: Open::new(place),
        app,
    };
    let frames = futures::stream::unfold(tail, |mut tail| async move {
        let frame = tail.frame().await?;
        Some((Ok::<Bytes, std::convert::Infallible>(frame), tail))
    });
    let mut response = Response::new(Body::from_stream(frames));
    sse::head(&mut response);
    Ok(response)
}

/// The parameters of a tail as the client gave them; `None` where it did not.
#[derive(Debug, Default)]
struct TailParams {
    /// Only this entity.
    entity: Option<String>,
    /// What was stored since then.
    from_ms: Option<i64>,
    /// Where to go on.
    cursor: Option<String>,
}

impl TailParams {
    /// Reads the query of a request; unknown and repeated parameters are errors.
    fn read(uri: &Uri) -> Result<Self, Problem> {
        let mut read = Self::default();
        for (name, value) in params::pairs(uri)? {
            let fresh = match name.as_str() {
                "entity" => read.entity.replace(value.clone()).is_none(),
                "from" => read.from_ms.replace(params::time("from", &value)?).is_none(),
                "cursor" => read.cursor.replace(value.clone()).is_none(),
                _ => return Err(params::unknown(&name, "entity, from, cursor")),
            };
            if !fresh {
                return Err(Problem::invalid_parameter(&name, &value, "to be given once"));
            }
        }
        Ok(read)
    }
}

/// Where a client wants to begin. The header is what a client adds by itself when it connects again, so it counts.
fn from(headers: &HeaderMap, asked: TailParams) -> Result<FollowFrom, Problem> {
    let last = headers.get(LAST_EVENT_ID).filter(|last| !last.is_empty());
    if let Some(last) = last {
        let text = String::from_utf8_lossy(last.as_bytes()).into_owned();
        return Ok(FollowFrom::Cursor("last-event-id", text));
    }
    match (asked.cursor, asked.from_ms) {
        (Some(_), Some(_)) => {
            Err(Problem::invalid_parameter("from", "a cursor beside it", "one of the two"))
        }
        (Some(cursor), None) => Ok(FollowFrom::Cursor("cursor", cursor)),
        (None, Some(from_ms)) => Ok(FollowFrom::Time(from_ms)),
        (None, None) => Ok(FollowFrom::Now),
    }
}

/// Why a stream ended; its client goes on from its last id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EndReason {
    /// The client may not follow it any more.
    AccessEnded,
    /// The client's bytes of the day are used up.
    QuotaExceeded,
    /// The server stops.
    Draining,
    /// The stream, or its connection, is old enough.
    MaxAge,
    /// The client was too slow for what comes.
    Lagging,
    /// Messages, or who may see them, cannot be read now.
    Unavailable,
}

impl EndReason {
    fn as_str(self) -> &'static str {
        match self {
            EndReason::AccessEnded => "access-ended",
            EndReason::QuotaExceeded => "quota-exceeded",
            EndReason::Draining => "draining",
            EndReason::MaxAge => "max-age",
            EndReason::Lagging => "lagging",
            EndReason::Unavailable => "unavailable",
        }
    }
}

/// The data of the last event.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndJson {
    reason: EndReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Beginning,
    Going,
    Ended,
}

/// Counts an open tail, and holds its place.
struct Open {
    _place: OwnedSemaphorePermit,
    /// `gone` when the client went away.
    reason: &'static str,
}

impl Open {
    fn new(place: OwnedSemaphorePermit) -> Open {
        metrics::tail_began();
        Open { _place: place, reason: "gone" }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::tail_ended(self.reason);
    }
}

/// One client that follows. It is driven by who sends the answer: a client that takes nothing is given nothing.
struct Tail {
    app: Arc<App>,
    client: Arc<Client>,
    bytes_left: BytesLeft,
    /// What the stream was opened with: what ends it was decided of that.
    asked: Option<Arc<audit::Request>>,
    headers: HeaderMap,
    peer: Peer,
    closing: CancellationToken,
    followed: Followed,
    follower: Follower,
    /// For grants that look into messages.
    reader: Reader,
    ends_at: Instant,
    check_at: Instant,
    beat_at: Instant,
    phase: Phase,
    open: Open,
}

enum Happened {
    End(EndReason),
    Due,
    Step(Step),
}

impl Tail {
    /// The next bytes of the stream; `None` behind its end.
    async fn frame(&mut self) -> Option<Bytes> {
        match self.phase {
            Phase::Beginning => {
                self.phase = Phase::Going;
                return Some(self.beginning());
            }
            Phase::Going => {}
            Phase::Ended => return None,
        }
        loop {
            if !self.bytes_left.is_any() {
                return Some(self.used_up().await);
            }
            let due = self.ends_at.min(self.check_at).min(self.beat_at);
            let happened = tokio::select! { biased;
                () = self.app.draining.cancelled() => Happened::End(EndReason::Draining),
                () = self.closing.cancelled() => Happened::End(EndReason::MaxAge),
                () = sleep_until(due) => Happened::Due,
                step = self.follower.next() => Happened::Step(step),
            };
            let frame = match happened {
                Happened::End(reason) => Err(reason),
                Happened::Due => self.due().await,
                Happened::Step(step) => self.step(step).await,
            };
            match frame {
                Ok(None) => {}
                Ok(Some(frame)) => return Some(frame),
                Err(reason) => return Some(self.end(reason)),
            }
        }
    }

    async fn due(&mut self) -> Result<Option<Bytes>, EndReason> {
        if Instant::now() >= self.ends_at {
            return Err(EndReason::MaxAge);
        }
        self.check().await?;
        Ok((Instant::now() >= self.beat_at).then(|| self.heartbeat()))
    }

    async fn step(&mut self, step: Step) -> Result<Option<Bytes>, EndReason> {
        // What the client took its time for may have changed who may see it.
        self.check().await?;
        match step {
            Step::Given(given) => Ok(self.messages(&given)),
            Step::Lagged => Err(EndReason::Lagging),
            Step::Unavailable => Err(EndReason::Unavailable),
        }
    }

    /// Whether the client may still follow, if that was not asked just now.
    async fn check(&mut self) -> Result<(), EndReason> {
        if Instant::now() < self.check_at {
            return Ok(());
        }
        match self.asked.clone() {
            Some(asked) => audit::of_request(asked, self.ask_again()).await,
            None => self.ask_again().await,
        }
    }

    async fn ask_again(&mut self) -> Result<(), EndReason> {
        let client = self.app.authenticator.client(&self.headers, &self.peer).await;
        self.client = client.map_err(|refused| match refused {
            Refused::Unauthenticated => EndReason::AccessEnded,
            Refused::Overloaded | Refused::Unavailable => EndReason::Unavailable,
        })?;
        let Followed { integration, entity } = &self.followed;
        let entity = entity.as_ref().map(|entity| entity.as_str());
        let followed = self.app.backend.followed(&self.client, integration.as_str(), entity);
        followed.map_err(|_| EndReason::AccessEnded)?;
        self.check_at = Instant::now() + CHECK;
        Ok(())
    }

    /// What of it the client may see, if there is anything.
    fn messages(&mut self, given: &Given) -> Option<Bytes> {
        let backend = &self.app.backend;
        let (mut out, mut count) = (Vec::new(), 0);
        for (message, place) in given.messages() {
            let exposed =
                backend.followed_message(&self.client, &self.followed, message, &mut self.reader);
            if let Some(exposed) = exposed {
                let id = backend.cursor(&self.followed, &place);
                sse::message(&mut out, &id, &render::text(&self.app.base_url, &exposed));
                count += 1;
            }
        }
        if count == 0 {
            return None;
        }
        metrics::tail_messages(count);
        self.beat_at = Instant::now() + HEARTBEAT;
        Some(out.into())
    }

    fn beginning(&self) -> Bytes {
        let mut out = Vec::new();
        sse::retry(&mut out, RETRY_MS);
        sse::mark(&mut out, &self.id());
        out.into()
    }

    fn heartbeat(&mut self) -> Bytes {
        self.beat_at = Instant::now() + HEARTBEAT;
        let mut out = Vec::new();
        sse::comment(&mut out, "still here");
        sse::mark(&mut out, &self.id());
        out.into()
    }

    fn end(&mut self, reason: EndReason) -> Bytes {
        self.phase = Phase::Ended;
        self.open.reason = reason.as_str();
        let data = serde_json::to_vec(&EndJson { reason }).unwrap_or_default();
        let mut out = Vec::new();
        sse::named(&mut out, "end", &self.id(), &data);
        out.into()
    }

    /// The end of a stream of somebody who may have no more today, as a request would be refused.
    async fn used_up(&mut self) -> Bytes {
        metrics::client_limited(DAILY_BYTES);
        if let Some(asked) = self.asked.clone() {
            let client = Arc::clone(&self.client);
            audit::of_request(asked, async { audit::limited(&client, DAILY_BYTES) }).await;
        }
        self.end(EndReason::QuotaExceeded)
    }

    fn id(&self) -> String {
        self.app.backend.cursor(&self.followed, &self.follower.place())
    }
}
