//! What travels from the reader to the lanes: batches, never single records.
//!
//! A reader makes a [`RawBatch`] of one event (or of one polled answer), `decode` makes a [`Batch`]
//! of it, and the shard consumer hands it to each lane as a [`LaneBatch`] with an [`Ack`]. All that
//! the records carry lies in one arena; an [`Entry`] is plain numbers, and [`Batch`] says what they
//! stand for, so lanes and sinks do not know the layout. Nothing here waits or does I/O.

mod ack;
mod tails;
#[cfg(test)]
pub(crate) mod testing;

pub(crate) use ack::{Ack, AckCell, AckState};
pub(crate) use tails::Tails;

use std::cmp::Ordering as Order;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use lease_manager::{ChildShard, SequenceNumber};
use store::{DeadReason, Entity, IntegrationName, Message, MessageId, Position};
use tokio::time::Instant;

use crate::arena::{Records, Span, append};
use crate::budget::Permit;
use crate::integration::Integrations;

/// The shard that a batch came from, as every room behind the reader needs to know it.
#[derive(Debug)]
pub(crate) struct ShardContext {
    /// ARN of the stream.
    pub(crate) stream_arn: Arc<str>,
    /// Id of the shard within the stream.
    pub(crate) shard_id: Arc<str>,
    /// Fencing token: the lease counter at acquisition, carried to every sink.
    pub(crate) fence: u64,
    /// First hash key of the shard, inclusive.
    pub(crate) starting_hash_key: u128,
    /// Last hash key of the shard, inclusive.
    pub(crate) ending_hash_key: u128,
}

/// One event of the stream, or one polled answer, undecoded.
#[derive(Debug)]
pub(crate) struct RawBatch {
    pub(crate) shard: Arc<ShardContext>,
    pub(crate) records: Records,
    /// Where reading goes on after this event. `None` at the shard's end, and for a polled answer
    /// without records, which says nothing of where it stands.
    pub(crate) upto: Option<SequenceNumber>,
    pub(crate) millis_behind_latest: u64,
    /// The shard's children; filled only at the shard's end.
    pub(crate) children: Vec<ChildShard>,
    pub(crate) shard_ended: bool,
    /// Bytes on the wire.
    pub(crate) wire_bytes: usize,
    /// When the last of them had come.
    pub(crate) received_at: Instant,
    /// The share of the reading budget that is held until the batch is decoded.
    pub(crate) permit: Option<Permit>,
}

/// A place within a shard: the record and the user record inside its aggregate (0 if none).
pub(crate) type Place = (SequenceNumber, u32);

/// A [`Place`] that lies in a batch's arena. Its order is the stream's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlaceRef<'a> {
    sequence: &'a str,
    index: u32,
}

impl PlaceRef<'_> {
    /// The place, on its own.
    #[allow(clippy::expect_used, reason = "sequence numbers are checked when an event is read")]
    pub(crate) fn to_place(self) -> Place {
        let sequence = SequenceNumber::parse(self.sequence);
        (sequence.expect("an arena holds sequence numbers that were checked"), self.index)
    }
}

impl<'a> From<&'a Place> for PlaceRef<'a> {
    fn from((sequence, index): &'a Place) -> PlaceRef<'a> {
        PlaceRef { sequence: sequence.as_str(), index: *index }
    }
}

impl Ord for PlaceRef<'_> {
    fn cmp(&self, other: &Self) -> Order {
        // Without leading zeros the longer number is the larger one.
        let longer = self.sequence.len().cmp(&other.sequence.len());
        longer.then_with(|| self.sequence.cmp(other.sequence)).then(self.index.cmp(&other.index))
    }
}

impl PartialOrd for PlaceRef<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

