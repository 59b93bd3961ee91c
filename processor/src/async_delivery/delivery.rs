//! What travels to a destination's lane: one message of a live batch, or one parked delivery.
//!
//! A live delivery shares its batch with all others of it ([`Track`]); the batch is acknowledged when
//! the last of them is settled. Letting go of a delivery without settling it leaves the batch
//! unacknowledged, so nothing can be lost by forgetting.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use store::{
    ChainKey, ChainedDelivery, Entity, Message, MessageId, ParkedDelivery, SubscriptionId,
};
use tokio::sync::Notify;

use crate::batch::{Batch, Entry, LaneBatch, LeaseCheck, Place, ShardContext};
use crate::integration::Integrations;

use super::lane::Retry;
use super::mandate::Mandate;
use super::ranges::Receipt;

/// How many batches are in this room's hands.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    count: AtomicUsize,
    changed: Notify,
}

impl Gauge {
    /// Completes when no batch is left.
    pub(super) async fn emptied(&self) {
        loop {
            let changed = self.changed.notified();
            if self.count() == 0 {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }
}

/// One batch until all its deliveries are settled.
#[derive(Debug)]
pub(super) struct Track {
    lane_batch: LaneBatch,
    integrations: Arc<Integrations>,
    /// Deliveries that are not settled, and one for the router while it may still add some.
    open: AtomicUsize,
    gauge: Arc<Gauge>,
}

impl Track {
    /// Takes a batch in; the caller holds it open until [`Track::release`].
    pub(super) fn new(
        lane_batch: LaneBatch,
        integrations: &Arc<Integrations>,
        gauge: &Arc<Gauge>,
    ) -> Arc<Track> {
        gauge.count.fetch_add(1, Ordering::AcqRel);
        Arc::new(Track {
            lane_batch,
            integrations: Arc::clone(integrations),
            open: AtomicUsize::new(1),
            gauge: Arc::clone(gauge),
        })
    }

    /// What the entries mean.
    pub(super) fn batch(&self) -> &Batch {
        &self.lane_batch.batch
    }

    /// The entries to settle, in stream order.
    pub(super) fn entries(&self) -> &[Entry] {
        self.lane_batch.entries()
    }

    /// The shard is another worker's: let go.
    pub(super) fn is_lost(&self) -> bool {
        self.lane_batch.lease.is_lost()
    }

    /// A delivery of the entry at `index` of [`entries`](Self::entries).
    pub(super) fn delivery(self: &Arc<Self>, index: usize) -> Live {
        self.open.fetch_add(1, Ordering::AcqRel);
        Live { track: Arc::clone(self), index, receipt: None }
    }

    /// The same of a batch that was read for a range, which the receipt is from.
    pub(super) fn replayed(self: &Arc<Self>, index: usize, receipt: Receipt) -> Live {
        Live { receipt: Some(receipt), ..self.delivery(index) }
    }

    /// The router is done with this batch.
    pub(super) fn release(&self) {
        self.close_one();
    }

    fn close_one(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.lane_batch.ack.settle(self.entries().len());
        }
    }
}

impl Drop for Track {
    fn drop(&mut self) {
        self.gauge.count.fetch_sub(1, Ordering::AcqRel);
        self.gauge.changed.notify_waiters();
    }
}

/// One message of a batch, on its way to one destination.
#[derive(Debug)]
pub(super) struct Live {
    track: Arc<Track>,
    index: usize,
    /// It was read for an open range: unsettled, it goes back there.
    receipt: Option<Receipt>,
}

/// A look at a live delivery that is in other hands: what it is of, and no right to settle it.
#[derive(Debug, Clone)]
pub(super) struct Glimpse {
    track: Arc<Track>,
    index: usize,
}

impl Glimpse {
    /// The delivery as [`Live::parked`] has it.
    pub(super) fn parked(
        &self,
        subscription: &SubscriptionId,
        now_ms: i64,
        error: String,
    ) -> Option<ParkedDelivery> {
        // Nothing is opened and nothing settled by this one: it only reads.
        let live = Live { track: Arc::clone(&self.track), index: self.index, receipt: None };
        live.parked(subscription, 0, now_ms, now_ms, error)
    }
}

impl Live {
    pub(super) fn glimpse(&self) -> Glimpse {
        Glimpse { track: Arc::clone(&self.track), index: self.index }
    }

    /// Where it stands in its shard.
    pub(super) fn place(&self) -> Place {
        let batch = self.track.batch();
        batch.place(&self.track.entries()[self.index]).to_place()
    }

    /// Delivered, parked or dead-lettered: nothing more is owed for it.
    pub(super) fn settle(self) {
        if let Some(receipt) = self.receipt {
            receipt.settle();
        }
        self.track.close_one();
    }

    /// It was read for an open range: let go of, it is handed out again later.
    pub(super) fn is_of_range(&self) -> bool {
        self.receipt.is_some()
    }

    /// One before it went back to its range, and so has this one to.
    pub(super) fn is_recalled(&self) -> bool {
        self.receipt.as_ref().is_some_and(Receipt::is_recalled)
    }

    /// An attempt failed, and it goes back to its range.
    pub(super) fn fail(self) {
        if let Some(receipt) = self.receipt {
            receipt.fail();
        }
    }

    /// The shard that it comes from.
    pub(super) fn shard(&self) -> &Arc<ShardContext> {
        &self.track.batch().shard
    }

    pub(super) fn is_of(&self, track: &Arc<Track>) -> bool {
        Arc::ptr_eq(&self.track, track)
    }

    pub(super) fn arrived_at_ms(&self) -> i64 {
        self.track.entries()[self.index].arrived_at_ms
    }

    pub(super) fn lease_is_valid(&self) -> bool {
        self.track.lane_batch.lease.is_valid()
    }

