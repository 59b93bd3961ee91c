//! The lease manager's run loop.

use aws_smithy_async::time::SharedTimeSource;
use tokio_util::sync::CancellationToken;

use crate::handle::FleetHandle;
use crate::options::{Options, OptionsError};

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
    Replaced(crate::WorkerId),
    /// The service refuses what the manager needs (a missing table, missing permissions).
    #[error("{operation} was refused: {detail}")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// What the service answered.
        detail: String,
    },
}

/// Takes part in the fleet: owns leases, keeps them, gives them up.
pub struct LeaseManager {
    options: Options,
}

impl LeaseManager {
    /// Makes a manager and the application's handle to it. Nothing happens before [`LeaseManager::run`].
    pub fn new(
        options: Options,
        dynamodb: aws_sdk_dynamodb::Client,
        kinesis: aws_sdk_kinesis::Client,
        time: SharedTimeSource,
    ) -> (Self, FleetHandle) {
        drop((dynamodb, kinesis, time));
        let handle = FleetHandle::idle(options.worker_id.clone());
        (Self { options }, handle)
    }

    /// Runs until `stop` is cancelled or the manager cannot go on.
    pub async fn run(self, stop: CancellationToken) -> Exit {
        stop.cancelled().await;
        drop(self.options);
        Exit::Shutdown
    }
}
