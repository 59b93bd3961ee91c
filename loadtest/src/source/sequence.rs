//! Sequence numbers that say which record they are: 56 decimal digits, as the service's own, always increasing in a shard.

/// The first digits of every sequence number.
const PREFIX: &str = "4965300000000000000000";
/// The last ones; the service ends its numbers with a version, too.
const SUFFIX: &str = "00000002";
const SHARD_DIGITS: usize = 6;
pub(super) const ORDINAL_DIGITS: usize = 20;
/// Digits in front of the shard's.
pub(super) const SHARD_AT: usize = PREFIX.len();

/// A record's place: its shard, and its position there. Records begin at ordinal 1; 0 is the shard's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Index of the shard in the stream.
    pub shard: u32,
    /// Position in the shard.
    pub ordinal: u64,
}

impl Position {
    /// The place that a sequence number says; `None` for one that this source never gave out.
    pub fn parse(sequence_number: &str) -> Option<Position> {
        let digits = sequence_number.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
        let well_formed = digits.len() == SHARD_DIGITS + ORDINAL_DIGITS
            && digits.bytes().all(|b| b.is_ascii_digit());
        if !well_formed {
            return None;
        }
        let (shard, ordinal) = digits.split_at(SHARD_DIGITS);
        Some(Position { shard: shard.parse().ok()?, ordinal: ordinal.parse().ok()? })
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{PREFIX}{:0SHARD_DIGITS$}{:0ORDINAL_DIGITS$}{SUFFIX}", self.shard, self.ordinal)
    }
}

/// The name of a shard.
pub(super) fn shard_id(shard: u32) -> String {
    format!("shardId-{shard:012}")
}

/// The shard of a name.
pub(super) fn shard_of(id: &str) -> Option<u32> {
    let digits = id.strip_prefix("shardId-")?;
    if digits.len() != 12 {
        return None;
    }
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_number_says_where_its_record_is_and_grows_with_it() {
        let positions = [(0, 0), (0, 1), (7, 9), (7, 10), (7, u64::MAX), (999_999, 3)];
        let mut last = String::new();
        for (shard, ordinal) in positions {
            let position = Position { shard, ordinal };
            let text = position.to_string();
            assert_eq!(text.len(), 56);
            assert_eq!(Position::parse(&text), Some(position));
            assert!(text > last, "of equal length, so text order is number order");
            last = text;
        }
    }

    #[test]
    fn other_numbers_and_names_are_nobodys() {
        let good = Position { shard: 1, ordinal: 2 }.to_string();
        for text in ["", "0", &good[1..], &good[..55], &good.replace('2', "x"), &format!("{good}0")]
        {
            assert_eq!(Position::parse(text), None, "{text}");
        }
        assert_eq!(shard_of(&shard_id(42)), Some(42));
        for id in ["", "shardId-", "shardId-1", "shardId-00000000000x", "shard-000000000001"] {
            assert_eq!(shard_of(id), None, "{id}");
        }
    }
}
