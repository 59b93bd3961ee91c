//! What the intake has no place for now, and where it goes.

use std::collections::VecDeque;
use std::sync::Arc;

use super::aftermath::Aftermath;
use super::delivery::{Delivery, Live};
use super::lane::{LaneHandle, NO_ROOM_PAUSE, Shared};
use super::lane_task::LaneTools;
use super::ledger::Job;
use crate::clock::wall_ms;

/// What found no room where it belongs.
pub(super) enum Overflow {
    /// Parking, in the ledger.
    Job(Job),
    /// A message that must not be overtaken, in its lane.
    InOrder(Arc<LaneHandle>, Live),
}

/// Takes the first that waits to where it belongs; false once there is nowhere left. Cancel safe.
pub(super) async fn unload(tools: &LaneTools, overflow: &mut VecDeque<Overflow>) -> bool {
    let lane = match overflow.front() {
        Some(Overflow::InOrder(lane, _)) => Some(Arc::clone(lane)),
        _ => None,
    };
    if let Some(lane) = lane {
        let room = lane.room().await;
        let Some(Overflow::InOrder(_, live)) = overflow.pop_front() else { return true };
        lane.let_in();
        match room {
            Some(permit) => permit.send(live),
            // Its subscription is switched off or gone: no order is kept over that.
            None => {
                let job = refused(&lane.shared, live, wall_ms(&tools.time));
                overflow.extend(job.map(Overflow::Job));
            }
        }
        return true;
    }
    let Some(permit) = tools.ledger.room().await else { return false };
    if let Some(Overflow::Job(job)) = overflow.pop_front() {
        permit.send(job);
    }
    true
}

/// What parks a message that there is no room for, or whose destination takes nothing now.
pub(super) fn refused(shared: &Shared, live: Live, now_ms: i64) -> Option<Job> {
    // Arrival times spread the due times well enough, and need no generator here.
    let jitter_unit = live.arrived_at_ms().rem_euclid(1_000) as f64 / 1_000.0;
    let mandate = shared.mandate.load();
    let aftermath = Aftermath { shared, subscription: &mandate.subscription, now_ms };
    let delivery = Delivery::Live(live);
    if shared.admits() {
        // A burst, not an outage: the sweeper leaves it due until there is room.
        let delay = NO_ROOM_PAUSE.mul_f64(0.5 + jitter_unit);
        return aftermath.park(delivery, 0, delay, String::from("its destination has no room now"));
    }
    aftermath.set_aside(delivery, jitter_unit, "its destination takes nothing now")
}
