//! From an event's records to user records, each looked into once.
//!
//! [`decode`] takes KPL aggregates apart, finds for every user record its integration, entity and
//! time, and keeps what is not a message as [`Malformed`], with the reason: nothing is dropped
//! here but by the policy [`OutOfRange::Drop`], and that is counted. It does no I/O and never
//! copies a payload. One record is one JSON document: lines in it are not split.
//!
//! Start reading at [`decode`], then `route` and `walk`.

mod kpl;
mod metrics;
mod route;
mod walk;

#[cfg(test)]
mod tests;

use std::ops::Range;

use bytes::Bytes;
use store::{DeadReason, IntegrationName};

use crate::arena::{RawRecord, Span, append};
use crate::batch::{Batch, Entry, Found, Malformed, RawBatch, ShardContext, Tails};
use crate::buffer::Buffer;
use crate::integration::Integrations;

use kpl::Splitter;
use route::Route;
pub(crate) use route::{Arrival, EntityAt};

pub(crate) use metrics::malformed as count_malformed;
pub(crate) use route::{Scratch, read_to_end, route};

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
    decode_each(raw, integrations, options, |decoder, record| decoder.record(record))
}

/// Decodes a record that was taken out of an aggregate already, if it was in one: number `index` of it.
pub(crate) fn decode_user_record(
    raw: RawBatch,
    index: u32,
    integrations: &Integrations,
    options: &DecodeOptions,
) -> Batch {
    decode_each(raw, integrations, options, |decoder, record| {
        let (partition_key, data) = (record.partition_key, record.data);
        decoder.user_record(record, &UserRecord { index, partition_key, data });
    })
}

fn decode_each(
    raw: RawBatch,
    integrations: &Integrations,
    options: &DecodeOptions,
    record: impl Fn(&mut Decoder<'_>, &RawRecord),
) -> Batch {
    let mut decoder = Decoder {
        integrations,
        options,
        shard: &raw.shard,
        scratch: Scratch::new(integrations),
        splitter: Splitter::default(),
        arena: raw.records.arena,
        entries: Vec::with_capacity(raw.records.spans.len()),
        malformed: Vec::new(),
    };
    for span in &raw.records.spans {
        record(&mut decoder, span);
    }
    let Decoder { arena, entries, malformed, .. } = decoder;
    // From here on the lanes' budgets count for it.
    drop(raw.permit);
    let bytes = arena.capacity()
        + entries.capacity() * size_of::<Entry>()
        + malformed.iter().map(|m| size_of::<Malformed>() + m.detail.len()).sum::<usize>();
    Batch {
        shard: raw.shard,
        arena: Bytes::from_owner(Buffer::from(arena)),
        entries,
        malformed,
        tails: Tails::new(integrations.default_integration().name().clone()),
        upto: raw.upto,
        millis_behind_latest: raw.millis_behind_latest,
        children: raw.children,
        shard_ended: raw.shard_ended,
        received_at: raw.received_at,
        bytes,
    }
}

/// What is under way with one event.
struct Decoder<'a> {
    integrations: &'a Integrations,
    options: &'a DecodeOptions,
    shard: &'a ShardContext,
    scratch: Scratch,
    splitter: Splitter,
    /// The records' bytes; behind them, what had to be written down in another form.
    arena: Vec<u8>,
    entries: Vec<Entry>,
    malformed: Vec<Malformed>,
}

/// A user record: its place in the aggregate, its key and its data.
struct UserRecord {
    index: u32,
    partition_key: Span,
    data: Span,
}

impl Decoder<'_> {
    fn record(&mut self, record: &RawRecord) {
        let (partition_key, data) = (record.partition_key, record.data);
        let whole = UserRecord { index: 0, partition_key, data };
        if !kpl::is_aggregate(data.bytes(&self.arena)) {
            return self.user_record(record, &whole);
        }
        if let Err(broken) = self.aggregate(record) {
            let malformed = Malformed {
                reason: DeadReason::BrokenAggregate,
                detail: broken.to_string(),
                integration: self.default_name(),
            };
            self.push_malformed(record, &whole, malformed);
        }
    }

    /// Positions keep their index in the aggregate, whatever the policy drops.
    fn aggregate(&mut self, record: &RawRecord) -> Result<(), kpl::BrokenAggregate> {
        let range = self.shard.starting_hash_key..=self.shard.ending_hash_key;
        let keep = self.options.out_of_range == OutOfRange::Keep;
        let mut splitter = std::mem::take(&mut self.splitter);
        let bytes = record.data.bytes(&self.arena);
        let users = splitter.split(bytes, self.options.max_user_records)?;
        let mut outside = 0;
        for (index, user) in (0..).zip(users) {
            let inside = range.contains(&user.hash_key);
            outside += u64::from(!inside);
            if inside || keep {
                let within = |inner: &Range<usize>| record.data.within(inner.clone());
                let partition_key = within(&user.partition_key);
                let user = UserRecord { index, partition_key, data: within(&user.data) };
                self.user_record(record, &user);
            }
        }
        if outside > 0 {
            metrics::out_of_range(outside, keep);
        }
        self.splitter = splitter;
        Ok(())
    }

    fn user_record(&mut self, record: &RawRecord, user: &UserRecord) {
        let arrival = Arrival {
            partition_key: user.partition_key.bytes(&self.arena),
            arrived_at_ms: record.arrived_at_ms,
        };
        let payload = user.data.bytes(&self.arena);
        let route = match route(self.integrations, &mut self.scratch, payload, arrival) {
            Ok(route) => route,
            Err(malformed) => return self.push_malformed(record, user, malformed),
        };
        let entity = match route.entity {
            EntityAt::Payload(range) => user.data.within(range),
            EntityAt::PartitionKey => user.partition_key,
            EntityAt::Escaped(text) => append(&mut self.arena, text.as_bytes()),
        };
        let integration = route.integration as u32;
        let Route { time_ms, is_whole, .. } = route;
        self.push(record, user, Found::Message { integration, entity, time_ms, is_whole });
    }

    fn push_malformed(&mut self, record: &RawRecord, user: &UserRecord, malformed: Malformed) {
        metrics::malformed(malformed.reason, 1);
        let found = Found::Malformed(self.malformed.len() as u32);
        self.malformed.push(malformed);
        self.push(record, user, found);
    }

    fn push(&mut self, record: &RawRecord, user: &UserRecord, found: Found) {
        self.entries.push(Entry {
            sequence: record.sequence,
            partition_key: user.partition_key,
            payload: user.data,
            arrived_at_ms: record.arrived_at_ms,
            index: user.index,
            found,
        });
    }

    fn default_name(&self) -> IntegrationName {
        self.integrations.default_integration().name().clone()
    }
}
