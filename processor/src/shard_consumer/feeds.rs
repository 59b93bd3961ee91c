//! Feeding both lanes: what is read goes to those it was read for, a lane without room is detached, and one that has room
//! again catches up. Decides with [`crate::lane::feed::plan`], and never waits.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::course::Course;
use super::track::{CatchUp, Feed, Track};
use super::{ShardConsumer, loss};
use crate::batch::{Batch, RawBatch};
use crate::clock::wall_ms;
use crate::decode;
use crate::lane::NoRoom;
use crate::lane::feed::{Move, plan};
use crate::lane::seam::Seam;
use crate::metrics;
use crate::reader::{ReadError, StartingAt};

/// A lane that had no room is not fed again before that.
const DETACHED_PAUSE: Duration = Duration::from_secs(1);
/// A lane whose own reader failed is not fed again before that.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(5);
/// A lane that is at most so far behind fixes its seam: what waits behind the gate meanwhile has to find room.
const SEAM_WITHIN_MS: u64 = 1_000;

impl ShardConsumer {
    /// An event of the live reader: for the lanes at the tip, and for the gates.
    pub(super) fn take_live(&mut self, course: &mut Course, raw: RawBatch) {
        let batch = Arc::new(self.decode(course, raw));
        let stats = &self.registered.stats;
        let (now_ms, behind_ms) = (wall_ms(&self.time), batch.millis_behind_latest);
        stats.read(batch.entries.len(), behind_ms, now_ms);
        course.live_until_ms = now_ms.saturating_sub_unsigned(behind_ms);
        course.live_at = batch.upto.clone().or(course.live_at.take());
        if batch.shard_ended {
            course.live_ended = true;
            stats.shard_ended();
        }
        for index in 0..self.tracks.len() {
            let track = &mut self.tracks[index];
            // The other lane came late, and the shard is read again for it alone.
            if track.lane.has_all() {
                continue;
            }
            let taken = match &mut track.feed {
                Feed::Live => self.offer(course, index, &batch),
                Feed::CatchingUp(catch_up) => {
                    let held = catch_up.seam.as_mut().map(|seam| seam.hold(&track.lane, &batch));
                    if held == Some(Err(NoRoom)) {
                        catch_up.seam = None;
                        metrics::seam_given_up(index);
                    }
                    continue;
                }
                Feed::Closed | Feed::Detached { .. } => continue,
            };
            if taken.is_err() {
                self.detach(index, "no-room");
            }
        }
    }

    /// An event of a lane's own reader.
    pub(super) fn take_behind(
        &mut self,
        course: &mut Course,
        index: usize,
        event: Result<RawBatch, ReadError>,
    ) {
        let raw = match event {
            Ok(raw) => raw,
            Err(error) => {
                let (shard, lane) = (&self.shard.shard_id, self.tracks[index].lane.name());
                tracing::warn!(%shard, %lane, %error, "a lane cannot catch up now; it is tried again");
                return self.tracks[index].detach(Instant::now() + UNREADABLE_PAUSE);
            }
        };
        let mut batch = self.decode(course, raw);
        metrics::caught_up(index, batch.entries.len());
        let Feed::CatchingUp(catch_up) = &mut self.tracks[index].feed else { return };
        let asked_after = catch_up.reader.is_polling();
        let met = catch_up.seam.as_ref().is_some_and(|seam| seam.cut(&mut batch, asked_after));
        let near = batch.millis_behind_latest <= SEAM_WITHIN_MS;
        let batch = Arc::new(batch);
        if self.offer(course, index, &batch).is_err() {
            return self.detach(index, "no-room");
        }
        let track = &mut self.tracks[index];
        let Feed::CatchingUp(catch_up) = &mut track.feed else { return };
        if met && let Some(seam) = catch_up.seam.take() {
            track.feed = Feed::Live;
            seam.open(&mut track.lane, &course.terms);
            // What it read beyond the seam was cut off.
            track.unread_since_ms = course.live_until_ms;
            tell(&self.shard.shard_id, track, "a lane caught up");
            metrics::lane_attached(index, "seam");
        } else if near && catch_up.seam.is_none() && !course.live_ended {
            catch_up.seam = course.live_at.clone().map(Seam::new);
        }
    }

    fn decode(&self, course: &mut Course, raw: RawBatch) -> Batch {
        let wire_bytes = raw.wire_bytes;
        let batch = decode::decode(raw, &self.integrations, &self.decode);
        metrics::batch_read(batch.entries.len());
        course.read(&batch, wire_bytes);
        batch
    }

