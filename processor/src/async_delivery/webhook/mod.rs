//! Webhooks: a message, or several, in a POST, signed as Standard Webhooks says.
//!
//! It makes bodies in the form that a subscription asks for (`body`, `cloud_event`), signs them (`sign`), shows who it is
//! (`auth`, `oauth`) and reads answers. It never follows a redirect, never retries and never goes where the
//! operator's [`Guard`] forbids. Start at [`Webhook`], then `guard`.

mod auth;
mod body;
mod cloud_event;
mod connector;
mod guard;
mod links;
mod oauth;
mod percent;
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
use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use store::{BodyForm, DeliveryPolicy, Message, StaticHeaders, WebhookDestination};
use tokio::time::timeout;

pub use guard::{AddressClass, Allowance, BadAllowance, Guard, Refusal};
pub use links::MessageLinks;
pub use transport::{
    Answer, Channel, HttpTransports, Transport, TransportError, Transports, check_identity,
};

use super::destination::{Capacity, Outgoing, Sender, Workshop};
use super::outcome::{Failure, FailureKind, Outcome};
use auth::Authorization;
use body::{Rendered, Unrenderable};
use sign::Signer;

/// The message id; the same for every attempt.
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
/// When this attempt was signed, in seconds since 1970.
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// One signature per key.
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// The integration's name, so that one receiver can serve several; absent where a batch has several.
const INTEGRATION: HeaderName = HeaderName::from_static("sluicegate-integration");
/// 1 for the first attempt; of a batch, the most of its messages.
const ATTEMPT: HeaderName = HeaderName::from_static("sluicegate-attempt");

const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("sluicegate/", env!("CARGO_PKG_VERSION")));

/// What one call carries in the form of a batch.
const BATCH: Capacity = Capacity { messages: 100, bytes: 512 * 1024 };
/// What the attributes of an event add to its payload, about.
const ATTRIBUTES_BYTES: usize = 1024;
/// Shorter texts are not looked for in answers: they would be found everywhere.
const SHORTEST_SECRET: usize = 4;

/// Sends the messages of one subscription to its URL.
pub(super) struct Webhook {
    uri: Uri,
    form: BodyForm,
    signer: Signer,
    headers: StaticHeaders,
    authorization: Authorization,
    time_limit: Duration,
    transport: Arc<dyn Transport>,
    links: Option<Arc<MessageLinks>>,
    time: SharedTimeSource,
}

impl Webhook {
    pub(super) fn new(
        destination: &WebhookDestination,
        policy: &DeliveryPolicy,
        workshop: &Workshop,
    ) -> Webhook {
        let transports = &workshop.outlets.webhooks;
        let token_channel = || {
            let public_only = destination.public_only;
            let channel =
                Channel { connections: 1, identity: None, whole_answers: true, public_only };
            transports.for_destination(&channel)
        };
        let channel = Channel {
            connections: policy.concurrency as usize,
            identity: destination.identity.as_ref(),
            whole_answers: false,
            public_only: destination.public_only,
        };
        Webhook {
            uri: destination.url.uri().clone(),
            form: destination.form,
            signer: Signer::new(&destination.keys),
            headers: destination.headers.clone(),
            authorization: Authorization::new(destination.auth.as_deref(), token_channel),
            time_limit: Duration::from_millis(policy.timeout_ms),
            transport: transports.for_destination(&channel),
            links: workshop.links.clone(),
            time: workshop.time.clone(),
        }
    }

    fn request(&self, rendered: Rendered, about: &About) -> Result<Request<Bytes>, http::Error> {
        let timestamp_s = self.now_s();
        let signature = self.signer.signature(&rendered.id, timestamp_s, &rendered.body);
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header(WEBHOOK_ID, rendered.id)
            .header(WEBHOOK_TIMESTAMP, timestamp_s)
            .header(WEBHOOK_SIGNATURE, signature)
            .header(USER_AGENT, AGENT)
            .header(ATTEMPT, about.attempt);
        if let Some(content_type) = rendered.content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        if let Some(integration) = &about.integration {
            request = request.header(INTEGRATION, integration);
        }
        let own = self.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
        for (name, value) in own.chain(rendered.headers) {
            request = request.header(name, value);
        }
        request.body(rendered.body)
    }

    fn now_s(&self) -> i64 {
        let since = self.time.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    }

