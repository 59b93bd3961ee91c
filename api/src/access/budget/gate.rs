//! One client's limits in this task: GCRA over requests, a count over what is in work, and the tab that it shares with
//! the other tasks.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use store::{Charge, ClientId};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::desk::Desk;
use super::fields::Standing;
use super::tab::{Look, Now, Tab, Terms};
use super::{CONCURRENT, REQUESTS};
use crate::metrics;
use crate::options::ClientLimits;

/// Answers of the table that one request waits for: each lets at least one request in, so only a crowd that never
/// ends sees so many.
const MAX_WAITS: usize = 16;

/// Tokio's clock for governor, so that paused time counts as time.
#[derive(Clone, Debug)]
pub(crate) struct TokioClock {
    origin: Instant,
}

impl TokioClock {
    pub(crate) fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }
}

/// A limiter over one budget.
pub(crate) type Limiter =
    RateLimiter<NotKeyed, InMemoryState, TokioClock, StateInformationMiddleware>;

/// A limiter of `per_second`, with a burst; zeros count as one.
pub(crate) fn limiter(per_second: u32, burst: u32) -> Limiter {
    let quota = Quota::per_second(at_least_one(per_second)).allow_burst(at_least_one(burst));
    RateLimiter::direct_with_clock(quota, TokioClock::new()).with_middleware()
}

fn at_least_one(value: u32) -> NonZeroU32 {
    NonZeroU32::new(value).unwrap_or(NonZeroU32::MIN)
}

/// See the module.
#[derive(Debug)]
pub(super) struct Gate {
    client: ClientId,
    limits: ClientLimits,
    /// What this task lets in at most, whatever the others do, ...
    requests: Limiter,
    /// ... and while it does not know what they do.
    alone: Limiter,
    concurrent: Arc<Semaphore>,
    /// What was left of the burst here after the last request that was let in: at least that much still is.
    left_here: AtomicU32,
    /// Every request, every piece of a body and every answer of the table takes it for a few sums; never held over an
    /// await.
    tab: Mutex<Tab>,
    /// The table answered.
    answered: Notify,
    desk: Arc<Desk>,
}

/// A request that was let in.
#[derive(Debug)]
pub(crate) struct Admission {
    /// What is left, for the answer's fields.
    pub(crate) standing: Standing,
    /// Counts what its bodies carry; it counts as in work until this is dropped.
    pub(crate) meter: Meter,
}

/// A request that was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The name of the policy that it would break.
    pub(crate) policy: &'static str,
    /// Not worth trying earlier than after this.
    pub(crate) wait: Duration,
    /// What is left, for the answer's fields.
    pub(crate) standing: Standing,
}

/// Counts bytes of a client's request.
#[derive(Debug)]
pub(crate) struct Meter {
    gate: Arc<Gate>,
    _in_work: Option<OwnedSemaphorePermit>,
}

impl Meter {
    /// A second one of the same request, which does not keep it in work.
    pub(crate) fn beside(&self) -> Meter {
        Meter { gate: Arc::clone(&self.gate), _in_work: None }
    }

    /// What a stream asks that ends by itself when nothing is left.
    pub(crate) fn bytes_left(&self) -> BytesLeft {
        BytesLeft { gate: Arc::clone(&self.gate) }
    }

    /// So many bytes went by. False once the client's bytes of the day are used up.
    pub(crate) fn count(&self, bytes: u64) -> bool {
        let left = {
            let now = self.gate.desk.now();
            let mut tab = self.gate.tab();
            tab.spend_bytes(bytes, now);
            tab.left(now).bytes_today
        };
        self.gate.tell(false);
        left != Some(0)
    }
}

/// Tells whether a client's bytes of the day are used up, and counts none.
#[derive(Clone, Debug)]
pub(crate) struct BytesLeft {
    gate: Arc<Gate>,
}

impl BytesLeft {
    /// False once they are.
    pub(crate) fn is_any(&self) -> bool {
        let now = self.gate.desk.now();
        self.gate.tab().left(now).bytes_today != Some(0)
    }
}

/// What one try to get in came to.
enum Try {
    In(Standing),
    Out { policy: &'static str, wait: Duration },
    Wait { until: Instant },
}

impl Gate {
    pub(super) fn new(client: ClientId, limits: ClientLimits, desk: Arc<Desk>) -> Self {
        let sharing = desk.sharing();
        let tasks = sharing.map_or(1, |sharing| sharing.expected_tasks.max(1));
        let terms = Terms { limits, patience: sharing.map(|sharing| sharing.patience) };
        Self {
            client,
            limits,
            requests: limiter(limits.rate_per_second, limits.burst),
            alone: limiter(limits.rate_per_second / tasks, limits.burst / tasks),
            concurrent: Arc::new(Semaphore::new(limits.concurrent.max(1) as usize)),
            left_here: AtomicU32::new(limits.burst.max(1)),
            tab: Mutex::new(Tab::new(terms, desk.now())),
            answered: Notify::new(),
            desk,
        }
    }

