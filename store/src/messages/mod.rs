//! Messages: written by sync-store, read by the API, keyed so that string order is time order.
//!
//! [`MessageStore`] is the door, [`DynamoMessages`] the house behind it. A redelivered record
//! writes the same item again, so storing is effectively once. Nothing here retries for long,
//! batches over time or decides what is kept. Start at [`MessageStore`], then `keys`.

mod arrivals;
mod dynamodb;
mod feed;
pub(crate) mod item;
mod keys;
mod locator;
mod query;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

pub use arrivals::{
    ARRIVALS_KEPT, ARRIVALS_SKEW, ARRIVALS_WITHIN, ArrivalRow, Arrivals, ArrivalsFrom,
    ArrivalsPage, ArrivalsQuery, pack_arrivals,
};
pub use dynamodb::DynamoMessages;
pub use keys::sort_time;
pub(crate) use keys::{Key, sort_key, time_part};
pub use locator::{Cursor, Locator, Locators};

use crate::error::StoreError;
use crate::identity::{Entity, IntegrationName, MessageId, Position};

/// Most messages that one page may hold.
pub const MAX_PAGE: usize = 500;

/// One message, as it was received: the payload is never re-written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its name outside, derived from its position.
    pub id: MessageId,
    /// The integration that recognised it.
    pub integration: IntegrationName,
    /// What it is about.
    pub entity: Entity,
    /// The time it carries, in ms since 1970; its arrival if it carries none.
    pub time_ms: i64,
    /// Kinesis's ApproximateArrivalTimestamp, in ms since 1970.
    pub arrived_at_ms: i64,
    /// Where it stands in its stream.
    pub position: Position,
    /// The partition key it was put with.
    pub partition_key: Arc<str>,
    /// The original bytes.
    pub payload: Bytes,
}

/// A message with what the writer knows of it.
#[derive(Clone, Debug)]
pub struct StoreItem {
    /// What to keep.
    pub message: Message,
    /// How long, counted from its arrival.
    pub retention: Duration,
    /// Fencing token of the lease under which it was read.
    pub fence: u64,
}

/// What became of each item of a `put`, in the order of the batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutReport {
    /// One outcome per item.
    pub outcomes: Vec<PutOutcome>,
}

/// What became of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// It is stored durably.
    Stored,
    /// It may or may not be stored: put it again (that is harmless).
    Retry(RetryReason),
    /// It can never be stored as it is; the text says why. It belongs into the dead letters.
    Rejected(String),
}

/// Why an item has to be put again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetryReason {
    /// The table asked for less.
    Throttled,
    /// The call succeeded, but left this item out.
    Unprocessed,
    /// No certain answer (timeout, 5xx, connection); the text says what was seen.
    Unavailable(String),
    /// The call as a whole was refused for a reason that is not the item's (permissions, missing
    /// table); the text says which. Trying again helps once an operator has changed it.
    Refused(String),
}

impl std::fmt::Display for RetryReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RetryReason::Throttled => f.write_str("throttled"),
            RetryReason::Unprocessed => f.write_str("left out of the call"),
            RetryReason::Unavailable(seen) => write!(f, "no certain answer: {seen}"),
            RetryReason::Refused(why) => write!(f, "refused as set up: {why}"),
        }
    }
}

/// Which end of the time line a page starts at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Newest first.
    #[default]
    Newest,
    /// Oldest first.
    Oldest,
}

/// A question for messages of one entity.
#[derive(Clone, Debug)]
pub struct MessageQuery {
    /// Whose messages.
    pub integration: IntegrationName,
    /// About what.
    pub entity: Entity,
    /// Earliest time, inclusive, in ms since 1970.
    pub from_ms: Option<i64>,
    /// Latest time, exclusive, in ms since 1970.
    pub to_ms: Option<i64>,
    /// Newest or oldest first.
    pub order: Order,
    /// Most messages in the page: 1 to [`MAX_PAGE`].
    pub limit: usize,
    /// Most payload bytes in the page; one message is always given, however large.
    pub max_bytes: usize,
    /// Go on behind this place; its integration, entity and order must be this query's.
    pub after: Option<Cursor>,
    /// The wall clock: what expired before it does not exist, in ms since 1970.
    pub now_ms: i64,
    /// Read strongly consistently, at twice the cost.
    pub consistent: bool,
}

impl MessageQuery {
    /// The newest 50 messages of an entity, up to 4 MiB of payload.
    pub fn new(integration: IntegrationName, entity: Entity, now_ms: i64) -> MessageQuery {
        MessageQuery {
            integration,
            entity,
            from_ms: None,
            to_ms: None,
            order: Order::Newest,
            limit: 50,
            max_bytes: 4 * 1024 * 1024,
            after: None,
            now_ms,
            consistent: false,
        }
    }
}

/// Some messages and where to go on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MessagePage {
    /// In the order asked for. May be shorter than the limit although there are more (`next`).
    pub messages: Vec<Message>,
    /// Where the next page starts; `None` if nothing was left behind this one.
    pub next: Option<Cursor>,
}

/// Where messages are kept: one implementation per kind of store.
pub trait MessageStore: Send + Sync + 'static {
    /// Writes a batch once, without repeating what was not taken. Outcomes are in the batch's order.
    /// Items of the same key are written once and share their outcome.
    fn put<'a>(&'a self, batch: &'a [StoreItem]) -> BoxFuture<'a, PutReport>;

    /// One page of an entity's messages.
    fn query<'a>(
        &'a self,
        query: &'a MessageQuery,
    ) -> BoxFuture<'a, Result<MessagePage, StoreError>>;

    /// The newest message of an entity, by the time it carries.
    fn latest<'a>(
        &'a self,
        integration: &'a IntegrationName,
        entity: &'a Entity,
        now_ms: i64,
        consistent: bool,
    ) -> BoxFuture<'a, Result<Option<Message>, StoreError>>;

    /// The message at a locator; `None` if there is none or it has expired.
    fn get<'a>(
        &'a self,
        locator: &'a Locator,
        now_ms: i64,
        consistent: bool,
    ) -> BoxFuture<'a, Result<Option<Message>, StoreError>>;

    /// The messages at the first of these places, as many as have `max_bytes` of payload together, and one at least:
    /// `None` for one that is not there any more. Shorter than `places`: the rest is to be asked for again.
    fn get_many<'a>(
        &'a self,
        places: &'a [Locator],
        now_ms: i64,
        max_bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<Option<Message>>, StoreError>>;

    /// Notes what was stored, for those who follow integrations: one outcome for each note, in their order.
    fn announce<'a>(&'a self, notes: &'a [Arrivals]) -> BoxFuture<'a, PutReport>;

    /// Some of what was noted.
    fn arrivals<'a>(
        &'a self,
        query: &'a ArrivalsQuery,
    ) -> BoxFuture<'a, Result<ArrivalsPage, StoreError>>;
}
