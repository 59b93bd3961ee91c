//! Keeps this worker's view of the subscriptions fresh, or says that it is not.
//!
//! One small read of the epochs each second, all subscriptions and their owners' grants again when one
//! changed. A [`View`] says
//! when its reading *began*: everything that was committed before that instant is in it. Whoever
//! routes by it asks [`ViewWatch::is_fresh`] first; nothing is ever filtered out by a stale view.

use std::sync::Arc;
use std::time::Duration;

use store::{StoreError, SubscriptionSnapshot, SubscriptionStore};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::metrics;
use crate::ailment::Ailment;

/// A read of the epochs that takes longer counts as failed.
const EPOCH_TIMEOUT: Duration = Duration::from_secs(1);
/// A read of all subscriptions that takes longer counts as failed.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);

/// How often the subscriptions are looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct WatchPace {
    /// Between two reads while nothing asks for more.
    pub(super) interval: Duration,
    /// Between two reads while batches wait to be confirmed.
    pub(super) shortest: Duration,
    /// A view older than this is stale.
    pub(super) max_age: Duration,
}

/// The subscriptions, and since when they are known to be all.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) snapshot: Arc<SubscriptionSnapshot>,
    /// Everything committed before this instant is in the snapshot.
    pub(super) read_began: Instant,
}

/// The reading end, shared by all who route.
#[derive(Debug, Clone)]
pub(crate) struct ViewWatch {
    views: watch::Receiver<Option<View>>,
    ask: Arc<Notify>,
    max_age: Duration,
    ailment: Arc<Ailment>,
}

impl ViewWatch {
    /// The subscriptions were read within `max_age`.
    pub(super) fn is_fresh(&self) -> bool {
        self.age().is_some_and(|age| age <= self.max_age)
    }

    /// Time since the newest good reading began; `None` before the first.
    pub(super) fn age(&self) -> Option<Duration> {
        self.views.borrow().as_ref().map(|view| view.read_began.elapsed())
    }

    /// What ails the table that the subscriptions are read from.
    pub(super) fn ailment(&self) -> Option<(String, String)> {
        self.ailment.words(Instant::now())
    }

    /// The newest view, if it is fresh.
    pub(super) fn fresh(&self) -> Option<View> {
        self.views.borrow().clone().filter(|view| view.read_began.elapsed() <= self.max_age)
    }

    /// Asks for a reading soon.
    pub(super) fn confirm_soon(&self) {
        self.ask.notify_one();
    }

    /// The next view. `None` once the watcher has ended.
    pub(super) async fn next(&mut self) -> Option<View> {
        loop {
            self.views.changed().await.ok()?;
            if let Some(view) = self.views.borrow_and_update().clone() {
                return Some(view);
            }
        }
    }
}

/// The reading task.
pub(super) struct Watcher {
    store: SubscriptionStore,
    pace: WatchPace,
    views: watch::Sender<Option<View>>,
    ask: Arc<Notify>,
    ailment: Arc<Ailment>,
}

impl Watcher {
    pub(super) fn new(store: SubscriptionStore, pace: WatchPace) -> (Watcher, ViewWatch) {
        let (sender, views) = watch::channel(None);
        let ask = Arc::new(Notify::new());
        let ailment = Arc::new(Ailment::new("subscriptions"));
        let watch = ViewWatch {
            views,
            ask: Arc::clone(&ask),
            max_age: pace.max_age,
            ailment: Arc::clone(&ailment),
        };
        (Watcher { store, pace, views: sender, ask, ailment }, watch)
    }

    /// Reads until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        loop {
            let began = Instant::now();
            let read = tokio::select! { biased;
                () = stop.cancelled() => return,
                read = self.read() => read,
            };
            match read {
                Ok(snapshot) => {
                    self.ailment.recovered(Instant::now());
                    self.views.send_replace(Some(View { snapshot, read_began: began }));
                }
                Err(error) => self.ailment.failed(&error.to_string(), Instant::now()),
            }
            let age = self.views.borrow().as_ref().map(|view| view.read_began.elapsed());
            metrics::view_age(age.unwrap_or_default());
            tokio::select! { biased;
                () = stop.cancelled() => return,
                () = self.until_next(began) => {}
            }
        }
    }

    async fn until_next(&self, began: Instant) {
        tokio::select! { biased;
            () = self.ask.notified() => sleep_until(began + self.pace.shortest).await,
            () = sleep_until(began + self.pace.interval) => {}
        }
    }

    async fn read(&self) -> Result<Arc<SubscriptionSnapshot>, WatchError> {
        let known = self.views.borrow().as_ref().map(|view| Arc::clone(&view.snapshot));
        if let Some(known) = known {
            let epochs = timeout(EPOCH_TIMEOUT, self.store.epochs())
                .await
                .map_err(|_| WatchError::TimedOut)??;
            if epochs == known.epochs {
                return Ok(known);
            }
        }
        let snapshot = timeout(SNAPSHOT_TIMEOUT, self.store.snapshot())
            .await
            .map_err(|_| WatchError::TimedOut)??;
        tracing::info!(
            epoch = snapshot.epochs.subscriptions,
            access_epoch = snapshot.epochs.access,
            subscriptions = snapshot.subscriptions.len(),
            "subscriptions read"
        );
        Ok(Arc::new(snapshot))
    }
}

#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the read took too long")]
    TimedOut,
}
