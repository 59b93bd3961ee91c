//! From an event's records to user records, each looked into once.
//!
//! [`decode`] takes KPL aggregates apart, finds for every user record its integration, entity and
//! time, and keeps what is not a message as [`Malformed`], with the reason: nothing is dropped
//! here but by the policy [`OutOfRange::Drop`], and that is counted. It does no I/O and never
//! copies a payload. One record is one JSON document: lines in it are not split.
//!
//! Start reading at [`decode`], then [`route`].

mod kpl;
mod metrics;
mod route;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use store::{DeadReason, IntegrationName};

use crate::batch::{Batch, Entry, Malformed, RawBatch, RawRecord, ShardContext};
use crate::integration::Integrations;

pub(crate) use route::{Arrival, Scratch};

/// How records become messages.
#[derive(Debug, Clone)]
pub struct DecodeOptions {
    /// What becomes of user records in an aggregate whose hash key lies outside the shard.
    pub out_of_range: OutOfRange,
    /// An aggregate of more user records than this is broken: a bound on what one record of the
    /// stream can grow into.
    pub max_user_records: usize,
}

/// What becomes of a user record that an aggregate carried into a shard it does not belong to.
///
/// A producer that aggregates across partition keys makes such records all the time; the KPL makes
/// them when it sends an aggregate of before a reshard again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutOfRange {
    /// It is kept and counted: nothing is lost, a record that was sent again comes again.
    Keep,
    /// It is dropped and counted.
    Drop,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        DecodeOptions { out_of_range: OutOfRange::Keep, max_user_records: 100_000 }
    }
}

/// Decodes one event. Entries come in stream order: by sequence number, then by index.
pub(crate) fn decode(raw: RawBatch, integrations: &Integrations, options: &DecodeOptions) -> Batch {
    let mut decoder = Decoder {
        integrations,
        options,
        shard: &raw.shard,
        scratch: Scratch::new(integrations),
        entries: Vec::with_capacity(raw.records.len()),
    };
    for record in raw.records {
        decoder.record(record);
    }
    let entries = decoder.entries;
    let bytes = entries.iter().map(charged).sum();
    Batch {
        shard: raw.shard,
        entries,
        upto: raw.upto,
        millis_behind_latest: raw.millis_behind_latest,
        children: raw.children,
        shard_ended: raw.shard_ended,
        bytes,
    }
}

/// What an entry costs in memory, about: itself, its payload and its key.
fn charged(entry: &Entry) -> usize {
    size_of::<Entry>() + entry.payload.len() + entry.partition_key.len()
}

/// What is under way with one event.
struct Decoder<'a> {
    integrations: &'a Integrations,
    options: &'a DecodeOptions,
    shard: &'a ShardContext,
    scratch: Scratch,
    entries: Vec<Entry>,
}

impl Decoder<'_> {
    fn record(&mut self, record: RawRecord) {
        if !kpl::is_aggregate(&record.data) {
            let key = Arc::clone(&record.partition_key);
            let payload = record.data.clone();
            return self.user_record(&record, 0, key, payload);
        }
        match kpl::split(&record.data, self.options.max_user_records) {
            Ok(aggregate) => self.aggregate(&record, aggregate),
            Err(broken) => {
                let malformed = Malformed {
                    reason: DeadReason::BrokenAggregate,
                    detail: broken.to_string(),
                    integration: self.default_name(),
                };
                self.push(
                    &record,
                    0,
                    Arc::clone(&record.partition_key),
                    record.data.clone(),
                    Err(malformed),
                );
            }
        }
    }

    /// Positions keep their index in the aggregate, whatever the policy drops.
    fn aggregate(&mut self, record: &RawRecord, aggregate: kpl::Aggregate) {
        let range = self.shard.starting_hash_key..=self.shard.ending_hash_key;
        let mut outside = 0;
        for user in aggregate.records {
            let inside = range.contains(&user.hash_key);
            outside += u64::from(!inside);
            if inside || self.options.out_of_range == OutOfRange::Keep {
                self.user_record(record, user.index, user.partition_key, user.data);
            }
        }
        if outside > 0 {
            metrics::out_of_range(outside, self.options.out_of_range == OutOfRange::Keep);
        }
    }

    fn user_record(&mut self, record: &RawRecord, index: u32, key: Arc<str>, payload: Bytes) {
        let arrival = Arrival { partition_key: &key, arrived_at_ms: record.arrived_at_ms };
        let route = route::route(self.integrations, &mut self.scratch, &payload, arrival);
        self.push(record, index, key, payload, route);
    }

    fn push(
        &mut self,
        record: &RawRecord,
        index: u32,
        partition_key: Arc<str>,
        payload: Bytes,
        route: Result<crate::batch::Route, Malformed>,
    ) {
        if let Err(malformed) = &route {
            metrics::malformed(malformed.reason);
        }
        self.entries.push(Entry {
            place: (record.sequence.clone(), index),
            partition_key,
            arrived_at_ms: record.arrived_at_ms,
            payload,
            route,
        });
    }

    fn default_name(&self) -> IntegrationName {
        self.integrations.default_integration().name().clone()
    }
}
