//! One reader of an integration for all who follow it in this process: once a second, however many they are.
//!
//! What it read lately is kept in a ring, from which everybody takes at his own pace. The ring is bounded in bytes: whoever
//! is slower than that has lagged, and nobody else notices. A feed ends with the last who follows.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_smithy_async::time::SharedTimeSource;
use store::{ARRIVALS_KEPT, IntegrationName, MessageStore, StoreError};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::reader::{Chunk, Found, Reader, now_ms};
use super::window::{OVERLAP_MS, Place, Position};
use crate::metrics;

/// Between two rounds.
const INTERVAL: Duration = Duration::from_secs(1);
/// What one reading may take.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// What who begins to follow waits for the first look.
const START_TIMEOUT: Duration = Duration::from_secs(5);
/// Chunks of a ring, however small.
const MAX_CHUNKS: usize = 10_000;
/// Readings at once of those who catch up.
const CATCHING_UP: usize = 8;

/// All feeds of a process.
#[derive(Clone)]
pub(crate) struct Feeds {
    inner: Arc<Inner>,
}

struct Inner {
    messages: Arc<dyn MessageStore>,
    time: SharedTimeSource,
    /// Of all rings together.
    max_bytes: usize,
    /// Held for a look-up, never over an await. A feed that nobody follows any more takes itself out.
    feeds: Mutex<HashMap<IntegrationName, Arc<Feed>>>,
    catching_up: Semaphore,
}

/// What an integration's followers share.
struct Feed {
    /// The feed writes it, followers read it. Held for a few moves, never over an await.
    ring: Mutex<Ring>,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It has not looked yet.
    Starting,
    /// The number of the next chunk.
    Upto(u64),
    /// It cannot go on where it was.
    Ended,
}

/// Chunks that were read lately, by number.
struct Ring {
    chunks: VecDeque<Arc<Chunk>>,
    first: u64,
    bytes: usize,
    /// Behind all of them.
    place: Place,
}

impl Ring {
    fn end(&self) -> u64 {
        self.first + self.chunks.len() as u64
    }

    fn push(&mut self, chunk: Chunk, max_bytes: usize) {
        self.bytes += chunk.bytes();
        self.chunks.push_back(Arc::new(chunk));
        while self.chunks.len() > 1 && (self.bytes > max_bytes || self.chunks.len() > MAX_CHUNKS) {
            if let Some(oldest) = self.chunks.pop_front() {
                self.bytes -= oldest.bytes();
                self.first += 1;
            }
        }
    }
}

impl Feed {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who follows at the feed's pace.
pub(super) struct Subscription {
    feed: Arc<Feed>,
    state: watch::Receiver<State>,
    next: u64,
}

/// What comes next of a subscription.
#[derive(Debug)]
pub(super) enum Next {
    Chunk(Arc<Chunk>),
    /// Some were let go of before they were taken.
    Lagged,
    Ended,
}

impl Subscription {
    /// Cancel safe.
    pub(super) async fn next(&mut self) -> Next {
        loop {
            let state = *self.state.borrow_and_update();
            {
                let ring = self.feed.ring();
                let Some(at) = self.next.checked_sub(ring.first) else { return Next::Lagged };
                if let Some(chunk) = usize::try_from(at).ok().and_then(|at| ring.chunks.get(at)) {
                    self.next += 1;
                    return Next::Chunk(Arc::clone(chunk));
                }
            }
            if state == State::Ended || self.state.changed().await.is_err() {
                return Next::Ended;
            }
        }
    }

    /// Where the feed is, if everything of it was taken.
    pub(super) fn place(&self) -> Option<Place> {
        let ring = self.feed.ring();
        (self.next == ring.end()).then(|| ring.place.clone())
    }
}

impl Feeds {
    /// Rings take up to `max_bytes` together.
    pub(crate) fn new(
        messages: Arc<dyn MessageStore>,
        time: SharedTimeSource,
        max_bytes: usize,
    ) -> Feeds {
        let feeds = Mutex::new(HashMap::new());
        let catching_up = Semaphore::new(CATCHING_UP);
        Feeds { inner: Arc::new(Inner { messages, time, max_bytes, feeds, catching_up }) }
    }

    /// A reader of an integration from this position on.
    pub(super) fn reader(&self, integration: &IntegrationName, from: Position) -> Reader {
        let Inner { messages, time, .. } = &*self.inner;
        Reader::new(Arc::clone(messages), time.clone(), integration.clone(), from)
    }

    /// What the reader of one who catches up finds next, in its turn among those of others.
    pub(super) async fn read(&self, reader: &mut Reader) -> Result<Found, StoreError> {
        // Never closed, so it is always granted.
        let _turn = self.inner.catching_up.acquire().await;
        within(reader.next()).await
    }

