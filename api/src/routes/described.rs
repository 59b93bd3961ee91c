//! What is told of integrations and of the client itself: the bodies that are no messages.

use serde::Serialize;
use serde_json::Value;
use store::{Action, FieldMask, Grant, GrantScope};
use utoipa::ToSchema;

use crate::access::Standing;
use crate::options::ClientLimits;

/// The integrations that a client may do anything with.
#[derive(Serialize, ToSchema)]
#[schema(as = Integrations)]
pub(crate) struct IntegrationsJson<'a> {
    pub(crate) integrations: Vec<IntegrationJson<'a>>,
}

/// An integration, as far as this client may see it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Integration)]
pub(crate) struct IntegrationJson<'a> {
    /// Its name in paths.
    pub(crate) name: &'a str,
    /// One sentence for people.
    pub(crate) description: Option<&'a str>,
    /// How long a message can be read after it arrived.
    pub(crate) retention_seconds: u64,
    pub(crate) fields: FieldsJson<'a>,
    /// What this client may do with it, at least with some of its messages.
    #[schema(value_type = Vec<ActionName>)]
    pub(crate) actions: Vec<Action>,
    /// It can be followed as it is stored.
    pub(crate) tail: bool,
}

/// Where in a message its fields are, as JSON Pointers.
#[derive(Serialize, ToSchema)]
#[schema(as = Fields)]
pub(crate) struct FieldsJson<'a> {
    /// Null: the entity is the partition key.
    pub(crate) entity: Option<&'a str>,
    /// Null: the time is when the message arrived.
    pub(crate) time: Option<&'a str>,
}

/// A client, for itself.
#[derive(Serialize, ToSchema)]
#[schema(as = Me)]
pub(crate) struct MeJson<'a> {
    pub(crate) id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) grants: Vec<GrantJson<'a>>,
    pub(crate) limits: LimitsJson,
    pub(crate) remaining: RemainingJson,
}

/// One thing that the client may do.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Grant)]
pub(crate) struct GrantJson<'a> {
    /// An integration's name, or `*` for all.
    integration: &'a str,
    #[schema(value_type = ActionName)]
    action: Action,
    /// Only entities that begin with this; null is all.
    entity_prefix: Option<&'a str>,
    /// Only messages that this filter describes; null is all.
    #[schema(value_type = Option<Object>)]
    filter: Option<Value>,
    /// Only these fields of them, as JSON Pointers; null is all.
    #[schema(value_type = Option<Vec<String>>)]
    fields: Option<&'a FieldMask>,
}

impl<'a> GrantJson<'a> {
    pub(crate) fn of(grant: &'a Grant) -> Self {
        Self {
            integration: match &grant.integration {
                GrantScope::All => "*",
                GrantScope::One(name) => name.as_str(),
            },
            action: grant.action,
            entity_prefix: grant.entity_prefix.as_deref(),
            // A pattern is its own JSON.
            filter: grant.filter.as_ref().and_then(|filter| serde_json::to_value(filter).ok()),
            fields: grant.fields.as_ref(),
        }
    }
}

/// What the client may ask for; null is any number.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Limits)]
pub(crate) struct LimitsJson {
    /// Sustained.
    requests_per_second: u32,
    /// At once after a pause.
    burst: u32,
    /// At the same time.
    concurrent_requests: u32,
    /// In a UTC day.
    requests_per_day: Option<u64>,
    /// Bytes of answers and of requests' bodies, in a UTC day.
    bytes_per_day: Option<u64>,
}

impl LimitsJson {
    pub(crate) fn of(standing: &Standing) -> Self {
        Self::of_limits(&standing.limits)
    }

    pub(crate) fn of_limits(limits: &ClientLimits) -> Self {
        Self {
            requests_per_second: limits.rate_per_second,
            burst: limits.burst,
            concurrent_requests: limits.concurrent,
            requests_per_day: limits.requests_per_day.map(Into::into),
            bytes_per_day: limits.bytes_per_day.map(Into::into),
        }
    }
}

/// What is left of it now, after this request; null where there is no limit.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Remaining)]
pub(crate) struct RemainingJson {
    /// Requests that may come at once.
    requests: u64,
    /// Requests that may come beside those being answered.
    concurrent_requests: u64,
    requests_today: Option<u64>,
    bytes_today: Option<u64>,
    /// Until the UTC day ends.
    day_ends_in_seconds: u64,
}

impl RemainingJson {
    pub(crate) fn of(standing: &Standing) -> Self {
        Self {
            requests: standing.remaining,
            concurrent_requests: standing.concurrent_left as u64,
            requests_today: standing.requests_today,
            bytes_today: standing.bytes_today,
            day_ends_in_seconds: standing.until_tomorrow.as_secs(),
        }
    }
}

/// What a grant allows.
#[derive(ToSchema)]
#[schema(as = Action, rename_all = "kebab-case")]
#[expect(dead_code, reason = "describes `store::Action`, whose room knows no OpenAPI")]
enum ActionName {
    Read,
    Publish,
    Subscribe,
}

/// A time as a client may write it: RFC 3339, or milliseconds since 1970.
#[derive(ToSchema)]
#[schema(as = Time)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes what `timestamp::parse` reads")]
pub(crate) enum TimeText {
    #[schema(format = DateTime)]
    Written(String),
    Ms(i64),
}
