//! A webhook as a destination: its parts, what is refused of them, and the form that it is kept in.
//!
//! The form is the only place where a webhook's secrets are written in clear.

use serde::{Deserialize, Serialize};

use super::{SigningSecret, SubscriptionError, WebhookUrl};

/// Most secrets that sign for one destination at once.
const MAX_SECRETS: usize = 10;

/// An HTTP POST per message, signed by Standard Webhooks.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookDestination {
    /// The receiver.
    pub url: WebhookUrl,
    /// Newest first; all of them sign, so that rotation overlaps.
    pub secrets: Vec<SigningSecret>,
}

impl WebhookDestination {
    /// A webhook to `url`, signed with `secrets`, newest first.
    #[must_use]
    pub fn new(url: WebhookUrl, secrets: Vec<SigningSecret>) -> WebhookDestination {
        WebhookDestination { url, secrets }
    }

    /// What no webhook may be stored with, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        if !(1..=MAX_SECRETS).contains(&self.secrets.len()) {
            let found = self.secrets.len();
            return Err(format!("{found} signing secrets: 1 to {MAX_SECRETS} are allowed"));
        }
        Ok(())
    }
}

/// A webhook as it is kept.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookDocument {
    url: String,
    secrets: Vec<String>,
}

impl From<&WebhookDestination> for WebhookDocument {
    fn from(webhook: &WebhookDestination) -> WebhookDocument {
        WebhookDocument {
            url: webhook.url.as_str().to_owned(),
            secrets: webhook.secrets.iter().map(SigningSecret::expose).collect(),
        }
    }
}

impl WebhookDocument {
    /// Reads it back; errors repeat no secret.
    pub(super) fn read(self) -> Result<WebhookDestination, SubscriptionError> {
        let secrets: Result<Vec<_>, _> =
            self.secrets.iter().map(|text| SigningSecret::parse(text)).collect();
        Ok(WebhookDestination { url: WebhookUrl::parse(&self.url)?, secrets: secrets? })
    }
}
