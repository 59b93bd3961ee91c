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
    first: Instant,
    /// As `first`, but counted anew after each gap.
    since: Instant,
    readings: u32,
    last: Reading,
}

/// Watches values by key.
#[derive(Debug)]
pub(crate) struct StillWatch<K, V> {
    longest_gap: Duration,
    seen: BTreeMap<K, Seen<V>>,
}

impl<K: Ord + Clone, V: PartialEq> StillWatch<K, V> {
    /// A watch whose counts start again when two readings lie further apart than `longest_gap`.
    pub(crate) fn new(longest_gap: Duration) -> Self {
        Self { longest_gap, seen: BTreeMap::new() }
    }

    /// Takes in one whole reading. Keys that it does not show are forgotten.
    pub(crate) fn read(&mut self, reading: Reading, values: impl IntoIterator<Item = (K, V)>) {
        let mut before = std::mem::take(&mut self.seen);
        for (key, value) in values {
            let seen = self.next(before.remove(&key), reading, value);
            self.seen.insert(key, seen);
        }
    }

    /// Takes in a reading of some keys. The others stay as they were.
    pub(crate) fn read_some(&mut self, reading: Reading, values: impl IntoIterator<Item = (K, V)>) {
        for (key, value) in values {
            let before = self.seen.remove(&key);
            let seen = self.next(before, reading, value);
            self.seen.insert(key, seen);
        }
    }

    fn next(&self, before: Option<Seen<V>>, reading: Reading, value: V) -> Seen<V> {
        match before.filter(|seen| seen.value == value) {
            None => {
                let ended = reading.ended;
                Seen { value, first: ended, since: ended, readings: 1, last: reading }
            }
            Some(seen) => {
                let gap = reading.started.saturating_duration_since(seen.last.ended);
                let (since, readings) = match gap > self.longest_gap {
                    true => (reading.ended, 1),
                    false => (seen.since, seen.readings.saturating_add(1)),
                };
                Seen { since, readings, last: reading, ..seen }
            }
        }
    }

    /// How long the value of `key` has stood still up to the start of its last reading, and over how many readings.
    pub(crate) fn still(&self, key: &K) -> (Duration, u32) {
        match self.seen.get(key) {
            Some(seen) => (seen.last.started.saturating_duration_since(seen.since), seen.readings),
            None => (Duration::ZERO, 0),
        }
    }

    /// For how long at most nobody saw the value of `key` move, gaps included: a hint, and no proof of anything.
    pub(crate) fn age(&self, key: &K) -> Duration {
        let age = |seen: &Seen<V>| seen.last.started.saturating_duration_since(seen.first);
        self.seen.get(key).map_or(Duration::ZERO, age)
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
        assert_eq!(watch.age(&"a"), Duration::from_millis(8_990), "a hint forgets no gap");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_of_some_keys_says_nothing_of_the_others() {
        let base = Instant::now();
        let mut watch = StillWatch::new(Duration::from_secs(2));
        watch.read(at(base, 0, 0), [("a", 7), ("b", 7)]);
        for second in 1..=4 {
            watch.read_some(at(base, second * 1_000, second * 1_000), [("a", 7)]);
        }
        assert_eq!(watch.still(&"a"), (Duration::from_secs(4), 5));
        assert_eq!(watch.still(&"b"), (Duration::ZERO, 1));
        watch.read(at(base, 5_000, 5_000), [("a", 7), ("b", 7)]);
        assert_eq!(watch.still(&"b").1, 1, "its own readings lie too far apart");
    }
}
