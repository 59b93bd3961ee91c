//! Waiting for an entity's next message: however many clients wait for one entity, the store is asked once a second for it.
//!
//! A watch says that something is there that was not there before, to look again; never what, and never to whom it may be
//! shown. It ends with the last who waits. Start at [`Watches::watch`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use aws_smithy_async::time::SharedTimeSource;
use store::{Entity, IntegrationName, MessageId, MessageStore};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::metrics;

/// Between two looks at an entity that somebody waits for.
const INTERVAL: Duration = Duration::from_secs(1);
/// What one look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

type Watched = (IntegrationName, Entity);

/// The newest message of an entity as it was seen last; `None` before the first look, and while there is none.
type Newest = Option<MessageId>;

/// See the module.
#[derive(Clone)]
pub(crate) struct Watches {
    inner: Arc<Inner>,
}

struct Inner {
    messages: Arc<dyn MessageStore>,
    time: SharedTimeSource,
    max_watched: usize,
    /// Held for a look-up, never over an await. What nobody waits for any more is taken out by its own task.
    watched: Mutex<HashMap<Watched, watch::Sender<Newest>>>,
}

impl Watches {
    /// Over at most `max_watched` entities at once.
    pub(crate) fn new(
        messages: Arc<dyn MessageStore>,
        time: SharedTimeSource,
        max_watched: usize,
    ) -> Watches {
        let watched = Mutex::new(HashMap::new());
        Watches { inner: Arc::new(Inner { messages, time, max_watched, watched }) }
    }

    /// Tells when the entity's newest message is another one than before; `None` if too many are watched already.
    pub(crate) fn watch(&self, integration: &IntegrationName, entity: &Entity) -> Option<Watch> {
        let key = (integration.clone(), entity.clone());
        let mut watched = self.inner.lock();
        if let Some(sender) = watched.get(&key) {
            return Some(Watch { newest: sender.subscribe() });
        }
        if watched.len() >= self.inner.max_watched {
            return None;
        }
        let (sender, newest) = watch::channel(None);
        watched.insert(key.clone(), sender);
        metrics::watched(watched.len());
        tokio::spawn(Arc::clone(&self.inner).look_after(key));
        Some(Watch { newest })
    }
}

/// One who waits.
pub(crate) struct Watch {
    newest: watch::Receiver<Newest>,
}

impl Watch {
    /// Completes when there may be something new, at the latest at `deadline`; false then. Cancel safe.
    pub(crate) async fn changed_until(&mut self, deadline: Instant) -> bool {
        match tokio::time::timeout_at(deadline, self.newest.changed()).await {
            Ok(Ok(())) => true,
            // Its task is gone, which only a panic explains: nothing will change, and the time is waited out.
            Ok(Err(_)) => {
                tokio::time::sleep_until(deadline).await;
                false
            }
            Err(_) => false,
        }
    }
}

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Watched, watch::Sender<Newest>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks until nobody waits.
    async fn look_after(self: Arc<Self>, key: Watched) {
        loop {
            let now_ms = self.now_ms();
            let look = self.messages.latest(&key.0, &key.1, now_ms, false);
            let found = match timeout(LOOK_TIMEOUT, look).await {
                Ok(Ok(found)) => Some(found.map(|message| message.id)),
                Ok(Err(error)) => {
                    metrics::store_failed(error.class());
                    tracing::debug!(%error, "an entity that clients wait for cannot be looked at now");
                    None
                }
                Err(_) => None,
            };
            {
                let mut watched = self.lock();
                let Some(sender) = watched.get(&key) else { return };
                if sender.is_closed() {
                    watched.remove(&key);
                    metrics::watched(watched.len());
                    return;
                }
                if let Some(found) = found {
                    sender.send_if_modified(|before| {
                        let differs = *before != found;
                        *before = found;
                        differs
                    });
                }
            }
            sleep(INTERVAL).await;
        }
    }

    fn now_ms(&self) -> i64 {
        let since = self.time.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}
