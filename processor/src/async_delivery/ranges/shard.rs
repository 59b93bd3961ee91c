//! The ranges of one shard: loaded before anything of it is routed, asked for each message, written, closed.
//!
//! A shard is held under its lease, or, when nobody owns it any more because it ended, by the claims on its
//! ranges alone. What is read for it is in `feed`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aws_smithy_async::time::SharedTimeSource;
use lease_manager::{Checkpoint, SequenceNumber};
use store::{OpenRange, RangeStart, SubscriptionId};
use tokio::time::Instant;

use super::feed::Feed;
use super::state::{Range, Reach, State, Way};
use super::writes::Write;
use super::{Desk, Routes, ShardKey};
use crate::async_delivery::delivery::{Live, Track};
use crate::async_delivery::lane::{LaneHandle, Returned, Shared};
use crate::batch::{LaneBatch, LeaseCheck, Place, ShardContext};
use crate::clock::wall_ms;
use crate::reader::skip_to;

/// A stream that is not configured any more keeps records at least this long.
const SHORTEST_RETENTION: Duration = Duration::from_secs(24 * 3_600);

/// How far the loading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loading {
    Due(Instant),
    UnderWay,
    Loaded,
}

/// One shard in this worker's hands.
pub(super) struct Shard {
    pub(super) key: ShardKey,
    pub(super) context: Arc<ShardContext>,
    pub(super) lease: LeaseCheck,
    /// Held under the shard's lease: live messages come, and a range may close before the shard's end.
    pub(super) has_lease: bool,
    pub(super) retention: Duration,
    pub(super) tenure: u64,
    /// Batches that wait until the ranges are loaded.
    pub(super) waiting: VecDeque<LaneBatch>,
    pub(super) ranges: BTreeMap<SubscriptionId, Range>,
    pub(super) feed: Option<Feed>,
    pub(super) feed_not_before: Instant,
    /// What live routing has behind it: all that a range may have to cover. `None` while nobody knows.
    pub(super) bound: Option<Reach>,
    /// Until when the claims hold, in ms since 1970, where there is no lease.
    pub(super) claims_until_ms: Arc<AtomicI64>,
    pub(super) loading: Loading,
    pub(super) failures: u32,
}

impl Shard {
    /// A shard that is held under its lease; its ranges are to be loaded.
    pub(super) fn leased(
        key: ShardKey,
        context: Arc<ShardContext>,
        lease: LeaseCheck,
        retention: Option<Duration>,
        tenure: u64,
    ) -> Shard {
        let now = Instant::now();
        Shard {
            key,
            context,
            lease,
            has_lease: true,
            retention: retention.unwrap_or(SHORTEST_RETENTION),
            tenure,
            waiting: VecDeque::new(),
            ranges: BTreeMap::new(),
            feed: None,
            feed_not_before: now,
            bound: None,
            claims_until_ms: Arc::default(),
            loading: Loading::Due(now),
            failures: 0,
        }
    }

    /// A shard that is held by the claim on one of its ranges.
    pub(super) fn adrift(
        key: ShardKey,
        item: &OpenRange,
        retention: Option<Duration>,
        time: &SharedTimeSource,
        tenure: u64,
    ) -> Shard {
        let context = Arc::new(ShardContext {
            stream_arn: Arc::clone(&key.0),
            shard_id: Arc::clone(&key.1),
            fence: item.fence,
            starting_hash_key: item.hash_keys.0,
            ending_hash_key: item.hash_keys.1,
        });
        let until_ms = Arc::new(AtomicI64::new(item.until_ms));
        let (until, time) = (Arc::clone(&until_ms), time.clone());
        let lease = LeaseCheck::new(move || wall_ms(&time) < until.load(Ordering::Acquire));
        let shard = Shard::leased(key, context, lease, retention, tenure);
        Shard { has_lease: false, loading: Loading::Loaded, claims_until_ms: until_ms, ..shard }
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.loading == Loading::Loaded
    }

    /// A batch of it may be routed now.
    pub(super) fn is_ready(&self) -> bool {
        self.is_loaded() && self.waiting.is_empty()
    }

    pub(super) fn is_lost(&self) -> bool {
        self.has_lease && self.lease.is_lost()
    }

    /// Nothing is left to do for a shard without an owner.
    pub(super) fn is_done(&self) -> bool {
        let done = !self.has_lease && self.ranges.is_empty();
        if done {
            self.let_go();
        }
        done
    }

