//! The operators' port of the processor: alive, ready, and what it is doing, as JSON.
//!
//! It is for health checks and people on call, on an address of its own that clients never reach.
//! It answers three paths and reads nothing but the request line; it never changes anything.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Connections at once: health checks and a few people.
const MAX_CONNECTIONS: usize = 64;
/// How long a request's head may take.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the operators' port tells.
pub(crate) trait Operated: Send + Sync + 'static {
    /// `Ok` when the process does its work; else why not, in words.
    fn ready(&self) -> Result<(), String>;
    /// The whole state as a JSON document.
    fn state(&self) -> serde_json::Result<Vec<u8>>;
}

/// A bound operators' port.
pub(crate) struct OperatorPort {
    listener: TcpListener,
    address: SocketAddr,
}

impl OperatorPort {
    /// Binds the port; port 0 takes a free one.
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<OperatorPort> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(OperatorPort { listener, address })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`.
    pub(crate) async fn run(self, operated: Arc<dyn Operated>, stop: CancellationToken) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let Ok((socket, _)) = accepted else {
                // Mostly no file descriptors left, which passes: not to be asked in a busy loop.
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                continue;
            };
            let (operated, stop) = (Arc::clone(&operated), stop.clone());
            tokio::spawn(async move {
                let service = service_fn(move |request| answer(Arc::clone(&operated), request));
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(socket), service);
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    _ = connection => {}
                }
                drop(permit);
            });
        }
    }
}

async fn answer(
    operated: Arc<dyn Operated>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    let known = matches!(path, "/healthz" | "/readyz" | "/v1/admin/state");
    let (status, kind, body) = match (request.method(), path) {
        (&Method::GET | &Method::HEAD, "/healthz") => {
            (StatusCode::OK, "text/plain", b"alive\n".to_vec())
        }
        (&Method::GET | &Method::HEAD, "/readyz") => match operated.ready() {
            Ok(()) => (StatusCode::OK, "text/plain", b"ready\n".to_vec()),
            Err(why) => {
                (StatusCode::SERVICE_UNAVAILABLE, "text/plain", format!("{why}\n").into_bytes())
            }
        },
        (&Method::GET | &Method::HEAD, "/v1/admin/state") => match operated.state() {
            Ok(state) => (StatusCode::OK, "application/json", state),
            Err(error) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "text/plain", format!("{error}\n").into_bytes())
            }
        },
        _ if known => {
            (StatusCode::METHOD_NOT_ALLOWED, "text/plain", b"only GET is allowed here\n".to_vec())
        }
        _ => (
            StatusCode::NOT_FOUND,
            "text/plain",
            b"here are /healthz, /readyz and /v1/admin/state\n".to_vec(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    Ok(response)
}
