//! Accepts connections, protects them and ends them: knows sockets and TLS, nothing of routes or
//! messages. Start at [`Server`]; [`connection`] is the life of one connection.

mod connection;
mod peer;
mod stall;
#[cfg(test)]
mod tests;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use store::Network;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use tls::{ClientCertificates, TlsError, TlsReloader};

use crate::metrics;
use crate::options::{Limits, Transport};
use connection::{Shared, drive};

/// Pause after a failed accept (mostly: no file descriptors left), so that it is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What connections that were told to end at once get for it.
const CUT_GRACE: Duration = Duration::from_millis(500);

/// A listener with what every connection of it shares.
pub(crate) struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
    connections: TaskTracker,
}

impl Server {
    pub(crate) fn new(
        listener: TcpListener,
        transport: Transport,
        limits: Limits,
        proxies: Vec<Network>,
        router: Router,
    ) -> Self {
        Self {
            listener,
            shared: Arc::new(Shared::new(transport, limits, proxies, router)),
            connections: TaskTracker::new(),
        }
    }

    /// The open connections, to be counted.
    pub(crate) fn connections(&self) -> TaskTracker {
        self.connections.clone()
    }

    /// Serves until `stop`, then lets requests in work end. Gives the number of connections that
    /// were cut because they did not end within the shutdown deadline.
    pub(crate) async fn run(self, stop: CancellationToken) -> usize {
        let Self { listener, shared, connections } = self;
        let slots = Arc::new(Semaphore::new(shared.limits.max_connections));
        loop {
            let accepted = tokio::select! { biased;
                () = stop.cancelled() => break,
                accepted = accept(&listener, &slots) => accepted,
            };
            let Some((stream, slot)) = accepted else {
                continue;
            };
            let shared = Arc::clone(&shared);
            connections.spawn(async move {
                metrics::connection_opened();
                let end = drive(stream, shared).await;
                metrics::connection_closed(end.as_str());
                drop(slot);
            });
        }
        drop(listener);
        drain(&connections, &shared).await
    }
}

/// Ends every connection, in order as far as the deadline allows.
async fn drain(connections: &TaskTracker, shared: &Shared) -> usize {
    shared.stop.cancel();
    connections.close();
    let deadline = shared.limits.shutdown_deadline;
    if tokio::time::timeout(deadline, connections.wait()).await.is_ok() {
        return 0;
    }
    let left = connections.len();
    shared.cut.cancel();
    // They only have to notice; a task that does not is dropped with the runtime.
    let _ = tokio::time::timeout(CUT_GRACE, connections.wait()).await;
    left
}

/// The next connection, once there is a slot for it; `None` is a failed accept, after a pause.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, slot)),
        Err(error) => {
            tracing::warn!(%error, "accept failed");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}
