//! One owned lease, one task: read the shard, feed both lanes, move the checkpoint.
//!
//! The loop waits for one thing at a time and then acts on it; the order of the arms in
//! [`ShardConsumer::wait`] is the policy: stop, then progress, then intake. Nothing in an action
//! waits: a write of the lease is a held future with an arm of its own, and a batch that a lane has
//! no room for stays in that lane while reading stops. It never decides who owns the shard.

mod bounds;
mod course;
mod schedule;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use aws_smithy_async::time::SharedTimeSource;
use lease_manager::{Checkpoint, CheckpointError, LanePosition, LeaseHandle, Progress};
use tokio::time::Instant;

use crate::batch::{LeaseCheck, RawBatch, ShardContext};
use crate::clock::wall_ms;
use crate::decode::{self, DecodeOptions};
use crate::fan_out::{FanOut, FanOutError};
use crate::integration::Integrations;
use crate::lane::{AckDropped, Lane};
use crate::metrics;
use crate::status::Registered;

use course::{Course, End, Ending, LanesAre, Leaving, Write, WriteKind};

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
    /// A subscription is given up when nothing could be read for this long, because a lane has no
    /// room or the lease cannot be trusted: unread, its bytes would hold the connection's
    /// flow-control window and freeze other shards.
    pub cancel_after: Duration,
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
            cancel_after: Duration::from_secs(2),
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
    pub(crate) fan_out: FanOut,
    pub(crate) integrations: Arc<Integrations>,
    pub(crate) decode: DecodeOptions,
    pub(crate) lanes: [Lane; 2],
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
    Pump,
    Event(Result<RawBatch, FanOutError>),
}

impl ShardConsumer {
    /// Runs until the shard ends, the lease is lost, or it is asked to give the lease up.
    pub(crate) async fn run(mut self) -> Exit {
        let _lost = LostAtTheEnd(self.check.clone());
        let too_soon = bounds::wait_for_parents(&self.lease).await;
        let mut course = Course::new(Instant::now(), self.lease.lease().read_to.clone());
        if self.lanes.iter().all(Lane::ended) {
            course.end = End::Recorded;
        }
        let mut ending = too_soon.or_else(|| course.plan_ending(self.lanes_are()));
        let ending = loop {
            if let Some(ending) = ending {
                break ending;
            }
            let step = self.wait(&mut course).await;
            ending = self.act(&mut course, step);
            self.publish();
        };
        self.check.mark_lost();
        self.fan_out.cancel();
        for lane in &mut self.lanes {
            // What was settled meanwhile counts; what was dropped does not move a position.
            let _ = lane.advance();
        }
        let exit = self.end(course, ending).await;
        metrics::shard_left(exit.name());
        exit
    }

    async fn wait(&mut self, course: &mut Course) -> Step {
        let can_take = self.can_take();
        if !can_take {
            course.pace.stopped(Instant::now());
        }
        let intake = can_take && course.leaving.is_none() && course.end == End::Open;
        let pump_at = course.pace.pump_at();
        let write_at = course.may_write().then(|| course.schedule.due(&self.options)).flatten();
        let leave_at = course.leaving.as_ref().map(|leaving| leaving.at);
        let Course { progress, write, .. } = course;
        tokio::select! {
            biased;
            () = self.lease.lost() => Step::Lost,
            () = self.lease.release_requested(), if leave_at.is_none() => Step::Release,
            () = sleep_until(leave_at), if leave_at.is_some() => Step::LeaveDue,
            () = progress.notified() => Step::Settled,
            (kind, result) = written(write), if write.is_some() => Step::Written(kind, result),
            () = sleep_until(write_at), if write_at.is_some() => Step::WriteDue,
            () = sleep_until(pump_at), if pump_at.is_some() => Step::Pump,
            event = self.fan_out.next(), if intake => Step::Event(event),
        }
    }

    /// Acts on one step. `Some` ends the consumer.
    fn act(&mut self, course: &mut Course, step: Step) -> Option<Ending> {
        match step {
            Step::Lost => return Some(Ending::Lost),
            Step::Release => self.drain(course),
            Step::LeaveDue => return course.leaving.take().map(|leaving| leaving.ending),
            Step::Settled => {
                if let Err(dropped) = self.advance(course) {
                    return Some(Ending::Fail(dropped.to_string()));
                }
            }
            Step::Written(kind, result) => {
                course.write = None;
                if let Some(ending) = self.written(course, kind, result) {
                    return Some(ending);
                }
            }
            Step::WriteDue => self.start_write(course),
            Step::Pump => self.pump(course),
            Step::Event(Ok(raw)) => self.take(course, raw),
            Step::Event(Err(error)) => self.cannot_read(course, &error),
        }
        course.plan_ending(self.lanes_are())
    }

