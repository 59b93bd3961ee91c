//! For how long have values stood still, by the observer's own monotonic clock? No wall clock, and nobody else's.
//!
//! A [`StillWatch`] is fed with whole readings. What it saw counts only over readings that follow each other closely: after
//! a gap (the observer was paused, or could not read) every count starts again.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// When one reading was made: it shows the world at some moment between the two.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) started: Instant,
    pub(crate) ended: Instant,
}

#[derive(Debug)]
struct Seen<V> {
    value: V,
    /// The end of the reading that first showed the value.
    since: Instant,
    readings: u32,
}

/// Watches values by key.
#[derive(Debug)]
pub(crate) struct StillWatch<K, V> {
    longest_gap: Duration,
    last: Option<Reading>,
    seen: BTreeMap<K, Seen<V>>,
}

impl<K: Ord + Clone, V: PartialEq> StillWatch<K, V> {
    /// A watch whose counts start again when two readings lie further apart than `longest_gap`.
    pub(crate) fn new(longest_gap: Duration) -> Self {
        Self { longest_gap, last: None, seen: BTreeMap::new() }
    }

    /// Takes in one whole reading. Keys that it does not show are forgotten.
    pub(crate) fn read(&mut self, reading: Reading, values: impl IntoIterator<Item = (K, V)>) {
        let gap = self.last.map(|last| reading.started.saturating_duration_since(last.ended));
        let restart = gap.is_none_or(|gap| gap > self.longest_gap);
        let mut before = std::mem::take(&mut self.seen);
        for (key, value) in values {
            let known = before.remove(&key).filter(|seen| !restart && seen.value == value);
            let seen = match known {
                Some(seen) => Seen { readings: seen.readings.saturating_add(1), ..seen },
                None => Seen { value, since: reading.ended, readings: 1 },
            };
            self.seen.insert(key, seen);
        }
        self.last = Some(reading);
    }

    /// How long the value of `key` has stood still up to the start of the last reading, and over how many readings.
    pub(crate) fn still(&self, key: &K) -> (Duration, u32) {
        match (self.seen.get(key), self.last) {
            (Some(seen), Some(last)) => {
                (last.started.saturating_duration_since(seen.since), seen.readings)
            }
            _ => (Duration::ZERO, 0),
        }
    }

    /// True once the value of `key` has stood still for `period` over at least `readings` readings.
    pub(crate) fn is_still(&self, key: &K, period: Duration, readings: u32) -> bool {
        let (lasted, over) = self.still(key);
        lasted >= period && over >= readings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(base: Instant, started_ms: u64, ended_ms: u64) -> Reading {
        let moment = |ms| base + Duration::from_millis(ms);
        Reading { started: moment(started_ms), ended: moment(ended_ms) }
    }

    #[tokio::test(start_paused = true)]
    async fn stillness_counts_from_the_end_of_the_first_reading_to_the_start_of_the_last() {
        let base = Instant::now();
        let mut watch = StillWatch::new(Duration::from_secs(2));
        for second in 0..5 {
            watch.read(at(base, second * 1_000, second * 1_000 + 100), [("a", 7)]);
        }
        assert_eq!(watch.still(&"a"), (Duration::from_millis(3_900), 5));
        assert!(!watch.is_still(&"a", Duration::from_secs(4), 4));
        watch.read(at(base, 5_000, 5_100), [("a", 7)]);
        assert!(watch.is_still(&"a", Duration::from_secs(4), 4));
        watch.read(at(base, 6_000, 6_100), [("a", 8)]);
        assert_eq!(watch.still(&"a"), (Duration::ZERO, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_gap_in_the_readings_starts_every_count_again() {
        let base = Instant::now();
        let mut watch = StillWatch::new(Duration::from_secs(2));
        watch.read(at(base, 0, 10), [("a", 7)]);
        watch.read(at(base, 1_000, 1_010), [("a", 7)]);
        watch.read(at(base, 9_000, 9_010), [("a", 7)]);
        assert_eq!(watch.still(&"a").1, 1);
        assert_eq!(watch.still(&"b"), (Duration::ZERO, 0));
    }
}
