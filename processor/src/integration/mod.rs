//! Integrations: what the configuration says about how to recognise a message, whose it is, when
//! it happened, and how long and where it is kept.
//!
//! The types here are read from configuration and checked while they are read; [`Integrations`]
//! compiles them, once, into one tree of the pointers that any of them asks for. Nothing here
//! looks at a message: `decode` does, with the compiled form. Start reading at [`Integration`],
//! then [`Integrations::compile`].

mod compiled;
mod condition;
mod time;
mod tree;
mod units;

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use store::IntegrationName;

pub(crate) use compiled::Rule;
pub use compiled::{IntegrationError, Integrations};
pub(crate) use condition::FieldValue;
pub use condition::{CloudEventAttribute, Condition, ConditionError, Field, Scalar, Test};
pub use store::{Pointer, PointerError};
pub(crate) use time::parse_rfc3339_ms;
pub use time::{TimeField, TimeFormat};
pub(crate) use tree::{NodeId, SlotId, Tree};

/// The integration of every message that no configured one recognises.
pub const DEFAULT_INTEGRATION: &str = "default";

/// How long messages are kept when an integration does not say: 7 days.
pub const DEFAULT_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// The largest message an integration accepts when it does not say: 1 MiB.
pub const DEFAULT_MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// One integration, as the configuration writes it.
///
/// ```toml
/// [[integrations]]
/// name = "earthquakes"
/// match = [{ pointer = "/properties/type", equals = "earthquake" }]
/// entity = "/properties/net"
/// time = { pointer = "/properties/time", format = "epoch-ms" }
/// type = "/properties/type"
/// required = ["/id"]
/// retention = "30d"
/// max_message_bytes = "256KiB"
/// stores = ["dynamodb"]
/// tail = true
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Integration {
    /// Its name: lower-case letters, digits, `_`, `.` and `-`, at most 64.
    pub(crate) name: IntegrationName,
    /// What its messages are, in a sentence for the people who read them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    /// What a message must show, all of it, to belong here. The first integration in the order of
    /// the configuration wins. Only `default` has none: it takes what no other one matched.
    #[serde(default, rename = "match", skip_serializing_if = "Vec::is_empty")]
    pub(crate) conditions: Vec<Condition>,
    /// Where the entity is: a string or a number of at most 512 bytes. Without it the entity is a
    /// CloudEvent's `subject`, else the record's partition key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) entity: Option<Pointer>,
    /// Where the time of the message is. Without it, and where a message has none, the time is a
    /// CloudEvent's `time`, else the record's arrival in the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) time: Option<TimeField>,
    /// Where the event type of the message is: a string, by which subscriptions choose. Without it the
    /// type is a CloudEvent's `type`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) event_type: Option<Pointer>,
    /// How long messages are kept, from their arrival: `"36h"`, `"30d"`.
    #[serde(default = "default_retention", with = "units::duration")]
    pub(crate) retention: Duration,
    /// A larger message is malformed: a number of bytes, or `"256KiB"`, `"1MiB"`.
    #[serde(default = "default_max_message_bytes", with = "units::byte_size")]
    pub(crate) max_message_bytes: usize,
    /// Fields that a message must have, and not null; one that lacks any is malformed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) required: Vec<Pointer>,
    /// Where its messages are kept; empty for an integration that is only delivered.
    #[serde(default = "default_stores")]
    pub(crate) stores: Vec<StoreKind>,
    /// The stream that messages published through the API are put into, by name or ARN. Not needed where one
    /// stream is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) publish_to: Option<String>,
    /// Whether clients may follow all of it as it is stored. That costs a note for each write, so it is off unless it
    /// is asked for.
    #[serde(default)]
    pub(crate) tail: bool,
}

/// A kind of store that messages can be kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StoreKind {
    /// The messages table, which the API reads.
    Dynamodb,
}

impl Integration {
    /// An integration of this name with every default and no conditions.
    pub fn named(name: IntegrationName) -> Integration {
        Integration {
            name,
            description: None,
            conditions: Vec::new(),
            entity: None,
            time: None,
            event_type: None,
            retention: default_retention(),
            max_message_bytes: default_max_message_bytes(),
            required: Vec::new(),
            stores: default_stores(),
            publish_to: None,
            tail: false,
        }
    }

    /// Its name.
    pub fn name(&self) -> &IntegrationName {
        &self.name
    }

    /// What its messages are, when the configuration says.
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// How long its messages are kept, from their arrival.
    pub fn retention(&self) -> Duration {
        self.retention
    }

    /// The largest message it accepts.
    pub fn max_message_bytes(&self) -> usize {
        self.max_message_bytes
    }

    /// Where the entity of its messages is, when the configuration says.
    pub fn entity(&self) -> Option<&Pointer> {
        self.entity.as_ref()
    }

    /// Where the time of its messages is, when the configuration says.
    pub fn time(&self) -> Option<&TimeField> {
        self.time.as_ref()
    }

    /// Where the event type of its messages is, when the configuration says.
    pub fn event_type(&self) -> Option<&Pointer> {
        self.event_type.as_ref()
    }

    /// Fields that its messages must have.
    pub fn required(&self) -> &[Pointer] {
        &self.required
    }

    /// Where its messages are kept.
    pub fn stores(&self) -> &[StoreKind] {
        &self.stores
    }

    /// The stream that published messages are put into, when the configuration says.
    pub fn publish_to(&self) -> Option<&str> {
        self.publish_to.as_deref()
    }

    /// Whether its messages are kept where the API reads them, and not only delivered.
    pub fn keeps_messages(&self) -> bool {
        self.stores.contains(&StoreKind::Dynamodb)
    }

    /// Whether clients may follow all of its messages as they are stored.
    pub fn tail(&self) -> bool {
        self.tail
    }
}

fn default_retention() -> Duration {
    DEFAULT_RETENTION
}

fn default_max_message_bytes() -> usize {
    DEFAULT_MAX_MESSAGE_BYTES
}

fn default_stores() -> Vec<StoreKind> {
    vec![StoreKind::Dynamodb]
}
