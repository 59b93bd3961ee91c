//! Polling: one shard's records by GetRecords, an answer at a time.
//!
//! It is the reader of streams without enhanced fan-out, and the one that catches up for a lane that
//! fell behind. What the service allows for a shard is kept in [`ShardReads`], shared by all pollers
//! of the shard here; what comes of a failure is decided in [`plan`], without I/O.
//!
//! It never looks into a record, never waits for memory (an answer without room is dropped, and
//! asked for again), and never takes an error for a shard's end. Start reading at [`Poller::next`].

mod answer;
mod call;
mod limit;
mod metrics;
mod plan;
mod reads;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use aws_smithy_async::time::SharedTimeSource;
use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::batch::{RawBatch, ShardContext};
use crate::budget::{Budget, Permit};
use crate::clock::wall_ms;
use crate::reader::connections::{Connection, Connections};
use crate::reader::{ReadError, StartingAt};
use crate::turns::Turns;

use answer::Answer;
use call::Taken;
use limit::Limit;
use plan::{Failed, History, Plan};

pub(crate) use reads::ShardReads;

/// How shards are polled.
#[derive(Debug, Clone)]
pub struct PollingOptions {
    /// The pause between two calls for a shard whose tip was reached.
    pub interval: Duration,
    /// An answer may take this long, and reading it as long again.
    pub call_timeout: Duration,
    /// The first pause after a failure; it doubles with each further one.
    pub backoff_initial: Duration,
    /// The longest pause after a failure.
    pub backoff_max: Duration,
    /// So many refusals in a row that no waiting will cure (access, arguments, keys) end the reading.
    pub max_refusals: u32,
}

impl Default for PollingOptions {
    fn default() -> Self {
        PollingOptions {
            interval: Duration::from_secs(1),
            call_timeout: Duration::from_secs(30),
            backoff_initial: Duration::from_millis(200),
            backoff_max: Duration::from_secs(10),
            max_refusals: 4,
        }
    }
}

/// What a poller works with beside its shard.
#[derive(Clone)]
pub(crate) struct PollerParts {
    pub(crate) options: PollingOptions,
    pub(crate) connections: Connections,
    /// Paces the first calls of many shards that start together.
    pub(crate) turns: Turns,
    /// What the service allows for the shard.
    pub(crate) reads: Arc<ShardReads>,
    /// Bytes that answers may hold.
    pub(crate) budget: Budget,
    pub(crate) time: SharedTimeSource,
}

/// Reads one shard.
pub(crate) struct Poller {
    parts: PollerParts,
    shard: Arc<ShardContext>,
    /// Where a new iterator starts: behind the last record that was handed out.
    resume: StartingAt,
    iterator: Option<String>,
    limit: Limit,
    history: History,
    phase: Phase,
    jitter: fastrand::Rng,
}

enum Phase {
    /// The next call is made then.
    Waiting(Instant),
    /// A call is under way. It is kept here, so that dropping `next` does not drop the call.
    Iterating(BoxFuture<'static, Called<String>>),
    Reading(BoxFuture<'static, Called<Taken>>),
    ShardEnded,
}

/// What came of a call.
struct Called<T> {
    at: Instant,
    result: Result<T, Failed>,
}

impl Poller {
    /// A reader of `shard` from `start` on. It does nothing before [`Poller::next`].
    pub(crate) fn new(
        parts: PollerParts,
        shard: Arc<ShardContext>,
        start: StartingAt,
        seed: u64,
    ) -> Poller {
        Poller {
            parts,
            shard,
            resume: start,
            iterator: None,
            limit: Limit::default(),
            history: History::default(),
            phase: Phase::Waiting(Instant::now()),
            jitter: fastrand::Rng::with_seed(seed),
        }
    }

    /// The next answer, which may have no records; the last one has `shard_ended`.
    ///
    /// Cancel safe: dropping the future loses no record.
    ///
    /// # Errors
    /// When reading on makes no sense, see [`ReadError`]. Errors that pass are waited for.
    pub(crate) async fn next(&mut self) -> Result<RawBatch, ReadError> {
        loop {
            match &mut self.phase {
                Phase::Waiting(until) => {
                    tokio::time::sleep_until(*until).await;
                    self.phase = match &self.iterator {
                        Some(iterator) => Phase::Reading(self.read(iterator.clone())),
                        None => Phase::Iterating(self.iterate()),
                    };
                }
                Phase::Iterating(call) => {
                    let called = call.await;
                    self.iterated(called)?;
                }
                Phase::Reading(call) => {
                    let Called { at, result } = call.await;
                    match result {
                        Ok((answer, permit)) => return Ok(self.hand_out(at, answer, permit)),
                        Err(failed) => self.failed("GetRecords", &failed)?,
                    }
                }
                Phase::ShardEnded => return Err(ReadError::BehindShardEnd),
            }
        }
    }

    /// Drops the call that is under way. The next [`Poller::next`] goes on behind the last record
    /// that was handed out.
    pub(crate) fn cancel(&mut self) {
        if matches!(self.phase, Phase::Iterating(_) | Phase::Reading(_)) {
            self.phase = Phase::Waiting(Instant::now());
        }
    }

    /// Goes on at another place.
    pub(crate) fn restart(&mut self, start: StartingAt) {
        self.resume = start;
        self.iterator = None;
        self.phase = Phase::Waiting(Instant::now());
    }

    fn iterate(&self) -> BoxFuture<'static, Called<String>> {
        let PollerParts { connections, turns, options, .. } = self.parts.clone();
        let (shard, start) = (Arc::clone(&self.shard), self.resume.clone());
        Box::pin(async move {
            turns.turn().await;
            let (at, connection) = (Instant::now(), connections.take());
            let client = connection.client();
            let result = call::iterator(client, &shard, &start, options.call_timeout).await;
            distrust_the_dead(&connection, result.as_ref().err());
            Called { at, result }
        })
    }

    fn read(&self, iterator: String) -> BoxFuture<'static, Called<Taken>> {
        let PollerParts { connections, reads, budget, options, .. } = self.parts.clone();
        let (shard, records) = (Arc::clone(&self.shard), self.limit.records());
        let limit = options.call_timeout;
        Box::pin(async move {
            tokio::time::sleep_until(reads.reserve(Instant::now())).await;
            let (at, connection) = (Instant::now(), connections.take());
            let client = connection.client();
            let result = call::records(client, &shard, &iterator, records, &budget, limit).await;
            distrust_the_dead(&connection, result.as_ref().err());
            match &result {
                Ok((answer, _)) => reads.gave(answer.counted_bytes, Instant::now()),
                // It was given out all the same; three quarters of base64 are data.
                Err(Failed::NoRoom { bytes }) => reads.gave(bytes / 4 * 3, Instant::now()),
                Err(_) => {}
            }
            Called { at, result }
        })
    }

