//! What a lane does for a subscription that asks for an order: messages enter by their group, what fails becomes a chain, and
//! chains go on when they are due.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use store::{Chain, ChainHead, ChainKey, ChainWrite, ChainedDelivery, DeliveryOrder};
use tokio::time::Instant;

use super::LaneTask;
use crate::async_delivery::aftermath::later;
use crate::async_delivery::delivery::{Live, Turn};
use crate::async_delivery::metrics;
use crate::async_delivery::ordered::{
    Chore, Entry, Letter, Op, OpenShard, State, Then, fresh_head,
};
use crate::async_delivery::stats::bump;
use crate::clock::wall_ms;

/// Chains that are read or attempted at once, at most.
const MAX_BUSY: usize = 64;
/// A chain that is another shard's owner's, or that waits for an operator, is looked at this often.
pub(super) const LOOK_MS: (i64, i64) = (500, 5_000);
/// A chain that could not be read, or of which something is still to be written, is read again after this.
const AGAIN_MS: i64 = 200;

impl LaneTask {
    pub(super) fn keeps_order(&self) -> bool {
        self.mandate.subscription.policy.order != DeliveryOrder::None
    }

    pub(super) fn now_ms(&self) -> i64 {
        wall_ms(&self.tools.time)
    }

    /// Shards came or went: the chains of new ones are loaded.
    pub(super) fn see_shards(&mut self) {
        let open = self.shards.look();
        self.order.prune();
        if self.keeps_order() && !self.closing {
            open.iter().for_each(|shard| self.open(shard));
        }
    }

    fn open(&mut self, shard: &Arc<OpenShard>) {
        if !shard.is_over() && self.order.open(shard) {
            self.chores.push(self.chains.load(Arc::clone(shard)));
        }
    }

    /// A message of an ordered subscription.
    pub(super) fn enter_in_order(&mut self, live: Live) {
        if live.lease_is_lost() {
            return;
        }
        let is_known = self
            .order
            .owner(&live.shard().shard_id)
            .is_some_and(|open| open.shard.fence >= live.shard().fence);
        if !is_known {
            self.open(&OpenShard::new(live.shard(), live.lease()));
        }
        if self.closing && self.order.tenure(&live.shard().shard_id).is_some() {
            return self.chain_up_left(Some(live));
        }
        let order = self.mandate.subscription.policy.order;
        // Of a subscription that is in no order any more nothing comes here but what waited for its chains.
        let order = if order == DeliveryOrder::None { DeliveryOrder::Key } else { order };
        match self.order.enter(live, order) {
            // Several may enter at once, when a shard's chains are loaded: each is taken in its turn.
            Entry::Now(delivery) => self.order.keys.push_ready(delivery),
            Entry::Waits => {}
            Entry::Append(key, live) => {
                self.write_first(&key);
                self.append(&key, live, false);
            }
            Entry::Ended(live) => live.settle(),
        }
        self.write_chains();
    }

    /// What the lane held when it closed goes to chains, for whoever opens it again.
    pub(super) fn chain_up_left(&mut self, live: Option<Live>) {
        let Some(live) = live.filter(|live| !live.lease_is_lost()) else { return };
        let order = match self.mandate.subscription.policy.order {
            DeliveryOrder::None => DeliveryOrder::Key,
            order => order,
        };
        let via = Arc::clone(&live.shard().shard_id);
        if self.order.tenure(&via).is_none() {
            return self.enter_in_order(live);
        }
        let key =
            crate::async_delivery::ordered::group_of(order, live.shard(), live.partition_key());
        self.write_first(&key);
        self.append(&key, live, true);
    }

    /// What has the group is being attempted, and what comes behind it is to be written: it is written before, so that no owner to come finds
    /// the later one alone.
    fn write_first(&mut self, key: &ChainKey) {
        let Some(first) = self.order.keys.write_first(key) else { return };
        let (now_ms, id) = (self.now_ms(), &self.mandate.subscription.id);
        let Some(parked) = first.parked(id, now_ms, String::from("it is being attempted")) else {
            return;
        };
        let via = Arc::clone(&parked.message.position.shard_id);
        if self.order.board.get(key).is_none() {
            self.order.stand(key, fresh_head(now_ms, "too many messages wait before it"), &via);
        }
        self.order.push(&via, Op::write(key, ChainWrite::Append(parked), None, true));
        for live in self.order.take_behind(key) {
            self.append(key, live, true);
        }
    }

    /// It came from the stream and has ended: if it was written meanwhile, that is taken back.
    pub(super) fn unwrite_first(&mut self, key: &ChainKey, live: &Live) {
        if !self.order.keys.is_written(key) {
            return;
        }
        let (now_ms, id) = (self.now_ms(), &self.mandate.subscription.id);
        let via = Arc::clone(&live.shard().shard_id);
        if let Some(parked) = live.parked(id, 0, now_ms, now_ms, String::new()) {
            self.order.settle(key, &via, ChainedDelivery::appended(parked));
        }
    }

    /// The message is written to its chain unattempted, and settled by that.
    fn append(&mut self, key: &ChainKey, live: Live, in_front: bool) {
        let (now_ms, via) = (self.now_ms(), Arc::clone(&live.shard().shard_id));
        let id = &self.mandate.subscription.id;
        let Some(parked) =
            live.parked(id, 0, now_ms, now_ms, String::from("it waits for its turn"))
        else {
            debug_assert!(false, "the router lets no malformed entry through");
            return;
        };
        if self.order.board.get(key).is_none() {
            // It stands behind another one: that of an ancestor.
            self.order.stand(key, fresh_head(now_ms, "it waits for its turn"), &via);
        }
        self.order.board.appended(key);
        self.order.push(&via, Op::write(key, ChainWrite::Append(parked), Some(live), in_front));
    }

