//! What every kind of destination is to the rest of this room: something that takes one message.
//!
//! One folder per kind (`webhook` now), all behind [`Sender`]. Concurrency, rate, breaker, retries
//! and parking are the lane's, so that each kind is only its own protocol.

use std::sync::Arc;

use aws_smithy_async::time::SharedTimeSource;
use futures::future::BoxFuture;
use store::{Destination, Message, Subscription};

use super::outcome::Outcome;
use super::webhook::{Transports, Webhook};

/// Makes attempts for one subscription.
pub(super) trait Sender: Send + Sync {
    /// One attempt, the `attempt`-th for this message, within the subscription's time limit.
    fn attempt(&self, message: &Message, attempt: u32) -> BoxFuture<'static, Outcome>;
}

/// What senders are made with.
#[derive(Clone)]
pub(super) struct Workshop {
    pub(super) transports: Arc<dyn Transports>,
    pub(super) time: SharedTimeSource,
}

impl Workshop {
    /// The sender of one subscription as it stands in this version.
    pub(super) fn sender(&self, subscription: &Subscription) -> Arc<dyn Sender> {
        match &subscription.destination {
            Destination::Webhook { url, secrets } => {
                let transport =
                    self.transports.for_destination(subscription.policy.concurrency as usize);
                Arc::new(Webhook::new(
                    url,
                    secrets,
                    &subscription.policy,
                    transport,
                    self.time.clone(),
                ))
            }
        }
    }
}
