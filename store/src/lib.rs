//! What both services share, kept in four DynamoDB tables: messages, parked deliveries with dead
//! letters, access (subscriptions, clients, keys, what clients used), and requests that may be sent again.
//!
//! This room knows how things are keyed, written once, read back whole and signed. It knows
//! nothing of streams, shards' owners or HTTP, never reads the environment, never makes a client
//! and never retries for long: it answers what happened ([`StoreError::class`],
//! [`PutOutcome`]) and its callers decide.
//!
//! Start at [`MessageStore`] (what sync-store writes and the API reads), then [`DeliveryStore`]
//! (what async-delivery parks), [`ReplayStore`], [`SubscriptionStore`], [`AccessStore`] and [`UsageStore`]. The keys of every item
//! are made in one place per folder (`keys.rs`). [`pattern`] is the language of filters, for both services.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod access;
mod batch;
mod deliveries;
mod epoch;
mod error;
mod identity;
mod item;
mod messages;
mod metrics;
mod parts;
pub mod pattern;
mod pointer;
mod replays;
mod requests;
mod signer;
mod subscriptions;
mod tables;
#[cfg(test)]
mod testing;
mod usage;

pub use access::{
    AccessStore, Action, ApiKey, ApiKeyError, AuditEntry, Change, Client, ClientId, ClientLimits,
    Decision, Denial, Exposure, FieldMask, FieldMaskError, Grant, GrantScope, KeyCheck, KeyHash,
    KeyId, KeyRecord, KeyTerms, MAX_MASK_FIELDS, MAX_PER_DAY, MAX_RATE, Network, NetworkError,
    NewKey, NotReplaced, OAuthBinding, OperatorToken, Pepper, Replaced, TokenDigest, authorise,
    is_plan_name, plan_rotation,
};
pub use deliveries::{
    ATTEMPT_RETENTION, AdriftRange, AttemptRecord, CHAIN_WRITES, Chain, ChainHead, ChainKey,
    ChainPage, ChainWrite, ChainedDelivery, Claim, ClaimedDelivery, ClosedRange,
    DEAD_LETTER_RETENTION, DUE_BUCKETS, DeadLetter, DeadLetterFilter, DeadLetterPage, DeadReason,
    DeliveryCase, DeliveryFate, DeliveryKey, DeliveryStore, DueDelivery, GivenUp, GivenUpPage,
    Holder, MARK_RETENTION, MadeDue, Mark, OpenRange, Parked, ParkedCount, ParkedDelivery,
    ParkedPage, ParkedSummary, RANGE_BUCKETS, RangeKey, RangeStart, Tenure, Trace, due_bucket,
    write_target,
};
pub use error::{Class, StoreError};
pub use identity::{Entity, IdentityError, IntegrationName, MessageId, Position};
pub use messages::{
    ARRIVALS_KEPT, ARRIVALS_SKEW, ARRIVALS_WITHIN, ArrivalRow, Arrivals, ArrivalsFrom,
    ArrivalsPage, ArrivalsQuery, Cursor, DynamoMessages, Locator, Locators, MAX_PAGE, Message,
    MessagePage, MessageQuery, MessageStore, Order, PutOutcome, PutReport, RetryReason, StoreItem,
    pack_arrivals, sort_time,
};
pub use pointer::{Pointer, PointerError};
pub use replays::{
    DEFAULT_REPLAY_RATE, MAX_REPLAY_MESSAGES, REPLAY_RETENTION, Replay, ReplayClaim, ReplayCounts,
    ReplayId, ReplayOf, ReplayPart, ReplayPlace, ReplaySource, ReplayState, ReplayStore,
};
pub use requests::{
    Begun, Fingerprint, KeptAnswer, REQUEST_RETENTION, RequestClaim, RequestKey, RequestName,
    RequestStore,
};
pub use signer::{Signer, TokenError};
pub use subscriptions::{
    AssumedRole, BodyForm, ClientIdentity, ClientPlace, Credential, DeletedSubscription,
    DeliveryOrder, DeliveryPolicy, Destination, Ed25519Key, EventBridgeDestination, EventBus,
    HmacKey, MAX_OLD_KEYS, OAuthClient, OnExhausted, QueueUrl, ROTATION_OVERLAP,
    STANDARD_RETRY_SCHEDULE_MS, SigningKey, SigningSecret, SnsDestination, SqsDestination,
    StaticHeaders, Subscription, SubscriptionEpochs, SubscriptionError, SubscriptionId,
    SubscriptionSnapshot, SubscriptionStore, TopicArn, WebhookAuth, WebhookDestination,
    WebhookSettings, WebhookUrl, retry_delay,
};
pub use tables::{SchemaError, TableReport, create_tables};
pub use usage::{Charge, USAGE_RETENTION, Usage, UsageStore};

/// Random bytes for secrets: the app passes the operating system's generator, tests a fixed one.
pub type RandomBytes<'a> = &'a mut dyn FnMut(&mut [u8]);
