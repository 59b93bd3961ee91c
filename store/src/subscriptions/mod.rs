//! Subscriptions: who gets which messages pushed where, and how persistently.
//!
//! Types, the store behind them ([`SubscriptionStore`]) and the pure retry schedule
//! ([`retry_delay`]). Every change bumps an epoch in the same transaction, so a watcher polls one
//! small item. Nothing here matches messages or sends them. Start at [`Subscription`].

mod aws;
mod deleted;
mod document;
mod dynamodb;
mod owned;
mod retry;
mod rotation;
mod secret;
#[cfg(test)]
mod tests;
mod url;
mod webhook;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use aws::{
    AssumedRole, EventBridgeDestination, EventBus, QueueUrl, SnsDestination, SqsDestination,
    TopicArn,
};
pub use deleted::DeletedSubscription;
pub use dynamodb::{SubscriptionEpochs, SubscriptionSnapshot, SubscriptionStore};
pub use retry::{STANDARD_RETRY_SCHEDULE_MS, retry_delay};
pub use rotation::{MAX_OLD_KEYS, ROTATION_OVERLAP, SigningKey};
pub use secret::{Ed25519Key, HmacKey, SigningSecret};
pub use url::WebhookUrl;
pub use webhook::{
    BodyForm, ClientIdentity, ClientPlace, Credential, OAuthClient, StaticHeaders, WebhookAuth,
    WebhookDestination, WebhookSettings,
};

use crate::access::ClientId;
use crate::identity::{IdentityError, IntegrationName, is_plain_id, shown, text_type};
use crate::pattern::Pattern;

/// Longest id of a subscription, in characters.
const MAX_ID: usize = 64;

/// A part of a subscription that cannot be one: what was found and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionError {
    /// Not a signing secret. What was found is not repeated: it may be one.
    #[error(
        "signing secret is refused: \"whsec_\" and base64 of 24 to 64 bytes, or \"whsk_\" and base64 of an Ed25519 key of 32 or 64 bytes, are allowed ({detail})"
    )]
    Secret {
        /// What is wrong with it.
        detail: &'static str,
    },
    /// Not a usable URL.
    #[error("webhook URL {found:?} is refused: {detail}")]
    Url {
        /// The URL as found, cut, without what stands before an `@`.
        found: String,
        /// What is wrong with it and what is allowed.
        detail: &'static str,
    },
    /// Not the name of a body form.
    #[error(
        "body form {found:?} is refused: allowed are raw, cloudevents-structured, cloudevents-binary, cloudevents-batch, thin"
    )]
    Form {
        /// As found, cut.
        found: String,
    },
    /// A header that a webhook may not carry. Its value is not repeated: it may be a secret.
    #[error("header {found:?} is refused: {detail}")]
    Header {
        /// Its name as found, cut.
        found: String,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// A part of a webhook's authentication that cannot be one. It is not repeated.
    #[error("{what} is refused: {detail}")]
    Auth {
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// Not a client certificate with its key. Neither is repeated.
    #[error("client certificate is refused: {detail}")]
    Identity {
        /// What is wrong with it.
        detail: &'static str,
    },
    /// Not the name of something in AWS that messages can be sent to or under.
    #[error("{what} {found:?} is refused: {allowed} is allowed")]
    Target {
        /// What it was to be.
        what: &'static str,
        /// As found, cut.
        found: String,
        /// What is allowed, with an example.
        allowed: &'static str,
    },
    /// A number of the policy outside its bounds.
    #[error("{field} is {found}: {allowed} is allowed")]
    Policy {
        /// Which number.
        field: &'static str,
        /// As found.
        found: u64,
        /// Its bounds, in words.
        allowed: &'static str,
    },
}

/// Id of a subscription: 1 to 64 letters, digits, `_` and `-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(Arc<str>);
text_type!(SubscriptionId);

impl SubscriptionId {
    /// Checks and takes an id.
    pub fn parse(text: &str) -> Result<SubscriptionId, IdentityError> {
        if is_plain_id(text, MAX_ID) {
            Ok(SubscriptionId(Arc::from(text)))
        } else {
            Err(IdentityError::Id { kind: "subscription id", found: shown(text), max: MAX_ID })
        }
    }

    /// A new id: `sub_` and 20 characters of base62.
    pub fn generate(random: crate::RandomBytes<'_>) -> SubscriptionId {
        SubscriptionId(Arc::from(format!("sub_{}", crate::access::base62(20, random))))
    }
}

/// One client's wish to have messages pushed to one destination.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    /// Its name.
    pub id: SubscriptionId,
    /// Whose it is.
    pub client: ClientId,
    /// Which integrations; empty means all.
    pub integrations: Vec<IntegrationName>,
    /// Only entities that start with this.
    pub entity_prefix: Option<String>,
    /// Only messages of one of these event types; empty means all, also those that have none.
    pub types: Vec<String>,
    /// Only messages with this content.
    pub filter: Option<Pattern>,
    /// Where to.
    pub destination: Destination,
    /// How persistently.
    pub policy: DeliveryPolicy,
    /// Messages that arrived at or after this are delivered, in ms since 1970.
    pub created_at_ms: i64,
    /// Counts its changes; 0 before it is stored. A `put` must carry the version it read.
    pub version: u64,
    /// False: nothing is attempted.
    pub enabled: bool,
}

