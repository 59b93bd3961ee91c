//! The attempts of deliveries that did not succeed at once: what each met, kept beside whatever became of the delivery.
//!
//! An attempt is noted under its delivery's own key, so it is found again whether the delivery waits, was delivered
//! later or was given up. A delivery that succeeds at once leaves nothing here: for those a shard's marks answer
//! (`marks`).

use std::time::Duration;

use super::{DeliveryKey, DeliveryStore, kept_text};
use crate::batch::{BatchWriter, Planned};
use crate::error::StoreError;
use crate::item::{EXPIRES_AT, Item, ItemReader, PK, SK, expires_at_s, is_expired, key, n, s};
use crate::messages::{Key, PutReport, time_part};

/// How long an attempt is kept: as long as the dead letter that it may lead to.
pub const ATTEMPT_RETENTION: Duration = super::DEAD_LETTER_RETENTION;
/// The most attempts of one delivery that are read.
const MAX_READ: i32 = 100;
/// What an attempt weighs on the wire.
const WIRE_BYTES: usize = 4 * 1024;

const NUMBER: &str = "number";
const TOOK: &str = "tookMs";
const OUTCOME: &str = "outcome";
const DETAIL: &str = "detail";
const WORKER: &str = "worker";
const AT: &str = "at";

/// One attempt, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    /// Of which delivery.
    pub delivery: DeliveryKey,
    /// When it began, in ms since 1970.
    pub at_ms: i64,
    /// 1 for the delivery's first one.
    pub number: u32,
    /// From its beginning to its answer, in ms.
    pub took_ms: u64,
    /// `accepted`, or how it failed: `unhealthy`, `timed-out` and so on, as in the metrics.
    pub outcome: String,
    /// What was met, in words: the status and the beginning of the answer; cut at 1,000 characters.
    pub detail: String,
    /// Who made it.
    pub worker: String,
}

fn partition(delivery: &DeliveryKey) -> String {
    format!("attempts#{}#{}", delivery.subscription, delivery.message)
}

fn place(record: &AttemptRecord) -> Key {
    let sort = format!("{}#{:06}", time_part(record.at_ms), record.number);
    Key { partition: partition(&record.delivery), sort }
}

fn to_item(record: &AttemptRecord, at: &Key) -> Item {
    let mut item = key(at.partition.as_str(), at.sort.as_str());
    item.insert(AT.to_owned(), n(record.at_ms));
    item.insert(NUMBER.to_owned(), n(record.number));
    item.insert(TOOK.to_owned(), n(record.took_ms));
    item.insert(OUTCOME.to_owned(), s(record.outcome.as_str()));
    item.insert(DETAIL.to_owned(), s(kept_text(&record.detail)));
    item.insert(WORKER.to_owned(), s(record.worker.as_str()));
    item.insert(
        EXPIRES_AT.to_owned(),
        n(expires_at_s(record.at_ms, ATTEMPT_RETENTION.as_millis())),
    );
    item
}

impl DeliveryStore {
    /// Notes attempts, one outcome each, in order. Noting one again is harmless.
    pub async fn note_attempts(&self, records: &[AttemptRecord]) -> PutReport {
        let writer =
            BatchWriter::new(self.client.clone(), self.table.clone(), "attempt", "note attempts");
        let planned: Vec<Planned> = records
            .iter()
            .map(|record| Planned { key: place(record), wire_bytes: WIRE_BYTES })
            .collect();
        let build = |at: usize| to_item(&records[at], &planned[at].key);
        PutReport { outcomes: writer.write(&planned, &build).await }
    }

    /// The attempts of a delivery that are still kept at `now_ms`, the latest 100, oldest first.
    pub async fn attempts(
        &self,
        delivery: &DeliveryKey,
        now_ms: i64,
    ) -> Result<Vec<AttemptRecord>, StoreError> {
        let operation = "read attempts";
        let call = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#pk = :pk")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_values(":pk", s(partition(delivery)))
            .scan_index_forward(false)
            .limit(MAX_READ);
        let answer =
            Box::pin(call.send()).await.map_err(|e| StoreError::from_sdk(operation, &e))?;
        let mut found = Vec::new();
        for mut item in answer.items.unwrap_or_default().into_iter().rev() {
            item.retain(|name, _| name != SK);
            let reader = ItemReader::new(operation, item);
            if is_expired(reader.number(EXPIRES_AT)?, now_ms) {
                continue;
            }
            found.push(AttemptRecord {
                delivery: delivery.clone(),
                at_ms: reader.number(AT)?,
                number: reader.number(NUMBER)?,
                took_ms: reader.number(TOOK)?,
                outcome: reader.text(OUTCOME)?.to_owned(),
                detail: reader.text(DETAIL)?.to_owned(),
                worker: reader.text(WORKER)?.to_owned(),
            });
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{parked, store};
    use super::*;
    use crate::messages::PutOutcome;
    use crate::testing::NOW;

    #[tokio::test(start_paused = true)]
    async fn attempts_come_back_in_their_order_for_a_fortnight() {
        let (_aws, store) = store().await;
        let record = |number: u32| AttemptRecord {
            delivery: parked(1, 0).key(),
            at_ms: NOW + i64::from(number) * 60_000,
            number,
            took_ms: 17,
            outcome: "unhealthy".to_owned(),
            detail: "x".repeat(5_000),
            worker: "w1".to_owned(),
        };
        let other = AttemptRecord { delivery: parked(2, 0).key(), ..record(1) };
        let written: Vec<_> = [3, 1, 2].map(record).into_iter().chain([other]).collect();
        let report = store.note_attempts(&written).await;
        assert!(report.outcomes.iter().all(|outcome| *outcome == PutOutcome::Stored), "{report:?}");
        store.note_attempts(&written[..1]).await;
        let found = store.attempts(&parked(1, 0).key(), NOW).await.unwrap();
        assert_eq!(found.iter().map(|r| r.number).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(found[0], AttemptRecord { detail: "x".repeat(1_000), ..record(1) });
        let later = NOW + i64::try_from(ATTEMPT_RETENTION.as_millis()).unwrap() + 60_001;
        let found = store.attempts(&parked(1, 0).key(), later).await.unwrap();
        assert_eq!(found.iter().map(|r| r.number).collect::<Vec<_>>(), [2, 3]);
    }
}
