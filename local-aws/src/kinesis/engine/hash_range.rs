//! Hash keys: 128-bit integers that partition keys are hashed to, and the ranges of them that shards own.

use md5::{Digest, Md5};

/// An inclusive range of hash keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HashRange {
    pub(crate) start: u128,
    pub(crate) end: u128,
}

impl HashRange {
    /// The two ranges below `at` and from `at` on; both must be of more than one key, as the service asks.
    pub(crate) fn split(self, at: u128) -> Option<(Self, Self)> {
        let allowed = at > self.start.saturating_add(1) && at < self.end;
        allowed
            .then(|| (Self { start: self.start, end: at - 1 }, Self { start: at, end: self.end }))
    }

    /// The union, when the two touch.
    pub(crate) fn join(self, other: Self) -> Option<Self> {
        let (lower, upper) = if self.start < other.start { (self, other) } else { (other, self) };
        (lower.end.checked_add(1) == Some(upper.start))
            .then_some(Self { start: lower.start, end: upper.end })
    }
}

/// `count` equal ranges that tile the ring, the last one taking what does not divide.
pub(crate) fn uniform(count: u32) -> Vec<HashRange> {
    let starts: Vec<u128> = (0..count).map(|index| uniform_start(index, count)).collect();
    starts
        .iter()
        .enumerate()
        .map(|(index, start)| HashRange {
            start: *start,
            end: starts.get(index + 1).map_or(u128::MAX, |next| next - 1),
        })
        .collect()
}

fn uniform_start(index: u32, count: u32) -> u128 {
    // 2^128 / count, without the 2^128 that does not fit.
    let count = u128::from(count.max(1));
    let mut width = u128::MAX / count;
    if u128::MAX % count == count - 1 {
        width = width.wrapping_add(1);
    }
    width.wrapping_mul(u128::from(index))
}

/// Where a partition key falls: its MD5 as an unsigned integer.
pub(crate) fn hash_key(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into())
}

/// Reads a hash key as the API writes it: decimal, no leading zeros.
pub(crate) fn parse_hash_key(text: &str) -> Option<u128> {
    let canonical = text == "0" || !text.starts_with('0');
    (canonical && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}
