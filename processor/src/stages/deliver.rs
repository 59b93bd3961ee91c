//! The stage behind the lanes: batches to the courier, and waiting until the receiver has them.

use std::sync::Arc;
use std::time::Duration;

use ::store::{DeliveryStore, SubscriptionStore};
use aws_smithy_async::time::{SharedTimeSource, SystemTimeSource};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Decoded, Record};
use crate::async_delivery::{
    AwsConfigs, Courier, CourierHandle, CourierParts, Log, Logs, Outlets, Peers, Transports,
};
use crate::batch::ShardContext;
use crate::budget::Budget;
use crate::integration::{IntegrationError, Integrations};
use crate::reader::StartingAt;
use crate::{CourierOptions, DestinationStats};

/// What a courier may read for open ranges; there is nothing to read.
const BUDGET_BYTES: usize = 64 * 1024 * 1024;

/// No stream is behind the events: a destination that falls behind its queue would not be caught up with.
struct NoLogs;

impl Logs for NoLogs {
    fn open(&self, _: &Arc<ShardContext>, _: StartingAt) -> Option<Box<dyn Log>> {
        None
    }

    fn retention(&self, _: &str) -> Option<Duration> {
        None
    }
}

/// A running courier, and what it is fed with.
pub struct DeliverStage {
    integrations: Arc<Integrations>,
    courier: CourierHandle,
    progress: Arc<Notify>,
    stop: CancellationToken,
}

impl DeliverStage {
    /// Starts a courier on the runtime that this is called in, with room for `queue` messages before a destination, and waits
    /// until it has read the subscriptions.
    ///
    /// # Errors
    /// Never: no integrations go together.
    pub async fn start(
        subscriptions: SubscriptionStore,
        deliveries: DeliveryStore,
        transports: Arc<dyn Transports>,
        queue: usize,
    ) -> Result<DeliverStage, IntegrationError> {
        let integrations = Arc::new(Integrations::compile(Vec::new())?);
        let parts = CourierParts {
            integrations: Arc::clone(&integrations),
            subscriptions,
            deliveries,
            logs: Arc::new(NoLogs),
            budget: Budget::new(BUDGET_BYTES),
            outlets: Outlets { webhooks: transports, aws: AwsConfigs::unreachable() },
            peers: Peers::none(),
            time: SharedTimeSource::new(SystemTimeSource::new()),
            seed: 1,
        };
        let options = CourierOptions { destination_queue: queue, ..CourierOptions::new("bench") };
        let (courier, handle) = Courier::new(options, parts);
        let stop = CancellationToken::new();
        tokio::spawn(courier.run(stop.clone()));
        while handle.stats().paused {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(DeliverStage { integrations, courier: handle, progress: Arc::default(), stop })
    }

    /// An event of these records, decoded.
    #[must_use]
    pub fn event(&self, shard: u32, arrived_at_ms: i64, records: &[Record]) -> Decoded {
        super::event(&self.integrations, shard, arrived_at_ms, records)
    }

    /// Hands the events over as lanes do, and waits until all are settled.
    pub async fn deliver(&self, events: impl Iterator<Item = &Decoded>) {
        super::hand_over(&self.courier, &self.progress, events).await;
    }

    /// What became of the messages, by destination.
    #[must_use]
    pub fn destinations(&self) -> Vec<DestinationStats> {
        self.courier.stats().destinations
    }
}

impl Drop for DeliverStage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
