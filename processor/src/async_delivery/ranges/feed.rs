//! Reading a shard for its ranges: one pass at a time serves all destinations that have room.
//!
//! A pass begins at the smallest place that any of them has still to be handed, and hands out only what each
//! wants and has room for. One that has no room leaves the pass when others go on, and keeps its place; when
//! none has room, the batch is held for a while. What is read is charged to the pipeline's budget.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use store::SubscriptionId;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::log::Log;
use super::shard::Shard;
use super::state::{Range, Reach};
use super::{Desk, Event, Routes, ShardKey};
use crate::async_delivery::aftermath::Aftermath;
use crate::async_delivery::delivery::{Delivery, Track};
use crate::async_delivery::lane::{LaneHandle, NO_ROOM_PAUSE};
use crate::async_delivery::metrics;
use crate::async_delivery::router::{Asked, Scratch};
use crate::batch::{Ack, Batch, Entry, LaneBatch, Place};
use crate::budget::Share;
use crate::reader::{ReadError, StartingAt};

/// A batch is held so long for destinations without room.
const HOLD: Duration = Duration::from_secs(5);
/// A pass that has gone on for so long makes way for those that lag behind it.
const LONGEST_PASS: Duration = Duration::from_secs(10);
/// After a pass that failed, or for which there was no memory.
const FAILED_PAUSE: Duration = Duration::from_secs(1);
/// A reader that is so far behind the tip is near: the gate may be closed.
const NEAR_MS: u64 = 1_000;
/// Deliveries that one look parks at most.
const MOST_PARKED: usize = 100;

/// One pass over a shard.
pub(super) struct Feed {
    pub(super) members: BTreeSet<SubscriptionId>,
    /// The last answer came from the tip.
    pub(super) near: bool,
    /// It said that there is nothing more, of a shard that goes on.
    pub(super) at_tip: bool,
    share: Share,
    /// Here while it is not reading.
    log: Option<Box<dyn Log>>,
    held: Option<Held>,
    /// Everything before was handed out or left by the members.
    at: Reach,
    /// What live routing had behind it when the question under way was asked.
    asked_at: Option<Reach>,
    number: u64,
    began: Instant,
}

/// A batch that is being handed out.
struct Held {
    track: Arc<Track>,
    since: Instant,
    end: End,
}

/// Where a batch ends.
struct End {
    reach: Option<Reach>,
    at_ms: Option<i64>,
    near: bool,
    at_tip: bool,
}

/// What a pass has read.
pub(in crate::async_delivery) struct ReadDone {
    pub(super) shard: ShardKey,
    tenure: u64,
    number: u64,
    log: Box<dyn Log>,
    read: Result<Arc<Batch>, ReadError>,
}

/// How far one member is with the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handed {
    All,
    /// There was no room for the rest.
    Some,
}

impl Shard {
    pub(super) fn pump_feed(&mut self, routes: &Routes<'_>, desk: &mut Desk, now: Instant) {
        if desk.is_closed() {
            self.feed = None;
            return;
        }
        let eligible: BTreeSet<SubscriptionId> = self
            .ranges
            .iter()
            .filter(|(id, range)| range.room(routes.lanes.active.get(id), desk) > 0)
            .map(|(id, _)| id.clone())
            .collect();
        let Some(mut feed) = self.feed.take() else { return self.begin_pass(eligible, desk, now) };
        let behind = |id: &SubscriptionId| self.ranges.get(id).is_some_and(|r| r.cursor < feed.at);
        let lagging = eligible.iter().any(behind);
        if lagging && feed.began + LONGEST_PASS < now && feed.log.is_some() {
            return;
        }
        // One to which something came back is behind the pass now.
        let keeps_up = |range: &Range| range.may_hand_out() && range.cursor >= feed.at;
        feed.members.retain(|id| self.ranges.get(id).is_some_and(keeps_up));
        let joining = eligible.into_iter().filter(|id| !behind(id));
        let joining: Vec<SubscriptionId> = joining.collect();
        feed.members.extend(joining);
        if feed.members.is_empty() {
            return;
        }
        if feed.held.is_some() && !self.hand_out(&mut feed, routes, desk, now) {
            return;
        }
        if feed.held.is_none() && !feed.members.is_empty() {
            self.ask(&mut feed, desk);
        }
        self.feed = Some(feed);
    }

    /// A pass from the smallest place that one of these has still to be handed.
    fn begin_pass(&mut self, members: BTreeSet<SubscriptionId>, desk: &mut Desk, now: Instant) {
        if now < self.feed_not_before || !self.lease.is_valid() {
            return;
        }
        let cursors = members.iter().filter_map(|id| self.ranges.get(id)).map(|r| &r.cursor);
        let Some(Reach::Before(first)) = cursors.min().cloned() else { return };
        let start = StartingAt::At(first.0.clone());
        let Some(log) = desk.parts.logs.open(&self.context, start) else {
            self.feed_not_before = now + FAILED_PAUSE;
            return;
        };
        desk.serial += 1;
        let mut feed = Feed {
            members,
            near: false,
            at_tip: false,
            share: desk.parts.budget.share(),
            log: Some(log),
            held: None,
            at: Reach::Before(first),
            asked_at: None,
            number: desk.serial,
            began: now,
        };
        self.ask(&mut feed, desk);
        self.feed = Some(feed);
    }

