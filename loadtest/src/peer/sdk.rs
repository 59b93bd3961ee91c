//! The plain consumer: the AWS SDK's event streams, records counted and nothing else.

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::DisplayErrorContext;
use aws_sdk_kinesis::types::{ShardIteratorType, StartingPosition, SubscribeToShardEventStream};
use futures::future::try_join_all;

use super::{Found, PeerError, Read, call};

/// Reads every shard, by a task each, until its subscription ends.
///
/// # Errors
/// When a subscription is refused or breaks.
pub async fn read(client: Client, found: Found) -> Result<Read, PeerError> {
    let tasks = found.shard_ids.iter().map(|shard_id| {
        tokio::spawn(read_shard(client.clone(), found.consumer_arn.clone(), shard_id.clone()))
    });
    let reads = try_join_all(tasks.collect::<Vec<_>>()).await?;
    reads.into_iter().sum()
}

async fn read_shard(
    client: Client,
    consumer_arn: String,
    shard_id: String,
) -> Result<Read, PeerError> {
    let start = StartingPosition::builder().r#type(ShardIteratorType::TrimHorizon).build();
    let start = start.map_err(|error| call("SubscribeToShard", &error))?;
    let subscribe = client.subscribe_to_shard().consumer_arn(consumer_arn).shard_id(&shard_id);
    let subscribed = subscribe.starting_position(start).send().await;
    let mut events = subscribed.map_err(|error| call("SubscribeToShard", &error))?.event_stream;
    let mut read = Read::default();
    loop {
        match events.recv().await {
            Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event))) => {
                read.records += event.records.len() as u64;
                read.bytes +=
                    event.records.iter().map(|r| r.data.as_ref().len() as u64).sum::<u64>();
            }
            Ok(Some(_)) => {}
            Ok(None) => return Ok(read),
            Err(error) => {
                let cause = DisplayErrorContext(&error).to_string();
                return Err(PeerError::Broken { shard_id, cause });
            }
        }
    }
}
