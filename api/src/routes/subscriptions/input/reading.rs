//! Bodies taken apart: what comes out is checked and complete, or one field is named that is not allowed.

use std::str::FromStr;

use serde_json::value::RawValue;
use store::pattern::Pattern;
use store::{
    AssumedRole, BodyForm, ClientIdentity, EventBridgeDestination, EventBus, IntegrationName,
    OAuthClient, QueueUrl, SnsDestination, SqsDestination, StaticHeaders, SubscriptionError,
    TopicArn, WebhookAuth, WebhookUrl,
};

use super::{
    AuthInput, BasicInput, BearerInput, DestinationPatch, NewBus, NewDestination, NewQueue,
    NewSubscription, NewTopic, NewWebhook, OAuthInput, PolicyInput, SigningInput,
    SubscriptionPatch, WebhookPatch,
};
use crate::manage::{Change, Destined, Draft, Fault, KeyKind, PolicyChange, WebhookChange};

/// Most integrations of one subscription.
const MAX_INTEGRATIONS: usize = 100;
/// Most event types of one subscription.
const MAX_TYPES: usize = 100;
/// Longest event type, in bytes.
const MAX_TYPE_BYTES: usize = 256;
/// Longest entity prefix, in bytes.
const MAX_PREFIX_BYTES: usize = 512;

impl NewSubscription {
    pub(in crate::routes::subscriptions) fn read(self) -> Result<Draft, Fault> {
        let change = SubscriptionPatch {
            destination: None,
            integrations: Some(self.integrations),
            operational_events: Some(self.operational_events),
            entity_prefix: Some(self.entity_prefix),
            event_types: Some(self.event_types),
            filter: Some(self.filter),
            policy: self.policy,
            enabled: self.enabled,
        };
        Ok(Draft { destined: self.destination.read()?, change: change.read()? })
    }
}

impl SubscriptionPatch {
    pub(in crate::routes::subscriptions) fn read(self) -> Result<Change, Fault> {
        let webhook = match self.destination {
            None => None,
            Some(DestinationPatch::Webhook(webhook)) => Some(Box::new(webhook.read()?)),
        };
        Ok(Change {
            enabled: self.enabled,
            integrations: self.integrations.map(integrations).transpose()?,
            operational_events: self.operational_events,
            entity_prefix: self
                .entity_prefix
                .map(|prefix| prefix.map(prefix_of).transpose())
                .transpose()?,
            event_types: self.event_types.map(event_types).transpose()?,
            filter: self
                .filter
                .map(|filter| filter.map(|json| pattern(&json)).transpose())
                .transpose()?,
            policy: self.policy.read()?,
            webhook,
        })
    }
}

impl From<SigningInput> for KeyKind {
    fn from(kind: SigningInput) -> KeyKind {
        match kind {
            SigningInput::Hmac => KeyKind::Hmac,
            SigningInput::Ed25519 => KeyKind::Ed25519,
        }
    }
}

fn integrations(names: Vec<String>) -> Result<Vec<IntegrationName>, Fault> {
    if names.len() > MAX_INTEGRATIONS {
        let found = names.len();
        let detail = format!("found {found} of them, allowed are up to {MAX_INTEGRATIONS}");
        return Err(Fault::new("/integrations", detail));
    }
    let parsed = names.iter().enumerate().map(|(at, name)| {
        IntegrationName::parse(name)
            .map_err(|error| Fault::new(format!("/integrations/{at}"), error))
    });
    parsed.collect()
}

fn prefix_of(prefix: String) -> Result<String, Fault> {
    match prefix.len() {
        1..=MAX_PREFIX_BYTES => Ok(prefix),
        bytes => {
            let detail = format!("found {bytes} bytes, allowed are 1 to {MAX_PREFIX_BYTES}");
            Err(Fault::new("/entityPrefix", detail))
        }
    }
}

fn event_types(types: Vec<String>) -> Result<Vec<String>, Fault> {
    if types.len() > MAX_TYPES {
        let found = types.len();
        let detail = format!("found {found} of them, allowed are up to {MAX_TYPES}");
        return Err(Fault::new("/eventTypes", detail));
    }
    let wrong = types.iter().position(|text| !(1..=MAX_TYPE_BYTES).contains(&text.len()));
    match wrong {
        None => Ok(types),
        Some(at) => {
            let found = types[at].len();
            let detail = format!("found {found} bytes, allowed are 1 to {MAX_TYPE_BYTES}");
            Err(Fault::new(format!("/eventTypes/{at}"), detail))
        }
    }
}

fn pattern(json: &RawValue) -> Result<Pattern, Fault> {
    Pattern::parse(json.get()).map_err(|error| Fault::new("/filter", error))
}

impl PolicyInput {
    fn read(self) -> Result<PolicyChange, Fault> {
        Ok(PolicyChange {
            timeout_ms: self.timeout_ms,
            concurrency: self.concurrency,
            rate_per_second: self.rate_per_second,
            retry_schedule_ms: self.retry_schedule_ms,
            order: word("/policy/order", self.order, "none, key, shard")?,
            on_exhausted: word("/policy/onExhausted", self.on_exhausted, "skip, stop")?,
            disable_after_ms: self.disable_after_ms,
        })
    }
}