    /// Follows an integration from now on; `None` if it cannot be looked at.
    pub(super) async fn join(&self, integration: &IntegrationName) -> Option<Subscription> {
        let (feed, mut state) = self.feed(integration);
        let started = async {
            while *state.borrow_and_update() == State::Starting {
                state.changed().await.ok()?;
            }
            Some(())
        };
        timeout(START_TIMEOUT, started).await.ok()??;
        let next = feed.ring().end();
        Some(Subscription { feed, state, next })
    }

    /// The integration's feed, which is begun if there is none.
    fn feed(&self, integration: &IntegrationName) -> (Arc<Feed>, watch::Receiver<State>) {
        let mut feeds = self.inner.lock();
        if let Some(feed) = feeds.get(integration) {
            return (Arc::clone(feed), feed.state.subscribe());
        }
        let (state, receiver) = watch::channel(State::Starting);
        let start_ms = now_ms(&self.inner.time).saturating_sub(OVERLAP_MS);
        let reader = self.reader(integration, Position::at_ms(start_ms));
        let place = Place::at(Arc::new(reader.position()));
        let ring = Ring { chunks: VecDeque::new(), first: 0, bytes: 0, place };
        let feed = Arc::new(Feed { ring: Mutex::new(ring), state });
        feeds.insert(integration.clone(), Arc::clone(&feed));
        metrics::tailed(feeds.len());
        let running = Arc::clone(&self.inner).run(integration.clone(), Arc::clone(&feed), reader);
        tokio::spawn(running);
        (feed, receiver)
    }
}

/// What goes on too long is no answer.
async fn within<T>(reading: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let detail = format!("none within {} ms", READ_TIMEOUT.as_millis());
    let late = |_| StoreError::Unavailable { operation: "follow an integration", detail };
    timeout(READ_TIMEOUT, reading).await.map_err(late)?
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, HashMap<IntegrationName, Arc<Feed>>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads until nobody follows.
    async fn run(
        self: Arc<Self>,
        integration: IntegrationName,
        feed: Arc<Feed>,
        mut reader: Reader,
    ) {
        let mut begun = false;
        while self.is_followed(&integration, &feed) {
            let read = match begun {
                true => self.step(&feed, &mut reader).await,
                false => self.begin(&feed, &mut reader).await,
            };
            begun |= read.is_ok();
            match read {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    metrics::store_failed(error.class());
                    tracing::warn!(integration = integration.as_str(), %error, "what is new cannot be read now");
                    if is_too_late(&reader) {
                        self.take_out(&integration);
                        feed.state.send_replace(State::Ended);
                        return;
                    }
                }
            }
            sleep(INTERVAL).await;
        }
    }

    /// What is there already is nobody's news.
    async fn begin(&self, feed: &Feed, reader: &mut Reader) -> Result<bool, StoreError> {
        within(reader.skip()).await?;
        let mut ring = feed.ring();
        ring.place = Place::at(Arc::new(reader.position()));
        feed.state.send_replace(State::Upto(ring.end()));
        Ok(false)
    }

    /// True if there may be more at once.
    async fn step(&self, feed: &Feed, reader: &mut Reader) -> Result<bool, StoreError> {
        let found = within(reader.next()).await?;
        let share = self.max_bytes / self.lock().len().max(1);
        let mut ring = feed.ring();
        match found {
            Found::Chunk(chunk) => {
                ring.place = chunk.end();
                ring.push(chunk, share);
                feed.state.send_replace(State::Upto(ring.end()));
                Ok(true)
            }
            Found::Round => {
                ring.place = Place::at(Arc::new(reader.position()));
                Ok(false)
            }
        }
    }

    /// False when the last one has gone; the feed is taken out then.
    fn is_followed(&self, integration: &IntegrationName, feed: &Feed) -> bool {
        let mut feeds = self.lock();
        let followed = feed.state.receiver_count() > 0;
        if !followed {
            feeds.remove(integration);
            metrics::tailed(feeds.len());
        }
        followed
    }

    fn take_out(&self, integration: &IntegrationName) {
        let mut feeds = self.lock();
        feeds.remove(integration);
        metrics::tailed(feeds.len());
    }
}

/// Notes that were never read may be gone by now. Those who follow are told, and find that out when they resume.
fn is_too_late(reader: &Reader) -> bool {
    let kept_ms = i64::try_from(ARRIVALS_KEPT.as_millis()).unwrap_or(i64::MAX);
    reader.now_ms().saturating_sub(reader.position().needs_ms()) > kept_ms
}
