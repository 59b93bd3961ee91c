//! When keys were last used: noted in memory by requests, at most once a minute for a key, and written to
//! the table beside them. A task that dies takes the last seconds with it; nobody decides by them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use store::{AccessStore, KeyId};
use tokio_util::sync::CancellationToken;

use super::generations::Generations;
use crate::metrics;

/// A key is noted again after this.
const EVERY_MS: i64 = 60_000;
/// Between two rounds of writing.
const ROUND: Duration = Duration::from_secs(5);
/// What one write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// Writes beside each other.
const PARALLEL: usize = 4;
/// Keys that wait to be written; those beyond wait for their next use.
const MAX_PENDING: usize = 10_000;

/// When one key was last noted, in ms since 1970.
#[derive(Debug, Default)]
pub(super) struct LastNoted(AtomicI64);

/// See the module.
pub(super) struct Uses {
    access: AccessStore,
    /// Taken once a minute for each key, and by the writer for a moment; never held over an await.
    pending: Mutex<HashMap<KeyId, i64>>,
    /// Every change of access makes the holders of keys anew, and with them what they noted. Held by the one round under way.
    written: tokio::sync::Mutex<Generations<KeyId, i64>>,
}

impl Uses {
    pub(super) fn new(access: AccessStore, capacity: usize) -> Self {
        let written = tokio::sync::Mutex::new(Generations::new(capacity));
        Self { access, pending: Mutex::default(), written }
    }

    /// A key was used just now.
    pub(super) fn note(&self, id: &KeyId, last: &LastNoted, now_ms: i64) {
        let before = last.0.load(Ordering::Relaxed);
        if now_ms.saturating_sub(before) < EVERY_MS {
            return;
        }
        last.0.store(now_ms, Ordering::Relaxed);
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.len() < MAX_PENDING {
            pending.insert(id.clone(), now_ms);
        }
    }

    /// Writes what was noted until `stop`, and what is left then.
    pub(super) async fn write(&self, stop: CancellationToken) {
        let mut failing = false;
        loop {
            let stopped = tokio::select! { biased;
                () = stop.cancelled() => true,
                () = tokio::time::sleep(ROUND) => false,
            };
            let failed = self.round().await;
            if let (Some(error), false) = (&failed, failing) {
                tracing::warn!(%error, "when keys were last used cannot be written");
            }
            failing = failed.is_some();
            if stopped {
                return;
            }
        }
    }

    /// Writes what was noted, now.
    pub(super) async fn settle(&self) {
        if let Some(error) = self.round().await {
            tracing::warn!(%error, "when keys were last used cannot be written");
        }
    }

    /// Writes what waits; gives one of the errors.
    async fn round(&self) -> Option<String> {
        let mut written = self.written.lock().await;
        let pending = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *pending)
        };
        let mut due = Vec::new();
        for (id, at_ms) in pending {
            if written.get(&id).is_none_or(|before| at_ms.saturating_sub(before) >= EVERY_MS) {
                written.insert(id.clone(), at_ms);
                due.push((id, at_ms));
            }
        }
        let writes = stream::iter(due).map(|(id, at_ms)| async move {
            let write = self.access.note_key_use(&id, at_ms);
            match tokio::time::timeout(WRITE_TIMEOUT, write).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => {
                    metrics::store_failed(error.class());
                    Some(error.to_string())
                }
                Err(_) => Some(format!("no answer within {WRITE_TIMEOUT:?}")),
            }
        });
        let outcomes: Vec<_> = writes.buffer_unordered(PARALLEL).collect().await;
        outcomes.into_iter().flatten().next()
    }
}
