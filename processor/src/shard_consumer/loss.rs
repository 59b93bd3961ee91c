//! What a lane lost to the stream's retention, as it is written down: which lane, and between which records. Pure.
//!
//! A lane that did not read for longer than the stream keeps records may find a hole between where it ended and the first record
//! that is still there, or nothing at all any more. Nobody can know what stood in it; that something may have is the one exception to invariant C2, and it
//! is kept with the dead letters before the lane moves on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lease_manager::{Checkpoint, SequenceNumber};
use store::DeadReason;

use super::track::Track;
use crate::batch::{Batch, Malformed, ShardContext};
use crate::integration::Integrations;

/// A hole in what one lane has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lost {
    pipeline: Arc<str>,
    after: Checkpoint,
    until: Until,
    /// Under which number it is kept: one at which it ends or begins.
    kept_at: SequenceNumber,
    since_ms: i64,
    now_ms: i64,
}

/// Where a hole ends.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Until {
    /// Before the first record that is still there.
    Before(SequenceNumber),
    /// No record is there, and the service goes on behind this number.
    Through(SequenceNumber),
    /// No record is there, and it did not say where it stands.
    Now,
}

impl Until {
    fn of(batch: &Batch) -> Until {
        let first = batch.entries.first().map(|entry| batch.place(entry).to_place());
        match (first, &batch.upto) {
            (Some((sequence, _)), _) => Until::Before(sequence),
            (None, Some(upto)) => Until::Through(upto.clone()),
            (None, None) => Until::Now,
        }
    }

    fn sequence(&self) -> Option<&SequenceNumber> {
        match self {
            Until::Before(sequence) | Until::Through(sequence) => Some(sequence),
            Until::Now => None,
        }
    }
}

/// What the lane may have lost between its end and `batch`, which it takes next. Also when that has no records: all that stood there
/// may be gone.
pub(super) fn of(track: &Track, batch: &Batch, now_ms: i64, retention: Duration) -> Option<Lost> {
    let kept_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    if now_ms.saturating_sub(track.unread_since_ms) <= kept_ms {
        return None;
    }
    let (after, until) = (track.lane.end(), Until::of(batch));
    let end = match after {
        Checkpoint::At { sequence, .. } => Some(sequence),
        _ => None,
    };
    // Read again from its end on, nothing is missing in between.
    if until.sequence().is_some_and(|until| Some(until) <= end) {
        return None;
    }
    let nothing_known = || SequenceNumber::parse("0").ok();
    Some(Lost {
        kept_at: until.sequence().or(end).cloned().or_else(nothing_known)?,
        pipeline: track.lane.name().as_str().into(),
        after: after.clone(),
        until,
        since_ms: track.unread_since_ms,
        now_ms,
    })
}

impl Lost {
    /// What arrived before that is not lost, in ms since 1970.
    pub(super) fn since_ms(&self) -> i64 {
        self.since_ms
    }

    /// The loss as an entry for the dead letters, one for each lane.
    pub(super) fn record(
        &self,
        shard: &Arc<ShardContext>,
        lane: usize,
        integrations: &Integrations,
    ) -> Batch {
        let (before, through) = match &self.until {
            Until::Before(sequence) => (Some(sequence.as_str()), None),
            Until::Through(sequence) => (None, Some(sequence.as_str())),
            Until::Now => (None, None),
        };
        let payload = serde_json::json!({
            "pipeline": &*self.pipeline,
            "stream": &*shard.stream_arn,
            "shard": &*shard.shard_id,
            "after": self.after.to_string(),
            "before": before,
            "through": through,
            "unread_since_ms": self.since_ms,
            "at_ms": self.now_ms,
        });
        let malformed = Malformed {
            reason: DeadReason::LostToRetention,
            detail: self.to_string(),
            integration: integrations.default_integration().name().clone(),
        };
        let place = (self.kept_at.clone(), u32::MAX - u32::try_from(lane).unwrap_or(0));
        Batch::of_one(shard, &place, self.now_ms, payload.to_string().as_bytes(), malformed)
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: what stood after {}", self.pipeline, self.after)?;
        match &self.until {
            Until::Before(sequence) => write!(f, " and before {sequence}")?,
            Until::Through(sequence) => write!(f, " and up to {sequence}")?,
            Until::Now => write!(f, " and had arrived by then")?,
        }
        f.write_str(", if anything did")
    }
}
