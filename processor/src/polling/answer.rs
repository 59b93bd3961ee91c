//! An answer to GetRecords, and what it counts for.

use crate::envelope::{self, Polled};

/// An answer, with nothing borrowed.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) polled: Polled,
    pub(super) wire_bytes: usize,
    /// What the service counts: data and partition keys.
    pub(super) counted_bytes: usize,
}

/// Reads an answer. The error says in words what is wrong with it.
pub(super) fn decode(body: &[u8]) -> Result<Answer, String> {
    let polled = envelope::get_records(body).map_err(|error| error.to_string())?;
    if polled.next_shard_iterator.is_none() && polled.children.is_empty() {
        return Err("neither a next iterator nor child shards".to_owned());
    }
    let counted = polled.records.spans.iter().map(|r| r.data.len() + r.partition_key.len());
    Ok(Answer { counted_bytes: counted.sum(), wire_bytes: body.len(), polled })
}