/// Where messages are pushed to.
#[derive(Clone, Debug, PartialEq)]
pub enum Destination {
    /// An HTTP POST per message, signed by Standard Webhooks.
    Webhook(WebhookDestination),
    /// A message of an SQS queue per message.
    Sqs(SqsDestination),
    /// A publication to an SNS topic per message.
    Sns(SnsDestination),
    /// An event of an EventBridge bus per message.
    EventBridge(EventBridgeDestination),
}

/// In which order a destination gets messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryOrder {
    /// In none: as fast as it takes them.
    #[default]
    None,
    /// Per partition key, in stream order: a message is attempted when the one before it was delivered or given up,
    /// however often that has to be tried, whoever reads the shard, and into whatever the shard is split or merged.
    Key,
    /// The same for all messages of a shard: strict, one at a time.
    Shard,
}

/// What becomes of those that come behind when a message in order is given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnExhausted {
    /// It is a dead letter, and they go on.
    #[default]
    Skip,
    /// It is a dead letter, and they wait until it is redriven.
    Stop,
}

/// How a destination is treated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliveryPolicy {
    /// Longest a single attempt may take, in ms.
    pub timeout_ms: u64,
    /// Most attempts under way at once.
    pub concurrency: u32,
    /// Most attempts per second; `None` is without limit.
    pub rate_per_second: Option<u32>,
    /// Delay before each attempt, the first included, in ms; its length is the number of attempts.
    pub retry_schedule_ms: Vec<u64>,
    /// In which order messages are attempted.
    #[serde(default)]
    pub order: DeliveryOrder,
    /// What becomes of what comes behind a message that was given up; says nothing without an order.
    #[serde(default)]
    pub on_exhausted: OnExhausted,
    /// A destination that fails for so long without being reached is switched off, in ms.
    #[serde(default = "standard_disable_after_ms")]
    pub disable_after_ms: u64,
}

/// Five days.
pub(crate) const STANDARD_DISABLE_AFTER_MS: u64 = 5 * 24 * 3_600 * 1_000;

fn standard_disable_after_ms() -> u64 {
    STANDARD_DISABLE_AFTER_MS
}

impl Default for DeliveryPolicy {
    /// 15 s, 16 at once, no rate limit, Standard Webhooks' schedule, in no order.
    fn default() -> DeliveryPolicy {
        DeliveryPolicy {
            timeout_ms: 15_000,
            concurrency: 16,
            rate_per_second: None,
            retry_schedule_ms: STANDARD_RETRY_SCHEDULE_MS.to_vec(),
            order: DeliveryOrder::None,
            on_exhausted: OnExhausted::Skip,
            disable_after_ms: STANDARD_DISABLE_AFTER_MS,
        }
    }
}

impl DeliveryPolicy {
    /// Refuses what has no sensible meaning, naming the field.
    pub fn check(&self) -> Result<(), SubscriptionError> {
        let bounds = |field, found: u64, range: std::ops::RangeInclusive<u64>, allowed| {
            if range.contains(&found) {
                Ok(())
            } else {
                Err(SubscriptionError::Policy { field, found, allowed })
            }
        };
        bounds("timeout_ms", self.timeout_ms, 100..=60_000, "100 to 60000")?;
        bounds("concurrency", u64::from(self.concurrency), 1..=1_000, "1 to 1000")?;
        let rate = u64::from(self.rate_per_second.unwrap_or(1));
        bounds("rate_per_second", rate, 1..=100_000, "1 to 100000")?;
        let attempts = self.retry_schedule_ms.len() as u64;
        bounds("retry_schedule_ms' length", attempts, 1..=50, "1 to 50 delays")?;
        let total = self.retry_schedule_ms.iter().fold(0u64, |sum, ms| sum.saturating_add(*ms));
        let (hour, month) = (3_600 * 1_000, 30 * 24 * 3_600 * 1_000);
        let allowed = "3600000 (an hour) to 2592000000 (30 days)";
        bounds("disable_after_ms", self.disable_after_ms, hour..=month, allowed)?;
        let week = 7 * 24 * 3_600 * 1_000;
        bounds("retry_schedule_ms' sum", total, 0..=week, "up to 604800000 (7 days)")
    }
}

impl Destination {
    /// What kind it is, for metrics and lists.
    pub fn kind(&self) -> &'static str {
        match self {
            Destination::Webhook(_) => "webhook",
            Destination::Sqs(_) => "sqs",
            Destination::Sns(_) => "sns",
            Destination::EventBridge(_) => "eventbridge",
        }
    }

    /// The webhook that it is; `None` of every other kind.
    pub fn webhook(&self) -> Option<&WebhookDestination> {
        match self {
            Destination::Webhook(webhook) => Some(webhook),
            _ => None,
        }
    }

    /// The same, to be changed.
    pub fn webhook_mut(&mut self) -> Option<&mut WebhookDestination> {
        match self {
            Destination::Webhook(webhook) => Some(webhook),
            _ => None,
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Webhook(webhook) => write!(f, "webhook {}", webhook.url.origin()),
            Destination::Sqs(sqs) => write!(f, "sqs {}", sqs.queue.as_str()),
            Destination::Sns(sns) => write!(f, "sns {}", sns.topic.as_str()),
            Destination::EventBridge(bridge) => write!(f, "eventbridge {}", bridge.bus.as_str()),
        }
    }
}
