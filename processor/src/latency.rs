//! How long something takes, over many times: counts in buckets of fixed width, never a lock.
//!
//! A bucket is an eighth of its octave of microseconds, so a quantile is exact to 12.5 %, and is never told too low.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

/// Buckets of an octave, as a power of two.
const PRECISION: u32 = 3;
/// Up to 2^33 microseconds: more than two hours.
const BUCKETS: usize = (31 << PRECISION) + (1 << PRECISION);

/// Counts durations; written and read by anyone.
#[derive(Debug)]
pub(crate) struct Latency {
    buckets: [AtomicU64; BUCKETS],
}

/// What was counted since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LatencyStatus {
    /// How many.
    pub count: u64,
    /// Half of them took at most so long, in microseconds.
    pub p50_us: u64,
    /// 99 of 100 took at most so long.
    pub p99_us: u64,
    /// All of them did.
    pub max_us: u64,
}

impl Default for Latency {
    fn default() -> Latency {
        Latency { buckets: array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Latency {
    /// So many things took so long.
    pub(crate) fn record(&self, took: Duration, times: usize) {
        self.buckets[bucket(took)].fetch_add(times as u64, Ordering::Relaxed);
    }

    /// Quantiles of what was recorded.
    pub(crate) fn status(&self) -> LatencyStatus {
        let counts: Vec<u64> = self.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        // The first bucket with which this share, in percent, is reached.
        let quantile = |percent: u64| {
            let rank = (count * percent).div_ceil(100).max(1);
            let mut reached = 0;
            let found = counts.iter().position(|in_bucket| {
                reached += in_bucket;
                reached >= rank
            });
            found.map_or(0, longest_us)
        };
        LatencyStatus { count, p50_us: quantile(50), p99_us: quantile(99), max_us: quantile(100) }
    }
}

fn bucket(took: Duration) -> usize {
    let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    if us < 1 << PRECISION {
        return us as usize;
    }
    let octave = us.ilog2();
    let within = (us >> (octave - PRECISION)) as usize - (1 << PRECISION);
    let index = ((octave - PRECISION + 1) << PRECISION) as usize + within;
    index.min(BUCKETS - 1)
}

/// The longest duration of a bucket, in microseconds.
fn longest_us(bucket: usize) -> u64 {
    let (octave, within) = (bucket >> PRECISION, bucket & ((1 << PRECISION) - 1));
    match octave {
        0 => bucket as u64,
        _ => ((((1 << PRECISION) + within + 1) as u64) << (octave - 1)) - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_is_at_most_an_eighth_below_its_end() {
        let mut last = 0;
        for us in (0..5_000).chain([10_000, 1_000_000, 7_200_000_000]) {
            let bucket = bucket(Duration::from_micros(us));
            let longest = longest_us(bucket);
            assert!(bucket >= last && longest >= us, "{us} is in {bucket}, up to {longest}");
            assert!(longest - us <= us / 8, "{us}: {longest}");
            last = bucket;
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let latency = Latency::default();
        assert_eq!(latency.status(), LatencyStatus::default());
        latency.record(Duration::from_micros(5), 50);
        latency.record(Duration::from_micros(7), 49);
        latency.record(Duration::from_millis(10), 1);
        let status = latency.status();
        assert_eq!((status.count, status.p50_us, status.p99_us), (100, 5, 7));
        assert!((10_000..11_250).contains(&status.max_us), "{status:?}");
    }
}
