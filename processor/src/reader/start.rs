//! Where reading starts, and what of its first records was settled before.

use std::fmt;

use aws_sdk_kinesis::types::{ShardIteratorType, StartingPosition};
use aws_smithy_types::DateTime;
use lease_manager::{Checkpoint, SequenceNumber};

use crate::batch::Place;

/// Where to start in a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StartingAt {
    /// The oldest record that the stream keeps.
    TrimHorizon,
    /// The next record to come.
    Latest,
    /// The first record at or after this moment, in ms since 1970.
    AtTimestamp(i64),
    /// This record: of an aggregate, some user records may not be settled.
    At(SequenceNumber),
    /// The first record behind this one.
    After(SequenceNumber),
}

impl StartingAt {
    /// Where a lease with this checkpoint goes on.
    ///
    /// A checkpoint at a record starts *at* that record: nobody wrote down whether it was the last
    /// of an aggregate. What is settled of it is left out by [`skip_to`]. A lease that never
    /// acknowledged a record starts at `start_at_ms` if it has one: starting at the tip again
    /// would lose what came in between.
    pub(crate) fn new(checkpoint: Checkpoint, start_at_ms: Option<i64>) -> StartingAt {
        match (checkpoint, start_at_ms) {
            (Checkpoint::At { sequence, .. }, _) => StartingAt::At(sequence),
            (Checkpoint::TrimHorizon, _) | (Checkpoint::AtTimestamp, None) => {
                StartingAt::TrimHorizon
            }
            (Checkpoint::AtTimestamp | Checkpoint::Latest, Some(ms)) => StartingAt::AtTimestamp(ms),
            // Behind the end of a shard there is only its last event, with the children.
            (Checkpoint::Latest, None) | (Checkpoint::ShardEnd, _) => StartingAt::Latest,
        }
    }

    /// The position as SubscribeToShard takes it.
    pub(crate) fn to_wire(&self) -> StartingPosition {
        let of = |kind| StartingPosition::builder().r#type(kind);
        let position = match self {
            StartingAt::TrimHorizon => of(ShardIteratorType::TrimHorizon),
            StartingAt::Latest => of(ShardIteratorType::Latest),
            StartingAt::AtTimestamp(ms) => {
                of(ShardIteratorType::AtTimestamp).timestamp(DateTime::from_millis(*ms))
            }
            StartingAt::At(sequence) => {
                of(ShardIteratorType::AtSequenceNumber).sequence_number(sequence.as_str())
            }
            StartingAt::After(sequence) => {
                of(ShardIteratorType::AfterSequenceNumber).sequence_number(sequence.as_str())
            }
        };
        #[allow(clippy::expect_used, reason = "the type is the only part that must be set, and is")]
        position.build().expect("a starting position has its type")
    }
}

impl fmt::Display for StartingAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartingAt::TrimHorizon => f.write_str("TRIM_HORIZON"),
            StartingAt::Latest => f.write_str("LATEST"),
            StartingAt::AtTimestamp(ms) => write!(f, "AT_TIMESTAMP {ms}"),
            StartingAt::At(sequence) => write!(f, "AT {sequence}"),
            StartingAt::After(sequence) => write!(f, "AFTER {sequence}"),
        }
    }
}

/// The last place that is settled at this checkpoint: entries at or before it come again and are
/// left out.
pub(crate) fn skip_to(checkpoint: &Checkpoint) -> Option<Place> {
    match checkpoint {
        Checkpoint::At { sequence, sub_sequence } => {
            Some((sequence.clone(), u32::try_from(*sub_sequence).unwrap_or(u32::MAX)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, sub_sequence: u64) -> Checkpoint {
        Checkpoint::At { sequence: SequenceNumber::parse(text).unwrap(), sub_sequence }
    }

    #[test]
    fn a_record_that_may_be_half_settled_is_read_again() {
        let start = StartingAt::new(at("42", 3), Some(1));
        assert_eq!(start, StartingAt::At(SequenceNumber::parse("42").unwrap()));
        let skip = skip_to(&at("42", 3)).unwrap();
        assert_eq!((skip.0.as_str(), skip.1), ("42", 3));
        assert_eq!(skip_to(&Checkpoint::TrimHorizon), None);
    }

    #[test]
    fn a_lease_that_began_at_the_tip_never_begins_there_again() {
        assert_eq!(StartingAt::new(Checkpoint::Latest, Some(7)), StartingAt::AtTimestamp(7));
        assert_eq!(StartingAt::new(Checkpoint::AtTimestamp, Some(7)), StartingAt::AtTimestamp(7));
        assert_eq!(StartingAt::new(Checkpoint::TrimHorizon, Some(7)), StartingAt::TrimHorizon);
        assert_eq!(StartingAt::new(Checkpoint::AtTimestamp, None), StartingAt::TrimHorizon);
    }

    #[test]
    fn the_wire_form_names_type_and_value() {
        let wire = StartingAt::AtTimestamp(1_517_363_399_650).to_wire();
        assert_eq!(wire.r#type(), &ShardIteratorType::AtTimestamp);
        assert_eq!(wire.timestamp(), Some(&DateTime::from_millis(1_517_363_399_650)));
        let wire = StartingAt::After(SequenceNumber::parse("9").unwrap()).to_wire();
        assert_eq!(wire.r#type(), &ShardIteratorType::AfterSequenceNumber);
        assert_eq!(wire.sequence_number(), Some("9"));
    }
}
