//! Sizes, durations and shares as the configuration writes them, both ways.

use std::time::Duration;

const DURATIONS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// `"250ms"`, `"10s"`, `"5m"`, `"2h"`, `"7d"`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    scaled(text, &DURATIONS).map(Duration::from_millis)
}

/// The shortest form that is exact to the millisecond.
pub(super) fn duration_text(duration: Duration) -> String {
    unscaled(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &DURATIONS, "s")
}

/// `"64MiB"`, `"512KiB"`, `"100B"`.
pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    scaled(text, &SIZES)
}

/// The shortest form that is exact.
pub(super) fn bytes_text(bytes: u64) -> String {
    unscaled(bytes, &SIZES, "B")
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

fn unscaled(value: u64, units: &[(&str, u64)], zero: &str) -> String {
    match units.iter().find(|(_, scale)| value >= *scale && value.is_multiple_of(*scale)) {
        Some((unit, scale)) => format!("{}{unit}", value / scale),
        None => format!("{value}{zero}"),
    }
}

/// How much memory a pipeline may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Budget {
    /// So many bytes.
    Bytes(u64),
    /// So many percent of the memory that the process may use.
    Percent(u8),
}

impl Budget {
    /// The budget in bytes, in a process that may use `memory_bytes` in all.
    pub(crate) fn of(self, memory_bytes: u64) -> u64 {
        match self {
            Budget::Bytes(bytes) => bytes,
            // In this order the product cannot overflow, and the error is below a hundred bytes.
            Budget::Percent(percent) => memory_bytes / 100 * u64::from(percent),
        }
    }

    pub(super) fn parse(text: &str) -> Option<Budget> {
        match text.strip_suffix('%') {
            Some(number) => {
                let percent = number.trim_end().parse().ok()?;
                (1..=80).contains(&percent).then_some(Budget::Percent(percent))
            }
            None => parse_bytes(text).map(Budget::Bytes),
        }
    }

    pub(super) fn text(self) -> String {
        match self {
            Budget::Bytes(bytes) => bytes_text(bytes),
            Budget::Percent(percent) => format!("{percent}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_and_written_alike() {
        for text in ["250ms", "10s", "5m", "36h", "7d"] {
            assert_eq!(parse_duration(text).map(duration_text).as_deref(), Some(text));
        }
        for text in ["100B", "64KiB", "8MiB", "3GiB"] {
            assert_eq!(parse_bytes(text).map(bytes_text).as_deref(), Some(text));
        }
        assert_eq!(duration_text(Duration::ZERO), "0s");
        assert_eq!(duration_text(Duration::from_millis(1_500)), "1500ms");
        for bad in [
            "",
            "10",
            "s",
            "-1s",
            "1.5s",
            "10 seconds",
            "99999999999999999999s",
            "999999999999999d",
        ] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
        for bad in ["8MB", "8 mib", "-8MiB", "MiB"] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_budget_is_bytes_or_a_share() {
        assert_eq!(Budget::parse("20%"), Some(Budget::Percent(20)));
        assert_eq!(Budget::parse("64MiB"), Some(Budget::Bytes(64 << 20)));
        for bad in ["0%", "81%", "200%", "%", "20"] {
            assert_eq!(Budget::parse(bad), None, "{bad}");
        }
        assert_eq!(Budget::Percent(20).of(1_000_000), 200_000);
        assert_eq!(Budget::Percent(80).of(u64::MAX) / (1 << 60), 12);
    }
}
