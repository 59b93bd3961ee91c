//! Which records exist at a moment, and which were sent.
//!
//! With a rate, records come into being as time passes. Without one a record exists from the moment that a subscription
//! at the tip asks for more: the tip is as far as anybody was sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use aws_smithy_async::time::SharedTimeSource;
use tokio::sync::watch;
use tokio::time::Instant;

use super::layout::{Layout, Run};
use super::message::Message;
use super::options::Options;
use super::sequence::Position;

/// What the service writes and reads at most; tells distance in time where there is no rate.
const SERVICE_BYTES_PER_SECOND: f64 = 2_000_000.0;
/// Records that one ms of arrival time stands for where there is no rate.
const RECORDS_PER_MS: u64 = 1_000;
/// Decoded bytes of an answer to GetRecords.
const PAGE_BYTES: usize = 1_000_000;

/// The stream and everything that was sent of it.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) options: Options,
    pub(super) created_at_ms: i64,
    /// Full events, empty ones, and answers to GetRecords.
    pub(super) events: Layout,
    pub(super) empty: Layout,
    pub(super) pages: Layout,
    shards: Vec<Shard>,
    started: watch::Sender<Option<Started>>,
    time: SharedTimeSource,
}

/// What is known of one shard.
#[derive(Debug, Default)]
pub(super) struct Shard {
    /// The highest ordinal that was sent to anybody.
    tip: AtomicU64,
    pushed: AtomicU64,
    polled: AtomicU64,
    subscriptions: AtomicU64,
}

/// When records began to be written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Started {
    at: Instant,
    at_ms: i64,
}

/// What was sent so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sent {
    /// Shards of the stream.
    pub shards: u64,
    /// Subscriptions that are open now.
    pub subscriptions: u64,
    /// Different records that were sent, by subscription or by polling.
    pub records: u64,
    /// Bytes of data in them.
    pub bytes: u64,
    /// Records that subscriptions sent, each as often as it was sent.
    pub records_pushed: u64,
    /// Records that answers to GetRecords held, likewise.
    pub records_polled: u64,
    /// Every record that will ever exist was sent.
    pub complete: bool,
}

impl Stream {
    pub(super) fn new(options: Options, time: SharedTimeSource) -> Stream {
        let message = Message::new(options.record_bytes);
        let count = options.records_per_event();
        let page = (PAGE_BYTES / options.record_bytes).max(1);
        let stream = Stream {
            created_at_ms: wall_ms(&time),
            events: Layout::new(&message, count),
            empty: Layout::new(&message, 0),
            pages: Layout::new(&message, page),
            shards: (0..options.shards).map(|_| Shard::default()).collect(),
            started: watch::Sender::new(None),
            time,
            options,
        };
        if !stream.options.hold {
            stream.go();
        }
        stream
    }

    /// Records are written from now on.
    pub(super) fn go(&self) {
        let now = Started { at: Instant::now(), at_ms: wall_ms(&self.time) };
        self.started.send_if_modified(|started| {
            let first = started.is_none();
            *started = started.or(Some(now));
            first
        });
    }

    pub(super) fn started(&self) -> watch::Receiver<Option<Started>> {
        self.started.subscribe()
    }

    pub(super) fn shard(&self, shard: u32) -> Option<&Shard> {
        self.shards.get(shard as usize)
    }

    /// Records a second in each shard; `None` = as fast as they are taken.
    fn records_per_second(&self) -> Option<f64> {
        let bytes = self.options.bytes_per_second? as f64;
        Some(bytes / self.options.record_bytes as f64)
    }

    /// The last ordinal that a subscription of the shard may send now.
    pub(super) fn available(&self, shard: &Shard, now: Instant) -> u64 {
        let Some(started) = *self.started.borrow() else { return 0 };
        let elapsed = now.saturating_duration_since(started.at);
        let longest = self.options.duration.unwrap_or(Duration::MAX);
        let written = match self.records_per_second() {
            Some(rate) => (elapsed.min(longest).as_secs_f64() * rate) as u64,
            None if elapsed < longest => u64::MAX,
            None => shard.tip.load(Ordering::Relaxed),
        };
        written.min(self.options.records_per_shard.unwrap_or(u64::MAX))
    }

