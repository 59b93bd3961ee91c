//! How destinations within AWS are kept: the texts that their types are made of again.

use serde::{Deserialize, Serialize};

use super::super::SubscriptionError;
use super::{
    AssumedRole, EventBridgeDestination, EventBus, QueueUrl, SnsDestination, SqsDestination,
    TopicArn,
};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::subscriptions) struct SqsDocument {
    queue: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<RoleDocument>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::subscriptions) struct SnsDocument {
    topic: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<RoleDocument>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::subscriptions) struct EventBridgeDocument {
    bus: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<RoleDocument>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleDocument {
    arn: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    external_id: Option<String>,
}

impl From<&AssumedRole> for RoleDocument {
    fn from(role: &AssumedRole) -> RoleDocument {
        RoleDocument {
            arn: role.arn().to_owned(),
            external_id: role.external_id().map(str::to_owned),
        }
    }
}

fn role(document: Option<RoleDocument>) -> Result<Option<AssumedRole>, SubscriptionError> {
    document.map(|role| AssumedRole::parse(&role.arn, role.external_id.as_deref())).transpose()
}

impl From<&SqsDestination> for SqsDocument {
    fn from(sqs: &SqsDestination) -> SqsDocument {
        SqsDocument {
            queue: sqs.queue.as_str().to_owned(),
            role: sqs.role.as_ref().map(RoleDocument::from),
        }
    }
}

impl SqsDocument {
    /// Reads it back.
    pub(in crate::subscriptions) fn read(self) -> Result<SqsDestination, SubscriptionError> {
        Ok(SqsDestination { queue: QueueUrl::parse(&self.queue)?, role: role(self.role)? })
    }
}

impl From<&SnsDestination> for SnsDocument {
    fn from(sns: &SnsDestination) -> SnsDocument {
        SnsDocument {
            topic: sns.topic.as_str().to_owned(),
            role: sns.role.as_ref().map(RoleDocument::from),
        }
    }
}

impl SnsDocument {
    /// Reads it back.
    pub(in crate::subscriptions) fn read(self) -> Result<SnsDestination, SubscriptionError> {
        Ok(SnsDestination { topic: TopicArn::parse(&self.topic)?, role: role(self.role)? })
    }
}

impl From<&EventBridgeDestination> for EventBridgeDocument {
    fn from(bridge: &EventBridgeDestination) -> EventBridgeDocument {
        EventBridgeDocument {
            bus: bridge.bus.as_str().to_owned(),
            role: bridge.role.as_ref().map(RoleDocument::from),
        }
    }
}

impl EventBridgeDocument {
    /// Reads it back.
    pub(in crate::subscriptions) fn read(
        self,
    ) -> Result<EventBridgeDestination, SubscriptionError> {
        Ok(EventBridgeDestination { bus: EventBus::parse(&self.bus)?, role: role(self.role)? })
    }
}
