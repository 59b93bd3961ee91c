//! The fleet: who owns which shard, how far each is, why; and asking an owner to hand one over.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::fleet::{AskedView, LEASE_STATES, LeaseView, Unanswered, WhyView, WorkerView};
use super::super::service::Desk;
use super::{Segment, segment};
use crate::routes::problem::Problem;
use crate::routes::{body, params, render};
use crate::timestamp;

/// Longest name of a lease that is looked for, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// One look at the fleet.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Leases)]
struct LeasesView<'a> {
    /// When the look ended.
    #[schema(format = DateTime)]
    looked_at: String,
    /// The worker that leads.
    leader: Option<&'a str>,
    /// Everybody who is or was there.
    workers: &'a [WorkerView],
    /// In the order of their keys.
    leases: Vec<&'a LeaseView>,
    /// Leases that cannot be read, and why: their shards are not consumed.
    unreadable: &'a [String],
    /// The cursor of the next page; null on the last one.
    #[schema(required = true)]
    next: Option<&'a str>,
}

/// Body of `POST /v1/admin/leases/{lease}/release`.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LeaseRelease)]
pub(super) struct ReleaseInput {
    /// The worker that is to get it; without one, whoever is best when it happens.
    to: Option<String>,
}

/// The leases and the workers
///
/// A look takes about as long as two heartbeats, so that one which stands still can be told.
#[utoipa::path(get, path = "/v1/admin/leases", tag = "fleet", operation_id = "listLeases",
    params(
        ("state" = Option<String>, Query, description = "Only leases that stand so, such as `orphan`"),
        ("owner" = Option<String>, Query, description = "Only leases of this worker"),
        ("limit" = Option<u32>, Query, description = "Leases in the page; 50 by default", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "`next` of an earlier page, unchanged"),
    ),
    responses((status = 200, description = "A page", body = LeasesView)))]
pub(super) async fn list(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Problem> {
    let page = params::ListParams::read(&uri, &["state", "owner"])?;
    let state = page.get("state");
    if let Some(state) = state.filter(|state| !LEASE_STATES.contains(state)) {
        return Err(Problem::invalid_parameter("state", state, &LEASE_STATES.join(", ")));
    }
    let owner = page.get("owner");
    let after = page.cursor.as_deref();
    let look = desk.backing.fleet.look().await.map_err(unanswered)?;
    let mut leases: Vec<&LeaseView> = look.leases.iter().collect();
    leases.retain(|lease| {
        after.is_none_or(|after| &*lease.key > after)
            && state.is_none_or(|state| lease.state == state)
            && owner.is_none_or(|owner| lease.owner.as_deref() == Some(owner))
    });
    let more = leases.len() > page.limit();
    leases.truncate(page.limit());
    let next = leases.last().filter(|_| more).map(|lease| &*lease.key);
    Ok(render::json(&LeasesView {
        looked_at: timestamp::format(look.looked_at_ms),
        leader: look.leader.as_deref(),
        workers: &look.workers,
        leases,
        unreadable: &look.unreadable,
        next,
    }))
}

/// Why a lease is where it is
///
/// In words: the answer, what is known, and what happens next.
#[utoipa::path(get, path = "/v1/admin/leases/{lease}", tag = "fleet", operation_id = "whyLease",
    params(("lease" = String, Path, description = "Its key, its shard, or the number of its shard")),
    responses((status = 200, description = "The answer", body = WhyView)))]
pub(super) async fn why(
    State(desk): State<Arc<Desk>>,
    lease: Segment,
    uri: Uri,
) -> Result<Response, Problem> {
    let lease = name(lease)?;
    params::none(&uri)?;
    let why = desk.backing.fleet.why(&lease).await.map_err(unanswered)?;
    Ok(render::json(&why))
}

/// Asks the owner of a lease to hand it over
///
/// It does so when what it holds is settled, within its hand-over deadline; `GET /v1/admin/leases/{lease}` shows it.
#[utoipa::path(post, path = "/v1/admin/leases/{lease}/release", tag = "fleet", operation_id = "releaseLease",
    params(("lease" = String, Path, description = "Its key, its shard, or the number of its shard")),
    request_body(content = Option<ReleaseInput>),
    responses(
        (status = 202, description = "The owner was asked", body = AskedView),
        (status = 409, description = "Nobody can be asked, or nobody can take it: the problem says why, and what happens by itself"),
    ))]
pub(super) async fn release(
    State(desk): State<Arc<Desk>>,
    lease: Segment,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let lease = name(lease)?;
    params::none(&uri)?;
    let input: ReleaseInput =
        body::read_or_default(desk.limits.max_body_bytes, &headers, body).await?;
    let asked =
        desk.backing.fleet.release(&lease, input.to.as_deref()).await.map_err(unanswered)?;
    Ok((StatusCode::ACCEPTED, render::json(&asked)).into_response())
}

/// What names a lease.
fn name(lease: Segment) -> Result<String, Problem> {
    let name = segment(lease)?;
    if name.len() > MAX_NAME_BYTES { Err(Problem::not_found()) } else { Ok(name) }
}

pub(super) fn unanswered(error: Unanswered) -> Problem {
    match error {
        Unanswered::NotFound(why) => Problem::not_found().detail(why),
        Unanswered::Refused(why) => Problem::conflict(&why),
        Unanswered::Unavailable(why) => {
            tracing::warn!(why, "an operator's call failed");
            Problem::unavailable("a table cannot be read or changed now: the log says more")
        }
    }
}
