//! One shard: its records, its end, and what may be read from where.
//!
//! A reader is a cursor: the lowest sequence number it has not seen. Nothing here remembers readers, so a slow one costs nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::hash_range::HashRange;
use super::rate::TokenBucket;
use super::sequence::{LAST_ORDINAL, Parts, SequenceNumber};

/// Bytes a second that a shard takes in.
const WRITE_BYTES_PER_SECOND: u32 = 1 << 20;
/// Records a second that a shard takes in.
const WRITE_RECORDS_PER_SECOND: u32 = 1000;
/// Bytes a second that polling readers share.
pub(crate) const READ_BYTES_PER_SECOND: u32 = 2 << 20;
/// Calls a second of each polling operation.
const READ_CALLS_PER_SECOND: u32 = 5;

/// One record as it was put.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) sequence: SequenceNumber,
    pub(crate) arrived_at_ms: i64,
    pub(crate) partition_key: Arc<str>,
    pub(crate) data: Bytes,
    pub(crate) encrypted: bool,
}

impl Record {
    /// What the record counts for in every byte limit.
    pub(crate) fn size(&self) -> usize {
        self.data.len() + self.partition_key.len()
    }
}

/// How a shard ended.
#[derive(Debug, Clone)]
pub(crate) struct Closed {
    pub(crate) at_ms: i64,
    pub(crate) ending: SequenceNumber,
    pub(crate) children: Vec<u32>,
}

/// What one read found.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) records: Vec<Record>,
    /// Where the next read goes on.
    pub(crate) next: SequenceNumber,
    /// How far behind the tip the reader is once it has this page; 0 at the tip.
    pub(crate) behind_ms: u64,
    /// Whether the shard is closed and this page is its last.
    pub(crate) ended: bool,
}

impl Page {
    pub(crate) fn bytes(&self) -> usize {
        self.records.iter().map(Record::size).sum()
    }
}

/// Where a shard comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Parents {
    pub(crate) parent: Option<u32>,
    pub(crate) adjacent: Option<u32>,
}

/// One shard of a stream.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) index: u32,
    pub(crate) id: Arc<str>,
    pub(crate) parents: Parents,
    pub(crate) range: HashRange,
    pub(crate) created_at_ms: i64,
    pub(crate) epoch_s: u64,
    pub(crate) closed: Option<Closed>,
    /// Tells subscriptions that there is something new: records, or the end.
    changed: watch::Sender<()>,
    records: VecDeque<Record>,
    bytes: usize,
    next_ordinal: u64,
    last_arrival_ms: i64,
    write_bytes: TokenBucket,
    write_records: TokenBucket,
    read_bytes: TokenBucket,
    pub(crate) read_calls: TokenBucket,
    pub(crate) iterator_calls: TokenBucket,
}

/// The name of the shard with an index.
pub(crate) fn shard_id(index: u32) -> String {
    format!("shardId-{index:012}")
}

impl Shard {
    pub(crate) fn new(
        index: u32,
        parents: Parents,
        range: HashRange,
        created_at_ms: i64,
        epoch_s: u64,
    ) -> Self {
        let calls = TokenBucket::full(READ_CALLS_PER_SECOND, created_at_ms);
        Self {
            index,
            id: shard_id(index).into(),
            parents,
            range,
            created_at_ms,
            epoch_s,
            closed: None,
            changed: watch::Sender::new(()),
            records: VecDeque::new(),
            bytes: 0,
            next_ordinal: 1,
            last_arrival_ms: created_at_ms,
            write_bytes: TokenBucket::full(WRITE_BYTES_PER_SECOND, created_at_ms),
            write_records: TokenBucket::full(WRITE_RECORDS_PER_SECOND, created_at_ms),
            read_bytes: TokenBucket::full(READ_BYTES_PER_SECOND, created_at_ms),
            read_calls: calls.clone(),
            iterator_calls: calls,
        }
    }

    fn sequence(&self, ordinal: u64, pad: u8, at_s: u64) -> SequenceNumber {
        SequenceNumber::new(Parts {
            shard_epoch_s: self.epoch_s,
            shard_index: self.index,
            ordinal,
            pad,
            at_s,
        })
    }

    /// The sequence number the shard starts at; below all its records.
    pub(crate) fn starting(&self) -> SequenceNumber {
        self.sequence(0, 0, self.epoch_s)
    }

    /// The cursor of a reader that wants only what comes from now on.
    pub(crate) fn tip(&self) -> SequenceNumber {
        self.sequence(self.next_ordinal, 0, 0)
    }

    /// A number between the last record and the next one, rising with time: how far an idle reader has got.
    pub(crate) fn idle_continuation(&self, now_ms: i64) -> SequenceNumber {
        self.sequence(self.next_ordinal - 1, 1, seconds(now_ms))
    }

