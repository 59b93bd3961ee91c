//! What the processor is doing, for status pages: a snapshot of counters, never a lock on the hot path.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lease_manager::Checkpoint;
use serde::Serialize;
use store::Mark;

use crate::async_delivery::CourierStats;
use crate::batch::ShardContext;
use crate::lane::feed::Fed;
use crate::sync_store::SyncStoreStatus;

/// One lane of one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LaneStatus {
    /// The pipeline.
    pub pipeline: &'static str,
    /// What feeds it: `live`, `detached`, `catching-up`; `closed` before a parent shard's lane ended, `done` at the shard's end.
    pub feed: &'static str,
    /// How far this lane's oldest unsettled record lies behind now, in ms; 0 at the tip.
    pub behind_ms: u64,
    /// How long the stream still keeps what this lane has not settled, in ms: at 0 records are lost.
    pub time_to_loss_ms: u64,
    /// Bytes that are not settled.
    pub in_flight_bytes: u64,
}

/// One shard that this process reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShardStatus {
    /// ARN of the stream.
    pub stream_arn: String,
    /// The shard.
    pub shard_id: String,
    /// How far the reader is behind the tip of the shard, as Kinesis said it last, in ms.
    pub millis_behind_latest: u64,
    /// User records read since the lease was taken.
    pub records: u64,
    /// Both lanes.
    pub lanes: Vec<LaneStatus>,
}

/// A snapshot of the processor.
#[derive(Debug, Clone, Serialize)]
pub struct ProcessorStatus {
    /// The shards read now, by stream and shard.
    pub shards: Vec<ShardStatus>,
    /// User records read since the process started.
    pub records_read: u64,
    /// The `sync-store` pipeline.
    pub sync_store: SyncStoreStatus,
    /// The `async-delivery` pipeline.
    pub async_delivery: CourierStats,
}

/// A reader that heard nothing for this long falls behind: the service says where it is more often.
const HEARD_MS: i64 = 10_000;

/// Counters of one shard: written by its consumer, read by anyone.
#[derive(Debug)]
pub(crate) struct ShardStats {
    records: AtomicU64,
    millis_behind_latest: AtomicU64,
    /// When that was said; `i64::MAX` once there is nothing more to say.
    heard_at_ms: AtomicI64,
    /// The reader gave up once, and nothing was heard since.
    unreadable: AtomicBool,
    lanes: [LaneStats; 2],
    /// How long the stream keeps records.
    retention_ms: u64,
}

/// How a lane is, as its consumer says it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneFigures {
    pub(crate) fed: Fed,
    /// Arrival of the oldest record that is not settled, in ms since 1970; `None` when all are.
    pub(crate) oldest_unsettled_ms: Option<i64>,
    /// All that arrived until then was taken, in ms since 1970.
    pub(crate) unread_since_ms: i64,
    pub(crate) in_flight_bytes: usize,
}

/// The same, to be read by anyone; an arrival of 0 is none.
#[derive(Debug)]
struct LaneStats {
    fed: AtomicU8,
    oldest_unsettled_ms: AtomicI64,
    unread_since_ms: AtomicI64,
    in_flight_bytes: AtomicU64,
}

impl LaneStats {
    fn new(unread_since_ms: i64) -> LaneStats {
        LaneStats {
            fed: AtomicU8::new(Fed::Closed as u8),
            oldest_unsettled_ms: AtomicI64::new(0),
            unread_since_ms: AtomicI64::new(unread_since_ms),
            in_flight_bytes: AtomicU64::new(0),
        }
    }

    fn set(&self, figures: LaneFigures) {
        self.fed.store(figures.fed as u8, Ordering::Relaxed);
        self.oldest_unsettled_ms.store(figures.oldest_unsettled_ms.unwrap_or(0), Ordering::Relaxed);
        self.unread_since_ms.store(figures.unread_since_ms, Ordering::Relaxed);
        self.in_flight_bytes.store(figures.in_flight_bytes as u64, Ordering::Relaxed);
    }

    fn fed(&self) -> Fed {
        let fed = self.fed.load(Ordering::Relaxed);
        [Fed::Closed, Fed::Live, Fed::Detached, Fed::CatchingUp]
            .into_iter()
            .find(|known| *known as u8 == fed)
            .unwrap_or(Fed::Done)
    }
}

