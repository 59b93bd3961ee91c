//! What this room measures, one function per observation. Every label has a bounded set of values.

use std::time::Duration;

use http::StatusCode;
use metrics::{counter, gauge, histogram};
use store::Class;

/// A request was answered; `route` is a path template.
pub(crate) fn request_answered(route: &str, status: StatusCode, took: Duration) {
    let labels = [("route", route.to_owned()), ("status", status.as_u16().to_string())];
    histogram!("sluicegate.api.request_seconds", &labels).record(took.as_secs_f64());
}

/// A request to the operators' port was answered; `route` is a path template.
pub(crate) fn operator_request_answered(route: &str, status: StatusCode, took: Duration) {
    let labels = [("route", route.to_owned()), ("status", status.as_u16().to_string())];
    histogram!("sluicegate.api.operator_request_seconds", &labels).record(took.as_secs_f64());
}

/// A connection was taken.
pub(crate) fn connection_opened() {
    gauge!("sluicegate.api.connections").increment(1.0);
}

/// A connection ended.
pub(crate) fn connection_closed(end: &'static str) {
    gauge!("sluicegate.api.connections").decrement(1.0);
    counter!("sluicegate.api.connections_ended", "end" => end).increment(1);
}

/// An HTTP/2 stream was reset, whose client took nothing of its answer.
pub(crate) fn stream_reset() {
    counter!("sluicegate.api.streams_reset").increment(1);
}

/// Somebody could not be recognised.
pub(crate) fn authentication_failed(reason: &'static str) {
    counter!("sluicegate.api.authentications_failed", "reason" => reason).increment(1);
}

/// An access token was verified, not remembered.
pub(crate) fn token_verified() {
    counter!("sluicegate.api.token_verifications").increment(1);
}

/// An issuer's keys were asked for.
pub(crate) fn issuer_keys_fetched(well: bool) {
    counter!("sluicegate.api.issuer_key_fetches", "ok" => bool_word(well)).increment(1);
}

/// A key was read from the store, not from memory.
pub(crate) fn key_looked_up() {
    counter!("sluicegate.api.key_lookups").increment(1);
}

/// A decision was written into the audit, or left out for the number of its lines.
pub(crate) fn audited(decision: &'static str, written: bool) {
    let labels = [("decision", decision), ("written", bool_word(written))];
    counter!("sluicegate.api.audit_lines", &labels).increment(1);
}

/// A client asked for more than its limits allow.
pub(crate) fn client_limited(policy: &'static str) {
    counter!("sluicegate.api.requests_limited", "policy" => policy).increment(1);
}

/// What a client used was added to what all tasks know, or could not be.
pub(crate) fn limits_charged(well: bool) {
    counter!("sluicegate.api.limit_charges", "ok" => bool_word(well)).increment(1);
}

/// A request was held to its client's limits by this task alone.
pub(crate) fn limited_alone() {
    counter!("sluicegate.api.requests_limited_alone").increment(1);
}

/// The access epoch was looked at.
pub(crate) fn epoch_looked(well: bool) {
    counter!("sluicegate.api.epoch_looks", "ok" => bool_word(well)).increment(1);
}

/// A certificate was taken into use, or could not be.
pub(crate) fn certificate_loaded(well: bool) {
    counter!("sluicegate.api.certificate_loads", "ok" => bool_word(well)).increment(1);
}

/// The store did not answer a read.
pub(crate) fn store_failed(class: Class) {
    let class = match class {
        Class::Retry => "retry",
        Class::Skip => "skip",
        Class::Fatal => "fatal",
    };
    counter!("sluicegate.api.store_failures", "class" => class).increment(1);
}

/// A client's message was sent, or could not be.
pub(crate) fn message_published(outcome: &'static str) {
    counter!("sluicegate.api.messages_published", "outcome" => outcome).increment(1);
}

/// A request came again under its key; what was found of it.
pub(crate) fn request_repeated(found: &'static str) {
    counter!("sluicegate.api.requests_repeated", "found" => found).increment(1);
}

/// So many entities are looked at for clients that wait.
pub(crate) fn watched(count: usize) {
    gauge!("sluicegate.api.watched_entities").set(count as f64);
}

/// So many integrations are read for clients that follow them.
pub(crate) fn tailed(count: usize) {
    gauge!("sluicegate.api.tailed_integrations").set(count as f64);
}

/// A client began to follow an integration.
pub(crate) fn tail_began() {
    gauge!("sluicegate.api.tails").increment(1.0);
}

/// It does not any more.
pub(crate) fn tail_ended(reason: &'static str) {
    gauge!("sluicegate.api.tails").decrement(1.0);
    counter!("sluicegate.api.tails_ended", "reason" => reason).increment(1);
}

/// So many messages went to a client that follows.
pub(crate) fn tail_messages(count: usize) {
    counter!("sluicegate.api.tail_messages").increment(count as u64);
}

fn bool_word(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}
