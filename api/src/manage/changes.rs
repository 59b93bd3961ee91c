//! What is to be made or to be different, parsed and complete, and how it is taken over. Pure.

use std::time::Duration;

use store::pattern::Pattern;
use store::{
    BodyForm, ClientIdentity, DeliveryOrder, DeliveryPolicy, EventBridgeDestination,
    IntegrationName, OnExhausted, SnsDestination, SqsDestination, StaticHeaders, SubscriptionError,
    WebhookAuth, WebhookDestination, WebhookUrl,
};

use super::Fault;

/// What the newest key of a webhook is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// A secret that both sides know; signs as v1.
    #[default]
    Hmac,
    /// A pair of which the client gets the public half; signs as v1a.
    Ed25519,
}

/// Where a new subscription delivers to.
#[derive(Debug)]
pub(crate) enum Destined {
    Webhook(WebhookUrl, Box<WebhookChange>, KeyKind),
    Sqs(SqsDestination),
    Sns(SnsDestination),
    EventBridge(EventBridgeDestination),
}

/// A subscription that is to be made.
#[derive(Debug)]
pub(crate) struct Draft {
    /// Where to.
    pub(crate) destined: Destined,
    /// Everything else: a change of one that asks for all that it may get.
    pub(crate) change: Change,
}

/// What is to be different; `None` stays as it is.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) enabled: Option<bool>,
    /// Empty: all that the client is granted.
    pub(crate) integrations: Option<Vec<IntegrationName>>,
    /// What happens to the client's own destinations, and no messages.
    pub(crate) operational_events: Option<bool>,
    pub(crate) entity_prefix: Option<Option<String>>,
    pub(crate) event_types: Option<Vec<String>>,
    pub(crate) filter: Option<Option<Pattern>>,
    pub(crate) policy: PolicyChange,
    pub(crate) webhook: Option<Box<WebhookChange>>,
}

/// What is to be different about a webhook.
#[derive(Debug, Default)]
pub(crate) struct WebhookChange {
    pub(crate) url: Option<WebhookUrl>,
    pub(crate) form: Option<BodyForm>,
    pub(crate) headers: Option<StaticHeaders>,
    pub(crate) auth: Option<Option<Box<WebhookAuth>>>,
    pub(crate) identity: Option<Option<ClientIdentity>>,
}

/// What is to be different about how a destination is treated.
#[derive(Debug, Default)]
pub(crate) struct PolicyChange {
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) concurrency: Option<u32>,
    pub(crate) rate_per_second: Option<Option<u32>>,
    pub(crate) retry_schedule_ms: Option<Vec<u64>>,
    pub(crate) order: Option<DeliveryOrder>,
    pub(crate) on_exhausted: Option<OnExhausted>,
    pub(crate) disable_after_ms: Option<u64>,
}

/// A new signing key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rotation {
    pub(crate) kind: KeyKind,
    /// How long the old keys sign beside it.
    pub(crate) overlap: Duration,
}

impl WebhookChange {
    /// It names a place: a receiver, or a token endpoint.
    pub(super) fn leads_elsewhere(&self) -> bool {
        let oauth = |auth: &Option<Box<WebhookAuth>>| {
            auth.as_deref().is_some_and(|auth| matches!(auth, WebhookAuth::OAuth(_)))
        };
        self.url.is_some() || self.auth.as_ref().is_some_and(oauth)
    }

    pub(super) fn apply(self, webhook: &mut WebhookDestination) {
        if let Some(url) = self.url {
            webhook.url = url;
        }
        if let Some(form) = self.form {
            webhook.form = form;
        }
        if let Some(headers) = self.headers {
            webhook.headers = headers;
        }
        if let Some(auth) = self.auth {
            webhook.auth = auth;
        }
        if let Some(identity) = self.identity {
            webhook.identity = identity;
        }
    }
}

impl PolicyChange {
    pub(super) fn apply(self, policy: &mut DeliveryPolicy) -> Result<(), Fault> {
        let had_order = policy.order != DeliveryOrder::None;
        policy.timeout_ms = self.timeout_ms.unwrap_or(policy.timeout_ms);
        policy.concurrency = self.concurrency.unwrap_or(policy.concurrency);
        policy.rate_per_second = self.rate_per_second.unwrap_or(policy.rate_per_second);
        policy.order = self.order.unwrap_or(policy.order);
        policy.on_exhausted = self.on_exhausted.unwrap_or(policy.on_exhausted);
        policy.disable_after_ms = self.disable_after_ms.unwrap_or(policy.disable_after_ms);
        if let Some(schedule) = self.retry_schedule_ms {
            policy.retry_schedule_ms = schedule;
        }
        if had_order && policy.order == DeliveryOrder::None {
            let detail = "found \"none\", allowed are key and shard: messages may wait in order; make another subscription";
            return Err(Fault::new("/policy/order", detail));
        }
        policy.check().map_err(|error| Fault::new(policy_field(&error), error))
    }
}

/// The field of the body that a number of the policy came from.
fn policy_field(error: &SubscriptionError) -> String {
    let SubscriptionError::Policy { field, .. } = error else { return "/policy".to_owned() };
    let words = field.split('\'').next().unwrap_or_default().split('_');
    let camel = words.enumerate().map(|(at, word)| match (at, word.split_at_checked(1)) {
        (1.., Some((first, rest))) => first.to_ascii_uppercase() + rest,
        _ => word.to_owned(),
    });
    format!("/policy/{}", camel.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_taken_whole_or_refused_by_the_name_that_the_body_has() {
        let change = |change: PolicyChange| change.apply(&mut DeliveryPolicy::default());
        assert_eq!(change(PolicyChange { timeout_ms: Some(500), ..Default::default() }), Ok(()));
        let timeout = PolicyChange { timeout_ms: Some(5), ..Default::default() };
        assert_eq!(change(timeout).unwrap_err().field, "/policy/timeoutMs");
        let schedule = PolicyChange { retry_schedule_ms: Some(vec![]), ..Default::default() };
        assert_eq!(change(schedule).unwrap_err().field, "/policy/retryScheduleMs");
        let rate = PolicyChange { rate_per_second: Some(Some(0)), ..Default::default() };
        assert_eq!(change(rate).unwrap_err().field, "/policy/ratePerSecond");
        let mut ordered = DeliveryPolicy { order: DeliveryOrder::Key, ..Default::default() };
        let none = PolicyChange { order: Some(DeliveryOrder::None), ..Default::default() };
        assert_eq!(none.apply(&mut ordered).unwrap_err().field, "/policy/order");
    }
}