    fn iterated(&mut self, called: Called<String>) -> Result<(), ReadError> {
        match called.result {
            Ok(iterator) => {
                if self.resume == StartingAt::Latest {
                    // Should it expire unused, a new one at the tip would lose what came meanwhile.
                    self.resume = StartingAt::AtTimestamp(wall_ms(&self.parts.time));
                }
                self.iterator = Some(iterator);
                self.phase = Phase::Waiting(called.at);
                Ok(())
            }
            Err(failed) => self.failed("GetShardIterator", &failed),
        }
    }

    fn failed(&mut self, operation: &'static str, failed: &Failed) -> Result<(), ReadError> {
        metrics::failed(failed.name());
        self.history.failed(failed);
        let (now, jitter) = (Instant::now(), self.jitter.f64());
        let options = &self.parts.options;
        let shard = &self.shard.shard_id;
        match plan::after_failure(operation, failed, self.history, now, jitter, options) {
            Plan::CallAt { at, keep_iterator } => {
                let pause_ms = u64::try_from((at - now).as_millis()).unwrap_or(u64::MAX);
                if failed.is_ordinary() {
                    tracing::debug!(%shard, operation, why = %failed, pause_ms, "nothing was read");
                } else {
                    tracing::warn!(%shard, operation, why = %failed, pause_ms, "a call failed; it is tried again");
                }
                if !keep_iterator {
                    self.iterator = None;
                }
                self.phase = Phase::Waiting(at);
                Ok(())
            }
            Plan::GiveUp(error) => {
                // Asked again all the same, it goes on after a pause.
                self.iterator = None;
                self.phase = Phase::Waiting(now + options.backoff_max);
                Err(error)
            }
        }
    }

    /// Moves the resume position behind the answer. Nothing waits between this and the caller.
    fn hand_out(&mut self, at: Instant, answer: Answer, permit: Permit) -> RawBatch {
        let Answer { polled, wire_bytes, .. } = answer;
        self.history.answered();
        self.limit.answered(polled.records.len(), wire_bytes);
        metrics::answer(polled.records.len(), wire_bytes);
        if let Some(last) = polled.records.last_sequence() {
            self.resume = StartingAt::After(last);
        }
        let shard_ended = polled.next_shard_iterator.is_none();
        self.phase = match shard_ended {
            true => Phase::ShardEnded,
            false => {
                let (behind, jitter) = (polled.millis_behind_latest, self.jitter.f64());
                let options = &self.parts.options;
                let next = plan::after_answer(at, Instant::now(), behind, jitter, options);
                Phase::Waiting(next)
            }
        };
        self.iterator = polled.next_shard_iterator;
        let upto = match &self.resume {
            StartingAt::After(last) if !shard_ended => Some(last.clone()),
            _ => None,
        };
        RawBatch {
            shard: Arc::clone(&self.shard),
            records: polled.records,
            upto,
            millis_behind_latest: polled.millis_behind_latest,
            children: polled.children,
            shard_ended,
            wire_bytes,
            received_at: Instant::now(),
            permit: Some(permit),
        }
    }
}

/// A connection on which an answer never came may be dead without anybody having said so.
fn distrust_the_dead(connection: &Connection, failed: Option<&Failed>) {
    if let Some(Failed::Unanswered(_)) = failed {
        connection.distrust();
    }
}
