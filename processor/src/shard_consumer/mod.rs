//! One owned lease, one task: read the shard, feed both lanes, move the checkpoint.
//!
//! The loop waits for one thing at a time and then acts on it; the order of the arms in [`ShardConsumer::wait`] is the policy:
//! stop, then progress, then intake. Nothing in an action waits: a write of the lease is a held future with an arm of its own,
//! and a lane that has no room for what was read is detached. Who feeds which lane is in `feeds`. It never decides who owns the
//! shard.

mod bounds;
mod course;
mod feeds;
mod loss;
mod schedule;
#[cfg(test)]
mod tests;
mod track;

use std::sync::Arc;
use std::time::Duration;

use aws_smithy_async::time::SharedTimeSource;
use lease_manager::{Checkpoint, CheckpointError, LanePosition, LeaseHandle, Progress};
use tokio::time::Instant;

use crate::batch::{LeaseCheck, RawBatch, ShardContext};
use crate::clock::wall_ms;
use crate::decode::DecodeOptions;
use crate::integration::Integrations;
use crate::lane::{AckDropped, Sink};
use crate::metrics;
use crate::reader::{ReadError, Reader, ShardReaders};
use crate::service::ASYNC_DELIVERY;
use crate::status::{LaneFigures, Registered};
use crate::turns::Turns;

use course::{Course, End, Ending, LanesAre, Leaving, Write, WriteKind};
pub(crate) use track::Track;

/// How long a shard that is refused to this worker is kept before it is given up: nobody should spin.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(5);

/// How a shard is read and when its progress is written.
#[derive(Debug, Clone)]
pub struct ShardConsumerOptions {
    /// A position that moved over records is written this long after the last write.
    pub checkpoint_interval: Duration,
    /// A position that moved over empty events only is written this long after the last write.
    pub idle_checkpoint_interval: Duration,
    /// ... or as soon as this many bytes would be read again after a crash.
    pub replay_bytes: usize,
    /// Writes of progress in a second, over all shards of the process: who is due first writes first. A shard's end and a
    /// hand-over do not wait.
    pub writes_per_second: u32,
    /// A lane that is full for this long without moving on is detached: it no longer holds its queue, the other lane goes on,
    /// and it catches up when it has room. A subscription that was not read for this long, because the lease cannot be
    /// trusted, is given up: unread, its bytes would hold the connection's flow-control window and freeze other shards.
    pub detach_after: Duration,
    /// What is under way when the lease is to be given up may take this long to settle; never longer
    /// than the lease manager waits for a move.
    pub drain_deadline: Duration,
}

impl Default for ShardConsumerOptions {
    fn default() -> Self {
        ShardConsumerOptions {
            checkpoint_interval: Duration::from_secs(10),
            idle_checkpoint_interval: Duration::from_secs(60),
            replay_bytes: 8 * 1024 * 1024,
            writes_per_second: 100,
            detach_after: Duration::from_secs(2),
            drain_deadline: Duration::from_secs(5),
        }
    }
}

/// Why a shard consumer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Both lanes settled the shard's last record, and the lease says so.
    ShardEnd,
    /// Another worker owns the lease.
    LeaseLost,
    /// The lease was given up as asked.
    Released,
    /// Something broke; the lease was released, and what was not settled will be read again.
    Failed(String),
}

/// The sinks let go of the shard's work however its consumer ends, a panic included.
struct LostAtTheEnd(LeaseCheck);

impl Drop for LostAtTheEnd {
    fn drop(&mut self) {
        self.0.mark_lost();
    }
}

/// Reads one shard on behalf of one lease.
pub(crate) struct ShardConsumer {
    pub(crate) lease: LeaseHandle,
    pub(crate) check: LeaseCheck,
    pub(crate) shard: Arc<ShardContext>,
    /// Reads for the lanes at the tip.
    pub(crate) live: Reader,
    /// Makes readers for the lanes that catch up.
    pub(crate) readers: ShardReaders,
    pub(crate) integrations: Arc<Integrations>,
    pub(crate) decode: DecodeOptions,
    pub(crate) tracks: [Track; 2],
    /// Keeps the records of what was lost.
    pub(crate) keeper: Arc<dyn Sink>,
    /// Who of the process's shards writes its progress next.
    pub(crate) turns: Turns,
    pub(crate) options: ShardConsumerOptions,
    pub(crate) time: SharedTimeSource,
    pub(crate) registered: Registered,
}

enum Step {
    Lost,
    Release,
    LeaveDue,
    Settled,
    Written(WriteKind, Result<(), CheckpointError>),
    WriteDue,
    LaneOpens,
    Look,
    Untrusted,
    Behind(usize, Result<RawBatch, ReadError>),
    Live(Result<RawBatch, ReadError>),
}

