//! Putting a call together: what is at hand now, up to what the destination takes at once.
//!
//! Nothing waits for company. The lane's loop takes deliveries as long as there are some and the call has
//! room, and sends the call when there are none; so a busy lane makes full calls, and an idle one sends a
//! single message at once. A delivery in the call has passed every check, and holds its key: a call of an
//! ordered subscription never carries two of one key.

use crate::async_delivery::delivery::Delivery;
use crate::async_delivery::destination::{Capacity, Outgoing};
use crate::async_delivery::stats::bump;

use super::LaneTask;

/// Deliveries that go out in one call, each with what is sent of it.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) deliveries: Vec<Delivery>,
    pub(super) outgoing: Vec<Outgoing>,
    bytes: usize,
    /// Its outcome decides about the breaker; it is alone in its call.
    pub(super) probe: bool,
}

impl Gathered {
    pub(super) fn is_empty(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// One more of this size fits; the first one always does.
    fn fits(&self, size: usize, capacity: Capacity) -> bool {
        self.is_empty()
            || (!self.probe
                && self.outgoing.len() < capacity.messages
                && self.bytes.saturating_add(size) <= capacity.bytes)
    }

    /// Nothing more fits, however small.
    fn is_full(&self, capacity: Capacity) -> bool {
        self.probe || self.outgoing.len() >= capacity.messages || self.bytes >= capacity.bytes
    }

    pub(super) fn take(&mut self) -> Gathered {
        std::mem::take(self)
    }
}

impl LaneTask {
    /// Has a place for this delivery in the call that is being put together, which goes out if it has none;
    /// false if the next call has to wait for one of those under way.
    pub(super) fn makes_room(&mut self, delivery: &Delivery) -> bool {
        if !self.gathered.is_empty() {
            let size = delivery.view(&self.mandate).map_or(0, |message| self.sender.size(&message));
            if !self.gathered.fits(size, self.sender.most_at_once()) {
                self.send();
            }
        }
        self.has_slot()
    }

    /// Adds a delivery that may be attempted now; a full call goes out.
    pub(super) fn gather(&mut self, delivery: Delivery, probe: bool) {
        let Some(message) = delivery.view(&self.mandate) else {
            debug_assert!(false, "neither malformed entries nor what is withheld gets here");
            return;
        };
        if probe && !self.gathered.is_empty() {
            self.send();
        }
        bump(&self.ends.shared.counters.attempts);
        if delivery.live().is_none() {
            bump(&self.ends.shared.counters.retried);
        }
        let gathered = &mut self.gathered;
        gathered.bytes = gathered.bytes.saturating_add(self.sender.size(&message));
        gathered.probe |= probe;
        gathered
            .outgoing
            .push(Outgoing { message, attempt: delivery.attempts().saturating_add(1) });
        gathered.deliveries.push(delivery);
        if gathered.is_full(self.sender.most_at_once()) {
            self.send();
        }
    }

    /// What was not sent yet is the next to be decided about, in its order.
    pub(super) fn put_back_gathered(&mut self) {
        for delivery in self.gathered.take().deliveries.into_iter().rev() {
            self.order.keys.put_back(delivery);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(count: usize, bytes: usize, probe: bool) -> Gathered {
        let outgoing = (0..count).map(|_| crate::async_delivery::testing::outgoing("{}")).collect();
        Gathered { deliveries: Vec::new(), outgoing, bytes, probe }
    }

    #[test]
    fn a_call_ends_at_its_messages_or_its_bytes_and_a_probe_is_alone() {
        let capacity = Capacity { messages: 10, bytes: 100 };
        assert!(gathered(9, 50, false).fits(50, capacity));
        assert!(!gathered(10, 50, false).fits(1, capacity));
        assert!(!gathered(1, 50, false).fits(51, capacity));
        assert!(!gathered(1, 1, true).fits(1, capacity));
        assert!(gathered(0, 0, false).fits(1_000, capacity), "what is too large goes alone");
        assert!(gathered(10, 10, false).is_full(capacity));
        assert!(gathered(1, 1_000, false).is_full(capacity));
        assert!(gathered(1, 1, true).is_full(capacity));
        assert!(!gathered(9, 99, false).is_full(capacity));
        assert!(gathered(1, 1, false).is_full(Capacity::ONE));
    }
}
