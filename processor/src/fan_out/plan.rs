//! What follows when a subscription ends: when to ask for the next one, or when to give up.
//!
//! Pure: time, history and chance come in, a [`Plan`] goes out.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::FanOutOptions;
use crate::reader::ReadError;
use crate::reader::pause::{backoff, stretched};
use crate::reader::refusal::{Meaning, Refusal};

const OPERATION: &str = "SubscribeToShard";

/// Why there is no subscription (any more).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// The service closed it between two events: its five minutes are over.
    Expired,
    /// The connection failed.
    Cut(String),
    /// The call was not answered in this time.
    Unanswered(Duration),
    /// What came is not an event stream, or not as it should be.
    Broken(String),
    /// Nothing was heard for too long.
    Silent,
    /// The reading budget had no room for a frame: it was given up rather than left unread.
    NoRoom { bytes: usize },
    /// The service said why, in answer to the call or in the stream.
    Refused(Refusal),
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    SubscribeAt(Instant),
    GiveUp(ReadError),
}

/// What happened so far, as far as the next decision needs it.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    called: Option<Instant>,
    accepted: Option<Instant>,
    /// Ends in a row without an event between them that call for longer and longer pauses.
    failures: u32,
    /// Silent subscriptions in a row without an event between them.
    silent: u32,
    /// Refusals in a row that no waiting will cure.
    denied: u32,
}

impl History {
    /// A call was made.
    pub(super) fn called(&mut self, at: Instant) {
        self.called = Some(at);
    }

    /// A call was answered with a stream.
    pub(super) fn accepted(&mut self, at: Instant) {
        self.accepted = Some(at);
        self.denied = 0;
    }

    /// An event came: whatever went wrong before is over.
    pub(super) fn event(&mut self) {
        (self.failures, self.silent, self.denied) = (0, 0, 0);
    }

    /// A subscription ended or was refused.
    pub(super) fn ended(&mut self, ended: &Ended) {
        if !ended.is_ordinary() || matches!(ended, Ended::NoRoom { .. }) {
            self.failures = self.failures.saturating_add(1);
        }
        match ended {
            Ended::Silent => self.silent = self.silent.saturating_add(1),
            Ended::Refused(refusal) if refusal.meaning() == Meaning::Denied => {
                self.denied = self.denied.saturating_add(1);
            }
            _ => {}
        }
    }
}

impl Ended {
    /// True for what happens in every healthy day.
    pub(super) fn is_ordinary(&self) -> bool {
        match self {
            Ended::Expired | Ended::NoRoom { .. } => true,
            Ended::Refused(refusal) => refusal.meaning() == Meaning::InUse && !refusal.in_stream,
            _ => false,
        }
    }

    /// The name for metrics.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Ended::Expired => "expired",
            Ended::Cut(_) | Ended::Unanswered(_) => "cut",
            Ended::Broken(_) => "broken",
            Ended::Silent => "silent",
            Ended::NoRoom { .. } => "no-room",
            Ended::Refused(refusal) => refusal.meaning().name(),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Expired => f.write_str("the service ended it"),
            Ended::Cut(detail) => write!(f, "the connection failed: {detail}"),
            Ended::Unanswered(limit) => write!(f, "no answer within {} ms", limit.as_millis()),
            Ended::Broken(detail) => write!(f, "the event stream is broken: {detail}"),
            Ended::Silent => f.write_str("nothing was heard for too long"),
            Ended::NoRoom { bytes } => {
                write!(f, "the reading budget has no room for a frame of {bytes} bytes")
            }
            Ended::Refused(Refusal { code, detail, .. }) => write!(f, "{code}: {detail}"),
        }
    }
}

/// The first moment at which the service would take another call; `None` before the first call.
pub(super) fn earliest(history: &History, jitter: f64, options: &FanOutOptions) -> Option<Instant> {
    let after_call = history.called.map(|at| at + stretched(options.call_interval, jitter, 0.25));
    let after_success =
        history.accepted.map(|at| at + stretched(options.takeover_interval, jitter, 0.1));
    after_call.max(after_success)
}

/// Decides what follows; `history` knows of this end already, `jitter` is from 0 to 1.
pub(super) fn after(
    ended: &Ended,
    history: &History,
    now: Instant,
    jitter: f64,
    options: &FanOutOptions,
) -> Plan {
    let pause = match ended {
        Ended::Expired => Duration::ZERO,
        Ended::Silent if history.silent >= options.max_inactive => {
            return Plan::GiveUp(ReadError::Inactive { subscriptions: history.silent });
        }
        Ended::Silent => Duration::ZERO,
        Ended::Cut(_) | Ended::Unanswered(_) | Ended::Broken(_) | Ended::NoRoom { .. } => {
            failed(history, jitter, options)
        }
        Ended::Refused(refusal) => match refusal.meaning() {
            Meaning::NotFound => {
                return Plan::GiveUp(ReadError::NotFound {
                    operation: OPERATION,
                    detail: refusal.detail.clone(),
                });
            }
            Meaning::Denied if history.denied >= options.max_refusals => {
                return Plan::GiveUp(ReadError::Refused {
                    operation: OPERATION,
                    code: refusal.code.clone(),
                    detail: refusal.detail.clone(),
                    times: history.denied,
                });
            }
            Meaning::Denied => options.backoff_max,
            // Somebody else took the subscription over, a moment ago: earlier calls are refused.
            Meaning::InUse if refusal.in_stream => {
                stretched(options.takeover_interval, jitter, 0.1)
            }
            Meaning::InUse => stretched(options.call_interval, jitter, 1.0),
            Meaning::Throttled | Meaning::Busy | Meaning::Expired => {
                failed(history, jitter, options)
            }
        },
    };
    let earliest = earliest(history, jitter, options).unwrap_or(now);
    Plan::SubscribeAt(earliest.max(now + pause))
}

