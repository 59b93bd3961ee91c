//! What of a range is handed out and not settled, in stream order. Pure.
//!
//! The range begins at the first of them. A message that comes back unsettled calls all others of its range
//! back: nothing more is handed out until each was settled or came back as well, and then reading goes on at
//! the first that came back. What was settled behind it is left out the second time.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::batch::Place;

const PENDING: u8 = 0;
const SETTLED: u8 = 1;
const RETURNED: u8 = 2;
/// Returned after an attempt that failed.
const FAILED: u8 = 3;

/// Failed probes of one message after which it is parked, so that a message which its destination cannot
/// take does not hold up the others; it doubles with each message that is parked, so that an outage parks few.
const FIRST_PATIENCE: u32 = 8;
const MOST_PATIENCE: u32 = 4_096;

/// Proof that a message of a range is owed: settled, or returned when it is dropped.
#[derive(Debug)]
pub(in crate::async_delivery) struct Receipt {
    cell: Arc<AtomicU8>,
    recalled: Arc<AtomicBool>,
}

impl Receipt {
    /// Nothing more is owed for the message.
    pub(in crate::async_delivery) fn settle(self) {
        self.cell.store(SETTLED, Ordering::Release);
    }

    /// An attempt failed, and the message stays in its range.
    pub(in crate::async_delivery) fn fail(self) {
        self.cell.store(FAILED, Ordering::Release);
        self.recalled.store(true, Ordering::Release);
    }

    /// It is not to be attempted: one before it came back.
    pub(in crate::async_delivery) fn is_recalled(&self) -> bool {
        self.recalled.load(Ordering::Acquire)
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        let returned =
            self.cell.compare_exchange(PENDING, RETURNED, Ordering::AcqRel, Ordering::Acquire);
        if returned.is_ok() {
            self.recalled.store(true, Ordering::Release);
        }
    }
}

#[derive(Debug)]
struct Handed {
    place: Place,
    arrived_at_ms: i64,
    cell: Arc<AtomicU8>,
}

/// The messages of one range that are under way.
#[derive(Debug)]
pub(super) struct Window {
    handed: VecDeque<Handed>,
    recalled: Arc<AtomicBool>,
    /// Settled, though something before them came back.
    ahead: BTreeSet<Place>,
    /// The message whose attempts fail, and how many did.
    failing: Option<(Place, u32)>,
    patience: u32,
}

impl Default for Window {
    fn default() -> Window {
        Window {
            handed: VecDeque::new(),
            recalled: Arc::default(),
            ahead: BTreeSet::new(),
            failing: None,
            patience: FIRST_PATIENCE,
        }
    }
}

impl Window {
    /// One more is handed out, behind all others.
    pub(super) fn hand(&mut self, place: Place, arrived_at_ms: i64) -> Receipt {
        let cell = Arc::new(AtomicU8::new(PENDING));
        self.handed.push_back(Handed { place, arrived_at_ms, cell: Arc::clone(&cell) });
        Receipt { cell, recalled: Arc::clone(&self.recalled) }
    }

    pub(super) fn len(&self) -> usize {
        self.handed.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.handed.is_empty()
    }

    /// The first that is not settled, and when it arrived, in ms since 1970.
    pub(super) fn first(&self) -> Option<(&Place, i64)> {
        self.handed.front().map(|handed| (&handed.place, handed.arrived_at_ms))
    }

    /// All are to come back.
    pub(super) fn recall(&mut self) {
        self.recalled.store(true, Ordering::Release);
    }

    /// Nothing may be handed out.
    pub(super) fn is_recalled(&self) -> bool {
        self.recalled.load(Ordering::Acquire)
    }

    /// The message at this place was settled already.
    pub(super) fn skips(&mut self, place: &Place) -> bool {
        self.ahead.remove(place)
    }

