//! Tokens by OAuth 2.0's client credentials grant: fetched when one is needed, one fetch at a time, kept until a
//! little before they expire, dropped when the destination refuses them.
//!
//! The token endpoint is as hostile as a webhook's receiver: it is reached through the same guard, its answer is
//! bounded, and nothing that it says is repeated but its status and its error code.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64_simd::STANDARD;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode};
use serde::Deserialize;
use store::{ClientPlace, OAuthClient};
use tokio::time::{Instant, timeout};

use super::AGENT;
use super::percent::form_value;
use super::transport::{Answer, Transport, TransportError};

/// A fetch takes at most this long.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// A token without `expires_in` is kept this long.
const DEFAULT_LIFE: Duration = Duration::from_secs(300);
/// No token is kept longer.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3_600);
/// A token is renewed so long before it expires, but never before four fifths of its life.
const MARGIN: Duration = Duration::from_secs(60);
/// Longest token, in bytes.
const MAX_TOKEN: usize = 8 * 1024;

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Why there is no token. Never carries what was sent, and of the answer only its status and error code.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub(super) enum TokenError {
    #[error("token endpoint: {0}")]
    Transport(#[from] TransportError),
    #[error("token endpoint: no answer within {} s", FETCH_TIMEOUT.as_secs())]
    TimedOut,
    #[error("token endpoint: answered {status}{code}")]
    Refused { status: StatusCode, code: String },
    #[error("token endpoint: {0}")]
    Unusable(&'static str),
}

type Fetch = Shared<BoxFuture<'static, Result<Token, TokenError>>>;

/// The tokens of one destination.
pub(super) struct TokenSource {
    client: OAuthClient,
    transport: Arc<dyn Transport>,
    // Shared by the attempts under way, each of which may find that a token is missing or refused; locked to look
    // or to change, never over an await.
    state: Mutex<State>,
}

enum State {
    Empty,
    Fetching(Fetch),
    Held(Token),
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    renew_at: Instant,
}

impl TokenSource {
    pub(super) fn new(client: &OAuthClient, transport: Arc<dyn Transport>) -> TokenSource {
        TokenSource { client: client.clone(), transport, state: Mutex::new(State::Empty) }
    }

    /// The value of `authorization`: of the token that is held, or of the one that is being fetched.
    pub(super) async fn token(&self) -> Result<HeaderValue, TokenError> {
        let fetch = {
            let mut state = self.lock();
            match &*state {
                State::Held(token) if Instant::now() < token.renew_at => {
                    return Ok(token.header.clone());
                }
                State::Fetching(fetch) => fetch.clone(),
                _ => {
                    let fetch = self.fetch();
                    *state = State::Fetching(fetch.clone());
                    fetch
                }
            }
        };
        let fetched = fetch.clone().await;
        let mut state = self.lock();
        if matches!(&*state, State::Fetching(current) if current.ptr_eq(&fetch)) {
            *state = match &fetched {
                Ok(token) => State::Held(token.clone()),
                Err(_) => State::Empty,
            };
        }
        fetched.map(|token| token.header)
    }

    /// The destination refused it: the next one who asks fetches another. A newer one is left alone.
    pub(super) fn forget(&self, header: &HeaderValue) {
        let mut state = self.lock();
        if matches!(&*state, State::Held(token) if token.header == *header) {
            *state = State::Empty;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fetch(&self) -> Fetch {
        let sent = request(&self.client).map(|request| self.transport.post(request));
        let fetch = async move {
            let sent = sent.map_err(|_| TokenError::Unusable("the request cannot be built"))?;
            let answer = timeout(FETCH_TIMEOUT, sent).await.map_err(|_| TokenError::TimedOut)??;
            read(&answer, Instant::now())
        };
        fetch.boxed().shared()
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenSource({})", self.client.token_url.origin())
    }
}

fn request(client: &OAuthClient) -> Result<Request<Bytes>, http::Error> {
    let [id, secret] = [&client.client_id, client.client_secret.expose()].map(form_value);
    let mut form = String::from("grant_type=client_credentials");
    let mut add = |name: &str, value: &str| form.push_str(&format!("&{name}={value}"));
    for (name, value) in [("scope", &client.scope), ("audience", &client.audience)] {
        if let Some(value) = value {
            add(name, &form_value(value));
        }
    }
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(client.token_url.uri().clone())
        .header(CONTENT_TYPE, FORM)
        .header(ACCEPT, JSON)
        .header(USER_AGENT, AGENT);
    match client.place {
        ClientPlace::Header => {
            // Encoded before they are joined: RFC 6749 2.3.1.
            let basic = STANDARD.encode_to_string(format!("{id}:{secret}"));
            let mut value = HeaderValue::from_str(&format!("Basic {basic}"))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        ClientPlace::Body => {
            add("client_id", &id);
            add("client_secret", &secret);
        }
    }
    request.body(Bytes::from(form))
}

/// A token endpoint's good answer (RFC 6749 5.1).
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    token_type: String,
    expires_in: Option<u64>,
}

/// And its refusal (5.2).
#[derive(Deserialize)]
struct Denied {
    error: String,
}

/// What the answer means. Pure.
fn read(answer: &Answer, now: Instant) -> Result<Token, TokenError> {
    if !answer.status.is_success() {
        let denied = serde_json::from_str::<Denied>(&answer.excerpt).ok();
        let code = denied.map(|denied| denied.error).filter(|code| is_code(code));
        let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
        return Err(TokenError::Refused { status: answer.status, code });
    }
    let granted: Granted = serde_json::from_str(&answer.excerpt)
        .map_err(|_| TokenError::Unusable("its answer is no token in JSON of up to 16 KiB"))?;
    if !granted.token_type.eq_ignore_ascii_case("bearer") {
        return Err(TokenError::Unusable("its token is no bearer token"));
    }
    let visible = granted.access_token.bytes().all(|byte| byte.is_ascii_graphic());
    if !visible || !(1..=MAX_TOKEN).contains(&granted.access_token.len()) {
        return Err(TokenError::Unusable("its token cannot be a header"));
    }
    let mut header = HeaderValue::from_str(&format!("Bearer {}", granted.access_token))
        .map_err(|_| TokenError::Unusable("its token cannot be a header"))?;
    header.set_sensitive(true);
    let life = granted.expires_in.map_or(DEFAULT_LIFE, Duration::from_secs).min(LONGEST_LIFE);
    Ok(Token { header, renew_at: now + life - MARGIN.min(life / 5) })
}

/// An error code as RFC 6749 has them: short, and safe to repeat.
fn is_code(code: &str) -> bool {
    (1..=64).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

#[cfg(test)]
#[path = "oauth_tests.rs"]
mod tests;
