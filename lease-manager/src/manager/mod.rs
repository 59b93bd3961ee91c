//! The lease manager's service: it joins the fleet, and then runs four loops until it is stopped.
//!
//! - `heartbeat.rs`: says that this worker lives, in a task of its own, so that nothing delays it.
//! - `observe.rs`: reads the fleet and declares the silent dead.
//! - `own.rs`: looks after the leases that this worker holds or is given.
//! - `planner.rs`: reads the leases and, on the leader, shares them out.
//! - `audit.rs`: compares the streams' shards with the leases, on one worker of the fleet.

mod audit;
mod heartbeat;
mod observe;
mod own;
mod planner;
mod round;

use std::sync::Arc;
use std::time::Duration;

use aws_smithy_async::time::SharedTimeSource;
use futures::{StreamExt, stream};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::classify::CallError;
use crate::give_up;
use crate::handle::FleetHandle;
use crate::held::SHUTDOWN;
use crate::ids::WorkerId;
use crate::lease::Progress;
use crate::options::{Options, OptionsError};
use crate::shared::Shared;
use crate::sync::{KinesisShards, ShardSource};
use crate::worker::WorkerState;

/// Why a lease manager ended.
#[derive(Debug)]
pub enum Exit {
    /// It was asked to stop and did.
    Shutdown,
    /// It cannot go on.
    Failed(LeaseManagerError),
}

/// Why a lease manager cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LeaseManagerError {
    /// The options cannot work.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// Another process runs under the same worker id.
    #[error("another process runs as worker `{0}`: give every process its own worker id")]
    Replaced(WorkerId),
    /// The service refuses what the manager needs: a table is missing, or permissions are.
    #[error("{operation} was refused: {detail}")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// What the service answered.
        detail: String,
    },
    /// The heartbeat's task broke down.
    #[error("the heartbeat task ended: {0}")]
    HeartbeatEnded(String),
}

impl From<CallError> for LeaseManagerError {
    fn from(error: CallError) -> Self {
        Self::Refused { operation: error.operation, detail: error.detail }
    }
}

/// Takes part in the fleet: owns leases, keeps them, gives them up.
pub struct LeaseManager {
    shared: Arc<Shared>,
}

/// Leases given up at once by a stop.
const CONCURRENCY: usize = 32;

/// How long a stop waits for a look at the whole fleet.
const LOOK_AROUND: Duration = Duration::from_millis(500);

type Heartbeat = AbortOnDropHandle<Result<(), LeaseManagerError>>;

impl LeaseManager {
    /// Makes a manager and the application's handle to it. Nothing happens before [`LeaseManager::run`].
    pub fn new(
        options: Options,
        dynamodb: aws_sdk_dynamodb::Client,
        kinesis: aws_sdk_kinesis::Client,
        time: SharedTimeSource,
    ) -> (Self, FleetHandle) {
        let shards = Arc::new(KinesisShards::new(kinesis, options.call_timeout));
        Self::over(options, &dynamodb, shards, time)
    }

    pub(crate) fn over(
        options: Options,
        dynamodb: &aws_sdk_dynamodb::Client,
        shards: Arc<dyn ShardSource>,
        time: SharedTimeSource,
    ) -> (Self, FleetHandle) {
        let shared = Shared::new(options, dynamodb, shards, time);
        (Self { shared: Arc::clone(&shared) }, FleetHandle::new(shared))
    }

    /// Runs until `stop` is cancelled or the manager cannot go on. Whatever the reason, no lease is trusted afterwards.
    pub async fn run(self, stop: CancellationToken) -> Exit {
        let ended = EndOfManager(Arc::clone(&self.shared));
        let exit = match self.start(&stop).await {
            Ok(Some(heartbeat)) => Box::pin(self.work(heartbeat, &stop)).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        drop(ended);
        match exit {
            Ok(()) => Exit::Shutdown,
            Err(error) => Exit::Failed(error),
        }
    }

    /// Joins the fleet; `None` if it was stopped before.
    async fn start(
        &self,
        stop: &CancellationToken,
    ) -> Result<Option<Heartbeat>, LeaseManagerError> {
        self.shared.options.validate()?;
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(None),
            joined = heartbeat::join(&self.shared) => joined?,
        }
        let task = tokio::spawn(heartbeat::run(Arc::clone(&self.shared)));
        Ok(Some(AbortOnDropHandle::new(task)))
    }

