//! The API as one thing that runs: [`Service::bind`] makes it, [`Service::run`] serves until it is
//! stopped, and a [`Handle`] tells and switches from outside.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_async::time::SharedTimeSource;
use serde::Serialize;
use store::{AccessStore, MessageStore, RequestStore, Signer, UsageStore};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::oauth::{Documents, Tokens};
use crate::access::{Authenticator, EpochView, Gates};
use crate::audit::Audit;
use crate::backend::Backend;
use crate::manage::{Manager, Managing};
use crate::operators::Process;
use crate::options::{Limits, Options};
use crate::publish::{Publisher, Publishing};
use crate::readiness::Readiness;
use crate::routes::health::UNSEEN_CHANGES;
use crate::routes::{App, RequestIds, Streams, router};
use crate::server::Server;

#[cfg(test)]
pub(crate) mod tests;

/// What the API reads from and proves things with.
#[derive(Clone)]
pub struct Backing {
    /// The messages.
    pub messages: Arc<dyn MessageStore>,
    /// Clients and keys.
    pub access: AccessStore,
    /// What clients have used of their limits.
    pub usage: UsageStore,
    /// Signs links and cursors; the same in every task.
    pub signer: Signer,
    /// Fetches the keys of the issuers of access tokens.
    pub documents: Arc<dyn Documents>,
    /// Subscriptions and deliveries, which clients manage.
    pub managing: Managing,
    /// The wall clock.
    pub time: SharedTimeSource,
    /// Where published messages go; `None`: nowhere, nothing can be published.
    pub publisher: Option<Arc<dyn Publisher>>,
    /// Requests that clients may send again.
    pub requests: RequestStore,
}

/// The API cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option is not allowed; the text names it, what was found and what is allowed.
    #[error("{0}")]
    Options(String),
    /// The address cannot be listened on.
    #[error("listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        error: std::io::Error,
    },
}

/// Why the API ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was stopped.
    Shutdown {
        /// Connections that did not end within the deadline and were cut.
        cut_connections: usize,
    },
}

/// A bound API. It answers once it [runs](Service::run).
pub struct Service {
    server: Server,
    pub(crate) app: Arc<App>,
}

/// What the app holds of a running API.
#[derive(Clone, Debug)]
pub struct Handle {
    address: SocketAddr,
    readiness: Readiness,
    connections: TaskTracker,
    in_flight: Arc<Semaphore>,
    max_in_flight: usize,
    view: Arc<EpochView>,
}

/// Figures of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Open connections.
    pub connections: usize,
    /// Requests in work, until the last byte of their answer was sent; of a small one, until it was made.
    pub requests_in_flight: usize,
}

impl Service {
    /// Checks the options and takes the address. It is not ready until [`Handle::ready`] says so.
    pub async fn bind(options: Options, backing: Backing) -> Result<(Self, Handle), Error> {
        options.check().map_err(Error::Options)?;
        let address = options.listen;
        let failed = |error| Error::Listen { address, error };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (transport, limits) = (options.transport.clone(), options.limits.clone());
        let proxies = options.trusted_proxies.clone();
        let app = app(options, backing, Streams::Given);
        let max_in_flight = limits.max_requests_in_flight;
        let server = Server::new(listener, transport, limits, proxies, router(Arc::clone(&app)));
        let handle = Handle {
            address,
            readiness: app.readiness.clone(),
            connections: server.connections(),
            in_flight: Arc::clone(&app.in_flight),
            max_in_flight,
            view: app.authenticator.view(),
        };
        let service = Self { server, app };
        Ok((service, handle))
    }

    /// Serves until `stop`, then lets the requests in work end within the shutdown deadline.
    pub async fn run(self, stop: CancellationToken) -> Exit {
        // What waits, or would go on, learns why before its connection is closed.
        let serving = CancellationToken::new();
        let draining = async {
            stop.cancelled().await;
            self.app.readiness.not_ready("draining");
            self.app.draining.cancel();
            serving.cancel();
        };
        // Requests in work still need to know who was revoked, so the watch outlives the stop until
        // the last one ended.
        let served = CancellationToken::new();
        let serve = async {
            let cut_connections = self.server.run(serving.clone()).await;
            served.cancel();
            cut_connections
        };
        let watch = self.app.authenticator.watch(served.clone());
        let told = self.app.gates.keep_told(served.clone());
        let (cut_connections, (), (), ()) = tokio::join!(serve, watch, told, draining);
        tracing::info!(cut_connections, "api stopped");
        Exit::Shutdown { cut_connections }
    }
}

