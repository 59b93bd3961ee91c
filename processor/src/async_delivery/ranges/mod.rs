//! Range parking: a destination that is down or behind costs one item for each shard, not one for each message.
//!
//! What a destination does not take now opens a range: one item that says from which place of which shard on
//! messages are owed to it. While it stands, the shard's messages for it are settled without a write: the
//! stream keeps them. When the destination takes messages again, the range is read from the stream and handed
//! to the destination's lane in stream order, at its rate and with its room, until it meets live routing. The
//! intake owns all of this, because it owns routing; nothing here is shared with another task but receipts.
//!
//! Start at [`Ranges`], then `state` (one range), `shard` (what is done for the ranges of a shard), `feed`
//! (reading for them), `window` (what is under way) and `spill` (before the stream loses it).

mod desk;
mod feed;
mod keeping;
mod log;
mod meeting;
mod parts;
mod shard;
mod spill;
mod state;
mod window;
mod writes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use lease_manager::Checkpoint;
use store::{OpenRange, RANGE_BUCKETS};
use tokio::time::{Instant, sleep_until};

pub(crate) use log::{KinesisLogs, Log, Logs};
pub(super) use parts::{RangeFigures, RangeShared, RangesParts};
pub(super) use window::Receipt;

use super::delivery::Track;
use super::intake::Lanes;
use super::lane::{LaneHandle, Returned};
use super::ledger::Job;
use super::metrics;
use super::router::Router;
use crate::batch::{LaneBatch, LeaseCheck, ShardContext};
use desk::Desk;
use feed::ReadDone;
use shard::Shard;
use writes::{Outcome, Wrote};

/// Stream and shard.
pub(super) type ShardKey = (Arc<str>, Arc<str>);

/// Between two looks while something is under way, while ranges only wait, and while there are none.
const TICKS: [Duration; 3] =
    [Duration::from_millis(25), Duration::from_millis(500), Duration::from_secs(1)];

/// A shard that this worker has taken over.
#[derive(Debug)]
pub(super) struct Adopted {
    pub(super) shard: Arc<ShardContext>,
    pub(super) lease: LeaseCheck,
    /// Up to where this lane had settled it.
    pub(super) position: Checkpoint,
}

/// Who gets what, as the intake knows it now.
pub(super) struct Routes<'a> {
    pub(super) router: &'a Router<Arc<LaneHandle>>,
    pub(super) lanes: &'a Lanes,
}

/// Something that ended, or was due.
pub(super) enum Event {
    Wrote(Wrote),
    Read(ReadDone),
    Claimed(Vec<OpenRange>),
    Tick,
}

/// The shard of a batch that is being routed.
pub(super) struct Routing<'a> {
    shard: &'a mut Shard,
    desk: &'a mut Desk,
    tick_at: &'a mut Instant,
}

impl Routing<'_> {
    /// Gives one live message to a destination, or to its range.
    pub(super) fn give(&mut self, lane: &Arc<LaneHandle>, track: &Arc<Track>, index: usize) {
        if self.shard.give(lane, track, index, self.desk) {
            *self.tick_at = Instant::now();
        }
    }

    /// A range stands for this destination, or is to.
    pub(super) fn has_range(&self, lane: &LaneHandle) -> bool {
        self.shard.ranges.contains_key(&lane.id)
    }

    /// The batch was routed.
    pub(super) fn passed(self, track: &Track) {
        if let Some(last) = track.entries().last() {
            self.shard.passed(&track.batch().place(last).to_place());
        }
    }
}

/// All ranges of the shards in this worker's hands.
pub(super) struct Ranges {
    desk: Desk,
    shards: BTreeMap<ShardKey, Shard>,
    tenures: u64,
    /// Some batch may wait.
    may_wait: bool,
    tick_at: Instant,
    sweep_at: Instant,
    bucket: u16,
}

impl Ranges {
    pub(super) fn new(parts: RangesParts) -> Ranges {
        let now = Instant::now();
        Ranges {
            desk: Desk::new(parts),
            shards: BTreeMap::new(),
            tenures: 0,
            may_wait: false,
            tick_at: now,
            sweep_at: now,
            bucket: 0,
        }
    }

    /// The next thing to act on. Cancel safe.
    pub(super) async fn next(&mut self) -> Event {
        tokio::select! { biased;
            Some(event) = self.desk.under_way.next(), if !self.desk.under_way.is_empty() => event,
            () = sleep_until(self.tick_at) => Event::Tick,
        }
    }

