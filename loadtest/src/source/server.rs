//! The server: connections over HTTP/1.1, or TLS with HTTP/2, every call answered by `calls`.
//!
//! Two paths beside the wire of Kinesis tell and steer the source itself: `GET /loadtest/status` is [`Sent`] as JSON,
//! `POST /loadtest/go` lets held records come.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_async::time::SharedTimeSource;
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::Answer;
use super::calls;
use super::options::{InvalidSource, Options};
use super::stream::{Handle, Sent, Stream};
use super::subscription::Subscription;
use super::tls::{self, Tls};

const MAX_CONNECTIONS: usize = 16_384;
const MAX_REQUEST_BYTES: usize = 1024 * 1024;
const MAX_STREAMS_PER_CONNECTION: u32 = 4_096;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(120);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Why a source cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// An option is outside of what is allowed.
    #[error(transparent)]
    Options(#[from] InvalidSource),
    /// The address cannot be listened on: take another one.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        cause: std::io::Error,
    },
    /// No certificate could be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(Box<dyn std::error::Error + Send + Sync>),
}

/// A synthetic stream that listens.
pub struct Source {
    stream: Arc<Stream>,
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
}

impl Source {
    /// Takes the address and encodes the events; answers nothing yet. `time` stamps records.
    ///
    /// # Errors
    /// When an option is wrong or the address is taken.
    pub async fn bind(options: Options, time: SharedTimeSource) -> Result<Source, SourceError> {
        options.validate()?;
        let listen = |cause| SourceError::Listen { address: options.listen, cause };
        let listener = TcpListener::bind(options.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let tls = match options.tls {
            true => Some(tls::make().map_err(SourceError::Certificate)?),
            false => None,
        };
        let stream = Arc::new(Stream::new(options, time));
        Ok(Source { stream, listener, address, tls })
    }

    /// The endpoint for clients.
    pub fn endpoint_url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// PEM of the authority that clients have to trust, with TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.tls.as_ref().map(|tls| tls.ca_pem.as_str())
    }

    /// Watches and steers the source.
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.stream))
    }

    /// Answers until `stop`; connections are cut then.
    pub async fn run(self, stop: CancellationToken) {
        let connections = TaskTracker::new();
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        while let Some((socket, permit)) = self.accept(&room, &stop).await {
            let connection = Connection {
                stream: Arc::clone(&self.stream),
                tls: self.tls.as_ref().map(|tls| tls.acceptor.clone()),
                _permit: permit,
            };
            let stop = stop.clone();
            connections.spawn(async move {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    () = connection.serve(socket) => {}
                }
            });
        }
        connections.close();
        connections.wait().await;
    }

    /// The next connection; `None` once stopped.
    async fn accept(
        &self,
        room: &Arc<Semaphore>,
        stop: &CancellationToken,
    ) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        loop {
            let accepted = async {
                let permit = Arc::clone(room).acquire_owned().await.ok()?;
                Some((self.listener.accept().await, permit))
            };
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                accepted = accepted => accepted?,
            };
            match accepted {
                (Ok((socket, _)), permit) => return Some((socket, permit)),
                // Mostly no file descriptors left, which passes: not to be asked in a busy loop.
                (Err(error), _) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// One connection of a client.
struct Connection {
    stream: Arc<Stream>,
    tls: Option<tokio_rustls::TlsAcceptor>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// Answers until the client goes.
    async fn serve(self, socket: TcpStream) {
        // Small events must not wait for more.
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
        let stream = self.stream;
        let service = service_fn(move |request| answer(Arc::clone(&stream), request));
        let mut h1 = http1::Builder::new();
        h1.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        let Some(tls) = self.tls else {
            report(h1.serve_connection(TokioIo::new(socket), service).await);
            return;
        };
        let socket = match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(socket)).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => return tracing::debug!("a TLS handshake took too long"),
        };
        if socket.get_ref().1.alpn_protocol() != Some(b"h2") {
            report(h1.serve_connection(TokioIo::new(socket), service).await);
            return;
        }
        let mut h2 = http2::Builder::new(TokioExecutor::new());
        h2.timer(TokioTimer::new()).max_concurrent_streams(MAX_STREAMS_PER_CONNECTION);
        report(h2.serve_connection(TokioIo::new(socket), service).await);
    }
}

fn report(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended in an error");
    }
}

async fn answer(
    stream: Arc<Stream>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let answered = match (&parts.method, parts.uri.path()) {
        (&Method::GET, "/loadtest/status") => status(&stream.sent()),
        (&Method::POST, "/loadtest/go") => {
            stream.go();
            status(&stream.sent())
        }
        _ => match Limited::new(body, MAX_REQUEST_BYTES).collect().await {
            Ok(body) => {
                let target = parts.headers.get("x-amz-target");
                let target = target.and_then(|target| target.to_str().ok()).unwrap_or_default();
                calls::answer(&stream, target, &body.to_bytes())
            }
            Err(error) => Answer::Whole { status: 413, body: error.to_string().into() },
        },
    };
    let (status, kind, body) = match answered {
        Answer::Whole { status, body } => {
            (status, "application/x-amz-json-1.1", Full::new(body).boxed_unsync())
        }
        Answer::Events(subscription) => {
            (200, "application/vnd.amazon.eventstream", events(*subscription))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    Ok(response)
}

fn status(sent: &Sent) -> Answer {
    Answer::json(&serde_json::to_value(sent).unwrap_or_default())
}

fn events(subscription: Subscription) -> Body {
    let frames = futures::stream::unfold(subscription, |mut subscription| async move {
        let frame = subscription.next_frame().await?;
        Some((Ok(Frame::data(frame)), subscription))
    });
    // Fused: a body may be polled once more after its end, for trailers.
    StreamBody::new(frames.fuse()).boxed_unsync()
}
