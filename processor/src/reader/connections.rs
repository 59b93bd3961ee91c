//! Connections to Kinesis, and how many calls are put on each.
//!
//! Over HTTP/2 a client keeps one connection to a host, and all its calls share that: a subscription
//! is a call of five minutes. Servers limit how many may be open at once, and a connection that dies
//! takes all of them with it. So calls are spread over several clients, each with a connection of
//! its own. Nothing here opens one: that happens when a client is used.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_sdk_kinesis::Client;

/// Calls that are put on one connection at a time. RFC 9113 asks servers to allow at least 100.
pub(crate) const CALLS_PER_CONNECTION: usize = 64;

/// Makes Kinesis clients, each with a connection of its own.
#[derive(Clone)]
pub struct KinesisClients {
    make: Arc<dyn Fn() -> Client + Send + Sync>,
}

impl KinesisClients {
    /// Clients made by `make`. It is called when more connections are needed.
    pub fn new(make: impl Fn() -> Client + Send + Sync + 'static) -> KinesisClients {
        KinesisClients { make: Arc::new(make) }
    }
}

/// One client for everything: for an in-process endpoint, where there are no connections.
impl From<Client> for KinesisClients {
    fn from(client: Client) -> KinesisClients {
        KinesisClients::new(move || client.clone())
    }
}

impl fmt::Debug for KinesisClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KinesisClients")
    }
}

/// The connections of the process. Clones share them.
#[derive(Clone)]
pub(crate) struct Connections {
    clients: KinesisClients,
    /// A mutex because every shard's task takes and gives back; held for a walk over a few numbers,
    /// never awaited. One that nobody uses is closed by its own pool, so none is taken out for that.
    open: Arc<Mutex<Vec<Arc<Open>>>>,
}

/// A connection, and the calls on it.
struct Open {
    client: Client,
    calls: Mutex<usize>,
}

/// One call's place on a connection, given back on drop.
pub(crate) struct Connection {
    connections: Connections,
    on: Arc<Open>,
}

impl Connections {
    pub(crate) fn new(clients: KinesisClients) -> Connections {
        Connections { clients, open: Arc::default() }
    }

    /// A place on the first connection that has one, or on a new connection.
    pub(crate) fn take(&self) -> Connection {
        let mut open = self.open();
        let on = open.iter().find(|on| on.take()).cloned().unwrap_or_else(|| {
            let on = Arc::new(Open { client: (self.clients.make)(), calls: Mutex::new(1) });
            open.push(Arc::clone(&on));
            on
        });
        Connection { connections: self.clone(), on }
    }

    /// How many have calls on them.
    pub(crate) fn in_use(&self) -> usize {
        self.open().iter().filter(|on| *on.calls() > 0).count()
    }

    /// Calls on all of them.
    #[cfg(test)]
    pub(crate) fn calls(&self) -> usize {
        self.open().iter().map(|on| *on.calls()).sum()
    }

    fn open(&self) -> MutexGuard<'_, Vec<Arc<Open>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn take(&self) -> bool {
        let mut calls = self.calls();
        let has_room = *calls < CALLS_PER_CONNECTION;
        *calls += usize::from(has_room);
        has_room
    }

    fn calls(&self) -> MutexGuard<'_, usize> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    pub(crate) fn client(&self) -> Client {
        self.on.client.clone()
    }

    /// The connection may be dead without anybody having said so: no further call is put on it.
    /// Those that are on it stay until they end or fall silent themselves.
    pub(crate) fn distrust(&self) {
        self.connections.open().retain(|on| !Arc::ptr_eq(on, &self.on));
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        *self.on.calls() -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::reader::testing::client;

    fn connections() -> (Connections, Arc<AtomicUsize>) {
        let made = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&made);
        let clients = KinesisClients::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            client(local_aws::LocalAws::new(local_aws::Options::default()).unwrap().http_client())
        });
        (Connections::new(clients), made)
    }

    #[test]
    fn calls_fill_one_connection_before_the_next_is_made() {
        let (connections, made) = connections();
        let mut calls: Vec<Connection> = (0..130).map(|_| connections.take()).collect();
        assert_eq!((made.load(Ordering::Relaxed), connections.in_use()), (3, 3));
        calls.drain(..100);
        assert_eq!(connections.in_use(), 2, "the first has none left");
        let _again: Vec<Connection> = (0..64).map(|_| connections.take()).collect();
        assert_eq!(made.load(Ordering::Relaxed), 3, "the first is filled again");
    }

    #[test]
    fn nothing_more_is_put_on_a_connection_that_is_distrusted() {
        let (connections, made) = connections();
        let (one, two) = (connections.take(), connections.take());
        one.distrust();
        two.distrust();
        let _three = connections.take();
        assert_eq!((made.load(Ordering::Relaxed), connections.in_use()), (2, 1));
        drop((one, two));
        assert_eq!(connections.in_use(), 1);
    }
}
