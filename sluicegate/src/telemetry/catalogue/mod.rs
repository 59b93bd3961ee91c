//! Every metric of the platform: what it counts, in which unit, with which labels.
//!
//! The exporter describes each metric from here before anything is measured; a test holds the table
//! against what the rooms really measure and against docs/metrics.md, so that neither can drift.

mod table;

use metrics::{KeyName, Recorder, SharedString, Unit};
use metrics_opentelemetry::OpenTelemetryRecorder;

use table::METRICS;
pub(in crate::telemetry) use table::{BEHIND, LANES, READER_BEHIND, TIME_TO_LOSS};

/// One metric.
#[derive(Debug)]
pub(in crate::telemetry) struct Metric {
    /// `sluicegate.<room>.<thing>`.
    pub(in crate::telemetry) name: &'static str,
    pub(in crate::telemetry) kind: Kind,
    pub(in crate::telemetry) measure: Measure,
    #[cfg_attr(not(test), allow(dead_code, reason = "a promise that tests hold to the rooms"))]
    pub(in crate::telemetry) labels: &'static [Label],
    pub(in crate::telemetry) meaning: &'static str,
}

/// How a metric behaves over time.
#[derive(Debug, Clone, Copy)]
pub(in crate::telemetry) enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution; with the upper bounds of its buckets.
    Histogram(&'static [f64]),
}

/// What a value is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::telemetry) enum Measure {
    /// Things. Without a unit on the wire: naming conventions would make a ratio of the unit `1`.
    Things,
    Bytes,
    Seconds,
}

/// A label with all that it can say.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(test), allow(dead_code, reason = "a promise that tests hold to the rooms"))]
pub(in crate::telemetry) struct Label {
    pub(in crate::telemetry) name: &'static str,
    pub(in crate::telemetry) values: Values,
}

/// The values that a label can have.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(test), allow(dead_code, reason = "a promise that tests hold to the rooms"))]
pub(in crate::telemetry) enum Values {
    /// These, with spaces between them.
    Of(&'static str),
    /// So many at most, in words.
    AtMost(usize, &'static str),
    /// One for each of the things that the words name; as many as there are.
    Each(&'static str),
}

/// All metrics in order.
pub(in crate::telemetry) fn all() -> impl Iterator<Item = &'static Metric> {
    METRICS.iter().flat_map(|room| room.iter())
}

/// Tells the recorder all there is to know of each metric. What was used before keeps what it had.
pub(in crate::telemetry) fn describe(recorder: &mut OpenTelemetryRecorder) {
    for metric in all() {
        let name = KeyName::from_const_str(metric.name);
        let unit = metric.measure.unit();
        let meaning = SharedString::const_str(metric.meaning);
        match metric.kind {
            Kind::Counter => recorder.describe_counter(name, unit, meaning),
            Kind::Gauge => recorder.describe_gauge(name, unit, meaning),
            Kind::Histogram(bounds) => {
                recorder.set_histogram_bounds_mut(std::iter::once(name.clone()), bounds);
                recorder.describe_histogram(name, unit, meaning);
            }
        }
    }
}

impl Label {
    const fn new(name: &'static str, values: Values) -> Label {
        Label { name, values }
    }
}

impl Measure {
    fn unit(self) -> Option<Unit> {
        match self {
            Measure::Things => None,
            Measure::Bytes => Some(Unit::Bytes),
            Measure::Seconds => Some(Unit::Seconds),
        }
    }
}
