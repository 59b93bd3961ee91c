//! When to poll next, after an answer or after a failure. Pure.

use std::time::Duration;

use tokio::time::Instant;

use super::PollingOptions;
use crate::reader::ReadError;
use crate::reader::pause::{backoff, stretched};
use crate::reader::refusal::{Meaning, Refusal};

/// Why a call brought nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failed {
    /// The connection failed.
    Cut(String),
    /// No answer came in this time, or not all of it.
    Unanswered(Duration),
    /// The answer is not as it should be.
    Broken(String),
    /// The reading budget has no room for the answer, which was dropped.
    NoRoom { bytes: usize },
    /// The service said why.
    Refused(Refusal),
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    /// Call then. Without `keep_iterator` a new iterator is asked for, behind the last record that
    /// was handed out.
    CallAt {
        at: Instant,
        keep_iterator: bool,
    },
    GiveUp(ReadError),
}

/// What went wrong since the last answer, as far as the next decision needs it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct History {
    failures: u32,
    denied: u32,
}

impl History {
    /// An answer came: whatever went wrong before is over.
    pub(super) fn answered(&mut self) {
        *self = History::default();
    }

    /// A call failed.
    pub(super) fn failed(&mut self, failed: &Failed) {
        self.failures = self.failures.saturating_add(1);
        if let Failed::Refused(refusal) = failed
            && refusal.meaning() == Meaning::Denied
        {
            self.denied = self.denied.saturating_add(1);
        }
    }
}

impl Failed {
    /// The name for metrics.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Failed::Cut(_) | Failed::Unanswered(_) => "cut",
            Failed::Broken(_) => "broken",
            Failed::NoRoom { .. } => "no-room",
            Failed::Refused(refusal) => refusal.meaning().name(),
        }
    }

    /// True for what happens in every healthy day.
    pub(super) fn is_ordinary(&self) -> bool {
        match self {
            Failed::NoRoom { .. } => true,
            Failed::Refused(refusal) => {
                matches!(refusal.meaning(), Meaning::Throttled | Meaning::Expired)
            }
            Failed::Cut(_) | Failed::Unanswered(_) | Failed::Broken(_) => false,
        }
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failed::Cut(detail) => write!(f, "the connection failed: {detail}"),
            Failed::Unanswered(limit) => write!(f, "no answer within {} ms", limit.as_millis()),
            Failed::Broken(detail) => write!(f, "the answer is broken: {detail}"),
            Failed::NoRoom { bytes } => write!(f, "no room for an answer of {bytes} bytes"),
            Failed::Refused(Refusal { code, detail, .. }) => write!(f, "{code}: {detail}"),
        }
    }
}

/// When to call after an answer: at the tip after an interval, measured from the call; behind it as
/// soon as the shard's allowance lets us.
pub(super) fn after_answer(
    called: Instant,
    now: Instant,
    millis_behind_latest: u64,
    jitter: f64,
    options: &PollingOptions,
) -> Instant {
    match millis_behind_latest {
        0 => now.max(called + stretched(options.interval, jitter, 0.1)),
        _ => now,
    }
}

/// Decides what follows a failure; `history` knows of it already, `jitter` is from 0 to 1.
pub(super) fn after_failure(
    operation: &'static str,
    failed: &Failed,
    history: History,
    now: Instant,
    jitter: f64,
    options: &PollingOptions,
) -> Plan {
    let retry = |pause: Duration, keep_iterator| Plan::CallAt { at: now + pause, keep_iterator };
    let pause = backoff(history.failures, jitter, options.backoff_initial, options.backoff_max);
    match failed {
        Failed::Cut(_) | Failed::Unanswered(_) | Failed::NoRoom { .. } => retry(pause, true),
        Failed::Broken(_) => retry(pause, false),
        Failed::Refused(refusal) => match refusal.meaning() {
            Meaning::Expired if history.failures <= 1 => retry(Duration::ZERO, false),
            Meaning::Expired => retry(pause, false),
            Meaning::NotFound => {
                Plan::GiveUp(ReadError::NotFound { operation, detail: refusal.detail.clone() })
            }
            Meaning::Denied if history.denied >= options.max_refusals => {
                Plan::GiveUp(ReadError::Refused {
                    operation,
                    code: refusal.code.clone(),
                    detail: refusal.detail.clone(),
                    times: history.denied,
                })
            }
            // An iterator that is not understood is an InvalidArgumentException.
            Meaning::Denied if history.denied <= 1 => retry(pause, false),
            Meaning::Denied => retry(options.backoff_max, false),
            Meaning::Throttled | Meaning::Busy | Meaning::InUse => retry(pause, true),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str) -> Failed {
        let (code, detail) = (code.to_owned(), "d".to_owned());
        Failed::Refused(Refusal { code, detail, in_stream: false })
    }

    /// The pause in ms after so many failures of this kind in a row, and whether the iterator is kept.
    fn pause(failed: &Failed, times: u32) -> Result<(u128, bool), ReadError> {
        let (now, mut history) = (Instant::now(), History::default());
        for _ in 0..times {
            history.failed(failed);
        }
        let options = PollingOptions::default();
        match after_failure("GetRecords", failed, history, now, 1.0, &options) {
            Plan::CallAt { at, keep_iterator } => Ok(((at - now).as_millis(), keep_iterator)),
            Plan::GiveUp(error) => Err(error),
        }
    }

    #[test]
    fn throttling_backs_off_and_gives_nothing_up() {
        let throttled = refused("ProvisionedThroughputExceededException");
        let pauses = [1, 2, 3, 9, 500].map(|times| pause(&throttled, times).unwrap());
        assert_eq!(pauses, [(200, true), (400, true), (800, true), (10_000, true), (10_000, true)]);
        assert!(throttled.is_ordinary());
    }

    #[test]
    fn an_expired_iterator_is_renewed_at_once_and_not_in_a_circle() {
        let expired = refused("ExpiredIteratorException");
        assert_eq!(pause(&expired, 1), Ok((0, false)));
        assert_eq!(pause(&expired, 2), Ok((400, false)));
    }

    #[test]
    fn what_no_waiting_cures_is_tried_and_then_said() {
        let denied = refused("AccessDeniedException");
        assert_eq!(pause(&denied, 1), Ok((200, false)));
        assert_eq!(pause(&denied, 2), Ok((10_000, false)));
        assert!(matches!(pause(&denied, 4), Err(ReadError::Refused { times: 4, .. })));
        let gone = refused("ResourceNotFoundException");
        assert!(matches!(pause(&gone, 1), Err(ReadError::NotFound { .. })));
    }

    #[test]
    fn at_the_tip_it_waits_an_interval_from_the_call_and_behind_it_does_not() {
        let (options, called) = (PollingOptions::default(), Instant::now());
        let now = called + Duration::from_millis(300);
        let at = |behind, jitter| after_answer(called, now, behind, jitter, &options);
        assert_eq!(at(0, 0.0) - called, Duration::from_secs(1));
        assert_eq!(at(0, 1.0) - called, Duration::from_millis(1_100));
        assert_eq!(at(1, 0.5), now);
        let late = called + Duration::from_secs(4);
        assert_eq!(after_answer(called, late, 0, 0.5, &options), late);
    }
}
