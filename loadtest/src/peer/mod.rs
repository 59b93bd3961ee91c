//! Other consumers of a stream, to hold a product against: each reads every shard once, from the first record on, and
//! counts. None of them does anything with what it reads.
//!
//! [`sdk`] is what one writes with the AWS SDK alone. [`socket`] and [`mod@drop`] are no consumers but limits: what it costs to
//! get the bytes at all. They send no signature, so they read a stand-in alone. Start reading at [`find`].

pub mod drop;
pub mod sdk;
pub mod socket;

#[cfg(test)]
mod tests;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::DisplayErrorContext;

use crate::wire::WireError;

/// Shards at most: one page of ListShards.
const MAX_SHARDS: i32 = 1_000;

/// What a peer read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Read {
    /// Records; 0 where nobody looked.
    pub records: u64,
    /// Bytes of record data, or those of the wire where nobody looked inside.
    pub bytes: u64,
}

impl std::iter::Sum for Read {
    fn sum<I: Iterator<Item = Read>>(reads: I) -> Read {
        reads.fold(Read::default(), |sum, read| Read {
            records: sum.records + read.records,
            bytes: sum.bytes + read.bytes,
        })
    }
}

/// Why a peer could not read to the end.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// A call of the SDK failed.
    #[error("{operation}: {cause}")]
    Call {
        /// The operation.
        operation: &'static str,
        /// What the SDK said.
        cause: String,
    },
    /// A connection failed.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A subscription ended in an error.
    #[error("the subscription of {shard_id} broke: {cause}")]
    Broken {
        /// The shard.
        shard_id: String,
        /// What came instead of an event.
        cause: String,
    },
    /// A reader ended by itself.
    #[error("a reader ended by itself: {0}")]
    Ended(#[from] tokio::task::JoinError),
}

/// What is there to subscribe to.
#[derive(Debug, Clone)]
pub struct Found {
    /// The registered consumer.
    pub consumer_arn: String,
    /// Every shard.
    pub shard_ids: Vec<String>,
}

impl Found {
    /// The body of a call that subscribes to a shard from its first record on.
    fn subscribe_body(&self, shard_id: &str) -> String {
        serde_json::json!({
            "ConsumerARN": self.consumer_arn,
            "ShardId": shard_id,
            "StartingPosition": { "Type": "TRIM_HORIZON" },
        })
        .to_string()
    }
}

/// Registers a consumer and lists the shards.
///
/// # Errors
/// When the stream is not there, or a call fails.
pub async fn find(client: &Client, stream: &str, consumer: &str) -> Result<Found, PeerError> {
    let summary = client.describe_stream_summary().stream_name(stream).send().await;
    let summary = summary.map_err(|error| call("DescribeStreamSummary", &error))?;
    let arn = summary.stream_description_summary.map(|summary| summary.stream_arn);
    let register = client.register_stream_consumer().set_stream_arn(arn).consumer_name(consumer);
    let registered =
        register.send().await.map_err(|error| call("RegisterStreamConsumer", &error))?;
    let consumer_arn =
        registered.consumer.map(|consumer| consumer.consumer_arn).unwrap_or_default();
    let shards = client.list_shards().stream_name(stream).max_results(MAX_SHARDS).send().await;
    let shards = shards.map_err(|error| call("ListShards", &error))?.shards.unwrap_or_default();
    Ok(Found { consumer_arn, shard_ids: shards.into_iter().map(|shard| shard.shard_id).collect() })
}

fn call(operation: &'static str, error: &(impl std::error::Error + 'static)) -> PeerError {
    PeerError::Call { operation, cause: DisplayErrorContext(error).to_string() }
}