    fn ask(&self, feed: &mut Feed, desk: &mut Desk) {
        let Some(mut log) = feed.log.take() else { return };
        feed.asked_at.clone_from(&self.bound);
        let (shard, tenure, number) = (self.key.clone(), self.tenure, feed.number);
        desk.under_way.push(Box::pin(async move {
            let read = log.next().await;
            Event::Read(ReadDone { shard, tenure, number, log, read })
        }));
    }

    /// What was read is held until it is handed out.
    pub(super) fn took(&mut self, done: ReadDone, desk: &Desk) {
        let now = Instant::now();
        let this = |feed: &&mut Feed| feed.number == done.number && self.tenure == done.tenure;
        let Some(feed) = self.feed.as_mut().filter(this) else { return };
        let batch = match done.read {
            Ok(batch) => batch,
            Err(error) => {
                tracing::warn!(shard = %self.key.1, %error, "a shard cannot be read for its ranges now; it is tried again");
                return self.end_pass(now + FAILED_PAUSE);
            }
        };
        feed.log = Some(done.log);
        let Some(permit) = feed.share.try_charge(batch.bytes, 0) else {
            return self.end_pass(now + FAILED_PAUSE);
        };
        let end = End::of(&batch, feed.asked_at.take(), desk.now_ms());
        let (ack, _) = Ack::new(batch.entries.len(), Arc::new(Notify::new()));
        let lease = self.lease.clone();
        let batch = LaneBatch { batch, skip_to: None, ack, lease, permit: Some(permit) };
        let track = Track::new(batch, &desk.parts.integrations, &desk.parts.gauge);
        feed.held = Some(Held { track, since: now, end });
    }

    fn end_pass(&mut self, not_before: Instant) {
        self.feed = None;
        self.feed_not_before = not_before;
    }

    /// Hands the held batch out. False: the pass is over.
    fn hand_out(
        &mut self,
        feed: &mut Feed,
        routes: &Routes<'_>,
        desk: &mut Desk,
        now: Instant,
    ) -> bool {
        let Some(held) = &mut feed.held else { return true };
        let retention = self.retention;
        let mut blocked = BTreeSet::new();
        let mut moved = false;
        for id in &feed.members {
            let (Some(range), lane) = (self.ranges.get_mut(id), routes.lanes.active.get(id)) else {
                continue;
            };
            let before = range.cursor.clone();
            range.note_loss(&held.track, retention, desk.now_ms());
            match range.hand(lane, &held.track, routes, desk) {
                Handed::Some => {
                    blocked.insert(id.clone());
                }
                Handed::All => range.reached(&held.end),
            }
            moved |= range.cursor > before;
        }
        if moved {
            held.since = now;
        }
        if !blocked.is_empty() && blocked.len() == feed.members.len() {
            // One that is down has room again only for its next probe.
            let takes = |id| routes.lanes.active.get(id).is_some_and(|lane| lane.shared.admits());
            return held.since + HOLD > now && blocked.iter().any(takes);
        }
        feed.members.retain(|id| !blocked.contains(id));
        (feed.near, feed.at_tip) = (held.end.near, held.end.at_tip);
        if let Some(reach) = held.end.reach.clone() {
            feed.at = feed.at.clone().max(reach);
        }
        feed.held = None;
        true
    }
}

impl Range {
    /// How many messages may be handed out now.
    pub(super) fn room(&self, lane: Option<&Arc<LaneHandle>>, desk: &Desk) -> usize {
        if !self.may_hand_out() {
            return 0;
        }
        if self.spill.active {
            let free = MOST_PARKED.saturating_sub(desk.jobs.len());
            return if lane.is_some() { self.spill.most().min(free) } else { 0 };
        }
        let ranges = desk.standing.get(&self.item.subscription).copied().unwrap_or(1);
        lane.map_or(0, |lane| lane.replay_room(self.window.len(), ranges))
    }

