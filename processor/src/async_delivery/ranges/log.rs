//! Where a range is read from: the stream, from a place on.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::batch::{Batch, ShardContext};
use crate::budget::Budget;
use crate::decode::{self, DecodeOptions};
use crate::integration::Integrations;
use crate::polling::Poller;
use crate::reader::{ReadError, Readers, StartingAt};

/// Opens the logs of shards.
pub(crate) trait Logs: Send + Sync {
    /// The log of a shard from `start` on; `None` if its stream is not configured.
    fn open(&self, shard: &Arc<ShardContext>, start: StartingAt) -> Option<Box<dyn Log>>;

    /// How long the stream keeps records; `None` if it is not configured.
    fn retention(&self, stream_arn: &str) -> Option<Duration>;
}

/// One shard's records, an answer at a time.
pub(crate) trait Log: Send {
    /// The next answer, which may have no entries; the last one has `shard_ended`.
    fn next(&mut self) -> BoxFuture<'_, Result<Arc<Batch>, ReadError>>;
}

/// Polls Kinesis beside the shard's other readers, within what is allowed for the shard.
pub(crate) struct KinesisLogs {
    readers: Arc<Readers>,
    /// What answers may hold until they are decoded.
    budget: Budget,
    integrations: Arc<Integrations>,
    decode: DecodeOptions,
}

impl KinesisLogs {
    /// Logs that are read with `budget` bytes for what is not decoded yet.
    pub(crate) fn new(
        readers: &Arc<Readers>,
        budget: &Budget,
        integrations: &Arc<Integrations>,
        decode: &DecodeOptions,
    ) -> KinesisLogs {
        KinesisLogs {
            readers: Arc::clone(readers),
            budget: budget.clone(),
            integrations: Arc::clone(integrations),
            decode: decode.clone(),
        }
    }
}

impl Logs for KinesisLogs {
    fn open(&self, shard: &Arc<ShardContext>, start: StartingAt) -> Option<Box<dyn Log>> {
        let poller = self.readers.poller(shard, start, self.budget.clone(), shard.fence ^ 2)?;
        let (integrations, decode) = (Arc::clone(&self.integrations), self.decode.clone());
        Some(Box::new(KinesisLog { poller, integrations, decode }))
    }

    fn retention(&self, stream_arn: &str) -> Option<Duration> {
        self.readers.retention(stream_arn)
    }
}

struct KinesisLog {
    poller: Poller,
    integrations: Arc<Integrations>,
    decode: DecodeOptions,
}

impl Log for KinesisLog {
    fn next(&mut self) -> BoxFuture<'_, Result<Arc<Batch>, ReadError>> {
        Box::pin(async {
            let raw = self.poller.next().await?;
            Ok(Arc::new(decode::decode(raw, &self.integrations, &self.decode)))
        })
    }
}