    fn lanes_are(&self) -> LanesAre {
        LanesAre {
            ended: self.lanes.iter().all(Lane::ended),
            idle: self.lanes.iter().all(Lane::is_idle),
        }
    }

    /// Whether an event that is read now could be worked on.
    fn can_take(&self) -> bool {
        self.lanes.iter().all(Lane::has_room) && self.check.is_valid()
    }

    /// Stops reading, and gives the lease up when what the sinks hold is settled.
    fn drain(&mut self, course: &mut Course) {
        for lane in &mut self.lanes {
            lane.withdraw();
        }
        // Past the manager's deadline it gives the lease up itself, at an older checkpoint.
        let most = self.lease.handoff_deadline().mul_f64(0.8);
        self.leave(course, self.options.drain_deadline.min(most), Ending::Release);
    }

    /// Stops reading; the lease is given up after `within` at the latest.
    fn leave(&mut self, course: &mut Course, within: Duration, ending: Ending) {
        self.fan_out.cancel();
        course.leaving = Some(Leaving { at: Instant::now() + within, ending });
    }

    /// The shard is given up where another worker may do better. Where none can, it is tried again from here.
    fn cannot_read(&mut self, course: &mut Course, error: &FanOutError) {
        self.registered.stats.cannot_read();
        let pause = match error {
            // What is not there is there for nobody. If it is the shard that is gone, the audit of the stream finds out.
            FanOutError::NotFound { .. } => None,
            FanOutError::BehindShardEnd => Some(Duration::ZERO),
            FanOutError::Inactive { .. } => self.lease.peer_is_no_worse().then_some(Duration::ZERO),
            FanOutError::Refused { .. } => {
                self.lease.peer_is_no_worse().then_some(UNREADABLE_PAUSE)
            }
        };
        match pause {
            Some(pause) => self.leave(course, pause, Ending::Fail(error.to_string())),
            None => {
                let shard = &self.shard.shard_id;
                tracing::error!(%shard, %error, "the shard cannot be read, and no other worker could: it is tried again");
            }
        }
    }

    /// Decodes an event and hands it to both lanes.
    fn take(&mut self, course: &mut Course, raw: RawBatch) {
        let wire_bytes = raw.wire_bytes;
        let batch = Arc::new(decode::decode(raw, &self.integrations, &self.decode));
        metrics::batch_read(batch.entries.len());
        let stats = &self.registered.stats;
        stats.read(batch.entries.len(), batch.millis_behind_latest, wall_ms(&self.time));
        course.read(&batch, wire_bytes);
        for lane in &mut self.lanes {
            lane.take(&batch, &self.check, &course.progress);
        }
        if batch.shard_ended {
            self.registered.stats.shard_ended();
            course.schedule.at_once();
        }
        self.after_offers(course);
        // A batch in which nothing had to be settled is settled already, and nobody will say so.
        course.progress.notify_one();
    }

    fn pump(&mut self, course: &mut Course) {
        for lane in &mut self.lanes {
            lane.pump();
        }
        self.after_offers(course);
    }

    /// Paces the next offer while nothing can be taken, and frees the connection when it lasts.
    fn after_offers(&mut self, course: &mut Course) {
        let can_take = self.can_take();
        if course.pace.offered(can_take, Instant::now(), self.options.cancel_after) {
            let (shard, lease_is_valid) = (&self.shard.shard_id, self.check.is_valid());
            tracing::info!(%shard, lease_is_valid, "nothing could be read for a while: the subscription is given up until it can");
            self.fan_out.cancel();
        }
    }

    fn advance(&mut self, course: &mut Course) -> Result<(), AckDropped> {
        for lane in &mut self.lanes {
            let advance = lane.advance()?;
            course.schedule.moved(advance);
        }
        self.pump(course);
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
        let reader = self.registered.stats.reader_behind_ms(now_ms);
        let lanes = self.lanes.iter().map(|lane| {
            let checkpoint = match lane.ended() && course.end == End::Recorded {
                true => Checkpoint::ShardEnd,
                false => lane.position().clone(),
            };
            let behind_ms = lane
                .oldest_unsettled_ms()
                .map_or(reader, |oldest| u64::try_from(now_ms - oldest).unwrap_or(0));
            (lane.name().clone(), LanePosition { checkpoint, behind_ms })
        });
        Progress {
            lanes: lanes.collect(),
            read_to: course.read_to.clone(),
            throughput_kbps: course.load.kbps(Instant::now()),
        }
    }

    fn publish(&self) {
        for (index, lane) in self.lanes.iter().enumerate() {
            self.registered.stats.lane(index, lane.oldest_unsettled_ms(), lane.in_flight_bytes());
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
