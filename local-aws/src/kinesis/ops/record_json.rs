//! Writes what readers get: records and children, straight into the buffer of the answer.
//!
//! By hand because it is the one hot place here: data goes from the stored bytes to base64 in the answer without a copy between.

use std::io::Write;

use super::shape::ChildShape;
use crate::kinesis::engine::{Page, Record};
use crate::kinesis::error::Refusal;

/// JSON around one record's data and key.
const RECORD_OVERHEAD: usize = 200;

/// Room that a page takes as JSON.
pub(super) fn room_for(page: &Page) -> usize {
    let records = page.records.iter();
    records
        .map(|record| record.data.len() / 3 * 4 + 4 + record.partition_key.len() + RECORD_OVERHEAD)
        .sum::<usize>()
        + 512
}

/// Writes `"Records":[..],"MillisBehindLatest":n`, and the children when there are any.
pub(super) fn write_page(
    out: &mut Vec<u8>,
    page: &Page,
    children: &[ChildShape],
) -> Result<(), Refusal> {
    out.extend_from_slice(b"\"Records\":[");
    for (index, record) in page.records.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_record(out, record).map_err(not_json)?;
    }
    write!(out, "],\"MillisBehindLatest\":{}", page.behind_ms).map_err(not_json)?;
    if !children.is_empty() {
        out.extend_from_slice(b",\"ChildShards\":");
        serde_json::to_writer(&mut *out, children).map_err(not_json)?;
    }
    Ok(())
}

fn write_record(out: &mut Vec<u8>, record: &Record) -> std::io::Result<()> {
    let (seconds, millis) = (record.arrived_at_ms / 1000, record.arrived_at_ms % 1000);
    write!(
        out,
        "{{\"SequenceNumber\":\"{}\",\"ApproximateArrivalTimestamp\":{seconds}.{millis:03},\"Data\":\"",
        record.sequence
    )?;
    base64_simd::STANDARD.encode_append(&record.data, out);
    out.extend_from_slice(b"\",\"PartitionKey\":");
    serde_json::to_writer(&mut *out, &*record.partition_key)?;
    if record.encrypted {
        out.extend_from_slice(b",\"EncryptionType\":\"KMS\"");
    }
    out.push(b'}');
    Ok(())
}

fn not_json(error: impl std::fmt::Display) -> Refusal {
    Refusal::Internal(format!("a page of records cannot be written: {error}"))
}
