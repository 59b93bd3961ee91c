//! The `async-delivery` pipeline: pushes every message to the subscriptions that want it.
//!
//! A message is settled for a subscription when its destination acknowledged it, when it was filtered
//! out, or when it is parked durably; parking that fails is tried for ever, so it is backpressure and
//! never a skip. One lane per destination (queue, concurrency, rate, breaker, connections), and none
//! waits for another. It never writes messages or checkpoints, and malformed entries are the
//! `sync-store` lane's.
//!
//! Replays (`replay`) make deliveries parked and due, nothing else.
//!
//! Start at [`Courier`], then `intake` (batch to lanes), `lane_task` (lane to attempts), `ledger`
//! (what is written), `sweeper` (parked ones come back), `estate` (what deleted subscriptions left) and `ordered` (what has to stay in order). Decisions are pure and stand in `router`,
//! `mandate`, `breaker`, `outcome` and `webhook::guard`. A new kind of destination is one folder behind
//! `destination::Sender`.

mod aftermath;
mod aws;
mod breaker;
mod courier;
mod delivery;
mod destination;
mod estate;
mod events;
mod intake;
mod keys;
mod lane;
mod lane_task;
mod ledger;
pub(crate) mod mandate;
mod metrics;
mod options;
mod ordered;
mod outcome;
mod overflow;
mod ranges;
mod rate;
mod replay;
pub(crate) mod router;
mod share;
mod stats;
mod sweeper;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod watch;
mod webhook;
mod writes;

pub use aws::{AwsConfigs, AwsIdentity, AwsService, RoleToAssume};
pub use breaker::{BreakerPolicy, BreakerState};
pub(crate) use courier::{Courier, CourierExit, CourierHandle, CourierParts};
pub use destination::Outlets;
pub use options::CourierOptions;
pub use ordered::hash_key_of;
pub(crate) use ranges::{KinesisLogs, Log, Logs};
pub use replay::{DryRun, count_replay};
pub(crate) use replay::{Replayer, ReplayerParts};
pub use router::wanted_by;
pub(crate) use share::Peers;
pub use stats::{CourierStats, DestinationStats};
pub use webhook::{
    AddressClass, Allowance, Answer, BadAllowance, Channel, Guard, HttpTransports, MessageLinks,
    Refusal, Transport, TransportError, Transports, check_identity,
};
