//! Webhooks: the message's own bytes in a POST, signed as Standard Webhooks says.
//!
//! It builds and signs requests and reads answers. It never follows a redirect, never retries and
//! never goes where the operator's [`Guard`] forbids. Start at [`Webhook`], then `guard`.

mod connector;
mod guard;
mod sign;
#[cfg(test)]
mod tests;
mod transport;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_smithy_async::time::SharedTimeSource;
use aws_smithy_types::date_time::{DateTime, Format};
use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use store::{DeliveryPolicy, Message, WebhookDestination};
use tokio::time::timeout;

pub use guard::{AddressClass, Allowance, BadAllowance, Guard, Refusal};
pub use transport::{Answer, HttpTransports, Transport, TransportError, Transports};

use super::destination::{Outgoing, Sender};
use super::outcome::{Failure, FailureKind, Outcome};
use sign::Signer;

/// The message id; the same for every attempt.
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
/// When this attempt was signed, in seconds since 1970.
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// One signature per secret.
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// The integration's name, so that one receiver can serve several.
const INTEGRATION: HeaderName = HeaderName::from_static("sluicegate-integration");
/// 1 for the first attempt.
const ATTEMPT: HeaderName = HeaderName::from_static("sluicegate-attempt");

const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("sluicegate/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Sends the messages of one subscription to its URL.
pub(super) struct Webhook {
    uri: Uri,
    signer: Signer,
    time_limit: Duration,
    transport: Arc<dyn Transport>,
    time: SharedTimeSource,
}

impl Webhook {
    pub(super) fn new(
        destination: &WebhookDestination,
        policy: &DeliveryPolicy,
        transport: Arc<dyn Transport>,
        time: SharedTimeSource,
    ) -> Webhook {
        Webhook {
            uri: destination.url.uri().clone(),
            signer: Signer::new(&destination.keys),
            time_limit: Duration::from_millis(policy.timeout_ms),
            transport,
            time,
        }
    }

    fn request(&self, message: &Message, attempt: u32) -> Result<Request<Bytes>, http::Error> {
        let id = message.id.as_str();
        let timestamp_s = self.now_s();
        let signature = self.signer.signature(id, timestamp_s, &message.payload);
        Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header(WEBHOOK_ID, id)
            .header(WEBHOOK_TIMESTAMP, timestamp_s)
            .header(WEBHOOK_SIGNATURE, signature)
            .header(CONTENT_TYPE, JSON)
            .header(USER_AGENT, AGENT)
            .header(INTEGRATION, message.integration.as_str())
            .header(ATTEMPT, attempt)
            .body(message.payload.clone())
    }

    fn now_s(&self) -> i64 {
        let since = self.time.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    }
}

impl Webhook {
    fn post(&self, message: &Message, attempt: u32) -> BoxFuture<'static, Outcome> {
        let request = match self.request(message, attempt) {
            Ok(request) => request,
            Err(e) => {
                let outcome =
                    fail(FailureKind::Unsendable, format!("the request cannot be built: {e}"));
                return Box::pin(std::future::ready(outcome));
            }
        };
        let sent = self.transport.post(request);
        let (limit, time) = (self.time_limit, self.time.clone());
        Box::pin(async move {
            match timeout(limit, sent).await {
                Ok(Ok(answer)) => judge(&answer, time.now()),
                Ok(Err(error)) => fail(FailureKind::Unreachable, error.to_string()),
                Err(_) => fail(
                    FailureKind::TimedOut,
                    format!("no answer within {} ms", limit.as_millis()),
                ),
            }
        })
    }
}

impl Sender for Webhook {
    /// A POST a message.
    fn attempt(&self, batch: Vec<Outgoing>) -> BoxFuture<'static, Vec<Outcome>> {
        let posts: Vec<_> = batch.iter().map(|out| self.post(&out.message, out.attempt)).collect();
        Box::pin(join_all(posts))
    }
}

fn fail(kind: FailureKind, detail: String) -> Outcome {
    Outcome::Failed(Failure { kind, detail, retry_after: None })
}

/// What a receiver's answer means.
fn judge(answer: &Answer, now: SystemTime) -> Outcome {
    let kind = match answer.status.as_u16() {
        200..=299 => return Outcome::Accepted,
        410 => FailureKind::Gone,
        429 | 502 | 504 => FailureKind::Overloaded,
        408 | 425 => FailureKind::Unhealthy,
        400..=499 => FailureKind::Refused,
        _ => FailureKind::Unhealthy,
    };
    Outcome::Failed(Failure {
        kind,
        detail: describe(answer),
        retry_after: answer.retry_after.as_deref().and_then(|text| parse_retry_after(text, now)),
    })
}

fn describe(answer: &Answer) -> String {
    let status = answer.status;
    let remark = if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
        " (redirects are not followed)"
    } else {
        ""
    };
    match answer.excerpt.as_str() {
        "" => format!("answered {status}{remark}"),
        excerpt => format!("answered {status}{remark}: {excerpt}"),
    }
}

/// `Retry-After` as seconds or as an HTTP date; `None` if it is neither or lies in the past.
fn parse_retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = DateTime::from_str(text.trim(), Format::HttpDate).ok()?;
    SystemTime::try_from(at).ok()?.duration_since(now).ok()
}
