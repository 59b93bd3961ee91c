//! Sequence numbers in the form of the service: 186-bit integers, written as 56 decimal digits.
//!
//! From the top: version (2 bits, `2`), the shard's creation in seconds (36), the low four bits of the shard index, the record's
//! ordinal in the shard (64), a pad byte, the record's time in seconds (36), the shard index (32), version (4 bits, `2`). The
//! creation second comes first, and a child's is later than its parents', so a child's numbers are above all of theirs.

use std::fmt;

const VERSION: u64 = 2;
const SECONDS_MASK: u64 = (1 << 36) - 1;
const ORDINAL_LOW_MASK: u64 = (1 << 48) - 1;
const CHUNK: u128 = 10_000_000_000_000_000_000;
/// The ordinal of a closed shard's ending sequence number: above every record's.
pub(crate) const LAST_ORDINAL: u64 = i64::MAX as u64;

/// A sequence number; ordered as the integer it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SequenceNumber {
    high: u64,
    low: u128,
}

/// The parts of a sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parts {
    /// Second in which the shard was created.
    pub(crate) shard_epoch_s: u64,
    /// The shard's index in its stream.
    pub(crate) shard_index: u32,
    /// Position in the shard; 0 is the shard's start, records begin at 1.
    pub(crate) ordinal: u64,
    /// 0 for records, 1 for the continuation of an idle subscription, which lies between two records.
    pub(crate) pad: u8,
    /// Second in which the number was given out.
    pub(crate) at_s: u64,
}

impl SequenceNumber {
    /// Below every number in use.
    pub(crate) const ZERO: Self = Self { high: 0, low: 0 };

    pub(crate) fn new(parts: Parts) -> Self {
        let high = VERSION << 56
            | (parts.shard_epoch_s & SECONDS_MASK) << 20
            | u64::from(parts.shard_index & 0xf) << 16
            | parts.ordinal >> 48;
        let low = u128::from(parts.ordinal & ORDINAL_LOW_MASK) << 80
            | u128::from(parts.pad) << 72
            | u128::from(parts.at_s & SECONDS_MASK) << 36
            | u128::from(parts.shard_index) << 4
            | u128::from(VERSION);
        Self { high, low }
    }

    /// The parts, or `None` when the number has not the form that the service gives out.
    pub(crate) fn parts(self) -> Option<Parts> {
        let shard_index = ((self.low >> 4) & u128::from(u32::MAX)) as u32;
        let well_formed = self.high >> 56 == VERSION
            && self.low & 0xf == u128::from(VERSION)
            && (self.high >> 16) & 0xf == u64::from(shard_index & 0xf);
        well_formed.then_some(Parts {
            shard_epoch_s: (self.high >> 20) & SECONDS_MASK,
            shard_index,
            ordinal: (self.high & 0xffff) << 48 | (self.low >> 80) as u64,
            pad: (self.low >> 72) as u8,
            at_s: (self.low >> 36) as u64 & SECONDS_MASK,
        })
    }

    /// The number just above: where a reader goes on after this one.
    pub(crate) fn next(self) -> Self {
        let (low, carry) = self.low.overflowing_add(1);
        Self { high: self.high + u64::from(carry), low }
    }

    /// Reads a decimal number (`0`, or no leading zero); `None` for anything else and for numbers above 192 bits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        let well_formed = match digits {
            [] => false,
            [b'0'] => true,
            [b'0', ..] => false,
            _ => digits.iter().all(u8::is_ascii_digit),
        };
        if !well_formed {
            return None;
        }
        let mut limbs = [0_u64; 3];
        for digit in digits {
            let mut carry = u128::from(digit - b'0');
            for limb in limbs.iter_mut().rev() {
                let sum = u128::from(*limb) * 10 + carry;
                *limb = sum as u64;
                carry = sum >> 64;
            }
            if carry != 0 {
                return None;
            }
        }
        Some(Self { high: limbs[0], low: u128::from(limbs[1]) << 64 | u128::from(limbs[2]) })
    }

    /// The number in chunks of nineteen decimal digits, most significant first.
    fn chunks(self) -> [u64; 4] {
        let mut limbs = [self.high, (self.low >> 64) as u64, self.low as u64];
        let mut chunks = [0_u64; 4];
        for chunk in chunks.iter_mut().rev() {
            let mut remainder = 0_u128;
            for limb in &mut limbs {
                let value = remainder << 64 | u128::from(*limb);
                *limb = (value / CHUNK) as u64;
                remainder = value % CHUNK;
            }
            *chunk = remainder as u64;
        }
        chunks
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chunks = self.chunks();
        let first = chunks.iter().position(|chunk| *chunk != 0).unwrap_or(3);
        write!(formatter, "{}", chunks[first])?;
        for chunk in &chunks[first + 1..] {
            write!(formatter, "{chunk:019}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for SequenceNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
