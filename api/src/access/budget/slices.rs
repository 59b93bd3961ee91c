//! How much of a client's limits one task may let in before it has told the others. Pure.
//!
//! A slice is small enough that `tasks x slice` is an overshoot one can live with, and large enough that the
//! table is asked once for many requests.

use crate::options::ClientLimits;

/// A slice of the burst, of the requests and of the bytes of a day: one in so many.
const OF_BURST: u64 = 4;
const OF_DAY: u64 = 100;
/// ... and of a second's rate, where the burst is smaller than that.
const OF_RATE: u64 = 20;

/// What one task may have let in without having told the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slices {
    /// Requests.
    pub(super) requests: u64,
    /// Bytes; no end where the client has no quota of them.
    pub(super) bytes: u64,
}

impl Slices {
    pub(super) fn of(limits: &ClientLimits) -> Slices {
        let (rate, burst) = (u64::from(limits.rate_per_second), u64::from(limits.burst).max(1));
        let of_rate = (burst / OF_BURST).max(rate / OF_RATE).clamp(1, burst);
        let of_day = |quota: u64| (quota / OF_DAY).max(1);
        Slices {
            requests: limits
                .requests_per_day
                .map_or(of_rate, |quota| of_rate.min(of_day(quota.get()))),
            bytes: limits.bytes_per_day.map_or(u64::MAX, |quota| of_day(quota.get())),
        }
    }

    /// From when on the others are told: early enough that their answer comes before the slice is spent.
    pub(super) fn worth_telling(&self) -> Slices {
        Slices { requests: (self.requests / 2).max(1), bytes: (self.bytes / 2).max(1) }
    }

    /// What must have come back before a client that had used up its rate is let in again, so that it does not
    /// cost a call for each request.
    pub(super) fn worth_resuming(&self) -> u64 {
        (self.requests / 4).max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    fn slice(rate_per_second: u32, burst: u32, requests_per_day: u64) -> u64 {
        let requests_per_day = NonZeroU64::new(requests_per_day);
        let limits =
            ClientLimits { rate_per_second, burst, requests_per_day, ..ClientLimits::default() };
        Slices::of(&limits).requests
    }

    #[test]
    fn a_slice_is_a_quarter_of_the_burst_or_a_hundredth_of_the_day_whichever_is_less() {
        assert_eq!(slice(50, 100, 0), 25);
        assert_eq!(slice(100, 100, 100_000), 25);
        assert_eq!(slice(100, 100, 1_000), 10);
        assert_eq!(slice(100, 100, 7), 1);
    }

    #[test]
    fn a_small_burst_of_a_high_rate_is_not_told_one_by_one_and_never_exceeded() {
        assert_eq!(slice(1_000, 100, 0), 50);
        assert_eq!(slice(1_000, 10, 0), 10);
        assert_eq!(slice(1_000, 1, 0), 1);
        assert_eq!(slice(1, 1, 0), 1);
    }

    #[test]
    fn a_client_is_always_told_of_and_always_comes_back() {
        for burst in 1..200 {
            for rate in [1, 10, 100, 1_000] {
                let limits =
                    ClientLimits { rate_per_second: rate, burst, ..ClientLimits::default() };
                let slices = Slices::of(&limits);
                let untold = slices.worth_telling().requests - 1;
                assert!(slices.worth_telling().requests <= slices.requests);
                assert!(untold + slices.worth_resuming() <= u64::from(burst), "{rate} {burst}");
            }
        }
    }
}
