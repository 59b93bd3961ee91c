//! What lanes and pollers did, by the metrics that they count it with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Label, Metadata, Recorder, SharedString, Unit,
};

/// The counters that are kept, by the end of their names, and the reason or change where one is wanted.
const COUNTED: [(&str, Option<&str>); 14] = [
    ("processor.lanes_detached", None),
    ("processor.lanes_attached", None),
    ("processor.seams_given_up", None),
    ("processor.catch_up_records", None),
    ("processor.losses", None),
    ("processor.polls", None),
    ("processor.polls_failed", Some("expired-iterator")),
    ("processor.polls_failed", Some("throttled")),
    ("delivery.range_changes", Some("opened")),
    ("delivery.range_changes", Some("closed")),
    ("delivery.range_changes", Some("spilled")),
    ("delivery.range_changes", Some("given-up")),
    ("delivery.range_changes", Some("gate-given-up")),
    ("delivery.range_messages", None),
];

/// Counts what is done on one thread, over all processes.
#[derive(Default)]
pub struct Counts {
    counters: [Arc<AtomicU64>; COUNTED.len()],
}

/// How often lanes were detached, attached and gave up a seam; the records they caught up by, and the losses they wrote down. Then
/// how often a shard was polled, and how often in vain: because the iterator had expired, or too much was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LanesDid {
    pub detached: u64,
    pub attached: u64,
    pub seams_given_up: u64,
    pub caught_up: u64,
    pub losses: u64,
    pub polls: u64,
    pub expired: u64,
    pub throttled: u64,
}

/// How often ranges were opened, closed, spilled and given up in part, and gates in front of them were; the messages they handed out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RangesDid {
    pub opened: u64,
    pub closed: u64,
    pub spilled: u64,
    pub given_up: u64,
    pub gates_given_up: u64,
    pub messages: u64,
}

impl Counts {
    pub fn read(&self) -> (LanesDid, RangesDid) {
        let read = self.counters.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        let [detached, attached, seams_given_up, caught_up, losses, polls, expired, throttled, ..] =
            read;
        let [.., opened, closed, spilled, given_up, gates_given_up, messages] = read;
        let ranges = RangesDid { opened, closed, spilled, given_up, gates_given_up, messages };
        let lanes = LanesDid {
            detached,
            attached,
            seams_given_up,
            caught_up,
            losses,
            polls,
            expired,
            throttled,
        };
        (lanes, ranges)
    }
}

impl std::ops::AddAssign for RangesDid {
    fn add_assign(&mut self, other: RangesDid) {
        self.opened += other.opened;
        self.closed += other.closed;
        self.spilled += other.spilled;
        self.given_up += other.given_up;
        self.gates_given_up += other.gates_given_up;
        self.messages += other.messages;
    }
}

impl std::ops::AddAssign for LanesDid {
    fn add_assign(&mut self, other: LanesDid) {
        self.detached += other.detached;
        self.attached += other.attached;
        self.seams_given_up += other.seams_given_up;
        self.caught_up += other.caught_up;
        self.losses += other.losses;
        self.polls += other.polls;
        self.expired += other.expired;
        self.throttled += other.throttled;
    }
}

impl Recorder for Counts {
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let name = key.name().strip_prefix("sluicegate.");
        let why = key.labels().find(|label| ["why", "change"].contains(&label.key()));
        let why = why.map(Label::value);
        let counted = COUNTED.iter().position(|(counted, reason)| {
            Some(*counted) == name && reason.is_none_or(|reason| Some(reason) == why)
        });
        counted.map_or(Counter::noop(), |at| Counter::from_arc(Arc::clone(&self.counters[at])))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }

    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
}
