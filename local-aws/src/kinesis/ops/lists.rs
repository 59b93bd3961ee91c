//! Lists of streams and shards, page by page.

use serde::{Deserialize, Serialize};

use super::request::{Timestamp, stream_requests, within};
use super::shape::{EnhancedMetrics, ModeDetails, ShardShape, WireTime, encryption_type};
use super::token::{self, TOKEN_LIFETIME_MS};
use crate::kinesis::engine::{Engine, Shard, Status, Stream};
use crate::kinesis::error::Refusal;

const SHARDS_KIND: u8 = b'S';
const STREAMS_KIND: u8 = b'L';
const MAX_PAGE: u32 = 10_000;
/// Shards in one answer of ListShards at most, whatever is asked for.
const SHARDS_PAGE: usize = 1000;
/// Shards in one answer of DescribeStream at most, and streams in one of ListStreams unless asked otherwise.
const SMALL_PAGE: u32 = 100;

/// `ShardFilter` of a request.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct FilterRequest {
    r#type: FilterType,
    shard_id: Option<String>,
    timestamp: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum FilterType {
    AfterShardId,
    AtTrimHorizon,
    FromTrimHorizon,
    AtLatest,
    AtTimestamp,
    FromTimestamp,
}

/// Which shards a list shows. Times are half-open: at the very millisecond of a reshard the parent is gone and the child is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Filter {
    /// Everything that is kept.
    All,
    /// Open now.
    Open,
    /// Open at a moment.
    OpenAt(i64),
    /// Open at a moment or later.
    OpenFrom(i64),
}

impl Filter {
    fn matches(self, shard: &Shard) -> bool {
        let closed_at_ms = shard.closed.as_ref().map(|closed| closed.at_ms);
        match self {
            Self::All => true,
            Self::Open => closed_at_ms.is_none(),
            Self::OpenAt(at_ms) => {
                shard.created_at_ms <= at_ms && closed_at_ms.is_none_or(|closed| closed > at_ms)
            }
            Self::OpenFrom(at_ms) => closed_at_ms.is_none_or(|closed| closed > at_ms),
        }
    }
}

/// What a shard list still has to show.
#[derive(Debug, Serialize, Deserialize)]
struct ShardPage {
    stream: String,
    generation: u64,
    filter: Filter,
    after: Option<String>,
    issued_at_ms: i64,
}

