//! What one consumer remembers between two steps, and when its lease ends. Pure.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use lease_manager::{Checkpoint, CheckpointError, ChildShard, SequenceNumber};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::schedule::{Look, Schedule, Untrusted};
use crate::batch::{Batch, LeaseCheck};
use crate::lane::Terms;

/// The load that a lease carries is averaged over windows of this length.
const LOAD_WINDOW: Duration = Duration::from_secs(10);

/// What the loop remembers beside the consumer's parts.
pub(super) struct Course {
    pub(super) terms: Terms,
    pub(super) schedule: Schedule,
    pub(super) look: Look,
    pub(super) untrusted: Untrusted,
    /// The live reader reads for somebody.
    pub(super) live_on: bool,
    /// What it has handed out; `None` while it has handed out nothing since it was started anew.
    pub(super) live_at: Option<SequenceNumber>,
    /// All that arrived until then was handed out by it, in ms since 1970; of meaning while `live_at` is known.
    pub(super) live_until_ms: i64,
    /// It handed out the shard's end.
    pub(super) live_ended: bool,
    /// Lanes that may read the shard.
    pub(super) open_lanes: usize,
    pub(super) write: Option<Write>,
    /// How far any reader was, written with each checkpoint.
    pub(super) read_to: Option<Checkpoint>,
    pub(super) end: End,
    pub(super) leaving: Option<Leaving>,
    pub(super) load: Load,
}

/// The lease is to be given up: at `at`, or as soon as nothing is under way any more.
#[derive(Debug, Clone)]
pub(super) struct Leaving {
    pub(super) at: Instant,
    pub(super) ending: Ending,
}

/// How the consumer ends its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// It is another worker's: nothing is written.
    Lost,
    /// Both lanes settled the shard's last record.
    Finish,
    /// Given up as asked.
    Release,
    /// Given up because something broke.
    Fail(String),
}

/// How far the reader is with the shard's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// There is more to read.
    Open,
    /// The reader saw the end; the leases of these children may not exist yet.
    Seen(Vec<ChildShard>),
    /// The children's leases exist, or existed, and the lease says that the reader is done.
    Recorded,
}

/// The one write of the lease that is under way.
pub(super) struct Write {
    pub(super) kind: WriteKind,
    pub(super) future: BoxFuture<'static, Result<(), CheckpointError>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteKind {
    Checkpoint,
    ReaderEnded,
}

/// What of both lanes decides about the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LanesAre {
    /// Both settled the shard's last record.
    pub(super) ended: bool,
    /// Neither holds anything.
    pub(super) idle: bool,
}

impl Course {
    /// A course that begins now, of a lease whose reader had got to `read_to`.
    pub(super) fn new(now: Instant, lease: LeaseCheck, read_to: Option<Checkpoint>) -> Course {
        Course {
            terms: Terms { lease, progress: Arc::new(Notify::new()) },
            schedule: Schedule::new(now),
            look: Look::default(),
            untrusted: Untrusted::default(),
            live_on: false,
            live_at: None,
            live_until_ms: 0,
            live_ended: false,
            open_lanes: 0,
            write: None,
            read_to,
            end: End::Open,
            leaving: None,
            load: Load::new(now),
        }
    }

    /// An event was read, by whichever reader.
    pub(super) fn read(&mut self, batch: &Batch, wire_bytes: usize) {
        self.load.bytes += wire_bytes;
        let upto = batch.upto.as_ref().map(|upto| Checkpoint::at(upto.clone()));
        self.read_to = self.read_to.take().max(upto);
        if batch.shard_ended && self.end == End::Open {
            // Finished children may be gone from the lease table: made again, they would be replayed.
            self.end = match self.read_to {
                Some(Checkpoint::ShardEnd) => End::Recorded,
                _ => End::Seen(batch.children.clone()),
            };
            self.schedule.at_once();
        }
    }