    async fn work(
        &self,
        mut heartbeat: Heartbeat,
        stop: &CancellationToken,
    ) -> Result<(), LeaseManagerError> {
        let shared = &self.shared;
        // After `stop` this worker takes nothing any more, but it keeps looking who its leases can go to.
        let taking = async {
            tokio::select! {
                biased;
                () = stop.cancelled() => std::future::pending::<()>().await,
                () = async { tokio::join!(planner::run(shared), audit::run(shared)); } => {}
            }
        };
        let loops = async { tokio::join!(observe::run(shared), taking) };
        tokio::select! {
            biased;
            ended = &mut heartbeat => return Err(early(ended)),
            () = async { stop.cancelled().await; Box::pin(drain(shared)).await } => {}
            _ = loops => {}
        }
        self.say_stopped(heartbeat).await
    }

    async fn say_stopped(&self, heartbeat: Heartbeat) -> Result<(), LeaseManagerError> {
        // What is left is free for others once the stop is noted, which is before this worker hears of it.
        self.shared.roster.lose_all("the stop came first");
        self.shared.wanted.send_replace(WorkerState::Stopped);
        let patience = Instant::now() + self.shared.options.call_timeout * 2;
        match timeout_at(patience, heartbeat).await {
            Ok(Ok(Ok(()))) => {}
            // The leases were given up or will be orphans: a stop that was not noted only takes longer to be seen.
            other => {
                tracing::warn!(outcome = ?other, "the stop could not be noted in the fleet table")
            }
        }
        Ok(())
    }
}

fn early(
    ended: Result<Result<(), LeaseManagerError>, tokio::task::JoinError>,
) -> LeaseManagerError {
    match ended {
        Ok(Err(error)) => error,
        Ok(Ok(())) => LeaseManagerError::HeartbeatEnded("without a reason".to_owned()),
        Err(error) => LeaseManagerError::HeartbeatEnded(error.to_string()),
    }
}

/// Gives every lease up, within the time that a stop may take.
async fn drain(shared: &Arc<Shared>) {
    // The last two calls' time is for the note that this worker stopped.
    let last = shared.options.call_timeout * 2;
    let until = Instant::now() + shared.options.shutdown_deadline.saturating_sub(last);
    shared.wanted.send_replace(WorkerState::Draining);
    look_around(shared).await;
    let unfetched = shared.roster.close();
    for held in shared.roster.all() {
        held.ask_release(None, SHUTDOWN);
    }
    let release = |held| async move {
        let _ = give_up::release(shared, &held, Progress::default(), SHUTDOWN.to_owned()).await;
    };
    let given_up = async {
        stream::iter(unfetched).for_each_concurrent(CONCURRENCY, release).await;
        shared.roster.emptied().await;
    };
    // What consumers leave behind while they end is given up in their place.
    let rest = async {
        loop {
            shared.own_soon.notified().await;
            own::give_up_overdue(shared).await;
        }
    };
    let both = async {
        tokio::select! {
            biased;
            () = given_up => {}
            () = rest => {}
        }
    };
    if timeout_at(until, Box::pin(both)).await.is_err() {
        let left = shared.roster.len();
        tracing::warn!(
            left,
            "the deadline of the stop passed: leases are left to be taken as orphans"
        );
    }
}

/// Heirs are chosen from a fresh look at everybody; a worker that is no head of the fleet has not had one for a while.
async fn look_around(shared: &Shared) {
    let mut snapshots = shared.snapshot.subscribe();
    if !snapshots.borrow_and_update().whole {
        shared.look_now.notify_one();
        let _ = timeout(LOOK_AROUND, snapshots.wait_for(|snapshot| snapshot.whole)).await;
    }
}

/// However the manager ends, also when it is dropped: its consumers know, and nobody waits for a lease.
struct EndOfManager(Arc<Shared>);

impl Drop for EndOfManager {
    fn drop(&mut self) {
        self.0.validity.end();
        self.0.roster.close();
        self.0.roster.lose_all("the lease manager ended");
    }
}
