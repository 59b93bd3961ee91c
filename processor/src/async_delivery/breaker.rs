//! The circuit breaker of one destination: a pure state machine over instants that are passed in.
//!
//! Closed: everything goes. Open: nothing goes until an instant. Half open: one probe goes, and its
//! result decides. It counts only failures that say something about the destination as a whole; a
//! message that the receiver dislikes is no reason to stop the others.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

/// When the breaker opens and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Failures in a row that open it.
    pub failures_to_open: u32,
    /// How long it stays open the first time; doubles with every failed probe.
    pub first_open: Duration,
    /// The longest it stays open.
    pub longest_open: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> BreakerPolicy {
        BreakerPolicy {
            failures_to_open: 5,
            first_open: Duration::from_secs(1),
            longest_open: Duration::from_secs(15),
        }
    }
}

/// The breaker's state, as status pages show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// Deliveries go.
    #[default]
    Closed,
    /// Deliveries are parked without an attempt.
    Open,
    /// One probe decides.
    HalfOpen,
}

/// May an attempt start now?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Yes.
    Go,
    /// Yes, this one and no other: its result must come back with `probe = true`.
    Probe,
    /// No, not before this instant.
    Refused(Instant),
}

/// What an attempt's result did to the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    None,
    Opened,
    Closed,
}

/// What an attempt says about the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It works.
    Healthy,
    /// It does not.
    Failing,
    /// It answered, but not to this message; says nothing about others.
    Neutral,
}

#[derive(Debug)]
pub(super) struct Breaker {
    policy: BreakerPolicy,
    phase: Phase,
    failures_in_a_row: u32,
    /// How often it has opened since it was last closed.
    openings: u32,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Closed,
    Open {
        until: Instant,
    },
    /// A probe is under way; if its result never comes, another may go at `again_at`.
    HalfOpen {
        again_at: Instant,
    },
}

impl Breaker {
    pub(super) fn new(policy: BreakerPolicy) -> Breaker {
        Breaker { policy, phase: Phase::Closed, failures_in_a_row: 0, openings: 0 }
    }

