//! What an operator writes about a client: taken apart, and checked or refused by its place.

use serde::Deserialize;
use serde_json::value::RawValue;
use store::pattern::Pattern;
use store::{
    Action, Client, ClientId, ClientLimits, FieldMask, Grant, GrantScope, IntegrationName,
    MAX_PER_DAY, MAX_RATE, RandomBytes, is_plan_name,
};
use utoipa::ToSchema;

use crate::routes::body::given;
use crate::routes::problem::Problem;

/// Longest name of a client, in bytes.
const MAX_NAME_BYTES: usize = 200;
/// Most grants of one client.
const MAX_GRANTS: usize = 200;
/// Longest entity prefix of a grant, in bytes.
const MAX_PREFIX_BYTES: usize = 512;

/// A client that is to be made: body of `POST /v1/admin/clients`.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NewClient {
    /// Its id: 1 to 64 letters, digits, `_` and `-`; made up where it is absent.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")]
    id: Option<String>,
    /// Its name for people: up to 200 bytes.
    #[schema(min_length = 1)]
    name: String,
    /// What it may do; without any, nothing.
    #[serde(default)]
    #[schema(max_items = 200)]
    grants: Vec<GrantInput>,
    /// What it may ask for, where that is not as its plan or the service says.
    limits: Option<LimitsInput>,
    /// Off: nothing is allowed. On unless it is said.
    enabled: Option<bool>,
}

/// What is to be different: body of `PATCH /v1/admin/clients/{client}`. What is absent stays.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ClientPatch {
    #[schema(min_length = 1)]
    name: Option<String>,
    /// All of them, in the place of those before.
    #[schema(max_items = 200)]
    grants: Option<Vec<GrantInput>>,
    /// `null`: none of its own any more.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<LimitsInput>)]
    limits: Option<Option<LimitsInput>>,
    enabled: Option<bool>,
}

/// One thing that a client is to be allowed.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewGrant)]
struct GrantInput {
    /// An integration's name, or `*` for all.
    #[schema(pattern = r"^(\*|[a-z0-9][a-z0-9_.-]{0,63})$")]
    integration: String,
    action: ActionInput,
    /// Only entities that begin with this.
    entity_prefix: Option<String>,
    /// Only messages that this filter describes; not for `publish`.
    #[schema(value_type = Option<Object>)]
    filter: Option<Box<RawValue>>,
    /// Only these fields of them, as JSON Pointers; not for `publish`.
    fields: Option<Vec<String>>,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = NewGrantAction)]
enum ActionInput {
    Read,
    Publish,
    Subscribe,
}

/// Limits of a client's own; what is absent stays as it is, `null` is as its plan or the service says.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewOwnLimits)]
struct LimitsInput {
    /// Sustained.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000000)]
    requests_per_second: Option<Option<u32>>,
    /// At once after a pause.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000000)]
    burst: Option<Option<u32>>,
    /// At the same time, in one task of the API.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000000)]
    concurrent_requests: Option<Option<u32>>,
    /// In a UTC day; 0 is any number.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>, maximum = 999999999999999u64)]
    requests_per_day: Option<Option<u64>>,
    /// Bytes of answers and of requests' bodies, in a UTC day; 0 is any number.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>, maximum = 999999999999999u64)]
    bytes_per_day: Option<Option<u64>>,
    /// The plan whose limits hold where the client has none of its own, by its name in the API's configuration.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    plan: Option<Option<String>>,
}

impl NewClient {
    pub(super) fn read(self, now_ms: i64, random: RandomBytes<'_>) -> Result<Client, Problem> {
        let id = match &self.id {
            None => ClientId::generate(random),
            Some(text) => ClientId::parse(text).map_err(|error| wrong("/id", error))?,
        };
        let blank = Client {
            id,
            name: String::new(),
            grants: Vec::new(),
            limits: None,
            enabled: true,
            created_at_ms: now_ms,
            version: 0,
        };
        let patch = ClientPatch {
            name: Some(self.name),
            grants: Some(self.grants),
            limits: Some(self.limits),
            enabled: self.enabled,
        };
        patch.apply(blank)
    }
}

impl ClientPatch {
    pub(super) fn apply(self, before: Client) -> Result<Client, Problem> {
        let mut client = before;
        if let Some(name) = self.name {
            client.name = checked_name(name)?;
        }
        if let Some(grants) = self.grants {
            client.grants = read_grants(grants)?;
        }
        match self.limits {
            None => {}
            Some(None) => client.limits = None,
            Some(Some(limits)) => client.limits = limits.apply(client.limits)?,
        }
        client.enabled = self.enabled.unwrap_or(client.enabled);
        Ok(client)
    }
}