    /// Something moves.
    pub(super) fn is_busy(&self) -> bool {
        let moves = |range: &Range| {
            !range.window.is_empty() || !matches!(range.state, State::Open | State::Passed)
        };
        !self.is_loaded() || self.feed.is_some() || self.ranges.values().any(moves)
    }

    /// Ranges that stand in the table, or will.
    pub(super) fn standing(&self) -> impl Iterator<Item = &Range> {
        self.ranges.values().filter(|range| !matches!(range.state, State::Passed))
    }

    /// The lane had settled the shard up to here when it was taken over.
    pub(super) fn passed_position(&mut self, position: &Checkpoint) {
        let bound = match position {
            Checkpoint::ShardEnd => Some(Reach::End),
            position => skip_to(position).map(|place| Reach::through(&place)),
        };
        self.bound = self.bound.take().max(bound);
    }

    /// The first batch of a tenure: what lies before it was settled by this lane.
    pub(super) fn begins_with(&mut self, batch: &LaneBatch) {
        if self.bound.is_none()
            && let Some(first) = batch.entries().first()
        {
            self.bound = Some(Reach::Before(batch.batch.place(first).to_place()));
        }
    }

    /// Everything up to this place was routed.
    pub(super) fn passed(&mut self, place: &Place) {
        self.bound = self.bound.take().max(Some(Reach::through(place)));
        let Shard { ranges, bound, .. } = self;
        ranges.retain(|_, range| {
            !(matches!(range.state, State::Passed) && Some(&range.cursor) <= bound.as_ref())
        });
    }

    /// A live message for a destination. True if something has to be done for it soon.
    pub(super) fn give(
        &mut self,
        lane: &Arc<LaneHandle>,
        track: &Arc<Track>,
        index: usize,
        desk: &mut Desk,
    ) -> bool {
        let entry = &track.entries()[index];
        let place = || track.batch().place(entry).to_place();
        let Some(range) = self.ranges.get_mut(&lane.id) else {
            let Err(live) = lane.offer(track.delivery(index)) else { return false };
            self.open(&lane.id, &lane.shared, live, desk);
            return true;
        };
        let place = place();
        match range.way(&place) {
            Way::Covered => false,
            Way::Hold => {
                range.hold(track, index);
                false
            }
            Way::Gate => {
                range.wait_at_gate(place, track.delivery(index));
                false
            }
            Way::Live => match lane.offer(track.delivery(index)) {
                Ok(()) => false,
                Err(live) => {
                    range.refused(&place, entry.arrived_at_ms, live);
                    true
                }
            },
        }
    }

    /// A lane had this message, and its destination takes nothing now.
    pub(super) fn take_back(&mut self, returned: Returned, desk: &mut Desk) {
        let Returned { shared, live } = returned;
        let id = shared.mandate.load().subscription.id.clone();
        match self.ranges.get_mut(&id) {
            Some(range) => range.refused(&live.place(), live.arrived_at_ms(), live),
            None => self.open(&id, &shared, live, desk),
        }
    }

    /// Opens a range that begins with this message.
    fn open(&mut self, id: &SubscriptionId, shared: &Shared, live: Live, desk: &mut Desk) {
        let start = (live.place(), live.arrived_at_ms());
        let version = shared.mandate.load().subscription.version;
        let item = self.item(id, version, &start, desk);
        let state = State::Opening { holds: vec![live] };
        let range = Range::new(item, start, state, false, Instant::now());
        tracing::info!(shard = %self.key.1, subscription = %id, "a destination takes nothing now, or is behind: its range of this shard is opened");
        self.ranges.insert(id.clone(), range);
    }

    /// The item of a range that begins here.
    fn item(
        &self,
        id: &SubscriptionId,
        version: u64,
        ((sequence, index), arrived_at_ms): &(Place, i64),
        desk: &mut Desk,
    ) -> OpenRange {
        let context = &self.context;
        OpenRange {
            subscription: id.clone(),
            stream_arn: Arc::clone(&context.stream_arn),
            shard_id: Arc::clone(&context.shard_id),
            hash_keys: (context.starting_hash_key, context.ending_hash_key),
            from: start_of(sequence, *index, *arrived_at_ms),
            opened_at_ms: desk.now_ms(),
            lost_at_ms: 0,
            version,
            fence: context.fence,
            claim: desk.token(),
            until_ms: 0,
        }
    }

