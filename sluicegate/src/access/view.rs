//! Clients and keys as they are shown: a table and lines for people, objects for scripts. Pure. No secret
//! is in any of them but the key that was just made.

use aws_smithy_types::date_time::{DateTime, Format};
use serde_json::{Value, json};
use store::{Client, ClientLimits, Grant, GrantScope, KeyRecord, NewKey, OAuthBinding, Usage};

use crate::screen::aligned;

/// A client with all that is known of it.
pub(super) struct Known {
    pub(super) client: Client,
    /// With when each was last used.
    pub(super) keys: Vec<(KeyRecord, Option<i64>)>,
    pub(super) oauth: Vec<OAuthBinding>,
    /// What it has used of its limits today, as the tasks last wrote it.
    pub(super) used: Usage,
}

/// A UTC day.
pub(super) const DAY_MS: i64 = 24 * 3_600 * 1_000;

/// All of them, a line each.
pub(super) fn table(clients: &[Client]) -> String {
    if clients.is_empty() {
        return "no clients\n".to_owned();
    }
    let mut rows = vec![["CLIENT", "STATE", "NAME", "GRANTS"].map(str::to_owned).to_vec()];
    rows.extend(clients.iter().map(|client| {
        let grants: Vec<String> = client.grants.iter().map(grant).collect();
        vec![
            client.id.to_string(),
            state_of(client).to_owned(),
            client.name.clone(),
            if grants.is_empty() { "none".to_owned() } else { grants.join(", ") },
        ]
    }));
    let mut text = aligned(&rows);
    text.push_str(&format!("\n{} shown\n", clients.len()));
    text
}

fn state_of(client: &Client) -> &'static str {
    if client.enabled { "on" } else { "off" }
}

/// A grant in the form that the command line takes, with what that cannot say.
fn grant(grant: &Grant) -> String {
    let integration = match &grant.integration {
        GrantScope::All => "*",
        GrantScope::One(name) => name.as_str(),
    };
    let action = json!(grant.action);
    let mut text = format!("{integration}:{}", action.as_str().unwrap_or_default());
    if let Some(prefix) = &grant.entity_prefix {
        text.push_str(&format!(":{prefix}"));
    }
    if grant.filter.is_some() {
        text.push_str(" (filtered)");
    }
    if grant.fields.is_some() {
        text.push_str(" (some fields)");
    }
    text
}

/// One client, for scripts.
pub(super) fn client(client: &Client) -> Value {
    json!({
        "id": client.id,
        "name": client.name,
        "enabled": client.enabled,
        "grants": client.grants,
        "limits": client.limits,
        "created_at": time(client.created_at_ms),
        "version": client.version,
    })
}

/// One client with its keys and OAuth clients, for scripts.
pub(super) fn object(known: &Known, now_ms: i64) -> Value {
    let mut object = client(&known.client);
    let keys = known.keys.iter().map(|(record, used_at_ms)| key(record, *used_at_ms, now_ms));
    object["keys"] = keys.collect();
    object["oauth_clients"] = known.oauth.iter().map(binding).collect();
    object["used_today"] = json!({ "requests": known.used.requests, "bytes": known.used.bytes });
    object
}

/// What is kept of a key.
pub(super) fn key(record: &KeyRecord, used_at_ms: Option<i64>, now_ms: i64) -> Value {
    let networks: Vec<String> = record.networks.iter().map(ToString::to_string).collect();
    json!({
        "id": record.id,
        "label": record.label,
        "state": key_state(record, now_ms),
        "created_at": time(record.created_at_ms),
        "ends_at": time(record.expires_at_ms),
        "revoked_at": record.revoked_at_ms.map(time),
        "last_used_at": used_at_ms.map(time),
        "networks": networks,
    })
}

fn key_state(record: &KeyRecord, now_ms: i64) -> &'static str {
    if record.revoked_at_ms.is_some() {
        "revoked"
    } else if record.is_live(now_ms) {
        "works"
    } else {
        "ended"
    }
}

/// An issuer's client that is bound.
pub(super) fn binding(binding: &OAuthBinding) -> Value {
    json!({
        "client": binding.client,
        "issuer": binding.issuer,
        "oauth_client_id": binding.oauth_client,
        "bound_at": time(binding.created_at_ms),
    })
}

/// A key just made; the only place where one is shown.
pub(super) fn made(new: &NewKey) -> Value {
    json!({
        "client": new.record.client,
        "key_id": new.record.id,
        "api_key": new.key.expose(),
        "ends_at": time(new.record.expires_at_ms),
    })
}

