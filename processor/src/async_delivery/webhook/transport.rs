//! One POST and its answer: the seam between what a delivery means and how bytes travel.
//!
//! [`HttpTransports`] is HTTP/1.1 over a pool of its own for each destination; tests put a
//! [`Transport`] of their own here and simulate hours. Redirects are never followed.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::RETRY_AFTER;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use store::ClientIdentity;
use tokio::time::timeout;

use super::connector::{Connector, DialError};
use super::guard::{Guard, Refusal};

/// Answers are read up to here and no further; what comes after closes the connection.
const MAX_ANSWER_BYTES: usize = 16 * 1024;

/// Of an answer that refuses, this much is kept for the operator.
const EXCERPT_BYTES: usize = 1024;

/// The body may come this much later than the head.
const BODY_PATIENCE: Duration = Duration::from_secs(1);

/// An idle connection to a destination is closed after this long.
const POOL_IDLE: Duration = Duration::from_secs(60);

/// What a receiver answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// The `Retry-After` header as it came.
    pub retry_after: Option<String>,
    /// The beginning of the body: 1 KiB of a refusal, for the operator; up to 16 KiB of every answer where
    /// [`Channel::whole_answers`] asks for it.
    pub excerpt: String,
}

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum TransportError {
    /// The guard refuses the destination.
    #[error("destination refused: {0}")]
    Refused(#[from] Refusal),
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The connection broke before there was an answer.
    #[error("connection failed: {0}")]
    Broken(String),
    /// TLS does not take the destination's client certificate.
    #[error("the client certificate cannot be used: {0}")]
    Identity(String),
}

/// Sends one request. Dropping the future abandons it; the caller sets the time limit.
pub trait Transport: Send + Sync {
    /// POSTs `request` and reads the answer's head and the beginning of its body.
    fn post(&self, request: Request<Bytes>) -> BoxFuture<'static, Result<Answer, TransportError>>;
}

/// What a destination wants of its transport.
#[derive(Debug, Clone, Copy)]
pub struct Channel<'a> {
    /// At most so many idle connections are kept.
    pub connections: usize,
    /// The certificate that is shown to a receiver that asks for one.
    pub identity: Option<&'a ClientIdentity>,
    /// Every answer is kept up to its limit: it is read by a program.
    pub whole_answers: bool,
    /// The private places that the operator vouches for are not for this one.
    pub public_only: bool,
}

/// Makes a transport for each destination, so that none can take another's connections, or be taken for another.
pub trait Transports: Send + Sync {
    /// A transport with connections of its own.
    fn for_destination(&self, channel: &Channel<'_>) -> Arc<dyn Transport>;
}

/// Real connections, guarded.
pub struct HttpTransports {
    guard: Arc<Guard>,
    /// The same for destinations that may be at public places only.
    public: Arc<Guard>,
    tls: Arc<rustls::ClientConfig>,
}

impl HttpTransports {
    /// `tls` carries the trusted roots and must name no ALPN protocol: webhooks speak HTTP/1.1.
    #[must_use]
    pub fn new(guard: Guard, tls: Arc<rustls::ClientConfig>) -> HttpTransports {
        HttpTransports { public: Arc::new(guard.public_only()), guard: Arc::new(guard), tls }
    }

