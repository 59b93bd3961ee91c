//! The embedded Kinesis: behaves like the service where consumers get hurt.
//!
//! It never tells time by anything but the clock it was given, and it knows nothing of HTTP: an operation's name and JSON body go
//! in, an [`Answer`] comes out. [`Kinesis::handle`] is the door; `engine` holds the rules, `ops` the wire.

mod engine;
mod error;
mod ops;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use self::engine::{Engine, Limits};
use crate::clock::Clock;
use crate::wire::Answer;

/// How the embedded Kinesis behaves.
#[derive(Debug, Clone)]
pub struct KinesisOptions {
    /// Whether rates are limited as in the service: 1 MiB/s and 1,000 records/s into a shard, 5 reads/s and 2 MiB/s out of it, 2 MiB/s
    /// to each subscription, and the rates of control calls. The rules of subscriptions hold either way.
    pub enforce_limits: bool,
    /// How long a `SubscribeToShard` stream lives.
    pub subscription_lifetime: Duration,
    /// How long a shard iterator is good.
    pub iterator_lifetime: Duration,
    /// How long a subscription is silent before an empty event is sent.
    pub idle_event_interval: Duration,
    /// How long streams are CREATING, UPDATING and DELETING and consumers CREATING. Zero: every change is done when its call returns.
    pub transition: Duration,
    /// Bytes of records a stream holds; above that its oldest records are dropped, with a warning, before their retention ends.
    pub max_stream_bytes: usize,
    /// How long records are kept, in place of the hours that a stream says: so that a short simulation sees retention end.
    pub retention: Option<Duration>,
}

impl Default for KinesisOptions {
    fn default() -> Self {
        Self {
            enforce_limits: true,
            subscription_lifetime: Duration::from_secs(300),
            iterator_lifetime: Duration::from_secs(300),
            idle_event_interval: Duration::from_secs(5),
            transition: Duration::ZERO,
            max_stream_bytes: 1 << 30,
            retention: None,
        }
    }
}

/// The embedded Kinesis; cheap to clone.
#[derive(Clone)]
pub(crate) struct Kinesis {
    shared: Arc<Shared>,
}

struct Shared {
    options: KinesisOptions,
    clock: Clock,
    // A mutex rather than an owner task: calls are short, many run at once on the in-process connector, and none waits inside.
    engine: Mutex<Engine>,
}

impl Kinesis {
    pub(crate) fn new(
        options: KinesisOptions,
        account: &str,
        region: &str,
        seed: u64,
        clock: Clock,
    ) -> Self {
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 2);
        let limits = Limits {
            enforce: options.enforce_limits,
            stream_bytes: options.max_stream_bytes,
            transition_ms: ms(options.transition),
            retention_ms: options.retention.map(ms),
        };
        Self {
            shared: Arc::new(Shared {
                engine: Mutex::new(Engine::new(account, region, limits, seed)),
                options,
                clock,
            }),
        }
    }

    /// Answers one call: the operation's name without the service prefix, and its JSON body.
    pub(crate) async fn handle(&self, operation: &str, body: Bytes) -> Answer {
        ops::answer(self, operation, &body).unwrap_or_else(|refusal| refusal.answer())
    }

    fn options(&self) -> &KinesisOptions {
        &self.shared.options
    }

    /// The engine and the time; never held over an await.
    fn enter(&self) -> (MutexGuard<'_, Engine>, i64) {
        let mut engine = self.shared.engine.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock, so that time never goes back from one call to the next.
        let now_ms = self.shared.clock.now_ms();
        engine.settle(now_ms);
        (engine, now_ms)
    }
}

impl fmt::Debug for Kinesis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Kinesis")
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}
