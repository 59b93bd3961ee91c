//! Who is connected, and since when each has nothing in work: so that where there is no room for another
//! connection, the one that has been of no use for longest makes it. Whoever opens connections and says
//! nothing keeps nobody out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Requests in work on one connection, and since when there are none.
#[derive(Debug)]
pub(super) struct Activity {
    in_work: AtomicUsize,
    /// Some request of it was answered: it belongs to a client that means something.
    has_served: AtomicBool,
    opened: Instant,
    last_end_ms: AtomicU64,
    asked_to_leave: Notify,
    closing: CancellationToken,
}

/// Counts one request until it, and the body of its answer, are gone.
pub(crate) struct Working(Arc<Activity>);

impl Activity {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            in_work: AtomicUsize::new(0),
            has_served: AtomicBool::new(false),
            opened: Instant::now(),
            last_end_ms: AtomicU64::new(0),
            asked_to_leave: Notify::new(),
            closing: CancellationToken::new(),
        })
    }

    pub(super) fn begin(self: &Arc<Self>) -> Working {
        self.in_work.fetch_add(1, Ordering::Relaxed);
        Working(Arc::clone(self))
    }

    /// Cancelled when the connection takes nothing new any more.
    pub(super) fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_work.load(Ordering::Relaxed) == 0
    }

    fn idle_since(&self) -> Instant {
        self.opened + Duration::from_millis(self.last_end_ms.load(Ordering::Relaxed))
    }

    /// When the connection will have been idle for `limit`, if nothing happens until then.
    pub(super) fn idle_at(&self, limit: Duration) -> Instant {
        let since = if self.is_idle() { self.idle_since() } else { Instant::now() };
        since + limit
    }

    /// Completes when another connection needs its room. It may have got work meanwhile.
    pub(super) async fn asked_to_leave(&self) {
        self.asked_to_leave.notified().await;
    }
}

impl Working {
    pub(super) fn closing(&self) -> CancellationToken {
        self.0.closing().clone()
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        let activity = &self.0;
        let elapsed_ms = u64::try_from(activity.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        activity.last_end_ms.store(elapsed_ms, Ordering::Relaxed);
        activity.has_served.store(true, Ordering::Relaxed);
        activity.in_work.fetch_sub(1, Ordering::Relaxed);
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// Held to add, to take out and to choose, never over an await.
    present: Mutex<HashMap<u64, Arc<Activity>>>,
    next: AtomicU64,
}

/// A connection on the roster, until it is dropped.
pub(super) struct Present {
    roster: Arc<Roster>,
    number: u64,
    activity: Arc<Activity>,
}

impl Roster {
    pub(super) fn enter(self: &Arc<Self>) -> Present {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let activity = Activity::new();
        self.lock().insert(number, Arc::clone(&activity));
        Present { roster: Arc::clone(self), number, activity }
    }

    /// Asks one connection to leave; false if all have work. It is of those that never asked for anything, if there are any, and
    /// among them the one that has been so for longest.
    pub(super) fn make_room(&self) -> bool {
        let present = self.lock();
        let idle = present.values().filter(|activity| activity.is_idle());
        let longest = idle.min_by_key(|activity| {
            (activity.has_served.load(Ordering::Relaxed), activity.idle_since())
        });
        if let Some(activity) = longest {
            activity.asked_to_leave.notify_one();
        }
        longest.is_some()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Activity>>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Present {
    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.roster.lock().remove(&self.number);
    }
}
