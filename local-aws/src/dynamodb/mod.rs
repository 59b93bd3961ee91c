//! DynamoDB: the wire's operations over the embedded engine `dynoxide` (SQLite, in memory or a file).
//!
//! This module turns a JSON body into the engine's request and the engine's answer or error back into the wire's form. It holds no
//! table and no expression logic of its own, and it never sweeps expired items by itself. Start at [`DynamoDb::handle`].

mod operations;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use dynoxide::{Database, DynoxideError};

use crate::clock::Clock;
use crate::wire::Answer;

/// The embedded DynamoDB; cheap to clone.
#[derive(Clone)]
pub(crate) struct DynamoDb {
    database: Database,
    // A file can block on the disk; memory never does, and running it inline keeps a simulation in paused time deterministic.
    on_disk: bool,
}

impl DynamoDb {
    /// Tables in memory, gone with this value.
    pub(crate) fn in_memory(clock: Clock) -> Result<Self, DynoxideError> {
        Ok(Self { database: Database::memory_with_clock(Arc::new(clock))?, on_disk: false })
    }

    /// Tables in an SQLite file with a write-ahead log: what was answered survives the process.
    pub(crate) fn open(path: &Path) -> Result<Self, DynoxideError> {
        Ok(Self { database: Database::new(&path.to_string_lossy())?, on_disk: true })
    }

    /// One call. `operation` is the part of `x-amz-target` after the dot.
    pub(crate) async fn handle(&self, operation: &str, body: Bytes) -> Answer {
        if !self.on_disk {
            return operations::answer(&self.database, operation, &body);
        }
        let (database, operation) = (self.database.clone(), operation.to_owned());
        tokio::task::spawn_blocking(move || operations::answer(&database, &operation, &body))
            .await
            .unwrap_or_else(|_| {
                Answer::error(500, operations::INTERNAL_SERVER_ERROR, "the engine panicked")
            })
    }

    /// Deletes the items whose time to live has passed; returns how many.
    pub(crate) async fn sweep_expired(&self) -> Result<usize, DynoxideError> {
        if !self.on_disk {
            return self.database.sweep_ttl();
        }
        let database = self.database.clone();
        tokio::task::spawn_blocking(move || database.sweep_ttl()).await.unwrap_or_else(|_| {
            Err(DynoxideError::InternalServerError("the sweep panicked".into()))
        })
    }
}
