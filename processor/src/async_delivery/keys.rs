//! Order in memory: which groups are being attempted, and what waits behind them.
//!
//! A delivery has its group (a partition key, or a whole shard) from when the lane takes it until it has ended: delivered, given up,
//! or written to its chain. The next one of that group waits for so long; other groups do not (invariant O1). Pure.

use std::collections::{BTreeMap, VecDeque};

use store::ChainKey;

use super::delivery::{Delivery, Glimpse, Live};

/// Deliveries that wait behind their groups, above which the lane takes no new ones.
const MAX_WAITING: usize = 1_024;
/// Deliveries that wait behind one group; what is more goes to a chain, so that one group cannot fill the lane.
pub(super) const MAX_BEHIND_ONE: usize = 256;

/// The groups of one lane.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// By group that is taken: what waits behind it, in stream order.
    behind: BTreeMap<ChainKey, Group>,
    waiting: usize,
    /// Deliveries that have their group, and wait for a place among the attempts.
    ready: VecDeque<Delivery>,
}

/// A group that somebody has.
#[derive(Debug)]
struct Group {
    /// Who has it.
    first: Glimpse,
    /// That one stands in a chain as well, so that what waits behind it may.
    is_written: bool,
    waiting: VecDeque<Delivery>,
}

impl Group {
    fn of(first: Glimpse) -> Group {
        Group { first, is_written: false, waiting: VecDeque::new() }
    }
}

/// What becomes of a delivery that asks for its group.
#[derive(Debug)]
pub(super) enum Entered {
    /// It has its group, or needs none.
    Now(Delivery),
    /// It waits behind the one that has it.
    Waits,
    /// Too many wait already.
    NoRoom(Delivery),
}

impl Keys {
    /// Gives the delivery its group, or has it wait.
    pub(super) fn enter(&mut self, delivery: Delivery) -> Entered {
        let (Some(key), Some(live)) = (delivery.group(), delivery.live()) else {
            return Entered::Now(delivery);
        };
        let Some(group) = self.behind.get_mut(key) else {
            self.behind.insert(key.clone(), Group::of(live.glimpse()));
            return Entered::Now(delivery);
        };
        if group.waiting.len() >= MAX_BEHIND_ONE {
            return Entered::NoRoom(delivery);
        }
        group.waiting.push_back(delivery);
        self.waiting += 1;
        Entered::Waits
    }

    /// The delivery that had the group has ended: the next of it is ready. Does nothing for a group that is free.
    pub(super) fn leave(&mut self, key: &ChainKey) {
        let Some(group) = self.behind.get_mut(key) else { return };
        let next = group.waiting.pop_front();
        self.waiting -= usize::from(next.is_some());
        match next.as_ref().and_then(Delivery::live).map(Live::glimpse) {
            Some(first) => (group.first, group.is_written) = (first, false),
            None => drop(self.behind.remove(key)),
        }
        self.ready.extend(next);
    }

    /// Who has the group, if that one does not stand in a chain yet: from now on it does.
    pub(super) fn write_first(&mut self, key: &ChainKey) -> Option<Glimpse> {
        let group = self.behind.get_mut(key).filter(|group| !group.is_written)?;
        group.is_written = true;
        Some(group.first.clone())
    }

    /// Who has the group stands in a chain as well.
    pub(super) fn is_written(&self, key: &ChainKey) -> bool {
        self.behind.get(key).is_some_and(|group| group.is_written)
    }

    /// What waits behind who has the group, which stays taken.
    pub(super) fn take_behind(&mut self, key: &ChainKey) -> VecDeque<Delivery> {
        let waiting = self.behind.get_mut(key).map(|group| std::mem::take(&mut group.waiting));
        let waiting = waiting.unwrap_or_default();
        self.waiting -= waiting.len();
        waiting
    }

    /// Somebody has the group.
    pub(super) fn is_taken(&self, key: &ChainKey) -> bool {
        self.behind.contains_key(key)
    }

    /// The group is free, and this is what waited for it.
    pub(super) fn take_waiting(&mut self, key: &ChainKey) -> VecDeque<Delivery> {
        let waiting = self.take_behind(key);
        self.behind.remove(key);
        waiting
    }

    /// A delivery that may be attempted as soon as there is a place.
    pub(super) fn push_ready(&mut self, delivery: Delivery) {
        self.ready.push_back(delivery);
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

    /// Everything that was not begun. Who has a group keeps it.
    pub(super) fn drain(&mut self) -> Vec<Delivery> {
        self.waiting = 0;
        let waiting = self.behind.values_mut().flat_map(|group| group.waiting.drain(..));
        self.ready.drain(..).chain(waiting).collect()
    }
}