    /// The limits that this gate was made for.
    pub(super) fn limits(&self) -> ClientLimits {
        self.limits
    }

    /// Takes one request out of the budget, or says which policy stands against it.
    pub(super) async fn admit(self: &Arc<Self>) -> Result<Admission, Refusal> {
        let permit = Arc::clone(&self.concurrent).try_acquire_owned();
        let permit = permit.map_err(|_| self.refusal(CONCURRENT, Duration::from_secs(1)))?;
        for _ in 0..MAX_WAITS {
            let mut answered = std::pin::pin!(self.answered.notified());
            // From here on no answer is missed.
            answered.as_mut().enable();
            match self.try_once() {
                Try::In(standing) => {
                    self.tell(false);
                    let meter = Meter { gate: Arc::clone(self), _in_work: Some(permit) };
                    return Ok(Admission { standing, meter });
                }
                Try::Out { policy, wait } => {
                    drop(permit);
                    return Err(self.refusal(policy, wait));
                }
                Try::Wait { until } => {
                    self.tell(false);
                    // Without an answer the next try goes by this task alone.
                    let _ = tokio::time::timeout_at(until, answered).await;
                }
            }
        }
        drop(permit);
        Err(self.refusal(REQUESTS, Duration::from_secs(1)))
    }

    fn try_once(&self) -> Try {
        let now = self.desk.now();
        let mut tab = self.tab();
        let limiter = match tab.look(now) {
            Look::Free => &self.requests,
            Look::Alone => {
                metrics::limited_alone();
                &self.alone
            }
            Look::Asking { until } => return Try::Wait { until },
            Look::Refused { policy, wait } => return Try::Out { policy, wait },
        };
        match limiter.check() {
            Ok(snapshot) => {
                tab.spend_request(now);
                let left = snapshot.remaining_burst_capacity();
                self.left_here.store(left, Ordering::Relaxed);
                Try::In(self.standing(&mut tab, now, left))
            }
            Err(not_until) => {
                let wait = not_until.wait_time_from(limiter.clock().now());
                Try::Out { policy: REQUESTS, wait }
            }
        }
    }

    /// The request does not get in; what is left is as it was.
    fn refusal(&self, policy: &'static str, wait: Duration) -> Refusal {
        let now = self.desk.now();
        let mut tab = self.tab();
        let standing = match policy {
            REQUESTS => Standing { until_more: wait, ..self.standing(&mut tab, now, 0) },
            _ => self.standing(&mut tab, now, self.left_here.load(Ordering::Relaxed)),
        };
        Refusal { policy, wait, standing }
    }

    /// What is left: of the requests no more than `here`, and than all tasks together have.
    fn standing(&self, tab: &mut Tab, now: Now, here: u32) -> Standing {
        let left = tab.left(now);
        let (here, burst) = (u64::from(here), u64::from(self.limits.burst));
        let remaining = left.requests.map_or(here, |shared| shared.min(here));
        let missing = if remaining == 0 { 1 } else { burst.saturating_sub(remaining) };
        let each = Duration::from_secs(1) / self.limits.rate_per_second.max(1);
        Standing {
            limits: self.limits,
            remaining,
            until_more: each * u32::try_from(missing).unwrap_or(u32::MAX),
            concurrent_left: self.concurrent.available_permits(),
            requests_today: left.requests_today,
            bytes_today: left.bytes_today,
            until_tomorrow: now.until_tomorrow(),
        }
    }

    /// Tells the other tasks everything that they do not know yet, in the background.
    pub(super) fn tell_all(self: &Arc<Self>) {
        self.tell(true);
    }

    /// Tells the other tasks, in the background, if it is time to (or anything is due, if `all`).
    fn tell(self: &Arc<Self>, all: bool) {
        let Some(first) = self.begin(all) else { return };
        let gate = Arc::clone(self);
        self.desk.tasks.spawn(async move {
            let mut next = Some(first);
            while let Some((day, charge)) = next {
                let usage = gate.desk.charge(&gate.client, day, &charge).await;
                match usage {
                    Some(usage) => gate.tab().charged(day, usage),
                    None => gate.tab().not_charged(gate.desk.now()),
                }
                gate.answered.notify_waiters();
                next = gate.begin(false);
            }
        });
    }

    fn begin(&self, all: bool) -> Option<(i64, Charge)> {
        let now = self.desk.now();
        let mut tab = self.tab();
        tab.is_worth_telling(now, all).then(|| tab.begin_charge(now))
    }

    fn tab(&self) -> MutexGuard<'_, Tab> {
        // A poisoned lock still guards whole sums.
        self.tab.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