impl ShardConsumer {
    /// Runs until the shard ends, the lease is lost, or it is asked to give the lease up.
    pub(crate) async fn run(mut self) -> Exit {
        let _lost = LostAtTheEnd(self.check.clone());
        let read_to = self.lease.lease().read_to.clone();
        let mut course = Course::new(Instant::now(), self.check.clone(), read_to);
        if self.tracks.iter().all(|track| track.lane.ended()) {
            course.end = End::Recorded;
        }
        self.open_lanes(&mut course);
        self.tend(&mut course);
        let mut ending = course.plan_ending(self.lanes_are());
        let ending = loop {
            if let Some(ending) = ending {
                break ending;
            }
            let step = self.wait(&mut course).await;
            ending = self.act(&mut course, step);
            self.publish();
        };
        self.check.mark_lost();
        self.live.cancel();
        for track in &mut self.tracks {
            track.stop();
            // What was settled meanwhile counts; what was dropped does not move a position.
            let _ = track.lane.advance();
        }
        let exit = self.end(course, ending).await;
        metrics::shard_left(exit.name());
        exit
    }

    async fn wait(&mut self, course: &mut Course) -> Step {
        let distrusted = course.untrusted.look(self.check.is_valid(), Instant::now());
        let reading = distrusted.is_none() && course.leaving.is_none();
        let cancel_at = course.untrusted.due(self.options.detach_after);
        let write_at = course.may_write().then(|| course.schedule.due(&self.options)).flatten();
        let leave_at = course.leaving.as_ref().map(|leaving| leaving.at);
        let (look_at, open) = (course.look.at(), course.open_lanes);
        let Course { terms, write, live_on, .. } = course;
        let ShardConsumer { lease, live, tracks: [one, two], .. } = self;
        tokio::select! {
            biased;
            () = lease.lost() => Step::Lost,
            () = lease.release_requested(), if leave_at.is_none() => Step::Release,
            () = sleep_until(leave_at), if leave_at.is_some() => Step::LeaveDue,
            () = terms.progress.notified() => Step::Settled,
            (kind, result) = written(write), if write.is_some() => Step::Written(kind, result),
            () = sleep_until(write_at), if write_at.is_some() => Step::WriteDue,
            () = lease.lane_opens(open), if open < 2 && reading => Step::LaneOpens,
            () = sleep_until(look_at), if look_at.is_some() => Step::Look,
            () = sleep_until(cancel_at), if cancel_at.is_some() => Step::Untrusted,
            // Paced by the budget of their shard: they cannot keep the live reader from its turn.
            event = one.catch_up(), if reading => Step::Behind(0, event),
            event = two.catch_up(), if reading => Step::Behind(1, event),
            event = live.next(), if reading && *live_on => Step::Live(event),
        }
    }

    /// Acts on one step. `Some` ends the consumer.
    fn act(&mut self, course: &mut Course, step: Step) -> Option<Ending> {
        match step {
            Step::Lost => return Some(Ending::Lost),
            Step::Release => self.drain(course),
            Step::LeaveDue => return course.leaving.take().map(|leaving| leaving.ending),
            Step::Settled | Step::Look => {}
            Step::Written(kind, result) => {
                course.write = None;
                if let Some(ending) = self.written(course, kind, result) {
                    return Some(ending);
                }
            }
            Step::WriteDue => {
                if course.schedule.may_start(&self.turns, Instant::now()) {
                    self.start_write(course);
                }
            }
            Step::LaneOpens => self.open_lanes(course),
            Step::Untrusted => self.distrust(course),
            Step::Behind(lane, event) => self.take_behind(course, lane, event),
            Step::Live(Ok(raw)) => self.take_live(course, raw),
            Step::Live(Err(error)) => self.cannot_read(course, &error),
        }
        if let Err(dropped) = self.advance(course) {
            return Some(Ending::Fail(dropped.to_string()));
        }
        self.tend(course);
        course.plan_ending(self.lanes_are())
    }

    fn lanes_are(&self) -> LanesAre {
        LanesAre {
            ended: self.tracks.iter().all(|track| track.lane.ended()),
            idle: self.tracks.iter().all(|track| track.lane.is_idle()),
        }
    }

    /// Lanes whose like ended in all parents may read.
    fn open_lanes(&mut self, course: &mut Course) {
        let open = self.lease.open_lanes();
        course.open_lanes = open.len();
        for track in &mut self.tracks {
            if open.contains(track.lane.name()) && track.open(Instant::now()) {
                track.lane.sink().open(&self.shard, &self.check);
            }
        }
    }

    /// The lease cannot be trusted for a while now: whoever can use the connection shall have it.
    fn distrust(&mut self, course: &mut Course) {
        tracing::info!(shard = %self.shard.shard_id, "the lease cannot be trusted: nothing is read until it can");
        self.live.cancel();
        for track in &mut self.tracks {
            track.cancel_reading();
        }
        course.untrusted.told();
    }

    /// Stops reading, and gives the lease up when what the sinks hold is settled.
    fn drain(&mut self, course: &mut Course) {
        for track in &mut self.tracks {
            track.stop();
        }
        // Past the manager's deadline it gives the lease up itself, at an older checkpoint.
        let most = self.lease.handoff_deadline().mul_f64(0.8);
        self.leave(course, self.options.drain_deadline.min(most), Ending::Release);
    }

