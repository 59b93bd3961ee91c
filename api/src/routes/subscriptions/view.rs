//! A subscription as its owner sees it. No secret is in it, but in the one answer to what made it; of a receiver only the
//! origin: paths and queries sometimes carry tokens.

use serde::Serialize;
use store::pattern::Pattern;
use store::{
    AssumedRole, BodyForm, ClientId, DeliveryOrder, DeliveryPolicy, Destination, IntegrationName,
    OnExhausted, SigningSecret, Subscription, WebhookAuth, WebhookDestination,
};
use utoipa::ToSchema;

use crate::timestamp;

/// One subscription.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Subscription)]
pub(super) struct SubscriptionView<'a> {
    id: &'a str,
    enabled: bool,
    /// Empty: all that its owner is granted, or none, if it is for operational events.
    integrations: Vec<&'a str>,
    operational_events: bool,
    entity_prefix: Option<&'a str>,
    event_types: &'a [String],
    #[schema(value_type = Option<Object>)]
    filter: Option<&'a Pattern>,
    destination: DestinationView<'a>,
    policy: PolicyView<'a>,
    #[schema(format = DateTime)]
    created_at: String,
    /// Counts its changes; the number in its `ETag`.
    version: u64,
    /// What it is signed with, shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    secret: Option<String>,
}

/// Some of them.
#[derive(Serialize, ToSchema)]
#[schema(as = Subscriptions)]
pub(super) struct SubscriptionsView<'a> {
    pub(super) subscriptions: Vec<SubscriptionView<'a>>,
    /// The cursor of the next page; null on the last one.
    pub(super) next: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase", rename_all_fields = "camelCase")]
#[schema(as = Destination)]
enum DestinationView<'a> {
    Webhook(WebhookView<'a>),
    Sqs { queue: &'a str, role: Option<RoleView<'a>> },
    Sns { topic: &'a str, role: Option<RoleView<'a>> },
    EventBridge { bus: &'a str, role: Option<RoleView<'a>> },
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Webhook)]
struct WebhookView<'a> {
    /// Scheme, host and port.
    origin: String,
    #[schema(value_type = String)]
    form: BodyForm,
    /// Their names.
    headers: Vec<&'a str>,
    /// `basic`, `bearer` or `oauth`.
    auth: Option<&'static str>,
    client_certificate: bool,
    /// Those that sign, the newest first.
    keys: Vec<KeyView>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SigningKey)]
struct KeyView {
    /// `v1` or `v1a`.
    signature: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    public_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    signs_until: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Role)]
struct RoleView<'a> {
    arn: &'a str,
    /// What its trust policy must ask for.
    external_id: &'a str,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Policy)]
struct PolicyView<'a> {
    timeout_ms: u64,
    concurrency: u32,
    rate_per_second: Option<u32>,
    retry_schedule_ms: &'a [u64],
    #[schema(value_type = String)]
    order: DeliveryOrder,
    #[schema(value_type = String)]
    on_exhausted: OnExhausted,
    disable_after_ms: u64,
}

/// A test that is on its way.
#[derive(Serialize, ToSchema)]
#[schema(as = TestDelivery)]
pub(super) struct TestView {
    /// The id of its message: the `webhook-id` of what the receiver gets.
    pub(super) message: String,
    pub(super) subscription: String,
}

impl<'a> SubscriptionView<'a> {
    pub(super) fn of(subscription: &'a Subscription, now_ms: i64) -> SubscriptionView<'a> {
        let events = subscription.integrations.iter().any(IntegrationName::is_events);
        let names = subscription.integrations.iter().filter(|name| !name.is_events());
        SubscriptionView {
            id: subscription.id.as_str(),
            enabled: subscription.enabled,
            integrations: names.map(IntegrationName::as_str).collect(),
            operational_events: events,
            entity_prefix: subscription.entity_prefix.as_deref(),
            event_types: &subscription.types,
            filter: subscription.filter.as_ref(),
            destination: DestinationView::of(subscription, now_ms),
            policy: PolicyView::of(&subscription.policy),
            created_at: timestamp::format(subscription.created_at_ms),
            version: subscription.version,
            secret: None,
        }
    }

    /// The same, with the key that was just made; of a pair the public half alone stands in the keys.
    pub(super) fn made(
        subscription: &'a Subscription,
        key: Option<&SigningSecret>,
        now_ms: i64,
    ) -> SubscriptionView<'a> {
        let secret = key.filter(|key| key.public_key().is_none()).map(SigningSecret::expose);
        SubscriptionView { secret, ..SubscriptionView::of(subscription, now_ms) }
    }
}

impl<'a> DestinationView<'a> {
    fn of(subscription: &'a Subscription, now_ms: i64) -> DestinationView<'a> {
        let role = |role: &'a Option<AssumedRole>| {
            role.as_ref().map(|role| RoleView::of(role, &subscription.client))
        };
        match &subscription.destination {
            Destination::Webhook(webhook) => {
                DestinationView::Webhook(WebhookView::of(webhook, now_ms))
            }
            Destination::Sqs(sqs) => {
                DestinationView::Sqs { queue: sqs.queue.as_str(), role: role(&sqs.role) }
            }
            Destination::Sns(sns) => {
                DestinationView::Sns { topic: sns.topic.as_str(), role: role(&sns.role) }
            }
            Destination::EventBridge(bridge) => {
                DestinationView::EventBridge { bus: bridge.bus.as_str(), role: role(&bridge.role) }
            }
        }
    }
}

impl<'a> RoleView<'a> {
    fn of(role: &'a AssumedRole, client: &'a ClientId) -> RoleView<'a> {
        let external_id = role.external_id().unwrap_or(client.as_str());
        RoleView { arn: role.arn(), external_id }
    }
}

impl<'a> WebhookView<'a> {
    fn of(webhook: &'a WebhookDestination, now_ms: i64) -> WebhookView<'a> {
        let keys = webhook.keys.iter().filter(|key| key.signs_at(now_ms));
        WebhookView {
            origin: webhook.url.origin(),
            form: webhook.form,
            headers: webhook.headers.iter().map(|(name, _)| name.as_str()).collect(),
            auth: webhook.auth.as_deref().map(WebhookAuth::kind),
            client_certificate: webhook.identity.is_some(),
            keys: keys
                .map(|key| KeyView {
                    signature: key.secret.version(),
                    public_key: key.secret.public_key(),
                    signs_until: key.expires_at_ms.map(timestamp::format),
                })
                .collect(),
        }
    }
}

impl<'a> PolicyView<'a> {
    fn of(policy: &'a DeliveryPolicy) -> PolicyView<'a> {
        PolicyView {
            timeout_ms: policy.timeout_ms,
            concurrency: policy.concurrency,
            rate_per_second: policy.rate_per_second,
            retry_schedule_ms: &policy.retry_schedule_ms,
            order: policy.order,
            on_exhausted: policy.on_exhausted,
            disable_after_ms: policy.disable_after_ms,
        }
    }
}
