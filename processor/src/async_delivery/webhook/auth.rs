//! How a webhook shows who it is: nothing, what never changes, or a token that is fetched and kept for a while.

use std::fmt;
use std::sync::Arc;

use base64_simd::STANDARD;
use http::HeaderValue;
use store::WebhookAuth;

use super::oauth::{TokenError, TokenSource};
use super::transport::Transport;

/// The `authorization` of one destination.
#[derive(Clone)]
pub(super) enum Authorization {
    None,
    Fixed(HeaderValue),
    OAuth(Arc<TokenSource>),
}

impl Authorization {
    /// `channel` makes the way to the token endpoint, if there is one.
    pub(super) fn new(
        auth: Option<&WebhookAuth>,
        channel: impl FnOnce() -> Arc<dyn Transport>,
    ) -> Authorization {
        match auth {
            None => Authorization::None,
            Some(WebhookAuth::Basic { user, password }) => {
                let pair = format!("{user}:{}", password.expose());
                fixed(&format!("Basic {}", STANDARD.encode_to_string(pair)))
            }
            Some(WebhookAuth::Bearer(token)) => fixed(&format!("Bearer {}", token.expose())),
            Some(WebhookAuth::OAuth(client)) => {
                Authorization::OAuth(Arc::new(TokenSource::new(client, channel())))
            }
        }
    }

    /// The header's value; waits for a token where one has to be fetched.
    pub(super) async fn header(&self) -> Result<Option<HeaderValue>, TokenError> {
        match self {
            Authorization::None => Ok(None),
            Authorization::Fixed(value) => Ok(Some(value.clone())),
            Authorization::OAuth(source) => source.token().await.map(Some),
        }
    }

    /// The destination answered 401 to this value: a fetched token is not used again.
    pub(super) fn was_refused(&self, value: &HeaderValue) {
        if let Authorization::OAuth(source) = self {
            source.forget(value);
        }
    }
}

/// A header whose Debug shows nothing.
fn fixed(text: &str) -> Authorization {
    match HeaderValue::from_str(text) {
        Ok(mut value) => {
            value.set_sensitive(true);
            Authorization::Fixed(value)
        }
        // Credentials are printable ASCII: they were checked when they were taken.
        Err(_) => Authorization::None,
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Authorization::None => "Authorization(none)",
            Authorization::Fixed(_) => "Authorization(fixed, redacted)",
            Authorization::OAuth(_) => "Authorization(oauth, redacted)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn header(auth: WebhookAuth) -> HeaderValue {
        let none = || unreachable!("no token is fetched");
        let authorization = Authorization::new(Some(&auth), none);
        assert!(format!("{authorization:?}").ends_with("(fixed, redacted)"));
        authorization.header().await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn basic_and_bearer_are_as_their_standards_say_and_do_not_show_themselves() {
        // The example of RFC 7617.
        let basic = header(WebhookAuth::basic("Aladdin", "open sesame").unwrap()).await;
        assert_eq!(basic, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        let bearer = header(WebhookAuth::bearer("t0ken").unwrap()).await;
        assert_eq!(bearer, "Bearer t0ken");
        assert_eq!(format!("{basic:?}{bearer:?}"), "SensitiveSensitive");
    }
}
