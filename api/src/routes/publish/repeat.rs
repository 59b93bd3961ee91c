//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a request that is sent again is answered again and not
//! done again.
//!
//! Kept are answers that say that something was taken. What came to nothing is forgotten, so that the same key tries it
//! again; who dies in between leaves the key to the next attempt once its lease is over, which may send twice.

use std::time::{Duration, UNIX_EPOCH};

use axum::body::Bytes;
use axum::response::Response;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use ring::digest::{Context, SHA256};
use store::{
    Begun, ClientId, Fingerprint, KeptAnswer, RequestClaim, RequestKey, RequestName, StoreError,
};
use tokio::time::Instant;

use super::body::Form;
use crate::metrics;
use crate::publish::Publishing;
use crate::routes::problem::Problem;
use crate::routes::render::of_json;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer is that of an earlier request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// A request that its client may send again.
pub(super) struct Repeatable {
    pub(super) name: RequestName,
    pub(super) fingerprint: Fingerprint,
    /// Names this attempt: the request's own id, and the time.
    pub(super) token: String,
}

/// What is to be done with a request.
pub(super) enum Step {
    /// Do it, under this claim.
    Do(RequestClaim),
    /// It was done: answer this.
    Answer(Response),
}

impl Repeatable {
    /// `None` if the client gave the request no key.
    pub(super) fn of(
        headers: &HeaderMap,
        client: &ClientId,
        fingerprint: impl FnOnce() -> Fingerprint,
        request_id: &str,
    ) -> Result<Option<Repeatable>, Problem> {
        let Some(key) = key(headers)? else { return Ok(None) };
        let name = RequestName { client: client.clone(), key };
        Ok(Some(Repeatable { name, fingerprint: fingerprint(), token: request_id.to_owned() }))
    }

    /// Claims the request, unless it is known.
    pub(super) async fn begin(
        self,
        publishing: &Publishing,
        lease: Duration,
        by: Instant,
    ) -> Result<Step, Problem> {
        let now_ms = now_ms(publishing);
        let token = format!("{}#{now_ms}", self.token);
        let begun = publishing.requests.begin(&self.name, &self.fingerprint, &token, now_ms, lease);
        let found = match tokio::time::timeout_at(by, begun).await {
            Ok(Ok(Begun::Mine(claim))) => return Ok(Step::Do(claim)),
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                noted(&error, "a request was not claimed");
                return Err(not_known());
            }
            Err(_) => return Err(not_known()),
        };
        Err(match found {
            Begun::Answered(kept) => {
                metrics::request_repeated("answered");
                return Ok(Step::Answer(replayed(kept)));
            }
            Begun::InWork { until_ms } => {
                metrics::request_repeated("in-work");
                let left = u64::try_from(until_ms.saturating_sub(now_ms)).unwrap_or_default();
                Problem::in_work(Duration::from_millis(left).min(Duration::from_secs(2)))
            }
            Begun::Other | Begun::Mine(_) => {
                metrics::request_repeated("other");
                Problem::key_reused()
            }
        })
    }
}

/// Keeps the answer of a request that was done. Without it the answer is given all the same, and the request is done
/// again if it is sent again behind the lease.
pub(super) async fn keep(publishing: &Publishing, claim: &RequestClaim, body: Bytes, by: Instant) {
    let answer = KeptAnswer { status: StatusCode::OK.as_u16(), body };
    let kept = Box::pin(publishing.requests.answer(claim, &answer, now_ms(publishing)));
    in_time(kept, by, "an answer was not kept: the request is done again if it is sent again")
        .await;
}

/// Lets the same key try again what came to nothing.
pub(super) async fn forget(publishing: &Publishing, claim: &RequestClaim, by: Instant) {
    let forgotten = Box::pin(publishing.requests.forget(claim));
    in_time(forgotten, by, "a request was not given up: its key works again behind its lease")
        .await;
}

async fn in_time(step: BoxFuture<'_, Result<(), StoreError>>, by: Instant, failed: &'static str) {
    match tokio::time::timeout_at(by, step).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => noted(&error, failed),
        Err(_) => tracing::warn!("{failed}: no answer in time"),
    }
}

fn noted(error: &StoreError, what: &'static str) {
    metrics::store_failed(error.class());
    tracing::warn!(%error, "{what}");
}

fn not_known() -> Problem {
    Problem::unavailable(
        "whether this request was made before cannot be told now; nothing was sent",
    )
}

fn now_ms(publishing: &Publishing) -> i64 {
    let since = publishing.time.now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn replayed(kept: KeptAnswer) -> Response {
    let mut response = of_json(kept.body);
    *response.status_mut() = StatusCode::from_u16(kept.status).unwrap_or(StatusCode::OK);
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// All that a request was, in a hash.
pub(super) fn fingerprint(path_and_query: &str, form: Form, body: &[u8]) -> Fingerprint {
    let mut hash = Context::new(&SHA256);
    let form = match form {
        Form::One => "one",
        Form::Lines => "lines",
    };
    for part in ["POST", path_and_query, form] {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.update(body);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash.finish().as_ref());
    Fingerprint(bytes)
}

/// The key that a request has, as a string of structured fields (`"..."`), or bare as many write it.
fn key(headers: &HeaderMap) -> Result<Option<RequestKey>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let refused = |found: &str| {
        let allowed = "given once: a text in quotes, of 1 to 255 visible ASCII characters";
        Problem::invalid_parameter("idempotency-key", found, allowed)
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    if values.next().is_some() {
        return Err(refused("several"));
    }
    let key = unquoted(text.trim()).and_then(|key| RequestKey::parse(&key).ok());
    key.map(Some).ok_or_else(|| refused(&text))
}

fn unquoted(text: &str) -> Option<String> {
    let Some(inner) = text.strip_prefix('"') else {
        let is_plain =
            text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte));
        return is_plain.then(|| text.to_owned());
    };
    let mut key = String::new();
    let mut chars = inner.strip_suffix('"')?.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => key.push(chars.next().filter(|next| matches!(next, '"' | '\\'))?),
            '"' => return None,
            char => key.push(char),
        }
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&'static str]) -> Result<Option<String>, Problem> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_static(value));
        }
        key(&headers).map(|key| key.map(|key| key.as_str().to_owned()))
    }

    #[test]
    fn a_key_is_read_in_quotes_and_bare() {
        assert_eq!(read(&[]).unwrap(), None);
        let uuid = "8e03978e-40d5-43dd-bc93-6894a57f9324";
        assert_eq!(read(&["\"8e03978e-40d5-43dd-bc93-6894a57f9324\""]).unwrap().unwrap(), uuid);
        assert_eq!(read(&[" 8e03978e-40d5-43dd-bc93-6894a57f9324 "]).unwrap().unwrap(), uuid);
        assert_eq!(read(&[r#""a \"b\" \\""#]).unwrap().unwrap(), r#"a "b" \"#);
        for bad in ["", "\"\"", "\"a", "a\"", "\"a\";v=1", "a, b", "\"a\"b\"", "\"a\\", "a b"] {
            assert!(read(&[bad]).is_err(), "{bad}");
        }
        assert!(read(&["a", "a"]).is_err());
    }

    #[test]
    fn every_part_of_a_request_is_in_its_fingerprint() {
        let one = fingerprint("/a?b", Form::One, b"{}");
        assert_eq!(one, fingerprint("/a?b", Form::One, b"{}"));
        for other in [
            fingerprint("/a?c", Form::One, b"{}"),
            fingerprint("/a?b", Form::Lines, b"{}"),
            fingerprint("/a?b", Form::One, b"{} "),
        ] {
            assert_ne!(one, other);
        }
    }
}
