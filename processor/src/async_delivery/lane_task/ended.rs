//! What becomes of a message in order: delivered, put by, given up, withheld or let go of, and what that means for its chain.

use std::sync::Arc;
use std::time::Duration;

use store::{ChainHead, ChainKey, ChainedDelivery, DeadReason, OnExhausted, ParkedDelivery};

use super::LaneTask;
use super::ordered::LOOK_MS;
use crate::async_delivery::aftermath::{dead_letter, later};
use crate::async_delivery::delivery::{InOrder, Source};
use crate::async_delivery::events::Event;
use crate::async_delivery::ledger::{Job, News};
use crate::async_delivery::ordered::{Letter, Op, OpenShard, Then, fresh_head};
use crate::async_delivery::outcome::Next;
use crate::async_delivery::stats::bump;

impl LaneTask {
    /// What follows for a message in order once its attempt has ended.
    pub(super) fn follow_in_order(&mut self, in_order: InOrder, next: Next, error: String) {
        let attempts = in_order.attempts.saturating_add(1);
        match next {
            Next::Settled => self.delivered(in_order),
            Next::Retry(delay) => self.put_by(in_order, attempts, delay, error),
            Next::Again => {
                let before = in_order.attempts;
                self.put_by(in_order, before, Duration::ZERO, error);
            }
            Next::GiveUp(reason) => self.bury(in_order, attempts, reason, error),
            Next::Disable => {
                self.backlog.push_back(Job::Disable(Arc::clone(&self.mandate.subscription)));
                self.bury(in_order, attempts, DeadReason::DestinationGone, error);
            }
        }
        self.write_chains();
    }

    fn delivered(&mut self, in_order: InOrder) {
        bump(&self.ends.shared.counters.delivered);
        self.settle_in_order(in_order);
    }

    fn settle_in_order(&mut self, InOrder { key, source, .. }: InOrder) {
        match source {
            Source::Stream(live) => {
                self.unwrite_first(&key, &live);
                live.settle();
                self.order.release(&key);
            }
            Source::Chain(chained, turn) => {
                let Some(via) = self.via(&key, &chained) else { return };
                self.order.settle(&key, &via, *chained);
                self.next_of_chain(&key, turn);
            }
        }
    }

    /// The shard by which a chain is ours. One that is ours no more goes on elsewhere; that this message was delivered is still noted while it can be.
    fn via(&self, key: &ChainKey, chained: &ChainedDelivery) -> Option<Arc<str>> {
        let own = &chained.delivery.message.position.shard_id;
        self.order.board.get(key).map_or_else(
            || self.order.tenure(own).map(|_| Arc::clone(own)),
            |chain| Some(Arc::clone(&chain.via)),
        )
    }

    /// It stands first in its chain, and is attempted again after `delay`.
    pub(super) fn put_by(
        &mut self,
        in_order: InOrder,
        attempts: u32,
        delay: Duration,
        error: String,
    ) {
        let InOrder { key, source, .. } = in_order;
        let now_ms = self.now_ms();
        let due_at_ms = later(now_ms, delay);
        match source {
            Source::Stream(live) if live.lease_is_lost() => self.order.release(&key),
            Source::Stream(live) => {
                let message = live.id();
                let head = ChainHead { message, attempts, due_at_ms, ..fresh_head(now_ms, &error) };
                self.chain_up(&key, live, head);
            }
            Source::Chain(chained, turn) => {
                let chain = self.order.board.at_turn(&key, turn);
                let Some(via) = chain.map(|chain| Arc::clone(&chain.via)) else { return };
                let message = chained.delivery.message.id.clone();
                let first = self.order.board.first_failed_at_ms(&key, &message).unwrap_or(now_ms);
                let head = ChainHead {
                    message: Some(message),
                    attempts,
                    due_at_ms,
                    ..fresh_head(first, &error)
                };
                self.order.stand(&key, head, &via);
            }
        }
    }