fn failed(history: &History, jitter: f64, options: &FanOutOptions) -> Duration {
    backoff(history.failures, jitter, options.backoff_initial, options.backoff_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1000;

    fn at(base: Instant, seconds: f64) -> Instant {
        base + Duration::from_secs_f64(seconds)
    }

    fn refused(code: &str, in_stream: bool) -> Ended {
        Ended::Refused(Refusal { code: code.to_owned(), detail: "d".to_owned(), in_stream })
    }

    /// Plans at `NOW_S`, with a history that began `since` seconds before.
    fn plan(
        ended: &Ended,
        since_accepted_s: f64,
        repeated: u32,
        jitter: f64,
    ) -> Result<f64, ReadError> {
        let base = Instant::now();
        let now = at(base, NOW_S as f64);
        let mut history = History::default();
        history.called(at(base, NOW_S as f64 - since_accepted_s));
        history.accepted(at(base, NOW_S as f64 - since_accepted_s));
        for _ in 0..repeated {
            history.ended(ended);
        }
        match after(ended, &history, now, jitter, &FanOutOptions::default()) {
            Plan::SubscribeAt(then) => Ok((then - now).as_secs_f64()),
            Plan::GiveUp(error) => Err(error),
        }
    }

    #[test]
    fn an_expired_subscription_is_renewed_at_once() {
        assert_eq!(plan(&Ended::Expired, 300.0, 1, 0.5), Ok(0.0));
        assert_eq!(plan(&Ended::Silent, 35.0, 1, 0.5), Ok(0.0));
    }

    #[test]
    fn within_five_seconds_of_our_own_success_no_call_is_made() {
        for ended in [
            Ended::Expired,
            refused("ResourceInUseException", false),
            Ended::Cut("reset".to_owned()),
        ] {
            assert_eq!(plan(&ended, 1.0, 1, 0.0), Ok(4.0), "{ended}");
        }
    }

    #[test]
    fn in_use_is_paced_at_a_second_and_never_escalates() {
        for repeated in [1, 2, 50] {
            let pause = plan(&refused("ResourceInUseException", false), 100.0, repeated, 0.25);
            assert_eq!(pause, Ok(1.25));
        }
        assert_eq!(plan(&refused("ResourceInUseException", true), 100.0, 1, 0.0), Ok(5.0));
    }

    #[test]
    fn failures_back_off_with_jitter_up_to_a_bound() {
        let cut = Ended::Cut("reset".to_owned());
        let pauses: Vec<f64> = (1..=8).map(|n| plan(&cut, 100.0, n, 1.0).unwrap()).collect();
        assert_eq!(pauses, [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]);
        assert_eq!(plan(&cut, 100.0, 1, 0.0), Ok(0.1));
        assert_eq!(plan(&refused("LimitExceededException", false), 100.0, 30, 0.0), Ok(5.0));
        assert_eq!(
            plan(&refused("InternalFailureException", true), 100.0, u32::from(u16::MAX), 0.0),
            Ok(5.0)
        );
    }

    #[test]
    fn an_event_ends_a_row_of_failures() {
        let mut history = History::default();
        for _ in 0..5 {
            history.ended(&Ended::Silent);
        }
        history.event();
        history.ended(&Ended::Silent);
        let plan = after(&Ended::Silent, &history, Instant::now(), 0.0, &FanOutOptions::default());
        assert!(matches!(plan, Plan::SubscribeAt(_)));
    }

    #[test]
    fn three_silent_subscriptions_in_a_row_are_given_up() {
        assert!(plan(&Ended::Silent, 35.0, 2, 0.0).is_ok());
        let given_up = plan(&Ended::Silent, 35.0, 3, 0.0);
        assert_eq!(given_up, Err(ReadError::Inactive { subscriptions: 3 }));
    }

    #[test]
    fn what_does_not_exist_is_said_at_once_and_is_no_end() {
        let error = plan(&refused("ResourceNotFoundException", true), 10.0, 1, 0.0);
        assert_eq!(
            error,
            Err(ReadError::NotFound { operation: OPERATION, detail: "d".to_owned() })
        );
    }

    #[test]
    fn what_no_waiting_cures_is_tried_slowly_and_then_said() {
        let denied = refused("AccessDeniedException", false);
        assert_eq!(plan(&denied, 100.0, 1, 0.0), Ok(10.0));
        assert!(matches!(plan(&denied, 100.0, 4, 0.0), Err(ReadError::Refused { times: 4, .. })));
    }
}