    /// A range that stands in the table, and is this worker's.
    pub(super) fn stands(&mut self, item: OpenRange) {
        let Ok(sequence) = SequenceNumber::parse(Arc::clone(&item.from.sequence)) else {
            tracing::error!(key = ?item.key(), "a range begins at no sequence number: an operator has to look at it");
            return;
        };
        self.claims_until_ms.fetch_max(item.until_ms, Ordering::AcqRel);
        let start = ((sequence, item.from.index), item.from.arrived_at_ms);
        let now = Instant::now();
        match self.ranges.get_mut(&item.subscription) {
            // What waits for it to be written goes on waiting, for the earlier of the two.
            Some(range) if matches!(range.state, State::Opening { .. }) => {
                range.item.claim = item.claim;
                range.written = Some((start.0.clone(), now));
                if start.0 < range.start.0 {
                    range.cursor = Reach::Before(start.0.clone());
                    range.cursor_at_ms = start.1;
                    range.start = start;
                }
            }
            Some(range) if range.written.is_some() => {
                range.item.claim = item.claim;
                range.item.until_ms = item.until_ms;
            }
            _ => {
                let range = Range::new(item.clone(), start, State::Open, true, now);
                self.ranges.insert(item.subscription, range);
            }
        }
    }

    /// All that can be done now.
    pub(super) fn pump(&mut self, routes: &Routes<'_>, desk: &mut Desk) {
        let now = Instant::now();
        if let Loading::Due(at) = self.loading
            && at <= now
        {
            self.loading = Loading::UnderWay;
            let until_ms = desk.now_ms().saturating_add(desk.claim_ms());
            let take = Write::Take { fence: self.context.fence, claim: desk.token(), until_ms };
            desk.write(self, None, take);
        }
        if !self.is_loaded() {
            return;
        }
        let near = self.feed.as_ref().filter(|feed| feed.near);
        let near: Vec<SubscriptionId> =
            near.map(|feed| feed.members.iter().cloned().collect()).unwrap_or_default();
        for (id, range) in &mut self.ranges {
            let lane = routes.lanes.active.get(id);
            range.settle_up(lane, self.bound.as_ref());
            if self.has_lease {
                range.meet(lane, self.bound.as_ref(), near.contains(id), desk.is_closed(), now);
            } else if range.cursor == Reach::End && matches!(range.state, State::Open) {
                range.state = State::Closing;
            }
            range.finish_closing();
            range.look_ahead(desk.now_ms(), self.retention);
        }
        self.pump_feed(routes, desk, now);
        if self.is_at_a_tip() {
            return self.release(desk);
        }
        self.write_due(routes, desk, now);
    }

    /// Held without a lease, and what was to be read of it goes on: the shard lives, and only who owns it can close its ranges.
    fn is_at_a_tip(&self) -> bool {
        let idle = |range: &Range| {
            range.window.is_empty() && !range.writing && matches!(range.state, State::Open)
        };
        let at_tip = self.feed.as_ref().is_some_and(|feed| feed.at_tip);
        !self.has_lease && at_tip && self.ranges.values().all(idle)
    }

    /// Gives the ranges back, with how far they got.
    pub(super) fn release(&mut self, desk: &mut Desk) {
        self.feed = None;
        let now_ms = desk.now_ms();
        let mut due = Vec::new();
        for range in self.ranges.values_mut() {
            range.settle_up(None, None);
            range.window.recall();
            if range.written.is_some() && !matches!(range.state, State::Removing { .. }) {
                due.push((range.item.clone(), range.begins()));
            }
        }
        for (mut item, from) in due {
            self.address(&mut item, &from, now_ms);
            let write = Write::Progress(Box::new(item.clone()), from.0);
            desk.write(self, Some(&item), write);
        }
        self.ranges.clear();
        self.waiting.clear();
        self.let_go();
    }

    /// Without an owner, nothing but this says that the claims are gone.
    fn let_go(&self) {
        if !self.has_lease {
            self.lease.mark_lost();
        }
    }
}

pub(super) fn start_of(sequence: &SequenceNumber, index: u32, arrived_at_ms: i64) -> RangeStart {
    RangeStart { sequence: Arc::from(sequence.as_str()), index, arrived_at_ms }
}
