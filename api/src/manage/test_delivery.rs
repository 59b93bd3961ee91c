//! A test of a destination: an operational event about the subscription itself, parked as due, which workers deliver like
//! any other: signed, in the subscription's form, tried again and given up.

use std::sync::Arc;

use axum::body::Bytes;
use serde_json::json;
use store::{Entity, IntegrationName, Message, MessageId, ParkedDelivery, Position, Subscription};

use super::{Actor, ManageError, Manager};
use crate::timestamp;

/// What it is, as its `type` says.
const KIND: &str = "subscription.test";
/// In the place of a stream's ARN.
const SOURCE: &str = "sluicegate:events:subscription.test";

impl Manager {
    /// Has a test delivered to one of the client's subscriptions; the id of its message.
    pub(crate) async fn test_delivery(
        &self,
        actor: Actor<'_>,
        id: &str,
    ) -> Result<MessageId, ManageError> {
        let subscription = self.subscription(actor.client, id).await?;
        if !subscription.enabled {
            let why = "the subscription is switched off: nothing is delivered to it";
            return Err(ManageError::Conflict(why.to_owned()));
        }
        let (by, at_ms) = (actor.words(), self.now_ms());
        let test = test(&subscription, at_ms).ok_or(ManageError::Internal)?;
        let change = store::Change { by: &by, at_ms };
        let subject = subscription.id.as_str();
        self.with.subscriptions.note_as(KIND, subject, &change).await?;
        let message = test.message.id.clone();
        match self.with.deliveries.park(&[test]).await.pop() {
            Some(parked) => parked.map(|_| message).map_err(ManageError::from),
            None => Err(ManageError::Internal),
        }
    }
}

/// The delivery; one of each moment has an id of its own.
fn test(subscription: &Subscription, now_ms: i64) -> Option<ParkedDelivery> {
    let id = subscription.id.as_str();
    let position = Position {
        stream_arn: Arc::from(SOURCE),
        shard_id: Arc::from(id),
        sequence: Arc::from(now_ms.max(0).to_string()),
        index: 0,
    };
    let payload = json!({
        "type": KIND,
        "timestamp": timestamp::format(now_ms),
        "data": { "subscription": id, "destination": subscription.destination.to_string() },
    });
    let message = Message {
        id: MessageId::derive(&position),
        integration: IntegrationName::events(),
        entity: Entity::parse(id).ok()?,
        time_ms: now_ms,
        arrived_at_ms: now_ms,
        position,
        partition_key: Arc::from(id),
        payload: Bytes::from(payload.to_string()),
    };
    Some(ParkedDelivery {
        subscription: subscription.id.clone(),
        message,
        attempts: 0,
        first_failed_at_ms: now_ms,
        due_at_ms: now_ms,
        last_error: "not attempted yet: a test".to_owned(),
        fence: 0,
    })
}
