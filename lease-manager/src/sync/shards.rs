//! Asking Kinesis for a stream's shards: all pages, of the stream that is configured and not of a namesake.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{Shard, ShardFilter, ShardFilterType};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::timeout;

use crate::classify::{CallError, Kind};
use crate::ids::ShardId;
use crate::lease::HashRange;
use crate::options::StreamConfig;

/// Pages of one listing. The service's largest streams have 20,000 shards.
const MAX_PAGES: usize = 1_000;

/// Which shards to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filter {
    /// Every shard that the stream still knows.
    All,
    /// The shards that were open at the oldest record that is kept.
    AtTrimHorizon,
    /// The shards that are open now.
    AtLatest,
    /// The shards that were open at a time, in milliseconds since 1970.
    AtTimestamp(i64),
}

/// One shard as the stream lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedShard {
    pub(crate) id: ShardId,
    pub(crate) parents: Vec<ShardId>,
    pub(crate) range: HashRange,
}

/// Where listings come from.
pub(crate) trait ShardSource: Send + Sync {
    fn list<'a>(
        &'a self,
        stream: &'a StreamConfig,
        filter: Filter,
    ) -> BoxFuture<'a, Result<Vec<ListedShard>, CallError>>;
}

/// The real stream.
pub(crate) struct KinesisShards {
    client: Client,
    timeout: Duration,
}

impl KinesisShards {
    pub(crate) fn new(client: Client, timeout: Duration) -> Self {
        Self { client, timeout }
    }

    /// A stream that was deleted and made again under the same name has other shards under the same ids.
    async fn check_creation(&self, stream: &StreamConfig) -> Result<(), CallError> {
        const OPERATION: &str = "describe stream";
        if stream.creation_epoch_s == 0 {
            return Ok(());
        }
        let call = self.client.describe_stream_summary().stream_arn(&stream.arn).send();
        let answer = timeout(self.timeout, call).await;
        let answer = answer.map_err(|_| CallError::timeout(OPERATION))?;
        let answer = answer.map_err(|e| CallError::of(OPERATION, &e))?;
        let summary = answer.stream_description_summary();
        let created = summary.map(|s| s.stream_creation_timestamp().secs());
        if created == Some(stream.creation_epoch_s) {
            return Ok(());
        }
        let (name, expected) = (&stream.name, stream.creation_epoch_s);
        let detail = format!("stream `{name}` was created at {created:?} s, not at {expected} s");
        Err(CallError { operation: OPERATION, kind: Kind::Fatal, detail })
    }

    async fn pages(
        &self,
        stream: &StreamConfig,
        filter: Filter,
    ) -> Result<Vec<ListedShard>, CallError> {
        const OPERATION: &str = "list shards";
        let mut shards = Vec::new();
        let mut token: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let call = self.client.list_shards();
            // A token stands for the whole first request.
            let call = match token.take() {
                Some(token) => call.next_token(token),
                None => call.stream_arn(&stream.arn).set_shard_filter(filter.to_sdk()),
            };
            let page = timeout(self.timeout, call.send()).await;
            let page = page.map_err(|_| CallError::timeout(OPERATION))?;
            let page = page.map_err(|e| CallError::of(OPERATION, &e))?;
            for shard in page.shards() {
                shards.push(listed(shard).ok_or_else(|| CallError {
                    operation: OPERATION,
                    kind: Kind::Retry,
                    detail: format!("the service listed a shard that makes no sense: {shard:?}"),
                })?);
            }
            token = page.next_token;
            if token.is_none() {
                return Ok(shards);
            }
        }
        let detail = format!("more than {MAX_PAGES} pages");
        Err(CallError { operation: OPERATION, kind: Kind::Retry, detail })
    }
}

impl ShardSource for KinesisShards {
    fn list<'a>(
        &'a self,
        stream: &'a StreamConfig,
        filter: Filter,
    ) -> BoxFuture<'a, Result<Vec<ListedShard>, CallError>> {
        async move {
            self.check_creation(stream).await?;
            self.pages(stream, filter).await
        }
        .boxed()
    }
}

impl Filter {
    fn to_sdk(self) -> Option<ShardFilter> {
        let (kind, at_ms) = match self {
            Self::All => return None,
            Self::AtTrimHorizon => (ShardFilterType::AtTrimHorizon, None),
            Self::AtLatest => (ShardFilterType::AtLatest, None),
            Self::AtTimestamp(ms) => {
                (ShardFilterType::AtTimestamp, Some(DateTime::from_millis(ms)))
            }
        };
        ShardFilter::builder().r#type(kind).set_timestamp(at_ms).build().ok()
    }
}

fn listed(shard: &Shard) -> Option<ListedShard> {
    let parents = [shard.parent_shard_id(), shard.adjacent_parent_shard_id()];
    let parents = parents.into_iter().flatten().map(ShardId::parse).collect::<Result<_, _>>();
    let range = shard.hash_key_range()?;
    Some(ListedShard {
        id: ShardId::parse(shard.shard_id()).ok()?,
        parents: parents.ok()?,
        range: HashRange::parse(range.starting_hash_key(), range.ending_hash_key())?,
    })
}
