//! How long a reader waits after a failure. Pure: chance comes in, a duration goes out.

use std::time::Duration;

/// Doubles with each failure from `initial` up to `max`; the second half of it is left to chance
/// (`jitter`, from 0 to 1).
pub(crate) fn backoff(failures: u32, jitter: f64, initial: Duration, max: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    initial.saturating_mul(1 << doublings).min(max).mul_f64(0.5 + jitter / 2.0)
}

/// `base`, and up to `share` of it more.
pub(crate) fn stretched(base: Duration, jitter: f64, share: f64) -> Duration {
    base.mul_f64(1.0 + jitter * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_a_bound_and_half_of_it_is_chance() {
        let (initial, max) = (Duration::from_millis(200), Duration::from_secs(10));
        let pauses = |jitter| [1, 2, 3, 7, u32::MAX].map(|n| backoff(n, jitter, initial, max));
        assert_eq!(pauses(1.0).map(|pause| pause.as_millis()), [200, 400, 800, 10_000, 10_000]);
        assert_eq!(pauses(0.0).map(|pause| pause.as_millis()), [100, 200, 400, 5_000, 5_000]);
        assert_eq!(stretched(initial, 0.5, 0.5), Duration::from_millis(250));
    }
}