    /// Acts on it, and does all that can be done now.
    pub(super) fn act(&mut self, event: Event, routes: &Routes<'_>) {
        match event {
            Event::Tick => self.sweep(),
            Event::Wrote(wrote) => self.wrote(wrote),
            Event::Read(read) => {
                if let Some(shard) = self.shards.get_mut(&read.shard) {
                    shard.took(read, &self.desk);
                }
            }
            Event::Claimed(ranges) => ranges.into_iter().for_each(|range| self.claimed(range)),
        }
        self.pump(routes);
    }

    fn pump(&mut self, routes: &Routes<'_>) {
        let desk = &mut self.desk;
        desk.standing.clear();
        for range in self.shards.values().flat_map(Shard::standing) {
            *desk.standing.entry(range.item.subscription.clone()).or_default() += 1;
        }
        self.shards.retain(|_, shard| {
            if shard.is_lost() {
                shard.release(desk);
                return false;
            }
            shard.pump(routes, desk);
            !shard.is_done()
        });
        self.measure(routes);
    }

    fn measure(&mut self, routes: &Routes<'_>) {
        let (now, now_ms) = (Instant::now(), self.desk.now_ms());
        // What is owed to a subscription that is switched off is nobody's alarm.
        let counts =
            |range: &&state::Range| !routes.lanes.disabled.contains_key(&range.item.subscription);
        let ranges = || self.shards.values().flat_map(Shard::standing).filter(counts);
        let (open, spilling) = (ranges().count(), ranges().filter(|r| r.spill.active).count());
        let left = |range: &state::Range| range.begins().1.saturating_sub(now_ms);
        let of_shard = |shard: &Shard| {
            let kept_ms = i64::try_from(shard.retention.as_millis()).unwrap_or(i64::MAX);
            shard.standing().filter(counts).map(left).min().map(|left| left.saturating_add(kept_ms))
        };
        let left_ms = self.shards.values().filter_map(of_shard).min();
        let figures = &self.desk.parts.figures;
        figures.open.store(open, Ordering::Relaxed);
        figures.spilling.store(spilling, Ordering::Relaxed);
        figures.left_ms.store(left_ms.unwrap_or(i64::MAX), Ordering::Relaxed);
        metrics::ranges(open, left_ms);
        let busy = self.shards.values().any(Shard::is_busy);
        let tick = if busy { TICKS[0] } else { TICKS[if open > 0 { 1 } else { 2 }] };
        self.tick_at = now + tick;
    }