/// How many may follow at once: of what may be in work, a quarter is left when half of it waits.
fn tails(limits: &Limits) -> usize {
    limits.max_tails.min((limits.max_requests_in_flight / 4).max(1))
}

pub(crate) fn app(options: Options, backing: Backing, streams: Streams) -> Arc<App> {
    let limits = options.limits;
    let Backing { messages, access, usage, signer, documents, managing, time, publisher, requests } =
        backing;
    let tokens = Tokens::new(&options.oauth, &documents, &time);
    let has_base_url = options.base_url.is_some();
    let publishing = publisher
        .map(|publisher| Publishing::new(publisher, requests, time.clone(), limits.publish));
    Arc::new(App {
        manager: Manager::new(
            managing,
            Arc::clone(&messages),
            signer.clone(),
            &options.integrations,
            has_base_url,
            &limits,
            time.clone(),
        ),
        backend: Backend::new(messages, signer, options.integrations, time.clone(), &limits),
        gates: Gates::new(usage, time.clone(), &limits),
        audit: Audit::new(limits.audit),
        authenticator: Authenticator::new(access, tokens, time, &limits),
        base_url: options.base_url.unwrap_or_default(),
        hsts: options.hsts,
        readiness: Readiness::starting(),
        in_flight: Arc::new(Semaphore::new(limits.max_requests_in_flight)),
        request_ids: RequestIds::new(options.seed),
        // The other half stays for those that do not wait.
        waiting: Arc::new(Semaphore::new(limits.max_requests_in_flight / 2)),
        tailing: Arc::new(Semaphore::new(tails(&limits))),
        draining: CancellationToken::new(),
        streams,
        publishing,
        limits,
    })
}

impl Handle {
    /// The address that is listened on, with the port that the system chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on `/readyz` says yes (as long as the store lets it).
    pub fn ready(&self) {
        self.readiness.ready();
    }

    /// From now on `/readyz` says no and why. Requests are still answered.
    pub fn not_ready(&self, reason: &str) {
        self.readiness.not_ready(reason);
    }

    /// Figures of this moment.
    pub fn stats(&self) -> Stats {
        let free = self.in_flight.available_permits();
        Stats {
            connections: self.connections.len(),
            requests_in_flight: self.max_in_flight.saturating_sub(free),
        }
    }
}

/// The API, for its operators.
#[derive(Serialize)]
struct State {
    version: &'static str,
    address: SocketAddr,
    /// Why it is not ready; null if it is.
    not_ready: Option<String>,
    connections: usize,
    requests_in_flight: usize,
    max_requests_in_flight: usize,
    /// Null before changes of access were looked at for the first time.
    access: Option<AccessState>,
}

/// How far changes of access have been seen.
#[derive(Serialize)]
struct AccessState {
    epoch: u64,
    seen_ms_ago: u64,
}

impl Process for Handle {
    fn ready(&self) -> Result<(), String> {
        match self.readiness.reason() {
            Some(reason) => Err(reason),
            None if self.view.sees_changes() => Ok(()),
            None => Err(UNSEEN_CHANGES.to_owned()),
        }
    }

    fn state(&self) -> serde_json::Result<Vec<u8>> {
        let stats = self.stats();
        let seen_ms = |ago: Duration| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        let access = self.view.last_seen();
        serde_json::to_vec(&State {
            version: env!("CARGO_PKG_VERSION"),
            address: self.address,
            not_ready: Process::ready(self).err(),
            connections: stats.connections,
            requests_in_flight: stats.requests_in_flight,
            max_requests_in_flight: self.max_in_flight,
            access: access.map(|(epoch, ago)| AccessState { epoch, seen_ms_ago: seen_ms(ago) }),
        })
    }
}
