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

use futures::future::BoxFuture;
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
        let resolver = Arc::new(SystemResolver(Arc::new(Semaphore::new(MAX_LOOKUPS))));
        Connector { tls: HttpsConnector::from((GuardedTcp { guard, resolver }, tls)) }
    }
}

/// Looks names up.
trait Resolver: Send + Sync {
    /// All addresses of a name.
    fn look_up(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The system's resolver. Its thread is counted until it comes back, also when nobody waits for it any more.
struct SystemResolver(Arc<Semaphore>);

impl Resolver for SystemResolver {
    fn look_up(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let room = Arc::clone(&self.0);
        Box::pin(async move {
            let permit = room.acquire_owned().await.map_err(io::Error::other)?;
            let asked = tokio::task::spawn_blocking(move || {
                let _held = permit;
                let found = (host.as_str(), port).to_socket_addrs()?;
                Ok(found.map(|address| address.ip()).collect())
            });
            asked.await.map_err(io::Error::other)?
        })
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
    resolver: Arc<dyn Resolver>,
}

impl Service<Uri> for GuardedTcp {
    type Response = TokioIo<TcpStream>;
    type Error = DialError;
    type Future = Connecting<Self::Response, DialError>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (guard, resolver) = (Arc::clone(&self.guard), Arc::clone(&self.resolver));
        Box::pin(async move {
            let addresses = checked_addresses(&guard, &*resolver, &uri).await?;
            dial(&addresses).await
        })
    }
}

async fn checked_addresses(
    guard: &Guard,
    resolver: &dyn Resolver,
    uri: &Uri,
) -> Result<Vec<SocketAddr>, DialError> {
    let target = guard.plan_dial(uri)?;
    if let (true, Some(objection)) = (guard.is_hopeless(&target), &target.unless_private) {
        return Err(objection.clone().into());
    }
    let resolved: Vec<IpAddr> = match target.host.parse() {
        Ok(literal) => vec![literal],
        Err(_) => resolver
            .look_up(target.host.clone(), target.port)
            .await
            .map_err(|source| DialError::Resolve { host: target.host.clone(), source })?,
    };
    Ok(guard.admit(&target, &resolved)?)
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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use tokio::net::TcpListener;

    use super::*;
    use crate::async_delivery::webhook::guard::AddressClass;

    /// Gives one answer after the other, and whatever the name is.
    struct Scripted(Mutex<VecDeque<Vec<IpAddr>>>);

    impl Resolver for Scripted {
        fn look_up(&self, _: String, _: u16) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
            let next = self.0.lock().unwrap().pop_front();
            Box::pin(std::future::ready(next.ok_or_else(|| io::Error::other("asked too often"))))
        }
    }

    fn tcp(answers: &[&[&str]]) -> GuardedTcp {
        let addresses = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().unwrap()).collect();
        let resolver = Scripted(Mutex::new(answers.iter().map(addresses).collect()));
        let vouched = "127.0.0.1".parse().unwrap();
        let guard = Guard { allowed_private: vec![vouched], ..Guard::default() };
        GuardedTcp { guard: Arc::new(guard), resolver: Arc::new(resolver) }
    }

    fn class(refused: Result<TokioIo<TcpStream>, DialError>) -> AddressClass {
        match refused {
            Err(DialError::Refused(Refusal::Address { class, .. })) => class,
            other => panic!("{:?}", other.map(|_| "connected")),
        }
    }

    #[tokio::test]
    async fn what_was_checked_is_what_is_dialled_and_a_rebound_name_is_checked_again() {
        let receiver = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = receiver.local_addr().unwrap();
        let uri: Uri = format!("http://rebind.example:{}/", address.port()).parse().unwrap();
        // One answer for each connection: a second look-up for the same one would get the next.
        let mut tcp = tcp(&[&["127.0.0.1"], &["169.254.169.254"], &["127.0.0.1"]]);
        let connected = tcp.call(uri.clone()).await.unwrap();
        assert_eq!(connected.inner().peer_addr().unwrap(), address);
        assert_eq!(class(tcp.call(uri.clone()).await), AddressClass::InstanceMetadata);
        assert!(tcp.call(uri.clone()).await.is_ok());
        assert!(matches!(tcp.call(uri).await, Err(DialError::Resolve { .. })));
    }

    #[tokio::test]
    async fn one_private_address_among_good_ones_refuses_them_all() {
        let receiver = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = receiver.local_addr().unwrap().port();
        let uri: Uri = format!("https://mixed.example:{port}/").parse().unwrap();
        let mut tcp = tcp(&[&["127.0.0.1", "10.0.0.8"], &["fd00:ec2::254", "127.0.0.1"], &[]]);
        assert_eq!(class(tcp.call(uri.clone()).await), AddressClass::Private);
        assert_eq!(class(tcp.call(uri.clone()).await), AddressClass::InstanceMetadata);
        let nothing = tcp.call(uri).await;
        assert!(matches!(nothing, Err(DialError::Refused(Refusal::NoAddress(_)))));
        let accepted = timeout(Duration::ZERO, receiver.accept()).await;
        assert!(accepted.is_err(), "nobody was dialled");
    }
}