    pub(super) fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// When it admits the next attempt; `None` while it admits everything.
    pub(super) fn opens_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Closed => None,
            Phase::Open { until: at } | Phase::HalfOpen { again_at: at } => Some(at),
        }
    }

    /// The answer [`admit`](Self::admit) would give, without taking the probe.
    pub(super) fn would_admit(&self, now: Instant) -> bool {
        self.opens_at().is_none_or(|at| now >= at)
    }

    /// Asks for one attempt; `patience` is how long a probe's result may take.
    pub(super) fn admit(&mut self, now: Instant, patience: Duration) -> Admission {
        match self.phase {
            Phase::Closed => Admission::Go,
            Phase::Open { until: at } | Phase::HalfOpen { again_at: at } if now < at => {
                Admission::Refused(at)
            }
            _ => {
                self.phase = Phase::HalfOpen { again_at: now + patience };
                Admission::Probe
            }
        }
    }

    /// An attempt ended. `jitter` in 0..1 spreads the probes of many workers.
    pub(super) fn record(
        &mut self,
        verdict: Verdict,
        probe: bool,
        now: Instant,
        jitter: f64,
    ) -> Change {
        match (self.phase, verdict, probe) {
            (Phase::Closed, Verdict::Healthy, _) => {
                self.failures_in_a_row = 0;
                Change::None
            }
            (Phase::Closed, Verdict::Failing, _) => {
                self.failures_in_a_row += 1;
                if self.failures_in_a_row < self.policy.failures_to_open {
                    return Change::None;
                }
                self.open(now, jitter);
                Change::Opened
            }
            // A probe that the receiver answered with anything deliberate proves that it is back.
            (
                Phase::HalfOpen { .. } | Phase::Open { .. },
                Verdict::Healthy | Verdict::Neutral,
                true,
            ) => {
                self.phase = Phase::Closed;
                self.failures_in_a_row = 0;
                self.openings = 0;
                Change::Closed
            }
            (Phase::HalfOpen { .. }, Verdict::Failing, true) => {
                self.open(now, jitter);
                Change::Opened
            }
            // Attempts that began before it opened say nothing new.
            _ => Change::None,
        }
    }

    fn open(&mut self, now: Instant, jitter: f64) {
        let doubled = self.policy.first_open.saturating_mul(1 << self.openings.min(16));
        let span =
            doubled.min(self.policy.longest_open).mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0));
        self.openings += 1;
        self.failures_in_a_row = 0;
        self.phase = Phase::Open { until: now + span };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);
    const MIDDLE: f64 = 0.5;

    fn open_breaker(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(BreakerPolicy::default());
        for _ in 0..4 {
            assert_eq!(breaker.record(Verdict::Failing, false, now, MIDDLE), Change::None);
        }
        assert_eq!(breaker.record(Verdict::Failing, false, now, MIDDLE), Change::Opened);
        breaker
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_a_success_starts_the_count_again() {
        let now = Instant::now();
        let mut breaker = Breaker::new(BreakerPolicy::default());
        for _ in 0..20 {
            for _ in 0..4 {
                breaker.record(Verdict::Failing, false, now, MIDDLE);
            }
            breaker.record(Verdict::Healthy, false, now, MIDDLE);
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
        assert_eq!(open_breaker(now).state(), BreakerState::Open);
    }

    #[test]
    fn refusals_of_single_messages_never_open_it() {
        let now = Instant::now();
        let mut breaker = Breaker::new(BreakerPolicy::default());
        for _ in 0..100 {
            assert_eq!(breaker.record(Verdict::Neutral, false, now, MIDDLE), Change::None);
        }
        assert_eq!(breaker.admit(now, PATIENCE), Admission::Go);
    }

    #[test]
    fn half_open_lets_exactly_one_probe_through() {
        let now = Instant::now();
        let mut breaker = open_breaker(now);
        assert!(
            matches!(breaker.admit(now, PATIENCE), Admission::Refused(at) if at == now + Duration::from_secs(1))
        );
        let later = now + Duration::from_secs(1);
        assert!(breaker.would_admit(later));
        assert_eq!(breaker.admit(later, PATIENCE), Admission::Probe);
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert!(!breaker.would_admit(later));
        assert!(matches!(breaker.admit(later, PATIENCE), Admission::Refused(_)));
        assert_eq!(breaker.record(Verdict::Healthy, true, later, MIDDLE), Change::Closed);
        assert_eq!(breaker.admit(later, PATIENCE), Admission::Go);
    }

    #[test]
    fn failed_probes_wait_twice_as_long_each_time_up_to_the_longest() {
        let mut now = Instant::now();
        let mut breaker = open_breaker(now);
        let mut spans = Vec::new();
        for _ in 0..6 {
            let Admission::Refused(until) = breaker.admit(now, PATIENCE) else { panic!("open") };
            spans.push((until - now).as_secs());
            now = until;
            assert_eq!(breaker.admit(now, PATIENCE), Admission::Probe);
            assert_eq!(breaker.record(Verdict::Failing, true, now, MIDDLE), Change::Opened);
        }
        assert_eq!(spans, [1, 2, 4, 8, 15, 15]);
    }

    #[test]
    fn a_probe_whose_result_never_comes_does_not_hold_it_for_ever() {
        let now = Instant::now();
        let mut breaker = open_breaker(now);
        let later = now + Duration::from_secs(1);
        assert_eq!(breaker.admit(later, PATIENCE), Admission::Probe);
        assert_eq!(breaker.admit(later + PATIENCE, PATIENCE), Admission::Probe);
    }

    #[test]
    fn late_results_of_attempts_from_before_it_opened_change_nothing() {
        let now = Instant::now();
        let mut breaker = open_breaker(now);
        assert_eq!(breaker.record(Verdict::Healthy, false, now, MIDDLE), Change::None);
        assert_eq!(breaker.record(Verdict::Failing, false, now, MIDDLE), Change::None);
        assert!(
            matches!(breaker.admit(now, PATIENCE), Admission::Refused(at) if at == now + Duration::from_secs(1))
        );
    }
}
