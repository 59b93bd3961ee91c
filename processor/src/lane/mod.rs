//! A lane: one pipeline's bounded hold on one shard, and how far it has got.
//!
//! Its position is the end of the contiguous acknowledged prefix (invariant C1): a batch that is
//! settled behind one that is not does not move it. A lane never waits; what its sink or its budget
//! has no room for stays in the lane's one waiting place, and the shard consumer stops reading.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use lease_manager::{Checkpoint, LaneName};
use tokio::sync::Notify;

use crate::batch::{Ack, AckCell, AckState, Batch, LaneBatch, LeaseCheck, Place};
use crate::budget::Budget;
use crate::fan_out::skip_to;

/// Takes batches off a lane's hands without ever waiting.
pub(crate) trait Sink: Send + Sync {
    /// Accepts the batch, or hands it back when there is no room now.
    fn offer(&self, batch: LaneBatch) -> Result<(), LaneBatch>;
}

/// One pipeline's lane in one shard.
pub(crate) struct Lane {
    name: LaneName,
    sink: Arc<dyn Sink>,
    budget: Budget,
    position: Checkpoint,
    /// Entries at or before it were settled by an earlier owner of the lease. `None` once the
    /// reader is past it.
    skip_to: Option<Place>,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    waiting: Option<LaneBatch>,
    ended: bool,
}

struct InFlight {
    cell: Arc<AckCell>,
    end: Option<Checkpoint>,
    bytes: usize,
    oldest_arrival_ms: Option<i64>,
    ends_shard: bool,
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

impl Lane {
    /// A lane that goes on from `position`.
    pub(crate) fn new(
        name: LaneName,
        sink: Arc<dyn Sink>,
        budget: Budget,
        position: Checkpoint,
    ) -> Lane {
        let ended = position == Checkpoint::ShardEnd;
        let skip_to = skip_to(&position);
        Lane {
            name,
            sink,
            budget,
            position,
            skip_to,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            waiting: None,
            ended,
        }
    }

    /// The pipeline's name.
    pub(crate) fn name(&self) -> &LaneName {
        &self.name
    }

    /// Everything up to here is settled in this lane.
    pub(crate) fn position(&self) -> &Checkpoint {
        &self.position
    }

    /// The lane has settled the shard's last record.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// The lane holds nothing.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// The lane can take another batch.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.is_none()
    }

    /// Arrival of the oldest record that is not settled, in ms since 1970; `None` when all are.
    pub(crate) fn oldest_unsettled_ms(&self) -> Option<i64> {
        self.in_flight.iter().find_map(|b| b.oldest_arrival_ms)
    }

    /// Bytes of the batches that are not settled.
    pub(crate) fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }

    /// Takes one more batch and offers it on at once if there is room.
    pub(crate) fn take(&mut self, batch: &Arc<Batch>, lease: &LeaseCheck, progress: &Arc<Notify>) {
        debug_assert!(self.waiting.is_none(), "a lane is offered a batch only when it has room");
        if self.ended {
            return;
        }
        let owed = owed(batch, self.skip_to.as_ref());
        if owed > 0 && owed == batch.entries.len() {
            self.skip_to = None;
        }
        self.in_flight_bytes += batch.bytes;
        let (ack, cell) = Ack::new(owed, Arc::clone(progress));
        self.in_flight.push_back(InFlight {
            cell,
            end: end_of(batch),
            bytes: batch.bytes,
            oldest_arrival_ms: batch.entries[batch.entries.len() - owed..]
                .first()
                .map(|e| e.arrived_at_ms),
            ends_shard: batch.shard_ended,
        });
        if owed == 0 {
            return;
        }
        self.waiting = Some(LaneBatch {
            batch: Arc::clone(batch),
            skip_to: self.skip_to.clone(),
            ack,
            lease: lease.clone(),
            permit: None,
        });
        self.pump();
    }

    /// Offers the waiting batch again. True when nothing waits any more.
    pub(crate) fn pump(&mut self) -> bool {
        let Some(mut batch) = self.waiting.take() else { return true };
        if batch.permit.is_none() {
            batch.permit = self.budget.try_charge(batch.batch.bytes);
        }
        if batch.permit.is_none() {
            self.waiting = Some(batch);
            return false;
        }
        match self.sink.offer(batch) {
            Ok(()) => true,
            Err(batch) => {
                self.waiting = Some(batch);
                false
            }
        }
    }

    /// Takes back the batch that no sink has accepted: whoever reads the shard next reads it again.
    pub(crate) fn withdraw(&mut self) {
        // No batch is taken while one waits, so what waits is what came last.
        if self.waiting.take().is_some()
            && let Some(last) = self.in_flight.pop_back()
        {
            self.in_flight_bytes -= last.bytes;
        }
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
        Ok(advance)
    }
}

/// How many entries of the batch the lane has still to settle.
fn owed(batch: &Batch, skip_to: Option<&Place>) -> usize {
    batch.entries.len() - batch.first_unsettled(skip_to)
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

fn at(sequence: lease_manager::SequenceNumber, sub_sequence: u64) -> Checkpoint {
    Checkpoint::At { sequence, sub_sequence }
}
