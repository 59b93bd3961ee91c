//! Order that survives failures: what a lane knows of its shards, of the chains that stand there, and what waits to be written.
//!
//! A message of an ordered subscription is attempted when everything before it in its group (a partition key, or the whole
//! shard) was delivered or given up. While the group is well, that is a matter of memory ([`Keys`]). When an
//! attempt fails, the message and what waits behind it become a durable *chain*, and whatever comes later is appended to it
//! unattempted. Chains are worked off by the shard's owner alone: whoever acquires a shard takes the tenure of its chains,
//! which ends that of every owner before, and loads them, those of the shard's ancestors included, before it attempts
//! anything. Payloads of chains stay in the table until their turn.
//!
//! `group` says what belongs together, `board` which chains stand and who goes next, `shards` who owns what, `writer` does the
//! reading and writing. None of them makes an attempt: the lane does (`lane_task::ordered`).

mod board;
mod group;
mod shards;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use store::{ChainHead, ChainKey, ChainWrite, ChainedDelivery, DeliveryOrder, Tenure};

pub(super) use board::{Board, State};
pub(super) use group::group_of;
pub use group::hash_key_of;
pub(super) use shards::{OpenShard, OpenShards, ShardWatch};
pub(super) use writer::{Chains, Chore, Letter, Op, Then};

use super::delivery::{Delivery, InOrder, Live, Source, Turn};
use super::keys::{Entered, Keys};
use crate::batch::Place;

/// Chains that one lane may know of, above which it takes no new messages.
const MAX_CHAINS: usize = 100_000;
/// Writes that may wait in one lane, above which it takes no new messages.
const MAX_WAITING: usize = 2_048;

/// The order of one lane.
#[derive(Debug, Default)]
pub(super) struct Order {
    pub(super) keys: Keys,
    pub(super) board: Board,
    shards: BTreeMap<Arc<str>, Shard>,
    /// Writes without which a chain must not be read: they put something in front, or take the first away.
    holds: HashMap<ChainKey, usize>,
    /// Messages that are being appended: a reading that begins meanwhile may not see them.
    appending: HashMap<ChainKey, usize>,
    /// Messages that wait for a shard's chains to be loaded, and writes that wait for their turn.
    waiting: usize,
}

/// A shard whose chains this lane works off.
#[derive(Debug)]
struct Shard {
    open: Arc<OpenShard>,
    /// `None` until the chains are loaded.
    tenure: Option<Tenure>,
    held: VecDeque<Live>,
    ops: VecDeque<Op>,
    /// How far chains had got that were loaded, and are gone: the stream is read again from before that.
    passed: HashMap<ChainKey, Place>,
    /// Of the call that is under way.
    writing: usize,
}

/// What was known of the one who came too late.
pub(super) type Standing = Vec<(ChainKey, ChainHead)>;

impl Order {
    /// More messages may be taken.
    pub(super) fn has_room(&self) -> bool {
        self.keys.has_room() && self.waiting < MAX_WAITING && self.board.len() < MAX_CHAINS
    }

    /// Nothing waits to be written.
    pub(super) fn is_flushed(&self) -> bool {
        self.waiting == 0 && self.shards.values().all(|shard| shard.writing == 0)
    }

    /// A shard is there, and not known: its chains are to be loaded before anything of it is attempted.
    pub(super) fn open(&mut self, open: &Arc<OpenShard>) -> bool {
        let id = &open.shard.shard_id;
        if self.shards.get(id).is_some_and(|known| known.open.shard.fence >= open.shard.fence) {
            return false;
        }
        self.forget(&Arc::clone(id));
        let shard = Shard {
            open: Arc::clone(open),
            tenure: None,
            held: VecDeque::new(),
            ops: VecDeque::new(),
            passed: HashMap::new(),
            writing: 0,
        };
        self.shards.insert(Arc::clone(id), shard);
        true
    }

    /// Shards that are another's by now are let go of; of one that ended only what is to be written is left.
    pub(super) fn prune(&mut self) {
        let over: Vec<Arc<str>> = self
            .shards
            .iter()
            .filter(|(_, s)| s.open.is_over())
            .map(|(id, _)| Arc::clone(id))
            .collect();
        for id in over {
            self.leave(&id);
            let shard = &self.shards[&id];
            let idle = shard.writing == 0 && shard.ops.is_empty();
            if idle || (shard.writing == 0 && shard.open.lease.is_lost()) {
                self.forget(&id);
            }
        }
    }

    /// The shard's owner is another: nothing of it is attempted or written any more.
    pub(super) fn forget(&mut self, id: &Arc<str>) {
        self.leave(id);
        let Some(shard) = self.shards.remove(id) else { return };
        self.waiting -= shard.held.len() + shard.ops.len() + shard.writing;
        for op in &shard.ops {
            self.written_one(op);
        }
    }

    /// The same, unless it came back under a later lease meanwhile.
    pub(super) fn give_up(&mut self, open: &OpenShard) {
        let id = &open.shard.shard_id;
        if self.shards.get(id).is_some_and(|known| known.open.shard.fence == open.shard.fence) {
            self.forget(id);
        }
    }