impl ShardStats {
    /// Counters of a shard whose lanes had read what arrived until `unread_since_ms`.
    fn new(unread_since_ms: [i64; 2], retention: Duration, now_ms: i64) -> ShardStats {
        let behind_ms = now_ms - unread_since_ms.into_iter().min().unwrap_or(now_ms);
        ShardStats {
            records: AtomicU64::new(0),
            millis_behind_latest: AtomicU64::new(u64::try_from(behind_ms).unwrap_or(0)),
            heard_at_ms: AtomicI64::new(now_ms),
            unreadable: AtomicBool::new(false),
            lanes: unread_since_ms.map(LaneStats::new),
            retention_ms: u64::try_from(retention.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// An event was read.
    pub(crate) fn read(&self, records: usize, millis_behind_latest: u64, now_ms: i64) {
        self.records.fetch_add(records as u64, Ordering::Relaxed);
        self.millis_behind_latest.store(millis_behind_latest, Ordering::Relaxed);
        self.heard_at_ms.store(now_ms, Ordering::Relaxed);
        self.unreadable.store(false, Ordering::Relaxed);
    }

    /// The reader starts anew, where all that arrived until `unread_since_ms` was read.
    pub(crate) fn restarted(&self, unread_since_ms: i64, now_ms: i64) {
        let behind_ms = u64::try_from(now_ms - unread_since_ms).unwrap_or(0);
        self.millis_behind_latest.store(behind_ms, Ordering::Relaxed);
        self.heard_at_ms.store(now_ms, Ordering::Relaxed);
    }

    /// However often it was tried, the shard could not be read.
    pub(crate) fn cannot_read(&self) {
        self.unreadable.store(true, Ordering::Relaxed);
    }

    /// Everything was read: there is no tip to fall behind any more.
    pub(crate) fn shard_ended(&self) {
        self.millis_behind_latest.store(0, Ordering::Relaxed);
        self.heard_at_ms.store(i64::MAX, Ordering::Relaxed);
    }

    /// How far the reader can be behind at `now_ms`: what the last event said, and the time since
    /// when none came.
    pub(crate) fn reader_behind_ms(&self, now_ms: i64) -> u64 {
        let said = self.millis_behind_latest.load(Ordering::Relaxed);
        let silent = now_ms.saturating_sub(self.heard_at_ms.load(Ordering::Relaxed));
        let silent = if silent > HEARD_MS { silent } else { 0 };
        said.saturating_add(u64::try_from(silent).unwrap_or(0))
    }

    pub(crate) fn lane(&self, lane: usize, figures: LaneFigures) {
        if let Some(stats) = self.lanes.get(lane) {
            stats.set(figures);
        }
    }

    /// How far a lane is behind at `now_ms`: the age of what it has not settled, or of what is still to be read for it.
    pub(crate) fn behind_ms(&self, lane: usize, now_ms: i64) -> u64 {
        let stats = &self.lanes[lane];
        let age = |since_ms: i64| u64::try_from(now_ms - since_ms).unwrap_or(0);
        let unread_ms = match stats.fed() {
            Fed::Live => self.reader_behind_ms(now_ms),
            Fed::Done => 0,
            Fed::Closed | Fed::Detached | Fed::CatchingUp => {
                age(stats.unread_since_ms.load(Ordering::Relaxed))
            }
        };
        match stats.oldest_unsettled_ms.load(Ordering::Relaxed) {
            0 => unread_ms,
            oldest => unread_ms.max(age(oldest)),
        }
    }

    fn lane_status(&self, lane: usize, pipeline: &'static str, now_ms: i64) -> LaneStatus {
        let stats = &self.lanes[lane];
        let behind_ms = self.behind_ms(lane, now_ms);
        LaneStatus {
            pipeline,
            feed: stats.fed().name(),
            behind_ms,
            time_to_loss_ms: self.retention_ms.saturating_sub(behind_ms),
            in_flight_bytes: stats.in_flight_bytes.load(Ordering::Relaxed),
        }
    }
}

/// ARN of the stream, id of the shard.
type ShardKey = (Arc<str>, Arc<str>);

/// The shards read now. The lock guards a map that changes when a lease comes or goes and is read
/// by status pages; it is held for neither I/O nor await.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    shards: Mutex<BTreeMap<ShardKey, Arc<ShardStats>>>,
    records_of_left: AtomicU64,
    /// How far the deliveries of each shard have got, as said with its last checkpoint. Same rule.
    settled: Mutex<BTreeMap<ShardKey, Settled>>,
}

#[derive(Debug)]
struct Settled {
    upto: Checkpoint,
    at_ms: i64,
    /// It was taken since.
    taken: bool,
}

impl Registry {
    /// A consumer begins: its counters are listed until the guard is dropped. Its lanes had read what arrived until
    /// `unread_since_ms`.
    pub(crate) fn enter(
        self: &Arc<Self>,
        shard: &ShardContext,
        unread_since_ms: [i64; 2],
        retention: Duration,
        now_ms: i64,
    ) -> Registered {
        let key = (Arc::clone(&shard.stream_arn), Arc::clone(&shard.shard_id));
        let stats = Arc::new(ShardStats::new(unread_since_ms, retention, now_ms));
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        shards.insert(key.clone(), Arc::clone(&stats));
        crate::metrics::shards(shards.len());
        Registered { registry: Arc::clone(self), key, stats }
    }

    /// How many shards are read, and how many of them cannot be.
    pub(crate) fn readable(&self) -> (usize, usize) {
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let unreadable = shards.values().filter(|s| s.unreadable.load(Ordering::Relaxed)).count();
        (shards.len(), unreadable)
    }

    /// How many shards are read, and in how many of them each pipeline is detached or catches up.
    pub(crate) fn lanes_behind(&self) -> (usize, [usize; 2]) {
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = |lane: usize| {
            let is_behind = |stats: &&Arc<ShardStats>| {
                matches!(stats.lanes[lane].fed(), Fed::Detached | Fed::CatchingUp)
            };
            shards.values().filter(is_behind).count()
        };
        (shards.len(), [behind(0), behind(1)])
    }

    /// How far the deliveries of the shards had got, of those that got further since this was asked before; also of shards
    /// that left in between.
    pub(crate) fn take_marks(&self) -> Vec<Mark> {
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        let marks = settled.iter_mut().filter(|(_, settled)| !settled.taken);
        let marks = marks.filter_map(|((stream_arn, shard_id), settled)| {
            settled.taken = true;
            let upto = match &settled.upto {
                Checkpoint::At { sequence, sub_sequence } => {
                    Some((sequence.to_string(), *sub_sequence))
                }
                Checkpoint::ShardEnd => None,
                Checkpoint::AtTimestamp | Checkpoint::TrimHorizon | Checkpoint::Latest => {
                    return None;
                }
            };
            let (stream_arn, shard_id) = (stream_arn.to_string(), shard_id.to_string());
            Some(Mark { stream_arn, shard_id, upto, at_ms: settled.at_ms })
        });
        let marks = marks.collect();
        settled.retain(|key, _| shards.contains_key(key));
        marks
    }

    /// Snapshot of the shards, and of the records that were read in all.
    pub(crate) fn snapshot(
        &self,
        pipelines: [&'static str; 2],
        now_ms: i64,
    ) -> (Vec<ShardStatus>, u64) {
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let mut records_read = self.records_of_left.load(Ordering::Relaxed);
        let list = shards
            .iter()
            .map(|((stream_arn, shard_id), stats)| {
                let records = stats.records.load(Ordering::Relaxed);
                records_read += records;
                ShardStatus {
                    stream_arn: stream_arn.to_string(),
                    shard_id: shard_id.to_string(),
                    millis_behind_latest: stats.millis_behind_latest.load(Ordering::Relaxed),
                    records,
                    lanes: [0, 1]
                        .map(|lane| stats.lane_status(lane, pipelines[lane], now_ms))
                        .to_vec(),
                }
            })
            .collect();
        (list, records_read)
    }
}

/// A listed shard; dropping it takes the shard off the list.
#[derive(Debug)]
pub(crate) struct Registered {
    registry: Arc<Registry>,
    key: ShardKey,
    pub(crate) stats: Arc<ShardStats>,
}

impl Registered {
    /// The deliveries of everything up to `upto` were settled at `at_ms`.
    pub(crate) fn settled(&self, upto: &Checkpoint, at_ms: i64) {
        let mut settled = self.registry.settled.lock().unwrap_or_else(PoisonError::into_inner);
        match settled.get(&self.key) {
            Some(before) if before.upto == *upto => {}
            _ => {
                let upto = upto.clone();
                settled.insert(self.key.clone(), Settled { upto, at_ms, taken: false });
            }
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut shards = self.registry.shards.lock().unwrap_or_else(PoisonError::into_inner);
        if shards.get(&self.key).is_some_and(|listed| Arc::ptr_eq(listed, &self.stats)) {
            shards.remove(&self.key);
        }
        let records = self.stats.records.load(Ordering::Relaxed);
        self.registry.records_of_left.fetch_add(records, Ordering::Relaxed);
        crate::metrics::shards(shards.len());
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
