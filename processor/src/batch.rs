//! What travels from the reader to the lanes: batches, never single records.
//!
//! `fan_out` makes a [`RawBatch`] of one `SubscribeToShardEvent`, `decode` makes a [`Batch`] of it,
//! and the shard consumer hands it to each lane as a [`LaneBatch`] with an [`Ack`]. Nothing here
//! waits or does I/O.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use lease_manager::{ChildShard, SequenceNumber};
use store::{DeadReason, Entity, IntegrationName, Message, MessageId, Position};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::integration::Integrations;

/// The shard that a batch came from, as every room behind the reader needs to know it.
#[derive(Debug)]
pub(crate) struct ShardContext {
    /// ARN of the stream.
    pub(crate) stream_arn: Arc<str>,
    /// Id of the shard within the stream.
    pub(crate) shard_id: Arc<str>,
    /// ARN of the registered enhanced fan-out consumer.
    pub(crate) consumer_arn: Arc<str>,
    /// Fencing token: the lease counter at acquisition, carried to every sink.
    pub(crate) fence: u64,
    /// First hash key of the shard, inclusive.
    pub(crate) starting_hash_key: u128,
    /// Last hash key of the shard, inclusive.
    pub(crate) ending_hash_key: u128,
}

/// One event of the stream, undecoded: the records are slices of one arena.
#[derive(Debug)]
pub(crate) struct RawBatch {
    pub(crate) shard: Arc<ShardContext>,
    pub(crate) records: Vec<RawRecord>,
    /// Where a subscription goes on after this event; `None` only at the shard's end.
    pub(crate) upto: Option<SequenceNumber>,
    pub(crate) millis_behind_latest: u64,
    /// The shard's children; filled only at the shard's end.
    pub(crate) children: Vec<ChildShard>,
    pub(crate) shard_ended: bool,
    /// Bytes of the event on the wire.
    pub(crate) wire_bytes: usize,
}

/// One Kinesis record: possibly an aggregate of several user records.
#[derive(Debug, Clone)]
pub(crate) struct RawRecord {
    pub(crate) sequence: SequenceNumber,
    pub(crate) partition_key: Arc<str>,
    /// Kinesis's ApproximateArrivalTimestamp, in ms since 1970.
    pub(crate) arrived_at_ms: i64,
    pub(crate) data: Bytes,
}

/// A place within a shard: the record and the user record inside its aggregate (0 if none).
pub(crate) type Place = (SequenceNumber, u32);

/// One event, decoded: the same for both lanes, shared by `Arc`.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) shard: Arc<ShardContext>,
    /// User records in stream order, malformed ones included.
    pub(crate) entries: Vec<Entry>,
    /// Where a subscription goes on after this event; `None` only at the shard's end.
    pub(crate) upto: Option<SequenceNumber>,
    pub(crate) millis_behind_latest: u64,
    pub(crate) children: Vec<ChildShard>,
    pub(crate) shard_ended: bool,
    /// What the batch is charged for against a lane's budget.
    pub(crate) bytes: usize,
}

impl Batch {
    /// The entry's position in its stream, from which its message id is derived.
    pub(crate) fn position(&self, entry: &Entry) -> Position {
        let (sequence, index) = &entry.place;
        Position {
            stream_arn: Arc::clone(&self.shard.stream_arn),
            shard_id: Arc::clone(&self.shard.shard_id),
            sequence: sequence.shared(),
            index: *index,
        }
    }

    /// The entry as both stores and destinations see it; `None` when it is malformed.
    pub(crate) fn message(&self, entry: &Entry, integrations: &Integrations) -> Option<Message> {
        let route = entry.route.as_ref().ok()?;
        let position = self.position(entry);
        Some(Message {
            id: MessageId::derive(&position),
            integration: integrations.get(route.integration).name().clone(),
            entity: route.entity.clone(),
            time_ms: route.time_ms,
            arrived_at_ms: entry.arrived_at_ms,
            position,
            partition_key: Arc::clone(&entry.partition_key),
            payload: entry.payload.clone(),
        })
    }
}

/// One user record.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) place: Place,
    pub(crate) partition_key: Arc<str>,
    pub(crate) arrived_at_ms: i64,
    /// The original bytes, never re-written.
    pub(crate) payload: Bytes,
    pub(crate) route: Result<Route, Malformed>,
}

/// What the configured pointers found in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// Index into the compiled integrations.
    pub(crate) integration: usize,
    pub(crate) entity: Entity,
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
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

impl LaneBatch {
    /// The entries that this lane has still to settle, in stream order.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.batch.entries[first_unsettled(&self.batch.entries, self.skip_to.as_ref())..]
    }
}

/// Index of the first entry behind `skip_to`.
pub(crate) fn first_unsettled(entries: &[Entry], skip_to: Option<&Place>) -> usize {
    skip_to.map_or(0, |skip| entries.partition_point(|e| e.place <= *skip))
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

/// What a lane owes the shard consumer for one batch: each entry settled, exactly once.
///
/// Dropping it before all is settled is a failure that the shard consumer sees
/// ([`AckCell::state`] turns [`AckState::Dropped`]).
#[derive(Debug)]
pub(crate) struct Ack {
    cell: Arc<AckCell>,
}

/// The shard consumer's end of an [`Ack`].
#[derive(Debug)]
pub(crate) struct AckCell {
    outstanding: AtomicUsize,
    dropped: AtomicBool,
    progress: Arc<Notify>,
}

/// How far a lane is with one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AckState {
    /// Some entries are not settled yet.
    Outstanding,
    /// Every entry is settled.
    Settled,
    /// The sink let go of the batch without settling it.
    Dropped,
}

impl Ack {
    /// An acknowledgement of `entries` entries; `progress` is notified when it is settled or dropped.
    pub(crate) fn new(entries: usize, progress: Arc<Notify>) -> (Ack, Arc<AckCell>) {
        let cell = Arc::new(AckCell {
            outstanding: AtomicUsize::new(entries),
            dropped: AtomicBool::new(false),
            progress,
        });
        (Ack { cell: Arc::clone(&cell) }, cell)
    }

    /// `n` more entries are settled in this lane.
    pub(crate) fn settle(&self, n: usize) {
        if n == 0 {
            return;
        }
        let before = self.cell.outstanding.fetch_sub(n, Ordering::AcqRel);
        debug_assert!(before >= n, "settled {n} entries of {before} outstanding");
        if before == n {
            self.cell.progress.notify_one();
        }
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        if self.cell.outstanding.load(Ordering::Acquire) > 0 {
            self.cell.dropped.store(true, Ordering::Release);
            self.cell.progress.notify_one();
        }
    }
}

impl AckCell {
    /// How far the lane is with this batch.
    pub(crate) fn state(&self) -> AckState {
        if self.outstanding.load(Ordering::Acquire) == 0 {
            AckState::Settled
        } else if self.dropped.load(Ordering::Acquire) {
            AckState::Dropped
        } else {
            AckState::Outstanding
        }
    }
}
