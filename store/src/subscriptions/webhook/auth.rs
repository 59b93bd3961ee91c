//! How a webhook shows who it is, beside its signature. Passwords and tokens show themselves to nobody but
//! whoever sends them.

use std::fmt;

use subtle::ConstantTimeEq;

use crate::subscriptions::{SubscriptionError, WebhookUrl};

/// Longest password, token or client secret, in bytes.
const MAX_SECRET: usize = 4_096;
/// Longest user name, client id, scope and audience, in bytes.
const MAX_NAME: usize = 512;

/// What the `authorization` header of a webhook says.
#[derive(Clone, Debug, PartialEq)]
pub enum WebhookAuth {
    /// `Basic`: RFC 7617.
    Basic {
        /// Without a colon.
        user: String,
        /// The password.
        password: Credential,
    },
    /// `Bearer` with a token that does not change.
    Bearer(Credential),
    /// `Bearer` with a token that is fetched: OAuth 2.0's client credentials grant.
    OAuth(OAuthClient),
}

/// How tokens are fetched (RFC 6749 4.4).
#[derive(Clone, Debug, PartialEq)]
pub struct OAuthClient {
    /// The token endpoint; it obeys the same rules as a webhook's own URL.
    pub token_url: WebhookUrl,
    /// Who asks.
    pub client_id: String,
    /// What proves it.
    pub client_secret: Credential,
    /// What is asked for, if anything is to be said.
    pub scope: Option<String>,
    /// For whom, where the server wants to know.
    pub audience: Option<String>,
    /// Where id and secret stand in the request.
    pub place: ClientPlace,
}

/// Where an OAuth client's id and secret stand (RFC 6749 2.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientPlace {
    /// In the `authorization` header: every server must take it.
    #[default]
    Header,
    /// In the body, for servers that take nothing else.
    Body,
}

/// A password or token: visible ASCII and spaces, 1 to 4,096 bytes. Debug is redacted and there is no Display.
#[derive(Clone)]
pub struct Credential(String);

impl Credential {
    /// Checks and takes it; `what` names it in errors, which never repeat it.
    pub fn parse(what: &'static str, text: &str) -> Result<Credential, SubscriptionError> {
        named(what, text, MAX_SECRET).map(Credential)
    }

    /// In clear, for sending and for keeping it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(redacted)")
    }
}

impl PartialEq for Credential {
    fn eq(&self, other: &Credential) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl WebhookAuth {
    /// Checks and takes a user with a password.
    pub fn basic(user: &str, password: &str) -> Result<WebhookAuth, SubscriptionError> {
        if user.contains(':') {
            let detail = "a colon ends the name of a user";
            return Err(SubscriptionError::Auth { what: "user", detail });
        }
        Ok(WebhookAuth::Basic {
            user: named("user", user, MAX_NAME)?,
            password: Credential::parse("password", password)?,
        })
    }

    /// Checks and takes a token.
    pub fn bearer(token: &str) -> Result<WebhookAuth, SubscriptionError> {
        if token.contains(' ') {
            let detail = "a token has no spaces";
            return Err(SubscriptionError::Auth { what: "token", detail });
        }
        Credential::parse("token", token).map(WebhookAuth::Bearer)
    }

    /// Its name in lists.
    pub fn kind(&self) -> &'static str {
        match self {
            WebhookAuth::Basic { .. } => "basic",
            WebhookAuth::Bearer(_) => "bearer",
            WebhookAuth::OAuth(_) => "oauth",
        }
    }
}

impl OAuthClient {
    /// Checks and takes who asks where.
    pub fn new(
        token_url: &str,
        client_id: &str,
        client_secret: &str,
    ) -> Result<OAuthClient, SubscriptionError> {
        Ok(OAuthClient {
            token_url: WebhookUrl::parse(token_url)?,
            client_id: named("client id", client_id, MAX_NAME)?,
            client_secret: Credential::parse("client secret", client_secret)?,
            scope: None,
            audience: None,
            place: ClientPlace::default(),
        })
    }

    /// Says what the token is for.
    pub fn asking(
        self,
        scope: Option<&str>,
        audience: Option<&str>,
        place: ClientPlace,
    ) -> Result<OAuthClient, SubscriptionError> {
        let scope = scope.map(|text| named("scope", text, MAX_NAME)).transpose()?;
        let audience = audience.map(|text| named("audience", text, MAX_NAME)).transpose()?;
        Ok(OAuthClient { scope, audience, place, ..self })
    }
}

/// Visible ASCII and spaces, of at most `most` bytes.
fn named(what: &'static str, text: &str, most: usize) -> Result<String, SubscriptionError> {
    let detail = match text.len() {
        0 => "it is empty",
        bytes if bytes > most => "it is too long",
        _ if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) => {
            "only printable ASCII is allowed"
        }
        _ => return Ok(text.to_owned()),
    };
    Err(SubscriptionError::Auth { what, detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_named_and_not_repeated() {
        let long = "s3cret".repeat(1_000);
        let errors = [
            WebhookAuth::basic("a:b", "s3cret"),
            WebhookAuth::basic("", "s3cret"),
            WebhookAuth::basic("a", "s3cret\n"),
            WebhookAuth::basic("a", &long),
            WebhookAuth::bearer("s3cret s3cret"),
            WebhookAuth::bearer(""),
            OAuthClient::new("ftp://x/", "id", "s3cret").map(WebhookAuth::OAuth),
            OAuthClient::new("https://x/", "id", "s3cret\0").map(WebhookAuth::OAuth),
            OAuthClient::new("https://u:s3cret@x/", "id", "s").map(WebhookAuth::OAuth),
        ];
        for error in errors {
            let error = error.unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
        let oauth = OAuthClient::new("https://x/token?key=s3cret", "id", "s3cret").unwrap();
        let oauth = oauth.asking(Some("a b"), Some("aud"), ClientPlace::Body).unwrap();
        assert_eq!(oauth.scope.as_deref(), Some("a b"));
        assert!(!format!("{:?}", WebhookAuth::OAuth(oauth)).contains("s3cret"));
    }
}
