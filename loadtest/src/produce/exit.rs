//! How a producer ends.

use super::replay::ReplayError;
use super::stats::Summary;

/// Why a producer ended before its source did.
#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    /// The source cannot be read on.
    #[error(transparent)]
    Source(#[from] ReplayError),
    /// The stream's shards are not to be had; needed for aggregation.
    #[error("ListShards failed: {cause}")]
    ListShards {
        /// What went wrong.
        cause: String,
    },
    /// The stream refuses every request.
    #[error("PutRecords was refused: {cause}")]
    PutRecords {
        /// What went wrong.
        cause: String,
    },
}

impl ProduceError {
    pub(crate) fn list_shards(cause: String) -> ProduceError {
        ProduceError::ListShards { cause }
    }

    pub(crate) fn put_records(cause: String) -> ProduceError {
        ProduceError::PutRecords { cause }
    }
}

/// How a producer ended.
#[derive(Debug)]
pub enum Exit {
    /// The source ended or the limit was reached, and every message is settled.
    Done(Summary),
    /// It was stopped; what had not been acknowledged is counted as abandoned.
    Stopped(Summary),
    /// It cannot go on.
    Failed(Summary, ProduceError),
}

impl Exit {
    /// What was done until the end.
    pub fn summary(&self) -> &Summary {
        match self {
            Exit::Done(summary) | Exit::Stopped(summary) | Exit::Failed(summary, _) => summary,
        }
    }
}
