//! What clients publish, as values: the door behind which messages go on their way ([`Publisher`], the app's),
//! what became of them, and how much may be under way. Knows neither HTTP nor what carries messages.
//!
//! A batch is looked into whole ([`plan()`]) before anything of it is sent.

mod plan;

use std::sync::Arc;

use aws_smithy_async::time::SharedTimeSource;
use axum::body::Bytes;
use futures::future::BoxFuture;
use store::{Entity, IntegrationName, MessageId, RequestStore};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

pub(crate) use plan::{Asked, BadMessage, Line, plan};

/// Characters that a partition key may have.
pub(crate) const MAX_KEY_CHARS: usize = 256;
/// Messages of one request at most, whatever is configured.
pub(crate) const MAX_MESSAGES: usize = 500;
/// What the room for bodies is counted in.
const UNIT_BYTES: u64 = 1024;

/// Puts messages on their way to where integrations are read from. The app makes it.
pub trait Publisher: Send + Sync + 'static {
    /// It has a way for messages of this integration.
    fn takes(&self, integration: &IntegrationName) -> bool;

    /// Looks into a message as those who read it later will: whose it is, under this partition key.
    fn examine(
        &self,
        integration: &IntegrationName,
        partition_key: Option<&str>,
        payload: &[u8],
    ) -> Result<Entity, Unfit>;

    /// Sends messages, and says by `deadline` what became of each, in their order. Its work ends with it:
    /// a future that is dropped leaves the outcome unknown.
    fn publish<'a>(
        &'a self,
        integration: &'a IntegrationName,
        messages: Vec<Outgoing>,
        deadline: Instant,
    ) -> BoxFuture<'a, Vec<Outcome>>;
}

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Messages of one key come in order: 1 to 256 characters.
    pub partition_key: String,
    /// One JSON document.
    pub payload: Bytes,
}

/// Why a message is none of the integration that it was published to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is not one JSON document in UTF-8; what was found instead.
    NotJson(String),
    /// The rules of this integration do not take it.
    Elsewhere,
    /// They do, and something in it is missing or wrong; in words.
    Malformed(String),
    /// Its entity would be the partition key, which was not given.
    NoKey,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is on its way, durably.
    Taken(Taken),
    /// It is not, or that is not known.
    Refused(Refusal),
}

/// Where a message stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The id under which readers will see it.
    pub id: MessageId,
    /// The shard that took it.
    pub shard_id: String,
    /// Its place there; grows within a shard.
    pub sequence_number: String,
    /// An earlier try got no answer: it may be there twice.
    pub may_be_duplicate: bool,
}

/// Why a message was not taken, as far as its client may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// More comes for its key than can be taken at the moment.
    Throttled,
    /// It was turned away for a moment.
    Unavailable,
    /// There was no answer: it may have been taken.
    Unknown,
    /// There was no time left to send it.
    NotSent,
    /// It cannot be taken as things are set up; the log says why.
    Rejected,
}

impl Refusal {
    /// A short name.
    pub fn code(self) -> &'static str {
        match self {
            Refusal::Throttled => "throttled",
            Refusal::Unavailable => "unavailable",
            Refusal::Unknown => "unknown",
            Refusal::NotSent => "not-sent",
            Refusal::Rejected => "rejected",
        }
    }

    /// The same in words.
    pub(crate) fn detail(self) -> &'static str {
        match self {
            Refusal::Throttled => "not taken: more comes for this key than the stream takes now",
            Refusal::Unavailable => "not taken: the stream turned it away for a moment",
            Refusal::Unknown => {
                "no answer in time: it may have been taken, and may come twice if it is published again"
            }
            Refusal::NotSent => "not sent: the request's time was over before",
            Refusal::Rejected => "not taken: the stream cannot take it as the platform is set up",
        }
    }

    /// Publishing it again may help.
    pub fn is_retryable(self) -> bool {
        self != Refusal::Rejected
    }

    /// It may be on its way all the same.
    pub fn may_have_been_taken(self) -> bool {
        self == Refusal::Unknown
    }
}

/// How much may be published, in one request and by all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishLimits {
    /// Messages of one request, up to 500.
    pub max_messages: usize,
    /// A request's body, in bytes.
    pub max_body_bytes: u64,
    /// One message with its partition key, in bytes.
    pub max_message_bytes: usize,
    /// All bodies that are in work in this process, in bytes; more are answered 503.
    pub max_in_work_bytes: u64,
}

impl Default for PublishLimits {
    fn default() -> Self {
        Self {
            max_messages: MAX_MESSAGES,
            max_body_bytes: 10 * 1024 * 1024,
            max_message_bytes: 1024 * 1024,
            max_in_work_bytes: 64 * 1024 * 1024,
        }
    }
}

impl PublishLimits {
    /// What is wrong with them, in words.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !(1..=MAX_MESSAGES).contains(&self.max_messages) {
            let found = self.max_messages;
            return Err(format!(
                "limits.publish.max_messages: found {found}, allowed is 1 to {MAX_MESSAGES}"
            ));
        }
        let least = self.max_body_bytes.max(1);
        if self.max_body_bytes == 0 || self.max_message_bytes == 0 || self.max_in_work_bytes < least
        {
            return Err(format!(
                "limits.publish: found {self:?}, allowed is 1 or more, and max_in_work_bytes of at least max_body_bytes"
            ));
        }
        Ok(())
    }
}

/// What the routes have for publishing, if there is a way at all.
pub(crate) struct Publishing {
    pub(crate) publisher: Arc<dyn Publisher>,
    /// Requests that were made under a key.
    pub(crate) requests: RequestStore,
    pub(crate) time: SharedTimeSource,
    pub(crate) limits: PublishLimits,
    /// Room for bodies, in units of [`UNIT_BYTES`].
    room: Arc<Semaphore>,
}

impl Publishing {
    pub(crate) fn new(
        publisher: Arc<dyn Publisher>,
        requests: RequestStore,
        time: SharedTimeSource,
        limits: PublishLimits,
    ) -> Self {
        let room = Arc::new(Semaphore::new(units(limits.max_in_work_bytes) as usize));
        Self { publisher, requests, time, limits, room }
    }

    /// Room for a body of which so much was announced, if there is any; kept until the messages are settled.
    pub(crate) fn room(&self, announced: Option<u64>) -> Option<OwnedSemaphorePermit> {
        let bytes = announced.unwrap_or(self.limits.max_body_bytes).min(self.limits.max_body_bytes);
        Arc::clone(&self.room).try_acquire_many_owned(units(bytes)).ok()
    }
}

/// Whole units, rounded up; at least one.
fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES).max(1)).unwrap_or(u32::MAX)
}