    /// Gives a lane what was read for it, and before that, what was lost for it.
    fn offer(
        &mut self,
        course: &mut Course,
        index: usize,
        batch: &Arc<Batch>,
    ) -> Result<(), NoRoom> {
        let now_ms = wall_ms(&self.time);
        let track = &mut self.tracks[index];
        let permit = track.lane.permit_for(batch).inspect_err(|NoRoom| track.refused(batch));
        let permit = permit?;
        if let Some(lost) = loss::of(track, batch, now_ms, self.readers.retention()) {
            let (shard, lane) = (&self.shard.shard_id, track.lane.name());
            tracing::error!(%shard, %lane, %lost, "records passed the stream's retention before this lane read them: what is lost is written to the dead letters");
            metrics::lost(index);
            let record = Arc::new(lost.record(&self.shard, index, &self.integrations));
            let keeper = Arc::clone(&self.keeper);
            track.lane.take_loss(&record, lost.since_ms(), keeper, &course.terms);
        }
        track.lane.take(batch, permit, &course.terms);
        let behind_ms = i64::try_from(batch.millis_behind_latest).unwrap_or(i64::MAX);
        track.unread_since_ms = now_ms.saturating_sub(behind_ms);
        if batch.entries.is_empty() && behind_ms == 0 {
            course.schedule.moved_idle();
        }
        Ok(())
    }

    pub(super) fn detach(&mut self, index: usize, why: &'static str) {
        let track = &mut self.tracks[index];
        track.detach(Instant::now() + DETACHED_PAUSE);
        metrics::lane_detached(index, why);
        let (shard, lane, end) = (&self.shard.shard_id, track.lane.name(), track.lane.end());
        // One line for each would be a flood just when it is hard to read: the processor sums them up.
        tracing::debug!(%shard, %lane, why, %end, "a lane has no room: it is detached, and catches up when it has");
    }

    /// Hands on what waits, detaches who is stuck, and feeds who has room again.
    pub(super) fn tend(&mut self, course: &mut Course) {
        let now = Instant::now();
        for index in 0..self.tracks.len() {
            let track = &mut self.tracks[index];
            track.lane.pump();
            let fed = matches!(track.feed, Feed::Live | Feed::CatchingUp(_));
            if track.lane.is_stuck(now, self.options.detach_after) && fed {
                self.detach(index, "stuck");
            }
        }
        if course.leaving.is_none() && self.check.is_valid() {
            self.feed(course, now);
        }
        if course.live_on && !self.tracks.iter().any(Track::is_at_the_tip) {
            self.live.cancel();
            course.live_on = false;
        }
        let needs_a_look = !self.check.is_valid() || self.tracks.iter().any(Track::needs_a_look);
        course.look.plan(needs_a_look, now);
    }

    fn feed(&mut self, course: &mut Course, now: Instant) {
        let live_at = course.live_at.as_ref().filter(|_| course.live_on);
        let [one, two] = &self.tracks;
        let moves = plan([one.view(now), two.view(now)], live_at);
        let start_at_ms = self.lease.lease().start_at_ms;
        if moves.contains(&Move::Lead) {
            self.lead(course, moves);
        }
        for (index, next) in moves.into_iter().enumerate() {
            let track = &mut self.tracks[index];
            match next {
                Move::Stay => continue,
                Move::Join | Move::Lead => {
                    track.lane.rejoin();
                    track.feed = Feed::Live;
                    metrics::lane_attached(index, "tip");
                }
                Move::CatchUp => {
                    track.lane.rejoin();
                    let start = StartingAt::new(track.lane.end().clone(), start_at_ms);
                    let reader = self.readers.catch_up(start);
                    track.feed = Feed::CatchingUp(Box::new(CatchUp { reader, seam: None }));
                }
            }
            tell(&self.shard.shard_id, &self.tracks[index], "a lane is fed again");
        }
    }

    /// Starts the live reader anew, where the lane that is furthest behind of those that lead ended.
    fn lead(&mut self, course: &mut Course, moves: [Move; 2]) {
        let leading = self.tracks.iter().zip(moves).filter(|(_, next)| *next == Move::Lead);
        let starts = leading.map(|(track, _)| (track.lane.end(), track.unread_since_ms));
        let Some((end, unread_since_ms)) = starts.min() else { return };
        let end = end.clone();
        let start_at_ms = self.lease.lease().start_at_ms;
        self.live.restart(StartingAt::new(end, start_at_ms));
        self.registered.stats.restarted(unread_since_ms, wall_ms(&self.time));
        (course.live_on, course.live_at, course.live_ended) = (true, None, false);
    }
}

fn tell(shard: &str, track: &Track, what: &str) {
    let (lane, fed, end) = (track.lane.name(), track.fed().name(), track.lane.end());
    tracing::debug!(shard, %lane, fed, %end, "{what}");
}
