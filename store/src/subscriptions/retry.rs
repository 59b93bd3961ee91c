//! When to try again: a pure function over a schedule.

use std::time::Duration;

/// Standard Webhooks' schedule: 0 s, 5 s, 5 m, 30 m, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h (75 h 35 m 5 s).
pub const STANDARD_RETRY_SCHEDULE_MS: [u64; 10] = [
    0, 5_000, 300_000, 1_800_000, 7_200_000, 18_000_000, 36_000_000, 50_400_000, 72_000_000,
    86_400_000,
];

/// Share of a delay by which jitter moves it either way.
const JITTER: f64 = 0.2;

/// How long to wait after `attempts` attempts were made, or `None` if the schedule is exhausted.
///
/// `schedule[n]` is the delay before attempt `n + 1`, in ms. `jitter_unit` (0.0 to 1.0) moves it by
/// -20 % to +20 %. A receiver's `retry_after` only ever lengthens the delay, and never beyond `cap`.
pub fn retry_delay(
    schedule: &[u64],
    attempts: u32,
    jitter_unit: f64,
    retry_after: Option<Duration>,
    cap: Duration,
) -> Option<Duration> {
    let base_ms = *schedule.get(usize::try_from(attempts).ok()?)?;
    let unit = if jitter_unit.is_finite() { jitter_unit.clamp(0.0, 1.0) } else { 0.5 };
    let own = Duration::from_millis(base_ms).mul_f64(1.0 - JITTER + 2.0 * JITTER * unit);
    Some(retry_after.map_or(own, |asked| own.max(asked.min(cap))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: Duration = Duration::from_secs(24 * 3_600);

    #[test]
    fn the_standard_schedule_lasts_75_hours_35_minutes_5_seconds() {
        let total: u64 = STANDARD_RETRY_SCHEDULE_MS.iter().sum();
        assert_eq!(total, ((75 * 60 + 35) * 60 + 5) * 1_000);
    }

    #[test]
    fn delays_follow_the_schedule_and_end_with_it() {
        let delay = |attempts| retry_delay(&STANDARD_RETRY_SCHEDULE_MS, attempts, 0.5, None, CAP);
        assert_eq!(delay(0), Some(Duration::ZERO));
        assert_eq!(delay(1), Some(Duration::from_secs(5)));
        assert_eq!(delay(9), Some(Duration::from_secs(86_400)));
        assert_eq!(delay(10), None);
        assert_eq!(delay(u32::MAX), None);
        assert_eq!(retry_delay(&[], 0, 0.5, None, CAP), None);
    }

    #[test]
    fn jitter_stays_within_a_fifth() {
        let delay = |unit| retry_delay(&[0, 10_000], 1, unit, None, CAP).unwrap();
        assert_eq!(delay(0.0), Duration::from_secs(8));
        assert_eq!(delay(1.0), Duration::from_secs(12));
        assert_eq!(delay(7.0), Duration::from_secs(12));
        assert_eq!(delay(f64::NAN), Duration::from_secs(10));
    }

    #[test]
    fn retry_after_lengthens_up_to_the_cap_and_never_shortens() {
        let delay = |asked| {
            retry_delay(
                &[0, 10_000],
                1,
                0.5,
                Some(Duration::from_secs(asked)),
                Duration::from_secs(60),
            )
        };
        assert_eq!(delay(1), Some(Duration::from_secs(10)));
        assert_eq!(delay(30), Some(Duration::from_secs(30)));
        assert_eq!(delay(u64::MAX), Some(Duration::from_secs(60)));
    }
}
