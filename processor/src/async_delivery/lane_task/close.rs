//! The end of a lane: what it holds goes where it is found again.

use std::time::Duration;

use super::LaneTask;
use crate::async_delivery::delivery::Delivery;

impl LaneTask {
    /// Takes nothing more and sets everything aside that was not begun.
    pub(super) fn close(&mut self) {
        self.closing = true;
        self.wake_at = None;
        self.ends.live.close();
        self.ends.retries.close();
        let mut left: Vec<Delivery> = self.next.take().into_iter().collect();
        left.extend(self.gathered.take().deliveries);
        left.extend(self.held.drain(..));
        left.extend(self.order.keys.drain());
        while let Ok(live) = self.ends.live.try_recv() {
            left.push(Delivery::Live(live));
        }
        while let Ok(retry) = self.ends.retries.try_recv() {
            left.push(Delivery::Retry(retry));
        }
        for delivery in left {
            if delivery.is_of_range() {
                continue;
            }
            let from_stream = delivery.live().is_some();
            if delivery.group().is_some() || (self.keeps_order() && from_stream) {
                self.chain_up_left(delivery.into_stream());
                continue;
            }
            let attempts = delivery.attempts();
            let error = String::from("its lane closed before the attempt");
            let job = self.aftermath().park(delivery, attempts, Duration::ZERO, error);
            self.backlog.extend(job);
        }
        self.write_chains();
    }
}
