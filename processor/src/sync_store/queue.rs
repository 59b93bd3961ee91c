//! What is written next: a queue of what is ready and a shelf of what must wait.
//!
//! Pure but for the time it is told. A refused item waits on its own, so one throttled key does not
//! hold up the others.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use store::DeadReason;
use tokio::time::Instant;

use super::room::Place;
use crate::batch::{Entry, LaneBatch};

/// Payload bytes of one call: more makes nothing faster, and each call holds its bytes three times over.
const CALL_BYTES: usize = 1024 * 1024;

/// A batch in the writer's hands: its budget and its place are held until its last item is let go of.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) batch: LaneBatch,
    pub(super) _place: Place,
}

/// One entry of a lane batch, on its way into the store or into the dead letters.
#[derive(Debug)]
pub(super) struct Item {
    /// The batch that is owed the settlement.
    pub(super) owner: Arc<Owner>,
    /// Index into the entries of the owner's batch.
    pub(super) index: u32,
    /// Tries so far.
    pub(super) attempts: u32,
    /// Why the entry is a dead letter; `None` while it is a message.
    pub(super) dead: Option<Box<(DeadReason, String)>>,
}

impl Item {
    pub(super) fn entry(&self) -> &Entry {
        &self.owner.batch.batch.entries[self.index as usize]
    }

    pub(super) fn bytes(&self) -> usize {
        self.entry().payload.len()
    }

    /// Both are kept under one key of the store.
    pub(super) fn shares_key_with(&self, other: &Item) -> bool {
        let (mine, its) = (&self.owner.batch.batch, &other.owner.batch.batch);
        match (mine.route(self.entry()), its.route(other.entry())) {
            (Ok(one), Ok(two)) => one.integration == two.integration && one.entity == two.entity,
            _ => false,
        }
    }
}

/// How calls are filled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fill {
    /// Items of one call, at most.
    pub(super) items: usize,
    /// How long an item waits for others.
    pub(super) linger: Duration,
}

/// Items that are ready, oldest first, and items that wait for a time.
#[derive(Debug)]
pub(super) struct Queue {
    fill: Fill,
    ready: VecDeque<Item>,
    ready_bytes: usize,
    ready_since: Option<Instant>,
    shelf: BTreeMap<(Instant, u64), Item>,
    serial: u64,
}

impl Queue {
    pub(super) fn new(fill: Fill) -> Queue {
        Queue {
            fill: Fill { items: fill.items.max(1), ..fill },
            ready: VecDeque::new(),
            ready_bytes: 0,
            ready_since: None,
            shelf: BTreeMap::new(),
            serial: 0,
        }
    }

    /// Items in the queue and on the shelf.
    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.shelf.len()
    }

    /// Adds an item that may be written now.
    pub(super) fn push(&mut self, item: Item, now: Instant) {
        self.ready_since.get_or_insert(now);
        self.ready_bytes += item.bytes();
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

    /// The next call's items: a full call at once, a smaller one when it has lingered.
    pub(super) fn take(&mut self, now: Instant) -> Option<Vec<Item>> {
        let lingered = self.ready_since.is_some_and(|since| now >= since + self.fill.linger);
        let full = self.ready.len() >= self.fill.items || self.ready_bytes >= CALL_BYTES;
        if self.ready.is_empty() || !(full || lingered) {
            return None;
        }
        let mut bytes = 0;
        let fits = |item: &&Item| {
            bytes += item.bytes();
            bytes <= CALL_BYTES
        };
        let count = self.ready.iter().take(self.fill.items).take_while(fits).count().max(1);
        let taken: Vec<Item> = self.ready.drain(..count).collect();
        self.ready_bytes -= taken.iter().map(Item::bytes).sum::<usize>();
        self.ready_since = (!self.ready.is_empty()).then_some(now);
        Some(taken)
    }

    /// When [`Queue::wake`] or [`Queue::take`] would next have something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let lingered = self.ready_since.map(|since| since + self.fill.linger);
        let due = self.shelf.keys().next().map(|(until, _)| *until);
        [lingered, due].into_iter().flatten().min()
    }
}