    /// A POST of its own for one message.
    fn post(&self, out: &Outgoing) -> BoxFuture<'static, Outcome> {
        let rendered = body::single(self.form, &out.message, self.links.as_deref());
        self.send(rendered, &About::of(std::slice::from_ref(out)))
    }

    fn send(
        &self,
        rendered: Result<Rendered, Unrenderable>,
        about: &About,
    ) -> BoxFuture<'static, Outcome> {
        let request = match rendered {
            Ok(rendered) => self.request(rendered, about).map_err(|e| {
                fail(FailureKind::Unsendable, format!("the request cannot be built: {e}"))
            }),
            Err(why @ Unrenderable::NoLinks) => {
                Err(fail(FailureKind::Unreachable, why.to_string()))
            }
            Err(why) => Err(fail(FailureKind::Unsendable, why.to_string())),
        };
        let request = match request {
            Ok(request) => request,
            Err(outcome) => return Box::pin(std::future::ready(outcome)),
        };
        let (transport, authorization) = (Arc::clone(&self.transport), self.authorization.clone());
        let (limit, time) = (self.time_limit, self.time.clone());
        Box::pin(async move {
            match timeout(limit, call(&*transport, &authorization, request, &time)).await {
                Ok(outcome) => outcome,
                Err(_) => fail(
                    FailureKind::TimedOut,
                    format!("no answer within {} ms", limit.as_millis()),
                ),
            }
        })
    }
}

/// One request, with the token that it needs.
async fn call(
    transport: &dyn Transport,
    authorization: &Authorization,
    mut request: Request<Bytes>,
    time: &SharedTimeSource,
) -> Outcome {
    let shown = match authorization.header().await {
        Ok(value) => value,
        Err(error) => return fail(FailureKind::Unreachable, error.to_string()),
    };
    if let Some(value) = &shown {
        request.headers_mut().insert(AUTHORIZATION, value.clone());
    }
    let secrets = secrets(request.headers());
    match transport.post(request).await {
        Ok(mut answer) => {
            if let (StatusCode::UNAUTHORIZED, Some(value)) = (answer.status, &shown) {
                authorization.was_refused(value);
            }
            redact(&mut answer.excerpt, &secrets);
            judge(&answer, time.now())
        }
        Err(error) => fail(FailureKind::Unreachable, error.to_string()),
    }
}

/// The secrets that a request carries: a receiver that answers with what it was sent does not put them into a log.
fn secrets(headers: &HeaderMap) -> Vec<String> {
    let sensitive = headers.values().filter(|value| value.is_sensitive());
    let texts = sensitive.filter_map(|value| value.to_str().ok());
    // The scheme is no secret, what follows it is one alone, too.
    let parts = texts.flat_map(|text| [Some(text), text.split_once(' ').map(|(_, rest)| rest)]);
    parts.flatten().filter(|text| text.len() >= SHORTEST_SECRET).map(str::to_owned).collect()
}

fn redact(text: &mut String, secrets: &[String]) {
    for secret in secrets {
        if text.contains(secret) {
            *text = text.replace(secret, "[redacted]");
        }
    }
}

/// What is said of the messages of a call beside themselves.
struct About {
    integration: Option<String>,
    attempt: u32,
}

impl About {
    fn of(batch: &[Outgoing]) -> About {
        let first = batch.first().map(|out| &out.message.integration);
        let same = batch.iter().all(|out| Some(&out.message.integration) == first);
        About {
            integration: first.filter(|_| same).map(ToString::to_string),
            attempt: batch.iter().map(|out| out.attempt).max().unwrap_or_default(),
        }
    }
}

impl Sender for Webhook {
    /// A POST a message; or one for all of them, whose answer is each one's.
    fn attempt(&self, batch: Vec<Outgoing>) -> BoxFuture<'static, Vec<Outcome>> {
        if self.form != BodyForm::CloudeventsBatch {
            return Box::pin(join_all(batch.iter().map(|out| self.post(out)).collect::<Vec<_>>()));
        }
        let messages: Vec<&Message> = batch.iter().map(|out| &out.message).collect();
        let sent = self.send(body::batch(&messages), &About::of(&batch));
        let count = batch.len();
        Box::pin(async move { vec![sent.await; count] })
    }

    fn most_at_once(&self) -> Capacity {
        match self.form {
            BodyForm::CloudeventsBatch => BATCH,
            _ => Capacity::ONE,
        }
    }

    fn size(&self, message: &Message) -> usize {
        message.payload.len().saturating_add(ATTRIBUTES_BYTES)
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
