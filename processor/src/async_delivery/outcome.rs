//! What an attempt came to, and what follows from it. Pure.

use std::time::Duration;

use store::{DeadReason, DeliveryPolicy, retry_delay};

use super::breaker::Verdict;

/// A receiver's `Retry-After` is honoured up to this long.
const RETRY_AFTER_CAP: Duration = Duration::from_secs(3_600);

/// A receiver that asks for less load is left alone for at least this long.
const OVERLOAD_PAUSE: Duration = Duration::from_secs(10);

/// The shortest and longest pause of a delivery that was due but could not be attempted.
const DEFER_MS: (i64, i64) = (30_000, 10 * 60_000);

/// A delivery that is never attempted, because its destination is down, is kept at least this long.
const SHORTEST_LIFE_MS: i64 = 24 * 3_600 * 1_000;

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The destination acknowledged the message.
    Accepted,
    /// It did not.
    Failed(Failure),
    /// We gave the attempt up ourselves before it was decided.
    Abandoned,
}

/// An attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: FailureKind,
    /// What was met, in words, fit for a log line and an operator's page.
    pub(super) detail: String,
    /// What the receiver asked for.
    pub(super) retry_after: Option<Duration>,
}

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// The receiver says that it is gone for good (410).
    Gone,
    /// The receiver asks for less (429, 502, 504).
    Overloaded,
    /// The receiver answered, but refuses this request (other 4xx).
    Refused,
    /// This very message can never be taken: too large, or not what the destination can carry.
    Unsendable,
    /// Any other answer that is not 2xx: 5xx, and 3xx, because redirects are never followed.
    Unhealthy,
    /// No answer in time.
    TimedOut,
    /// No answer at all.
    Unreachable,
}

impl FailureKind {
    /// The label for metrics.
    pub(super) fn code(self) -> &'static str {
        match self {
            FailureKind::Gone => "gone",
            FailureKind::Overloaded => "overloaded",
            FailureKind::Refused => "refused",
            FailureKind::Unsendable => "unsendable",
            FailureKind::Unhealthy => "unhealthy",
            FailureKind::TimedOut => "timed-out",
            FailureKind::Unreachable => "unreachable",
        }
    }
}

impl Outcome {
    /// The label for metrics.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Outcome::Accepted => "accepted",
            Outcome::Abandoned => "abandoned",
            Outcome::Failed(failure) => failure.kind.code(),
        }
    }
}

/// What follows from an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// Delivered.
    Settled,
    /// Park it, due after this long.
    Retry(Duration),
    /// Park it, due at once: this attempt does not count.
    Again,
    /// Give it up: a dead letter.
    GiveUp(DeadReason),
    /// Give it up and take the subscription out of service.
    Disable,
}

/// What the breaker learns from an attempt; `None` if nothing.
pub(super) fn verdict(outcome: &Outcome) -> Option<Verdict> {
    match outcome {
        Outcome::Accepted => Some(Verdict::Healthy),
        Outcome::Abandoned => None,
        Outcome::Failed(failure) => Some(match failure.kind {
            FailureKind::Refused | FailureKind::Unsendable | FailureKind::Gone => Verdict::Neutral,
            _ => Verdict::Failing,
        }),
    }
}

/// What the breaker learns from one call, whatever it carried: that some were taken proves that the
/// destination works, and one call that failed is one failure.
pub(super) fn call_verdict<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Option<Verdict> {
    outcomes.filter_map(verdict).max_by_key(|verdict| match verdict {
        Verdict::Healthy => 2,
        Verdict::Failing => 1,
        Verdict::Neutral => 0,
    })
}

/// Decides what follows; `attempts` counts this one.
pub(super) fn plan_next(
    outcome: &Outcome,
    attempts: u32,
    policy: &DeliveryPolicy,
    jitter_unit: f64,
) -> Next {
    let failure = match outcome {
        Outcome::Accepted => return Next::Settled,
        Outcome::Abandoned => return Next::Again,
        Outcome::Failed(failure) => failure,
    };
    match failure.kind {
        FailureKind::Gone => return Next::Disable,
        FailureKind::Unsendable => return Next::GiveUp(DeadReason::DeliveryRejected),
        _ => {}
    }
    let asked = match failure.kind {
        FailureKind::Overloaded => {
            Some(failure.retry_after.unwrap_or_default().max(OVERLOAD_PAUSE))
        }
        _ => failure.retry_after,
    };
    match retry_delay(&policy.retry_schedule_ms, attempts, jitter_unit, asked, RETRY_AFTER_CAP) {
        Some(delay) => Next::Retry(delay),
        None => Next::GiveUp(DeadReason::DeliveryExhausted),
    }
}