    /// The last ordinal that exists now: what LATEST is behind of.
    pub(super) fn tip(&self, shard: &Shard, now: Instant) -> u64 {
        match self.options.bytes_per_second {
            Some(_) => self.available(shard, now),
            None => shard.tip.load(Ordering::Relaxed),
        }
    }

    /// True when the shard has no more to come than what is available.
    pub(super) fn has_ended(&self, available: u64, now: Instant) -> bool {
        let Some(started) = *self.started.borrow() else { return false };
        let over = self.options.duration.is_some_and(|longest| now - started.at >= longest);
        over || self.options.records_per_shard.is_some_and(|most| available >= most)
    }

    /// When the record of an ordinal was written, in ms since 1970. The same at every time of asking.
    pub(super) fn arrivals(&self) -> impl Fn(u64) -> i64 + use<> {
        let start = self.started.borrow().map_or(self.created_at_ms, |started| started.at_ms);
        let rate = self.records_per_second();
        move |ordinal| {
            let after = match rate {
                Some(rate) => (ordinal as f64 * 1_000.0 / rate).ceil() as i64,
                None => i64::try_from(ordinal / RECORDS_PER_MS).unwrap_or(i64::MAX),
            };
            start.saturating_add(after)
        }
    }

    /// The first ordinal that was written at this time or later, in ms since 1970.
    pub(super) fn ordinal_at(&self, at_ms: i64, tip: u64) -> u64 {
        let arrival_ms = self.arrivals();
        let (mut low, mut high) = (1, tip + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            match arrival_ms(middle) < at_ms {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    /// How far a reader is behind that goes on at `next`, in ms.
    pub(super) fn behind_ms(&self, next: u64, tip: u64) -> u64 {
        let rate = self.records_per_second();
        let rate = rate.unwrap_or(SERVICE_BYTES_PER_SECOND / self.options.record_bytes as f64);
        ((tip + 1).saturating_sub(next) as f64 * 1_000.0 / rate) as u64
    }

    /// So many records from a place on, with how far behind their reader is after them.
    pub(super) fn run(&self, first: Position, records: usize, tip: u64) -> Run {
        let millis_behind_latest = self.behind_ms(first.ordinal + records as u64, tip);
        Run { first, records, millis_behind_latest }
    }

    /// What was sent so far.
    pub(super) fn sent(&self) -> Sent {
        let sum = |of: fn(&Shard) -> &AtomicU64| {
            self.shards.iter().map(|shard| of(shard).load(Ordering::Relaxed)).sum()
        };
        let now = Instant::now();
        let complete = self.shards.iter().all(|shard| {
            let available = self.available(shard, now);
            shard.tip.load(Ordering::Relaxed) >= available && self.has_ended(available, now)
        });
        let records: u64 = sum(|shard| &shard.tip);
        Sent {
            shards: u64::from(self.options.shards),
            subscriptions: sum(|shard| &shard.subscriptions),
            records,
            bytes: records * self.options.record_bytes as u64,
            records_pushed: sum(|shard| &shard.pushed),
            records_polled: sum(|shard| &shard.polled),
            complete,
        }
    }
}

impl Shard {
    /// Records up to `ordinal` were pushed, so many of them now.
    pub(super) fn pushed(&self, ordinal: u64, records: usize) {
        self.tip.fetch_max(ordinal, Ordering::Relaxed);
        self.pushed.fetch_add(records as u64, Ordering::Relaxed);
    }

    /// Likewise by GetRecords.
    pub(super) fn polled(&self, ordinal: u64, records: usize) {
        self.tip.fetch_max(ordinal, Ordering::Relaxed);
        self.polled.fetch_add(records as u64, Ordering::Relaxed);
    }

    pub(super) fn subscribed(&self) {
        self.subscriptions.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn unsubscribed(&self) {
        self.subscriptions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Watches a running source.
#[derive(Debug, Clone)]
pub struct Handle {
    stream: Arc<Stream>,
}

impl Handle {
    pub(super) fn new(stream: Arc<Stream>) -> Handle {
        Handle { stream }
    }

    /// What was sent so far.
    pub fn sent(&self) -> Sent {
        self.stream.sent()
    }

    /// Lets the records come that [`Options::hold`] held back.
    pub fn go(&self) {
        self.stream.go();
    }
}

fn wall_ms(time: &SharedTimeSource) -> i64 {
    let since = time.now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
