//! Order per key, for a subscription that asks for it: which keys are being attempted, and what waits behind them.
//!
//! A delivery has its key from when the lane takes it until it has ended: delivered, parked or given up. The
//! next one of that key waits for so long; other keys do not. So first attempts of one key are in stream
//! order (invariant O1), and a poisoned key holds back itself alone. What is parked comes back when it is
//! due, whatever was delivered since. Pure.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::delivery::Delivery;

/// Deliveries that wait behind their keys, above which the lane takes no new ones.
const MAX_WAITING: usize = 1_024;
/// Deliveries that wait behind one key; what is more is parked, so that one key cannot fill the lane.
const MAX_BEHIND_ONE: usize = 256;

/// The keys of one lane.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// By key that is taken: what waits behind it.
    behind: HashMap<Arc<str>, Behind>,
    waiting: usize,
    /// Deliveries that have their key, and wait for a place among the attempts.
    ready: VecDeque<Delivery>,
}

#[derive(Debug, Default)]
struct Behind {
    /// In stream order.
    waiting: VecDeque<Delivery>,
    /// More came than may wait: until none waits any more, all that come are parked, behind these.
    overflowed: bool,
}

/// What becomes of a delivery that asks for its key.
#[derive(Debug)]
pub(super) enum Entered {
    /// It has its key.
    Now(Delivery),
    /// It waits behind the one that has it.
    Waits,
    /// Too many wait already.
    NoRoom(Delivery),
}

impl Keys {
    /// Gives the delivery its key, or has it wait.
    pub(super) fn enter(&mut self, delivery: Delivery) -> Entered {
        let key = delivery.partition_key();
        let Some(behind) = self.behind.get_mut(&key) else {
            self.behind.insert(key, Behind::default());
            return Entered::Now(delivery);
        };
        behind.overflowed |= behind.waiting.len() >= MAX_BEHIND_ONE;
        if behind.overflowed {
            return Entered::NoRoom(delivery);
        }
        behind.waiting.push_back(delivery);
        self.waiting += 1;
        Entered::Waits
    }

    /// The delivery has ended: the next of its key is ready. Does nothing for one that has no key.
    pub(super) fn leave(&mut self, delivery: &Delivery) {
        if self.behind.is_empty() {
            return;
        }
        let key = delivery.partition_key();
        match self.behind.get_mut(&key).map(|behind| behind.waiting.pop_front()) {
            Some(Some(next)) => {
                self.waiting -= 1;
                self.ready.push_back(next);
            }
            Some(None) => {
                self.behind.remove(&key);
            }
            None => {}
        }
    }

    /// A delivery that has its key and was not begun.
    pub(super) fn next_ready(&mut self) -> Option<Delivery> {
        self.ready.pop_front()
    }

    /// A delivery that has its key and could not be begun after all: it is the next to be.
    pub(super) fn put_back(&mut self, delivery: Delivery) {
        self.ready.push_front(delivery);
    }

    /// There is one.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// More deliveries may be taken.
    pub(super) fn has_room(&self) -> bool {
        self.waiting + self.ready.len() < MAX_WAITING
    }

    /// Everything that was not begun.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Delivery> + '_ {
        self.waiting = 0;
        let waiting = self.behind.drain().flat_map(|(_, behind)| behind.waiting);
        self.ready.drain(..).chain(waiting)
    }
}
