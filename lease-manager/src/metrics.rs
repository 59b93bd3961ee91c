//! What the lease manager measures: one function for each observation.

use std::time::Duration;

/// Leases owned now.
pub(crate) fn held(leases: usize) {
    metrics::gauge!("sluicegate.lease_manager.held").set(leases as f64);
}

/// A lease came to this worker: `taken` by reason, or `given` to it.
pub(crate) fn acquired(how: &'static str) {
    metrics::counter!("sluicegate.lease_manager.acquired", "how" => how).increment(1);
}

/// A lease was proven lost.
pub(crate) fn lost(why: &'static str) {
    metrics::counter!("sluicegate.lease_manager.lost", "why" => why).increment(1);
}

/// A lease was given up in good order.
pub(crate) fn given_up(how: &'static str) {
    metrics::counter!("sluicegate.lease_manager.given_up", "how" => how).increment(1);
}

/// A conditional write of a lease, by its outcome.
pub(crate) fn write(outcome: &'static str) {
    metrics::counter!("sluicegate.lease_manager.writes", "outcome" => outcome).increment(1);
}

/// A heartbeat, by its outcome, and how long its call took.
pub(crate) fn heartbeat(outcome: &'static str, took: Duration) {
    metrics::counter!("sluicegate.lease_manager.heartbeats", "outcome" => outcome).increment(1);
    metrics::histogram!("sluicegate.lease_manager.heartbeat_seconds").record(took.as_secs_f64());
}

/// The leases were listed; `bad` items could not be read.
pub(crate) fn listed(leases: usize, bad: usize) {
    metrics::gauge!("sluicegate.lease_manager.leases").set(leases as f64);
    metrics::gauge!("sluicegate.lease_manager.bad_items").set(bad as f64);
}

/// Workers that work, as this one sees them.
pub(crate) fn workers(live: usize) {
    metrics::gauge!("sluicegate.lease_manager.workers").set(live as f64);
}

/// This worker led, and carried a plan out.
pub(crate) fn planned(assigned: usize, asked_to_move: usize) {
    metrics::counter!("sluicegate.lease_manager.plans").increment(1);
    let did = |what: &'static str, count: usize| {
        metrics::counter!("sluicegate.lease_manager.plan_actions", "what" => what)
            .increment(count as u64);
    };
    did("assigned", assigned);
    did("asked-to-move", asked_to_move);
}

/// This worker declared another one dead.
pub(crate) fn declared_dead() {
    metrics::counter!("sluicegate.lease_manager.declared_dead").increment(1);
}

/// The shards of a stream were audited: what was repaired, and how many shards no lease answers for.
pub(crate) fn audited(created: usize, trimmed: usize, deleted: usize, uncovered: usize) {
    let did = |what: &'static str, count: usize| {
        metrics::counter!("sluicegate.lease_manager.audit_actions", "what" => what)
            .increment(count as u64);
    };
    did("created", created);
    did("trimmed", trimmed);
    did("deleted", deleted);
    metrics::gauge!("sluicegate.lease_manager.uncovered_shards").set(uncovered as f64);
}

/// A call of the manager failed.
pub(crate) fn failed(operation: &'static str) {
    metrics::counter!("sluicegate.lease_manager.failures", "operation" => operation).increment(1);
}
