//! What the service lets be read of one shard by GetRecords: calls and bytes a second. Pure but for
//! its one lock.
//!
//! All pollers of a shard in this process share one of these. Consumers elsewhere that nobody here
//! sees use up the same allowance: theirs shows as throttling, for which pollers back off.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The service answers five calls a second for a shard.
const CALL_INTERVAL: Duration = Duration::from_millis(200);
/// The service gives out 2 MB of a shard in a second; a larger answer bars the next call for as
/// long as it was too large.
const BYTES_PER_SECOND: f64 = 2_000_000.0;

/// The allowance of one shard.
#[derive(Debug, Default)]
pub(crate) struct ShardReads {
    /// A mutex because a shard's live reader and its catch-up reader are different tasks; held for
    /// one comparison, never awaited.
    pace: Mutex<Pace>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Pace {
    next_call: Option<Instant>,
    bytes_clear: Option<Instant>,
}

impl ShardReads {
    /// Reserves the next call: it may be made at the moment that is returned.
    pub(super) fn reserve(&self, now: Instant) -> Instant {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let at = [pace.next_call, pace.bytes_clear].into_iter().flatten().fold(now, Instant::max);
        pace.next_call = Some(at + CALL_INTERVAL);
        at
    }

    /// Counts the bytes of records (data and keys) that the service gave out.
    pub(super) fn gave(&self, bytes: usize, now: Instant) {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let from = pace.bytes_clear.map_or(now, |clear| clear.max(now));
        pace.bytes_clear = Some(from + Duration::from_secs_f64(bytes as f64 / BYTES_PER_SECOND));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_a_fifth_of_a_second_apart_whoever_makes_them() {
        let (reads, now) = (ShardReads::default(), Instant::now());
        let at = [0, 0, 0].map(|_| (reads.reserve(now) - now).as_millis());
        assert_eq!(at, [0, 200, 400]);
        let later = now + Duration::from_secs(9);
        assert_eq!(reads.reserve(later), later, "nothing is saved up, and nothing is owed");
    }

    #[test]
    fn a_large_answer_bars_the_next_call_for_as_long_as_it_was_too_large() {
        let (reads, now) = (ShardReads::default(), Instant::now());
        reads.reserve(now);
        reads.gave(1_000_000, now);
        assert_eq!((reads.reserve(now) - now).as_millis(), 500);
        reads.gave(10_000_000, now + Duration::from_secs(1));
        assert_eq!((reads.reserve(now) - now).as_millis(), 6_000);
    }
}
