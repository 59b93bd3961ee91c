//! The chains that stand, and which of them goes on when. Pure.
//!
//! A chain goes on when it is due and no other that overlaps it comes before it: one of an ancestor of its shard always does. Of a
//! chain only its head is known here, and the few messages that were read because it is its turn.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use lease_manager::SequenceNumber;
use store::{ChainHead, ChainKey, ChainedDelivery, MessageId};

use crate::async_delivery::delivery::Turn;
use crate::batch::Place;

/// What a chain is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::async_delivery) enum State {
    /// It waits until it is due.
    Waiting,
    /// Its first messages are being read or attempted.
    Busy,
    /// It is another shard's owner's, and stands before one of ours.
    Foreign,
}

/// A chain that stands.
#[derive(Debug)]
pub(in crate::async_delivery) struct Chain {
    pub(in crate::async_delivery) head: ChainHead,
    pub(in crate::async_delivery) state: State,
    /// The shard whose ownership lets us write it.
    pub(in crate::async_delivery) via: Arc<str>,
    /// Its latest reading.
    turn: Turn,
    /// The furthest message of it that was handed out here: what comes before it in the stream has ended.
    pub(in crate::async_delivery) front: Option<Place>,
    /// Messages that were read and are attempted one after the other.
    read: VecDeque<ChainedDelivery>,
    /// There are, or may be, more of them in the table.
    pub(in crate::async_delivery) has_more: bool,
}

/// Where a chain stands among those that overlap it. Ids of shards grow: an ancestor's is the smaller one.
fn order_of(key: &ChainKey) -> (&str, bool) {
    (&key.shard, key.is_wide())
}

/// All chains that a lane knows of.
#[derive(Debug, Default)]
pub(in crate::async_delivery) struct Board {
    chains: BTreeMap<ChainKey, Chain>,
    /// Those of them that are of more than one hash key.
    wide: BTreeSet<ChainKey>,
    due: BTreeSet<(i64, ChainKey)>,
    busy: usize,
    turns: u64,
}

impl Board {
    pub(in crate::async_delivery) fn len(&self) -> usize {
        self.chains.len()
    }

    /// Chains that are being read or attempted.
    pub(in crate::async_delivery) fn busy(&self) -> usize {
        self.busy
    }

    pub(in crate::async_delivery) fn get(&self, key: &ChainKey) -> Option<&Chain> {
        self.chains.get(key)
    }

    /// The chain stands like this, and waits until it is due.
    pub(in crate::async_delivery) fn stand(
        &mut self,
        key: ChainKey,
        head: ChainHead,
        via: &Arc<str>,
        foreign: bool,
    ) {
        let front = self.take_off(&key).and_then(|before| before.front);
        if key.is_wide() {
            self.wide.insert(key.clone());
        }
        self.due.insert((head.due_at_ms, key.clone()));
        let state = if foreign { State::Foreign } else { State::Waiting };
        let chain = Chain {
            head,
            state,
            via: Arc::clone(via),
            turn: Turn::default(),
            front,
            read: VecDeque::new(),
            has_more: true,
        };
        self.chains.insert(key, chain);
    }

    fn take_off(&mut self, key: &ChainKey) -> Option<Chain> {
        let chain = self.chains.remove(key)?;
        self.due.remove(&(chain.head.due_at_ms, key.clone()));
        self.wide.remove(key);
        self.busy -= usize::from(chain.state == State::Busy);
        Some(chain)
    }

    /// The chain is gone: what stood behind it may go on.
    pub(in crate::async_delivery) fn remove(&mut self, key: &ChainKey) {
        if self.take_off(key).is_some() {
            let behind: Vec<ChainKey> = self.overlapping(key).cloned().collect();
            behind.iter().for_each(|key| self.schedule(key));
        }
    }

    /// The chains that this shard let us write are another's. Gives them back, as far as they were known.
    pub(in crate::async_delivery) fn leave(
        &mut self,
        via: &Arc<str>,
    ) -> Vec<(ChainKey, ChainHead)> {
        let of_it = self.chains.iter().filter(|(_, chain)| chain.via == *via);
        let left: Vec<_> = of_it.map(|(key, c)| (key.clone(), c.head.clone())).collect();
        left.iter().for_each(|(key, _)| self.remove(key));
        left
    }

    /// The chain that a message of this group has to be appended to, because something stands before it.
    pub(in crate::async_delivery) fn joins(&self, key: &ChainKey) -> Option<ChainKey> {
        let mut before = self.overlapping(key).peekable();
        before.peek()?;
        // Where the order of the subscription was changed, what is narrower joins what is wide of the same shard.
        let wide = before.find(|other| other.is_wide() && other.shard == key.shard);
        Some(wide.unwrap_or(key).clone())
    }

