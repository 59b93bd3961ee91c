//! One of the two places that records are written to: what waits for it, and what is under way.
//!
//! Messages and dead letters are lines of their own: one that fails or is slow takes neither calls nor
//! memory from the other. Does no I/O.

use std::sync::Arc;

use tokio::time::Instant;

use super::call::{Done, Verdict};
use super::limit::{AdaptiveLimit, CallOutcome};
use super::queue::{Fill, Item, Queue};
use crate::ailment::Ailment;

/// Calls that may run beside each other at the start, before anything was measured.
const FIRST_PARALLEL: usize = 4;
/// Payload bytes under way at once. Making a request of them takes about three times as much for a moment.
const BYTES_UNDER_WAY: usize = 8 * 1024 * 1024;

pub(super) struct Line {
    pub(super) queue: Queue,
    limit: AdaptiveLimit,
    running: usize,
    running_bytes: usize,
    ailment: Arc<Ailment>,
}

impl Line {
    pub(super) fn new(fill: Fill, max_parallel: usize, ailment: Arc<Ailment>) -> Line {
        Line {
            queue: Queue::new(fill),
            limit: AdaptiveLimit::new(FIRST_PARALLEL, max_parallel),
            running: 0,
            running_bytes: 0,
            ailment,
        }
    }

    /// Another call may start.
    fn has_room(&self) -> bool {
        self.running < self.limit.calls() && self.running_bytes < BYTES_UNDER_WAY
    }

    /// Calls that may run beside each other now.
    pub(super) fn parallel(&self) -> usize {
        self.limit.calls()
    }

    /// When there is next something to do, if a call may start then.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.queue.next_deadline().filter(|_| self.has_room())
    }

    /// The items of the next call, if one may start and is due.
    pub(super) fn next_call(&mut self, now: Instant) -> Option<Vec<Item>> {
        if !self.has_room() {
            return None;
        }
        self.queue.wake(now);
        self.queue.take(now)
    }

    /// A call of these items starts.
    pub(super) fn started(&mut self, items: &[Item]) {
        self.running += 1;
        self.running_bytes += items.iter().map(Item::bytes).sum::<usize>();
    }

    /// A call came back: how much of it was refused for now.
    pub(super) fn ended(&mut self, done: &Done, now: Instant) -> CallOutcome {
        self.running -= 1;
        self.running_bytes -= done.bytes;
        let outcome = outcome_of(&done.items);
        self.limit.observe(outcome, now);
        let refusal = done.items.iter().find_map(|(_, verdict)| match verdict {
            Verdict::Again(why) => Some(why),
            Verdict::Settled | Verdict::Reject(_) => None,
        });
        match refusal {
            Some(why) if outcome.refused == outcome.asked => self.ailment.failed(why, now),
            _ => self.ailment.recovered(now),
        }
        outcome
    }

    /// Everything that was asked of it lately was refused.
    pub(super) fn is_failing(&self) -> bool {
        self.ailment.is_failing()
    }

    /// Nothing waits and nothing runs: what failed is nobody's trouble any more.
    pub(super) fn rest(&self, now: Instant) {
        if self.running == 0 && self.queue.len() == 0 {
            self.ailment.recovered(now);
        }
    }
}

fn outcome_of(done: &[(Item, Verdict)]) -> CallOutcome {
    let mut refused = done
        .iter()
        .filter(|(_, verdict)| matches!(verdict, Verdict::Again(_)))
        .map(|(item, _)| item);
    let first = refused.next();
    let (mut count, mut one_key) = (usize::from(first.is_some()), true);
    for item in refused {
        count += 1;
        one_key = one_key && first.is_some_and(|first| first.shares_key_with(item));
    }
    CallOutcome { asked: done.len(), refused: count, one_key }
}