    pub(super) fn lease_is_lost(&self) -> bool {
        self.track.is_lost()
    }

    /// The message's id; `None` if the entry is malformed, as in `message`.
    pub(super) fn id(&self) -> Option<MessageId> {
        self.message().map(|message| message.id)
    }

    pub(super) fn lease(&self) -> &LeaseCheck {
        &self.track.lane_batch.lease
    }

    /// What its group is told by.
    pub(super) fn partition_key(&self) -> &str {
        self.track.batch().partition_key(&self.track.entries()[self.index])
    }

    fn fence(&self) -> u64 {
        self.track.batch().shard.fence
    }

    /// The message; `None` if the entry is malformed, which the router never lets through.
    fn message(&self) -> Option<Message> {
        let batch = self.track.batch();
        batch.message(&self.track.entries()[self.index], &self.track.integrations)
    }

    fn is_within(&self, mandate: &Mandate) -> bool {
        let entry = &self.track.entries()[self.index];
        let Ok(route) = self.track.batch().route(entry) else { return false };
        let integration = self.track.integrations.get(route.integration).name();
        if mandate.sees_whole_entities(integration) {
            Entity::parse(route.entity).is_ok_and(|entity| mandate.allows(integration, &entity))
        } else {
            self.message().and_then(|message| mandate.view(message)).is_some()
        }
    }

    /// The delivery as it is parked, due at `due_at_ms`.
    pub(super) fn parked(
        &self,
        subscription: &SubscriptionId,
        attempts: u32,
        now_ms: i64,
        due_at_ms: i64,
        error: String,
    ) -> Option<ParkedDelivery> {
        Some(ParkedDelivery {
            subscription: subscription.clone(),
            message: self.message()?,
            attempts,
            first_failed_at_ms: now_ms,
            due_at_ms,
            last_error: error,
            fence: self.fence(),
        })
    }
}

/// A message that is attempted when what comes before it in its group has ended.
#[derive(Debug)]
pub(super) struct InOrder {
    pub(super) key: ChainKey,
    /// Attempts made before.
    pub(super) attempts: u32,
    pub(super) source: Source,
}

/// Where a message that is in order comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// From the stream, now.
    Stream(Live),
    /// From a chain whose first message it is.
    Chain(Box<ChainedDelivery>, Turn),
}

/// Which reading of its chain a message is of: the outcome of an earlier one moves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Turn(pub(super) u64);

/// What a lane works on.
#[derive(Debug)]
pub(super) enum Delivery {
    /// From the stream, now.
    Live(Live),
    /// Parked before, claimed by this worker.
    Retry(Retry),
    /// One of a subscription that asks for an order.
    InOrder(InOrder),
}

/// What a lane works on, by where it comes from.
enum Origin<'a> {
    Live(&'a Live),
    Parked(&'a ParkedDelivery),
}

impl Delivery {
    fn source(&self) -> Origin<'_> {
        match self {
            Delivery::Live(live) => Origin::Live(live),
            Delivery::Retry(retry) => Origin::Parked(&retry.claimed.delivery),
            Delivery::InOrder(InOrder { source: Source::Stream(live), .. }) => Origin::Live(live),
            Delivery::InOrder(InOrder { source: Source::Chain(chained, _), .. }) => {
                Origin::Parked(&chained.delivery)
            }
        }
    }

    /// The live delivery that it is, if it comes from the stream.
    pub(super) fn live(&self) -> Option<&Live> {
        match self.source() {
            Origin::Live(live) => Some(live),
            Origin::Parked(_) => None,
        }
    }

    /// The same, taken out.
    pub(super) fn into_stream(self) -> Option<Live> {
        match self {
            Delivery::Live(live)
            | Delivery::InOrder(InOrder { source: Source::Stream(live), .. }) => Some(live),
            Delivery::Retry(_) | Delivery::InOrder(_) => None,
        }
    }

    fn message(&self) -> Option<Message> {
        match self.source() {
            Origin::Live(live) => live.message(),
            Origin::Parked(parked) => Some(parked.message.clone()),
        }
    }

    /// The id of its message.
    pub(super) fn message_id(&self) -> Option<MessageId> {
        match self.source() {
            Origin::Live(live) => live.id(),
            Origin::Parked(parked) => Some(parked.message.id.clone()),
        }
    }

    /// It was read for an open range: let go of, it is handed out again later.
    pub(super) fn is_of_range(&self) -> bool {
        matches!(self, Delivery::Live(live) if live.is_of_range())
    }

    /// The message as it leaves: what the subscription's owner is granted of it.
    pub(super) fn view(&self, mandate: &Mandate) -> Option<Message> {
        self.message().and_then(|message| mandate.view(message))
    }

    /// The subscription's owner is granted its message.
    pub(super) fn is_within(&self, mandate: &Mandate) -> bool {
        match self.source() {
            Origin::Live(live) => live.is_within(mandate),
            Origin::Parked(ParkedDelivery { message, .. }) => {
                if mandate.sees_whole_entities(&message.integration) {
                    mandate.allows(&message.integration, &message.entity)
                } else {
                    mandate.view(message.clone()).is_some()
                }
            }
        }
    }

    /// What it is in order with, if it is.
    pub(super) fn group(&self) -> Option<&ChainKey> {
        match self {
            Delivery::InOrder(in_order) => Some(&in_order.key),
            Delivery::Live(_) | Delivery::Retry(_) => None,
        }
    }

    /// Attempts made before.
    pub(super) fn attempts(&self) -> u32 {
        match self {
            Delivery::Live(_) => 0,
            Delivery::Retry(retry) => retry.claimed.delivery.attempts,
            Delivery::InOrder(in_order) => in_order.attempts,
        }
    }
}
