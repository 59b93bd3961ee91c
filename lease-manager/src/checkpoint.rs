//! How far a shard has been read: sequence numbers, and checkpoints in the Kinesis Client Library's order and form.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::ids::InvalidName;

/// A Kinesis sequence number: a decimal number of up to 129 digits, ordered as a number.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SequenceNumber(Arc<str>);

impl SequenceNumber {
    /// Reads `0|[1-9][0-9]{0,128}`; leading zeros are refused, so equal numbers are equal texts.
    pub fn parse(text: impl Into<Arc<str>>) -> Result<Self, InvalidName> {
        let text = text.into();
        Self::check(&*text)?;
        Ok(Self(text))
    }

    /// Whether [`SequenceNumber::parse`] would read the text; for readers that keep the text where
    /// it is, and may not know yet that it is UTF-8.
    pub fn check(text: impl AsRef<[u8]>) -> Result<(), InvalidName> {
        let text = text.as_ref();
        // Every byte is looked at, so that many are looked at together.
        let digits = text.iter().fold(true, |all, byte| all & byte.is_ascii_digit());
        if digits && (1..=129).contains(&text.len()) && (text.len() == 1 || text[0] != b'0') {
            Ok(())
        } else {
            Err(InvalidName::new(
                "sequence number",
                &String::from_utf8_lossy(text),
                "1 to 129 decimal digits without leading zeros",
            ))
        }
    }

    /// The number's decimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number's decimal digits, shared.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl Ord for SequenceNumber {
    fn cmp(&self, other: &Self) -> Ordering {
        // Without leading zeros the longer number is the larger one.
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for SequenceNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for SequenceNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// How far a shard, or one lane of it, has been read. The variants stand in the Kinesis Client Library's order, which
/// `Ord` follows: everything below `At` means that no record was acknowledged yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Checkpoint {
    /// Start at a time, which the lease keeps beside the checkpoint.
    AtTimestamp,
    /// Start at the oldest record that the stream still keeps.
    TrimHorizon,
    /// Start at the newest record.
    Latest,
    /// Everything up to and including this record (of an aggregate: this sub-record) is settled.
    At {
        /// The record.
        sequence: SequenceNumber,
        /// The index inside an aggregated record; 0 otherwise.
        sub_sequence: u64,
    },
    /// Everything in the shard is settled, and the shard is closed.
    ShardEnd,
}

impl Checkpoint {
    /// The checkpoint of a whole record.
    pub fn at(sequence: SequenceNumber) -> Self {
        Self::At { sequence, sub_sequence: 0 }
    }

    /// Reads the attribute pair `checkpoint`, `checkpointSubSequenceNumber`.
    pub fn parse(text: &str, sub_sequence: u64) -> Result<Self, InvalidName> {
        Ok(match text {
            "AT_TIMESTAMP" => Self::AtTimestamp,
            "TRIM_HORIZON" => Self::TrimHorizon,
            "LATEST" => Self::Latest,
            "SHARD_END" => Self::ShardEnd,
            digits => Self::At { sequence: SequenceNumber::parse(digits)?, sub_sequence },
        })
    }

    /// The text of the attribute `checkpoint`.
    pub fn text(&self) -> &str {
        match self {
            Self::AtTimestamp => "AT_TIMESTAMP",
            Self::TrimHorizon => "TRIM_HORIZON",
            Self::Latest => "LATEST",
            Self::At { sequence, .. } => sequence.as_str(),
            Self::ShardEnd => "SHARD_END",
        }
    }

    /// The value of the attribute `checkpointSubSequenceNumber`.
    pub fn sub_sequence(&self) -> u64 {
        if let Self::At { sub_sequence, .. } = self { *sub_sequence } else { 0 }
    }

    /// True once a record was acknowledged, or the shard's end.
    pub fn has_moved(&self) -> bool {
        matches!(self, Self::At { .. } | Self::ShardEnd)
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At { sequence, sub_sequence } if *sub_sequence > 0 => {
                write!(f, "{sequence}:{sub_sequence}")
            }
            other => f.write_str(other.text()),
        }
    }
}

impl Serialize for Checkpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, sub: u64) -> Checkpoint {
        Checkpoint::parse(text, sub).unwrap()
    }

    #[test]
    fn sequence_numbers_are_ordered_as_numbers() {
        let number = |t: &str| SequenceNumber::parse(t).unwrap();
        assert!(number("9") < number("10"));
        assert!(number("99999999999999999999") < number("100000000000000000000"));
        assert!(number("0") < number("1"));
        assert_eq!(number("42").cmp(&number("42")), Ordering::Equal);
        let digits = "1".repeat(130);
        for bad in ["", "01", "-1", "1a", digits.as_str()] {
            assert!(SequenceNumber::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn checkpoints_stand_in_the_order_of_the_kcl() {
        let rising = [
            Checkpoint::AtTimestamp,
            Checkpoint::TrimHorizon,
            Checkpoint::Latest,
            at("9", 0),
            at("9", 1),
            at("10", 0),
            Checkpoint::ShardEnd,
        ];
        assert!(rising.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn a_checkpoint_survives_its_attribute_form() {
        for checkpoint in
            [Checkpoint::Latest, Checkpoint::ShardEnd, at("123", 7), Checkpoint::AtTimestamp]
        {
            assert_eq!(
                Checkpoint::parse(checkpoint.text(), checkpoint.sub_sequence()).unwrap(),
                checkpoint
            );
        }
        assert!(Checkpoint::parse("NONSENSE", 0).is_err());
    }
}
