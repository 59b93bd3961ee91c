//! The writing of a shard's ranges: what is due, and what follows from how it ended.

use std::sync::atomic::Ordering;
use std::time::Duration;

use lease_manager::SequenceNumber;
use store::{OpenRange, SubscriptionId};
use tokio::time::Instant;

use super::shard::{Loading, Shard, start_of};
use super::spill::Notice;
use super::state::{Range, Reach, State};
use super::writes::{Outcome, Write};
use super::{Desk, Routes};
use crate::async_delivery::metrics;
use crate::batch::Place;

/// Between two writes of how far a range has got.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// First and longest pause before a write is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

impl Shard {
    pub(super) fn write_due(&mut self, routes: &Routes<'_>, desk: &mut Desk, now: Instant) {
        let mut due = Vec::new();
        let mut ranges = std::mem::take(&mut self.ranges);
        for (id, range) in &mut ranges {
            if range.writing || range.not_before > now {
                continue;
            }
            let deleted = routes.lanes.known
                && !routes.lanes.active.contains_key(id)
                && !routes.lanes.disabled.contains_key(id);
            if let Some(lane) = routes.lanes.active.get(id) {
                range.item.version = lane.shared.mandate.load().subscription.version;
            }
            if let Some(write) = self.next_write(range, deleted, desk, now) {
                range.writing = true;
                due.push((range.item.clone(), write));
            }
        }
        self.ranges = ranges;
        for (item, write) in due {
            desk.write(self, Some(&item), write);
        }
    }

    /// What is to be written of a range now, if anything.
    fn next_write(
        &self,
        range: &mut Range,
        deleted: bool,
        desk: &Desk,
        now: Instant,
    ) -> Option<Write> {
        let now_ms = desk.now_ms();
        let notice = |item| Notice { range: item, integration: &desk.default_name, now_ms };
        match &range.state {
            State::Passed => return None,
            State::Opening { .. } => {}
            _ if deleted => {
                let why = "its subscription was deleted";
                let letter = notice(&range.item).all_given_up(&range.begins(), why);
                let (key, claim) = (range.item.key(), range.item.claim.clone());
                return Some(Write::GiveUp(Box::new(letter), key, claim));
            }
            State::Removing { .. } => {
                return Some(Write::Remove(Box::new(range.item.clone()), now_ms));
            }
            _ if range.spill.owes_letter() => {
                return range
                    .spill
                    .letter(&notice(&range.item))
                    .map(|l| Write::Letter(Box::new(l)));
            }
            // What it parked itself is to be among them.
            _ if range.spill.wants_count() && range.window.is_empty() => {
                let cap = desk.parts.policy.spill_cap;
                return Some(Write::Count(range.item.subscription.clone(), cap));
            }
            _ => {}
        }
        let opening = matches!(range.state, State::Opening { .. });
        let from = if opening { range.start.clone() } else { range.begins() };
        let moved = range.written.as_ref().is_none_or(|(place, at)| {
            *place != from.0 && now.saturating_duration_since(*at) >= PROGRESS_INTERVAL
        });
        let claim_ms = desk.claim_ms();
        let renew = range.item.until_ms.saturating_sub(now_ms) < claim_ms / 3 * 2;
        if !(opening || moved || renew) {
            return None;
        }
        self.address(&mut range.item, &from, now_ms.saturating_add(claim_ms));
        let item = Box::new(range.item.clone());
        Some(if opening { Write::Open(item, from.0) } else { Write::Progress(item, from.0) })
    }

    /// Where the range begins, and until when it is held.
    pub(super) fn address(
        &self,
        item: &mut OpenRange,
        (place, arrived_at_ms): &(Place, i64),
        until_ms: i64,
    ) {
        let retention_ms = i64::try_from(self.retention.as_millis()).unwrap_or(i64::MAX);
        item.from = start_of(&place.0, place.1, *arrived_at_ms);
        item.lost_at_ms = arrived_at_ms.saturating_add(retention_ms);
        item.until_ms = until_ms;
        item.fence = item.fence.max(self.context.fence);
    }

    /// A write of the shard (`None`) or of a range ended.
    pub(super) fn wrote(
        &mut self,
        subscription: Option<SubscriptionId>,
        outcome: Outcome,
        desk: &mut Desk,
    ) {
        let now = Instant::now();
        let Some(id) = subscription else { return self.loaded(outcome, now, desk) };
        let bound = self.bound.clone().unwrap_or(Reach::Before((zero(), 0)));
        let Some(range) = self.ranges.get_mut(&id) else { return };
        range.writing = false;
        match outcome {
            Outcome::Written(from) => {
                self.claims_until_ms.fetch_max(range.item.until_ms, Ordering::AcqRel);
                if matches!(range.state, State::Opening { .. }) {
                    metrics::range("opened");
                }
                range.was_written(from, now);
            }
            Outcome::Removed => {
                tracing::info!(shard = %self.key.1, subscription = %id, "a range is closed");
                metrics::range("closed");
                if range.was_removed(&bound) {
                    self.ranges.remove(&id);
                } else {
                    // The one that is to be opened now is another one.
                    range.item.claim = desk.token();
                }
            }
            Outcome::Told => {
                metrics::range("given-up");
                range.spill.told();
            }
            Outcome::Counted(count) => {
                range.spill.counted(count, desk.parts.policy.spill_cap);
            }
            Outcome::Unknown(why) => {
                range.failures = range.failures.saturating_add(1);
                range.not_before = now + pause(range.failures);
                if range.failures % 10 == 1 {
                    tracing::warn!(shard = %self.key.1, subscription = %id, why, "a range could not be written; it is tried again");
                }
            }
            Outcome::Conflict => self.conflicted(&id, now),
            Outcome::Taken(_) => {}
        }
    }

    /// The range is another's by now. Under the lease, what stands is read again; what waits goes on waiting.
    fn conflicted(&mut self, id: &SubscriptionId, now: Instant) {
        tracing::info!(shard = %self.key.1, subscription = %id, "a range is another worker's");
        let Some(range) = self.ranges.get_mut(id) else { return };
        range.window.recall();
        range.written = None;
        if !(self.has_lease && range.still_waits()) {
            range.give_up_gate();
            self.ranges.remove(id);
        }
        if self.has_lease {
            self.loading = Loading::Due(now + PAUSES.0);
        }
    }

    fn loaded(&mut self, outcome: Outcome, now: Instant, desk: &mut Desk) {
        let Outcome::Taken(items) = outcome else {
            self.failures = self.failures.saturating_add(1);
            self.loading = Loading::Due(now + pause(self.failures));
            return;
        };
        self.failures = 0;
        self.loading = Loading::Loaded;
        self.ranges.retain(|id, range| {
            // What is being written is decided by how that ends.
            if range.writing || items.iter().any(|item| item.subscription == *id) {
                return true;
            }
            range.item.claim = desk.token();
            range.give_up_gate();
            range.still_waits()
        });
        items.into_iter().for_each(|item| self.stands(item));
    }
}

#[allow(clippy::expect_used)]
fn zero() -> SequenceNumber {
    SequenceNumber::parse("0").expect("zero is a sequence number")
}

/// The pause after so many failures in a row.
fn pause(failures: u32) -> Duration {
    PAUSES.0.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(PAUSES.1)
}
