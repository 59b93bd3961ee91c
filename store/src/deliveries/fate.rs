//! What became of one message for one subscription, by what is there and what is not. Pure.
//!
//! Nothing is kept of a delivery that succeeded at once. That it was delivered follows from what is not there (it does
//! not wait and was not given up) and from how far its shard's deliveries have got.

use super::Trace;
use crate::messages::Message;
use crate::subscriptions::SubscriptionId;

/// What is known of a message for one subscription.
#[derive(Debug)]
pub struct DeliveryCase {
    /// Which one.
    pub subscription: SubscriptionId,
    /// As things stand; `None` where the message itself is not at hand.
    pub wanted: Option<bool>,
    /// What is kept of it.
    pub trace: Trace,
    /// By when everything up to this message was settled in its shard.
    pub settled_by_ms: Option<i64>,
    /// When this was looked up, in ms since 1970.
    pub now_ms: i64,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryFate {
    /// The destination took it.
    Delivered {
        /// Not before, in ms since 1970.
        from_ms: i64,
        /// Not after.
        by_ms: i64,
        /// How many it took.
        attempts: u32,
    },
    /// The destination took it after it had been down or behind.
    CaughtUp {
        /// Not before, in ms since 1970.
        from_ms: i64,
        /// Not after.
        by_ms: i64,
    },
    /// It waits in the stream: its destination is down or behind since then, in ms since 1970.
    InStream {
        /// Since when.
        since_ms: i64,
    },
    /// It waits for its next attempt.
    Waits,
    /// It is a dead letter.
    GivenUp,
    /// The subscription does not ask for it, is not granted it, or was made after it.
    NotWanted,
    /// Its shard's deliveries have not got there, as far as was written down.
    NotYet,
    /// Nothing is kept of it.
    NoTrace,
}

impl DeliveryCase {
    /// Decides by what is there and what is not.
    pub fn fate(&self, message: Option<&Message>) -> DeliveryFate {
        let last = self.trace.attempts.last();
        if self.trace.parked.is_some() {
            return DeliveryFate::Waits;
        }
        if let Some(accepted) = last.filter(|attempt| attempt.outcome == "accepted") {
            let by_ms = accepted.at_ms.saturating_add_unsigned(accepted.took_ms);
            return DeliveryFate::Delivered {
                from_ms: accepted.at_ms,
                by_ms,
                attempts: accepted.number,
            };
        }
        if self.trace.dead.is_some() {
            return DeliveryFate::GivenUp;
        }
        let Some(message) = message else { return DeliveryFate::NoTrace };
        if self.wanted != Some(false)
            && let Some(fate) = self.by_range(message)
        {
            return fate;
        }
        match (last, self.wanted, self.settled_by_ms) {
            // It failed, does not wait and was not given up: a worker has it in hand.
            (Some(_), _, _) => DeliveryFate::Waits,
            (None, Some(false), _) => DeliveryFate::NotWanted,
            (None, _, Some(by_ms)) => {
                DeliveryFate::Delivered { from_ms: message.arrived_at_ms, by_ms, attempts: 1 }
            }
            (None, _, None) => DeliveryFate::NotYet,
        }
    }
}

impl DeliveryCase {
    /// What follows from a range that is open, or was when the message was passed in its shard.
    fn by_range(&self, message: &Message) -> Option<DeliveryFate> {
        if let Some(range) = &self.trace.range {
            let (start, at) = (&range.from, &message.position);
            // Sequence numbers have no leading zeros.
            let begins = (start.sequence.len(), &*start.sequence, start.index);
            if begins <= (at.sequence.len(), &*at.sequence, at.index) {
                return Some(DeliveryFate::InStream { since_ms: range.opened_at_ms });
            }
            if self.settled_by_ms.is_some_and(|settled_by_ms| range.opened_at_ms <= settled_by_ms) {
                let (from_ms, by_ms) = (message.arrived_at_ms, self.now_ms);
                return Some(DeliveryFate::CaughtUp { from_ms, by_ms });
            }
        }
        let settled_by_ms = self.settled_by_ms?;
        let closed = self.trace.closed.filter(|closed| closed.opened_at_ms <= settled_by_ms)?;
        let by_ms = closed.closed_at_ms.max(settled_by_ms);
        let attempted = self.trace.attempts.last().map(|attempt| attempt.at_ms);
        // An attempt after it was closed is of something else.
        if attempted.is_some_and(|at_ms| at_ms > by_ms) {
            return None;
        }
        Some(DeliveryFate::CaughtUp { from_ms: attempted.unwrap_or(message.arrived_at_ms), by_ms })
    }
}

impl DeliveryFate {
    /// Its name in lists.
    pub fn code(&self) -> &'static str {
        match self {
            DeliveryFate::Delivered { .. } | DeliveryFate::CaughtUp { .. } => "delivered",
            DeliveryFate::InStream { .. } => "in-stream",
            DeliveryFate::Waits => "waits",
            DeliveryFate::GivenUp => "given-up",
            DeliveryFate::NotWanted => "not-wanted",
            DeliveryFate::NotYet => "not-yet",
            DeliveryFate::NoTrace => "no-trace",
        }
    }
}

#[cfg(test)]
#[path = "fate_tests.rs"]
mod tests;