    /// One write at a time; and a lease that is to be given up is written with that, but for its end.
    pub(super) fn may_write(&self) -> bool {
        self.write.is_none() && (self.leaving.is_none() || matches!(self.end, End::Seen(_)))
    }

    /// Whether there is nothing left to do, and how the lease ends then. A write that is under way
    /// is waited for: its outcome decides as well.
    pub(super) fn plan_ending(&self, lanes: LanesAre) -> Option<Ending> {
        if self.write.is_some() {
            return None;
        }
        if self.end == End::Recorded && lanes.ended {
            return Some(Ending::Finish);
        }
        let asked = self.leaving.as_ref().is_some_and(|leaving| leaving.ending == Ending::Release);
        (asked && lanes.idle).then_some(Ending::Release)
    }
}

/// What is read of a shard in a second, averaged: two writes of a lease close to each other say
/// nothing about it.
#[derive(Debug)]
pub(super) struct Load {
    since: Instant,
    bytes: usize,
    kbps: Option<f64>,
}

impl Load {
    fn new(now: Instant) -> Load {
        Load { since: now, bytes: 0, kbps: None }
    }

    /// Kilobytes a second; `None` in the first window.
    pub(super) fn kbps(&mut self, now: Instant) -> Option<f64> {
        let passed = now - self.since;
        if passed >= LOAD_WINDOW {
            let measured = self.bytes as f64 / 1024.0 / passed.as_secs_f64();
            self.kbps = Some(self.kbps.map_or(measured, |before| (before + measured) / 2.0));
            (self.since, self.bytes) = (now, 0);
        }
        self.kbps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDED: LanesAre = LanesAre { ended: true, idle: true };
    const BUSY: LanesAre = LanesAre { ended: false, idle: false };

    fn course() -> Course {
        Course::new(Instant::now(), LeaseCheck::new(|| true), None)
    }

    #[test]
    fn a_shard_is_finished_only_when_its_end_is_recorded_and_both_lanes_ended() {
        let mut course = course();
        assert_eq!(course.plan_ending(ENDED), None, "the reader has not seen the end");
        course.end = End::Seen(Vec::new());
        assert_eq!(course.plan_ending(ENDED), None, "the children may have no leases");
        course.end = End::Recorded;
        assert_eq!(course.plan_ending(BUSY), None);
        assert_eq!(course.plan_ending(ENDED), Some(Ending::Finish));
        let future = Box::pin(std::future::pending());
        course.write = Some(Write { kind: WriteKind::Checkpoint, future });
        assert_eq!(course.plan_ending(ENDED), None, "a write is under way");
    }

    #[test]
    fn a_lease_that_is_asked_for_is_given_up_when_nothing_is_under_way() {
        let mut course = course();
        let idle = LanesAre { idle: true, ..BUSY };
        assert_eq!(course.plan_ending(idle), None);
        course.leaving = Some(Leaving { at: Instant::now(), ending: Ending::Release });
        assert_eq!(course.plan_ending(BUSY), None);
        assert_eq!(course.plan_ending(idle), Some(Ending::Release));
        let why = Ending::Fail("gone".to_owned());
        course.leaving = Some(Leaving { at: Instant::now(), ending: why });
        assert_eq!(course.plan_ending(idle), None, "a failure has its pause");
    }

    #[test]
    fn the_load_is_measured_over_windows_and_does_not_jump_at_a_write() {
        let start = Instant::now();
        let mut load = Load::new(start);
        load.bytes += 512 * 1024;
        assert_eq!(load.kbps(start + Duration::from_millis(1)), None);
        assert_eq!(load.kbps(start + LOAD_WINDOW), Some(51.2));
        assert_eq!(load.kbps(start + LOAD_WINDOW + Duration::from_secs(1)), Some(51.2));
        assert_eq!(
            load.kbps(start + LOAD_WINDOW * 2),
            Some(25.6),
            "half of what it was: nothing came"
        );
    }
}
