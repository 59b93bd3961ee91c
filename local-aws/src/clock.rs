//! The one clock of this crate: wall-clock milliseconds that advance with tokio's clock.
//!
//! A base wall time is taken once, everything after it is `tokio::time::Instant` elapsed, so that paused time in a test moves
//! arrival times, expiries and limits together with every timer. It never reads the machine's wall clock again.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Wall-clock time that stands still when tokio's time is paused. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    Tokio { epoch: SystemTime, started: Instant },
    Given(Arc<dyn Fn() -> SystemTime + Send + Sync>),
}

impl Clock {
    /// A clock that reads `epoch` at this moment and then follows tokio's clock.
    #[must_use]
    pub fn starting_at(epoch: SystemTime) -> Self {
        Self(Source::Tokio { epoch, started: Instant::now() })
    }

    /// A clock that reads whatever `source` says, for a simulation in which several runtimes share one time.
    #[must_use]
    pub fn from_source(source: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Source::Given(Arc::new(source)))
    }

    /// The time as a wall-clock instant.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        match &self.0 {
            Source::Tokio { epoch, started } => *epoch + started.elapsed(),
            Source::Given(source) => source(),
        }
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        i64::try_from(self.since_epoch().as_millis()).unwrap_or(i64::MAX)
    }

    fn since_epoch(&self) -> Duration {
        self.now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Clock({} ms)", self.now_ms())
    }
}

/// DynamoDB reads the same clock, in seconds (stream records, time to live).
impl dynoxide::storage_backend::Clock for Clock {
    fn now_unix_secs(&self) -> u64 {
        self.since_epoch().as_secs()
    }

    fn now_unix_secs_f64(&self) -> f64 {
        self.since_epoch().as_secs_f64()
    }
}