    /// The same verification of receivers, with a certificate of our own.
    fn tls(&self, identity: Option<&ClientIdentity>) -> Result<Arc<rustls::ClientConfig>, String> {
        let Some(identity) = identity else { return Ok(Arc::clone(&self.tls)) };
        let provider = self.tls.crypto_provider();
        let certified = client_certificate(provider, identity)?;
        let mut tls = rustls::ClientConfig::clone(&self.tls);
        tls.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
        // Sessions of another identity are not to be resumed.
        tls.resumption = rustls::client::Resumption::default();
        Ok(Arc::new(tls))
    }
}

/// Refuses a certificate that TLS could not show: what can be said where it is entered.
pub fn check_identity(
    provider: &rustls::crypto::CryptoProvider,
    identity: &ClientIdentity,
) -> Result<(), String> {
    client_certificate(provider, identity).map(drop)
}

fn client_certificate(
    provider: &rustls::crypto::CryptoProvider,
    identity: &ClientIdentity,
) -> Result<rustls::sign::CertifiedKey, String> {
    let certificates = identity.certificates().map_err(|e| e.to_string())?;
    let key = identity.key().map_err(|e| e.to_string())?;
    rustls::sign::CertifiedKey::from_der(certificates, key, provider).map_err(|e| e.to_string())
}

impl Transports for HttpTransports {
    fn for_destination(&self, channel: &Channel<'_>) -> Arc<dyn Transport> {
        let tls = match self.tls(channel.identity) {
            Ok(tls) => tls,
            Err(why) => return Arc::new(Unusable(why)),
        };
        let guard = if channel.public_only { &self.public } else { &self.guard };
        let connector = Connector::new(Arc::clone(guard), tls);
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(channel.connections)
            .pool_idle_timeout(POOL_IDLE)
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(64 * 1024)
            .build(connector);
        Arc::new(HttpTransport { client, whole_answers: channel.whole_answers })
    }
}

/// In the place of a transport that cannot be made: says why, at every attempt, so that what is to be delivered is
/// kept until somebody changes it.
struct Unusable(String);

impl Transport for Unusable {
    fn post(&self, _: Request<Bytes>) -> BoxFuture<'static, Result<Answer, TransportError>> {
        Box::pin(std::future::ready(Err(TransportError::Identity(self.0.clone()))))
    }
}

struct HttpTransport {
    client: Client<Connector, Full<Bytes>>,
    whole_answers: bool,
}

impl Transport for HttpTransport {
    fn post(&self, request: Request<Bytes>) -> BoxFuture<'static, Result<Answer, TransportError>> {
        let sent = self.client.request(request.map(Full::new));
        let whole = self.whole_answers;
        Box::pin(async move {
            let response = sent.await.map_err(|e| explain(&e))?;
            let status = response.status();
            let retry_after = response
                .headers()
                .get(RETRY_AFTER)
                .and_then(|v| v.to_str().ok())
                .map(str::to_owned);
            let keep = match (whole, status.is_success()) {
                (true, _) => MAX_ANSWER_BYTES,
                (false, true) => 0,
                (false, false) => EXCERPT_BYTES,
            };
            let excerpt = read_answer(response.into_body(), keep).await;
            Ok(Answer { status, retry_after, excerpt })
        })
    }
}

/// Reads the body, so that the connection can be used again, and gives what is kept of it. The status
/// was the answer: a rest that is late, too long or broken takes nothing back.
async fn read_answer(body: Incoming, keep: usize) -> String {
    let mut kept = Vec::new();
    let _ = timeout(BODY_PATIENCE, read_body(body, keep, &mut kept)).await;
    printable(&kept)
}

async fn read_body(mut body: Incoming, keep: usize, kept: &mut Vec<u8>) {
    let mut read = 0;
    while read < MAX_ANSWER_BYTES
        && let Some(Ok(frame)) = body.frame().await
    {
        let Some(data) = frame.data_ref() else {
            continue;
        };
        read += data.len();
        kept.extend_from_slice(&data[..data.len().min(keep - kept.len())]);
    }
}

/// Text from outside, fit for a log line.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn explain(error: &hyper_util::client::legacy::Error) -> TransportError {
    let mut cause = error.source();
    let mut innermost = error.to_string();
    while let Some(found) = cause {
        match found.downcast_ref::<DialError>() {
            Some(DialError::Refused(refusal)) => return refusal.clone().into(),
            Some(dial) => return TransportError::Connect(dial.to_string()),
            None => innermost = found.to_string(),
        }
        cause = found.source();
    }
    if error.is_connect() {
        TransportError::Connect(innermost)
    } else {
        TransportError::Broken(innermost)
    }
}
