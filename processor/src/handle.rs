//! How a running processor is: what status pages show, what the fleet shares work out by, and what ails it. It changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_smithy_async::time::SharedTimeSource;

use crate::async_delivery::CourierHandle;
use crate::budget::Budget;
use crate::clock::wall_ms;
use crate::service::PIPELINES;
use crate::status::{ProcessorStatus, Registry};
use crate::sync_store::WriterHandle;

/// Asks a running [`crate::Processor`] how it is.
#[derive(Clone)]
pub struct ProcessorHandle {
    pub(crate) registry: Arc<Registry>,
    pub(crate) writer: WriterHandle,
    pub(crate) courier: CourierHandle,
    pub(crate) budgets: [Budget; 2],
    pub(crate) time: SharedTimeSource,
}

impl ProcessorHandle {
    /// A snapshot of shards, lanes and pipelines.
    pub fn status(&self) -> ProcessorStatus {
        let (shards, records_read) = self.registry.snapshot(PIPELINES, wall_ms(&self.time));
        ProcessorStatus {
            shards,
            records_read,
            sync_store: self.writer.stats(),
            async_delivery: self.courier.stats(),
        }
    }

    /// Bytes of records read and not settled yet, over both pipelines.
    pub fn in_flight_bytes(&self) -> u64 {
        self.budgets.iter().map(|budget| budget.in_use() as u64).sum()
    }

    /// What the processor cannot reach, and why, by the dependency's name: empty while it can do its work.
    pub fn ailments(&self) -> BTreeMap<String, String> {
        let mut ailments: BTreeMap<String, String> =
            self.writer.ailments().chain(self.courier.ailments()).collect();
        let (shards, unreadable) = self.registry.readable();
        if shards > 0 && shards == unreadable {
            let why = format!("none of {shards} shards can be read");
            ailments.insert("kinesis".to_owned(), why);
        }
        ailments
    }
}
