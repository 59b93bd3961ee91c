//! The fleet from outside: what an operator sees of it, asks of it, and may change, through the two tables alone.
//!
//! [`Operator`] never joins the fleet and never calls a worker: whatever it does works just as well when every worker is
//! stopped. [`Operator::look`] reads both tables for a moment, long enough to tell whose heartbeat moves, and makes a
//! [`Survey`] of it; `why.rs` says in words what the survey shows of one lease. `release.rs` asks an owner by mail to hand
//! a lease over, `checkpoint.rs` sets where the lanes go on, `adopt.rs` takes leases over from the Kinesis Client Library.
//!
//! Decisions are pure functions over the survey; each change is one conditional write that `change.rs` plans.

mod adopt;
mod checkpoint;
mod release;
mod say;
mod survey;
mod why;

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_smithy_async::time::SharedTimeSource;
use tokio::time::{Instant, sleep};

pub use adopt::{AdoptError, AdoptedLease, Adoption, Course};
pub use checkpoint::{LaneStep, Position, Refusal, SetError, SetPlan, StepKind};
pub use release::{Asked, NotAsked};
pub use say::span;
pub use survey::{FindError, LeaseRow, Pulse, State, Survey, WorkerRow};
pub use why::Why;

use crate::classify::CallError;
use crate::fleet_table::FleetTable;
use crate::ids::{LeaseKey, WorkerId};
use crate::item::ItemError;
use crate::lease::LeaseRecord;
use crate::lease_table::{LeaseTable, Listing};
use crate::options::{InitialPosition, Options, fleet_table};
use crate::still::Reading;
use crate::worker::WorkerRecord;
use survey::Looker;

/// The fleet table is read this often during a look.
const GLANCE: Duration = Duration::from_millis(500);

/// A call that the service did not answer as it should, and what that most likely means.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: table `{table}`: {detail}")]
pub struct TableError {
    /// What was tried.
    pub operation: &'static str,
    /// The table.
    pub table: String,
    /// What the service answered.
    pub detail: String,
    /// True if the table does not exist.
    pub is_missing: bool,
}

impl TableError {
    fn of(table: &str, error: &CallError) -> Self {
        Self {
            operation: error.operation,
            table: table.to_owned(),
            detail: error.detail.clone(),
            is_missing: error.detail.starts_with("ResourceNotFoundException"),
        }
    }
}

/// Looks at a fleet, and changes what an operator may change.
pub struct Operator {
    client: Client,
    options: Options,
    streams: Vec<(String, InitialPosition)>,
    leases: LeaseTable,
    fleet: FleetTable,
    time: SharedTimeSource,
}

impl Operator {
    /// `options` are those of the fleet's workers: the application's name, the lanes and the periods are used, and the
    /// worker's name stands for the one who looks. `streams` are the names of the streams that the workers read, and where
    /// each starts.
    pub fn new(
        client: Client,
        options: Options,
        streams: Vec<(String, InitialPosition)>,
        time: SharedTimeSource,
    ) -> Self {
        let leases = LeaseTable::new(client.clone(), options.app.clone(), options.call_timeout);
        let fleet = FleetTable::new(client.clone(), options.fleet_table(), options.call_timeout);
        Self { client, options, streams, leases, fleet, time }
    }

    /// The name of the lease table.
    pub fn lease_table(&self) -> &str {
        &self.options.app
    }

    /// How long a look takes: two heartbeats and a half, so that a heartbeat that moves is seen to move.
    pub fn look_time(&self) -> Duration {
        self.options.heartbeat_interval * 5 / 2
    }

    /// Reads both tables until it can be told whose heartbeat moves. `tick` hears how far it is.
    pub async fn look(&self, mut tick: impl FnMut(Duration)) -> Result<Survey, TableError> {
        let mut looker = Looker::new(&self.options, self.stream_names());
        let began = Instant::now();
        let until = began + self.look_time();
        let first = self.listing().await?;
        looker.leases_first(&first.leases);
        loop {
            let started = Instant::now();
            let workers = self.members().await?;
            looker.workers(Reading { started, ended: Instant::now() }, workers);
            let left = until.saturating_duration_since(Instant::now());
            tick(began.elapsed());
            if left.is_zero() {
                break;
            }
            sleep(left.min(GLANCE)).await;
        }
        let started = Instant::now();
        let last = self.listing().await?;
        let reading = Reading { started, ended: Instant::now() };
        Ok(looker.finish(reading, last, self.now_ms()))
    }

    fn stream_names(&self) -> Vec<String> {
        self.streams.iter().map(|(name, _)| name.clone()).collect()
    }

    async fn listing(&self) -> Result<Listing, TableError> {
        self.leases.list().await.map_err(|e| TableError::of(self.lease_table(), &e))
    }

    /// The fleet's workers: none, where only a Kinesis Client Library has been so far.
    async fn members(&self) -> Result<BTreeMap<WorkerId, WorkerRecord>, TableError> {
        let read = self.fleet.list().await;
        match read.map_err(|e| TableError::of(&fleet_table(&self.options.app), &e)) {
            Err(error) if error.is_missing => Ok(BTreeMap::new()),
            read => read,
        }
    }

    /// One lease as it is now.
    async fn lease(&self, key: &LeaseKey) -> Result<Option<LeaseRecord>, TableError> {
        self.leases.get(key).await.map_err(|e| TableError::of(self.lease_table(), &e))
    }

    fn now_ms(&self) -> i64 {
        let since = self.time.now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

/// What cannot be read, as text.
fn texts(errors: &[ItemError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests;