    /// Moves over what is settled. Gives the place at which to go on, and when what stands there arrived, once all that were called back are.
    pub(super) fn advance(&mut self) -> Option<(Place, i64)> {
        while self.handed.front().is_some_and(|first| state(first) == SETTLED) {
            self.handed.pop_front();
        }
        let under_way = self.handed.iter().any(|handed| state(handed) == PENDING);
        if !self.is_recalled() || under_way {
            return None;
        }
        self.recalled = Arc::default();
        let back = self.handed.iter().find(|handed| state(handed) != SETTLED)?;
        let (at, failed) = ((back.place.clone(), back.arrived_at_ms), state(back) == FAILED);
        self.note(&at.0, failed);
        let settled = self.handed.drain(..).filter(|handed| state(handed) == SETTLED);
        self.ahead.extend(settled.map(|handed| handed.place));
        Some(at)
    }

    fn note(&mut self, place: &Place, failed: bool) {
        match &mut self.failing {
            Some((known, times)) if known == place => *times += u32::from(failed),
            failing => *failing = failed.then(|| (place.clone(), 1)),
        }
    }

    /// The message at this place failed so often that it is parked, out of the others' way.
    pub(super) fn gives_way(&mut self, place: &Place) -> bool {
        let gives = matches!(&self.failing, Some((known, times)) if known == place && *times >= self.patience);
        if gives {
            self.failing = None;
            self.patience = (self.patience * 2).min(MOST_PATIENCE);
        }
        gives
    }

    /// The destination takes messages.
    pub(super) fn is_well(&mut self) {
        self.patience = FIRST_PATIENCE;
    }
}

fn state(handed: &Handed) -> u8 {
    handed.cell.load(Ordering::Acquire)
}

#[cfg(test)]
mod tests {
    use lease_manager::SequenceNumber;

    use super::*;

    fn place(n: u32) -> Place {
        (SequenceNumber::parse("49").unwrap(), n)
    }

    fn window(count: u32) -> (Window, Vec<Receipt>) {
        let mut window = Window::default();
        let receipts = (0..count).map(|n| window.hand(place(n), i64::from(n))).collect();
        (window, receipts)
    }

    #[test]
    fn it_moves_over_the_settled_prefix_only() {
        let (mut window, mut receipts) = window(3);
        receipts.remove(1).settle();
        assert_eq!(window.advance(), None);
        assert_eq!(window.first(), Some((&place(0), 0)));
        receipts.remove(0).settle();
        assert_eq!(window.advance(), None);
        assert_eq!((window.first(), window.len()), (Some((&place(2), 2)), 1));
        assert!(!window.is_recalled());
    }

    #[test]
    fn what_comes_back_calls_the_others_back_and_is_read_again_without_what_was_settled() {
        let (mut window, mut receipts) = window(4);
        let last = receipts.pop().unwrap();
        receipts.pop().unwrap().settle();
        drop(receipts.remove(1));
        assert!(last.is_recalled() && window.is_recalled());
        assert_eq!(window.advance(), None, "two are under way");
        receipts.pop().unwrap().settle();
        assert_eq!(window.advance(), None, "one is");
        drop(last);
        assert_eq!(window.advance(), Some((place(1), 1)));
        assert!(window.is_empty() && !window.is_recalled());
        assert!(!window.skips(&place(1)) && window.skips(&place(2)) && !window.skips(&place(3)));
        assert!(!window.skips(&place(2)), "once");
    }

    #[test]
    fn a_message_that_fails_again_and_again_gives_way_ever_more_slowly() {
        let mut window = Window::default();
        let fail = |window: &mut Window, n| {
            window.hand(place(n), 0).fail();
            assert_eq!(window.advance(), Some((place(n), 0)));
        };
        for _ in 0..7 {
            fail(&mut window, 1);
            assert!(!window.gives_way(&place(1)));
        }
        fail(&mut window, 1);
        assert!(!window.gives_way(&place(2)) && window.gives_way(&place(1)));
        for _ in 0..15 {
            fail(&mut window, 2);
        }
        assert!(!window.gives_way(&place(2)), "twice the patience");
        fail(&mut window, 2);
        assert!(window.gives_way(&place(2)));
        window.is_well();
        (0..8).for_each(|_| fail(&mut window, 3));
        assert!(window.gives_way(&place(3)));
    }
}
