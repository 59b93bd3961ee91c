//! The loopback server: HTTP/1.1 and HTTP/2 without TLS (prior knowledge) over the same dispatcher.
//!
//! It bounds connections, headers and bodies, and serves the control endpoint to loopback peers. It binds nothing itself. Start at
//! [`run`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::dispatch::MAX_BODY_BYTES;
use crate::wire::{Answer, BodyStream};
use crate::{ConnectionCut, LocalAws, control};

const MAX_CONNECTIONS: usize = 2_048;
const MAX_STREAMS_PER_CONNECTION: u32 = 1_024;
const MAX_HEADER_BYTES: u32 = 32 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Longer than the 90 seconds for which clients keep idle connections, so that it is they who close.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// How long calls in progress may take to end at a stop; streams that are open never would.
const DRAIN: Duration = Duration::from_millis(500);
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);

/// Serves until `stop`; every connection has ended when this returns.
pub(crate) async fn run(
    aws: LocalAws,
    listener: TcpListener,
    stop: CancellationToken,
) -> io::Result<()> {
    listener.local_addr()?;
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut tasks = JoinSet::new();
    let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = tasks.join_next() => {}
            _ = sweep.tick() => { tasks.spawn(sweep_expired(aws.clone())); }
            accepted = accept(&listener, &permits) => {
                if let Some((socket, peer, permit)) = accepted {
                    tasks.spawn(connection(aws.clone(), socket, peer, permit, stop.clone()));
                }
            }
        }
    }
    let drained = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tasks.shutdown().await;
    }
    Ok(())
}

async fn sweep_expired(aws: LocalAws) {
    if let Err(reason) = aws.sweep_expired().await {
        tracing::warn!(%reason, "expired DynamoDB items were not deleted");
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((socket, peer)) => Some((socket, peer, permit)),
        Err(error) => {
            // Out of file descriptors, most likely: the next attempt may find one.
            tracing::warn!(%error, "a connection was not accepted");
            tokio::time::sleep(ACCEPT_RETRY).await;
            None
        }
    }
}

async fn connection(
    aws: LocalAws,
    socket: TcpStream,
    peer: SocketAddr,
    _permit: OwnedSemaphorePermit,
    stop: CancellationToken,
) {
    // Small frames must not wait for more: a subscription is pushed within milliseconds.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    let from_loopback = peer.ip().to_canonical().is_loopback();
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES as usize);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .max_header_list_size(MAX_HEADER_BYTES);
    let service = service_fn(move |request| answer(aws.clone(), request, from_loopback));
    let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(socket), service));
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        ended = connection.as_mut() => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection ended in an error");
    }
}

async fn answer(
    aws: LocalAws,
    request: http::Request<Incoming>,
    from_loopback: bool,
) -> Result<http::Response<BodyStream>, ConnectionCut> {
    let (parts, body) = request.into_parts();
    let body = match read(body).await {
        Ok(body) => body,
        Err(refusal) => return Ok(aws.respond(None, refusal)),
    };
    let request = http::Request::from_parts(parts, body);
    if control::is_control(request.uri().path()) {
        return Ok(control::answer(&aws, &request, from_loopback).await);
    }
    aws.dispatch(request).await
}

async fn read(body: Incoming) -> Result<Bytes, Answer> {
    let whole = Limited::new(body, MAX_BODY_BYTES).collect();
    match tokio::time::timeout(BODY_TIMEOUT, whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("a request has at most {MAX_BODY_BYTES} bytes");
            Err(Answer::error(413, "RequestEntityTooLargeException", &message))
        }
        Ok(Err(error)) => {
            let message = format!("the request's body: {error}");
            Err(Answer::error(400, "SerializationException", &message))
        }
        Err(_) => Err(Answer::error(408, "RequestTimeoutException", "the body did not come")),
    }
}