/// Decides about a delivery that is due while its destination takes nothing: a pause that grows with
/// its age, or the end once it has outlived its schedule.
pub(super) fn plan_deferral(
    first_failed_at_ms: i64,
    now_ms: i64,
    policy: &DeliveryPolicy,
    jitter_unit: f64,
) -> Next {
    let schedule_ms =
        policy.retry_schedule_ms.iter().fold(0i64, |sum, ms| sum.saturating_add_unsigned(*ms));
    let age_ms = now_ms.saturating_sub(first_failed_at_ms).max(0);
    if age_ms > schedule_ms.max(SHORTEST_LIFE_MS) {
        return Next::GiveUp(DeadReason::DeliveryExhausted);
    }
    let pause_ms = (age_ms / 2).clamp(DEFER_MS.0, DEFER_MS.1).unsigned_abs();
    Next::Retry(Duration::from_millis(pause_ms).mul_f64(0.8 + 0.4 * jitter_unit.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(kind: FailureKind, retry_after_s: Option<u64>) -> Outcome {
        Outcome::Failed(Failure {
            kind,
            detail: String::new(),
            retry_after: retry_after_s.map(Duration::from_secs),
        })
    }

    fn next(kind: FailureKind, retry_after_s: Option<u64>, attempts: u32) -> Next {
        plan_next(&failed(kind, retry_after_s), attempts, &DeliveryPolicy::default(), 0.5)
    }

    #[test]
    fn failures_follow_the_schedule_to_its_end() {
        let secs = |s| Next::Retry(Duration::from_secs(s));
        assert_eq!(next(FailureKind::Unhealthy, None, 1), secs(5));
        assert_eq!(next(FailureKind::TimedOut, None, 2), secs(300));
        assert_eq!(next(FailureKind::Refused, None, 9), secs(86_400));
        assert_eq!(
            next(FailureKind::Unreachable, None, 10),
            Next::GiveUp(DeadReason::DeliveryExhausted)
        );
    }

    #[test]
    fn a_receiver_may_ask_for_more_time_but_not_for_ever() {
        let secs = |s| Next::Retry(Duration::from_secs(s));
        assert_eq!(next(FailureKind::Unhealthy, Some(60), 1), secs(60));
        assert_eq!(next(FailureKind::Unhealthy, Some(10_000_000), 1), secs(3_600));
        assert_eq!(next(FailureKind::Unhealthy, Some(1), 1), secs(5));
        assert_eq!(next(FailureKind::Overloaded, None, 1), secs(10));
        assert_eq!(next(FailureKind::Overloaded, Some(20), 1), secs(20));
    }

    #[test]
    fn gone_disables_at_once_and_an_abandoned_attempt_does_not_count() {
        assert_eq!(next(FailureKind::Gone, Some(60), 1), Next::Disable);
        assert_eq!(
            plan_next(&Outcome::Abandoned, 10, &DeliveryPolicy::default(), 0.5),
            Next::Again
        );
        assert_eq!(
            plan_next(&Outcome::Accepted, 10, &DeliveryPolicy::default(), 0.5),
            Next::Settled
        );
    }

    #[test]
    fn what_can_never_be_sent_is_given_up_at_once() {
        let given_up = Next::GiveUp(DeadReason::DeliveryRejected);
        assert_eq!(next(FailureKind::Unsendable, Some(60), 1), given_up);
    }

    #[test]
    fn a_call_is_one_lesson_whatever_it_carried() {
        let of = |outcomes: &[Outcome]| call_verdict(outcomes.iter());
        let (down, refused) =
            (failed(FailureKind::Unhealthy, None), failed(FailureKind::Refused, None));
        assert_eq!(of(&[down.clone(), Outcome::Accepted, refused.clone()]), Some(Verdict::Healthy));
        assert_eq!(of(&[refused.clone(), down, Outcome::Abandoned]), Some(Verdict::Failing));
        assert_eq!(of(&[refused, Outcome::Abandoned]), Some(Verdict::Neutral));
        assert_eq!(of(&[Outcome::Abandoned]), None);
    }

    #[test]
    fn deferrals_grow_with_age_and_end_with_the_schedule() {
        let policy = DeliveryPolicy::default();
        let after = |age_ms: i64| plan_deferral(1_000, 1_000 + age_ms, &policy, 0.5);
        assert_eq!(after(-5_000), Next::Retry(Duration::from_secs(30)));
        assert_eq!(after(0), Next::Retry(Duration::from_secs(30)));
        assert_eq!(after(600_000), Next::Retry(Duration::from_secs(300)));
        assert_eq!(after(7_200_000), Next::Retry(Duration::from_secs(600)));
        assert_eq!(after(76 * 3_600_000), Next::GiveUp(DeadReason::DeliveryExhausted));
        let hasty = DeliveryPolicy { retry_schedule_ms: vec![0, 1_000], ..policy };
        assert!(
            matches!(plan_deferral(0, 3_600_000, &hasty, 0.5), Next::Retry(_)),
            "an hour's outage outlives it"
        );
    }

    #[test]
    fn only_what_concerns_the_whole_destination_counts_against_it() {
        for (kind, expected) in [
            (FailureKind::Gone, Verdict::Neutral),
            (FailureKind::Refused, Verdict::Neutral),
            (FailureKind::Unsendable, Verdict::Neutral),
            (FailureKind::Overloaded, Verdict::Failing),
            (FailureKind::Unhealthy, Verdict::Failing),
            (FailureKind::TimedOut, Verdict::Failing),
            (FailureKind::Unreachable, Verdict::Failing),
        ] {
            assert_eq!(verdict(&failed(kind, None)), Some(expected), "{kind:?}");
        }
        assert_eq!(verdict(&Outcome::Accepted), Some(Verdict::Healthy));
        assert_eq!(verdict(&Outcome::Abandoned), None);
    }
}
