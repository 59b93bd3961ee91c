//! How much one client may ask for: GCRA over requests, a count over what is in work, and how both
//! are told to the client (`RateLimit-Policy`, `RateLimit` of
//! draft-ietf-httpapi-ratelimit-headers). Knows nothing of keys or grants.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::options::ClientLimits;
use crate::routes::problem::whole_seconds_up;

const POLICY_FIELD: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT_FIELD: HeaderName = HeaderName::from_static("ratelimit");

/// Name of the policy over requests per time.
pub(crate) const REQUESTS: &str = "requests";
/// Name of the policy over requests at the same time.
pub(crate) const CONCURRENT: &str = "concurrent";

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

/// The state of one client's limits in this process.
#[derive(Debug)]
pub(crate) struct Gate {
    limits: ClientLimits,
    requests: Limiter,
    concurrent: Arc<Semaphore>,
}

/// A request that was let in; it counts as in work until this is dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    /// What is left, for the answer's fields.
    pub(crate) standing: Standing,
    /// Held while the answer is made.
    pub(crate) permit: OwnedSemaphorePermit,
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

/// What a client has left, as a pure value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The client's limits.
    pub(crate) limits: ClientLimits,
    /// Requests that may come now.
    pub(crate) remaining: u32,
    /// Until there are more: until the full burst, or, with none left, until the next one.
    pub(crate) until_more: Duration,
}

impl Gate {
    pub(crate) fn new(limits: ClientLimits) -> Self {
        Self {
            limits,
            requests: limiter(limits.rate_per_second, limits.burst),
            concurrent: Arc::new(Semaphore::new(limits.concurrent.max(1) as usize)),
        }
    }

    /// The limits that this gate was made for.
    pub(crate) fn limits(&self) -> ClientLimits {
        self.limits
    }

    /// Takes one request out of the budget, or says which policy stands against it.
    pub(crate) fn admit(&self) -> Result<Admission, Refusal> {
        let standing = match self.requests.check() {
            Ok(snapshot) => self.standing(snapshot.remaining_burst_capacity()),
            Err(not_until) => {
                let wait = not_until.wait_time_from(self.requests.clock().now());
                let standing = Standing { limits: self.limits, remaining: 0, until_more: wait };
                return Err(Refusal { policy: REQUESTS, wait, standing });
            }
        };
        let permit = Arc::clone(&self.concurrent).try_acquire_owned().map_err(|_| Refusal {
            policy: CONCURRENT,
            wait: Duration::from_secs(1),
            standing,
        })?;
        Ok(Admission { standing, permit })
    }

    fn standing(&self, remaining: u32) -> Standing {
        let each = Duration::from_secs(1) / self.limits.rate_per_second.max(1);
        let missing = if remaining == 0 { 1 } else { self.limits.burst.saturating_sub(remaining) };
        Standing { limits: self.limits, remaining, until_more: each * missing }
    }
}

/// Writes `RateLimit-Policy` and `RateLimit`. The bucket is described as `burst` requests in the
/// time that it takes to fill, which is the same sustained rate.
pub(crate) fn write_fields(standing: &Standing, headers: &mut HeaderMap) {
    let limits = standing.limits;
    let window_s = limits.burst.div_ceil(limits.rate_per_second.max(1)).max(1);
    let policy = format!(
        "\"{REQUESTS}\";q={};w={window_s}, \"{CONCURRENT}\";q={};qu=\"concurrent-requests\"",
        limits.burst, limits.concurrent
    );
    let seconds = whole_seconds_up(standing.until_more);
    let limit = format!("\"{REQUESTS}\";r={};t={seconds}", standing.remaining);
    for (name, value) in [(POLICY_FIELD, policy), (LIMIT_FIELD, limit)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ClientLimits = ClientLimits { rate_per_second: 2, burst: 5, concurrent: 3 };

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_then_the_sustained_rate_holds() {
        let gate = Gate::new(LIMITS);
        for left in (0..5).rev() {
            assert_eq!(gate.admit().unwrap().standing.remaining, left);
        }
        let refusal = gate.admit().unwrap_err();
        assert_eq!((refusal.policy, refusal.wait), (REQUESTS, Duration::from_millis(500)));
        tokio::time::advance(refusal.wait).await;
        assert!(gate.admit().is_ok());
        assert!(gate.admit().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_in_work_is_counted_until_it_is_dropped() {
        let gate = Gate::new(LIMITS);
        let held: Vec<_> = (0..3).map(|_| gate.admit().unwrap()).collect();
        assert_eq!(gate.admit().unwrap_err().policy, CONCURRENT);
        drop(held);
        assert!(gate.admit().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_fields_have_the_drafts_form() {
        let gate = Gate::new(LIMITS);
        let mut headers = HeaderMap::new();
        write_fields(&gate.admit().unwrap().standing, &mut headers);
        assert_eq!(
            headers["ratelimit-policy"],
            "\"requests\";q=5;w=3, \"concurrent\";q=3;qu=\"concurrent-requests\""
        );
        assert_eq!(headers["ratelimit"], "\"requests\";r=4;t=1");
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_never_earlier_than_the_field_says() {
        let gate = Gate::new(ClientLimits { rate_per_second: 1, burst: 1, concurrent: 9 });
        drop(gate.admit());
        tokio::time::advance(Duration::from_millis(300)).await;
        let refusal = gate.admit().unwrap_err();
        assert_eq!(refusal.wait, Duration::from_millis(700));
        assert_eq!(whole_seconds_up(refusal.wait), whole_seconds_up(refusal.standing.until_more));
    }
}
