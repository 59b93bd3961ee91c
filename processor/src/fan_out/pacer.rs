//! How many subscriptions a process starts in a second, over all its shards.
//!
//! Each caller is given the next free moment and sleeps until then: a start with 500 shards is a
//! row, not a crowd that wakes together for every free place.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Gives turns, one every `1 / subscribes_per_second`. Clones share the row.
#[derive(Debug, Clone)]
pub(crate) struct SubscribePacer {
    interval: Duration,
    /// A mutex because all shards' tasks take turns here; held for one comparison, never awaited.
    next_free: Arc<Mutex<Option<Instant>>>,
}

impl SubscribePacer {
    /// At most `subscribes_per_second` turns in a second; 0 counts as 1.
    pub(crate) fn new(subscribes_per_second: u32) -> SubscribePacer {
        SubscribePacer {
            interval: Duration::from_secs(1) / subscribes_per_second.max(1),
            next_free: Arc::default(),
        }
    }

    /// Waits for this caller's turn. A turn that was given and not waited for is lost.
    pub(crate) async fn turn(&self) {
        let turn = self.reserve(Instant::now());
        tokio::time::sleep_until(turn).await;
    }

    fn reserve(&self, now: Instant) -> Instant {
        let mut next_free = self.next_free.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = next_free.map_or(now, |free| free.max(now));
        *next_free = Some(turn + self.interval);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_come_one_interval_apart_and_are_not_saved_up() {
        let pacer = SubscribePacer::new(10);
        let start = Instant::now();
        let mut turns = Vec::new();
        for _ in 0..3 {
            pacer.clone().turn().await;
            turns.push(start.elapsed().as_millis());
        }
        assert_eq!(turns, [0, 100, 200]);
        tokio::time::sleep(Duration::from_secs(5)).await;
        let later = Instant::now();
        pacer.turn().await;
        pacer.turn().await;
        assert_eq!(later.elapsed().as_millis(), 100);
    }
}
