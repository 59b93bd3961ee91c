//! The access epoch as this process last saw it: the promise that a revoked key is refused within
//! two seconds.
//!
//! A number in the store changes with every change of access. It is read every second; a view older
//! than two seconds (a store that did not answer, a process that was frozen) is read again before
//! anything is decided by it.

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use aws_smithy_async::time::SharedTimeSource;
use store::{AccessStore, StoreError};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Nothing is decided by a view this old.
const MAX_AGE: Duration = Duration::from_secs(2);
/// What one look may take.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// So long without a look, and the process says that it is not ready.
const BLIND_AFTER: Duration = Duration::from_secs(10);

/// The epoch could not be read, so nobody can be let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EpochError {
    /// The store says why.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It did not say anything in time.
    #[error("read the access epoch: no answer within {} ms", READ_TIMEOUT.as_millis())]
    Timeout,
}

/// One look: what was seen, and when it began, by both clocks. A frozen process's monotonic clock
/// may have stood still, a wall clock may have been set back; the view is only as young as the
/// older of the two says.
#[derive(Clone, Copy, Debug)]
struct Look {
    epoch: u64,
    began: Instant,
    began_wall: SystemTime,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct EpochView {
    access: AccessStore,
    time: SharedTimeSource,
    /// Requests read it, the watcher and late requests write it. Held for a copy only.
    last: Mutex<Option<Look>>,
    /// One look at a time when many requests find the view too old.
    looking: Semaphore,
}

impl EpochView {
    pub(crate) fn new(access: AccessStore, time: SharedTimeSource) -> Self {
        Self { access, time, last: Mutex::new(None), looking: Semaphore::new(1) }
    }

    /// The epoch, not older than two seconds.
    pub(crate) async fn current(&self) -> Result<u64, EpochError> {
        if let Some(epoch) = self.younger_than(MAX_AGE) {
            return Ok(epoch);
        }
        // Never closed, so it is always granted; whoever waited finds what the one before it saw.
        let _turn = self.looking.acquire().await;
        match self.younger_than(MAX_AGE) {
            Some(epoch) => Ok(epoch),
            None => self.look().await,
        }
    }

    /// Whether changes have been visible lately.
    pub(crate) fn sees_changes(&self) -> bool {
        self.younger_than(BLIND_AFTER).is_some()
    }

    /// The epoch as it was last seen, and how long ago; `None` before the first look.
    pub(crate) fn last_seen(&self) -> Option<(u64, Duration)> {
        let look = *self.last.lock().ok()?.as_ref()?;
        Some((look.epoch, look.began.elapsed()))
    }

    /// Looks every second until `stop`.
    pub(crate) async fn watch(&self, stop: CancellationToken) {
        let mut failing = false;
        loop {
            let looked = tokio::select! { biased;
                () = stop.cancelled() => return,
                looked = self.look() => looked,
            };
            metrics::epoch_looked(looked.is_ok());
            if let Err(error) = &looked
                && !failing
            {
                tracing::warn!(%error, "changes of access cannot be seen: requests are refused until they can");
            }
            failing = looked.is_err();
            tokio::select! { biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }

    async fn look(&self) -> Result<u64, EpochError> {
        let (began, began_wall) = (Instant::now(), self.time.now());
        let read = tokio::time::timeout(READ_TIMEOUT, self.access.epoch());
        let epoch = read.await.map_err(|_| EpochError::Timeout)??;
        let look = Look { epoch, began, began_wall };
        if let Ok(mut last) = self.last.lock() {
            // Two looks may overlap: the one that began later knows more.
            if last.is_none_or(|before| before.began <= began) {
                *last = Some(look);
            }
        }
        Ok(epoch)
    }

    fn younger_than(&self, age: Duration) -> Option<u64> {
        let look = *self.last.lock().ok()?.as_ref()?;
        let wall_age = self.time.now().duration_since(look.began_wall).unwrap_or_default();
        (look.began.elapsed() < age && wall_age < age).then_some(look.epoch)
    }
}
