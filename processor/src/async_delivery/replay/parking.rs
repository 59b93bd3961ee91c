//! From a message to a parked delivery that is due: at the replay's pace, and never far ahead of the destination.

use store::{Class, Message, Parked, ParkedDelivery, StoreError};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::progress::called;
use super::run::{AGAIN, Halt, Run};
use super::wish::origin;
use super::{CALL_TIMEOUT, ReplayerParts};
use crate::async_delivery::metrics;
use crate::clock::wall_ms;

impl Run {
    /// Parks messages as due at once: at the replay's pace, and never too far ahead of the destination.
    pub(super) async fn park(
        &mut self,
        desk: &ReplayerParts,
        stop: &CancellationToken,
        part: usize,
        messages: Vec<Message>,
    ) -> Result<(), Halt> {
        if messages.is_empty() {
            return Ok(());
        }
        let matched = messages.len();
        self.wait_for_room(desk, stop, matched).await?;
        let at = self.pace.reserve(matched, Instant::now());
        self.pause(desk, stop, at).await?;
        let now_ms = wall_ms(&desk.time);
        let mut left: Vec<ParkedDelivery> = messages
            .into_iter()
            .map(|message| ParkedDelivery {
                subscription: self.replay.subscription.clone(),
                message,
                attempts: 0,
                first_failed_at_ms: now_ms,
                due_at_ms: now_ms,
                last_error: origin(&self.replay.id),
                fence: 0,
            })
            .collect();
        while !left.is_empty() {
            let parked =
                self.during(desk, stop, timeout(CALL_TIMEOUT, desk.deliveries.park(&left))).await?;
            let outcomes = parked.unwrap_or_default();
            left = self.parked(part, left, outcomes)?;
            if !left.is_empty() {
                self.pause(desk, stop, Instant::now() + AGAIN).await?;
            }
        }
        self.room = self.room.saturating_sub(matched);
        self.count(part, |counts| counts.matched += matched as u64);
        Ok(())
    }

    /// Counts what is parked; what is to be tried again.
    fn parked(
        &mut self,
        part: usize,
        deliveries: Vec<ParkedDelivery>,
        outcomes: Vec<Result<Parked, StoreError>>,
    ) -> Result<Vec<ParkedDelivery>, Halt> {
        let mut outcomes = outcomes.into_iter();
        let mut again = Vec::new();
        for delivery in deliveries {
            match outcomes.next() {
                Some(Ok(Parked::New)) => {
                    metrics::replayed(1);
                    self.count(part, |counts| counts.parked += 1);
                }
                Some(Ok(Parked::Already)) => {}
                Some(Err(error)) if error.class() == Class::Skip => {
                    let id = &delivery.message.id;
                    return Err(Halt::Failed(format!("{id} cannot be parked: {error}")));
                }
                Some(Err(_)) | None => again.push(delivery),
            }
        }
        Ok(again)
    }

    async fn wait_for_room(
        &mut self,
        desk: &ReplayerParts,
        stop: &CancellationToken,
        needed: usize,
    ) -> Result<(), Halt> {
        let id = self.replay.subscription.clone();
        while self.room < needed {
            let count = called(desk.deliveries.parked_count(&id, desk.max_ahead));
            match self.during(desk, stop, count).await? {
                Ok(parked) => self.room = desk.max_ahead - parked.count,
                Err(error) => tracing::debug!(%error, "parked deliveries cannot be counted now"),
            }
            if self.room < needed {
                self.pause(desk, stop, Instant::now() + AGAIN).await?;
            }
        }
        Ok(())
    }
}
