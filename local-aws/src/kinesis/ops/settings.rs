//! Settings of a stream that one call changes: retention, record size, mode, distribution, encryption, tags.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Nothing;
use super::request::{stream_of_arn, stream_requests, within};
use super::streams::{DistributionName, ModeRequest, valid_record_kib};
use crate::kinesis::engine::{Engine, Status, Stream};
use crate::kinesis::error::Refusal;

const MIN_RETENTION_HOURS: u32 = 24;
const MAX_RETENTION_HOURS: u32 = 8760;
/// Tags a stream may have.
const MAX_TAGS: usize = 50;

stream_requests! {
    RetentionPeriod { retention_period_hours: u32 }
    UpdateMaxRecordSize {
        #[serde(rename = "MaxRecordSizeInKiB")]
        max_record_size_in_kib: u32,
    }
    UpdateStreamMode {
        stream_mode_details: ModeRequest,
        #[serde(rename = "WarmThroughputMiBps")]
        _warm_throughput_mibps: Option<u32>,
    }
    UpdateDistribution { record_distribution_strategy: DistributionName }
    Encryption { encryption_type: String, key_id: String }
    AddTagsToStream { tags: BTreeMap<String, String> }
    RemoveTagsFromStream { tag_keys: Vec<String> }
    ListTagsForStream { exclusive_start_tag_key: Option<String>, limit: Option<u32> }
}

fn active_stream<'a>(
    engine: &'a mut Engine,
    name: &str,
    now_ms: i64,
) -> Result<&'a mut Stream, Refusal> {
    let stream = engine.stream(name)?;
    stream.require_active(now_ms)?;
    Ok(stream)
}

pub(super) fn increase_retention(
    engine: &mut Engine,
    request: RetentionPeriod,
    now_ms: i64,
) -> Result<Nothing, Refusal> {
    change_retention(engine, &request, true, now_ms)
}

pub(super) fn decrease_retention(
    engine: &mut Engine,
    request: RetentionPeriod,
    now_ms: i64,
) -> Result<Nothing, Refusal> {
    change_retention(engine, &request, false, now_ms)
}

fn change_retention(
    engine: &mut Engine,
    request: &RetentionPeriod,
    increase: bool,
    now_ms: i64,
) -> Result<Nothing, Refusal> {
    let name = request.stream().resolve(engine)?;
    let hours = request.retention_period_hours;
    if !(MIN_RETENTION_HOURS..=MAX_RETENTION_HOURS).contains(&hours) {
        return Err(Refusal::InvalidArgument(format!(
            "Retention period of {hours} hours is not between {MIN_RETENTION_HOURS} and {MAX_RETENTION_HOURS}."
        )));
    }
    let stream = active_stream(engine, &name, now_ms)?;
    let current = stream.retention_hours;
    let (direction, wrong) =
        if increase { ("shorter", hours < current) } else { ("longer", hours > current) };
    if wrong {
        return Err(Refusal::InvalidArgument(format!(
            "Requested retention period ({hours} hours) for stream {name} can not be {direction} than existing retention period ({current} hours)."
        )));
    }
    stream.retention_hours = hours;
    Ok(Nothing {})
}

pub(super) fn update_max_record_size(
    engine: &mut Engine,
    request: UpdateMaxRecordSize,
    now_ms: i64,
) -> Result<Nothing, Refusal> {
    let name = request.stream().resolve(engine)?;
    let kib = valid_record_kib(request.max_record_size_in_kib)?;
    active_stream(engine, &name, now_ms)?.max_record_kib = kib;
    Ok(Nothing {})
}

pub(super) fn update_stream_mode(
    engine: &mut Engine,
    request: UpdateStreamMode,
    now_ms: i64,
) -> Result<Nothing, Refusal> {
    let name = request.stream().resolve(engine)?;
    let done_at_ms = engine.done_at(now_ms);
    let stream = active_stream(engine, &name, now_ms)?;
    stream.mode = request.stream_mode_details.mode();
    stream.begin(Status::Updating, done_at_ms);
    Ok(Nothing {})
}

pub(super) fn update_distribution(
    engine: &mut Engine,
    request: UpdateDistribution,
    now_ms: i64,
) -> Result<Nothing, Refusal> {
    let name = request.stream().resolve(engine)?;
    let stream = active_stream(engine, &name, now_ms)?;
    stream.distribution = request.record_distribution_strategy.into();
    Ok(Nothing {})
}

pub(super) fn start_encryption(
    engine: &mut Engine,
    request: Encryption,
    now_ms: i64,
) -> Result<Nothing, Refusal> {
    change_encryption(engine, &request, Some(request.key_id.clone()), now_ms)
}

pub(super) fn stop_encryption(
    engine: &mut Engine,
    request: Encryption,
    now_ms: i64,
) -> Result<Nothing, Refusal> {
    change_encryption(engine, &request, None, now_ms)
}

