//! Every observation of this room, one function each. Labels are bounded: never a subscription's id.

use std::time::Duration;

use metrics::{counter, gauge, histogram};

/// One attempt ended: `result` is `accepted`, `abandoned` or a failure's code.
pub(super) fn attempt(result: &'static str, took: Duration) {
    counter!("sluicegate.delivery.attempts", "result" => result).increment(1);
    histogram!("sluicegate.delivery.attempt_seconds").record(took.as_secs_f64());
}

/// Deliveries written to the parking store for the first time.
pub(super) fn parked(count: u64) {
    counter!("sluicegate.delivery.parked").increment(count);
}

/// Deliveries that a replay parked.
pub(super) fn replayed(count: u64) {
    counter!("sluicegate.delivery.replayed").increment(count);
}

/// A delivery was given up.
pub(super) fn dead_lettered(reason: &'static str) {
    counter!("sluicegate.delivery.dead_letters", "reason" => reason).increment(1);
}

/// Messages that no subscription wanted.
pub(super) fn unmatched(count: u64) {
    counter!("sluicegate.delivery.unmatched").increment(count);
}

/// Messages that went to everyone who asks for content, because theirs could not be read.
pub(super) fn unreadable(count: u64) {
    counter!("sluicegate.delivery.unreadable").increment(count);
}

/// A message was not attempted because its client is not granted it any more.
pub(super) fn withheld() {
    counter!("sluicegate.delivery.withheld").increment(1);
}

/// A destination's breaker opened or closed.
pub(super) fn breaker(change: &'static str) {
    counter!("sluicegate.delivery.breaker_changes", "change" => change).increment(1);
}

/// A subscription was switched off: its destination is `gone`, or was `failing` for too long.
pub(super) fn disabled(why: &'static str) {
    counter!("sluicegate.delivery.disabled", "why" => why).increment(1);
}

/// A range was opened, closed or given up, or a gate in front of one was.
pub(super) fn range(change: &'static str) {
    counter!("sluicegate.delivery.range_changes", "change" => change).increment(1);
}

/// A message was handed out from an open range.
pub(super) fn range_message() {
    counter!("sluicegate.delivery.range_messages").increment(1);
}

/// Open ranges of this worker, and how long the stream keeps what the oldest begins with, in ms.
pub(super) fn ranges(open: usize, left_ms: Option<i64>) {
    gauge!("sluicegate.delivery.ranges_open").set(open as f64);
    if let Some(left_ms) = left_ms {
        let left = left_ms.max(0) as f64 / 1_000.0;
        gauge!("sluicegate.delivery.range_time_to_loss_seconds").set(left);
    }
}

/// Age of the newest confirmed reading of the subscriptions.
pub(super) fn view_age(age: Duration) {
    gauge!("sluicegate.delivery.view_age_seconds").set(age.as_secs_f64());
}

/// A write to the deliveries table failed and is tried again.
pub(super) fn ledger_retry(operation: &'static str) {
    counter!("sluicegate.delivery.ledger_retries", "operation" => operation).increment(1);
}

/// Writes that the ledger has in hand.
pub(super) fn ledger_in_hand(count: usize) {
    gauge!("sluicegate.delivery.ledger_in_hand").set(count as f64);
}

/// How an attempt went was kept, or could not be.
pub(super) fn noted(ok: bool) {
    let ok = if ok { "true" } else { "false" };
    counter!("sluicegate.delivery.attempts_kept", "ok" => ok).increment(1);
}

/// A client was told what happened to its subscription, or could not be.
pub(super) fn told(ok: bool) {
    let ok = if ok { "true" } else { "false" };
    counter!("sluicegate.delivery.events_told", "ok" => ok).increment(1);
}
