//! The calls by which tasks share limits: each charge of the table with its timeout, a bounded number beside each
//! other, counted and logged. Nothing is decided here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use aws_smithy_async::time::SharedTimeSource;
use store::{Charge, ClientId, Usage, UsageStore};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::tab::Now;
use crate::metrics;
use crate::options::Sharing;

/// What one charge may take, its turn included.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Charges beside each other.
const PARALLEL: usize = 32;

/// See the module.
#[derive(Debug)]
pub(super) struct Desk {
    usage: UsageStore,
    time: SharedTimeSource,
    sharing: Option<Sharing>,
    turns: Semaphore,
    /// Charges under way.
    pub(super) tasks: TaskTracker,
    /// The last charge failed: said once, and once when they work again.
    is_failing: AtomicBool,
}

impl Desk {
    pub(super) fn new(usage: UsageStore, time: SharedTimeSource, sharing: Option<Sharing>) -> Self {
        Self {
            usage,
            time,
            sharing,
            turns: Semaphore::new(PARALLEL),
            tasks: TaskTracker::new(),
            is_failing: AtomicBool::new(false),
        }
    }

    pub(super) fn sharing(&self) -> Option<Sharing> {
        self.sharing
    }

    pub(super) fn now(&self) -> Now {
        let since = self.time.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_ns = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
        Now { monotonic: Instant::now(), wall_ns }
    }

    /// Adds to what the client used; `None` if the table does not say that it did.
    pub(super) async fn charge(
        &self,
        client: &ClientId,
        day: i64,
        charge: &Charge,
    ) -> Option<Usage> {
        let call = async {
            // Never closed, so it is always granted.
            let _turn = self.turns.acquire().await;
            self.usage.charge(client, day, charge).await
        };
        let error = match tokio::time::timeout(TIMEOUT, call).await {
            Ok(Ok(usage)) => {
                metrics::limits_charged(true);
                if self.is_failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("limits are shared with the other tasks again");
                }
                return Some(usage);
            }
            Ok(Err(error)) => {
                metrics::store_failed(error.class());
                error.to_string()
            }
            Err(_) => format!("charge usage: no answer within {TIMEOUT:?}"),
        };
        metrics::limits_charged(false);
        if !self.is_failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                error,
                "limits are not shared with the other tasks: each goes by itself until they are"
            );
        }
        None
    }

    /// Waits for the charges under way. Each has its limit.
    pub(super) async fn told(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }

    /// Waits for the charges under way, for the last time.
    pub(super) async fn close(&self) {
        self.tasks.close();
        if tokio::time::timeout(TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!(left = self.tasks.len(), "not all that clients used could be written");
        }
    }
}
