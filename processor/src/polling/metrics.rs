//! What polling tells the outside in numbers: one function per observation.

use metrics::counter;

/// An answer was read: its records, aggregates undivided, and its bytes on the wire.
pub(super) fn answer(records: usize, wire_bytes: usize) {
    counter!("sluicegate.processor.polls").increment(1);
    counter!("sluicegate.processor.poll_records").increment(records as u64);
    counter!("sluicegate.processor.poll_bytes").increment(wire_bytes as u64);
}

/// A call failed, or its answer could not be taken, for this reason.
pub(super) fn failed(why: &'static str) {
    counter!("sluicegate.processor.polls_failed", "why" => why).increment(1);
}
