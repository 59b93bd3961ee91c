//! What a producer has done so far, readable from outside while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Reads a running producer's figures.
#[derive(Debug, Clone)]
pub struct Handle {
    counters: Arc<Counters>,
}

impl Handle {
    pub(crate) fn new(counters: Arc<Counters>) -> Handle {
        Handle { counters }
    }

    /// The figures now. They are read one after the other, so sums may be off by what happens meanwhile.
    pub fn stats(&self) -> Stats {
        self.counters.read()
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: AtomicU64),+ }

        /// Figures of a producer; all but `late_ms` and `in_flight` only ever grow.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Stats { $($(#[$doc])* pub $name: u64),+ }

        impl Counters {
            pub(crate) fn read(&self) -> Stats {
                Stats { $($name: self.$name.load(Relaxed)),+ }
            }
        }

        impl Stats {
            /// Every figure with its name, in a fixed order.
            pub fn fields(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),+]
            }
        }
    };
}

counters! {
    /// Messages taken from the source.
    messages_read,
    /// Messages that the stream acknowledged.
    messages_sent,
    /// Records that the stream acknowledged; fewer than messages when they are aggregated.
    records_sent,
    /// Bytes of data and partition keys that the stream acknowledged.
    bytes_sent,
    /// Messages that were broken on purpose.
    messages_malformed,
    /// Messages without a value at the key's pointer.
    messages_without_key,
    /// Messages given up after all attempts, or refused by the stream.
    messages_failed,
    /// Messages not sent because the producer was stopped.
    messages_abandoned,
    /// Messages sent again because their aggregate went to another shard than theirs.
    messages_misplaced,
    /// Attempts of requests.
    requests,
    /// Records that were throttled, in all attempts.
    records_throttled,
    /// Records that failed otherwise and were tried again.
    records_retried,
    /// Requests in flight now.
    in_flight,
    /// How far the newest message is behind its schedule, in ms.
    late_ms,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Relaxed);
    }

    pub(crate) fn set(counter: &AtomicU64, n: u64) {
        counter.store(n, Relaxed);
    }
}

/// What a producer did, when it has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The last figures.
    pub stats: Stats,
    /// From the start to the last acknowledgement.
    pub elapsed: Duration,
    /// Why the last message that failed did.
    pub last_failure: Option<String>,
}

impl Summary {
    /// Messages acknowledged a second, over the whole run.
    pub fn messages_per_second(&self) -> f64 {
        self.stats.messages_sent as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// True when every message that was read has been acknowledged.
    pub fn is_complete(&self) -> bool {
        self.stats.messages_failed == 0 && self.stats.messages_abandoned == 0
    }
}