    /// The chains that have a hash key in common with `key`.
    fn overlapping<'a>(&'a self, key: &'a ChainKey) -> impl Iterator<Item = &'a ChainKey> {
        let from = ChainKey { start: key.start, end: 0, shard: Arc::from("") };
        let narrow = self.chains.range((Bound::Included(from), Bound::Unbounded));
        let narrow = narrow.map(|(other, _)| other).take_while(|other| other.start <= key.end);
        let narrow = narrow.filter(|other| !other.is_wide());
        self.wide.iter().filter(|other| other.overlaps(key)).chain(narrow)
    }

    /// Nothing stands before the chain.
    fn is_first(&self, key: &ChainKey) -> bool {
        !self.overlapping(key).any(|other| other != key && order_of(other) < order_of(key))
    }

    /// The shard, one of `ours`, by which we own a chain that this one, which is another's, stands before.
    pub(in crate::async_delivery) fn behind(
        &self,
        key: &ChainKey,
        ours: impl Fn(&Arc<str>) -> bool,
    ) -> Option<Arc<str>> {
        let mut behind = self.overlapping(key).filter(|other| order_of(other) > order_of(key));
        behind.find_map(|other| {
            let chain = self.chains.get(other).filter(|chain| chain.state != State::Foreign)?;
            ours(&chain.via).then(|| Arc::clone(&chain.via))
        })
    }

    /// The chain is looked at when it is due; does nothing for one that does not stand or is busy.
    pub(in crate::async_delivery) fn schedule(&mut self, key: &ChainKey) {
        if let Some(chain) = self.chains.get(key).filter(|chain| chain.state != State::Busy) {
            self.due.insert((chain.head.due_at_ms, key.clone()));
        }
    }

    /// The chain waits until then.
    pub(in crate::async_delivery) fn wait(&mut self, key: &ChainKey, due_at_ms: i64) {
        let Some(chain) = self.chains.get_mut(key) else { return };
        self.due.remove(&(chain.head.due_at_ms, key.clone()));
        self.busy -= usize::from(chain.state == State::Busy);
        chain.head.due_at_ms = due_at_ms;
        chain.read.clear();
        if chain.state == State::Busy {
            chain.state = State::Waiting;
        }
        self.schedule(key);
    }

    /// All chains that wait are due now: their destination is back. Those that stopped stay so.
    pub(in crate::async_delivery) fn all_due(&mut self, now_ms: i64) {
        let waiting = |chain: &Chain| {
            chain.state == State::Waiting && !chain.head.stopped && chain.head.due_at_ms > now_ms
        };
        let keys: Vec<ChainKey> =
            self.chains.iter().filter(|(_, c)| waiting(c)).map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| self.wait(key, now_ms));
    }

    /// When the next chain is due, in ms since 1970.
    pub(in crate::async_delivery) fn next_due(&self) -> Option<i64> {
        self.due.first().map(|(at, _)| *at)
    }

    /// A chain that is due and stands before all others that overlap it.
    pub(in crate::async_delivery) fn pop_due(&mut self, now_ms: i64) -> Option<ChainKey> {
        loop {
            let (at, _) = self.due.first()?;
            if *at > now_ms {
                return None;
            }
            let (_, key) = self.due.pop_first()?;
            // Behind another one it is planned again when that one is gone.
            if self.chains.get(&key).is_some_and(|c| c.state == State::Foreign)
                || self.is_first(&key)
            {
                return Some(key);
            }
        }
    }

    /// Its first messages are read from now on.
    pub(in crate::async_delivery) fn begin(&mut self, key: &ChainKey) -> Turn {
        self.turns += 1;
        let turn = Turn(self.turns);
        if let Some(chain) = self.chains.get_mut(key).filter(|chain| chain.state == State::Waiting)
        {
            chain.state = State::Busy;
            chain.turn = turn;
            chain.has_more = false;
            self.busy += 1;
        }
        turn
    }

    /// The chain, while this reading of it is its latest.
    pub(in crate::async_delivery) fn at_turn(&self, key: &ChainKey, turn: Turn) -> Option<&Chain> {
        self.chains.get(key).filter(|chain| chain.state == State::Busy && chain.turn == turn)
    }

    /// They were read; there may be more.
    pub(in crate::async_delivery) fn read(
        &mut self,
        key: &ChainKey,
        messages: Vec<ChainedDelivery>,
        more: bool,
    ) {
        if let Some(chain) = self.chains.get_mut(key).filter(|chain| chain.state == State::Busy) {
            chain.read = messages.into();
            chain.has_more |= more;
        }
    }

    /// Something was appended: what was read is not all.
    pub(in crate::async_delivery) fn appended(&mut self, key: &ChainKey) {
        if let Some(chain) = self.chains.get_mut(key) {
            chain.has_more = true;
        }
    }

    /// The next message that was read, with the attempts made for it.
    pub(in crate::async_delivery) fn next_message(
        &mut self,
        key: &ChainKey,
    ) -> Option<(ChainedDelivery, u32, Turn)> {
        let chain = self.chains.get_mut(key)?;
        let chained = chain.read.pop_front()?;
        chain.front = place_of(&chained).or(chain.front.take());
        let attempted = chain.head.message.as_ref() == Some(&chained.delivery.message.id);
        Some((chained, if attempted { chain.head.attempts } else { 0 }, chain.turn))
    }

    /// When the first attempt for this message failed, if it is the head.
    pub(in crate::async_delivery) fn first_failed_at_ms(
        &self,
        key: &ChainKey,
        message: &MessageId,
    ) -> Option<i64> {
        let head = &self.chains.get(key)?.head;
        (head.message.as_ref() == Some(message)).then_some(head.first_failed_at_ms)
    }
}

