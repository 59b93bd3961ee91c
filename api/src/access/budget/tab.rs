//! One client's tab in one task: what it has spent here, what of that the other tasks know, and what all of
//! them together had spent when the table last said so. Pure: time comes in, decisions come out.
//!
//! The bound. A task lets in at most a slice that is not in the table yet, and each answer of the table shows
//! it what all others have put there. So once the limit is reached, each task adds at most one slice more
//! before it learns so, and then waits until that is paid off: over any time D, all tasks together let in at most
//! `rate x D + burst + tasks x slice`, and a day's quota is exceeded by at most `tasks x slice`.
//! It holds while charges are answered within the patience of [`Terms`]; without answers each task goes by itself
//! ([`Look::Alone`]).

use std::time::Duration;

use store::{Charge, Usage};
use tokio::time::Instant;

use super::slices::Slices;
use super::{DAILY_BYTES, DAILY_REQUESTS, REQUESTS};
use crate::options::ClientLimits;

const SECOND_NS: i64 = 1_000_000_000;
const DAY_NS: i64 = 86_400 * SECOND_NS;
/// Pauses after charges that failed.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A rate that is paid for so many fillings of the burst ahead, and so long beyond, was paid by a wrong clock.
const MAX_FILLINGS_AHEAD: i64 = 32;
const MAX_CLOCK_ERROR_NS: i64 = 10 * SECOND_NS;

/// One moment by both clocks: deadlines go by the monotonic one, what tasks share by the wall's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) monotonic: Instant,
    /// ns since 1970.
    pub(super) wall_ns: i64,
}

impl Now {
    /// The UTC day, counted from 1970.
    pub(super) fn day(self) -> i64 {
        self.wall_ns.div_euclid(DAY_NS)
    }

    /// Until the UTC day ends.
    pub(super) fn until_tomorrow(self) -> Duration {
        duration(DAY_NS - self.wall_ns.rem_euclid(DAY_NS))
    }
}

/// What a tab is held to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) limits: ClientLimits,
    /// How long an answer of the table may take; `None`: nothing is shared, this task is the only one.
    pub(super) patience: Option<Duration>,
}

/// Requests and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Spent {
    requests: u64,
    bytes: u64,
}

/// Where the conversation with the table stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Free,
    /// A charge is under way.
    Sending {
        since: Instant,
    },
    /// The last one failed; not again before this.
    Failed {
        until: Instant,
    },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Tab {
    terms: Terms,
    slices: Slices,
    day: i64,
    /// Not told yet, told and not answered yet, and when of that was last spent.
    due: Spent,
    sent: Spent,
    spent_at_ns: i64,
    /// What the table said of `day`.
    known: Usage,
    /// The rate was used up; a part of it must come back first.
    is_used_up: bool,
    line: Line,
    failures: u32,
}

/// Whether a request may be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Yes.
    Free,
    /// Yes as far as this task knows, and the table does not tell it more.
    Alone,
    /// The slice is spent: whether there is more is being asked, and known by then.
    Asking { until: Instant },
    /// No.
    Refused { policy: &'static str, wait: Duration },
}

/// What is left of what is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    /// Requests of the burst; `None` where this task is the only one to know.
    pub(super) requests: Option<u64>,
    pub(super) requests_today: Option<u64>,
    pub(super) bytes_today: Option<u64>,
}

impl Tab {
    pub(super) fn new(terms: Terms, now: Now) -> Tab {
        Tab {
            slices: Slices::of(&terms.limits),
            terms,
            day: now.day(),
            due: Spent::default(),
            sent: Spent::default(),
            spent_at_ns: now.wall_ns,
            known: Usage::default(),
            is_used_up: false,
            line: Line::Free,
            failures: 0,
        }
    }