/// One of a few words.
fn word<T: serde::de::DeserializeOwned>(
    field: &str,
    text: Option<String>,
    allowed: &str,
) -> Result<Option<T>, Fault> {
    let Some(text) = text else { return Ok(None) };
    let found: String = text.chars().take(50).collect();
    let refused = |_| Fault::new(field, format!("found {found:?}, allowed are {allowed}"));
    serde_json::from_value(text.into()).map(Some).map_err(refused)
}

impl NewDestination {
    fn read(self) -> Result<Destined, Fault> {
        match self {
            NewDestination::Webhook(webhook) => webhook.read(),
            NewDestination::Sqs(NewQueue { queue, role_arn }) => {
                let queue = QueueUrl::parse(&queue);
                let queue = queue.map_err(|e| Fault::new("/destination/sqs/queue", e))?;
                let role = role("/destination/sqs/roleArn", &role_arn)?;
                Ok(Destined::Sqs(SqsDestination { queue, role }))
            }
            NewDestination::Sns(NewTopic { topic, role_arn }) => {
                let topic = TopicArn::parse(&topic);
                let topic = topic.map_err(|e| Fault::new("/destination/sns/topic", e))?;
                let role = role("/destination/sns/roleArn", &role_arn)?;
                Ok(Destined::Sns(SnsDestination { topic, role }))
            }
            NewDestination::EventBridge(NewBus { bus, role_arn }) => {
                let field = "/destination/eventbridge/bus";
                let bus = EventBus::parse(&bus).map_err(|error| Fault::new(field, error))?;
                // A name alone would be looked for in the account of whoever sends.
                if bus.region().is_none() {
                    let allowed = "found a name, allowed is an ARN such as \"arn:aws:events:eu-west-1:123456789012:event-bus/orders\"";
                    return Err(Fault::new(field, allowed));
                }
                let role = role("/destination/eventbridge/roleArn", &role_arn)?;
                Ok(Destined::EventBridge(EventBridgeDestination { bus, role }))
            }
        }
    }
}

/// A role of the client's own: without one the workers' permissions would be used, which are nobody's to lend; and its
/// trust policy must ask for the client's own id, which nobody else is assumed under.
fn role(field: &str, arn: &str) -> Result<Option<AssumedRole>, Fault> {
    AssumedRole::parse(arn, None).map(Some).map_err(|error| Fault::new(field, error))
}

impl NewWebhook {
    fn read(self) -> Result<Destined, Fault> {
        let signing = self.signing;
        let url = url(&self.url)?;
        let rest = WebhookPatch {
            url: None,
            form: self.form,
            headers: self.headers,
            auth: Some(self.auth),
            client_certificate: Some(self.client_certificate),
        };
        Ok(Destined::Webhook(url, Box::new(rest.read()?), signing.into()))
    }
}

fn url(text: &str) -> Result<WebhookUrl, Fault> {
    WebhookUrl::parse(text).map_err(|error| Fault::new("/destination/webhook/url", error))
}

impl WebhookPatch {
    fn read(self) -> Result<WebhookChange, Fault> {
        let form = self.form.map(|text| {
            BodyForm::from_str(&text).map_err(|e| Fault::new("/destination/webhook/form", e))
        });
        let headers = self.headers.map(|headers| {
            let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            StaticHeaders::parse(pairs).map_err(|e| Fault::new("/destination/webhook/headers", e))
        });
        let auth = self.auth.map(|auth| auth.map(AuthInput::read).transpose());
        let identity = self.client_certificate.map(|pem| {
            let parsed = pem.map(|pem| ClientIdentity::parse(&pem.certificates, &pem.key));
            let parsed = parsed.transpose();
            parsed.map_err(|e| Fault::new("/destination/webhook/clientCertificate", e))
        });
        Ok(WebhookChange {
            url: self.url.as_deref().map(url).transpose()?,
            form: form.transpose()?,
            headers: headers.transpose()?,
            auth: auth.transpose()?,
            identity: identity.transpose()?,
        })
    }
}

impl AuthInput {
    fn read(self) -> Result<Box<WebhookAuth>, Fault> {
        let read = match self {
            AuthInput::Basic(BasicInput { user, password }) => WebhookAuth::basic(&user, &password),
            AuthInput::Bearer(BearerInput { token }) => WebhookAuth::bearer(&token),
            AuthInput::Oauth(oauth) => oauth.read().map(WebhookAuth::OAuth),
        };
        read.map(Box::new).map_err(|error| Fault::new("/destination/webhook/auth", error))
    }
}

impl OAuthInput {
    fn read(self) -> Result<OAuthClient, SubscriptionError> {
        let client = OAuthClient::new(&self.token_url, &self.client_id, &self.client_secret)?;
        client.asking(self.scope.as_deref(), self.audience.as_deref(), self.place)
    }
}
