//! Destinations within AWS: an SQS queue, an SNS topic, an EventBridge bus, and the role they are reached under.
//!
//! Names are checked here, once, at the border; whether they exist and may be written to is found out by the
//! one who sends. There are never keys in a destination: either the worker's own identity may send, or it
//! assumes a role. Start at [`SqsDestination`].

mod arn;
pub(super) mod document;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use super::SubscriptionError;
use crate::identity::shown;
use arn::{Arn, is_account, is_name, is_region};

/// What makes a queue or a topic first-in, first-out.
const FIFO: &str = ".fifo";

/// The role that a worker assumes to deliver.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct AssumedRole {
    arn: Arc<str>,
    external_id: Option<Arc<str>>,
}

impl AssumedRole {
    /// Checks and takes a role's ARN and, if its trust policy asks for one other than the client's id, the
    /// external id.
    pub fn parse(arn: &str, external_id: Option<&str>) -> Result<AssumedRole, SubscriptionError> {
        let is_role = |parts: &Arn<'_>| {
            let name = parts.resource.strip_prefix("role/").unwrap_or_default();
            parts.service == "iam"
                && parts.region.is_empty()
                && is_account(parts.account)
                && is_name(name, 1..=577, b"+=,.@-_/")
                && !name.ends_with('/')
        };
        if !Arn::parse(arn).is_some_and(|parts| is_role(&parts)) {
            return Err(refused(
                "role",
                arn,
                "an ARN such as \"arn:aws:iam::123456789012:role/deliver\"",
            ));
        }
        if let Some(id) = external_id.filter(|id| !is_name(id, 2..=1_224, b"_+=,.@:/-")) {
            let allowed = "2 to 1224 letters, digits and _ + = , . @ : / -";
            return Err(refused("external id", id, allowed));
        }
        Ok(AssumedRole { arn: arn.into(), external_id: external_id.map(Arc::from) })
    }

    /// The role.
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// What its trust policy asks for; `None`: the id of the subscription's client.
    pub fn external_id(&self) -> Option<&str> {
        self.external_id.as_deref()
    }
}

impl fmt::Debug for AssumedRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AssumedRole").field("arn", &self.arn).finish_non_exhaustive()
    }
}

/// Messages become messages of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqsDestination {
    /// The queue.
    pub queue: QueueUrl,
    /// Whose permission is used; `None` is the worker's own.
    pub role: Option<AssumedRole>,
}

/// Messages are published to a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnsDestination {
    /// The topic.
    pub topic: TopicArn,
    /// Whose permission is used; `None` is the worker's own.
    pub role: Option<AssumedRole>,
}

/// Messages become events of a bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBridgeDestination {
    /// The bus.
    pub bus: EventBus,
    /// Whose permission is used; `None` is the worker's own.
    pub role: Option<AssumedRole>,
}

/// The URL of a queue, as AWS gives it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct QueueUrl {
    text: Arc<str>,
    region: Arc<str>,
}

impl QueueUrl {
    /// Checks and takes a URL such as `https://sqs.eu-west-1.amazonaws.com/123456789012/orders`, or the
    /// queue's ARN, of which the URL is made.
    pub fn parse(text: &str) -> Result<QueueUrl, SubscriptionError> {
        QueueUrl::of_arn(text).or_else(|| QueueUrl::of_url(text)).ok_or_else(|| {
            let allowed = "a URL such as \"https://sqs.eu-west-1.amazonaws.com/123456789012/orders\", or an ARN";
            refused("queue", text, allowed)
        })
    }

    fn of_arn(text: &str) -> Option<QueueUrl> {
        let arn = Arn::parse(text).filter(|arn| arn.service == "sqs")?;
        let suffix = if arn.partition == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
        QueueUrl::of_url(&format!(
            "https://sqs.{}.{suffix}/{}/{}",
            arn.region, arn.account, arn.resource
        ))
    }

    fn of_url(text: &str) -> Option<QueueUrl> {
        let (host, path) = text.strip_prefix("https://")?.split_once('/')?;
        let host = host.strip_suffix(".amazonaws.com").or(host.strip_suffix(".amazonaws.com.cn"))?;
        let region = host.strip_prefix("sqs.").or(host.strip_prefix("sqs-fips."))?;
        let (account, name) = path.split_once('/')?;
        let plain = name.strip_suffix(FIFO).unwrap_or(name);
        let is_queue = is_region(region)
            && is_account(account)
            && name.len() <= 80
            && is_name(plain, 1..=80, b"-_");
        is_queue.then(|| QueueUrl { text: text.into(), region: region.into() })
    }

    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The region it is in.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Its account and name.
    pub fn name(&self) -> &str {
        self.text.splitn(4, '/').nth(3).unwrap_or_default()
    }

    /// It keeps the order within a group.
    pub fn is_fifo(&self) -> bool {
        self.text.ends_with(FIFO)
    }
}

/// The ARN of a topic.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TopicArn {
    text: Arc<str>,
    region: Arc<str>,
}

impl TopicArn {
    /// Checks and takes an ARN such as `arn:aws:sns:eu-west-1:123456789012:orders`.
    pub fn parse(text: &str) -> Result<TopicArn, SubscriptionError> {
        let is_topic = |arn: &Arn<'_>| {
            let plain = arn.resource.strip_suffix(FIFO).unwrap_or(arn.resource);
            arn.service == "sns"
                && is_region(arn.region)
                && is_account(arn.account)
                && arn.resource.len() <= 256
                && is_name(plain, 1..=256, b"-_")
        };
        let arn = Arn::parse(text).filter(is_topic).ok_or_else(|| {
            refused("topic", text, "an ARN such as \"arn:aws:sns:eu-west-1:123456789012:orders\"")
        })?;
        Ok(TopicArn { text: text.into(), region: arn.region.into() })
    }

    /// The ARN.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The region it is in.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// It keeps the order within a group.
    pub fn is_fifo(&self) -> bool {
        self.text.ends_with(FIFO)
    }
}

/// An event bus by ARN, or by name in the account and region of whoever sends.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EventBus {
    text: Arc<str>,
    region: Option<Arc<str>>,
}

impl EventBus {
    /// Checks and takes an ARN such as `arn:aws:events:eu-west-1:123456789012:event-bus/orders`, or a name.
    pub fn parse(text: &str) -> Result<EventBus, SubscriptionError> {
        let is_bus_name = |name: &str| is_name(name, 1..=256, b"/.-_");
        if is_bus_name(text) {
            return Ok(EventBus { text: text.into(), region: None });
        }
        let is_bus = |arn: &Arn<'_>| {
            arn.service == "events"
                && is_region(arn.region)
                && is_account(arn.account)
                && arn.resource.strip_prefix("event-bus/").is_some_and(is_bus_name)
        };
        let arn = Arn::parse(text).filter(is_bus).ok_or_else(|| {
            let allowed = "a name, or an ARN such as \"arn:aws:events:eu-west-1:123456789012:event-bus/orders\"";
            refused("event bus", text, allowed)
        })?;
        Ok(EventBus { text: text.into(), region: Some(arn.region.into()) })
    }

    /// The name or ARN.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The region it is in; `None`: that of the worker.
    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }
}

fn refused(what: &'static str, found: &str, allowed: &'static str) -> SubscriptionError {
    SubscriptionError::Target { what, found: shown(found), allowed }
}

macro_rules! shown_as_text {
    ($($name:ident),+) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), self.text)
            }
        }
    )+};
}
shown_as_text!(QueueUrl, TopicArn, EventBus);