    /// Whether a request may be let in now. Nothing is spent yet.
    pub(super) fn look(&mut self, now: Now) -> Look {
        self.turn(now);
        let open = self.open();
        if let Some((policy, _)) = self.used_up_today() {
            return Look::Refused { policy, wait: now.until_tomorrow() };
        }
        let Some(patience) = self.terms.patience else { return Look::Free };
        if self.is_alone(now, patience) {
            return Look::Alone;
        }
        let each = self.each_ns();
        let resuming = i64::try_from(self.slices.worth_resuming()).unwrap_or(i64::MAX);
        let resuming_ns = each.saturating_mul(resuming);
        let credit = self.credit_ns(now);
        self.is_used_up = credit < if self.is_used_up { resuming_ns } else { each };
        if self.is_used_up {
            return Look::Refused { policy: REQUESTS, wait: duration(resuming_ns - credit) };
        }
        if open.requests >= self.slices.requests || open.bytes >= self.slices.bytes {
            let since = match self.line {
                Line::Sending { since } => since,
                _ => now.monotonic,
            };
            return Look::Asking { until: since + patience };
        }
        Look::Free
    }

    /// A request was let in.
    pub(super) fn spend_request(&mut self, now: Now) {
        self.turn(now);
        self.due.requests += 1;
        self.spent_at_ns = now.wall_ns;
    }

    /// Bytes went out, or came in.
    pub(super) fn spend_bytes(&mut self, bytes: u64, now: Now) {
        self.turn(now);
        self.due.bytes = self.due.bytes.saturating_add(bytes);
        self.spent_at_ns = now.wall_ns;
    }

    /// The day's quota that is used up, if one is, as (policy, quota).
    pub(super) fn used_up_today(&self) -> Option<(&'static str, u64)> {
        let left = self.left_today();
        let is_gone = |left: &Option<u64>| *left == Some(0);
        let limits = &self.terms.limits;
        if is_gone(&left.requests_today) {
            return limits.requests_per_day.map(|quota| (DAILY_REQUESTS, quota.get()));
        }
        if is_gone(&left.bytes_today) {
            return limits.bytes_per_day.map(|quota| (DAILY_BYTES, quota.get()));
        }
        None
    }

    /// What is left, as far as this task knows.
    pub(super) fn left(&mut self, now: Now) -> Left {
        self.turn(now);
        let shared = self.terms.patience.is_some_and(|patience| !self.is_alone(now, patience));
        let requests = shared.then(|| {
            let credit = u64::try_from(self.credit_ns(now)).unwrap_or(0);
            credit / u64::try_from(self.each_ns()).unwrap_or(1).max(1)
        });
        Left { requests, ..self.left_today() }
    }

    /// Whether it is time to tell the others: enough is due (or anything, if `all`), and nobody is telling them.
    pub(super) fn is_worth_telling(&self, now: Now, all: bool) -> bool {
        let due = self.due;
        let worth =
            if all { Slices { requests: 1, bytes: 1 } } else { self.slices.worth_telling() };
        let is_free = match self.line {
            Line::Free => true,
            Line::Sending { .. } => false,
            // Whoever has all told may have no other moment for it.
            Line::Failed { until } => all || now.monotonic >= until,
        };
        let is_enough = due.requests >= worth.requests || due.bytes >= worth.bytes;
        self.terms.patience.is_some() && is_free && is_enough
    }

    /// Begins to tell the others: for which day, and what.
    pub(super) fn begin_charge(&mut self, now: Now) -> (i64, Charge) {
        self.turn(now);
        self.sent = self.due;
        self.due = Spent::default();
        self.line = Line::Sending { since: now.monotonic };
        // What a task let in by itself while the table did not answer has passed; at most a slice is made up for.
        let paid = i64::try_from(self.sent.requests.min(self.slices.requests)).unwrap_or(i64::MAX);
        let is_going_on = self.known.paid_until_ns >= self.spent_at_ns;
        let paid_until_ns =
            if self.is_by_a_wrong_clock(now) { 0 } else { self.known.paid_until_ns };
        let charge = Charge {
            requests: self.sent.requests,
            bytes: self.sent.bytes,
            cost_ns: paid.saturating_mul(self.each_ns()),
            // What is paid for already is so on a new day, too.
            from_ns: self.spent_at_ns.max(paid_until_ns),
            is_going_on,
        };
        (self.day, charge)
    }