    /// The message failed, and what waits behind it waits durably.
    pub(super) fn chain_up(&mut self, key: &ChainKey, live: Live, head: ChainHead) {
        let via = Arc::clone(&live.shard().shard_id);
        let behind = self.order.take_waiting(key);
        self.order.stand(key, head, &via);
        self.append(key, live, true);
        for live in behind {
            self.append(key, live, true);
        }
    }

    /// Writes what was decided, shard by shard.
    pub(super) fn write_chains(&mut self) {
        for (open, tenure, ops) in self.order.next_writes() {
            self.chores.push(self.chains.write(open, tenure, ops));
        }
    }

    /// When the next chain may go on; `None` while none may.
    pub(super) fn chain_at(&self) -> Option<Instant> {
        let most = (self.mandate.subscription.policy.concurrency as usize).min(MAX_BUSY);
        if self.closing || self.gone || self.order.board.busy() >= most {
            return None;
        }
        let due_in = self.order.board.next_due()?.saturating_sub(self.now_ms()).max(0);
        let due = Instant::now() + Duration::from_millis(due_in.unsigned_abs());
        Some(self.breaker.opens_at().map_or(due, |opens| due.max(opens)))
    }

    /// Has the first messages of the next chain read, or looks at one that is not ours to move.
    pub(super) fn go_on(&mut self) {
        self.order.prune();
        let now_ms = self.now_ms();
        let Some(key) = self.order.pop_due(now_ms) else { return };
        let Some(chain) = self.order.board.get(&key) else { return };
        let (via, looks) =
            (Arc::clone(&chain.via), chain.state == State::Foreign || chain.head.stopped);
        let Some((tenure, _)) = self.order.tenure(&via) else { return };
        let whole: Chain = tenure.chain(&key);
        if looks {
            self.chores.push(self.chains.look(whole));
            return;
        }
        let turn = self.order.begin(&key);
        self.chores.push(self.chains.read(whole, turn));
    }

    /// A call for chains ended.
    pub(super) fn after_chore(&mut self, chore: Chore) {
        match chore {
            Chore::Loaded { open, found: None } => self.order.give_up(&open),
            Chore::Loaded { open, found: Some((tenure, found)) } => {
                let held = self.order.loaded(&open.shard.shard_id, open.shard.fence, tenure, found);
                held.into_iter().for_each(|live| self.enter_in_order(live));
            }
            Chore::Wrote { open, ops, done } => self.wrote(&open, ops, done),
            Chore::Read { key, turn, page } => {
                if self.order.board.at_turn(&key, turn).is_none() {
                    return;
                }
                match page {
                    Ok(page) => {
                        self.order.board.read(&key, page.deliveries, page.more);
                        self.next_of_chain(&key, turn);
                    }
                    Err(why) => {
                        tracing::warn!(subscription = %self.mandate.subscription.id, why, "a chain cannot be read now");
                        self.order.board.wait(&key, later(self.now_ms(), Duration::from_secs(1)));
                    }
                }
            }
            Chore::Looked { key, head } => self.looked(&key, head),
        }
        self.write_chains();
    }

    fn wrote(&mut self, open: &Arc<OpenShard>, ops: Vec<Op>, done: bool) {
        let (id, fence) = (&open.shard.shard_id, open.shard.fence);
        self.order.wrote(id, fence, &ops);
        if !done {
            return self.order.give_up(open);
        }
        let mut parked = 0;
        for op in ops {
            match op {
                Op::Write { live: Some(live), .. } => {
                    parked += 1;
                    bump(&self.ends.shared.counters.parked);
                    live.settle();
                }
                Op::Write { .. } => {}
                Op::Letter(letter) => self.buried(*letter, id),
            }
        }
        metrics::parked(parked);
    }

    /// A dead letter is written: the next of its group goes on, or the chain stops.
    fn buried(&mut self, letter: Letter, via: &Arc<str>) {
        let Letter { key, letter, then } = letter;
        metrics::dead_lettered(letter.reason.code());
        self.ends.shared.counters.dead_lettered.fetch_add(1, Ordering::Relaxed);
        match then {
            Then::Release(live) => {
                self.unwrite_first(&key, &live);
                live.settle();
                self.order.release(&key);
            }
            Then::Next(chained, turn) => {
                self.order.settle(&key, via, *chained);
                self.next_of_chain(&key, turn);
            }
            Then::Stay => {}
        }
    }

    /// The next message that was read is attempted; if there is none, more is read, or the chain is gone.
    pub(super) fn next_of_chain(&mut self, key: &ChainKey, turn: Turn) {
        if self.order.board.at_turn(key, turn).is_none() || self.order.ready_next(key) {
            return;
        }
        let Some(chain) = self.order.board.get(key) else { return };
        let via = Arc::clone(&chain.via);
        if chain.has_more {
            let again =
                self.now_ms().saturating_add(if self.order.is_held(key) { 0 } else { AGAIN_MS });
            return self.order.board.wait(key, again);
        }
        self.order.clear(key, &via);
    }

    fn looked(&mut self, key: &ChainKey, head: Result<Option<ChainHead>, String>) {
        let now_ms = self.now_ms();
        let Some(chain) = self.order.board.get(key) else { return };
        let foreign = chain.state == State::Foreign;
        let look_at = now_ms + if foreign { LOOK_MS.0 } else { LOOK_MS.1 };
        match head {
            Ok(None) if foreign => self.order.board.remove(key),
            Ok(Some(head)) if !foreign && !head.stopped => {
                let via = Arc::clone(&chain.via);
                self.order.board.stand(key.clone(), head, &via, false);
            }
            _ => self.order.board.wait(key, look_at),
        }
    }
}
