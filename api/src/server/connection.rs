//! One connection from accept to end: handshake, HTTP, and the reasons to end it. Knows no routes.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use store::Network;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::peer::client_address;
use super::roster::{Activity, Working};
use super::stall::StallGuard;
use super::streams::{self, Streams};
use crate::access::{Peer, thumbprint};
use crate::options::{Limits, Transport};
use crate::routes::held::HeldBody;

/// What hyper itself takes of a head, above our own limits: within it we answer in our own words.
const HYPER_HEAD_BYTES: usize = 64 * 1024;

/// What of one HTTP/2 stream's answer may wait for the socket.
const SEND_BYTES: usize = 64 * 1024;

/// Why a connection ended; the label of its metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By the client, or after an orderly close.
    Closed,
    /// No TLS handshake in time, or a failed one.
    Handshake,
    /// The transport or the protocol failed, or the client was too slow.
    Broken,
    /// By us, in the middle of work.
    Cut,
    /// By us: it had nothing in work, and there was no room for another.
    MadeRoom,
}

impl End {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Handshake => "handshake",
            Self::Broken => "broken",
            Self::Cut => "cut",
            Self::MadeRoom => "made-room",
        }
    }
}

/// What every connection of a server shares.
pub(crate) struct Shared {
    pub(super) transport: Transport,
    pub(super) limits: Limits,
    /// Of what connects from there, the header says whom it stands for.
    proxies: Vec<Network>,
    pub(super) router: Router,
    /// Finish what is in work, take nothing new.
    pub(super) stop: CancellationToken,
    /// End now.
    pub(super) cut: CancellationToken,
}

impl Shared {
    pub(super) fn new(
        transport: Transport,
        limits: Limits,
        proxies: Vec<Network>,
        router: Router,
    ) -> Self {
        Self {
            transport,
            limits,
            proxies,
            router,
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
        }
    }
}

/// Cancelled when the connection takes no further request and waits for those in work to end: for answers that would go on.
#[derive(Clone, Debug)]
pub(crate) struct Closing(pub(crate) CancellationToken);

/// Serves one accepted stream to its end.
pub(super) async fn drive(stream: TcpStream, shared: Arc<Shared>, activity: &Arc<Activity>) -> End {
    let peer = Peer { address: stream.peer_addr().ok().map(|at| at.ip()), ..Peer::default() };
    // Small answers should not wait for more; a socket that refuses this is about to fail anyway.
    let _ = stream.set_nodelay(true);
    let stream = StallGuard::new(stream, shared.limits.write_stall_timeout);
    match &shared.transport {
        Transport::PlainBehindLoadBalancer => serve_http1(stream, peer, &shared, activity).await,
        Transport::Tls(reloader) => {
            let handshake = tokio::time::timeout(
                shared.limits.handshake_timeout,
                reloader.acceptor().accept(stream),
            );
            let accepted = tokio::select! { biased;
                () = shared.stop.cancelled() => return End::Closed,
                accepted = handshake => accepted,
                () = activity.asked_to_leave() => return End::MadeRoom,
            };
            let Ok(Ok(stream)) = accepted else {
                return End::Handshake;
            };
            let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let peer = Peer { certificate: shown.map(|shown| thumbprint(shown)), ..peer };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                serve_http2(stream, peer, &shared, activity).await
            } else {
                serve_http1(stream, peer, &shared, activity).await
            }
        }
    }
}

async fn serve_http1<S>(
    stream: S,
    peer: Peer,
    shared: &Arc<Shared>,
    activity: &Arc<Activity>,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| answer(shared, request, peer, activity.begin()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.header_read_timeout)
        .max_buf_size(HYPER_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    watch(connection, activity, shared).await
}

async fn serve_http2<S>(
    stream: S,
    peer: Peer,
    shared: &Arc<Shared>,
    activity: &Arc<Activity>,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sharing, begun) = (Arc::clone(shared), Arc::clone(activity));
    let service = service_fn(move |request| answer(&sharing, request, peer, begun.begin()));
    let streams = Streams { stall: shared.limits.write_stall_timeout };
    let connection = http2::Builder::new(streams)
        .timer(TokioTimer::new())
        .keep_alive_interval(shared.limits.header_read_timeout)
        .keep_alive_timeout(shared.limits.write_stall_timeout)
        .max_concurrent_streams(shared.limits.max_streams_per_connection)
        .max_header_list_size(HYPER_HEAD_BYTES as u32)
        .max_send_buf_size(SEND_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    watch(connection, activity, shared).await
}

/// What the routes answer; they are told where the request comes from.
fn answer(
    shared: &Shared,
    mut request: Request<Incoming>,
    connection: Peer,
    working: Working,
) -> impl Future<Output = Result<Response<Body>, Infallible>> + use<> {
    let named = |address| client_address(address, request.headers(), &shared.proxies);
    let peer = Peer { address: connection.address.and_then(named), ..connection };
    request.extensions_mut().insert(peer);
    request.extensions_mut().insert(Closing(working.closing()));
    let answering = shared.router.clone().oneshot(request);
    async move {
        let response = answering.await?;
        Ok(streams::taken(response.map(|body| HeldBody::wrap(body, working))))
    }
}

/// Runs a connection until it ends, is idle or old enough to be closed in order, or is cut.
async fn watch<C: GracefulConnection>(connection: C, activity: &Activity, shared: &Shared) -> End {
    let limits = &shared.limits;
    let mut connection = pin!(connection);
    let mut too_old = pin!(tokio::time::sleep(limits.max_connection_age));
    loop {
        let idle_at = activity.idle_at(limits.idle_timeout);
        tokio::select! { biased;
            () = shared.cut.cancelled() => return End::Cut,
            () = shared.stop.cancelled() => break,
            result = connection.as_mut() => return ended(result.is_ok()),
            () = too_old.as_mut() => break,
            () = activity.asked_to_leave() => if activity.is_idle() { return End::MadeRoom },
            () = tokio::time::sleep_until(idle_at) => if activity.idle_at(limits.idle_timeout) <= Instant::now() { break },
        }
    }
    connection.as_mut().graceful_shutdown();
    activity.closing().cancel();
    tokio::select! { biased;
        () = shared.cut.cancelled() => End::Cut,
        result = connection.as_mut() => ended(result.is_ok()),
        // When the whole server stops, its deadline counts for all.
        () = tokio::time::sleep(limits.shutdown_deadline), if !shared.stop.is_cancelled() => End::Cut,
    }
}

fn ended(well: bool) -> End {
    if well { End::Closed } else { End::Broken }
}
