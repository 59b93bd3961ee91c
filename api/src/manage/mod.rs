//! What a client manages of what is pushed to it: its subscriptions, their deliveries, and replays. Every decision about
//! that is made here, and nothing here knows HTTP.
//!
//! A client finds and changes what is its own; all else does not exist for it. What it may subscribe to is what it was
//! granted. What only the delivering side can say (where a worker would go, which messages a subscription wants) is asked
//! of [`DeliveryRules`], which the app brings. Start at [`Manager`].

mod changes;
mod deliveries;
mod replays;
mod subscriptions;
mod test_delivery;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use aws_smithy_async::time::SharedTimeSource;
use store::{
    Class, Client, ClientIdentity, DeliveryStore, IntegrationName, Message, MessageStore,
    ReplayStore, Signer, StoreError, Subscription, SubscriptionId, SubscriptionStore, WebhookUrl,
};

pub(crate) use changes::{Change, Destined, Draft, KeyKind, PolicyChange, Rotation, WebhookChange};

pub(crate) use deliveries::{Kept, KeptState, Traced};
pub(crate) use replays::{ReplayUntil, ReplayWanted, ReplayWhat};

use crate::metrics;
use crate::options::{IntegrationInfo, Limits};

/// What the delivering side says of a client's wishes. The app makes one of what processors go by, so that what would
/// never be delivered is refused where it is entered.
pub trait DeliveryRules: Send + Sync {
    /// Refuses, in words, a place that no worker would go to, whatever its name resolves to. `public_only`: the private
    /// places that operators vouch for are not for this one.
    fn check_url(&self, url: &WebhookUrl, public_only: bool) -> Result<(), String>;

    /// Refuses, in words, a client certificate that TLS could not show.
    fn check_identity(&self, identity: &ClientIdentity) -> Result<(), String>;

    /// Those of these subscriptions of `client` that ask for a message as things stand, and may have it.
    fn wanted_by(
        &self,
        message: &Message,
        client: &Client,
        subscriptions: &[Subscription],
    ) -> Vec<SubscriptionId>;

    /// Where the stream puts a partition key.
    fn hash_key(&self, partition_key: &str) -> u128;
}

/// Fills bytes for ids and secrets.
pub type RandomFill = Arc<dyn Fn(&mut [u8]) + Send + Sync>;

/// What managing works with.
#[derive(Clone)]
pub struct Managing {
    /// Subscriptions.
    pub subscriptions: SubscriptionStore,
    /// Parked deliveries, dead letters, attempts.
    pub deliveries: DeliveryStore,
    /// Replays.
    pub replays: ReplayStore,
    /// What processors would say.
    pub rules: Arc<dyn DeliveryRules>,
    /// Clients, too, may have webhooks at the private places that operators vouch for.
    pub private_webhooks: bool,
    /// The operating system's random bytes.
    pub random: RandomFill,
}

/// Who asks for a change, and in which request: for the audit log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Actor<'a> {
    pub(crate) client: &'a Client,
    pub(crate) request: &'a str,
}

impl Actor<'_> {
    /// In the words of the audit log.
    fn words(&self) -> String {
        format!("client {}, request {}", self.client.id, self.request)
    }
}

/// A part of a request that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Which: a JSON Pointer into the body.
    pub(crate) field: String,
    /// What was found and what is allowed. Never a secret.
    pub(crate) detail: String,
}

impl Fault {
    pub(crate) fn new(field: impl Into<String>, detail: impl ToString) -> Fault {
        Fault { field: field.into(), detail: detail.to_string() }
    }
}

/// Why something is not done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ManageError {
    /// It does not exist, or not for this client.
    NotFound,
    /// A part of the request is not allowed.
    Invalid(Fault),
    /// A parameter of the query is not allowed.
    Parameter { name: &'static str, found: String, allowed: &'static str },
    /// The request fits no thing in this state; in words.
    Conflict(String),
    /// It is not at the version that the client read.
    Changed,
    /// The store cannot answer now.
    Unavailable,
    /// A defect on this side, written to the log.
    Internal,
}

impl From<Fault> for ManageError {
    fn from(fault: Fault) -> ManageError {
        ManageError::Invalid(fault)
    }
}

/// What a client learns of a store error; the rest stands in the log.
impl From<StoreError> for ManageError {
    fn from(error: StoreError) -> ManageError {
        if error.is_conflict() {
            return ManageError::Changed;
        }
        metrics::store_failed(error.class());
        match error.class() {
            Class::Retry => {
                tracing::warn!(%error, "the store did not answer");
                ManageError::Unavailable
            }
            Class::Skip => {
                tracing::error!(%error, "the store refused a call");
                ManageError::Internal
            }
            Class::Fatal => {
                tracing::error!(%error, "the store cannot be used");
                ManageError::Unavailable
            }
        }
    }
}

/// See the module.
pub(crate) struct Manager {
    with: Managing,
    messages: Arc<dyn MessageStore>,
    signer: Signer,
    /// Those that are configured.
    integrations: BTreeSet<IntegrationName>,
    /// Thin webhooks link to messages there.
    has_base_url: bool,
    max_subscriptions: usize,
    time: SharedTimeSource,
}

impl Manager {
    pub(crate) fn new(
        with: Managing,
        messages: Arc<dyn MessageStore>,
        signer: Signer,
        integrations: &[IntegrationInfo],
        has_base_url: bool,
        limits: &Limits,
        time: SharedTimeSource,
    ) -> Manager {
        let integrations = integrations.iter().map(|info| info.name.clone()).collect();
        let max_subscriptions = limits.max_subscriptions;
        Manager { with, messages, signer, integrations, has_base_url, max_subscriptions, time }
    }

    pub(crate) fn now_ms(&self) -> i64 {
        let since = self.time.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}
