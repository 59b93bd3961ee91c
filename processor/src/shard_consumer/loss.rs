//! What a lane lost to the stream's retention, as it is written down: which lane, and between which records. Pure.
//!
//! A lane that did not read for longer than the stream keeps records may find a hole between where it ended and the first record
//! that is still there. Nobody can know what stood in it; that something may have is the one exception to invariant C2, and it
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
    before: SequenceNumber,
    since_ms: i64,
    now_ms: i64,
}

/// What the lane may have lost between its end and the first record of `batch`, which it takes next.
pub(super) fn of(track: &Track, batch: &Batch, now_ms: i64, retention: Duration) -> Option<Lost> {
    let kept_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    if now_ms.saturating_sub(track.unread_since_ms) <= kept_ms {
        return None;
    }
    let (before, _) = batch.entries.first().map(|entry| batch.place(entry).to_place())?;
    let end = track.lane.end();
    // Read again from its end on, nothing is missing in between.
    if let Checkpoint::At { sequence, .. } = end
        && before <= *sequence
    {
        return None;
    }
    Some(Lost {
        pipeline: track.lane.name().as_str().into(),
        after: end.clone(),
        before,
        since_ms: track.unread_since_ms,
        now_ms,
    })
}

impl Lost {
    /// The loss as an entry for the dead letters, one for each lane.
    pub(super) fn record(
        &self,
        shard: &Arc<ShardContext>,
        lane: usize,
        integrations: &Integrations,
    ) -> Batch {
        let payload = serde_json::json!({
            "pipeline": &*self.pipeline,
            "stream": &*shard.stream_arn,
            "shard": &*shard.shard_id,
            "after": self.after.to_string(),
            "before": self.before.as_str(),
            "unread_since_ms": self.since_ms,
        });
        let malformed = Malformed {
            reason: DeadReason::LostToRetention,
            detail: self.to_string(),
            integration: integrations.default_integration().name().clone(),
        };
        let place = (self.before.clone(), u32::MAX - u32::try_from(lane).unwrap_or(0));
        Batch::of_one(shard, &place, self.now_ms, payload.to_string().as_bytes(), malformed)
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: what stood after {} and before {}, if anything did",
            self.pipeline, self.after, self.before
        )
    }
}
