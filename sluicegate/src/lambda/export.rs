//! Metrics of a process that is frozen between its invocations: exported after an invocation, if that is due. No thread of the
//! exporter's own would get to it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_smithy_async::time::SharedTimeSource;
use tokio::time::Instant;

use crate::config::Telemetry;
use crate::telemetry::MetricsExport;

/// What an export may hold up the freeze for.
const EXPORT_TIME: Duration = Duration::from_secs(1);
/// By itself the exporter would export this often: never, as far as a function is concerned.
const NEVER: Duration = Duration::from_secs(366 * 86_400);

/// See the module.
pub(super) struct Export {
    metrics: MetricsExport,
    interval: Duration,
    time: SharedTimeSource,
    /// By the wall's clock, which goes on during a freeze. Held for a copy only.
    last: Mutex<SystemTime>,
    /// One that took longer than its time, and may still be under way.
    is_busy: Arc<AtomicBool>,
}

impl Export {
    /// `None` where metrics go nowhere.
    pub(super) fn start(
        telemetry: &Telemetry,
        time: SharedTimeSource,
    ) -> anyhow::Result<Option<Export>> {
        let Some(endpoint) = &telemetry.otlp_endpoint else { return Ok(None) };
        let metrics = MetricsExport::start(endpoint, "sluicegate-api", NEVER)?;
        Ok(Some(Export {
            metrics,
            interval: telemetry.metrics_interval,
            time,
            // The first invocation exports: the process may not live for an interval.
            last: Mutex::new(UNIX_EPOCH),
            is_busy: Arc::default(),
        }))
    }

    /// Exports if the last time is an interval ago, until `until` at most.
    pub(super) async fn if_due(&self, until: Instant) {
        let now = self.time.now();
        {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            // A clock that was set back is no reason to wait for it.
            let is_due = now.duration_since(*last).map_or(true, |age| age >= self.interval);
            if !is_due || self.is_busy.load(Ordering::Relaxed) {
                return;
            }
            *last = now;
        }
        self.flush(until.min(Instant::now() + EXPORT_TIME)).await;
    }

    /// Exports what is left.
    pub(super) async fn stop(&self) {
        self.flush(Instant::now() + EXPORT_TIME).await;
    }

    async fn flush(&self, until: Instant) {
        let (metrics, is_busy) = (self.metrics.clone(), Arc::clone(&self.is_busy));
        is_busy.store(true, Ordering::Relaxed);
        let flushing = tokio::task::spawn_blocking(move || {
            metrics.flush();
            is_busy.store(false, Ordering::Relaxed);
        });
        if tokio::time::timeout_at(until, flushing).await.is_err() {
            tracing::warn!("metrics were not exported in time: they come with the next ones");
        }
    }
}
