//! Clients as operators see them. No secret is in any of it.

use serde::Serialize;
use store::{Client, ClientLimits, Usage};
use utoipa::ToSchema;

use super::super::keys::KeyView;
use super::super::oauth::BindingView;
use crate::access::limits_of;
use crate::options::Limits;
use crate::routes::described::{GrantJson, LimitsJson};
use crate::timestamp;

/// A UTC day.
pub(in crate::operators::routes) const DAY_MS: i64 = 24 * 3_600 * 1_000;

/// Some clients.
#[derive(Serialize, ToSchema)]
#[schema(as = Clients)]
pub(super) struct ClientsView<'a> {
    pub(super) clients: Vec<ClientView<'a>>,
    /// The cursor of the next page; null on the last one.
    #[schema(required = true)]
    pub(super) next: Option<String>,
}

/// A client.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Client)]
pub(super) struct ClientView<'a> {
    id: &'a str,
    name: &'a str,
    /// False: nothing is allowed, and its keys do not work.
    enabled: bool,
    grants: Vec<GrantJson<'a>>,
    /// What it has of its own; null: nothing.
    #[schema(required = true)]
    limits: Option<OwnLimitsView<'a>>,
    #[schema(format = DateTime)]
    created_at: String,
    /// Counts its changes; the number in its `ETag`.
    version: u64,
}

/// A client with all that is known of it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WholeClient)]
pub(super) struct WholeClientView<'a> {
    #[serde(flatten)]
    client: ClientView<'a>,
    /// What holds for it, as the configuration of this process has plans and defaults.
    effective_limits: LimitsJson,
    /// The newest first; those that ended or were revoked, too.
    keys: Vec<KeyView<'a>>,
    oauth_clients: Vec<BindingView<'a>>,
    used_today: UsedView,
}

/// Limits of a client's own; what is null is as its plan or the service says, 0 in a day is any number.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = OwnLimits)]
struct OwnLimitsView<'a> {
    requests_per_second: Option<u32>,
    burst: Option<u32>,
    concurrent_requests: Option<u32>,
    requests_per_day: Option<u64>,
    bytes_per_day: Option<u64>,
    plan: Option<&'a str>,
}

/// What was used, as the tasks of the API last wrote it.
#[derive(Serialize, ToSchema)]
#[schema(as = Used)]
pub(in crate::operators::routes) struct UsedView {
    requests: u64,
    /// Of answers and of requests' bodies.
    bytes: u64,
}

impl<'a> ClientView<'a> {
    pub(super) fn of(client: &'a Client) -> Self {
        Self {
            id: client.id.as_str(),
            name: &client.name,
            enabled: client.enabled,
            grants: client.grants.iter().map(GrantJson::of).collect(),
            limits: client.limits.as_ref().map(OwnLimitsView::of),
            created_at: timestamp::format(client.created_at_ms),
            version: client.version,
        }
    }
}

impl<'a> WholeClientView<'a> {
    pub(super) fn of(
        client: &'a Client,
        limits: &Limits,
        keys: Vec<KeyView<'a>>,
        oauth_clients: Vec<BindingView<'a>>,
        used: Usage,
    ) -> Self {
        Self {
            client: ClientView::of(client),
            effective_limits: LimitsJson::of_limits(&limits_of(client, limits)),
            keys,
            oauth_clients,
            used_today: UsedView::of(used),
        }
    }
}

impl<'a> OwnLimitsView<'a> {
    fn of(limits: &'a ClientLimits) -> Self {
        Self {
            requests_per_second: limits.rate_per_second,
            burst: limits.burst,
            concurrent_requests: limits.concurrent,
            requests_per_day: limits.requests_per_day,
            bytes_per_day: limits.bytes_per_day,
            plan: limits.plan.as_deref(),
        }
    }
}

impl UsedView {
    pub(in crate::operators::routes) fn of(used: Usage) -> Self {
        Self { requests: used.requests, bytes: used.bytes }
    }
}
