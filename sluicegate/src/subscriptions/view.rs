//! Subscriptions as they are shown: a table and lines for people, objects for scripts. Pure. No secret is in any of
//! them but the one that was just made.

use aws_smithy_types::date_time::{DateTime, Format};
use serde_json::{Map, Value, json};
use store::{
    Destination, SigningKey, SigningSecret, Subscription, WebhookAuth, WebhookDestination,
};

use crate::screen::aligned;

/// All of them, a line each.
pub(super) fn table(subscriptions: &[Subscription]) -> String {
    if subscriptions.is_empty() {
        return "no subscriptions\n".to_owned();
    }
    let head = ["SUBSCRIPTION", "CLIENT", "STATE", "INTEGRATIONS", "DESTINATION"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(subscriptions.iter().map(|subscription| {
        let names: Vec<&str> = subscription.integrations.iter().map(|name| name.as_str()).collect();
        vec![
            subscription.id.to_string(),
            subscription.client.to_string(),
            if subscription.enabled { "on" } else { "off" }.to_owned(),
            if names.is_empty() { "all".to_owned() } else { names.join(",") },
            subscription.destination.to_string(),
        ]
    }));
    let mut text = aligned(&rows);
    text.push_str(&format!("\n{} shown\n", subscriptions.len()));
    text
}

/// One of them with everything that may be shown.
pub(super) fn object(subscription: &Subscription, now_ms: i64) -> Value {
    let names: Vec<&str> = subscription.integrations.iter().map(|name| name.as_str()).collect();
    json!({
        "id": subscription.id.as_str(),
        "client": subscription.client.as_str(),
        "enabled": subscription.enabled,
        "integrations": names,
        "entity_prefix": subscription.entity_prefix,
        "types": subscription.types,
        "filter": subscription.filter,
        "kind": subscription.destination.kind(),
        "destination": subscription.destination.to_string(),
        "webhook": subscription.destination.webhook().map(webhook),
        "keys": keys(&subscription.destination, now_ms),
        "policy": subscription.policy,
        "created_at": time(subscription.created_at_ms),
        "version": subscription.version,
    })
}

/// How a webhook is set up, without its secrets.
fn webhook(webhook: &WebhookDestination) -> Value {
    let headers: Vec<&str> = webhook.headers.iter().map(|(name, _)| name.as_str()).collect();
    json!({
        "form": webhook.form,
        "headers": headers,
        "auth": webhook.auth.as_deref().map(WebhookAuth::kind),
        "client_certificate": webhook.identity.is_some(),
    })
}

/// What a rotation made; the only place where a secret is shown.
pub(super) fn made(subscription: &Subscription, secret: &SigningSecret, now_ms: i64) -> Value {
    let (name, shown) = match secret.public_key() {
        Some(public) => ("public_key", public),
        None => ("secret", secret.expose()),
    };
    let mut object = json!({
        "id": subscription.id.as_str(),
        "signature": secret.version(),
        "keys": keys(&subscription.destination, now_ms),
        "version": subscription.version,
    });
    object[name] = Value::String(shown);
    object
}

fn keys(destination: &Destination, now_ms: i64) -> Vec<Value> {
    let keys = destination.webhook().map_or(&[][..], |webhook| &webhook.keys);
    keys.iter().filter(|key| key.signs_at(now_ms)).map(shown).collect()
}

fn shown(key: &SigningKey) -> Value {
    let mut object = Map::new();
    object.insert("signature".to_owned(), key.secret.version().into());
    if let Some(public) = key.secret.public_key() {
        object.insert("public_key".to_owned(), public.into());
    }
    if let Some(end_ms) = key.expires_at_ms {
        object.insert("signs_until".to_owned(), time(end_ms).into());
    }
    Value::Object(object)
}

/// An object for people: a line a member, what is deeper as JSON.
pub(super) fn words(object: &Value) -> String {
    let mut rows = Vec::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            Value::Array(values) if values.is_empty() => "-".to_owned(),
            other => other.to_string(),
        };
        let once = if name == "secret" { "   (shown once)" } else { "" };
        rows.push(vec![name.replace('_', " "), format!("{text}{once}")]);
    }
    aligned(&rows)
}

fn time(ms: i64) -> String {
    let at = DateTime::from_millis(ms);
    at.fmt(Format::DateTime).unwrap_or_else(|_| format!("{ms} ms since 1970"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use store::{ClientId, DeliveryPolicy, SubscriptionId, WebhookUrl};

    fn secret(fill: u8) -> SigningSecret {
        SigningSecret::generate(&mut |bytes| bytes.fill(fill))
    }

    fn subscription() -> Subscription {
        let url = WebhookUrl::parse("https://hooks.example/in/secret-path?token=t0ken").unwrap();
        Subscription {
            id: SubscriptionId::parse("sub_a").unwrap(),
            client: ClientId::parse("cl_a").unwrap(),
            integrations: Vec::new(),
            entity_prefix: None,
            types: Vec::new(),
            filter: None,
            destination: Destination::Webhook(WebhookDestination::new(url, secret(1))),
            policy: DeliveryPolicy::default(),
            created_at_ms: 1_500,
            version: 3,
            enabled: true,
        }
    }

    #[test]
    fn a_new_secret_is_shown_where_it_is_made_and_nowhere_else() {
        let mut one = subscription();
        let webhook = one.destination.webhook_mut().unwrap();
        webhook.rotate(secret(2), 0, Duration::from_secs(60)).unwrap();
        let made = made(&one, &secret(2), 0);
        assert_eq!(made["secret"], secret(2).expose());
        assert_eq!(made["keys"][1]["signs_until"], "1970-01-01T00:01:00Z");
        assert!(words(&made).contains("(shown once)"));
        let others = [table(&[one.clone()]), object(&one, 0).to_string(), words(&object(&one, 0))];
        for text in others {
            for hidden in
                [secret(1).expose(), secret(2).expose(), "t0ken".into(), "secret-path".into()]
            {
                assert!(!text.contains(&hidden), "{text}");
            }
            assert!(text.contains("https://hooks.example:443"), "{text}");
        }
        assert_eq!(object(&one, 60_000)["keys"].as_array().unwrap().len(), 1, "the old one ended");
    }

    #[test]
    fn of_a_pair_only_the_public_half_is_shown() {
        let mut one = subscription();
        let pair = SigningSecret::generate_ed25519(&mut |bytes| bytes.fill(9)).unwrap();
        let webhook = one.destination.webhook_mut().unwrap();
        webhook.rotate(pair.clone(), 0, Duration::ZERO).unwrap();
        let made = made(&one, &pair, 0);
        assert!(made["public_key"].as_str().unwrap().starts_with("whpk_"));
        assert!(!made.to_string().contains("whsk_") && made.get("secret").is_none());
        assert_eq!(object(&one, 0)["keys"][0]["public_key"], made["public_key"]);
    }
}
