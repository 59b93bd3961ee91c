//! How many writes run beside each other: additive increase, multiplicative decrease.
//!
//! Pure: it is told what happened and when, and answers how many calls may be under way.

use std::time::Duration;

use tokio::time::Instant;

/// One round of throttling is answered once, however many calls report it.
const DECREASE_PAUSE: Duration = Duration::from_millis(100);

/// An adaptive limit of parallel calls between 1 and `max`.
#[derive(Debug)]
pub(super) struct AdaptiveLimit {
    current: f64,
    max: f64,
    last_decrease: Option<Instant>,
}

impl AdaptiveLimit {
    /// Starts at `start` calls and never passes `max`.
    pub(super) fn new(start: usize, max: usize) -> AdaptiveLimit {
        let max = max.max(1) as f64;
        AdaptiveLimit { current: (start as f64).clamp(1.0, max), max, last_decrease: None }
    }

    /// Calls that may be under way now.
    pub(super) fn calls(&self) -> usize {
        self.current as usize
    }

    /// A call came back with nothing refused: one more call per round of calls.
    pub(super) fn succeeded(&mut self) {
        self.current = (self.current + 1.0 / self.current).min(self.max);
    }

    /// The store refused for now: half as many calls, once a round.
    pub(super) fn throttled(&mut self, now: Instant) {
        if self.last_decrease.is_some_and(|last| now - last < DECREASE_PAUSE) {
            return;
        }
        self.last_decrease = Some(now);
        self.current = (self.current / 2.0).max(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_by_one_a_round_and_halves_once_a_round() {
        let start = Instant::now();
        let mut limit = AdaptiveLimit::new(4, 16);
        for _ in 0..5 {
            limit.succeeded();
        }
        assert_eq!(limit.calls(), 5);
        limit.throttled(start);
        limit.throttled(start + Duration::from_millis(1));
        assert_eq!(limit.calls(), 2, "one round of throttling is answered once");
        limit.throttled(start + DECREASE_PAUSE);
        limit.throttled(start + DECREASE_PAUSE * 2);
        assert_eq!(limit.calls(), 1, "never below one: something must find out that it is over");
    }

    #[test]
    fn never_passes_its_maximum() {
        let mut limit = AdaptiveLimit::new(4, 6);
        for _ in 0..1_000 {
            limit.succeeded();
        }
        assert_eq!(limit.calls(), 6);
    }
}