    /// The table answered.
    pub(super) fn charged(&mut self, day: i64, usage: Usage) {
        self.sent = Spent::default();
        self.line = Line::Free;
        self.failures = 0;
        if day == self.day {
            self.known = usage;
        } else {
            self.known.paid_until_ns = usage.paid_until_ns;
        }
    }

    /// It did not: the same is due again.
    pub(super) fn not_charged(&mut self, now: Now) {
        self.due.requests = self.due.requests.saturating_add(self.sent.requests);
        self.due.bytes = self.due.bytes.saturating_add(self.sent.bytes);
        self.sent = Spent::default();
        self.line = Line::Failed { until: now.monotonic + pause_after(self.failures) };
        self.failures = self.failures.saturating_add(1);
    }

    /// Quotas begin anew with the UTC day. What is due is counted on the day on which it is told.
    fn turn(&mut self, now: Now) {
        // A wall clock that is set back does not bring a day back.
        if now.day() > self.day {
            self.day = now.day();
            self.known.requests = 0;
            self.known.bytes = 0;
            if self.terms.patience.is_none() {
                self.due = Spent::default();
            }
        }
    }

    fn open(&self) -> Spent {
        Spent {
            requests: self.due.requests.saturating_add(self.sent.requests),
            bytes: self.due.bytes.saturating_add(self.sent.bytes),
        }
    }

    fn left_today(&self) -> Left {
        let (limits, open) = (&self.terms.limits, self.open());
        let left = |quota: Option<std::num::NonZeroU64>, known: u64, open: u64| {
            quota.map(|quota| quota.get().saturating_sub(known.saturating_add(open)))
        };
        Left {
            requests: None,
            requests_today: left(limits.requests_per_day, self.known.requests, open.requests),
            bytes_today: left(limits.bytes_per_day, self.known.bytes, open.bytes),
        }
    }

    /// True while the table does not say what the others do.
    fn is_alone(&self, now: Now, patience: Duration) -> bool {
        match self.line {
            Line::Free => self.is_by_a_wrong_clock(now),
            Line::Sending { since } => {
                self.failures > 0
                    || now.monotonic.duration_since(since) >= patience
                    || self.is_by_a_wrong_clock(now)
            }
            Line::Failed { .. } => true,
        }
    }

    /// True if the rate is paid for so far ahead that only a wrong clock, here or elsewhere, can have done it.
    fn is_by_a_wrong_clock(&self, now: Now) -> bool {
        let ahead = self.known.paid_until_ns.saturating_sub(now.wall_ns);
        ahead > self.fill_ns().saturating_mul(MAX_FILLINGS_AHEAD).saturating_add(MAX_CLOCK_ERROR_NS)
    }

    /// What one request costs of the rate.
    fn each_ns(&self) -> i64 {
        SECOND_NS / i64::from(self.terms.limits.rate_per_second.max(1))
    }

    /// In what time an empty burst fills.
    fn fill_ns(&self) -> i64 {
        self.each_ns().saturating_mul(i64::from(self.terms.limits.burst.max(1)))
    }

    /// What is left of the burst, after what is open.
    fn credit_ns(&self, now: Now) -> i64 {
        let full = self.fill_ns();
        let left = now.wall_ns.saturating_add(full).saturating_sub(self.known.paid_until_ns);
        let open = i64::try_from(self.open().requests).unwrap_or(i64::MAX);
        left.min(full).saturating_sub(open.saturating_mul(self.each_ns()))
    }
}

fn pause_after(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.min(8)).min(LONGEST_PAUSE)
}

fn duration(ns: i64) -> Duration {
    Duration::from_nanos(u64::try_from(ns).unwrap_or(0))
}
