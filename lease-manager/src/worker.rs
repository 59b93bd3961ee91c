//! A worker's item in the fleet table: its life, its heartbeat, its load, and the mail that others leave for it.

use serde::Serialize;

/// Where a worker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// It has said that it is here.
    Joining,
    /// It works.
    Active,
    /// It hands its leases over.
    Draining,
    /// It ended in good order.
    Stopped,
    /// Others declared it dead.
    Dead,
}

/// What a worker carries, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Load {
    /// Kilobytes a second over all its shards.
    pub throughput_kbps: f64,
    /// Share of the CPU it may use, in percent.
    pub cpu_percent: f64,
    /// Resident memory in bytes.
    pub memory_bytes: u64,
    /// Bytes of records read and not yet settled.
    pub in_flight_bytes: u64,
}
