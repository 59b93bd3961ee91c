//! A subscription as it is kept: one JSON document with a form number. Secrets stand in it in clear, so it
//! never leaves this folder. Each kind of destination writes and reads its own part.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::aws::document::{EventBridgeDocument, SnsDocument, SqsDocument};
use super::webhook::WebhookDocument;
use super::{DeliveryPolicy, Destination, Subscription, SubscriptionError, SubscriptionId};
use crate::access::ClientId;
use crate::epoch::VERSION;
use crate::error::StoreError;
use crate::identity::IntegrationName;
use crate::item::{Item, ItemReader, SK, key, n, s};
use crate::pattern::Pattern;

/// Partition of all subscriptions.
pub(super) const PARTITION: &str = "subscriptions";
/// The form that this version writes and reads.
const FORM: u32 = 1;
const DOCUMENT: &str = "document";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    form: u32,
    client: ClientId,
    integrations: Vec<IntegrationName>,
    entity_prefix: Option<String>,
    types: Vec<String>,
    /// As it was given; parsed apart, so that the error says where.
    filter: Option<Box<RawValue>>,
    destination: DestinationDocument,
    policy: DeliveryPolicy,
    created_at_ms: i64,
    enabled: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum DestinationDocument {
    Webhook(WebhookDocument),
    Sqs(SqsDocument),
    Sns(SnsDocument),
    #[serde(rename = "eventbridge")]
    EventBridge(EventBridgeDocument),
}

impl From<&Destination> for DestinationDocument {
    fn from(destination: &Destination) -> DestinationDocument {
        match destination {
            Destination::Webhook(webhook) => DestinationDocument::Webhook(webhook.into()),
            Destination::Sqs(sqs) => DestinationDocument::Sqs(sqs.into()),
            Destination::Sns(sns) => DestinationDocument::Sns(sns.into()),
            Destination::EventBridge(bridge) => DestinationDocument::EventBridge(bridge.into()),
        }
    }
}

impl DestinationDocument {
    fn read(self) -> Result<Destination, SubscriptionError> {
        match self {
            DestinationDocument::Webhook(webhook) => webhook.read().map(Destination::Webhook),
            DestinationDocument::Sqs(sqs) => sqs.read().map(Destination::Sqs),
            DestinationDocument::Sns(sns) => sns.read().map(Destination::Sns),
            DestinationDocument::EventBridge(bridge) => bridge.read().map(Destination::EventBridge),
        }
    }
}

/// The item of a subscription at its next version.
pub(super) fn to_item(subscription: &Subscription) -> Result<Item, StoreError> {
    let document = Document {
        form: FORM,
        client: subscription.client.clone(),
        integrations: subscription.integrations.clone(),
        entity_prefix: subscription.entity_prefix.clone(),
        types: subscription.types.clone(),
        filter: subscription.filter.as_ref().map(Pattern::to_raw),
        destination: (&subscription.destination).into(),
        policy: subscription.policy.clone(),
        created_at_ms: subscription.created_at_ms,
        enabled: subscription.enabled,
    };
    let text = serde_json::to_string(&document).map_err(|e| StoreError::Invalid {
        operation: "put subscription",
        detail: e.to_string(),
    })?;
    let mut item = key(PARTITION, subscription.id.as_str());
    item.insert(DOCUMENT.to_owned(), s(text));
    item.insert(VERSION.to_owned(), n(subscription.version.saturating_add(1)));
    Ok(item)
}

/// Reads an item. Errors name the item and the place in the document, never its content.
pub(super) fn from_item(reader: &ItemReader) -> Result<Subscription, StoreError> {
    let document: Document = serde_json::from_str(reader.text(DOCUMENT)?).map_err(|e| {
        let (line, column) = (e.line(), e.column());
        reader.unreadable(format!(
            "its document is not of form {FORM} (line {line}, column {column})"
        ))
    })?;
    if document.form != FORM {
        let found = document.form;
        return Err(
            reader.unreadable(format!("its document has form {found}, this version reads {FORM}"))
        );
    }
    let destination = document.destination.read();
    let filter = document.filter.map(|json| Pattern::parse(json.get())).transpose();
    Ok(Subscription {
        id: reader.parsed(SK, SubscriptionId::parse)?,
        client: document.client,
        integrations: document.integrations,
        entity_prefix: document.entity_prefix,
        types: document.types,
        filter: filter.map_err(|e| reader.unreadable(e.to_string()))?,
        destination: destination.map_err(|e| reader.unreadable(e.to_string()))?,
        policy: document.policy,
        created_at_ms: document.created_at_ms,
        version: reader.number(VERSION)?,
        enabled: document.enabled,
    })
}
