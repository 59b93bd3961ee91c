//! What every kind of destination is to the rest of this room: something that takes messages, one or several a call.
//!
//! One folder per kind (`webhook`, `aws`), all behind [`Sender`]. Concurrency, rate, breaker, retries
//! and parking are the lane's, so that each kind is only its own protocol.

use std::sync::Arc;

use aws_smithy_async::time::SharedTimeSource;
use futures::future::BoxFuture;
use store::{Destination, Message, Subscription};

use super::aws::{AwsConfigs, AwsSender, EventBridge, Sns, Sqs};
use super::outcome::Outcome;
use super::webhook::{MessageLinks, Transports, Webhook};

/// Makes attempts for one subscription.
pub(super) trait Sender: Send + Sync {
    /// One call, within the subscription's time limit: an outcome for each message, in the batch's order.
    ///
    /// The batch is never empty and within [`most_at_once`](Self::most_at_once); a message that is larger
    /// than that by itself comes alone, and the outcome says so.
    fn attempt(&self, batch: Vec<Outgoing>) -> BoxFuture<'static, Vec<Outcome>>;

    /// What one call may carry.
    fn most_at_once(&self) -> Capacity {
        Capacity::ONE
    }

    /// What a message counts for against [`Capacity::bytes`].
    fn size(&self, message: &Message) -> usize {
        message.payload.len()
    }
}

/// One message on its way out.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    pub(super) message: Message,
    /// 1 for its first attempt.
    pub(super) attempt: u32,
}

/// The most that one call of a destination carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capacity {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Capacity {
    /// A message a call, of any size.
    pub(super) const ONE: Capacity = Capacity { messages: 1, bytes: usize::MAX };
}

/// What deliveries leave through, for each kind of destination; the app decides how.
#[derive(Clone)]
pub struct Outlets {
    /// Makes the connections to webhooks.
    pub webhooks: Arc<dyn Transports>,
    /// Configures the clients of AWS's services.
    pub aws: AwsConfigs,
}

/// What senders are made with.
#[derive(Clone)]
pub(super) struct Workshop {
    pub(super) outlets: Outlets,
    /// For what carries a link instead of a message; `None` where the API's address is not known.
    pub(super) links: Option<Arc<MessageLinks>>,
    pub(super) time: SharedTimeSource,
}

impl Workshop {
    /// The sender of one subscription as it stands in this version.
    pub(super) fn sender(&self, subscription: &Subscription) -> Arc<dyn Sender> {
        let Subscription { client, policy, .. } = subscription;
        match &subscription.destination {
            Destination::Webhook(webhook) => Arc::new(Webhook::new(webhook, policy, self)),
            Destination::Sqs(sqs) => {
                Arc::new(AwsSender::new(Sqs::new(sqs, client, &self.outlets.aws), policy))
            }
            Destination::Sns(sns) => {
                Arc::new(AwsSender::new(Sns::new(sns, client, &self.outlets.aws), policy))
            }
            Destination::EventBridge(bus) => {
                Arc::new(AwsSender::new(EventBridge::new(bus, client, &self.outlets.aws), policy))
            }
        }
    }
}
