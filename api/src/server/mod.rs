//! Accepts connections, protects them and ends them: knows sockets and TLS, nothing of routes or
//! messages. Start at [`Server`]; [`connection`] is the life of one connection.

mod connection;
#[cfg(test)]
mod flood_tests;
mod peer;
mod roster;
mod stall;
mod streams;
#[cfg(test)]
mod tests;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use store::Network;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use tls::{ClientCertificates, TlsError, TlsReloader};

use crate::metrics;
use crate::options::{Limits, Transport};
pub(crate) use connection::Closing;
use connection::{Shared, drive};
pub(crate) use peer::client_address;
use roster::Roster;

/// Pause after a failed accept (mostly: no file descriptors left), so that it is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Between two looks for a connection that could make room for another.
const ROOM_PAUSE: Duration = Duration::from_millis(20);
/// What connections that were told to end at once get for it.
const CUT_GRACE: Duration = Duration::from_millis(500);

/// A listener with what every connection of it shares.
pub(crate) struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
    connections: TaskTracker,
    /// Whether its connections are those that are measured: the clients'.
    is_measured: bool,
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
            is_measured: true,
        }
    }

    /// The same, with connections that are not counted among those of clients.
    pub(crate) fn unmeasured(self) -> Self {
        Self { is_measured: false, ..self }
    }

    /// The open connections, to be counted.
    pub(crate) fn connections(&self) -> TaskTracker {
        self.connections.clone()
    }

    /// Serves until `stop`, then lets requests in work end. Gives the number of connections that
    /// were cut because they did not end within the shutdown deadline.
    pub(crate) async fn run(self, stop: CancellationToken) -> usize {
        let Self { listener, shared, connections, is_measured } = self;
        let slots = Arc::new(Semaphore::new(shared.limits.max_connections));
        let roster = Arc::new(Roster::default());
        loop {
            let accepted = tokio::select! { biased;
                () = stop.cancelled() => break,
                accepted = accept(&listener) => accepted,
            };
            let Some(stream) = accepted else {
                continue;
            };
            let slot = tokio::select! { biased;
                () = stop.cancelled() => break,
                slot = room(&slots, &roster) => slot,
            };
            let (shared, present) = (Arc::clone(&shared), roster.enter());
            connections.spawn(async move {
                if is_measured {
                    metrics::connection_opened();
                }
                let end = drive(stream, shared, present.activity()).await;
                if is_measured {
                    metrics::connection_closed(end.as_str());
                }
                drop((present, slot));
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

/// The next connection; `None` is a failed accept, after a pause.
async fn accept(listener: &TcpListener) -> Option<TcpStream> {
    match listener.accept().await {
        Ok((stream, _)) => Some(stream),
        Err(error) => {
            tracing::warn!(%error, "accept failed");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// A place for a connection. Where there is none, one that has nothing in work is asked to leave; where all have work, the first
/// that ends makes place.
async fn room(slots: &Arc<Semaphore>, roster: &Roster) -> Option<OwnedSemaphorePermit> {
    if let Ok(slot) = Arc::clone(slots).try_acquire_owned() {
        return Some(slot);
    }
    loop {
        roster.make_room();
        tokio::select! { biased;
            // Never closed: always a slot.
            slot = Arc::clone(slots).acquire_owned() => return slot.ok(),
            () = tokio::time::sleep(ROOM_PAUSE) => {}
        }
    }
}
