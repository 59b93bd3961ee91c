//! Creating, deleting, describing and resharding streams.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Nothing;
use super::request::{stream_requests, valid_name, within};
use super::shape::{EnhancedMetrics, ModeDetails, WireTime, encryption_type};
use crate::kinesis::engine::{
    Distribution, Engine, MAX_OPEN_SHARDS, Mode, Status, StreamSpec, parse_hash_key,
};
use crate::kinesis::error::Refusal;

/// Shards of a new on-demand stream.
const ON_DEMAND_SHARDS: u32 = 4;
/// On-demand streams an account may have.
const MAX_ON_DEMAND_STREAMS: usize = 50;
/// Scalings of one stream in a day.
const SCALINGS_A_DAY: usize = 10;
const DAY_MS: i64 = 86_400_000;
const DEFAULT_RECORD_KIB: u32 = 1024;
const MAX_RECORD_KIB: u32 = 10_240;

/// `StreamModeDetails` of a request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct ModeRequest {
    stream_mode: ModeName,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum ModeName {
    Provisioned,
    OnDemand,
}

impl ModeRequest {
    pub(super) fn mode(&self) -> Mode {
        match self.stream_mode {
            ModeName::Provisioned => Mode::Provisioned,
            ModeName::OnDemand => Mode::OnDemand,
        }
    }
}

/// `RecordDistributionStrategy` of a request.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum DistributionName {
    Auto,
    UserPartitionKey,
}

