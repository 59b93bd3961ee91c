//! Marks: by when a shard's deliveries had got how far. With them "was it delivered, and when?" has an answer for every
//! message, without a row for each.
//!
//! A mark says that at a moment everything up to a position was settled: delivered, filtered out, or kept for later. What
//! is kept for later stands elsewhere; what does not was delivered between its arrival and the first mark behind it.

use std::time::Duration;

use super::DeliveryStore;
use crate::batch::{BatchWriter, Planned};
use crate::error::StoreError;
use crate::identity::Position;
use crate::item::{EXPIRES_AT, Item, ItemReader, PK, SK, expires_at_s, key, n, s};
use crate::messages::{Key, PutReport, time_part};

/// How long a mark is kept.
pub const MARK_RETENTION: Duration = super::DEAD_LETTER_RETENTION;
/// Marks looked at for one answer: a week of a shard that stands still.
const MAX_LOOKED_AT: usize = 10_080;

const AT: &str = "at";
const SEQUENCE: &str = "sequence";
const INDEX: &str = "index";
const WIRE_BYTES: usize = 1024;

/// How far a shard's deliveries had got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The stream.
    pub stream_arn: String,
    /// The shard.
    pub shard_id: String,
    /// Everything up to this sequence number, and to this index in its aggregate, was settled; `None` is all of an ended
    /// shard.
    pub upto: Option<(String, u64)>,
    /// When that was so, in ms since 1970.
    pub at_ms: i64,
}

fn partition(stream_arn: &str, shard_id: &str) -> String {
    format!("settled#{stream_arn}#{shard_id}")
}

fn place(mark: &Mark) -> Key {
    let partition = partition(&mark.stream_arn, &mark.shard_id);
    Key { partition, sort: time_part(mark.at_ms) }
}

fn to_item(mark: &Mark, at: &Key) -> Item {
    let mut item = key(at.partition.as_str(), at.sort.as_str());
    item.insert(AT.to_owned(), n(mark.at_ms));
    if let Some((sequence, index)) = &mark.upto {
        item.insert(SEQUENCE.to_owned(), s(sequence.as_str()));
        item.insert(INDEX.to_owned(), n(index));
    }
    item.insert(EXPIRES_AT.to_owned(), n(expires_at_s(mark.at_ms, MARK_RETENTION.as_millis())));
    item
}

/// Whether a mark's position is at or behind a message's. Sequence numbers have no leading zeros.
fn covers(mark: Option<(&str, u64)>, message: &Position) -> bool {
    let sequence = &*message.sequence;
    mark.is_none_or(|(mark, index)| {
        (mark.len(), mark, index) >= (sequence.len(), sequence, u64::from(message.index))
    })
}

impl DeliveryStore {
    /// Writes marks, one outcome each, in order. Writing one again is harmless.
    pub async fn mark_settled(&self, marks: &[Mark]) -> PutReport {
        let writer =
            BatchWriter::new(self.client.clone(), self.table.clone(), "mark", "mark settled");
        let planned: Vec<Planned> =
            marks.iter().map(|mark| Planned { key: place(mark), wire_bytes: WIRE_BYTES }).collect();
        let build = |at: usize| to_item(&marks[at], &planned[at].key);
        PutReport { outcomes: writer.write(&planned, &build).await }
    }

    /// When the message at `position`, which arrived at `arrived_at_ms`, had certainly been settled, in ms since 1970;
    /// `None` if no mark that is still kept says so.
    pub async fn settled_by(
        &self,
        position: &Position,
        arrived_at_ms: i64,
    ) -> Result<Option<i64>, StoreError> {
        let operation = "read marks";
        let mut marks = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#pk = :pk AND #sk >= :from")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#sk", SK)
            .expression_attribute_values(
                ":pk",
                s(partition(&position.stream_arn, &position.shard_id)),
            )
            .expression_attribute_values(":from", s(time_part(arrived_at_ms)))
            .into_paginator()
            .items()
            .send();
        for _ in 0..MAX_LOOKED_AT {
            let Some(item) = marks.next().await else { break };
            let item = item.map_err(|e| StoreError::from_sdk(operation, &e))?;
            let reader = ItemReader::new(operation, item);
            let upto = match reader.optional_text(SEQUENCE)? {
                Some(sequence) => Some((sequence, reader.number(INDEX)?)),
                None => None,
            };
            if covers(upto, position) {
                return reader.number(AT).map(Some);
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::store;
    use super::*;
    use crate::messages::PutOutcome;
    use crate::testing::NOW;

    #[tokio::test(start_paused = true)]
    async fn the_first_mark_behind_a_message_says_by_when_it_was_settled() {
        let (_aws, store) = store().await;
        let mark = |minute: i64, upto: Option<(&str, u64)>| Mark {
            stream_arn: "arn".to_owned(),
            shard_id: "shard-1".to_owned(),
            upto: upto.map(|(sequence, index)| (sequence.to_owned(), index)),
            at_ms: NOW + minute * 60_000,
        };
        let marks = [
            mark(0, Some(("9", 0))),
            mark(1, Some(("10", 0))),
            mark(2, Some(("10", 1))),
            mark(3, None),
        ];
        let report = store.mark_settled(&marks).await;
        assert!(report.outcomes.iter().all(|outcome| *outcome == PutOutcome::Stored), "{report:?}");
        let by = async |sequence: &str, index: u32, arrived: i64| {
            let position = Position {
                stream_arn: "arn".into(),
                shard_id: "shard-1".into(),
                sequence: sequence.into(),
                index,
            };
            let found = store.settled_by(&position, arrived).await.unwrap();
            found.map(|at_ms| (at_ms - NOW) / 60_000)
        };
        assert_eq!(by("8", 7, NOW - 5).await, Some(0));
        assert_eq!(by("10", 0, NOW - 5).await, Some(1));
        assert_eq!(by("10", 1, NOW - 5).await, Some(2), "the second half of an aggregate");
        assert_eq!(by("10", 0, NOW + 61_000).await, Some(2), "no mark of before it arrived counts");
        assert_eq!(by("999", 0, NOW).await, Some(3), "an ended shard has settled all");
        assert_eq!(by("8", 0, NOW + 200_000).await, None);
    }
}