fn place_of(chained: &ChainedDelivery) -> Option<Place> {
    let position = &chained.delivery.message.position;
    Some((SequenceNumber::parse(Arc::clone(&position.sequence)).ok()?, position.index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::async_delivery::ordered::fresh_head;

    fn key(start: u128, end: u128, shard: &str) -> ChainKey {
        ChainKey { start, end, shard: shard.into() }
    }

    fn board(chains: &[ChainKey]) -> Board {
        let mut board = Board::default();
        for chain in chains {
            board.stand(chain.clone(), fresh_head(10, ""), &"mine".into(), false);
        }
        board
    }

    #[test]
    fn an_ancestor_goes_first_and_its_end_lets_the_next_go_on() {
        let (parent, child, other) = (key(7, 7, "s-1"), key(7, 7, "s-2"), key(8, 8, "s-2"));
        let mut board = board(&[child.clone(), parent.clone(), other.clone()]);
        assert_eq!(board.pop_due(9), None, "not due");
        assert_eq!(board.pop_due(10), Some(parent.clone()));
        assert_eq!(board.pop_due(10), Some(other));
        assert_eq!(board.pop_due(10), None, "the child's waits");
        board.begin(&parent);
        board.remove(&parent);
        assert_eq!((board.pop_due(10), board.busy()), (Some(child), 0));
    }

    #[test]
    fn a_shards_chain_waits_for_its_parents_and_not_for_its_sibling() {
        let (parent, left, right) = (key(0, 99, "s-1"), key(0, 49, "s-2"), key(50, 99, "s-3"));
        let mut board = board(&[left.clone(), right.clone()]);
        board.stand(parent.clone(), fresh_head(10, ""), &"mine".into(), true);
        assert_eq!(board.pop_due(10), Some(parent.clone()), "it is looked at");
        assert_eq!(board.pop_due(10), None);
        board.remove(&parent);
        assert_eq!([board.pop_due(10), board.pop_due(10)], [Some(left), Some(right)]);
    }

    #[test]
    fn what_comes_behind_anything_is_appended() {
        let board = board(&[key(7, 7, "s-1"), key(50, 99, "s-2")]);
        assert_eq!(board.joins(&key(7, 7, "s-1")), Some(key(7, 7, "s-1")));
        assert_eq!(
            board.joins(&key(7, 7, "s-2")),
            Some(key(7, 7, "s-2")),
            "its own, behind the parent's"
        );
        assert_eq!(board.joins(&key(8, 8, "s-1")), None);
        assert_eq!(
            board.joins(&key(60, 60, "s-2")),
            Some(key(50, 99, "s-2")),
            "the wide one of its shard"
        );
        assert_eq!(board.joins(&key(0, 99, "s-3")), Some(key(0, 99, "s-3")));
    }

    #[test]
    fn a_lost_shard_takes_its_chains_along_and_a_recovery_leaves_stopped_ones() {
        let (one, two) = (key(7, 7, "s-1"), key(8, 8, "s-1"));
        let mut board = board(std::slice::from_ref(&one));
        let stopped = ChainHead { stopped: true, due_at_ms: 500, ..fresh_head(10, "") };
        board.stand(two, stopped, &"other".into(), false);
        board.wait(&one, 400);
        board.all_due(20);
        assert_eq!(board.pop_due(100), Some(one));
        assert_eq!(board.pop_due(100), None);
        assert_eq!(board.leave(&"mine".into()).len(), 1);
        assert_eq!((board.len(), board.next_due()), (1, Some(500)));
    }
}