fn wrong(pointer: impl AsRef<str>, detail: impl ToString) -> Problem {
    Problem::invalid_field(pointer.as_ref(), &detail.to_string())
}

fn checked_name(name: String) -> Result<String, Problem> {
    match name.len() {
        1..=MAX_NAME_BYTES => Ok(name),
        bytes => {
            Err(wrong("/name", format!("found {bytes} bytes, allowed are 1 to {MAX_NAME_BYTES}")))
        }
    }
}

fn read_grants(grants: Vec<GrantInput>) -> Result<Vec<Grant>, Problem> {
    if grants.len() > MAX_GRANTS {
        let found = grants.len();
        return Err(wrong("/grants", format!("found {found}, allowed are up to {MAX_GRANTS}")));
    }
    let read = |(at, grant): (usize, GrantInput)| grant.read(&format!("/grants/{at}"));
    grants.into_iter().enumerate().map(read).collect()
}

impl GrantInput {
    fn read(self, place: &str) -> Result<Grant, Problem> {
        let integration = match self.integration.as_str() {
            "*" => GrantScope::All,
            name => {
                let name = IntegrationName::parse(name);
                GrantScope::One(name.map_err(|e| wrong(format!("{place}/integration"), e))?)
            }
        };
        let action = match self.action {
            ActionInput::Read => Action::Read,
            ActionInput::Publish => Action::Publish,
            ActionInput::Subscribe => Action::Subscribe,
        };
        if let Some(prefix) = self.entity_prefix.as_ref().filter(|p| p.len() > MAX_PREFIX_BYTES) {
            let found = prefix.len();
            let detail = format!("found {found} bytes, allowed are up to {MAX_PREFIX_BYTES}");
            return Err(wrong(format!("{place}/entityPrefix"), detail));
        }
        let looks_in = [("filter", self.filter.is_some()), ("fields", self.fields.is_some())];
        if let Some((name, _)) = looks_in.iter().find(|(_, set)| *set && action == Action::Publish)
        {
            let detail =
                "found one, allowed is none for publish: what is published is not looked into";
            return Err(wrong(format!("{place}/{name}"), detail));
        }
        let filter = self.filter.map(|json| Pattern::parse(json.get()));
        let fields = self.fields.map(|pointers| FieldMask::new(&pointers));
        Ok(Grant {
            integration,
            action,
            entity_prefix: self.entity_prefix,
            filter: filter.transpose().map_err(|e| wrong(format!("{place}/filter"), e))?,
            fields: fields.transpose().map_err(|e| wrong(format!("{place}/fields"), e))?,
        })
    }
}

impl LimitsInput {
    /// What a client has of its own then; `None` if that is nothing.
    fn apply(self, before: Option<ClientLimits>) -> Result<Option<ClientLimits>, Problem> {
        let mut limits = before.unwrap_or_default();
        let rates = [
            ("requestsPerSecond", self.requests_per_second, &mut limits.rate_per_second),
            ("burst", self.burst, &mut limits.burst),
            ("concurrentRequests", self.concurrent_requests, &mut limits.concurrent),
        ];
        for (name, given, limit) in rates {
            set(name, given, limit, 1..=MAX_RATE)?;
        }
        let per_day = [
            ("requestsPerDay", self.requests_per_day, &mut limits.requests_per_day),
            ("bytesPerDay", self.bytes_per_day, &mut limits.bytes_per_day),
        ];
        for (name, given, limit) in per_day {
            set(name, given, limit, 0..=MAX_PER_DAY)?;
        }
        if let Some(plan) = self.plan {
            if plan.as_ref().is_some_and(|name| !is_plan_name(name)) {
                let detail =
                    "found something else, allowed is a name of 1 to 64 letters, digits, _ and -";
                return Err(wrong("/limits/plan", detail));
            }
            limits.plan = plan;
        }
        Ok((limits != ClientLimits::default()).then_some(limits))
    }
}

fn set<T: PartialOrd + Copy + std::fmt::Display>(
    name: &str,
    given: Option<Option<T>>,
    limit: &mut Option<T>,
    allowed: std::ops::RangeInclusive<T>,
) -> Result<(), Problem> {
    let Some(given) = given else { return Ok(()) };
    if let Some(found) = given.filter(|found| !allowed.contains(found)) {
        let (least, most) = (allowed.start(), allowed.end());
        let detail = format!("found {found}, allowed is {least} to {most}, or null");
        return Err(wrong(format!("/limits/{name}"), detail));
    }
    *limit = given;
    Ok(())
}
