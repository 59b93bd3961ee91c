//! Answers' shapes that several operations share.

use serde::{Serialize, Serializer};

use crate::kinesis::engine::{HashRange, Mode, Shard, shard_id};

/// A time as the wire has it: seconds with milliseconds behind the point.
#[derive(Debug, Clone, Copy)]
pub(super) struct WireTime(pub(super) i64);

impl Serialize for WireTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0 as f64 / 1000.0)
    }
}

/// A range of hash keys; decimal strings.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HashKeyRange {
    starting_hash_key: String,
    ending_hash_key: String,
}

impl From<HashRange> for HashKeyRange {
    fn from(range: HashRange) -> Self {
        Self { starting_hash_key: range.start.to_string(), ending_hash_key: range.end.to_string() }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct SequenceNumberRange {
    starting_sequence_number: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ending_sequence_number: Option<String>,
}

/// A shard as lists and descriptions show it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ShardShape {
    shard_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_shard_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adjacent_parent_shard_id: Option<String>,
    hash_key_range: HashKeyRange,
    sequence_number_range: SequenceNumberRange,
}

impl From<&Shard> for ShardShape {
    fn from(shard: &Shard) -> Self {
        Self {
            shard_id: shard.id.to_string(),
            parent_shard_id: shard.parents.parent.map(shard_id),
            adjacent_parent_shard_id: shard.parents.adjacent.map(shard_id),
            hash_key_range: shard.range.into(),
            sequence_number_range: SequenceNumberRange {
                starting_sequence_number: shard.starting().to_string(),
                ending_sequence_number: shard
                    .closed
                    .as_ref()
                    .map(|closed| closed.ending.to_string()),
            },
        }
    }
}

/// A child as the reader of its parent learns of it at the parent's end.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ChildShape {
    shard_id: String,
    parent_shards: Vec<String>,
    hash_key_range: HashKeyRange,
}

impl From<&Shard> for ChildShape {
    fn from(shard: &Shard) -> Self {
        let parents = [shard.parents.parent, shard.parents.adjacent];
        Self {
            shard_id: shard.id.to_string(),
            parent_shards: parents.into_iter().flatten().map(shard_id).collect(),
            hash_key_range: shard.range.into(),
        }
    }
}

/// `StreamModeDetails`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ModeDetails {
    stream_mode: &'static str,
}

impl From<Mode> for ModeDetails {
    fn from(mode: Mode) -> Self {
        Self { stream_mode: mode.as_str() }
    }
}

/// `EnhancedMonitoring`: never on here.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct EnhancedMetrics {
    shard_level_metrics: [&'static str; 0],
}

impl EnhancedMetrics {
    pub(super) const NONE: [Self; 1] = [Self { shard_level_metrics: [] }];
}

/// The `EncryptionType` of a stream or a record.
pub(super) fn encryption_type(encrypted: bool) -> &'static str {
    if encrypted { "KMS" } else { "NONE" }
}
