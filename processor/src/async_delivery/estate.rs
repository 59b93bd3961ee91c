//! What a deleted subscription leaves behind in order becomes dead letters.
//!
//! What is parked one by one comes due, and the sweeper gives it up; chains are the business of lanes, and a deleted subscription has
//! none. Every worker looks once a minute, and does at most so much at once; that two do the same is harmless. A
//! deletion is remembered for a day, so that also what a worker wrote that heard of it late is found.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_smithy_async::time::SharedTimeSource;
use store::{
    Chain, ChainedDelivery, DeadReason, DeliveryStore, PutOutcome, StoreError, SubscriptionId,
    SubscriptionStore,
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::aftermath::dead_letter;
use super::intake::Lanes;
use super::metrics;
use super::sweeper::Sweeper;
use super::watch::ViewWatch;
use crate::clock::wall_ms;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(60);
/// A call that takes longer counts as failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages that are read at once, and how often in one look: what is more is left to the next one.
const PAGE: usize = 25;
const PAGES: usize = 40;
/// Every worker has heard of a deletion after that.
const HEARD_MS: i64 = 30_000;
/// A deletion of which nothing is left is forgotten after that.
const REMEMBERED_MS: i64 = 24 * 3_600 * 1_000;

/// Gives up what deleted subscriptions left.
pub(super) struct Estate {
    subscriptions: SubscriptionStore,
    deliveries: DeliveryStore,
    lanes: Arc<ArcSwap<Lanes>>,
    /// While it is not fresh, nobody knows which subscriptions there are.
    views: ViewWatch,
    time: SharedTimeSource,
    rng: fastrand::Rng,
}

impl Estate {
    /// Of the same deliveries as the sweeper's.
    pub(super) fn beside(
        sweeper: &Sweeper,
        subscriptions: SubscriptionStore,
        rng: fastrand::Rng,
    ) -> Estate {
        Estate {
            subscriptions,
            deliveries: sweeper.deliveries.clone(),
            lanes: Arc::clone(&sweeper.lanes),
            views: sweeper.views.clone(),
            time: sweeper.time.clone(),
            rng,
        }
    }

    /// Looks until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            let pause = INTERVAL.mul_f64(0.5 + self.rng.f64());
            tokio::select! { biased;
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
            }
            let looked = tokio::select! { biased;
                () = stop.cancelled() => return,
                looked = self.look() => looked,
            };
            if let Err(error) = looked {
                tracing::warn!(%error, "deleted subscriptions cannot be looked after now; it is tried again");
            }
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        let lanes = self.lanes.load_full();
        if !lanes.known || !self.views.is_fresh() {
            return Ok(());
        }
        let now_ms = wall_ms(&self.time);
        let mut pages = PAGES;
        for deleted in call(self.subscriptions.deleted()).await? {
            let (id, since_ms) = (&deleted.id, now_ms.saturating_sub(deleted.at_ms));
            // One that is there again works off what it finds.
            let is_back = lanes.active.contains_key(id) || lanes.disabled.contains_key(id);
            if since_ms < HEARD_MS {
                continue;
            }
            let is_empty = is_back || self.has_given_up(id, &mut pages).await;
            if is_back || (is_empty && since_ms >= REMEMBERED_MS) {
                call(self.subscriptions.forget(id)).await?;
            }
        }
        Ok(())
    }

    /// Nothing is left of a subscription. One that cannot be seen to holds up no other.
    async fn has_given_up(&self, id: &SubscriptionId, pages: &mut usize) -> bool {
        self.give_up(id, pages).await.unwrap_or_else(|error| {
            tracing::warn!(%error, subscription = %id, "what a deleted subscription left cannot be given up now; it is tried again");
            false
        })
    }

    /// Makes dead letters of what is left of a subscription, while there are `pages` to spend; true once nothing is.
    async fn give_up(&self, id: &SubscriptionId, pages: &mut usize) -> Result<bool, StoreError> {
        while *pages > 0 {
            *pages -= 1;
            let left = call(self.deliveries.leftovers(id, PAGE)).await?;
            if left.is_empty() {
                return Ok(true);
            }
            self.bury(&left).await?;
        }
        Ok(false)
    }

    async fn bury(&self, left: &[(Chain, ChainedDelivery)]) -> Result<(), StoreError> {
        let now_ms = wall_ms(&self.time);
        let reason = DeadReason::DestinationGone;
        let letter = |(_, chained): &(Chain, ChainedDelivery)| {
            let detail = String::from("its subscription was deleted");
            dead_letter(chained.delivery.clone(), reason, detail, now_ms)
        };
        let letters: Vec<_> = left.iter().map(letter).collect();
        let report =
            call(async { Ok(self.deliveries.dead_letter(&letters).await.outcomes) }).await?;
        for ((chain, chained), outcome) in left.iter().zip(report) {
            if outcome != PutOutcome::Stored {
                return Err(StoreError::Unavailable {
                    operation: "put a dead letter",
                    detail: format!("{outcome:?}"),
                });
            }
            call(self.deliveries.remove_leftover(chain, chained)).await?;
            metrics::dead_lettered(reason.code());
        }
        Ok(())
    }
}

async fn call<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(CALL_TIMEOUT, call).await.unwrap_or_else(|_| {
        let detail = String::from("no answer in time");
        Err(StoreError::Unavailable { operation: "give up leftovers", detail })
    })
}