    /// The chains of a shard are another's to work off; those that stand before what is ours still do.
    fn leave(&mut self, id: &Arc<str>) {
        let left = self.board.leave(id);
        // Another one that is over would only be left as well: each call would hand the chain from one to the other, and have it
        // looked at anew.
        let is_ours = |other: &Arc<str>| {
            other != id && self.shards.get(other).is_some_and(|shard| !shard.open.is_over())
        };
        for (key, head) in left {
            let before = |other: &&Arc<str>| {
                let shard = &self.shards[*other].open.shard;
                let range = (shard.starting_hash_key, shard.ending_hash_key);
                ***other > *key.shard && key.start <= range.1 && range.0 <= key.end
            };
            let via = self.shards.keys().filter(|other| is_ours(other)).find(before).cloned();
            let via = via.or_else(|| self.board.behind(&key, is_ours));
            if let Some(via) = via {
                self.board.stand(key, head, &via, true);
            }
        }
    }

    /// The shard of a chain, while this lane may make attempts for it.
    pub(super) fn owner(&self, via: &Arc<str>) -> Option<&Arc<OpenShard>> {
        self.shards.get(via).map(|shard| &shard.open)
    }

    /// The tenure and the counter by which this lane owns a shard's chains.
    pub(super) fn tenure(&self, via: &Arc<str>) -> Option<(&Tenure, u64)> {
        let shard = self.shards.get(via)?;
        Some((shard.tenure.as_ref()?, shard.open.shard.fence))
    }

    /// The chains of a shard, as they stand now that it is this lane's. Gives back what waited for them.
    pub(super) fn loaded(
        &mut self,
        id: &Arc<str>,
        fence: u64,
        tenure: Tenure,
        found: Standing,
    ) -> Vec<Live> {
        let Some(shard) = self.shards.get_mut(id).filter(|s| s.open.shard.fence == fence) else {
            return Vec::new();
        };
        shard.tenure = Some(tenure);
        let (context, ended) = (Arc::clone(&shard.open.shard), shard.open.is_over());
        let held: Vec<Live> = shard.held.drain(..).collect();
        self.waiting -= held.len();
        if !ended {
            let own = context.starting_hash_key..=context.ending_hash_key;
            for (key, head) in found {
                let foreign = !own.contains(&key.start);
                // Another shard of this lane works it off.
                let ours = self.board.get(&key).is_some_and(|chain| chain.state != State::Foreign);
                if foreign && ours {
                    continue;
                }
                self.board.stand(key, head, id, foreign);
            }
        }
        held
    }

    /// A message from the stream; given back if it may be attempted now. It is of a shard that is open.
    pub(super) fn enter(&mut self, live: Live, order: DeliveryOrder) -> Entry {
        let context = Arc::clone(live.shard());
        let id = &context.shard_id;
        match self.shards.get_mut(id) {
            Some(shard) if shard.tenure.is_none() => {
                shard.held.push_back(live);
                self.waiting += 1;
                return Entry::Waits;
            }
            // Its owner is another by now; so is the batch's.
            None => return Entry::Waits,
            Some(_) => {}
        }
        let key = group_of(order, &context, live.partition_key());
        if self.has_passed(&key, &live) {
            return Entry::Ended(live);
        }
        if let Some(chain) = self.board.joins(&key) {
            return Entry::Append(chain, live);
        }
        let entered = self.keys.enter(Delivery::InOrder(InOrder {
            key: key.clone(),
            attempts: 0,
            source: Source::Stream(live),
        }));
        match entered {
            Entered::Now(delivery) => Entry::Now(delivery),
            Entered::Waits => Entry::Waits,
            Entered::NoRoom(delivery) => match delivery.into_stream() {
                Some(live) => Entry::Append(key, live),
                None => Entry::Waits,
            },
        }
    }

    /// The message comes again, because the stream is read again, and the chain of its group has got past it.
    fn has_passed(&mut self, key: &ChainKey, live: &Live) -> bool {
        let place = live.place();
        if let Some(front) = self.board.get(key).and_then(|chain| chain.front.as_ref()) {
            return place <= *front;
        }
        let Some(shard) = self.shards.get_mut(&key.shard) else { return false };
        let passed = shard.passed.get(key).is_some_and(|passed| place <= *passed);
        if !passed {
            shard.passed.remove(key);
        }
        passed
    }

    /// The chain stands from now on, here and in the table.
    pub(super) fn stand(&mut self, key: &ChainKey, head: ChainHead, via: &Arc<str>) {
        let via =
            self.board.get(key).map_or_else(|| Arc::clone(via), |chain| Arc::clone(&chain.via));
        self.board.stand(key.clone(), head.clone(), &via, false);
        self.push(&via, Op::write(key, ChainWrite::Stand(head), None, true));
    }

    /// Something to be written for a chain, behind what is to be written already.
    pub(super) fn push(&mut self, via: &Arc<str>, op: Op) {
        let Some(shard) = self.shards.get_mut(via) else { return };
        if op.is_in_front() {
            *self.holds.entry(op.key().clone()).or_default() += 1;
        }
        if op.is_append() {
            *self.appending.entry(op.key().clone()).or_default() += 1;
        }
        shard.ops.push_back(op);
        self.waiting += 1;
    }

