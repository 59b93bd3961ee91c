//! What lanes did, by the metrics that they count it with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// The counters that are kept, by the end of their names.
const COUNTED: [&str; 5] =
    ["lanes_detached", "lanes_attached", "seams_given_up", "catch_up_records", "losses"];

/// Counts what is done on one thread, over all processes.
#[derive(Default)]
pub struct Counts {
    counters: [Arc<AtomicU64>; COUNTED.len()],
}

/// How often lanes were detached, attached and gave up a seam; the records they caught up by, and the losses they wrote down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LanesDid {
    pub detached: u64,
    pub attached: u64,
    pub seams_given_up: u64,
    pub caught_up: u64,
    pub losses: u64,
}

impl Counts {
    pub fn read(&self) -> LanesDid {
        let [detached, attached, seams_given_up, caught_up, losses] =
            self.counters.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        LanesDid { detached, attached, seams_given_up, caught_up, losses }
    }
}

impl std::ops::AddAssign for LanesDid {
    fn add_assign(&mut self, other: LanesDid) {
        self.detached += other.detached;
        self.attached += other.attached;
        self.seams_given_up += other.seams_given_up;
        self.caught_up += other.caught_up;
        self.losses += other.losses;
    }
}

impl Recorder for Counts {
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let name = key.name().strip_prefix("sluicegate.processor.");
        let counted = COUNTED.iter().position(|counted| Some(*counted) == name);
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
