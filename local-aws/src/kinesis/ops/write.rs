//! PutRecord and PutRecords. Bodies are parsed and decoded before the engine is entered.

use serde::{Deserialize, Serialize};

use super::request::{Blob, StreamRef, dry_run, stream_requests};
use super::shape::encryption_type;
use super::{json, parse};
use crate::kinesis::Kinesis;
use crate::kinesis::engine::{Engine, NewRecord, Placed, parse_hash_key};
use crate::kinesis::error::Refusal;
use crate::wire::Answer;

/// Records in one PutRecords call.
const MAX_RECORDS: usize = 500;
/// Bytes of data and partition keys in one PutRecords call.
const MAX_REQUEST_BYTES: usize = 10 << 20;
const MAX_KEY_CHARS: usize = 256;

stream_requests! {
    PutRecord {
        data: Blob,
        partition_key: String,
        explicit_hash_key: Option<String>,
        sequence_number_for_ordering: Option<String>,
        dry_run: Option<bool>,
    }
    PutRecords { records: Vec<Entry>, dry_run: Option<bool> }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Entry {
    data: Blob,
    partition_key: String,
    explicit_hash_key: Option<String>,
}

impl Entry {
    fn check(self) -> Result<NewRecord, Refusal> {
        let chars = self.partition_key.chars().count();
        if !(1..=MAX_KEY_CHARS).contains(&chars) {
            return Err(Refusal::constraint(
                "partitionKey",
                &self.partition_key,
                "have length between 1 and 256",
            ));
        }
        let explicit_hash_key = self
            .explicit_hash_key
            .map(|text| {
                parse_hash_key(&text).ok_or_else(|| {
                    Refusal::InvalidArgument(format!(
                        "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {text}"
                    ))
                })
            })
            .transpose()?;
        Ok(NewRecord {
            partition_key: self.partition_key.into(),
            explicit_hash_key,
            data: self.data.0,
        })
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct PutOutput {
    shard_id: String,
    sequence_number: String,
    encryption_type: &'static str,
}

pub(super) fn put_record(kinesis: &Kinesis, body: &[u8]) -> Result<Answer, Refusal> {
    let request: PutRecord = parse(body)?;
    if let Some(sequence) = &request.sequence_number_for_ordering
        && crate::kinesis::engine::SequenceNumber::parse(sequence).is_none()
    {
        return Err(Refusal::InvalidArgument(format!(
            "ExclusiveMinimumSequenceNumber {sequence} is not valid."
        )));
    }
    let record = Entry {
        data: request.data.clone(),
        partition_key: request.partition_key.clone(),
        explicit_hash_key: request.explicit_hash_key.clone(),
    }
    .check()?;
    let (mut outcomes, encrypted) = put(kinesis, request.stream(), vec![record], request.dry_run)?;
    let placed =
        outcomes.pop().ok_or_else(|| Refusal::Internal("a record got no outcome".to_owned()))??;
    json(&PutOutput {
        shard_id: placed.shard_id.to_string(),
        sequence_number: placed.sequence.to_string(),
        encryption_type: encryption_type(encrypted),
    })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct BatchOutput {
    failed_record_count: usize,
    records: Vec<EntryOutput>,
    encryption_type: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase", untagged)]
enum EntryOutput {
    #[serde(rename_all = "PascalCase")]
    Placed { sequence_number: String, shard_id: String },
    #[serde(rename_all = "PascalCase")]
    Refused { error_code: &'static str, error_message: String },
}

pub(super) fn put_records(kinesis: &Kinesis, body: &[u8]) -> Result<Answer, Refusal> {
    let mut request: PutRecords = parse(body)?;
    if !(1..=MAX_RECORDS).contains(&request.records.len()) {
        return Err(Refusal::constraint(
            "records",
            request.records.len(),
            "have length between 1 and 500",
        ));
    }
    let records = std::mem::take(&mut request.records)
        .into_iter()
        .map(Entry::check)
        .collect::<Result<Vec<_>, _>>()?;
    let bytes: usize = records.iter().map(size).sum();
    if bytes > MAX_REQUEST_BYTES {
        return Err(Refusal::InvalidArgument(format!(
            "Records size exceeds 10 MB limit: {bytes} bytes."
        )));
    }
    let (outcomes, encrypted) = put(kinesis, request.stream(), records, request.dry_run)?;
    json(&BatchOutput {
        failed_record_count: outcomes.iter().filter(|outcome| outcome.is_err()).count(),
        records: outcomes
            .into_iter()
            .map(|outcome| match outcome {
                Ok(placed) => EntryOutput::Placed {
                    sequence_number: placed.sequence.to_string(),
                    shard_id: placed.shard_id.to_string(),
                },
                Err(refusal) => EntryOutput::Refused {
                    error_code: refusal.code(),
                    error_message: refusal.message().to_owned(),
                },
            })
            .collect(),
        encryption_type: encryption_type(encrypted),
    })
}

fn size(record: &NewRecord) -> usize {
    record.data.len() + record.partition_key.len()
}

type Outcomes = Vec<Result<Placed, Refusal>>;

/// Puts checked records; whether the stream encrypts comes with the outcomes.
fn put(
    kinesis: &Kinesis,
    stream: StreamRef<'_>,
    records: Vec<NewRecord>,
    dry: Option<bool>,
) -> Result<(Outcomes, bool), Refusal> {
    let (mut engine, now_ms) = kinesis.enter();
    let name = stream.resolve(&engine)?;
    let (most, encrypted) = record_limit(&mut engine, &name, now_ms)?;
    if let Some(large) = records.iter().find(|record| size(record) > most) {
        return Err(Refusal::Validation(format!(
            "1 validation error detected: Value at 'data' failed to satisfy constraint: Member must have length less than or equal to {most}. Found {} bytes of data and partition key.",
            size(large)
        )));
    }
    dry_run(dry)?;
    let outcomes = engine.put_all(&name, records, now_ms)?;
    Ok((outcomes, encrypted))
}

fn record_limit(engine: &mut Engine, name: &str, now_ms: i64) -> Result<(usize, bool), Refusal> {
    let stream = engine.live_stream(name, now_ms)?;
    Ok((stream.max_record_kib as usize * 1024, stream.kms_key.is_some()))
}
