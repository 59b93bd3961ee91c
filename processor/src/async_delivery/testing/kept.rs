//! What is kept of deliveries, as tests look at it.

use std::time::Duration;

use store::{DeadLetter, IntegrationName, SubscriptionId};
use tokio::time::{Instant, sleep};

use super::World;
use crate::clock::wall_ms;

impl World {
    pub(in crate::async_delivery) async fn dead_letters(&self) -> Vec<DeadLetter> {
        let integration = IntegrationName::parse("default").unwrap();
        self.deliveries
            .list_dead_letters(&integration, None, 100, wall_ms(&self.time))
            .await
            .unwrap()
            .letters
    }

    pub(in crate::async_delivery) async fn parked(&self, id: &str) -> usize {
        let id = SubscriptionId::parse(id).unwrap();
        self.deliveries.parked_count(&id, 100_000).await.unwrap().count
    }

    /// Waits until nothing is parked for the subscription.
    pub(in crate::async_delivery) async fn until_none_parked(&self, id: &str, within: Duration) {
        let began = Instant::now();
        while self.parked(id).await > 0 {
            assert!(
                began.elapsed() < within,
                "still parked after {within:?}: {:?}",
                self.handle.stats()
            );
            sleep(Duration::from_millis(200)).await;
        }
    }
}
