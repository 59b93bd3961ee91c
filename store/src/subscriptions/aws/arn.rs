//! Amazon Resource Names taken apart, and the alphabets of what they consist of. Pure.

use std::ops::RangeInclusive;

/// Longest ARN that is looked at, in bytes.
const MAX_ARN: usize = 2_048;

/// `arn:partition:service:region:account:resource`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arn<'a> {
    pub(super) partition: &'a str,
    pub(super) service: &'a str,
    pub(super) region: &'a str,
    pub(super) account: &'a str,
    pub(super) resource: &'a str,
}

impl<'a> Arn<'a> {
    /// The parts, if the text has six of them and the partition is one of AWS's.
    pub(super) fn parse(text: &'a str) -> Option<Arn<'a>> {
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next();
        let (scheme, partition) = (next()?, next()?);
        let arn = Arn {
            partition,
            service: next()?,
            region: next()?,
            account: next()?,
            resource: next()?,
        };
        let is_partition = partition == "aws"
            || partition.strip_prefix("aws-").is_some_and(|rest| is_name(rest, 1..=20, b"-"));
        (scheme == "arn" && is_partition && text.len() <= MAX_ARN).then_some(arn)
    }
}

/// Letters, digits and these others, so many.
pub(super) fn is_name(text: &str, lengths: RangeInclusive<usize>, others: &[u8]) -> bool {
    lengths.contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || others.contains(&b))
}

/// Such as `eu-west-1`.
pub(super) fn is_region(text: &str) -> bool {
    (3..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Twelve digits.
pub(super) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}
