//! Batches as tests want them, without an event to decode.

use std::sync::Arc;

use tokio::time::Instant;

use bytes::Bytes;
use lease_manager::SequenceNumber;
use store::IntegrationName;

use super::{Batch, Entry, Found, Malformed, ShardContext, Tails};
use crate::arena::append;

/// Puts a batch together, entry by entry.
pub(crate) struct BatchBuilder {
    batch: Batch,
    arena: Vec<u8>,
}

/// Where an entry of the batch stands, under which key, and when it came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) sequence: &'a str,
    pub(crate) index: u32,
    pub(crate) partition_key: &'a str,
    pub(crate) arrived_at_ms: i64,
}

impl BatchBuilder {
    pub(crate) fn new(shard: ShardContext) -> BatchBuilder {
        BatchBuilder {
            batch: Batch {
                shard: Arc::new(shard),
                arena: Bytes::new(),
                entries: Vec::new(),
                malformed: Vec::new(),
                tails: Tails::new(IntegrationName::parse("default").unwrap()),
                upto: None,
                millis_behind_latest: 0,
                children: Vec::new(),
                shard_ended: false,
                received_at: Instant::now(),
                bytes: 0,
            },
            arena: Vec::new(),
        }
    }

    /// Adds a message of the first integration.
    pub(crate) fn message(&mut self, at: At<'_>, payload: &[u8], entity: &str, time_ms: i64) {
        let entity = append(&mut self.arena, entity.as_bytes());
        self.entry(at, payload, Found::Message { integration: 0, entity, time_ms, is_whole: true });
    }

    /// Adds a record that is not a message.
    pub(crate) fn malformed(&mut self, at: At<'_>, payload: &[u8], malformed: Malformed) {
        let found = Found::Malformed(self.batch.malformed.len() as u32);
        self.batch.malformed.push(malformed);
        self.entry(at, payload, found);
    }

    fn entry(&mut self, at: At<'_>, payload: &[u8], found: Found) {
        let arena = &mut self.arena;
        self.batch.entries.push(Entry {
            sequence: append(arena, at.sequence.as_bytes()),
            partition_key: append(arena, at.partition_key.as_bytes()),
            payload: append(arena, payload),
            arrived_at_ms: at.arrived_at_ms,
            index: at.index,
            found,
        });
    }

    /// The batch, up to `upto`, charged with `bytes`.
    pub(crate) fn build(self, upto: Option<SequenceNumber>, bytes: usize) -> Batch {
        Batch { arena: Bytes::from(self.arena), upto, bytes, ..self.batch }
    }
}