impl From<DistributionName> for Distribution {
    fn from(name: DistributionName) -> Self {
        match name {
            DistributionName::Auto => Self::Auto,
            DistributionName::UserPartitionKey => Self::UserPartitionKey,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct CreateStream {
    stream_name: String,
    shard_count: Option<u32>,
    stream_mode_details: Option<ModeRequest>,
    tags: Option<BTreeMap<String, String>>,
    #[serde(rename = "MaxRecordSizeInKiB")]
    max_record_size_in_kib: Option<u32>,
    record_distribution_strategy: Option<DistributionName>,
    #[serde(rename = "WarmThroughputMiBps")]
    _warm_throughput_mibps: Option<u32>,
}

pub(super) fn create_stream(
    engine: &mut Engine,
    request: CreateStream,
    now_ms: i64,
) -> Result<Nothing, Refusal> {
    let name = valid_name(&request.stream_name)?.to_owned();
    let mode = request.stream_mode_details.map_or(Mode::Provisioned, |details| details.mode());
    let shard_count = match (mode, request.shard_count) {
        (Mode::Provisioned, Some(count)) => within("shardCount", count, 1, MAX_OPEN_SHARDS as u32)?,
        (Mode::OnDemand, None) => ON_DEMAND_SHARDS,
        (Mode::Provisioned, None) => {
            return Err(Refusal::Validation(
                "ShardCount must be provided when StreamMode is PROVISIONED.".to_owned(),
            ));
        }
        (Mode::OnDemand, Some(_)) => {
            return Err(Refusal::Validation(
                "ShardCount must not be provided when StreamMode is ON_DEMAND.".to_owned(),
            ));
        }
    };
    if mode == Mode::OnDemand && on_demand_streams(engine) >= MAX_ON_DEMAND_STREAMS {
        return Err(Refusal::LimitExceeded(format!(
            "The account {} already has {MAX_ON_DEMAND_STREAMS} on-demand streams.",
            engine.account
        )));
    }
    let spec = StreamSpec {
        account: engine.account.clone(),
        arn: engine.stream_arn(&name),
        name,
        mode,
        shard_count,
        max_record_kib: valid_record_kib(
            request.max_record_size_in_kib.unwrap_or(DEFAULT_RECORD_KIB),
        )?,
        distribution: request
            .record_distribution_strategy
            .map_or(Distribution::UserPartitionKey, Distribution::from),
        tags: request.tags.unwrap_or_default(),
    };
    engine.create(spec, now_ms)?;
    Ok(Nothing {})
}

/// A stream's record limit inside the range of the service.
pub(super) fn valid_record_kib(kib: u32) -> Result<u32, Refusal> {
    within("maxRecordSizeInKiB", kib, DEFAULT_RECORD_KIB, MAX_RECORD_KIB)
}

fn on_demand_streams(engine: &Engine) -> usize {
    let streams = engine.streams().values();
    streams.filter(|stream| stream.mode == Mode::OnDemand).count()
}

stream_requests! {
    DeleteStream { enforce_consumer_deletion: Option<bool> }
    DescribeStreamSummary {}
    SplitShard { shard_to_split: String, new_starting_hash_key: String }
    MergeShards { shard_to_merge: String, adjacent_shard_to_merge: String }
    UpdateShardCount { target_shard_count: u32, scaling_type: String }
}

pub(super) fn delete_stream(
    engine: &mut Engine,
    request: DeleteStream,
    now_ms: i64,
) -> Result<Nothing, Refusal> {
    let name = request.stream().resolve(engine)?;
    let enforce = request.enforce_consumer_deletion == Some(true);
    engine.delete(&name, enforce, now_ms)?;
    Ok(Nothing {})
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SummaryOutput {
    stream_description_summary: Summary,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Summary {
    stream_name: String,
    #[serde(rename = "StreamARN")]
    stream_arn: String,
    stream_status: &'static str,
    stream_mode_details: ModeDetails,
    retention_period_hours: u32,
    stream_creation_timestamp: WireTime,
    enhanced_monitoring: [EnhancedMetrics; 1],
    encryption_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
    open_shard_count: usize,
    consumer_count: usize,
    #[serde(rename = "MaxRecordSizeInKiB")]
    max_record_size_in_kib: u32,
    record_distribution_strategy: &'static str,
}

pub(super) fn describe_stream_summary(
    engine: &mut Engine,
    request: DescribeStreamSummary,
    now_ms: i64,
) -> Result<SummaryOutput, Refusal> {
    let name = request.stream().resolve(engine)?;
    let stream = engine.stream(&name)?;
    Ok(SummaryOutput {
        stream_description_summary: Summary {
            stream_name: stream.name.clone(),
            stream_arn: stream.arn.clone(),
            stream_status: stream.status(now_ms).unwrap_or(Status::Deleting).as_str(),
            stream_mode_details: stream.mode.into(),
            retention_period_hours: stream.retention_hours,
            stream_creation_timestamp: WireTime(stream.created_at_ms),
            enhanced_monitoring: EnhancedMetrics::NONE,
            encryption_type: encryption_type(stream.kms_key.is_some()),
            key_id: stream.kms_key.clone(),
            open_shard_count: stream.open_shards(),
            consumer_count: stream.consumers.len(),
            max_record_size_in_kib: stream.max_record_kib,
            record_distribution_strategy: stream.distribution.as_str(),
        },
    })
}

pub(super) fn split_shard(
    engine: &mut Engine,
    request: SplitShard,
    now_ms: i64,
) -> Result<Nothing, Refusal> {
    let name = request.stream().resolve(engine)?;
    let at = parse_hash_key(&request.new_starting_hash_key).ok_or_else(|| {
        Refusal::constraint(
            "newStartingHashKey",
            &request.new_starting_hash_key,
            "satisfy regular expression pattern: 0|([1-9]\\d{0,38})",
        )
    })?;
    engine.stream(&name)?.require_active(now_ms)?;
    engine.require_room(1)?;
    let done_at_ms = engine.done_at(now_ms);
    let stream = engine.stream(&name)?;
    require_provisioned(stream.mode, "SplitShard", &name)?;
    stream.split(&request.shard_to_split, at, now_ms)?;
    stream.begin(Status::Updating, done_at_ms);
    Ok(Nothing {})
}

pub(super) fn merge_shards(
    engine: &mut Engine,
    request: MergeShards,
    now_ms: i64,
) -> Result<Nothing, Refusal> {
    let name = request.stream().resolve(engine)?;
    let done_at_ms = engine.done_at(now_ms);
    let stream = engine.stream(&name)?;
    stream.require_active(now_ms)?;
    require_provisioned(stream.mode, "MergeShards", &name)?;
    stream.merge(&request.shard_to_merge, &request.adjacent_shard_to_merge, now_ms)?;
    stream.begin(Status::Updating, done_at_ms);
    Ok(Nothing {})
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ShardCounts {
    stream_name: String,
    current_shard_count: usize,
    target_shard_count: u32,
    #[serde(rename = "StreamARN")]
    stream_arn: String,
}

pub(super) fn update_shard_count(
    engine: &mut Engine,
    request: UpdateShardCount,
    now_ms: i64,
) -> Result<ShardCounts, Refusal> {
    let name = request.stream().resolve(engine)?;
    let target = within("targetShardCount", request.target_shard_count, 1, MAX_OPEN_SHARDS as u32)?;
    if request.scaling_type != "UNIFORM_SCALING" {
        let rule = "satisfy enum value set: [UNIFORM_SCALING]";
        return Err(Refusal::constraint("scalingType", &request.scaling_type, rule));
    }
    let (enforce, done_at_ms) = (engine.limits.enforce, engine.done_at(now_ms));
    let current = engine.stream(&name)?.open_shards();
    engine.require_room((target as usize).saturating_sub(current))?;
    let stream = engine.stream(&name)?;
    stream.require_active(now_ms)?;
    require_provisioned(stream.mode, "UpdateShardCount", &name)?;
    if target as usize > current * 2 || (target as usize) * 2 < current {
        return Err(Refusal::LimitExceeded(format!(
            "UpdateShardCount cannot scale stream {name} from {current} open shards to {target}: the target must be between half and double of them."
        )));
    }
    stream.count_scaling(SCALINGS_A_DAY, DAY_MS, enforce, now_ms)?;
    stream.scale(target, now_ms)?;
    stream.begin(Status::Updating, done_at_ms);
    Ok(ShardCounts {
        stream_arn: stream.arn.clone(),
        stream_name: name,
        current_shard_count: current,
        target_shard_count: target,
    })
}

fn require_provisioned(mode: Mode, operation: &str, stream: &str) -> Result<(), Refusal> {
    if mode == Mode::OnDemand {
        return Err(Refusal::Validation(format!(
            "{operation} is not supported for the stream {stream}: its capacity mode is ON_DEMAND."
        )));
    }
    Ok(())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DescribeLimits {}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AccountLimits {
    shard_limit: usize,
    open_shard_count: usize,
    on_demand_stream_count: usize,
    on_demand_stream_count_limit: usize,
}

pub(super) fn describe_limits(
    engine: &mut Engine,
    _request: DescribeLimits,
    _now_ms: i64,
) -> Result<AccountLimits, Refusal> {
    Ok(AccountLimits {
        shard_limit: MAX_OPEN_SHARDS,
        open_shard_count: engine.open_shards(),
        on_demand_stream_count: on_demand_streams(engine),
        on_demand_stream_count_limit: MAX_ON_DEMAND_STREAMS,
    })
}
