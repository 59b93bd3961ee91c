//! Whether this worker may trust its leases at this moment.
//!
//! The answer is computed at every question from a deadline, never set by a timer: a worker that was paused longer than
//! the deadline knows it with its first instruction.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::ids::Incarnation;

#[derive(Debug)]
pub(crate) struct Validity {
    base: Instant,
    period: Duration,
    /// Microseconds after `base`; 0 before the first heartbeat.
    deadline: AtomicU64,
    /// How often the deadline was found passed. While it differs from `verified`, the leases must be read again first.
    lapses: AtomicU64,
    verified: AtomicU64,
    /// The worker's life; 0 before it joined.
    incarnation: AtomicU64,
}

impl Validity {
    pub(crate) fn new(period: Duration) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            base: Instant::now(),
            period,
            deadline: zero(),
            lapses: zero(),
            verified: zero(),
            incarnation: zero(),
        }
    }

    /// True until `lease_validity` after the start of the last good heartbeat, unless a lapse is still to be looked into.
    pub(crate) fn holds(&self) -> bool {
        let trusted = self.lapses.load(Ordering::Acquire) == self.verified.load(Ordering::Acquire);
        trusted && self.micros(Instant::now()) < self.deadline.load(Ordering::Acquire)
    }

    /// A heartbeat that began at `started` was accepted. Returns true if the leases had lapsed before.
    pub(crate) fn renew(&self, started: Instant) -> bool {
        let deadline = self.deadline.load(Ordering::Acquire);
        let lapsed = deadline > 0 && self.micros(Instant::now()) >= deadline;
        if lapsed {
            // Before the new deadline, so that nobody trusts a lease in between.
            self.lapses.fetch_add(1, Ordering::AcqRel);
        }
        self.deadline.store(self.micros(started + self.period), Ordering::Release);
        lapsed
    }

    /// How many lapses there were; to be given to [`Validity::verify`] after the leases were read.
    pub(crate) fn lapses(&self) -> u64 {
        self.lapses.load(Ordering::Acquire)
    }

    /// The leases were read after the lapse with this number, and those that were lost are known.
    pub(crate) fn verify(&self, lapses: u64) {
        self.verified.store(lapses, Ordering::Release);
    }

    /// A new life begins, whose first heartbeat is the joining that began at `started`.
    pub(crate) fn begin(&self, incarnation: Incarnation, started: Instant) {
        self.incarnation.store(incarnation.0, Ordering::Release);
        self.verify(self.lapses());
        self.deadline.store(self.micros(started + self.period), Ordering::Release);
    }

    /// This life is over: nothing is valid until the next begins.
    pub(crate) fn end(&self) {
        self.incarnation.store(0, Ordering::Release);
        self.deadline.store(0, Ordering::Release);
    }

    /// The worker's life, while it has one.
    pub(crate) fn incarnation(&self) -> Option<Incarnation> {
        let incarnation = self.incarnation.load(Ordering::Acquire);
        (incarnation > 0).then_some(Incarnation(incarnation))
    }

    fn micros(&self, moment: Instant) -> u64 {
        let passed = moment.saturating_duration_since(self.base).as_micros();
        // One more, so that 0 stands for "never".
        u64::try_from(passed).unwrap_or(u64::MAX - 1) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn trust_ends_with_the_period_after_the_start_of_the_last_good_heartbeat() {
        let validity = Validity::new(Duration::from_secs(3));
        assert!(!validity.holds());
        validity.begin(Incarnation(1), Instant::now());
        tokio::time::advance(Duration::from_millis(2_999)).await;
        assert!(validity.holds());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!validity.holds());
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_lapse_a_heartbeat_alone_restores_nothing() {
        let validity = Validity::new(Duration::from_secs(3));
        validity.begin(Incarnation(1), Instant::now());
        assert!(!validity.renew(Instant::now()));
        tokio::time::advance(Duration::from_secs(4)).await;
        let seen = validity.lapses();
        assert!(validity.renew(Instant::now()));
        assert!(!validity.holds());
        validity.verify(seen);
        assert!(!validity.holds(), "a reading from before the lapse proves nothing");
        validity.verify(validity.lapses());
        assert!(validity.holds());
        validity.end();
        assert!(!validity.holds() && validity.incarnation().is_none());
    }
}