    /// Hands out what of the batch is wanted, as far as there is room.
    fn hand(
        &mut self,
        lane: Option<&Arc<LaneHandle>>,
        track: &Arc<Track>,
        routes: &Routes<'_>,
        desk: &mut Desk,
    ) -> Handed {
        let Some(lane) = lane else { return Handed::Some };
        let mut room = self.room(Some(lane), desk);
        let batch = track.batch();
        let first = match &self.cursor {
            Reach::Before(cursor) => {
                batch.entries.partition_point(|e| batch.place(e) < cursor.into())
            }
            Reach::End => return Handed::All,
        };
        for (index, entry) in batch.entries.iter().enumerate().skip(first) {
            if !wants(routes, lane, batch, entry, &mut desk.scratch) {
                continue;
            }
            let place = batch.place(entry).to_place();
            if self.skips(&place) {
                continue;
            }
            self.cursor = Reach::Before(place.clone());
            self.cursor_at_ms = entry.arrived_at_ms;
            if room == 0 || !self.may_hand_out() {
                return Handed::Some;
            }
            room -= 1;
            self.hand_one(lane, track, index, &place, desk);
            self.cursor = Reach::through(&place);
        }
        Handed::All
    }

    fn hand_one(
        &mut self,
        lane: &Arc<LaneHandle>,
        track: &Arc<Track>,
        index: usize,
        place: &Place,
        desk: &mut Desk,
    ) {
        let arrived_at_ms = track.entries()[index].arrived_at_ms;
        let spills = self.spill.active;
        if spills && !self.spill.takes_room() {
            return self.spill.give_up(place, arrived_at_ms);
        }
        let gives_way = self.window.gives_way(place);
        let live = track.replayed(index, self.window.hand(place.clone(), arrived_at_ms));
        metrics::range_message();
        if !(spills || gives_way) {
            // Refused all the same, it comes back by itself.
            drop(lane.offer(live));
            return;
        }
        let mandate = lane.shared.mandate.load();
        let (subscription, now_ms) = (&mandate.subscription, desk.now_ms());
        let aftermath = Aftermath { shared: &lane.shared, subscription, now_ms };
        let why = if spills {
            "the stream was about to lose it while its destination took nothing"
        } else {
            "its destination fails for it again and again"
        };
        desk.jobs.extend(aftermath.park(Delivery::Live(live), 0, NO_ROOM_PAUSE, why.to_owned()));
    }

    /// All of a batch that ends here was handed out.
    fn reached(&mut self, end: &End) {
        let Some(reach) = end.reach.as_ref().filter(|reach| **reach > self.cursor) else { return };
        self.cursor = reach.clone();
        self.cursor_at_ms = end.at_ms.unwrap_or(self.cursor_at_ms).max(self.cursor_at_ms);
    }

    /// What lies between the cursor and the first record that is still there, once the retention has passed.
    fn note_loss(&mut self, track: &Track, retention: Duration, now_ms: i64) {
        let kept_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        let (Reach::Before(cursor), Some(first)) = (&self.cursor, track.entries().first()) else {
            return;
        };
        let place = track.batch().place(first).to_place();
        if now_ms.saturating_sub(self.cursor_at_ms) <= kept_ms || place <= *cursor {
            return;
        }
        let from = (cursor.clone(), self.cursor_at_ms);
        self.spill.lost(from, (place.clone(), first.arrived_at_ms));
        self.cursor = Reach::Before(place);
        self.cursor_at_ms = first.arrived_at_ms;
    }
}

/// The subscription wants the message, as things stand.
fn wants(
    routes: &Routes<'_>,
    lane: &Arc<LaneHandle>,
    batch: &Batch,
    entry: &Entry,
    scratch: &mut Scratch,
) -> bool {
    // What is malformed is the sync-store lane's to keep.
    let Ok(route) = batch.route(entry) else { return false };
    let mut lanes = routes.router.matches(Asked::of(batch, entry, &route), scratch);
    lanes.any(|wanted| Arc::ptr_eq(wanted, lane))
}

impl End {
    fn of(batch: &Batch, asked_at: Option<Reach>, now_ms: i64) -> End {
        let near = batch.millis_behind_latest <= NEAR_MS;
        if batch.shard_ended {
            return End { reach: Some(Reach::End), at_ms: None, near, at_tip: false };
        }
        let behind_ms = i64::try_from(batch.millis_behind_latest).unwrap_or(i64::MAX);
        let Some(last) = batch.entries.last() else {
            // An empty answer from the tip: what live routing had behind it lies behind this reader, too.
            let at_tip = batch.millis_behind_latest == 0;
            let upto = batch.upto.clone().map(|upto| Reach::Before((upto, u32::MAX)));
            let reach = upto.max(asked_at.filter(|_| at_tip));
            let at_ms = Some(now_ms.saturating_sub(behind_ms));
            return End { reach, at_ms, near, at_tip };
        };
        let place = batch.place(last).to_place();
        let through = Reach::through(&place);
        let upto = batch.upto.clone().filter(|upto| *upto > place.0);
        let reach = upto.map_or(through, |upto| Reach::Before((upto, u32::MAX)));
        let at_ms = Some(last.arrived_at_ms);
        End { reach: Some(reach), at_ms, near, at_tip: false }
    }
}