/// One event, decoded: the same for both lanes, shared by `Arc`.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) shard: Arc<ShardContext>,
    /// What the entries' spans point into.
    pub(crate) arena: Bytes,
    /// User records in stream order, malformed ones included.
    pub(crate) entries: Vec<Entry>,
    /// What [`Found::Malformed`] counts in.
    pub(crate) malformed: Vec<Malformed>,
    /// What nobody has read yet.
    pub(crate) tails: Tails,
    /// As in [`RawBatch::upto`].
    pub(crate) upto: Option<SequenceNumber>,
    pub(crate) millis_behind_latest: u64,
    pub(crate) children: Vec<ChildShard>,
    pub(crate) shard_ended: bool,
    /// When the event had come.
    pub(crate) received_at: Instant,
    /// What the batch is charged for against a lane's budget: about what it holds in memory.
    pub(crate) bytes: usize,
}

/// One user record of a [`Batch`], which says what its spans stand for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) sequence: Span,
    pub(crate) partition_key: Span,
    pub(crate) payload: Span,
    /// Kinesis's ApproximateArrivalTimestamp, in ms since 1970.
    pub(crate) arrived_at_ms: i64,
    /// The user record's index in its aggregate; 0 if there is none.
    pub(crate) index: u32,
    pub(crate) found: Found,
}

/// What the one look into a user record found.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found {
    /// A message, with its route.
    Message {
        /// Index into the compiled integrations.
        integration: u32,
        entity: Span,
        /// When it happened, in ms since 1970.
        time_ms: i64,
        /// All of it was read. Otherwise [`Batch::route`] does.
        is_whole: bool,
    },
    /// Index into [`Batch::malformed`].
    Malformed(u32),
}

/// What the configured pointers found in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route<'a> {
    /// Index into the compiled integrations.
    pub(crate) integration: usize,
    /// Within the limits of [`Entity`].
    pub(crate) entity: &'a str,
    pub(crate) time_ms: i64,
}

/// Why a record is not a message. It goes to the dead letters with its raw bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) reason: DeadReason,
    /// What was found and where, in words.
    pub(crate) detail: String,
    /// Whose dead letters: `default` when the integration is not known.
    pub(crate) integration: IntegrationName,
}

impl Batch {
    /// A batch of one record that is no message, and not of the stream's either.
    pub(crate) fn of_one(
        shard: &Arc<ShardContext>,
        (sequence, index): &Place,
        arrived_at_ms: i64,
        payload: &[u8],
        malformed: Malformed,
    ) -> Batch {
        let mut arena = Vec::new();
        let entry = Entry {
            sequence: append(&mut arena, sequence.as_str().as_bytes()),
            partition_key: Span::default(),
            payload: append(&mut arena, payload),
            arrived_at_ms,
            index: *index,
            found: Found::Malformed(0),
        };
        Batch {
            shard: Arc::clone(shard),
            tails: Tails::new(malformed.integration.clone()),
            bytes: arena.len(),
            arena: Bytes::from(arena),
            entries: vec![entry],
            malformed: vec![malformed],
            upto: None,
            millis_behind_latest: 0,
            children: Vec::new(),
            shard_ended: false,
            received_at: Instant::now(),
        }
    }