/// One client for people.
pub(super) fn words(known: &Known, now_ms: i64) -> String {
    let one = &known.client;
    let mut rows: Vec<Vec<String>> = [
        ("id", one.id.to_string()),
        ("name", one.name.clone()),
        ("state", state_of(one).to_owned()),
        ("created", time(one.created_at_ms)),
    ]
    .map(|(name, value)| vec![name.to_owned(), value])
    .into();
    rows.push(vec!["limits".to_owned(), limits(one.limits.as_ref())]);
    let used = format!("{} requests, {} bytes", known.used.requests, known.used.bytes);
    rows.push(vec!["used today".to_owned(), used]);
    rows.extend(one.grants.iter().map(|given| vec!["may".to_owned(), grant(given)]));
    let mut text = aligned(&rows);
    text.push_str("\nkeys\n");
    let head = ["  KEY", "STATE", "ENDS", "LAST USED", "FROM", "LABEL"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(known.keys.iter().map(|(record, used_at_ms)| {
        let networks: Vec<String> = record.networks.iter().map(ToString::to_string).collect();
        vec![
            format!("  {}", record.id),
            key_state(record, now_ms).to_owned(),
            time(record.expires_at_ms),
            used_at_ms.map_or("not yet".to_owned(), time),
            if networks.is_empty() { "everywhere".to_owned() } else { networks.join(",") },
            record.label.clone(),
        ]
    }));
    text.push_str(&if known.keys.is_empty() { "  none\n".to_owned() } else { aligned(&rows) });
    text.push_str("\noauth clients\n");
    for bound in &known.oauth {
        text.push_str(&format!("  {} of {}\n", bound.oauth_client, bound.issuer));
    }
    if known.oauth.is_empty() {
        text.push_str("  none\n");
    }
    text
}

/// A client's own limits, in words.
fn limits(own: Option<&ClientLimits>) -> String {
    let own = own.cloned().unwrap_or_default();
    let number = |value: Option<u32>, what: &str| value.map(|value| format!("{value} {what}"));
    let quota = |value: Option<u64>, what: &str| {
        value.map(|value| match value {
            0 => format!("any number of {what} a day"),
            value => format!("{value} {what} a day"),
        })
    };
    let said = [
        number(own.rate_per_second, "a second"),
        number(own.burst, "at once after a pause"),
        number(own.concurrent, "at the same time"),
        quota(own.requests_per_day, "requests"),
        quota(own.bytes_per_day, "bytes"),
        own.plan.map(|plan| format!("otherwise those of plan {plan}")),
    ];
    let said: Vec<String> = said.into_iter().flatten().collect();
    if said.is_empty() { "the API's defaults".to_owned() } else { said.join(", ") }
}

/// An object for people: a line a member.
pub(super) fn lines(object: &Value) -> String {
    let mut rows = Vec::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let once = if name == "api_key" { "   (shown once)" } else { "" };
        rows.push(vec![name.replace('_', " "), format!("{text}{once}")]);
    }
    aligned(&rows)
}

pub(super) fn time(ms: i64) -> String {
    let at = DateTime::from_millis(ms);
    at.fmt(Format::DateTime).unwrap_or_else(|_| format!("{ms} ms since 1970"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::{Action, ApiKey, ClientId, Pepper};

    fn record(key: &ApiKey) -> KeyRecord {
        KeyRecord {
            id: key.id().clone(),
            client: ClientId::parse("cl_1").unwrap(),
            hash: Pepper::new(&[1; 32]).unwrap().hash(key),
            label: "ci".to_owned(),
            created_at_ms: 0,
            expires_at_ms: 10_000,
            revoked_at_ms: None,
            networks: vec!["10.0.0.0/8".parse().unwrap()],
        }
    }

    #[test]
    fn a_key_is_shown_where_it_is_made_and_nowhere_else() {
        let key = ApiKey::generate(&mut |bytes| bytes.fill(5));
        let record = record(&key);
        let one = Client {
            id: record.client.clone(),
            name: "Seismology".to_owned(),
            grants: vec![Grant::new(GrantScope::All, Action::Read)],
            limits: None,
            enabled: true,
            created_at_ms: 0,
            version: 1,
        };
        let keys = vec![(record.clone(), Some(5_000))];
        let used = Usage { requests: 1_234, ..Usage::default() };
        let known = Known { client: one.clone(), keys, oauth: vec![], used };
        let secret = &key.expose()[21..];
        for text in [words(&known, 1), object(&known, 1).to_string(), table(&[one])] {
            assert!(!text.contains(secret), "{text}");
        }
        let text = words(&known, 1);
        for said in [
            "*:read",
            "works",
            "the API's defaults",
            "1234 requests",
            "1970-01-01T00:00:10Z",
            "1970-01-01T00:00:05Z",
            "10.0.0.0/8",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
        assert!(words(&known, 10_000).contains("ended"));
        let made = made(&NewKey { key: key.clone(), record });
        assert_eq!(made["api_key"], key.expose());
        assert!(lines(&made).contains("(shown once)"));
    }
}
