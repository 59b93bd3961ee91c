//! Deliveries that wait for another attempt, and what was given up for good.
//!
//! A parked delivery is one item whose key does not depend on when it is due: parking the same
//! message for the same subscription again finds the same item, so a redelivered record never makes
//! a second delivery. The schedule lives in an index (`byDue`) whose sort value a claim moves
//! behind its own end: what is claimed is not due, and what a dead worker claimed becomes due again
//! by itself. What a destination lacks of a shard can be kept as one open range (`ranges`). Nothing here sends anything or decides when to try again (`retry_delay` does).
//! Start at [`DeliveryStore`].

mod attempts;
mod chain_item;
#[cfg(test)]
mod chain_tests;
mod chains;
mod closings;
mod dead;
mod dead_item;
mod fate;
mod given_up;
mod health;
mod keys;
mod leftovers;
mod lookup;
mod marks;
mod parked_item;
mod parking;
mod range_item;
mod ranges;
mod schedule;
mod tenure;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use attempts::{ATTEMPT_RETENTION, AttemptRecord};
pub use chains::{
    CHAIN_WRITES, Chain, ChainHead, ChainKey, ChainPage, ChainWrite, ChainedDelivery, write_target,
};
pub use closings::ClosedRange;
pub use fate::{DeliveryCase, DeliveryFate};
pub use given_up::{GivenUp, GivenUpPage};
pub(crate) use keys::{BUCKET, BY_DUE, BY_SUBSCRIPTION, SUBSCRIPTION, SUMMARY, VISIBLE_AT};
pub use keys::{DUE_BUCKETS, due_bucket};
pub use lookup::Trace;
pub use marks::{MARK_RETENTION, Mark};
pub use parking::DeliveryStore;
pub use ranges::{AdriftRange, Holder, OpenRange, RANGE_BUCKETS, RangeKey, RangeStart};
pub use tenure::Tenure;

use crate::identity::{Entity, IntegrationName, MessageId, Position};
use crate::messages::Message;
use crate::subscriptions::SubscriptionId;

/// How long a dead letter is kept, from its last writing.
pub const DEAD_LETTER_RETENTION: Duration = Duration::from_secs(14 * 24 * 3_600);

/// A delivery that failed and waits for its next attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedDelivery {
    /// For whom.
    pub subscription: SubscriptionId,
    /// What.
    pub message: Message,
    /// Attempts made so far.
    pub attempts: u32,
    /// When the first attempt failed (or would have been made), in ms since 1970.
    pub first_failed_at_ms: i64,
    /// When the next attempt is due, in ms since 1970.
    pub due_at_ms: i64,
    /// What the last attempt met, in words; cut at 1,000 characters.
    pub last_error: String,
    /// Fencing token of the lease under which the message was read.
    pub fence: u64,
}

impl ParkedDelivery {
    /// The key it is parked under.
    pub fn key(&self) -> DeliveryKey {
        DeliveryKey { subscription: self.subscription.clone(), message: self.message.id.clone() }
    }
}

/// What identifies a parked delivery: one message for one subscription.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryKey {
    /// For whom.
    pub subscription: SubscriptionId,
    /// What.
    pub message: MessageId,
}

/// How a delivery came to be parked. Both mean: it is parked durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parked {
    /// By this call.
    New,
    /// By an earlier one; its attempts and schedule stand.
    Already,
}

/// A parked delivery that is due; claim it before working on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueDelivery {
    /// Which.
    pub key: DeliveryKey,
    /// Since when, in ms since 1970.
    pub due_at_ms: i64,
}

/// The right to attempt one parked delivery until it ends. Given back by `settle` or `reschedule`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which delivery.
    pub key: DeliveryKey,
    /// Who may attempt it.
    pub worker: String,
    /// Until when, in ms since 1970: behind this another worker may claim it.
    pub until_ms: i64,
    /// What no other claim has: proves this one.
    pub(crate) token: String,
    /// Where its payload's parts are, if it has any.
    pub(crate) parts: Option<crate::parts::PartsRef>,
}

/// A claimed delivery, read back whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedDelivery {
    /// The right to attempt it.
    pub claim: Claim,
    /// What to attempt.
    pub delivery: ParkedDelivery,
}

/// How far `make_due` got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MadeDue {
    /// Deliveries that are due now and were not before.
    pub made: usize,
    /// True if more may be waiting: call again.
    pub more: bool,
}

/// How many deliveries are parked for a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParkedCount {
    /// The count, at most the cap asked for.
    pub count: usize,
    /// False if there are more than the count says.
    pub complete: bool,
}