    /// Parking that follows, for the ledger.
    pub(super) fn take_jobs(&mut self) -> impl Iterator<Item = Job> + '_ {
        self.desk.jobs.drain(..)
    }

    /// This worker has taken a shard over: what stands open of it is read before anything of it is routed.
    pub(super) fn adopt(&mut self, adopted: Adopted) {
        let Adopted { shard, lease, position } = adopted;
        let held = self.hold(&shard, &lease);
        if let Some(held) = held {
            held.passed_position(&position);
        }
        self.tick_at = Instant::now();
    }

    /// The shard, under this lease; `None` if it is held under a later one.
    fn hold(&mut self, context: &Arc<ShardContext>, lease: &LeaseCheck) -> Option<&mut Shard> {
        let key = (Arc::clone(&context.stream_arn), Arc::clone(&context.shard_id));
        if let Some(known) = self.shards.get_mut(&key) {
            if known.has_lease && known.context.fence > context.fence {
                return None;
            }
            if !known.has_lease || known.context.fence < context.fence {
                known.release(&mut self.desk);
                self.shards.remove(&key);
            }
        }
        let (tenures, desk) = (&mut self.tenures, &self.desk);
        Some(self.shards.entry(key.clone()).or_insert_with(|| {
            *tenures += 1;
            let retention = desk.parts.logs.retention(&key.0);
            Shard::leased(key, Arc::clone(context), lease.clone(), retention, *tenures)
        }))
    }

    /// Gives the batch back if its shard's ranges are known, else keeps it until they are.
    pub(super) fn admit(&mut self, batch: LaneBatch) -> Option<LaneBatch> {
        let context = Arc::clone(&batch.batch.shard);
        let lease = batch.lease.clone();
        let shard = self.hold(&context, &lease)?;
        shard.begins_with(&batch);
        if shard.is_ready() {
            return Some(batch);
        }
        shard.waiting.push_back(batch);
        self.may_wait = true;
        self.tick_at = Instant::now();
        None
    }

    /// Batches that wait for their shard's ranges.
    pub(super) fn waiting(&self) -> usize {
        if !self.may_wait {
            return 0;
        }
        self.shards.values().map(|shard| shard.waiting.len()).sum()
    }

    /// A batch that waited, and need not any more.
    pub(super) fn pop_ready(&mut self) -> Option<LaneBatch> {
        let ready = |shard: &&mut Shard| shard.is_loaded() && !shard.waiting.is_empty();
        let batch = self.shards.values_mut().find(ready)?.waiting.pop_front();
        self.may_wait = self.waiting() > 0;
        batch
    }

    /// There is one.
    pub(super) fn has_ready(&self) -> bool {
        let ready = |shard: &Shard| shard.is_loaded() && !shard.waiting.is_empty();
        self.may_wait && self.shards.values().any(ready)
    }

    /// Where the messages of this batch go. `None` if its shard was let go of: then nobody counts what is settled.
    pub(super) fn routing(&mut self, track: &Track) -> Option<Routing<'_>> {
        let context = &track.batch().shard;
        let key = (Arc::clone(&context.stream_arn), Arc::clone(&context.shard_id));
        let shard = self.shards.get_mut(&key)?;
        Some(Routing { shard, desk: &mut self.desk, tick_at: &mut self.tick_at })
    }

    /// What a lane had and its destination does not take now is its range's. One whose shard is let go of comes back: to be parked,
    /// unless it is another worker's.
    pub(super) fn take_back(&mut self, returned: Returned) -> Result<(), Returned> {
        let context = returned.live.shard();
        let key = (Arc::clone(&context.stream_arn), Arc::clone(&context.shard_id));
        let same = |held: &&mut Shard| held.is_loaded() && held.context.fence == context.fence;
        match self.shards.get_mut(&key).filter(same) {
            Some(shard) if shard.has_lease => {
                shard.take_back(returned, &mut self.desk);
                self.tick_at = Instant::now();
                Ok(())
            }
            _ => Err(returned),
        }
    }

    fn wrote(&mut self, wrote: Wrote) {
        let now = Instant::now();
        match &wrote.outcome {
            Outcome::Unknown(why) => self.desk.parts.figures.ailment.failed(why, now),
            _ => self.desk.parts.figures.ailment.recovered(now),
        }
        let shard = self.shards.get_mut(&wrote.shard).filter(|held| held.tenure == wrote.tenure);
        if let Some(shard) = shard {
            shard.wrote(wrote.subscription, wrote.outcome, &mut self.desk);
        }
    }

    /// Looks for ranges that nobody holds, a bucket at a time.
    fn sweep(&mut self) {
        let now = Instant::now();
        if now < self.sweep_at || self.desk.is_closed() {
            return;
        }
        self.sweep_at = now + self.desk.parts.policy.sweep;
        self.bucket = (self.bucket + 1) % RANGE_BUCKETS;
        let leased = self.shards.values().filter(|shard| shard.has_lease);
        let mine: BTreeMap<ShardKey, u64> =
            leased.map(|shard| (shard.key.clone(), shard.context.fence)).collect();
        let (now_ms, claim, bucket) = (self.desk.now_ms(), self.desk.token(), self.bucket);
        let (store, claim_ms) = (self.desk.parts.deliveries.clone(), self.desk.claim_ms());
        let grace_ms = self.desk.grace_ms();
        self.desk.under_way.push(Box::pin(async move {
            let until_ms = now_ms.saturating_add(claim_ms);
            let look = writes::Look { bucket, now_ms, claim, until_ms, grace_ms };
            Event::Claimed(writes::claim_adrift(store, look, &mine).await)
        }));
    }

    /// A range that nobody held is this worker's now, with its shard's lease or without.
    fn claimed(&mut self, item: OpenRange) {
        let key = (Arc::clone(&item.stream_arn), Arc::clone(&item.shard_id));
        let (tenures, desk) = (&mut self.tenures, &self.desk);
        let shard = self.shards.entry(key.clone()).or_insert_with(|| {
            *tenures += 1;
            let retention = desk.parts.logs.retention(&key.0);
            Shard::adrift(key, &item, retention, &desk.parts.time, *tenures)
        });
        shard.stands(item);
    }

    /// Gives every range back, with how far it got. Ends when that is written, or cannot be.
    pub(super) async fn finish(mut self) {
        let desk = &mut self.desk;
        desk.under_way.clear();
        self.shards.values_mut().for_each(|shard| shard.release(desk));
        while desk.under_way.next().await.is_some() {}
    }
}
