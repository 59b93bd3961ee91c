//! A subscription as it is kept: one JSON document with a form number. It is the only place where
//! signing secrets are written in clear, so it never leaves this folder.

use serde::{Deserialize, Serialize};

use super::{DeliveryPolicy, Destination, SigningSecret, Subscription, SubscriptionId, WebhookUrl};
use crate::access::ClientId;
use crate::epoch::VERSION;
use crate::error::StoreError;
use crate::identity::IntegrationName;
use crate::item::{Item, ItemReader, SK, key, n, s};

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
    destination: DestinationDocument,
    policy: DeliveryPolicy,
    created_at_ms: i64,
    enabled: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum DestinationDocument {
    Webhook { url: String, secrets: Vec<String> },
}

/// The item of a subscription at its next version.
pub(super) fn to_item(subscription: &Subscription) -> Result<Item, StoreError> {
    let Destination::Webhook { url, secrets } = &subscription.destination;
    let destination = DestinationDocument::Webhook {
        url: url.as_str().to_owned(),
        secrets: secrets.iter().map(SigningSecret::expose).collect(),
    };
    let document = Document {
        form: FORM,
        client: subscription.client.clone(),
        integrations: subscription.integrations.clone(),
        entity_prefix: subscription.entity_prefix.clone(),
        destination,
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
    let DestinationDocument::Webhook { url, secrets } = document.destination;
    let unusable = |e: super::SubscriptionError| reader.unreadable(e.to_string());
    let secrets: Result<Vec<_>, _> =
        secrets.iter().map(|text| SigningSecret::parse(text)).collect();
    let destination = Destination::Webhook {
        url: WebhookUrl::parse(&url).map_err(unusable)?,
        secrets: secrets.map_err(unusable)?,
    };
    Ok(Subscription {
        id: reader.parsed(SK, SubscriptionId::parse)?,
        client: document.client,
        integrations: document.integrations,
        entity_prefix: document.entity_prefix,
        destination,
        policy: document.policy,
        created_at_ms: document.created_at_ms,
        version: reader.number(VERSION)?,
        enabled: document.enabled,
    })
}