stream_requests! {
    ListShards {
        next_token: Option<String>,
        exclusive_start_shard_id: Option<String>,
        max_results: Option<u32>,
        stream_creation_timestamp: Option<Timestamp>,
        shard_filter: Option<FilterRequest>,
    }
    DescribeStream { limit: Option<u32>, exclusive_start_shard_id: Option<String> }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ShardList {
    shards: Vec<ShardShape>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

pub(super) fn list_shards(
    engine: &mut Engine,
    request: ListShards,
    now_ms: i64,
) -> Result<ShardList, Refusal> {
    let limit = within("maxResults", request.max_results.unwrap_or(MAX_PAGE), 1, MAX_PAGE)?;
    let page = match &request.next_token {
        Some(next_token) => next_shard_page(&request, next_token, now_ms)?,
        None => first_shard_page(engine, &request, now_ms)?,
    };
    let stream = engine.stream(&page.stream)?;
    if stream.generation != page.generation {
        return Err(Refusal::InvalidArgument(
            "NextToken is of an earlier stream of the same name.".to_owned(),
        ));
    }
    let after = page.after.as_deref();
    let (shards, more) =
        shards_after(stream, after, page.filter, (limit as usize).min(SHARDS_PAGE), now_ms);
    let last = shards.last().map(|shard| shard.id.to_string());
    let shards = shards.into_iter().map(ShardShape::from).collect();
    let next = ShardPage { after: last, issued_at_ms: now_ms, ..page };
    Ok(ShardList { shards, next_token: more.then(|| token::seal(SHARDS_KIND, &next)).flatten() })
}

fn next_shard_page(
    request: &ListShards,
    next_token: &str,
    now_ms: i64,
) -> Result<ShardPage, Refusal> {
    let alone = !request.stream().is_given()
        && request.exclusive_start_shard_id.is_none()
        && request.stream_creation_timestamp.is_none();
    // A filter may be repeated beside the token: some clients do, and the token's own one counts.
    if !alone {
        return Err(Refusal::InvalidArgument(
            "NextToken and StreamName, StreamARN, ExclusiveStartShardId or StreamCreationTimestamp cannot be provided together."
                .to_owned(),
        ));
    }
    let page: ShardPage = token::open(SHARDS_KIND, next_token)
        .ok_or_else(|| Refusal::InvalidArgument("NextToken is not valid.".to_owned()))?;
    if now_ms - page.issued_at_ms > TOKEN_LIFETIME_MS {
        return Err(Refusal::ExpiredNextToken(format!(
            "NextToken has expired: it was created {} milliseconds ago, and the limit is {TOKEN_LIFETIME_MS}.",
            now_ms - page.issued_at_ms
        )));
    }
    Ok(page)
}

fn first_shard_page(
    engine: &mut Engine,
    request: &ListShards,
    now_ms: i64,
) -> Result<ShardPage, Refusal> {
    let name = request.stream().resolve(engine)?;
    let stream = engine.stream(&name)?;
    let Some(filter) = &request.shard_filter else {
        return Ok(ShardPage {
            generation: stream.generation,
            stream: name,
            filter: Filter::All,
            after: request.exclusive_start_shard_id.clone(),
            issued_at_ms: now_ms,
        });
    };
    if filter.r#type == FilterType::AfterShardId && filter.shard_id.is_none() {
        return Err(Refusal::InvalidArgument(
            "ShardId must be provided with ShardFilter type AFTER_SHARD_ID.".to_owned(),
        ));
    }
    let after = match filter.r#type {
        FilterType::AfterShardId => filter.shard_id.clone(),
        _ => request.exclusive_start_shard_id.clone(),
    };
    Ok(ShardPage {
        generation: stream.generation,
        filter: resolve_filter(stream, filter, now_ms)?,
        stream: name,
        after,
        issued_at_ms: now_ms,
    })
}

/// Fixes the moment a filter means: the trim horizon moves on, a list in pages must not.
fn resolve_filter(stream: &Stream, filter: &FilterRequest, now_ms: i64) -> Result<Filter, Refusal> {
    let horizon_ms = stream.horizon_ms(now_ms).max(stream.created_at_ms);
    let at_ms = || {
        let given = filter.timestamp.ok_or_else(|| {
            Refusal::InvalidArgument(
                "Timestamp must be provided with this ShardFilter type.".to_owned(),
            )
        })?;
        Ok(given.0.max(horizon_ms))
    };
    Ok(match filter.r#type {
        FilterType::AfterShardId | FilterType::FromTrimHorizon => Filter::All,
        FilterType::AtTrimHorizon => Filter::OpenAt(horizon_ms),
        FilterType::AtLatest => Filter::Open,
        FilterType::AtTimestamp => Filter::OpenAt(at_ms()?),
        FilterType::FromTimestamp => Filter::OpenFrom(at_ms()?),
    })
}