fn change_encryption(
    engine: &mut Engine,
    request: &Encryption,
    key: Option<String>,
    now_ms: i64,
) -> Result<Nothing, Refusal> {
    let name = request.stream().resolve(engine)?;
    if request.encryption_type != "KMS" {
        return Err(Refusal::constraint(
            "encryptionType",
            &request.encryption_type,
            "satisfy enum value set: [KMS]",
        ));
    }
    let done_at_ms = engine.done_at(now_ms);
    let stream = active_stream(engine, &name, now_ms)?;
    stream.kms_key = key;
    stream.begin(Status::Updating, done_at_ms);
    Ok(Nothing {})
}

pub(super) fn add_tags_to_stream(
    engine: &mut Engine,
    request: AddTagsToStream,
    _now_ms: i64,
) -> Result<Nothing, Refusal> {
    let name = request.stream().resolve(engine)?;
    let stream = engine.stream(&name)?;
    add_tags(&mut stream.tags, request.tags, &name)
}

pub(super) fn remove_tags_from_stream(
    engine: &mut Engine,
    request: RemoveTagsFromStream,
    _now_ms: i64,
) -> Result<Nothing, Refusal> {
    let name = request.stream().resolve(engine)?;
    let stream = engine.stream(&name)?;
    stream.tags.retain(|key, _| !request.tag_keys.contains(key));
    Ok(Nothing {})
}

fn add_tags(
    tags: &mut BTreeMap<String, String>,
    added: BTreeMap<String, String>,
    resource: &str,
) -> Result<Nothing, Refusal> {
    let new = added.keys().filter(|key| !tags.contains_key(*key)).count();
    if tags.len() + new > MAX_TAGS {
        return Err(Refusal::InvalidArgument(format!(
            "Failed to add tags to {resource}: it would have more than {MAX_TAGS} tags."
        )));
    }
    tags.extend(added);
    Ok(Nothing {})
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    key: String,
    value: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StreamTags {
    tags: Vec<Tag>,
    has_more_tags: bool,
}

pub(super) fn list_tags_for_stream(
    engine: &mut Engine,
    request: ListTagsForStream,
    _now_ms: i64,
) -> Result<StreamTags, Refusal> {
    let name = request.stream().resolve(engine)?;
    let limit = within("limit", request.limit.unwrap_or(50), 1, 50)? as usize;
    let start = request.exclusive_start_tag_key.as_deref();
    let mut tags = tag_list(&engine.stream(&name)?.tags);
    tags.retain(|tag| start.is_none_or(|start| tag.key.as_str() > start));
    let has_more_tags = tags.len() > limit;
    tags.truncate(limit);
    Ok(StreamTags { tags, has_more_tags })
}

fn tag_list(tags: &BTreeMap<String, String>) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag { key: key.clone(), value: value.clone() }).collect()
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Resource {
    #[serde(rename = "ResourceARN")]
    resource_arn: String,
    #[serde(rename = "StreamId")]
    _stream_id: Option<serde::de::IgnoredAny>,
    tags: Option<BTreeMap<String, String>>,
    tag_keys: Option<Vec<String>>,
}

/// The tags of the stream or consumer with an ARN.
fn resource_tags<'a>(
    engine: &'a mut Engine,
    arn: &str,
) -> Result<&'a mut BTreeMap<String, String>, Refusal> {
    let name = stream_of_arn(engine, arn)?;
    let stream = engine.stream(name)?;
    if arn == stream.arn {
        return Ok(&mut stream.tags);
    }
    stream
        .consumers
        .values_mut()
        .find(|consumer| consumer.arn == arn)
        .map(|consumer| &mut consumer.tags)
        .ok_or_else(|| crate::kinesis::engine::consumer_not_found(arn))
}

pub(super) fn tag_resource(
    engine: &mut Engine,
    request: Resource,
    _now_ms: i64,
) -> Result<Nothing, Refusal> {
    let tags = resource_tags(engine, &request.resource_arn)?;
    add_tags(tags, request.tags.unwrap_or_default(), &request.resource_arn)
}

pub(super) fn untag_resource(
    engine: &mut Engine,
    request: Resource,
    _now_ms: i64,
) -> Result<Nothing, Refusal> {
    let removed = request.tag_keys.unwrap_or_default();
    resource_tags(engine, &request.resource_arn)?.retain(|key, _| !removed.contains(key));
    Ok(Nothing {})
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ResourceTags {
    tags: Vec<Tag>,
}

pub(super) fn list_tags_for_resource(
    engine: &mut Engine,
    request: Resource,
    _now_ms: i64,
) -> Result<ResourceTags, Refusal> {
    Ok(ResourceTags { tags: tag_list(resource_tags(engine, &request.resource_arn)?) })
}
