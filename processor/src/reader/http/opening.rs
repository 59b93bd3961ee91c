//! One opening at a time: calls that may share a connection wait for the one that is being opened.
//!
//! hyper learns from the handshake that a host speaks HTTP/2. Until then it opens a connection for each call,
//! and the slower the handshake, the more of them. Nothing here opens one; start at [`Opening::send`].

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper_util::client::legacy::connect::CaptureConnection;
use tokio::sync::Semaphore;

/// Whose turn it is to open a connection.
#[derive(Debug)]
pub(super) struct Opening {
    /// One permit: the turn. It is handed on in the order of the calls.
    turn: Semaphore,
    /// False once the host was seen to speak HTTP/1.1, where every call has a connection of its own.
    is_shared: AtomicBool,
    limit: Duration,
}

impl Opening {
    /// A call whose connection is not there after `limit` holds up the others no longer.
    pub(super) fn new(limit: Duration) -> Opening {
        Opening { turn: Semaphore::new(1), is_shared: AtomicBool::new(true), limit }
    }

    /// Sends `request` when no other call is about to open a connection. Its turn ends when it has a connection
    /// (`connected`), when it failed, when it is dropped, or after the limit.
    pub(super) async fn send<T>(
        &self,
        connected: CaptureConnection,
        request: impl Future<Output = T>,
    ) -> T {
        if !self.is_shared.load(Ordering::Relaxed) {
            return request.await;
        }
        // It is never closed.
        let turn = self.turn.acquire().await;
        let mut request = pin!(request);
        tokio::select! {
            biased;
            answer = &mut request => return answer,
            is_shared = tokio::time::timeout(self.limit, is_shared(connected)) => {
                self.is_shared.store(is_shared.unwrap_or(true), Ordering::Relaxed);
            }
        }
        drop(turn);
        request.await
    }
}

/// Waits for the connection: whether other calls may be put on it as well.
async fn is_shared(mut connected: CaptureConnection) -> bool {
    let connection = connected.wait_for_connection_metadata().await;
    connection.as_ref().is_none_or(|connection| connection.is_negotiated_h2())
}