    /// Where the entry stands in its shard.
    pub(crate) fn place(&self, entry: &Entry) -> PlaceRef<'_> {
        PlaceRef { sequence: entry.sequence.text(&self.arena), index: entry.index }
    }

    /// The entry's position in its stream, from which its message id is derived.
    pub(crate) fn position(&self, entry: &Entry) -> Position {
        Position {
            stream_arn: Arc::clone(&self.shard.stream_arn),
            shard_id: Arc::clone(&self.shard.shard_id),
            sequence: Arc::from(entry.sequence.text(&self.arena)),
            index: entry.index,
        }
    }

    /// The partition key that the entry was put with.
    pub(crate) fn partition_key(&self, entry: &Entry) -> &str {
        entry.partition_key.text(&self.arena)
    }

    /// The original bytes, never re-written: a slice of the arena, which it keeps alive.
    pub(crate) fn payload(&self, entry: &Entry) -> Bytes {
        self.arena.slice(entry.payload.range())
    }

    /// Where the message belongs, or why the entry is not a message: for all who store or deliver.
    /// The first who asks has all messages of the batch read that routing did not read to their end.
    pub(crate) fn route(&self, entry: &Entry) -> Result<Route<'_>, &Malformed> {
        self.integration(entry)?;
        self.glance(entry)
    }

    /// The same for who needs to know the message's integration alone: index into the compiled ones.
    pub(crate) fn integration(&self, entry: &Entry) -> Result<usize, &Malformed> {
        match (self.tails.broken(self, entry), entry.found) {
            (Some(malformed), _) => Err(malformed),
            (None, Found::Message { integration, .. }) => Ok(integration as usize),
            (None, Found::Malformed(at)) => Err(&self.malformed[at as usize]),
        }
    }

    /// The same, as far as routing has read: what stands behind the fields may be no JSON.
    pub(crate) fn glance(&self, entry: &Entry) -> Result<Route<'_>, &Malformed> {
        match entry.found {
            Found::Message { integration, entity, time_ms, .. } => Ok(Route {
                integration: integration as usize,
                entity: entity.text(&self.arena),
                time_ms,
            }),
            Found::Malformed(at) => Err(&self.malformed[at as usize]),
        }
    }

    /// The entry as both stores and destinations see it; `None` when it is malformed.
    pub(crate) fn message(&self, entry: &Entry, integrations: &Integrations) -> Option<Message> {
        let route = self.route(entry).ok()?;
        let position = self.position(entry);
        Some(Message {
            id: MessageId::derive(&position),
            integration: integrations.get(route.integration).name().clone(),
            entity: Entity::parse(route.entity).ok()?,
            time_ms: route.time_ms,
            arrived_at_ms: entry.arrived_at_ms,
            position,
            partition_key: Arc::from(self.partition_key(entry)),
            payload: self.payload(entry),
        })
    }

    /// Index of the first entry behind `skip_to`.
    pub(crate) fn first_unsettled(&self, skip_to: Option<&Place>) -> usize {
        let Some(skip) = skip_to.map(PlaceRef::from) else { return 0 };
        self.entries.partition_point(|entry| self.place(entry) <= skip)
    }
}

/// A batch in the hands of one lane, charged to that lane's budget until it is dropped.
#[derive(Debug)]
pub(crate) struct LaneBatch {
    pub(crate) batch: Arc<Batch>,
    /// Entries at or before this place were settled in this lane by an earlier owner.
    pub(crate) skip_to: Option<Place>,
    pub(crate) ack: Ack,
    /// True while the shard's lease can be trusted: checked before every attempt.
    pub(crate) lease: LeaseCheck,
    /// The lane's share of the budget; given back when the sink lets go of the batch.
    #[allow(dead_code, reason = "held until it is dropped")]
    pub(crate) permit: Option<Permit>,
}

impl LaneBatch {
    /// The entries that this lane has still to settle, in stream order.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.batch.entries[self.batch.first_unsettled(self.skip_to.as_ref())..]
    }
}

/// Answers whether the shard's lease can still be trusted: asked before every attempt.
#[derive(Clone)]
pub(crate) struct LeaseCheck {
    valid: Arc<dyn Fn() -> bool + Send + Sync>,
    lost: Arc<AtomicBool>,
}

impl LeaseCheck {
    /// A check that asks `valid` each time.
    pub(crate) fn new(valid: impl Fn() -> bool + Send + Sync + 'static) -> LeaseCheck {
        LeaseCheck { valid: Arc::new(valid), lost: Arc::new(AtomicBool::new(false)) }
    }

    /// False once another worker may own the shard: hold, and attempt nothing.
    pub(crate) fn is_valid(&self) -> bool {
        !self.is_lost() && (self.valid)()
    }

    /// True once the loss is proven: let go of the work, its new owner does it.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// The shard consumer learnt that the lease is another worker's.
    pub(crate) fn mark_lost(&self) {
        self.lost.store(true, Ordering::Release);
    }
}

impl std::fmt::Debug for LeaseCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LeaseCheck {{ valid: {}, lost: {} }}", self.is_valid(), self.is_lost())
    }
}