    /// What is to be written next, of every shard that writes nothing now.
    pub(super) fn next_writes(&mut self) -> Vec<(Arc<OpenShard>, Tenure, Vec<Op>)> {
        let mut writes = Vec::new();
        for shard in self.shards.values_mut() {
            let Some(tenure) = &shard.tenure else { continue };
            if shard.writing > 0 || shard.ops.is_empty() {
                continue;
            }
            let ops = writer::next_batch(&mut shard.ops);
            shard.writing = ops.len();
            writes.push((Arc::clone(&shard.open), tenure.clone(), ops));
        }
        writes
    }

    /// Something is to be written without which the chain must not be read.
    pub(super) fn is_held(&self, key: &ChainKey) -> bool {
        self.holds.contains_key(key)
    }

    /// What was written, or never will be.
    pub(super) fn wrote(&mut self, id: &Arc<str>, fence: u64, ops: &[Op]) {
        if let Some(shard) = self.shards.get_mut(id).filter(|s| s.open.shard.fence == fence) {
            self.waiting -= std::mem::take(&mut shard.writing);
        }
        for op in ops {
            self.written_one(op);
        }
    }

    /// The first messages of a chain are read from now on.
    pub(super) fn begin(&mut self, key: &ChainKey) -> Turn {
        let turn = self.board.begin(key);
        if self.appending.contains_key(key) {
            self.board.appended(key);
        }
        turn
    }

    fn written_one(&mut self, op: &Op) {
        if op.is_append()
            && let Some(appending) = self.appending.get_mut(op.key())
        {
            *appending -= 1;
            if *appending == 0 {
                self.appending.remove(op.key());
            }
        }
        if !op.is_in_front() {
            return;
        }
        if let Some(holds) = self.holds.get_mut(op.key()) {
            *holds -= 1;
            if *holds == 0 {
                self.holds.remove(op.key());
                self.board.schedule(op.key());
            }
        }
    }

    /// The chain that is due and may go on, if there is one.
    pub(super) fn pop_due(&mut self, now_ms: i64) -> Option<ChainKey> {
        loop {
            let key = self.board.pop_due(now_ms)?;
            // It is put back on the board's plan by whatever it waits for.
            if self.is_held(&key) || self.keys.is_taken(&key) {
                continue;
            }
            return Some(key);
        }
    }

    /// The message that had the key has ended: the next one is ready, or the chain behind it may go on.
    pub(super) fn release(&mut self, key: &ChainKey) {
        self.keys.leave(key);
        if !self.keys.is_taken(key) {
            self.board.schedule(key);
        }
    }

    /// What waits behind the key in memory, and the key itself is free.
    pub(super) fn take_waiting(&mut self, key: &ChainKey) -> Vec<Live> {
        self.keys.take_waiting(key).into_iter().filter_map(Delivery::into_stream).collect()
    }

    /// What waits behind who has the key, and keeps it.
    pub(super) fn take_behind(&mut self, key: &ChainKey) -> Vec<Live> {
        self.keys.take_behind(key).into_iter().filter_map(Delivery::into_stream).collect()
    }

    /// The next message of a chain that was read is ready; false if none is left of what was read.
    pub(super) fn ready_next(&mut self, key: &ChainKey) -> bool {
        let Some((chained, attempts, turn)) = self.board.next_message(key) else { return false };
        let source = Source::Chain(Box::new(chained), turn);
        self.keys.push_ready(Delivery::InOrder(InOrder { key: key.clone(), attempts, source }));
        true
    }

    /// A message of a chain is done with: delivered, or a dead letter.
    pub(super) fn settle(&mut self, key: &ChainKey, via: &Arc<str>, chained: ChainedDelivery) {
        self.push(via, Op::write(key, ChainWrite::Settle(chained), None, true));
    }

    /// No message of the chain is left.
    pub(super) fn clear(&mut self, key: &ChainKey, via: &Arc<str>) {
        let front = self.board.get(key).and_then(|chain| chain.front.clone());
        if let (Some(shard), Some(front)) = (self.shards.get_mut(&key.shard), front)
            && shard.passed.len() < MAX_CHAINS
        {
            shard.passed.insert(key.clone(), front);
        }
        self.board.remove(key);
        self.push(via, Op::write(key, ChainWrite::Clear, None, false));
    }
}

/// What becomes of a message that enters.
pub(super) enum Entry {
    /// It may be attempted.
    Now(Delivery),
    /// It waits in memory, or its shard is another worker's.
    Waits,
    /// It is appended to this chain.
    Append(ChainKey, Live),
    /// It was delivered, or given up, before.
    Ended(Live),
}

/// A chain whose first message was not attempted yet, due at once.
pub(super) fn fresh_head(now_ms: i64, why: &str) -> ChainHead {
    ChainHead {
        message: None,
        attempts: 0,
        first_failed_at_ms: now_ms,
        due_at_ms: now_ms,
        last_error: why.to_owned(),
        stopped: false,
    }
}
