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
use tokio::time::timeout;

use super::connector::{Connector, DialError};
use super::guard::{Guard, Refusal};

/// Answers are read up to here and no further; what comes after closes the connection.
const MAX_ANSWER_BYTES: usize = 16 * 1024;

/// Of an answer that refuses, this much is kept for the operator.
const EXCERPT_BYTES: usize = 256;

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
    /// The beginning of the body, for the operator.
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
}

/// Sends one request. Dropping the future abandons it; the caller sets the time limit.
pub trait Transport: Send + Sync {
    /// POSTs `request` and reads the answer's head and the beginning of its body.
    fn post(&self, request: Request<Bytes>) -> BoxFuture<'static, Result<Answer, TransportError>>;
}

/// Makes a transport for each destination, so that none can take another's connections.
pub trait Transports: Send + Sync {
    /// A transport that keeps at most `connections` idle connections.
    fn for_destination(&self, connections: usize) -> Arc<dyn Transport>;
}

/// Real connections, guarded.
pub struct HttpTransports {
    guard: Arc<Guard>,
    tls: Arc<rustls::ClientConfig>,
}

impl HttpTransports {
    /// `tls` carries the trusted roots and must name no ALPN protocol: webhooks speak HTTP/1.1.
    #[must_use]
    pub fn new(guard: Guard, tls: Arc<rustls::ClientConfig>) -> HttpTransports {
        HttpTransports { guard: Arc::new(guard), tls }
    }
}

impl Transports for HttpTransports {
    fn for_destination(&self, connections: usize) -> Arc<dyn Transport> {
        let connector = Connector::new(Arc::clone(&self.guard), Arc::clone(&self.tls));
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(connections)
            .pool_idle_timeout(POOL_IDLE)
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(64 * 1024)
            .build(connector);
        Arc::new(HttpTransport { client })
    }
}

struct HttpTransport {
    client: Client<Connector, Full<Bytes>>,
}

impl Transport for HttpTransport {
    fn post(&self, request: Request<Bytes>) -> BoxFuture<'static, Result<Answer, TransportError>> {
        let sent = self.client.request(request.map(Full::new));
        Box::pin(async move {
            let response = sent.await.map_err(|e| explain(&e))?;
            let status = response.status();
            let retry_after = response
                .headers()
                .get(RETRY_AFTER)
                .and_then(|v| v.to_str().ok())
                .map(str::to_owned);
            let excerpt = read_answer(response.into_body(), status).await;
            Ok(Answer { status, retry_after, excerpt })
        })
    }
}

/// Reads the body, so that the connection can be used again, and gives what is kept of it. The status
/// was the answer: a rest that is late, too long or broken takes nothing back.
async fn read_answer(body: Incoming, status: StatusCode) -> String {
    let mut kept = Vec::new();
    let keep = if status.is_success() { 0 } else { EXCERPT_BYTES };
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