    /// Stops reading; the lease is given up after `within` at the latest.
    fn leave(&mut self, course: &mut Course, within: Duration, ending: Ending) {
        self.live.cancel();
        course.leaving = Some(Leaving { at: Instant::now() + within, ending });
    }

    /// The shard is given up where another worker may do better. Where none can, it is tried again from here.
    fn cannot_read(&mut self, course: &mut Course, error: &ReadError) {
        self.registered.stats.cannot_read();
        let pause = match error {
            // What is not there is there for nobody. If it is the shard that is gone, the audit of the stream finds out.
            ReadError::NotFound { .. } => None,
            ReadError::BehindShardEnd => Some(Duration::ZERO),
            ReadError::Inactive { .. } => self.lease.peer_is_no_worse().then_some(Duration::ZERO),
            ReadError::Refused { .. } => self.lease.peer_is_no_worse().then_some(UNREADABLE_PAUSE),
        };
        match pause {
            Some(pause) => self.leave(course, pause, Ending::Fail(error.to_string())),
            None => {
                let shard = &self.shard.shard_id;
                tracing::error!(%shard, %error, "the shard cannot be read, and no other worker could: it is tried again");
            }
        }
    }

    /// Moves the positions over what is settled.
    fn advance(&mut self, course: &mut Course) -> Result<(), AckDropped> {
        for track in &mut self.tracks {
            let had_ended = track.lane.ended();
            course.schedule.moved(track.lane.advance()?);
            if track.lane.ended() && !had_ended {
                track.lane.sink().close(&self.shard);
            }
        }
        Ok(())
    }

    fn start_write(&mut self, course: &mut Course) {
        let (kind, future) = match &course.end {
            End::Seen(children) => {
                (WriteKind::ReaderEnded, self.lease.reader_ended(children.clone()))
            }
            End::Open | End::Recorded => {
                (WriteKind::Checkpoint, self.lease.checkpoint(self.progress(course)))
            }
        };
        if kind == WriteKind::Checkpoint {
            course.schedule.started(Instant::now());
        }
        course.write = Some(Write { kind, future });
    }

    fn written(
        &mut self,
        course: &mut Course,
        kind: WriteKind,
        result: Result<(), CheckpointError>,
    ) -> Option<Ending> {
        match result {
            Ok(()) => {
                metrics::checkpoint("ok");
                if kind == WriteKind::ReaderEnded {
                    course.end = End::Recorded;
                    course.read_to = Some(Checkpoint::ShardEnd);
                }
                None
            }
            Err(CheckpointError::Lost) => {
                metrics::checkpoint("lost");
                Some(Ending::Lost)
            }
            Err(error) => {
                metrics::checkpoint("unknown");
                tracing::warn!(shard = %self.shard.shard_id, %error, "the lease could not be written; it is tried again");
                course.schedule.failed(Instant::now());
                None
            }
        }
    }

    /// Both lanes' positions, as one conditional write takes them.
    fn progress(&self, course: &mut Course) -> Progress {
        let now_ms = wall_ms(&self.time);
        self.publish();
        let lanes = self.tracks.iter().enumerate().map(|(index, track)| {
            let checkpoint = match track.lane.ended() && course.end == End::Recorded {
                true => Checkpoint::ShardEnd,
                false => track.lane.position().clone(),
            };
            if index == ASYNC_DELIVERY {
                self.registered.settled(&checkpoint, now_ms);
            }
            let behind_ms = self.registered.stats.behind_ms(index, now_ms);
            let unsettled_since_ms = Some(track.unsettled_since_ms(now_ms));
            let position = LanePosition { checkpoint, behind_ms, unsettled_since_ms };
            (track.lane.name().clone(), position)
        });
        Progress {
            lanes: lanes.collect(),
            read_to: course.read_to.clone(),
            throughput_kbps: course.load.kbps(Instant::now()),
        }
    }

    fn publish(&self) {
        for (index, track) in self.tracks.iter().enumerate() {
            let (lane, fed) = (&track.lane, track.fed());
            let stats = LaneFigures {
                fed,
                oldest_unsettled_ms: lane.oldest_unsettled_ms(),
                unread_since_ms: track.unread_since_ms,
                in_flight_bytes: lane.in_flight_bytes(),
            };
            self.registered.stats.lane(index, stats);
        }
    }
}

impl Exit {
    fn name(&self) -> &'static str {
        match self {
            Exit::ShardEnd => "shard-end",
            Exit::LeaseLost => "lease-lost",
            Exit::Released => "released",
            Exit::Failed(_) => "failed",
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn written(write: &mut Option<Write>) -> (WriteKind, Result<(), CheckpointError>) {
    match write {
        Some(write) => (write.kind, (&mut write.future).await),
        None => std::future::pending().await,
    }
}
