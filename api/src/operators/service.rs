//! The port as one thing that runs: [`Service::bind`] makes it, [`Service::run`] serves until it is stopped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use aws_smithy_async::time::SharedTimeSource;
use axum::Router;
use store::{AccessStore, DeliveryStore, UsageStore};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::audit::Audit;
use super::fleet::{Fleet, Redrive};
use super::options::Options;
use super::routes::router;
use super::tokens::Operators;
use crate::manage::RandomFill;
use crate::options::{Limits, Transport};
use crate::routes::RequestIds;
use crate::server::Server;
use crate::service::{Error, Exit};

/// What a process tells its operators of itself.
pub trait Process: Send + Sync + 'static {
    /// `Ok` when the process does its work; else why not, in words.
    fn ready(&self) -> Result<(), String>;
    /// The whole state as a JSON document: figures, no secrets, nothing of a client's data.
    fn state(&self) -> serde_json::Result<Vec<u8>>;
}

/// What operators' calls work with.
#[derive(Clone)]
pub struct Backing {
    /// Clients and keys.
    pub access: AccessStore,
    /// Whether `access` has the pepper that the API checks keys with: without it none can be made here.
    pub makes_keys: bool,
    /// What clients have used of their limits.
    pub usage: UsageStore,
    /// What was given up.
    pub deliveries: DeliveryStore,
    /// Sends it again.
    pub redrive: Arc<dyn Redrive>,
    /// The leases and the workers.
    pub fleet: Arc<dyn Fleet>,
    /// The wall clock.
    pub time: SharedTimeSource,
    /// For ids and keys.
    pub random: RandomFill,
}

/// What the routes share.
pub(super) struct Desk {
    pub(super) process: Arc<dyn Process>,
    pub(super) backing: Backing,
    pub(super) operators: Operators,
    pub(super) audit: Arc<Audit>,
    pub(super) limits: Limits,
    /// A permit for every request in work.
    pub(super) in_flight: Arc<Semaphore>,
    pub(super) request_ids: RequestIds,
}

impl Desk {
    pub(super) fn now_ms(&self) -> i64 {
        let since = self.backing.time.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

/// A bound port. It answers once it [runs](Service::run).
pub struct Service {
    server: Server,
    router: Router,
}

/// What the app holds of a running port.
#[derive(Clone, Copy, Debug)]
pub struct Handle {
    address: SocketAddr,
}

impl Service {
    /// Checks the options and takes the address.
    pub async fn bind(
        options: Options,
        backing: Backing,
        process: Arc<dyn Process>,
    ) -> Result<(Self, Handle), Error> {
        options.check().map_err(Error::Options)?;
        let address = options.listen;
        let failed = |error| Error::Listen { address, error };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let limits = options.limits;
        let router = router(Arc::new(Desk {
            process,
            backing,
            operators: Operators::new(options.operators),
            audit: Audit::new(),
            in_flight: Arc::new(Semaphore::new(limits.max_requests_in_flight)),
            request_ids: RequestIds::new(options.seed),
            limits: limits.clone(),
        }));
        // Not behind a load balancer, but plain like there: it is reached on this machine, or through a tunnel.
        let transport = Transport::PlainBehindLoadBalancer;
        let server = Server::new(listener, transport, limits, Vec::new(), router.clone());
        Ok((Self { server: server.unmeasured(), router }, Handle { address }))
    }

    /// The routes alone.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// Serves until `stop`, then lets the requests in work end within the shutdown deadline.
    pub async fn run(self, stop: CancellationToken) -> Exit {
        let cut_connections = self.server.run(stop).await;
        Exit::Shutdown { cut_connections }
    }
}

impl Handle {
    /// The address that is listened on, with the port that the system chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
