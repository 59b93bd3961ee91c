//! A lane: one pipeline's bounded hold on one shard, and how far it has got.
//!
//! Its position is the end of the contiguous acknowledged prefix (invariant C1): a batch that is settled behind one that is
//! not does not move it. A lane never waits. What it takes is charged to its pipeline's budget at once, or not taken; what its
//! sink has no room for stays in its queue. When it is detached the queue is freed, and a reader goes on where the lane ended
//! ([`Lane::end`]). What feeds a lane is decided in [`feed`], and how two readers meet in [`seam`].

pub(crate) mod feed;
pub(crate) mod seam;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use lease_manager::{Checkpoint, LaneName, SequenceNumber};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::batch::{Ack, AckCell, AckState, Batch, LaneBatch, LeaseCheck, Place, ShardContext};
use crate::budget::{Permit, Share};
use crate::reader::skip_to;

/// Takes batches off a lane's hands without ever waiting.
pub(crate) trait Sink: Send + Sync {
    /// Accepts the batch, or hands it back when there is no room now.
    fn offer(&self, batch: LaneBatch) -> Result<(), LaneBatch>;

    /// Batches of this shard may come from now on, under this lease.
    fn open(&self, _shard: &Arc<ShardContext>, _lease: &LeaseCheck) {}

    /// All of the shard is settled here: whatever is still owed for it is its children's owners' to do, as soon as the lease says so.
    fn close(&self, _shard: &ShardContext) {}
}

/// One pipeline's lane in one shard.
pub(crate) struct Lane {
    name: LaneName,
    sink: Arc<dyn Sink>,
    share: Share,
    position: Checkpoint,
    /// Entries at or before it were settled before. `None` once the reader is past it.
    skip_to: Option<Place>,
    /// What was taken and not settled, oldest first. The last of them are those of `queue`.
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    /// What no sink has accepted yet.
    queue: VecDeque<Queued>,
    /// Since when the lane is full without having moved on.
    full_since: Option<Instant>,
    ended: bool,
}

struct InFlight {
    cell: Arc<AckCell>,
    end: Option<Checkpoint>,
    bytes: usize,
    oldest_arrival_ms: Option<i64>,
    ends_shard: bool,
}

struct Queued {
    batch: LaneBatch,
    /// Another sink than the lane's own.
    to: Option<Arc<dyn Sink>>,
}

/// What [`Lane::advance`] found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Advance {
    /// The position moved over at least one batch with records in it.
    pub(crate) records: bool,
    /// The position moved at all.
    pub(crate) moved: bool,
    /// Bytes of the batches it moved over: what a restart no longer reads again.
    pub(crate) bytes: usize,
}

/// A sink let go of a batch without settling it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("pipeline {0} dropped a batch without settling it; its position stays where it was")]
pub(crate) struct AckDropped(pub(crate) LaneName);

/// The lane's budget has no room for a batch now; nothing of it was taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoRoom;

/// What a lane tells its sink about everything it gives it.
#[derive(Clone)]
pub(crate) struct Terms {
    pub(crate) lease: LeaseCheck,
    /// Notified when a batch is settled or dropped.
    pub(crate) progress: Arc<Notify>,
}

impl Lane {
    /// A lane that goes on from `position`.
    pub(crate) fn new(
        name: LaneName,
        sink: Arc<dyn Sink>,
        share: Share,
        position: Checkpoint,
    ) -> Lane {
        let ended = position == Checkpoint::ShardEnd;
        let skip_to = skip_to(&position);
        Lane {
            name,
            sink,
            share,
            position,
            skip_to,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            queue: VecDeque::new(),
            full_since: None,
            ended,
        }
    }

    /// The pipeline's name.
    pub(crate) fn name(&self) -> &LaneName {
        &self.name
    }

    /// Who takes what the lane is fed.
    pub(crate) fn sink(&self) -> &dyn Sink {
        &*self.sink
    }

    /// Everything up to here is settled in this lane.
    pub(crate) fn position(&self) -> &Checkpoint {
        &self.position
    }