    /// Whether this shard gave the number out.
    pub(crate) fn owns(&self, sequence: SequenceNumber) -> bool {
        sequence.parts().is_some_and(|parts| {
            parts.shard_index == self.index && parts.shard_epoch_s == self.epoch_s
        })
    }

    /// A receiver that learns of every change from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The end of the shard's time that comes after all its records.
    pub(crate) fn closing_time(&self, now_ms: i64) -> i64 {
        let after_last_record =
            if self.next_ordinal > 1 { self.last_arrival_ms + 1 } else { self.created_at_ms };
        now_ms.max(after_last_record)
    }

    pub(crate) fn close(&mut self, at_ms: i64, children: Vec<u32>) {
        self.closed = Some(Closed {
            at_ms,
            ending: self.sequence(LAST_ORDINAL, 0, seconds(at_ms)),
            children,
        });
        self.changed.send_replace(());
    }

    /// Whether the write limits admit a record of `size` bytes now; counts it when they do.
    pub(crate) fn admit_write(&mut self, size: usize, now_ms: i64) -> bool {
        let admitted = self.write_bytes.has(size, now_ms) && self.write_records.has(1, now_ms);
        if admitted {
            self.write_bytes.take(size);
            self.write_records.take(1);
        }
        admitted
    }

    /// Appends a record and gives it its number. The caller wakes readers with [`Shard::announce`] once the call is complete.
    pub(crate) fn append(
        &mut self,
        partition_key: Arc<str>,
        data: Bytes,
        encrypted: bool,
        now_ms: i64,
    ) -> SequenceNumber {
        let arrived_at_ms = now_ms.max(self.last_arrival_ms);
        let sequence = self.sequence(self.next_ordinal, 0, seconds(arrived_at_ms));
        self.next_ordinal += 1;
        self.last_arrival_ms = arrived_at_ms;
        let record = Record { sequence, arrived_at_ms, partition_key, data, encrypted };
        self.bytes += record.size();
        self.records.push_back(record);
        sequence
    }

    /// Wakes every subscription of the shard.
    pub(crate) fn announce(&self) {
        self.changed.send_replace(());
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops what arrived before `horizon_ms`; returns the bytes freed.
    pub(crate) fn trim(&mut self, horizon_ms: i64) -> usize {
        let mut freed = 0;
        while let Some(record) = self.records.front()
            && record.arrived_at_ms < horizon_ms
        {
            freed += record.size();
            self.records.pop_front();
        }
        self.bytes -= freed;
        freed
    }

    /// Drops the oldest records until `wanted` bytes are free; returns the bytes freed.
    pub(crate) fn evict(&mut self, wanted: usize) -> usize {
        let mut freed = 0;
        while freed < wanted
            && let Some(record) = self.records.pop_front()
        {
            freed += record.size();
        }
        self.bytes -= freed;
        freed
    }

    /// The cursor at the first record that arrived at `at_ms` or later.
    pub(crate) fn at_time(&self, at_ms: i64) -> SequenceNumber {
        let index = self.records.partition_point(|record| record.arrived_at_ms < at_ms);
        self.records.get(index).map_or_else(|| self.tip(), |record| record.sequence)
    }

    /// Reads from a cursor on: at most `max_records`, and at most `max_bytes` but for one record that is larger.
    pub(crate) fn read(
        &self,
        cursor: SequenceNumber,
        max_records: usize,
        max_bytes: usize,
        now_ms: i64,
    ) -> Page {
        let from = self.records.partition_point(|record| record.sequence < cursor);
        let mut records = Vec::new();
        let mut bytes = 0;
        for record in self.records.iter().skip(from).take(max_records) {
            bytes += record.size();
            if bytes > max_bytes && !records.is_empty() {
                break;
            }
            records.push(record.clone());
        }
        let at_tip = from + records.len() == self.records.len();
        let last = records.last();
        let behind_ms = match last {
            // Never 0 while there is more to read, even of this very millisecond.
            Some(last) if !at_tip => u64::try_from(now_ms - last.arrived_at_ms).unwrap_or(0).max(1),
            _ => 0,
        };
        let next = last.map_or(cursor, |last| last.sequence.next());
        Page { next, behind_ms, ended: at_tip && self.closed.is_some(), records }
    }

    /// Whether polling readers owe nothing for earlier reads.
    pub(crate) fn admit_read(&mut self, now_ms: i64) -> bool {
        self.read_bytes.is_clear(now_ms) && self.read_calls.try_take(1, now_ms)
    }

    pub(crate) fn charge_read(&mut self, bytes: usize) {
        self.read_bytes.charge_read(bytes);
    }
}

pub(crate) fn seconds(ms: i64) -> u64 {
    u64::try_from(ms / 1000).unwrap_or(0)
}
