//! Where the lanes of a shard go on when its lease is taken. Pure.

use std::collections::BTreeMap;

use lease_manager::{Checkpoint, LanePosition, Lease};

use crate::service::PIPELINES;

/// Where a lane goes on.
pub(crate) struct LaneStart {
    pub(crate) position: Checkpoint,
    pub(crate) unread_since_ms: i64,
}

/// Where each lane goes on: at its own position, or the lease's checkpoint when it has none. What a lane that never read
/// anything has to read arrived no earlier than its lease was made.
pub(crate) fn starts(lease: &Lease, now_ms: i64) -> [LaneStart; 2] {
    let known: BTreeMap<&str, &LanePosition> =
        lease.lanes.iter().map(|(name, lane)| (name.as_str(), lane)).collect();
    PIPELINES.map(|name| {
        let lane = known.get(name);
        let position = lane.map_or(&lease.checkpoint, |lane| &lane.checkpoint).clone();
        let noted = lane.and_then(|lane| lane.unsettled_since_ms);
        let began = lease.start_at_ms.filter(|_| !position.has_moved());
        let behind_ms = lane.map_or(0, |lane| lane.behind_ms);
        let behind = now_ms.saturating_sub_unsigned(behind_ms);
        let unread_since_ms = noted.or(began).unwrap_or(behind).min(now_ms);
        LaneStart { position, unread_since_ms }
    })
}
