//! Opens connections to destinations: resolve, check, dial exactly what was checked, handshake.
//!
//! Every step is inside one timeout, because a connection attempt outlives the request that asked
//! for it. It never follows a proxy from the environment.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tower::Service;

use super::guard::{Guard, Refusal};

/// Look-up, dialling and TLS handshake together take at most this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Of the addresses of a name, at most this many are dialled.
const MAX_ADDRESSES: usize = 4;

/// Names that are looked up at once for one destination. A look-up holds one of the process's few
/// threads for as long as a resolver is silent: no destination may take all of them.
const MAX_LOOKUPS: usize = 8;

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("looking up `{host}`: {source}")]
    Resolve { host: String, source: io::Error },
    #[error("connecting to {address}: {source}")]
    Connect { address: SocketAddr, source: io::Error },
    #[error("no connection within {} s", CONNECT_TIMEOUT.as_secs())]
    TimedOut,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Connecting<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// TLS over guarded TCP, all within one timeout.
#[derive(Clone)]
pub(super) struct Connector {
    tls: HttpsConnector<GuardedTcp>,
}

impl Connector {
    pub(super) fn new(guard: Arc<Guard>, tls: Arc<rustls::ClientConfig>) -> Connector {
        let lookups = Arc::new(Semaphore::new(MAX_LOOKUPS));
        Connector { tls: HttpsConnector::from((GuardedTcp { guard, lookups }, tls)) }
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Connecting<Self::Response, BoxError>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tls.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.tls.call(uri);
        Box::pin(async move {
            match timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(result) => result,
                Err(_) => Err(DialError::TimedOut.into()),
            }
        })
    }
}

/// TCP to addresses that the guard admitted.
#[derive(Clone)]
struct GuardedTcp {
    guard: Arc<Guard>,
    lookups: Arc<Semaphore>,
}

impl Service<Uri> for GuardedTcp {
    type Response = TokioIo<TcpStream>;
    type Error = DialError;
    type Future = Connecting<Self::Response, DialError>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (guard, lookups) = (Arc::clone(&self.guard), Arc::clone(&self.lookups));
        Box::pin(async move {
            let addresses = checked_addresses(&guard, &lookups, &uri).await?;
            dial(&addresses).await
        })
    }
}

async fn checked_addresses(
    guard: &Guard,
    lookups: &Arc<Semaphore>,
    uri: &Uri,
) -> Result<Vec<SocketAddr>, DialError> {
    let target = guard.plan_dial(uri)?;
    if let (true, Some(objection)) = (guard.is_hopeless(&target), &target.unless_private) {
        return Err(objection.clone().into());
    }
    let resolved: Vec<IpAddr> = match target.host.parse() {
        Ok(literal) => vec![literal],
        Err(_) => look_up(lookups, target.host.clone(), target.port)
            .await
            .map_err(|source| DialError::Resolve { host: target.host.clone(), source })?,
    };
    Ok(guard.admit(&target, &resolved)?)
}

/// Asks the system's resolver. Its thread is counted until it comes back, also when nobody waits for
/// it any more.
async fn look_up(lookups: &Arc<Semaphore>, host: String, port: u16) -> io::Result<Vec<IpAddr>> {
    let permit = Arc::clone(lookups).acquire_owned().await.map_err(io::Error::other)?;
    let asked = tokio::task::spawn_blocking(move || {
        let _held = permit;
        let found = (host.as_str(), port).to_socket_addrs()?;
        Ok(found.map(|address| address.ip()).collect())
    });
    asked.await.map_err(io::Error::other)?
}

async fn dial(addresses: &[SocketAddr]) -> Result<TokioIo<TcpStream>, DialError> {
    let mut last = DialError::TimedOut;
    for &address in addresses.iter().take(MAX_ADDRESSES) {
        let share = CONNECT_TIMEOUT / MAX_ADDRESSES as u32;
        last = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Without it a small request can wait for the receiver's delayed acknowledgement.
                let _ = stream.set_nodelay(true);
                return Ok(TokioIo::new(stream));
            }
            Ok(Err(source)) => DialError::Connect { address, source },
            Err(_) => DialError::Connect { address, source: io::ErrorKind::TimedOut.into() },
        };
    }
    Err(last)
}
