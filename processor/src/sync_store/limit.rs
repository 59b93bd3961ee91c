//! How many writes run beside each other: additive increase, multiplicative decrease.
//!
//! Pure: it is told what happened and when, and answers how many calls may be under way. A key that is
//! refused by itself says nothing of the store: its records wait on their own, and slow nobody down.

use std::time::Duration;

use tokio::time::Instant;

/// One round of throttling is answered once, however many calls report it.
const DECREASE_PAUSE: Duration = Duration::from_millis(100);

/// What became of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CallOutcome {
    /// Records that it was for.
    pub(super) asked: usize,
    /// Records that were refused for now.
    pub(super) refused: usize,
    /// All that were refused are of one key.
    pub(super) one_key: bool,
}

/// An adaptive limit of parallel calls between 1 and `max`.
#[derive(Debug)]
pub(super) struct AdaptiveLimit {
    current: f64,
    max: f64,
    last_decrease: Option<Instant>,
    /// Something was kept since the last decrease.
    kept_since: bool,
}

impl AdaptiveLimit {
    /// Starts at `start` calls and never passes `max`.
    pub(super) fn new(start: usize, max: usize) -> AdaptiveLimit {
        let max = max.max(1) as f64;
        let current = (start as f64).clamp(1.0, max);
        AdaptiveLimit { current, max, last_decrease: None, kept_since: false }
    }

    /// Calls that may be under way now.
    pub(super) fn calls(&self) -> usize {
        self.current as usize
    }

    /// A call came back. One more call per round of calls while nothing is refused; half as many,
    /// once a round, when the store refuses most of what it is asked.
    pub(super) fn observe(&mut self, call: CallOutcome, now: Instant) {
        if call.refused == 0 {
            self.current = (self.current + 1.0 / self.current).min(self.max);
        } else if call.refused * 2 > call.asked && !(call.one_key && self.kept_since) {
            self.decrease(now);
        }
        self.kept_since |= call.refused < call.asked;
    }

    fn decrease(&mut self, now: Instant) {
        if self.last_decrease.is_some_and(|last| now - last < DECREASE_PAUSE) {
            return;
        }
        self.last_decrease = Some(now);
        self.current = (self.current / 2.0).max(1.0);
        self.kept_since = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: CallOutcome = CallOutcome { asked: 25, refused: 0, one_key: false };
    const REFUSED: CallOutcome = CallOutcome { asked: 25, refused: 25, one_key: false };

    #[test]
    fn grows_by_one_a_round_and_halves_once_a_round() {
        let start = Instant::now();
        let mut limit = AdaptiveLimit::new(4, 16);
        for _ in 0..5 {
            limit.observe(KEPT, start);
        }
        assert_eq!(limit.calls(), 5);
        limit.observe(REFUSED, start);
        limit.observe(REFUSED, start + Duration::from_millis(1));
        assert_eq!(limit.calls(), 2, "one round of throttling is answered once");
        limit.observe(REFUSED, start + DECREASE_PAUSE);
        limit.observe(REFUSED, start + DECREASE_PAUSE * 2);
        assert_eq!(limit.calls(), 1, "never below one: something must find out that it is over");
    }

    #[test]
    fn never_passes_its_maximum() {
        let mut limit = AdaptiveLimit::new(4, 6);
        for _ in 0..1_000 {
            limit.observe(KEPT, Instant::now());
        }
        assert_eq!(limit.calls(), 6);
    }

    #[test]
    fn a_key_that_is_refused_beside_others_that_are_not_slows_nothing() {
        let start = Instant::now();
        let hot = CallOutcome { one_key: true, ..REFUSED };
        let mut limit = AdaptiveLimit::new(8, 16);
        for round in 1..100 {
            limit.observe(KEPT, start);
            limit.observe(hot, start + DECREASE_PAUSE * round);
        }
        assert_eq!(limit.calls(), 16);
        let few = CallOutcome { refused: 12, ..REFUSED };
        limit.observe(few, start + DECREASE_PAUSE * 200);
        assert_eq!(limit.calls(), 16, "most were kept");
        limit.observe(hot, start + DECREASE_PAUSE * 300);
        limit.observe(KEPT, start);
        limit.observe(REFUSED, start + DECREASE_PAUSE * 400);
        assert_eq!(limit.calls(), 8, "many keys are the store");
        limit.observe(hot, start + DECREASE_PAUSE * 500);
        assert_eq!(limit.calls(), 4, "one key is the store when nothing else was kept since");
    }
}
