//! The stage behind the lanes: batches to the writer, and waiting until the store has them.

use std::sync::Arc;

use aws_smithy_async::time::{SharedTimeSource, SystemTimeSource};
use store::{DeliveryStore, MessageStore};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Decoded, Record};
use crate::integration::{IntegrationError, Integrations};
use crate::sync_store::{SyncStoreOptions, Writer, WriterHandle};

/// Room for all that a benchmark hands over.
const HOLD_BYTES: usize = 256 * 1024 * 1024;

/// A running writer, and what it is fed with.
pub struct StoreStage {
    integrations: Arc<Integrations>,
    writer: WriterHandle,
    progress: Arc<Notify>,
    stop: CancellationToken,
}

impl StoreStage {
    /// Starts a writer with the default options on the runtime that this is called in.
    ///
    /// # Errors
    /// Never: no integrations go together.
    pub fn start(
        messages: Arc<dyn MessageStore>,
        deliveries: DeliveryStore,
    ) -> Result<StoreStage, IntegrationError> {
        let integrations = Arc::new(Integrations::compile(Vec::new())?);
        let options = SyncStoreOptions::default();
        let time = SharedTimeSource::new(SystemTimeSource::new());
        let all = Arc::clone(&integrations);
        let (writer, handle) = Writer::new(options, HOLD_BYTES, all, messages, deliveries, time, 1);
        let stop = CancellationToken::new();
        tokio::spawn(writer.run(stop.clone()));
        Ok(StoreStage { integrations, writer: handle, progress: Arc::default(), stop })
    }

    /// An event of these records, decoded.
    #[must_use]
    pub fn event(&self, shard: u32, arrived_at_ms: i64, records: &[Record]) -> Decoded {
        super::event(&self.integrations, shard, arrived_at_ms, records)
    }

    /// Hands the events over as lanes do, and waits until all are stored.
    pub async fn store(&self, events: impl Iterator<Item = &Decoded>) {
        super::hand_over(&self.writer, &self.progress, events).await;
    }

    /// How full the calls were, on average.
    #[must_use]
    pub fn records_per_call(&self) -> f64 {
        let stats = self.writer.stats();
        stats.call_records as f64 / stats.calls.max(1) as f64
    }
}

impl Drop for StoreStage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
