//! How a webhook is set up beside its URL and its keys, as text: the form that it is kept in and that operators
//! write. Secrets stand in it in clear, so it has no Debug and is read where it is found.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{BodyForm, ClientIdentity, ClientPlace, OAuthClient, StaticHeaders, WebhookAuth};
use crate::subscriptions::SubscriptionError;

/// Body form, headers, authentication and client certificate, unchecked.
#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookSettings {
    /// What the body is.
    pub form: BodyForm,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth: Option<AuthSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_certificate: Option<CertificateSettings>,
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum AuthSettings {
    Basic {
        user: String,
        password: String,
    },
    Bearer {
        token: String,
    },
    Oauth {
        token_url: String,
        client_id: String,
        client_secret: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scope: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        audience: Option<String>,
        #[serde(default)]
        place: ClientPlace,
    },
}

/// Both PEM.
#[derive(PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificateSettings {
    certificates: String,
    key: String,
}

/// The same, checked.
pub(super) struct Checked {
    pub(super) form: BodyForm,
    pub(super) headers: StaticHeaders,
    pub(super) auth: Option<Box<WebhookAuth>>,
    pub(super) identity: Option<ClientIdentity>,
}

impl WebhookSettings {
    /// Nothing differs from the defaults.
    pub(super) fn is_default(&self) -> bool {
        *self == WebhookSettings::default()
    }

    /// Errors name what is wrong and repeat no secret.
    pub(super) fn check(&self) -> Result<Checked, SubscriptionError> {
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let identity = self.client_certificate.as_ref();
        Ok(Checked {
            form: self.form,
            headers: StaticHeaders::parse(headers)?,
            auth: self.auth.as_ref().map(AuthSettings::check).transpose()?.map(Box::new),
            identity: identity
                .map(|pem| ClientIdentity::parse(&pem.certificates, &pem.key))
                .transpose()?,
        })
    }

    /// As text again.
    pub(super) fn of(webhook: &super::WebhookDestination) -> WebhookSettings {
        let text =
            |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = webhook.headers.iter();
        WebhookSettings {
            form: webhook.form,
            headers: headers.map(|(name, value)| (name.to_string(), text(value))).collect(),
            auth: webhook.auth.as_deref().map(AuthSettings::of),
            client_certificate: webhook.identity.as_ref().map(|identity| {
                let (certificates, key) = identity.texts();
                CertificateSettings { certificates: certificates.to_owned(), key: key.to_owned() }
            }),
        }
    }
}

impl AuthSettings {
    fn check(&self) -> Result<WebhookAuth, SubscriptionError> {
        match self {
            AuthSettings::Basic { user, password } => WebhookAuth::basic(user, password),
            AuthSettings::Bearer { token } => WebhookAuth::bearer(token),
            AuthSettings::Oauth { token_url, client_id, client_secret, scope, audience, place } => {
                OAuthClient::new(token_url, client_id, client_secret)?
                    .asking(scope.as_deref(), audience.as_deref(), *place)
                    .map(WebhookAuth::OAuth)
            }
        }
    }

    fn of(auth: &WebhookAuth) -> AuthSettings {
        match auth {
            WebhookAuth::Basic { user, password } => {
                AuthSettings::Basic { user: user.clone(), password: password.expose().to_owned() }
            }
            WebhookAuth::Bearer(token) => AuthSettings::Bearer { token: token.expose().to_owned() },
            WebhookAuth::OAuth(client) => AuthSettings::Oauth {
                token_url: client.token_url.as_str().to_owned(),
                client_id: client.client_id.clone(),
                client_secret: client.client_secret.expose().to_owned(),
                scope: client.scope.clone(),
                audience: client.audience.clone(),
                place: client.place,
            },
        }
    }
}
