//! One pipeline in one shard: its lane, and what feeds it now.

use tokio::time::Instant;

use crate::batch::{Batch, RawBatch};
use crate::lane::Lane;
use crate::lane::feed::{Fed, LaneView};
use crate::lane::seam::Seam;
use crate::reader::{ReadError, Reader};

/// A lane and its feed.
pub(crate) struct Track {
    pub(super) lane: Lane,
    pub(super) feed: Feed,
    /// All that arrived until then was taken by the lane, in ms since 1970.
    pub(super) unread_since_ms: i64,
}

/// What a lane is fed by.
pub(super) enum Feed {
    /// A parent's lane has not ended: nothing may be read.
    Closed,
    /// The live reader.
    Live,
    /// Nothing, and not before this moment.
    Detached { not_before: Instant },
    /// A reader of its own.
    CatchingUp(Box<CatchUp>),
}

/// A lane's own reader, and where it is to meet the live one.
pub(super) struct CatchUp {
    pub(super) reader: Reader,
    pub(super) seam: Option<Seam>,
}

impl Track {
    /// A lane that nothing feeds yet.
    pub(crate) fn new(lane: Lane, unread_since_ms: i64) -> Track {
        Track { lane, feed: Feed::Closed, unread_since_ms }
    }

    pub(super) fn fed(&self) -> Fed {
        match &self.feed {
            _ if self.lane.has_all() => Fed::Done,
            Feed::Closed => Fed::Closed,
            Feed::Live => Fed::Live,
            Feed::Detached { .. } => Fed::Detached,
            Feed::CatchingUp(_) => Fed::CatchingUp,
        }
    }

    /// All that arrived until then is settled, in ms since 1970: what the next owner of the lease goes by to see a loss. What the reader
    /// says of itself is no measure of it: just started anew, it has read nothing for this lane yet.
    pub(super) fn unsettled_since_ms(&self, now_ms: i64) -> i64 {
        let unread_since_ms = if self.lane.has_all() { now_ms } else { self.unread_since_ms };
        self.lane.oldest_unsettled_ms().unwrap_or(i64::MAX).min(unread_since_ms)
    }

    pub(super) fn view(&self, now: Instant) -> LaneView<'_> {
        let paused = matches!(self.feed, Feed::Detached { not_before } if not_before > now);
        LaneView {
            fed: self.fed(),
            at_the_tip: self.is_at_the_tip(),
            ready: !paused && self.lane.is_ready(),
            end: self.lane.end(),
            unread_since_ms: self.unread_since_ms,
        }
    }

    /// The live reader reads for this lane, or for its gate.
    pub(super) fn is_at_the_tip(&self) -> bool {
        match &self.feed {
            Feed::Live => !self.lane.has_all(),
            Feed::CatchingUp(catch_up) => catch_up.seam.is_some(),
            Feed::Closed | Feed::Detached { .. } => false,
        }
    }

    /// Nothing but time will tell when the lane can go on.
    pub(super) fn needs_a_look(&self) -> bool {
        self.lane.is_queued() || self.fed() == Fed::Detached || self.lane.is_beyond_its_share()
    }

    /// Frees what the lane only waits to hand on, and ends its feed until `not_before`.
    pub(super) fn detach(&mut self, not_before: Instant) {
        self.free_queue();
        self.feed = Feed::Detached { not_before };
    }

    /// There was no room for a batch. What it has arrived and was not taken; a lane that never read anything learns how old that is.
    pub(super) fn refused(&mut self, batch: &Batch) {
        let first_ms = self.lane.first_owed_ms(batch).unwrap_or(i64::MAX);
        self.unread_since_ms = self.unread_since_ms.min(first_ms);
    }

    /// What is freed was not taken after all: should it pass the retention, or be the record of a loss, that has to be seen.
    fn free_queue(&mut self) {
        let since_ms = self.lane.free_queue().unwrap_or(i64::MAX);
        self.unread_since_ms = self.unread_since_ms.min(since_ms);
    }

    /// Takes back what no sink has accepted, and reads no more.
    pub(super) fn stop(&mut self) {
        self.free_queue();
        self.feed = Feed::Closed;
    }

    /// The next event of the lane's own reader; never, while it has none. Cancel safe, as [`Reader::next`].
    pub(super) async fn catch_up(&mut self) -> Result<RawBatch, ReadError> {
        match &mut self.feed {
            Feed::CatchingUp(catch_up) => catch_up.reader.next().await,
            Feed::Closed | Feed::Live | Feed::Detached { .. } => std::future::pending().await,
        }
    }

    /// The lane may read, from now on; true if it could not before.
    pub(super) fn open(&mut self, now: Instant) -> bool {
        let opens = matches!(self.feed, Feed::Closed);
        if opens {
            self.feed = Feed::Detached { not_before: now };
        }
        opens && !self.lane.ended()
    }

    /// Lets go of connections until the lane is fed again.
    pub(super) fn cancel_reading(&mut self) {
        if let Feed::CatchingUp(catch_up) = &mut self.feed {
            catch_up.reader.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lease_manager::{Checkpoint, LaneName};

    use super::*;
    use crate::batch::LaneBatch;
    use crate::budget::Budget;
    use crate::lane::Sink;

    struct Nowhere;

    impl Sink for Nowhere {
        fn offer(&self, batch: LaneBatch) -> Result<(), LaneBatch> {
            Err(batch)
        }
    }

    fn track(position: Checkpoint) -> Track {
        let name = LaneName::parse("lane").unwrap();
        Track::new(Lane::new(name, Arc::new(Nowhere), Budget::new(1).share(), position), 29_000)
    }

    #[test]
    fn a_lane_that_is_fed_anew_has_settled_no_more_than_before() {
        let mut track = track(Checkpoint::TrimHorizon);
        track.open(Instant::now());
        assert_eq!(track.unsettled_since_ms(51_000), 29_000);
        track.feed = Feed::Live;
        assert_eq!(track.unsettled_since_ms(51_000), 29_000, "nothing was read for it yet");
    }

    #[test]
    fn a_lane_that_has_all_owes_nothing() {
        assert_eq!(self::track(Checkpoint::ShardEnd).unsettled_since_ms(51_000), 51_000);
    }
}
