//! What the writer writes next: a queue of what is ready and a shelf of what must wait.
//!
//! Pure but for the time it is told. A refused item waits on its own, so one throttled key does not
//! hold up the others.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use store::DeadReason;
use tokio::time::Instant;

use crate::batch::{Entry, LaneBatch};

/// One entry of a lane batch, on its way into the store or into the dead letters.
#[derive(Debug)]
pub(super) struct Item {
    /// The batch that is owed the settlement; its budget is held for as long.
    pub(super) owner: Arc<LaneBatch>,
    /// Index into the entries of the owner's batch.
    pub(super) index: usize,
    /// Tries so far.
    pub(super) attempts: u32,
    /// Why the entry is a dead letter; `None` while it is a message.
    pub(super) dead: Option<(DeadReason, String)>,
}

impl Item {
    pub(super) fn entry(&self) -> &Entry {
        &self.owner.batch.entries[self.index]
    }
}

/// Items that are ready, oldest first, and items that wait for a time.
#[derive(Debug, Default)]
pub(super) struct Queue {
    ready: VecDeque<Item>,
    ready_since: Option<Instant>,
    shelf: BTreeMap<(Instant, u64), Item>,
    serial: u64,
}

impl Queue {
    /// Items in the queue and on the shelf.
    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.shelf.len()
    }

    /// Adds an item that may be written now.
    pub(super) fn push(&mut self, item: Item, now: Instant) {
        self.ready_since.get_or_insert(now);
        self.ready.push_back(item);
    }

    /// Keeps an item back until `until`.
    pub(super) fn shelve(&mut self, item: Item, until: Instant) {
        self.serial += 1;
        self.shelf.insert((until, self.serial), item);
    }

    /// Moves what is due from the shelf into the queue.
    pub(super) fn wake(&mut self, now: Instant) {
        while let Some(entry) = self.shelf.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let item = entry.remove();
            self.push(item, now);
        }
    }

    /// The next call's items: a full batch at once, a smaller one when it has lingered.
    pub(super) fn take(
        &mut self,
        batch: usize,
        linger: Duration,
        now: Instant,
    ) -> Option<Vec<Item>> {
        let lingered = self.ready_since.is_some_and(|since| now >= since + linger);
        if self.ready.is_empty() || (self.ready.len() < batch && !lingered) {
            return None;
        }
        let taken = self.ready.drain(..batch.min(self.ready.len())).collect();
        self.ready_since = (!self.ready.is_empty()).then_some(now);
        Some(taken)
    }

    /// When [`Queue::wake`] or [`Queue::take`] would next have something to do.
    pub(super) fn next_deadline(&self, linger: Duration) -> Option<Instant> {
        let lingered = self.ready_since.map(|since| since + linger);
        let due = self.shelf.keys().next().map(|(until, _)| *until);
        [lingered, due].into_iter().flatten().min()
    }
}
