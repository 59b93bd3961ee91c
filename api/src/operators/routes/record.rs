//! What was changed, and what was used: the durable record of changes of access, and the use of a day.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use data_encoding::BASE64URL_NOPAD;
use futures::stream::{self, StreamExt, TryStreamExt};
use http::Uri;
use serde::Serialize;
use store::{AuditEntry, Client, ClientId, Usage};
use utoipa::ToSchema;

use super::super::service::Desk;
use super::clients::{self, DAY_MS, READS_AT_ONCE, UsedView};
use super::failure::failed;
use crate::access::limits_of;
use crate::options::Limits;
use crate::routes::described::LimitsJson;
use crate::routes::problem::Problem;
use crate::routes::{params, render};
use crate::timestamp;

/// Longest place in a day's record, in bytes: what the key of an item may have.
const MAX_PLACE_BYTES: usize = 1_024;

/// Some of the changes of a day.
#[derive(Serialize, ToSchema)]
#[schema(as = Changes)]
struct ChangesView<'a> {
    /// The newest first.
    changes: Vec<ChangeView<'a>>,
    /// The cursor of the next page; null on the last one.
    #[schema(required = true)]
    next: Option<String>,
}

/// One change.
#[derive(Serialize, ToSchema)]
#[schema(as = Change)]
struct ChangeView<'a> {
    #[schema(format = DateTime)]
    at: String,
    /// Who: `operator NAME`, `sluicegate clients`, or a client of its own.
    by: &'a str,
    /// What, such as `key.issue` or `subscription.create`.
    action: &'a str,
    /// To what: the id of a client, a key, a subscription or a replay. Never a secret.
    subject: &'a str,
}

/// What clients used on a day.
#[derive(Serialize, ToSchema)]
#[schema(as = Usages)]
struct UsagesView<'a> {
    #[schema(format = Date)]
    day: String,
    usage: Vec<UsageView<'a>>,
    /// The cursor of the next page; null on the last one.
    #[schema(required = true)]
    next: Option<String>,
}

/// What one client used, beside what it may use.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Usage)]
struct UsageView<'a> {
    client: &'a str,
    name: &'a str,
    used: UsedView,
    /// As they hold now, with the plans and defaults of this process's configuration.
    effective_limits: LimitsJson,
}

/// The changes of access on a UTC day, the newest first
///
/// Each was written down in the transaction that made it, and is kept for ever.
#[utoipa::path(get, path = "/v1/admin/audit", tag = "record", operation_id = "listChanges",
    params(
        ("day" = Option<String>, Query, description = "Such as 2026-11-26; today by default", format = Date),
        ("limit" = Option<u32>, Query, description = "Changes in the page; 50 by default", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "`next` of an earlier page of the same day, unchanged"),
    ),
    responses((status = 200, description = "A page", body = ChangesView)))]
pub(super) async fn changes(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Problem> {
    let page = params::ListParams::read(&uri, &["day"])?;
    let day = day(&desk, &page)?;
    let after = page.cursor.as_deref().map(place).transpose()?;
    let found = desk.backing.access.audit_page(day, after.as_deref(), page.limit()).await;
    let (entries, next) = found.map_err(failed)?;
    let changes = entries.iter().map(ChangeView::of).collect();
    let next = next.map(|place| BASE64URL_NOPAD.encode(place.as_bytes()));
    Ok(render::json(&ChangesView { changes, next }))
}

/// What each client used on a UTC day, over all tasks, in the order of their ids
///
/// Kept for 35 days. Clients that were deleted since are not in it.
#[utoipa::path(get, path = "/v1/admin/usage", tag = "record", operation_id = "listUsage",
    params(
        ("day" = Option<String>, Query, description = "Such as 2026-11-26; today by default", format = Date),
        ("limit" = Option<u32>, Query, description = "Clients in the page; 50 by default", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "`next` of an earlier page of the same day, unchanged"),
    ),
    responses((status = 200, description = "A page, which may be short although there are more", body = UsagesView)))]
pub(super) async fn usage(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Problem> {
    let page = params::ListParams::read(&uri, &["day"])?;
    let day = day(&desk, &page)?;
    let (clients, next) = clients::some(&desk, &page).await?;
    let store = &desk.backing.usage;
    let ids: Vec<ClientId> = clients.iter().map(|client| client.id.clone()).collect();
    let looks = ids.into_iter().map(|id| async move { store.used(&id, day).await });
    let used = stream::iter(looks).buffered(READS_AT_ONCE).try_collect::<Vec<_>>();
    let used = used.await.map_err(failed)?;
    // The day is the beginning of its first moment.
    let mut written = timestamp::format(day.saturating_mul(DAY_MS));
    written.truncate("2026-11-26".len());
    let usage =
        clients.iter().zip(used).map(|(client, used)| UsageView::of(client, used, &desk.limits));
    let next = next.map(|id| id.to_string());
    Ok(render::json(&UsagesView { day: written, usage: usage.collect(), next }))
}

/// The day that a request asks for, counted from 1970.
fn day(desk: &Desk, page: &params::ListParams) -> Result<i64, Problem> {
    let Some(text) = page.get("day") else { return Ok(desk.now_ms().div_euclid(DAY_MS)) };
    let is_day = text.len() == "2026-11-26".len();
    let start_ms = is_day.then(|| timestamp::parse(&format!("{text}T00:00:00Z"))).flatten();
    start_ms
        .map(|ms| ms.div_euclid(DAY_MS))
        .ok_or_else(|| Problem::invalid_parameter("day", text, "a day of UTC such as 2026-11-26"))
}

/// A place in the record of a day.
fn place(cursor: &str) -> Result<String, Problem> {
    let bytes = BASE64URL_NOPAD.decode(cursor.as_bytes()).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    text.filter(|text| (1..=MAX_PLACE_BYTES).contains(&text.len())).ok_or_else(|| {
        Problem::invalid_parameter("cursor", cursor, "the next of an earlier page, unchanged")
    })
}

impl<'a> UsageView<'a> {
    fn of(client: &'a Client, used: Usage, limits: &Limits) -> Self {
        Self {
            client: client.id.as_str(),
            name: &client.name,
            used: UsedView::of(used),
            effective_limits: LimitsJson::of_limits(&limits_of(client, limits)),
        }
    }
}

impl<'a> ChangeView<'a> {
    fn of(entry: &'a AuditEntry) -> Self {
        Self {
            at: timestamp::format(entry.at_ms),
            by: &entry.by,
            action: &entry.action,
            subject: &entry.subject,
        }
    }
}
