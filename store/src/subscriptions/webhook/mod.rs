//! A webhook as a destination: its parts, what is refused of them, and the form that it is kept in.
//!
//! The form ([`WebhookDocument`], with [`WebhookSettings`]) is the only place where a webhook's secrets are written
//! in clear.

mod auth;
mod form;
mod headers;
mod identity;
mod settings;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use auth::{ClientPlace, Credential, OAuthClient, WebhookAuth};
pub use form::BodyForm;
pub use headers::StaticHeaders;
pub use identity::ClientIdentity;
pub use settings::WebhookSettings;

use super::rotation::{self, SigningKey};
use super::{SigningSecret, SubscriptionError, WebhookUrl};

/// An HTTP POST per message, signed by Standard Webhooks.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookDestination {
    /// The receiver.
    pub url: WebhookUrl,
    /// Newest first; all that have not ended sign, so that rotation overlaps.
    pub keys: Vec<SigningKey>,
    /// What the body is.
    pub form: BodyForm,
    /// What every call carries beside what is ours.
    pub headers: StaticHeaders,
    /// How it shows who it is, beside the signature.
    pub auth: Option<Box<WebhookAuth>>,
    /// The certificate that it shows where it is asked for one.
    pub identity: Option<ClientIdentity>,
    /// It was entered by its client, not by an operator: the private places that operators vouch for are none of its.
    pub public_only: bool,
}

impl WebhookDestination {
    /// A webhook to `url`, signed with `secret`: the message's own bytes, no headers, authentication or certificate.
    #[must_use]
    pub fn new(url: WebhookUrl, secret: SigningSecret) -> WebhookDestination {
        WebhookDestination {
            url,
            keys: vec![SigningKey::current(secret)],
            form: BodyForm::default(),
            headers: StaticHeaders::default(),
            auth: None,
            identity: None,
            public_only: false,
        }
    }

    /// Takes all that `settings` says, in the place of what was there; or nothing, and says what is wrong.
    pub fn configure(&mut self, settings: &WebhookSettings) -> Result<(), SubscriptionError> {
        let checked = settings.check()?;
        self.form = checked.form;
        self.headers = checked.headers;
        self.auth = checked.auth;
        self.identity = checked.identity;
        Ok(())
    }

    /// Signs with `secret` from now on, and for `overlap` with what signed so far, too. Refused when too many
    /// old keys would sign, or when this one does already.
    pub fn rotate(
        &mut self,
        secret: SigningSecret,
        now_ms: i64,
        overlap: Duration,
    ) -> Result<(), SubscriptionError> {
        self.keys = rotation::rotated(&self.keys, secret, now_ms, overlap)?;
        Ok(())
    }

    /// What no webhook may be stored with, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        rotation::check(&self.keys)
    }
}

/// A webhook as it is kept. Settings that are the defaults are not written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookDocument {
    url: String,
    secrets: Vec<KeyDocument>,
    #[serde(default, skip_serializing_if = "WebhookSettings::is_default")]
    settings: WebhookSettings,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    public_only: bool,
}

/// A key as it is kept; one that is not replaced is its text alone.
#[derive(Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum KeyDocument {
    Current(String),
    Ending { secret: String, expires_at_ms: i64 },
}

impl From<&SigningKey> for KeyDocument {
    fn from(key: &SigningKey) -> KeyDocument {
        let secret = key.secret.expose();
        match key.expires_at_ms {
            None => KeyDocument::Current(secret),
            Some(expires_at_ms) => KeyDocument::Ending { secret, expires_at_ms },
        }
    }
}

impl KeyDocument {
    fn read(self) -> Result<SigningKey, SubscriptionError> {
        let (text, expires_at_ms) = match self {
            KeyDocument::Current(text) => (text, None),
            KeyDocument::Ending { secret, expires_at_ms } => (secret, Some(expires_at_ms)),
        };
        Ok(SigningKey { secret: SigningSecret::parse(&text)?, expires_at_ms })
    }
}

impl From<&WebhookDestination> for WebhookDocument {
    fn from(webhook: &WebhookDestination) -> WebhookDocument {
        WebhookDocument {
            url: webhook.url.as_str().to_owned(),
            secrets: webhook.keys.iter().map(KeyDocument::from).collect(),
            settings: WebhookSettings::of(webhook),
            public_only: webhook.public_only,
        }
    }
}

impl WebhookDocument {
    /// Reads it back; errors repeat no secret.
    pub(super) fn read(self) -> Result<WebhookDestination, SubscriptionError> {
        let keys: Result<Vec<_>, _> = self.secrets.into_iter().map(KeyDocument::read).collect();
        let checked = self.settings.check()?;
        Ok(WebhookDestination {
            url: WebhookUrl::parse(&self.url)?,
            keys: keys?,
            form: checked.form,
            headers: checked.headers,
            auth: checked.auth,
            identity: checked.identity,
            public_only: self.public_only,
        })
    }
}