/// One line of a list of parked deliveries, without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedSummary {
    /// Which.
    pub key: DeliveryKey,
    /// The integration of its message.
    pub integration: IntegrationName,
    /// What its message is about.
    pub entity: Entity,
    /// Attempts made so far.
    pub attempts: u32,
    /// When the first attempt failed, in ms since 1970.
    pub first_failed_at_ms: i64,
    /// When the next attempt is due, in ms since 1970.
    pub due_at_ms: i64,
    /// What the last attempt met.
    pub last_error: String,
}

/// Some parked deliveries, the one due first in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedPage {
    /// The lines.
    pub deliveries: Vec<ParkedSummary>,
    /// Opaque; pass it to get the next page. `None` at the end.
    pub next: Option<String>,
}

/// A message that could not be processed, with its raw payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Whose dead letters it goes to.
    pub integration: IntegrationName,
    /// Why, as a code.
    pub reason: DeadReason,
    /// Why, in words; cut at 1,000 characters.
    pub detail: String,
    /// Where it stands in its stream.
    pub position: Position,
    /// The partition key it was put with.
    pub partition_key: Arc<str>,
    /// When it arrived, in ms since 1970.
    pub arrived_at_ms: i64,
    /// Fencing token of the lease under which it was read.
    pub fence: u64,
    /// Attempts made.
    pub attempts: u32,
    /// The raw bytes.
    pub payload: Bytes,
    /// The subscription whose delivery was given up; `None` if the message itself was.
    pub subscription: Option<SubscriptionId>,
    /// When it was given up, in ms since 1970.
    pub at_ms: i64,
}

/// Which dead letters are meant: those for which everything holds that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// Given up for one of these; none: for any.
    pub reasons: Vec<DeadReason>,
    /// Deliveries to this subscription.
    pub subscription: Option<SubscriptionId>,
    /// Given up then or later, in ms since 1970.
    pub since_ms: Option<i64>,
    /// Of this message.
    pub message: Option<MessageId>,
}

impl DeadLetterFilter {
    /// Whether this one is meant.
    pub fn takes(&self, letter: &DeadLetter) -> bool {
        (self.reasons.is_empty() || self.reasons.contains(&letter.reason))
            && self.since_ms.is_none_or(|since| letter.at_ms >= since)
            && self.subscription.as_ref().is_none_or(|id| letter.subscription.as_ref() == Some(id))
            && self.message.as_ref().is_none_or(|id| *id == MessageId::derive(&letter.position))
    }
}

/// Some dead letters, the newest arrival first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterPage {
    /// The letters, whole.
    pub letters: Vec<DeadLetter>,
    /// Opaque; pass it to get the next page. `None` at the end.
    pub next: Option<String>,
}

macro_rules! dead_reasons {
    ($($(#[$doc:meta])* $name:ident => $code:literal),+ $(,)?) => {
        /// Why a message became a dead letter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DeadReason {
            $($(#[$doc])* $name),+
        }

        impl DeadReason {
            /// Every reason.
            pub const ALL: &'static [DeadReason] = &[$(DeadReason::$name),+];

            /// The code for items, metrics and lists.
            pub fn code(self) -> &'static str {
                match self { $(DeadReason::$name => $code),+ }
            }
        }
    };
}

dead_reasons! {
    /// Not JSON.
    NotJson => "not-json",
    /// No bytes at all.
    Empty => "empty",
    /// Larger than its integration allows.
    TooLarge => "too-large",
    /// Not UTF-8.
    InvalidUtf8 => "invalid-utf8",
    /// A required field is not there.
    MissingField => "missing-field",
    /// A field is there, but not of a usable kind or size.
    InvalidField => "invalid-field",
    /// A KPL aggregate that cannot be taken apart.
    BrokenAggregate => "broken-aggregate",
    /// The store refuses this very message.
    StoreRejected => "store-rejected",
    /// All attempts failed.
    DeliveryExhausted => "delivery-exhausted",
    /// The destination said that it is gone, or its subscription was deleted.
    DestinationGone => "destination-gone",
    /// Its client was granted it when it was parked, and is not any more.
    NotGranted => "not-granted",
    /// The destination refuses this very message.
    DeliveryRejected => "delivery-rejected",
    /// Not a message: the note that records passed the stream's retention before a lane read them.
    LostToRetention => "lost-to-retention",
    /// Not a message: the note that what an open range still owed to a subscription was given up.
    RangeGivenUp => "range-given-up",
}

impl DeadReason {
    /// The letter is a note about messages, and none itself: there is nothing to send again.
    pub fn is_note(self) -> bool {
        matches!(self, DeadReason::LostToRetention | DeadReason::RangeGivenUp)
    }

    /// The reason of a code.
    pub fn from_code(code: &str) -> Option<DeadReason> {
        DeadReason::ALL.iter().copied().find(|r| r.code() == code)
    }
}

/// Cuts free text (an error, a detail) to what an item keeps of it.
pub(crate) fn kept_text(text: &str) -> String {
    text.chars().take(1_000).collect()
}
