//! How much a client may ask for, and what is left of it: [`Gates`] lets requests in or says which policy
//! stands against them. Knows nothing of keys or grants.
//!
//! `allowance` says which limits hold for a client, `slices` how much of them a task takes at a time; `tab` is all that is
//! decided about what tasks share, `desk` the calls that this takes; `gate` is one client's limits in this
//! task, `fields` how they are told to the client.

pub(super) mod allowance;
mod desk;
mod fields;
mod gate;
#[cfg(test)]
mod simulation;
mod slices;
mod tab;
#[cfg(test)]
mod tab_tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_smithy_async::time::SharedTimeSource;
use store::{Client, ClientId, UsageStore};
use tokio_util::sync::CancellationToken;

use super::generations::Generations;
use crate::options::Limits;
use desk::Desk;
pub(crate) use fields::{Standing, write_fields};
use gate::Gate;
pub(crate) use gate::{Admission, BytesLeft, Meter, Refusal};
pub(crate) use gate::{Limiter, limiter};

/// Name of the policy over requests per time.
pub(crate) const REQUESTS: &str = "requests";
/// Name of the policy over requests at the same time.
pub(crate) const CONCURRENT: &str = "concurrent";
/// Name of the policy over the requests of a UTC day.
pub(crate) const DAILY_REQUESTS: &str = "daily-requests";
/// Name of the policy over the bytes of a UTC day.
pub(crate) const DAILY_BYTES: &str = "daily-bytes";

/// Between two rounds of telling the other tasks what they do not know yet, however little that is.
const ROUND: Duration = Duration::from_secs(60);

/// The gates of the clients seen lately. One that was forgotten starts again with a full burst and what the table
/// says of the day.
pub(crate) struct Gates {
    limits: Limits,
    desk: Arc<Desk>,
    /// Every request takes it for a copy of one `Arc`; never held over an await.
    gates: Mutex<Generations<ClientId, Arc<Gate>>>,
}

impl Gates {
    pub(crate) fn new(usage: UsageStore, time: SharedTimeSource, limits: &Limits) -> Self {
        Self {
            desk: Arc::new(Desk::new(usage, time, limits.sharing)),
            gates: Mutex::new(Generations::new(limits.max_cached_keys)),
            limits: limits.clone(),
        }
    }

    /// Takes one request out of the client's budget. It waits only where the client has spent all that this task may
    /// let in before the others are heard, and for no longer than the patience with the table.
    pub(crate) async fn admit(&self, client: &Client) -> Result<Admission, Refusal> {
        self.gate(client).admit().await
    }

    /// Tells the other tasks what was used here, once in a while and at `stop`, until that is done.
    pub(crate) async fn keep_told(&self, stop: CancellationToken) {
        loop {
            let stopped = tokio::select! { biased;
                () = stop.cancelled() => true,
                () = tokio::time::sleep(ROUND) => false,
            };
            let gates: Vec<Arc<Gate>> = self.lock().values().cloned().collect();
            gates.iter().for_each(Gate::tell_all);
            if stopped {
                return self.desk.close().await;
            }
        }
    }

    /// Tells the other tasks all that was used here, and waits until that is done, or cannot be.
    pub(crate) async fn settle(&self) {
        // The second time for what was used while the first was told.
        for _ in 0..2 {
            let gates: Vec<Arc<Gate>> = self.lock().values().cloned().collect();
            gates.iter().for_each(Gate::tell_all);
            self.desk.told().await;
        }
    }

    fn gate(&self, client: &Client) -> Arc<Gate> {
        let limits = allowance::of(client, &self.limits);
        let mut gates = self.lock();
        match gates.get(&client.id) {
            Some(gate) if gate.limits() == limits => gate,
            before => {
                if let Some(before) = before {
                    Gate::tell_all(&before);
                }
                let gate = Arc::new(Gate::new(client.id.clone(), limits, Arc::clone(&self.desk)));
                gates.insert(client.id.clone(), Arc::clone(&gate));
                gate
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Generations<ClientId, Arc<Gate>>> {
        // A poisoned lock still guards a whole map: its operations do not leave one half changed.
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