    /// It becomes a dead letter, and what comes behind it goes on or, if that is asked for, does not.
    fn bury(&mut self, in_order: InOrder, attempts: u32, reason: DeadReason, detail: String) {
        let InOrder { key, source, attempts: before } = in_order;
        let now_ms = self.now_ms();
        let policy = &self.mandate.subscription.policy;
        let stops = policy.on_exhausted == OnExhausted::Stop
            && matches!(reason, DeadReason::DeliveryExhausted | DeadReason::DeliveryRejected);
        let (via, parked) = match &source {
            Source::Stream(live) => {
                let id = &self.mandate.subscription.id;
                let parked = live.parked(id, attempts, now_ms, now_ms, String::new());
                (Some(Arc::clone(&live.shard().shard_id)), parked)
            }
            Source::Chain(chained, turn) => {
                let via = self.order.board.at_turn(&key, *turn).map(|chain| Arc::clone(&chain.via));
                (via, Some(chained.delivery.clone()))
            }
        };
        let (Some(via), Some(parked)) = (via, parked) else { return };
        let mut letter = dead_letter(parked, reason, detail.clone(), now_ms);
        letter.attempts = attempts;
        if let Some(event) = Event::of_letter(&letter) {
            let about = self.mandate.subscription.id.clone();
            self.backlog.push_back(Job::Tell(Box::new(News { about, event })));
        }
        let then = if stops {
            let in_order = InOrder { key: key.clone(), attempts: before, source };
            self.stop_at(in_order, attempts, &detail);
            Then::Stay
        } else {
            match source {
                Source::Stream(live) => Then::Release(live),
                Source::Chain(chained, turn) => Then::Next(chained, turn),
            }
        };
        self.order.push(&via, Op::Letter(Box::new(Letter { key, letter, then })));
    }

    /// The chain stands with this message in front until an operator lets it go on.
    fn stop_at(&mut self, in_order: InOrder, attempts: u32, detail: &str) {
        let key = in_order.key.clone();
        let now_ms = self.now_ms();
        let (message, due_at_ms) = (in_order.id(), now_ms + LOOK_MS.1);
        let head =
            ChainHead { message, attempts, due_at_ms, stopped: true, ..fresh_head(now_ms, detail) };
        tracing::warn!(subscription = %self.mandate.subscription.id, "a message in order is given up: what comes behind it waits until it is redriven");
        match in_order.source {
            Source::Stream(live) => self.chain_up(&key, live, head),
            Source::Chain(..) => {
                if let Some(via) = self.order.board.get(&key).map(|chain| Arc::clone(&chain.via)) {
                    self.order.stand(&key, head, &via);
                }
            }
        }
    }

    /// Its owner is not granted it any more: what comes from the stream is filtered out, what was kept is a dead letter.
    pub(super) fn withhold_in_order(&mut self, in_order: InOrder) {
        match in_order.source {
            Source::Stream(_) => self.settle_in_order(in_order),
            Source::Chain(..) => {
                let attempts = in_order.attempts;
                let detail = String::from("its client is not granted it any more");
                self.bury(in_order, attempts, DeadReason::NotGranted, detail);
            }
        }
        self.write_chains();
    }

    /// The destination takes nothing now: it stands first in its chain, which goes on as soon as the breaker lets it.
    pub(super) fn set_aside_in_order(&mut self, in_order: InOrder) {
        let attempts = in_order.attempts;
        let why = String::from("the destination takes nothing now");
        self.put_by(in_order, attempts, Duration::ZERO, why);
        self.write_chains();
    }

    /// Its shard is another worker's by now.
    pub(super) fn let_go(&mut self, in_order: InOrder) {
        match in_order.source {
            Source::Stream(_) => self.order.release(&in_order.key),
            Source::Chain(..) => self.order.prune(),
        }
    }

    /// The shard by which a message in order may be attempted, if it is one of a chain; `Err` if none does any more.
    pub(super) fn owner_of(&self, in_order: &InOrder) -> Result<Option<&OpenShard>, ()> {
        match &in_order.source {
            Source::Stream(_) => Ok(None),
            Source::Chain(_, turn) => {
                let chain = self.order.board.at_turn(&in_order.key, *turn).ok_or(())?;
                let open = self.order.owner(&chain.via).ok_or(())?;
                Ok(Some(open))
            }
        }
    }
}

impl InOrder {
    fn id(&self) -> Option<store::MessageId> {
        match &self.source {
            Source::Stream(live) => live.id(),
            Source::Chain(chained, _) => {
                let ParkedDelivery { message, .. } = &chained.delivery;
                Some(message.id.clone())
            }
        }
    }
}
