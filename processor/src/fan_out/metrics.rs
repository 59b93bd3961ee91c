//! What reading tells the outside in numbers: one function per observation.

use metrics::counter;

/// A subscription was accepted.
pub(super) fn subscribed() {
    counter!("sluicegate.processor.subscriptions").increment(1);
}

/// A subscription ended, or was refused, for this reason.
pub(super) fn subscription_ended(why: &'static str) {
    counter!("sluicegate.processor.subscriptions_ended", "why" => why).increment(1);
}

/// An event was read: its records, aggregates undivided, and its bytes on the wire.
pub(super) fn event(records: usize, wire_bytes: usize) {
    counter!("sluicegate.processor.events").increment(1);
    counter!("sluicegate.processor.event_records").increment(records as u64);
    counter!("sluicegate.processor.event_bytes").increment(wire_bytes as u64);
}
