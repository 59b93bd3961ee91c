//! The pure engine: streams, shards and records of one account, and every rule about them.
//!
//! It never reads a clock, waits, or sees JSON: time is an argument and answers are values. Start at [`Engine`]; a stream's records
//! are in `stream` and `shard`, its reshards in `reshard`, its consumers in `consumer`.

mod consumer;
mod hash_range;
mod rate;
mod reshard;
mod sequence;
mod shard;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub(crate) use self::consumer::{Accepted, Consumer, Ended, consumer_not_found};
pub(crate) use self::hash_range::{HashRange, parse_hash_key};
pub(crate) use self::rate::TokenBucket;
pub(crate) use self::sequence::SequenceNumber;
pub(crate) use self::shard::{Page, READ_BYTES_PER_SECOND, Record, Shard, shard_id};
pub(crate) use self::stream::{Distribution, Mode, NewRecord, Placed, Status, Stream, StreamSpec};
use crate::kinesis::error::Refusal;

/// Open shards an account may have.
pub(crate) const MAX_OPEN_SHARDS: usize = 20_000;

/// What the engine enforces.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Whether rates are limited: shard writes and reads, and control calls.
    pub(crate) enforce: bool,
    /// Bytes of records a stream may hold.
    pub(crate) stream_bytes: usize,
    /// How long creating, resharding, registering and deleting take.
    pub(crate) transition_ms: i64,
    /// How long records are kept, whatever their stream says.
    pub(crate) retention_ms: Option<i64>,
}

/// Everything one account has.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) limits: Limits,
    pub(crate) rng: fastrand::Rng,
    streams: BTreeMap<String, Stream>,
    next_generation: u64,
    /// Rates of control calls, by operation.
    calls: BTreeMap<&'static str, TokenBucket>,
}

impl Engine {
    pub(crate) fn new(account: &str, region: &str, limits: Limits, seed: u64) -> Self {
        Self {
            account: account.to_owned(),
            region: region.to_owned(),
            limits,
            rng: fastrand::Rng::with_seed(seed),
            streams: BTreeMap::new(),
            next_generation: 1,
            calls: BTreeMap::new(),
        }
    }

    /// The ARN of the stream with a name.
    pub(crate) fn stream_arn(&self, name: &str) -> String {
        format!("arn:aws:kinesis:{}:{}:stream/{name}", self.region, self.account)
    }

    /// Forgets streams whose deletion is complete.
    pub(crate) fn settle(&mut self, now_ms: i64) {
        self.streams.retain(|_, stream| stream.status(now_ms).is_some());
    }

    /// Counts a control call against its rate.
    pub(crate) fn admit_call(
        &mut self,
        operation: &'static str,
        per_second: u32,
        now_ms: i64,
    ) -> Result<(), Refusal> {
        let bucket =
            self.calls.entry(operation).or_insert_with(|| TokenBucket::full(per_second, now_ms));
        if self.limits.enforce && !bucket.try_take(1, now_ms) {
            return Err(Refusal::LimitExceeded(format!(
                "Rate exceeded for {operation} under account {}.",
                self.account
            )));
        }
        Ok(())
    }

    /// When a change that begins now is done.
    pub(crate) fn done_at(&self, now_ms: i64) -> i64 {
        now_ms + self.limits.transition_ms
    }

    /// Open shards of all streams.
    pub(crate) fn open_shards(&self) -> usize {
        self.streams.values().map(Stream::open_shards).sum()
    }

    /// Refuses when the account cannot have `more` open shards.
    pub(crate) fn require_room(&self, more: usize) -> Result<(), Refusal> {
        let open = self.open_shards();
        if open + more <= MAX_OPEN_SHARDS {
            return Ok(());
        }
        Err(Refusal::LimitExceeded(format!(
            "This request would exceed the shard limit for the account {} in {}. Current shard count for the account: {open}. Limit: {MAX_OPEN_SHARDS}. Number of additional shards that would have resulted from this request: {more}.",
            self.account, self.region
        )))
    }

    /// Creates a stream.
    pub(crate) fn create(&mut self, spec: StreamSpec, now_ms: i64) -> Result<(), Refusal> {
        if self.streams.contains_key(&spec.name) {
            return Err(Refusal::ResourceInUse(format!(
                "Stream {} under account {} already exists.",
                spec.name, self.account
            )));
        }
        self.require_room(spec.shard_count as usize)?;
        let name = spec.name.clone();
        let mut stream = Stream::new(spec, self.next_generation, now_ms, self.done_at(now_ms));
        stream.retention_ms = self.limits.retention_ms;
        self.next_generation += 1;
        self.streams.insert(name, stream);
        Ok(())
    }

    /// Deletes a stream: its subscriptions end now, its name is free once the deletion is done.
    pub(crate) fn delete(
        &mut self,
        name: &str,
        enforce_consumer_deletion: bool,
        now_ms: i64,
    ) -> Result<(), Refusal> {
        let done_at_ms = self.done_at(now_ms);
        let stream = self.stream(name)?;
        if !stream.consumers.is_empty() && !enforce_consumer_deletion {
            return Err(Refusal::ResourceInUse(format!(
                "Stream {name} under account {} has consumers registered with it: deregister them, or set EnforceConsumerDeletion.",
                stream.account
            )));
        }
        for consumer in stream.consumers.values() {
            consumer.end_all(Ended::StreamGone);
        }
        stream.consumers.clear();
        stream.begin(Status::Deleting, done_at_ms);
        self.settle(now_ms);
        Ok(())
    }

    /// All streams by name.
    pub(crate) fn streams(&self) -> &BTreeMap<String, Stream> {
        &self.streams
    }

    /// The stream with a name, whatever its status.
    pub(crate) fn stream(&mut self, name: &str) -> Result<&mut Stream, Refusal> {
        let missing = self.stream_not_found(name);
        self.streams.get_mut(name).ok_or(missing)
    }

    /// The stream with a name, if records can be put into and read from it.
    pub(crate) fn live_stream(&mut self, name: &str, now_ms: i64) -> Result<&mut Stream, Refusal> {
        let missing = self.stream_not_found(name);
        self.streams
            .get_mut(name)
            .filter(|stream| {
                matches!(stream.status(now_ms), Some(Status::Active | Status::Updating))
            })
            .ok_or(missing)
    }

    /// Puts records into a stream.
    pub(crate) fn put_all(
        &mut self,
        name: &str,
        records: Vec<NewRecord>,
        now_ms: i64,
    ) -> Result<Vec<Result<Placed, Refusal>>, Refusal> {
        let missing = self.stream_not_found(name);
        let stream = self.streams.get_mut(name).ok_or(missing)?;
        Ok(stream.put_all(records, &self.limits, &mut self.rng, now_ms))
    }

    fn stream_not_found(&self, name: &str) -> Refusal {
        Refusal::ResourceNotFound(format!(
            "Stream {name} under account {} not found.",
            self.account
        ))
    }
}