    /// Everything up to here was taken by this lane: where whoever feeds it goes on.
    pub(crate) fn end(&self) -> &Checkpoint {
        let ends = self.in_flight.iter().rev().filter_map(|batch| batch.end.as_ref());
        ends.max().filter(|end| **end > self.position).unwrap_or(&self.position)
    }

    /// The lane has settled the shard's last record.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// The lane took the shard's last record.
    pub(crate) fn has_all(&self) -> bool {
        self.ended || self.in_flight.back().is_some_and(|batch| batch.ends_shard)
    }

    /// The lane holds nothing.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Something waits for the sink to have room.
    pub(crate) fn is_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The lane, detached, should be fed again: its sink takes, most of what it held is settled, and its budget has room.
    pub(crate) fn is_ready(&self) -> bool {
        !self.is_queued() && self.in_flight_bytes <= self.share.bytes() / 2 && self.share.has_room()
    }

    /// Arrival of the oldest record that is not settled, in ms since 1970; `None` when all are.
    pub(crate) fn oldest_unsettled_ms(&self) -> Option<i64> {
        self.in_flight.iter().find_map(|b| b.oldest_arrival_ms)
    }

    /// Bytes of the batches that are not settled.
    pub(crate) fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }

    /// Charges a batch that is to be taken later, behind a gate. `waiting` bytes wait there already.
    pub(crate) fn charge(&self, batch: &Batch, waiting: usize) -> Option<Permit> {
        self.share.try_charge(batch.bytes, self.in_flight_bytes + waiting)
    }

    /// What [`Lane::take`] needs to take the batch: nothing, if nothing of it is owed.
    pub(crate) fn permit_for(&self, batch: &Batch) -> Result<Option<Permit>, NoRoom> {
        if self.has_all() || self.owed(batch) == 0 {
            return Ok(None);
        }
        self.charge(batch, 0).map(Some).ok_or(NoRoom)
    }

    /// Takes one more batch and offers it on at once. One that has the shard's last record takes nothing: what comes then is read
    /// again, for another lane.
    pub(crate) fn take(&mut self, batch: &Arc<Batch>, permit: Option<Permit>, terms: &Terms) {
        if self.has_all() {
            return;
        }
        let owed = self.owed(batch);
        if owed == 0 {
            return self.pass(batch, terms);
        }
        if owed == batch.entries.len() {
            self.skip_to = None;
        }
        self.in_flight_bytes += batch.bytes;
        let first_owed = &batch.entries[batch.entries.len() - owed];
        let (ack, cell) = Ack::new(owed, Arc::clone(&terms.progress));
        self.in_flight.push_back(InFlight {
            cell,
            end: end_of(batch),
            bytes: batch.bytes,
            oldest_arrival_ms: Some(first_owed.arrived_at_ms),
            ends_shard: batch.shard_ended,
        });
        let skip_to = self.skip_to.clone();
        let lease = terms.lease.clone();
        let batch = LaneBatch { batch: Arc::clone(batch), skip_to, ack, lease, permit };
        self.queue.push_back(Queued { batch, to: None });
        self.pump();
    }

    /// A batch in which nothing is owed is settled with what came before it.
    fn pass(&mut self, batch: &Batch, terms: &Terms) {
        let end = end_of(batch);
        if let Some(last) = self.in_flight.back_mut() {
            last.end = last.end.take().max(end);
            last.ends_shard |= batch.shard_ended;
            return;
        }
        let (_, cell) = Ack::new(0, Arc::clone(&terms.progress));
        self.in_flight.push_back(InFlight {
            cell,
            end,
            bytes: 0,
            oldest_arrival_ms: None,
            ends_shard: batch.shard_ended,
        });
    }

    /// Takes the record of a loss of what arrived since `since_ms`, to be kept by `keeper` before the lane may move past it.
    pub(crate) fn take_loss(
        &mut self,
        batch: &Arc<Batch>,
        since_ms: i64,
        keeper: Arc<dyn Sink>,
        terms: &Terms,
    ) {
        let (ack, cell) = Ack::new(batch.entries.len(), Arc::clone(&terms.progress));
        let oldest_arrival_ms = Some(since_ms);
        let in_flight =
            InFlight { cell, end: None, bytes: 0, oldest_arrival_ms, ends_shard: false };
        self.in_flight.push_back(in_flight);
        let (batch, lease) = (Arc::clone(batch), terms.lease.clone());
        let batch = LaneBatch { batch, skip_to: None, ack, lease, permit: None };
        self.queue.push_back(Queued { batch, to: Some(keeper) });
        self.pump();
    }

    /// Offers what waits, in order. True when nothing waits any more.
    pub(crate) fn pump(&mut self) -> bool {
        while let Some(Queued { batch, to }) = self.queue.pop_front() {
            if let Err(batch) = to.as_ref().unwrap_or(&self.sink).offer(batch) {
                self.queue.push_front(Queued { batch, to });
                return false;
            }
        }
        true
    }

    /// Frees what no sink has accepted: whoever feeds the lane next starts there. Says when the oldest of it arrived, in ms since 1970.
    pub(crate) fn free_queue(&mut self) -> Option<i64> {
        let mut oldest_arrival_ms = None;
        for _ in self.queue.drain(..) {
            if let Some(freed) = self.in_flight.pop_back() {
                self.in_flight_bytes -= freed.bytes;
                oldest_arrival_ms = freed.oldest_arrival_ms.or(oldest_arrival_ms);
            }
        }
        self.rejoin();
        oldest_arrival_ms
    }

    /// Whoever feeds the lane from now on may begin before its end: what was taken is left out.
    pub(crate) fn rejoin(&mut self) {
        self.full_since = None;
        self.skip_to = skip_to(self.end());
    }

    /// The lane holds more than its share.
    pub(crate) fn is_beyond_its_share(&self) -> bool {
        self.in_flight_bytes > self.share.bytes()
    }

    /// Whether the lane was full for `longest` without moving on. It is full while its sink takes no more, or while it holds
    /// more than its share.
    pub(crate) fn is_stuck(&mut self, now: Instant, longest: Duration) -> bool {
        let full = self.is_queued() || self.is_beyond_its_share();
        self.full_since = full.then(|| self.full_since.unwrap_or(now));
        self.full_since.is_some_and(|since| now - since >= longest)
    }

    /// Moves the position over the contiguous settled prefix.
    pub(crate) fn advance(&mut self) -> Result<Advance, AckDropped> {
        let mut advance = Advance::default();
        while let Some(front) = self.in_flight.front() {
            match front.cell.state() {
                AckState::Outstanding => break,
                AckState::Dropped => return Err(AckDropped(self.name.clone())),
                AckState::Settled => {}
            }
            let Some(done) = self.in_flight.pop_front() else { break };
            self.in_flight_bytes -= done.bytes;
            advance.moved = true;
            advance.records |= done.oldest_arrival_ms.is_some();
            advance.bytes += done.bytes;
            if let Some(end) = done.end.filter(|end| *end > self.position) {
                self.position = end;
            }
            self.ended |= done.ends_shard;
        }
        if advance.records {
            self.full_since = None;
        }
        Ok(advance)
    }

    /// Arrival of the first of the batch that the lane has still to settle, in ms since 1970.
    pub(crate) fn first_owed_ms(&self, batch: &Batch) -> Option<i64> {
        let first = batch.entries.len() - self.owed(batch);
        batch.entries.get(first).map(|entry| entry.arrived_at_ms)
    }

    /// How many entries of the batch the lane has still to settle.
    fn owed(&self, batch: &Batch) -> usize {
        batch.entries.len() - batch.first_unsettled(self.skip_to.as_ref())
    }
}

/// Where the lane stands once the batch is settled: the subscription's continuation, or the last
/// user record where the continuation adds nothing (and would lose the index in an aggregate).
fn end_of(batch: &Batch) -> Option<Checkpoint> {
    let last = batch.entries.last().map(|entry| batch.place(entry).to_place());
    match (&batch.upto, last) {
        (Some(upto), Some((sequence, _))) if *upto > sequence => Some(at(upto.clone(), 0)),
        (_, Some((sequence, index))) => Some(at(sequence, u64::from(index))),
        (Some(upto), None) => Some(at(upto.clone(), 0)),
        (None, None) => None,
    }
}

fn at(sequence: SequenceNumber, sub_sequence: u64) -> Checkpoint {
    Checkpoint::At { sequence, sub_sequence }
}
