//! One who follows an integration: from now on at the feed's pace, or from an earlier place, catching up first.
//!
//! Who catches up reads by himself until nothing is left, then joins the feed, reads once more, strongly consistent, and from
//! there on takes what the feed gives, but for what he has. What the feed had read before he joined was there to be read then.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use store::{IntegrationName, Message, StoreError};

use super::feed::{Feeds, Next, Subscription};
use super::reader::{Chunk, Found, Reader};
use super::window::{Place, Position, Window};

/// What comes next of what is followed.
pub(crate) enum Step {
    /// Messages.
    Given(Given),
    /// The feed went on without this one, who is too slow; he goes on by himself from his place.
    Lagged,
    /// It cannot be read now.
    Unavailable,
}

/// Messages of one note, in its order.
pub(crate) struct Given {
    chunk: Arc<Chunk>,
    /// What this one had before it.
    before: Arc<Position>,
}

impl Given {
    fn of(chunk: Arc<Chunk>) -> Given {
        let before = Arc::clone(chunk.before());
        Given { chunk, before }
    }

    /// The messages, each with where to go on behind it.
    pub(crate) fn messages(&self) -> impl Iterator<Item = (&Message, Place)> {
        let place = |at| Place::within(&self.before, self.chunk.row(), at + 1);
        self.chunk.messages().map(move |(at, message)| (message, place(at)))
    }

    fn end(&self) -> Place {
        Place::within(&self.before, self.chunk.row(), self.chunk.taken())
    }
}

/// See the module.
pub(crate) struct Follower {
    feeds: Feeds,
    integration: IntegrationName,
    source: Source,
    place: Place,
}

enum Source {
    CatchingUp {
        work: BoxFuture<'static, Worked>,
        joined: Option<Subscription>,
    },
    /// With what is not to be given again.
    Live {
        feed: Subscription,
        had: Option<Had>,
    },
}

/// What one who joined a feed has, of which the feed may give some yet.
struct Had {
    window: Window,
    /// None of it is later.
    until_ms: i64,
}

impl Had {
    fn of(reader: &Reader) -> Had {
        let window = reader.window().clone();
        Had { until_ms: window.last_ms(), window }
    }

    /// A feed that is here gives nothing of it any more.
    fn is_passed(&self, feed: &Position) -> bool {
        feed.needs_ms() > self.until_ms
    }

    /// The chunk, unless it was given.
    fn left(&mut self, chunk: Arc<Chunk>) -> Option<Given> {
        self.window.taken(chunk.row())?;
        self.window.rebase(chunk.before().needs_ms());
        let before = Arc::new(self.window.position());
        if chunk.is_last() {
            self.window.give(*chunk.row());
        }
        Some(Given { chunk, before })
    }
}

type Worked = (Reader, Result<Work, StoreError>);

enum Work {
    Found(Found),
    Joined(Option<Subscription>),
}

impl Follower {
    /// Everything from now on; `None` if it cannot be read now.
    pub(crate) async fn from_now(feeds: &Feeds, integration: &IntegrationName) -> Option<Follower> {
        let feed = feeds.join(integration).await?;
        let place = feed.place()?;
        let source = Source::Live { feed, had: None };
        Some(Follower { feeds: feeds.clone(), integration: integration.clone(), source, place })
    }

    /// Everything from there on.
    pub(crate) fn from_position(
        feeds: &Feeds,
        integration: &IntegrationName,
        position: Position,
    ) -> Follower {
        let place = Place::at(Arc::new(position.clone()));
        let work = read(feeds, feeds.reader(integration, position));
        let source = Source::CatchingUp { work, joined: None };
        Follower { feeds: feeds.clone(), integration: integration.clone(), source, place }
    }

    /// Where another one goes on who has everything that was given here.
    pub(crate) fn place(&self) -> Place {
        match &self.source {
            Source::Live { feed, had } => {
                let passed =
                    |place: &Place| had.as_ref().is_none_or(|had| had.is_passed(place.before()));
                feed.place().filter(passed).unwrap_or_else(|| self.place.clone())
            }
            Source::CatchingUp { .. } => self.place.clone(),
        }
    }

    /// What comes next. Cancel safe.
    pub(crate) async fn next(&mut self) -> Step {
        loop {
            let step = match &mut self.source {
                Source::CatchingUp { work, .. } => {
                    let worked = work.await;
                    self.worked(worked)
                }
                Source::Live { feed, had } => match feed.next().await {
                    Next::Chunk(chunk) => given(had, chunk).map(Step::Given),
                    Next::Lagged => Some(Step::Lagged),
                    Next::Ended => Some(Step::Unavailable),
                },
            };
            if let Some(step) = step {
                if let Step::Given(given) = &step {
                    self.place = given.end();
                }
                return step;
            }
        }
    }

    /// What catching up came to; it goes on with the next call.
    fn worked(&mut self, (reader, worked): Worked) -> Option<Step> {
        let Source::CatchingUp { work, joined } = &mut self.source else { return None };
        match worked {
            Ok(Work::Found(Found::Chunk(chunk))) => {
                *work = read(&self.feeds, reader);
                return Some(Step::Given(Given::of(Arc::new(chunk))));
            }
            Ok(Work::Found(Found::Round)) => {
                self.place = Place::at(Arc::new(reader.position()));
                match joined.take() {
                    Some(feed) => {
                        let had = Some(Had::of(&reader));
                        self.source = Source::Live { feed, had };
                    }
                    None => *work = join(&self.feeds, self.integration.clone(), reader),
                }
            }
            Ok(Work::Joined(Some(feed))) => {
                *joined = Some(feed);
                *work = read(&self.feeds, reader.consistently());
            }
            Ok(Work::Joined(None)) => {
                *work = read(&self.feeds, reader);
                return Some(Step::Unavailable);
            }
            Err(error) => {
                crate::metrics::store_failed(error.class());
                tracing::warn!(integration = self.integration.as_str(), %error, "one who resumes cannot be caught up now");
                *work = read(&self.feeds, reader);
                return Some(Step::Unavailable);
            }
        }
        None
    }
}

/// What a feed gives, to one who may have it.
fn given(had: &mut Option<Had>, chunk: Arc<Chunk>) -> Option<Given> {
    if had.as_ref().is_some_and(|had| had.is_passed(chunk.before())) {
        *had = None;
    }
    match had {
        Some(had) => had.left(chunk),
        None => Some(Given::of(chunk)),
    }
}

fn read(feeds: &Feeds, mut reader: Reader) -> BoxFuture<'static, Worked> {
    let feeds = feeds.clone();
    async move {
        let found = feeds.read(&mut reader).await.map(Work::Found);
        (reader, found)
    }
    .boxed()
}

fn join(feeds: &Feeds, integration: IntegrationName, reader: Reader) -> BoxFuture<'static, Worked> {
    let feeds = feeds.clone();
    async move {
        let joined = feeds.join(&integration).await;
        (reader, Ok(Work::Joined(joined)))
    }
    .boxed()
}
