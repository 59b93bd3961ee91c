//! Turns over the whole process: who asks is given the next free moment.
//!
//! A crowd that asks at once becomes a row, in the order of asking, and nobody wakes in vain. Turns that nobody took are not
//! saved up.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Gives turns, one every `1 / per_second`. Clones share the row.
#[derive(Debug, Clone)]
pub(crate) struct Turns {
    interval: Duration,
    /// A mutex because all shards' tasks take turns here; held for one comparison, never awaited.
    next_free: Arc<Mutex<Option<Instant>>>,
}

impl Turns {
    /// At most `per_second` turns in a second; 0 counts as 1.
    pub(crate) fn new(per_second: u32) -> Turns {
        Turns { interval: Duration::from_secs(1) / per_second.max(1), next_free: Arc::default() }
    }

    /// The caller's turn: now, or later. A turn that is not used is lost.
    pub(crate) fn reserve(&self, now: Instant) -> Instant {
        let mut next_free = self.next_free.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = next_free.map_or(now, |free| free.max(now));
        *next_free = Some(turn + self.interval);
        turn
    }

    /// Waits for the caller's turn.
    pub(crate) async fn turn(&self) {
        tokio::time::sleep_until(self.reserve(Instant::now())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_come_one_interval_apart_and_are_not_saved_up() {
        let turns = Turns::new(10);
        let start = Instant::now();
        let mut taken = Vec::new();
        for _ in 0..3 {
            turns.clone().turn().await;
            taken.push(start.elapsed().as_millis());
        }
        assert_eq!(taken, [0, 100, 200]);
        tokio::time::sleep(Duration::from_secs(5)).await;
        let later = Instant::now();
        turns.turn().await;
        turns.turn().await;
        assert_eq!(later.elapsed().as_millis(), 100);
    }
}
