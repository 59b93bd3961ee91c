//! Where a lane that caught up goes over from its own reader to the live one: no gap, no overlap.
//!
//! When the catch-up reader is near the tip, a seam is fixed at what the live reader has handed out. What the live reader
//! hands out from then on waits behind a gate, on the lane's own budget. The catch-up reader goes on until it is certain that
//! it has handed out everything up to the seam; what it has beyond is cut off, and the gate opens. It does no I/O.

use std::collections::VecDeque;
use std::sync::Arc;

use lease_manager::SequenceNumber;

use super::{Lane, NoRoom, Terms};
use crate::batch::Batch;
use crate::budget::Permit;

/// A seam that is fixed, and what waits behind its gate.
#[derive(Debug)]
pub(crate) struct Seam {
    at: SequenceNumber,
    gate: VecDeque<(Arc<Batch>, Permit)>,
    gate_bytes: usize,
}

impl Seam {
    /// A seam behind `at`, the last that the live reader has handed out.
    pub(crate) fn new(at: SequenceNumber) -> Seam {
        Seam { at, gate: VecDeque::new(), gate_bytes: 0 }
    }

    /// Keeps a live batch for later. Without room the seam is of no use any more.
    pub(crate) fn hold(&mut self, lane: &Lane, batch: &Arc<Batch>) -> Result<(), NoRoom> {
        let permit = lane.charge(batch, self.gate_bytes).ok_or(NoRoom)?;
        self.gate_bytes += batch.bytes;
        self.gate.push_back((Arc::clone(batch), permit));
        Ok(())
    }

    /// Cuts off what the live reader hands out itself. True when the catch-up reader has handed out everything up to the seam:
    /// it saw something at or beyond it, or the shard's end, or that there is nothing more. `asked_after`: the batch is the
    /// answer to a question that was asked after the seam was fixed, so that an empty one means something.
    pub(crate) fn cut(&self, batch: &mut Batch, asked_after: bool) -> bool {
        let within = batch.first_unsettled(Some(&(self.at.clone(), u32::MAX)));
        let beyond = within < batch.entries.len();
        let last = batch.entries[..within].last().map(|entry| batch.place(entry).to_place().0);
        let reached = last.as_ref() >= Some(&self.at) || batch.upto.as_ref() >= Some(&self.at);
        let nothing_more =
            asked_after && batch.entries.is_empty() && batch.millis_behind_latest == 0;
        let met = beyond || reached || batch.shard_ended || nothing_more;
        batch.entries.truncate(within);
        if batch.upto.as_ref() > Some(&self.at) {
            batch.upto = Some(self.at.clone());
        }
        // The shard's end is the live reader's to hand out.
        if batch.shard_ended {
            batch.shard_ended = false;
            batch.children.clear();
        }
        met
    }

    /// The lane takes what waited behind the gate, in order. The catch-up reader may have been ahead of the live one when the seam was
    /// fixed: what the lane took before is left out.
    pub(crate) fn open(self, lane: &mut Lane, terms: &Terms) {
        lane.rejoin();
        for (batch, permit) in self.gate {
            lane.take(&batch, Some(permit), terms);
        }
    }
}