/// The next shards of a list and whether there are more behind them. A stream that is being created shows none.
fn shards_after<'a>(
    stream: &'a mut Stream,
    after: Option<&str>,
    filter: Filter,
    limit: usize,
    now_ms: i64,
) -> (Vec<&'a Shard>, bool) {
    stream.expire_shards(now_ms);
    if stream.status(now_ms) == Some(Status::Creating) {
        return (Vec::new(), false);
    }
    let mut rest = stream
        .shards
        .values()
        .filter(|shard| after.is_none_or(|after| &*shard.id > after) && filter.matches(shard));
    let shards: Vec<&Shard> = rest.by_ref().take(limit).collect();
    let more = rest.next().is_some();
    (shards, more)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescriptionOutput {
    stream_description: Description,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Description {
    stream_name: String,
    #[serde(rename = "StreamARN")]
    stream_arn: String,
    stream_status: &'static str,
    stream_mode_details: ModeDetails,
    shards: Vec<ShardShape>,
    has_more_shards: bool,
    retention_period_hours: u32,
    stream_creation_timestamp: WireTime,
    enhanced_monitoring: [EnhancedMetrics; 1],
    encryption_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
}

pub(super) fn describe_stream(
    engine: &mut Engine,
    request: DescribeStream,
    now_ms: i64,
) -> Result<DescriptionOutput, Refusal> {
    let name = request.stream().resolve(engine)?;
    let limit = within("limit", request.limit.unwrap_or(SMALL_PAGE), 1, MAX_PAGE)?.min(SMALL_PAGE);
    let after = request.exclusive_start_shard_id.as_deref();
    let stream = engine.stream(&name)?;
    let (shards, has_more_shards) =
        shards_after(stream, after, Filter::All, limit as usize, now_ms);
    let shards = shards.into_iter().map(ShardShape::from).collect();
    Ok(DescriptionOutput {
        stream_description: Description {
            stream_name: stream.name.clone(),
            stream_arn: stream.arn.clone(),
            stream_status: stream.status(now_ms).unwrap_or(Status::Deleting).as_str(),
            stream_mode_details: stream.mode.into(),
            shards,
            has_more_shards,
            retention_period_hours: stream.retention_hours,
            stream_creation_timestamp: WireTime(stream.created_at_ms),
            enhanced_monitoring: EnhancedMetrics::NONE,
            encryption_type: encryption_type(stream.kms_key.is_some()),
            key_id: stream.kms_key.clone(),
        },
    })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct ListStreams {
    limit: Option<u32>,
    exclusive_start_stream_name: Option<String>,
    next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StreamList {
    stream_names: Vec<String>,
    has_more_streams: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
    stream_summaries: Vec<StreamSummary>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct StreamSummary {
    stream_name: String,
    #[serde(rename = "StreamARN")]
    stream_arn: String,
    stream_status: &'static str,
    stream_mode_details: ModeDetails,
    stream_creation_timestamp: WireTime,
}

#[derive(Debug, Serialize, Deserialize)]
struct StreamPage {
    after: String,
    issued_at_ms: i64,
}

pub(super) fn list_streams(
    engine: &mut Engine,
    request: ListStreams,
    now_ms: i64,
) -> Result<StreamList, Refusal> {
    let limit = within("limit", request.limit.unwrap_or(SMALL_PAGE), 1, MAX_PAGE)? as usize;
    let after = match &request.next_token {
        None => request.exclusive_start_stream_name,
        Some(next_token) => {
            let page: StreamPage = token::open(STREAMS_KIND, next_token)
                .ok_or_else(|| Refusal::InvalidArgument("NextToken is not valid.".to_owned()))?;
            if now_ms - page.issued_at_ms > TOKEN_LIFETIME_MS {
                return Err(Refusal::ExpiredNextToken("NextToken has expired.".to_owned()));
            }
            Some(page.after)
        }
    };
    let mut rest = engine
        .streams()
        .values()
        .filter(|stream| after.as_ref().is_none_or(|after| &stream.name > after));
    let page: Vec<&Stream> = rest.by_ref().take(limit).collect();
    let has_more_streams = rest.next().is_some();
    let last = page.last().filter(|_| has_more_streams);
    let next_token = last.and_then(|stream| {
        let next = StreamPage { after: stream.name.clone(), issued_at_ms: now_ms };
        token::seal(STREAMS_KIND, &next)
    });
    Ok(StreamList {
        stream_names: page.iter().map(|stream| stream.name.clone()).collect(),
        has_more_streams,
        next_token,
        stream_summaries: page
            .iter()
            .map(|stream| StreamSummary {
                stream_name: stream.name.clone(),
                stream_arn: stream.arn.clone(),
                stream_status: stream.status(now_ms).unwrap_or(Status::Deleting).as_str(),
                stream_mode_details: stream.mode.into(),
                stream_creation_timestamp: WireTime(stream.created_at_ms),
            })
            .collect(),
    })
}
