//! The rate of one destination: GCRA over tokio's clock, so that tests can pause it.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

/// At most this many attempts a second, in bursts of at most a tenth of a second; or no limit.
pub(super) struct Rate {
    per_second: Option<u32>,
    limiter: Option<RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>>,
}

impl Rate {
    /// `None` and 0 mean no limit.
    pub(super) fn new(per_second: Option<u32>, now: Instant) -> Rate {
        let limiter = per_second.and_then(NonZeroU32::new).map(|rate| {
            let burst = NonZeroU32::new(rate.get() / 10).unwrap_or(NonZeroU32::MIN);
            let quota = Quota::per_second(rate).allow_burst(burst);
            RateLimiter::direct_with_clock(quota, TokioClock { origin: now })
        });
        Rate { per_second, limiter }
    }

    /// The figure it was made with.
    pub(super) fn per_second(&self) -> Option<u32> {
        self.per_second
    }

    /// Takes the right to one attempt now, or says how long to wait before asking again.
    pub(super) fn take(&self) -> Result<(), Duration> {
        let Some(limiter) = &self.limiter else {
            return Ok(());
        };
        // A millisecond is what tokio's timer can tell apart.
        limiter.check().map_err(|not_until| {
            let wait = not_until.wait_time_from(limiter.clock().now());
            wait.max(Duration::from_millis(1))
        })
    }
}

/// tokio's clock, as governor wants to see it.
#[derive(Debug, Clone)]
struct TokioClock {
    origin: Instant,
}

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn taken_in(rate: &Rate, span: Duration) -> u32 {
        let end = Instant::now() + span;
        let mut taken = 0;
        while Instant::now() < end {
            match rate.take() {
                Ok(()) => taken += 1,
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
        taken
    }

    #[tokio::test(start_paused = true)]
    async fn ten_seconds_hold_ten_times_the_rate() {
        for per_second in [1, 7, 100, 450] {
            let rate = Rate::new(Some(per_second), Instant::now());
            let taken = taken_in(&rate, Duration::from_secs(10)).await;
            let (low, high) = (
                per_second * 10 - per_second.div_ceil(10),
                per_second * 10 + per_second.div_ceil(10),
            );
            assert!((low..=high).contains(&taken), "{taken} at {per_second}/s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_figure_nothing_waits() {
        let rate = Rate::new(None, Instant::now());
        assert!((0..10_000).all(|_| rate.take().is_ok()));
        assert!(Rate::new(Some(0), Instant::now()).take().is_ok());
    }
}
