//! Reads an integration's notes forward, and the messages behind them, each once. What was read is remembered
//! only when it was read whole, so a failure, and a future that is dropped, leave nothing out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use aws_smithy_async::time::SharedTimeSource;
use store::{
    ARRIVALS_SKEW, ArrivalRow, Arrivals, ArrivalsFrom, ArrivalsQuery, Class, IntegrationName,
    Locator, Message, MessageStore, StoreError,
};

use super::window::{Place, Position, Window};
use crate::metrics;

/// Payload bytes of one chunk; one message is always taken, however large.
const CHUNK_BYTES: usize = 256 * 1024;
/// What a message takes beside its payload, about.
const MESSAGE_BYTES: usize = 512;

/// Some messages of one note, in its order; what expired or was removed meanwhile is left out.
#[derive(Debug)]
pub(crate) struct Chunk {
    row: ArrivalRow,
    before: Arc<Position>,
    /// Places of the note that are given with it, and whether these are all.
    end: usize,
    is_last: bool,
    /// With their place in the note.
    messages: Vec<(usize, Message)>,
}

impl Chunk {
    pub(super) fn row(&self) -> &ArrivalRow {
        &self.row
    }

    pub(super) fn before(&self) -> &Arc<Position> {
        &self.before
    }

    /// The messages, with their place in the note.
    pub(super) fn messages(&self) -> impl Iterator<Item = (usize, &Message)> {
        self.messages.iter().map(|(at, message)| (*at, message))
    }

    /// Where its reader goes on behind all of it.
    pub(super) fn end(&self) -> Place {
        Place::within(&self.before, &self.row, self.end)
    }

    /// Places of the note that are given with it.
    pub(super) fn taken(&self) -> usize {
        self.end
    }

    /// The note is given with it.
    pub(super) fn is_last(&self) -> bool {
        self.is_last
    }

    /// About what it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        let of = |(_, message): &(usize, Message)| message.payload.len() + MESSAGE_BYTES;
        self.messages.iter().map(of).sum::<usize>() + MESSAGE_BYTES
    }
}

/// What reading came to.
#[derive(Debug)]
pub(super) enum Found {
    Chunk(Chunk),
    /// Everything that can be found now was given.
    Round,
}

/// A note whose messages are being read.
struct Open {
    note: Arrivals,
    taken: usize,
    before: Arc<Position>,
}

/// See the module.
pub(super) struct Reader {
    messages: Arc<dyn MessageStore>,
    time: SharedTimeSource,
    integration: IntegrationName,
    window: Window,
    /// Read notes strongly consistently.
    consistent: bool,
    /// Notes of the page under way that were not given yet, and the one that is being given.
    page: VecDeque<Arrivals>,
    open: Option<Open>,
    /// Where the page under way ends, and when its reading began.
    page_end: Option<(Option<ArrivalsFrom>, i64)>,
    /// Where the next page of the round begins; `None` before a round.
    next: Option<ArrivalsFrom>,
}

impl Reader {
    pub(super) fn new(
        messages: Arc<dyn MessageStore>,
        time: SharedTimeSource,
        integration: IntegrationName,
        from: Position,
    ) -> Reader {
        Reader {
            messages,
            time,
            integration,
            window: Window::at(from),
            consistent: false,
            page: VecDeque::new(),
            open: None,
            page_end: None,
            next: None,
        }
    }

    /// The same, from now on reading notes strongly consistently.
    pub(super) fn consistently(self) -> Reader {
        Reader { consistent: true, ..self }
    }

    pub(super) fn position(&self) -> Position {
        self.window.position()
    }

    pub(super) fn window(&self) -> &Window {
        &self.window
    }

    pub(super) fn now_ms(&self) -> i64 {
        now_ms(&self.time)
    }

    /// The next messages, or that there are none now.
    pub(super) async fn next(&mut self) -> Result<Found, StoreError> {
        loop {
            if self.next_note()
                && let Some(chunk) = self.read_messages().await?
            {
                return Ok(Found::Chunk(chunk));
            }
            if self.page_ended() || self.read_page().await? {
                return Ok(Found::Round);
            }
        }
    }

    /// Counts everything that can be found now as given, without reading it.
    pub(super) async fn skip(&mut self) -> Result<(), StoreError> {
        loop {
            while self.next_note() {
                if let Some(open) = self.open.take() {
                    self.window.give(open.note.row);
                }
            }
            if self.page_ended() || self.read_page().await? {
                return Ok(());
            }
        }
    }

    /// Opens the next note of the page; false at its end.
    fn next_note(&mut self) -> bool {
        while self.open.is_none() {
            let Some(note) = self.page.pop_front() else { return false };
            match self.window.taken(&note.row).filter(|taken| *taken < note.places.len()) {
                Some(taken) => {
                    let before = Arc::new(self.window.position());
                    self.open = Some(Open { note, taken, before });
                }
                None => self.window.give(note.row),
            }
        }
        true
    }

    /// The page under way, if there is one, is given: true when it was the round's last.
    fn page_ended(&mut self) -> bool {
        let Some((upto, began_ms)) = self.page_end.take() else { return false };
        self.window.settle(upto, began_ms);
        self.next = upto;
        upto.is_none()
    }

    /// Reads a page; true when it is empty and the last one.
    async fn read_page(&mut self) -> Result<bool, StoreError> {
        let now_ms = self.now_ms();
        let skew_ms = i64::try_from(ARRIVALS_SKEW.as_millis()).unwrap_or(i64::MAX);
        let query = ArrivalsQuery {
            integration: self.integration.clone(),
            from: self.next.unwrap_or_else(|| self.window.from()),
            until_ms: now_ms.saturating_add(skew_ms),
            consistent: self.consistent,
        };
        let page = self.messages.arrivals(&query).await?;
        self.page = page.notes.into();
        self.page_end = Some((page.upto, now_ms));
        Ok(self.page.is_empty() && self.page_ended())
    }

    /// The next messages of the open note.
    async fn read_messages(&mut self) -> Result<Option<Chunk>, StoreError> {
        let now_ms = self.now_ms();
        let Some(open) = &mut self.open else { return Ok(None) };
        let (places, taken) = (&open.note.places[open.taken..], open.taken);
        let found = match self.messages.get_many(places, now_ms, CHUNK_BYTES).await {
            Err(error) if error.class() == Class::Skip => {
                first_alone(&*self.messages, &places[..1], now_ms).await?
            }
            found => found?,
        };
        // A store that answers nothing would be asked for ever.
        open.taken += found.len().max(1);
        let (row, end) = (open.note.row, open.taken);
        let before = Arc::clone(&open.before);
        let is_last = end >= open.note.places.len();
        if is_last {
            self.open = None;
            self.window.give(row);
        }
        let found = found.into_iter().enumerate();
        let messages = found.filter_map(|(at, message)| Some((taken + at, message?))).collect();
        Ok(Some(Chunk { row, before, end, is_last, messages }))
    }
}

/// The wall clock.
pub(super) fn now_ms(time: &SharedTimeSource) -> i64 {
    let since = time.now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// One of several messages cannot be read: the first by itself, left out if it is that one. The others follow.
async fn first_alone(
    messages: &dyn MessageStore,
    first: &[Locator],
    now_ms: i64,
) -> Result<Vec<Option<Message>>, StoreError> {
    match messages.get_many(first, now_ms, CHUNK_BYTES).await {
        Err(error) if error.class() == Class::Skip => {
            metrics::store_failed(error.class());
            tracing::error!(%error, "a message cannot be read: whoever follows its integration does not get it");
            Ok(vec![None])
        }
        found => found,
    }
}
