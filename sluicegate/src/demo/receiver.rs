//! The demo's webhook receiver: a stranger that verifies every signature with the standard's own library.
//!
//! It can be stopped and started while the demo runs: stopped, its port refuses connections, as a
//! receiver's does that is being deployed.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::telemetry::RecentLines;

/// Bytes of a body that the receiver reads, at most.
const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;
/// Message ids that are remembered to tell duplicates, at most.
const MAX_REMEMBERED: usize = 100_000;

/// What has been received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// Requests whose signature was verified.
    pub(crate) verified: u64,
    /// Requests that were refused: signature wrong or missing.
    pub(crate) refused: u64,
    /// Verified requests whose id had been seen before.
    pub(crate) duplicates: u64,
    /// Different message ids.
    pub(crate) messages: u64,
}

/// A receiver that listens on one port of loopback whenever it is up.
pub(crate) struct Receiver {
    shared: Arc<Shared>,
    address: SocketAddr,
    up: Option<Up>,
}

struct Up {
    stop: CancellationToken,
    tasks: TaskTracker,
}

struct Shared {
    /// Known once the subscription is made; until then nothing can be verified.
    webhook: OnceLock<Webhook>,
    log: RecentLines,
    // Guards counters and a set of ids, changed once a request and read by the console; never held over an await.
    ledger: Mutex<Ledger>,
}

#[derive(Default)]
struct Ledger {
    received: Received,
    seen: BTreeSet<String>,
}

impl Receiver {
    /// A receiver on a free port of loopback.
    pub(crate) async fn start(log: RecentLines) -> io::Result<Receiver> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { webhook: OnceLock::new(), log, ledger: Mutex::default() });
        let mut receiver = Receiver { shared, address, up: None };
        receiver.listen(listener);
        Ok(receiver)
    }

    /// Verifies with `secret` (`whsec_...`) from now on.
    pub(crate) fn expect_secret(&self, secret: &str) -> anyhow::Result<()> {
        let webhook = Webhook::new(secret)
            .map_err(|error| anyhow::anyhow!("the receiver's secret: {error}"))?;
        self.shared
            .webhook
            .set(webhook)
            .map_err(|_| anyhow::anyhow!("the receiver has a secret already"))
    }

    /// The address that the subscription delivers to.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/hooks/earthquakes", self.address)
    }

    /// Where it listens when it is up.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it listens now.
    pub(crate) fn is_up(&self) -> bool {
        self.up.is_some()
    }

    /// What it has received since the demo began.
    pub(crate) fn received(&self) -> Received {
        self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner).received.clone()
    }

    /// Stops it when it is up, starts it on the same port when it is not.
    pub(crate) async fn toggle(&mut self) -> io::Result<()> {
        if self.up.is_some() {
            self.stop().await;
            return Ok(());
        }
        let listener = TcpListener::bind(self.address).await?;
        self.listen(listener);
        Ok(())
    }

    /// Closes the port and every connection.
    pub(crate) async fn stop(&mut self) {
        if let Some(up) = self.up.take() {
            up.stop.cancel();
            up.tasks.close();
            up.tasks.wait().await;
        }
    }

    fn listen(&mut self, listener: TcpListener) {
        let up = Up { stop: CancellationToken::new(), tasks: TaskTracker::new() };
        up.tasks.spawn(accept(
            listener,
            Arc::clone(&self.shared),
            up.stop.clone(),
            up.tasks.clone(),
        ));
        self.up = Some(up);
    }
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((socket, _)) = accepted else { continue };
        let (shared, stop) = (Arc::clone(&shared), stop.clone());
        tasks.spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&shared), request));
            let builder = auto::Builder::new(TokioExecutor::new());
            let connection = builder.serve_connection(TokioIo::new(socket), service);
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                _ = connection => {}
            }
        });
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let status = match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Err(_) => StatusCode::PAYLOAD_TOO_LARGE,
        Ok(body) => shared.verify(&head.headers, &body.to_bytes()),
    };
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    Ok(response)
}

impl Shared {
    fn verify(&self, headers: &http::HeaderMap, body: &[u8]) -> StatusCode {
        let id =
            headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or("-").to_owned();
        let verdict = match self.webhook.get() {
            Some(webhook) => webhook.verify(body, headers).map_err(|error| error.to_string()),
            None => Err("no secret is known yet".to_owned()),
        };
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let Err(error) = verdict else {
            let first = ledger.note(id.clone());
            let again = if first { "" } else { ", seen before" };
            self.log.push(format!("receiver: signature verified, {id}{again}: {}", title(body)));
            return StatusCode::NO_CONTENT;
        };
        ledger.received.refused += 1;
        self.log.push(format!("receiver: refused {id}: {error}"));
        StatusCode::UNAUTHORIZED
    }
}

impl Ledger {
    /// Counts a verified message; true when its id is new.
    fn note(&mut self, id: String) -> bool {
        self.received.verified += 1;
        if self.seen.contains(&id) {
            self.received.duplicates += 1;
            return false;
        }
        if self.seen.len() < MAX_REMEMBERED {
            self.seen.insert(id);
        }
        self.received.messages += 1;
        true
    }
}

/// What an earthquake calls itself, for people.
fn title(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Feature {
        properties: Properties,
    }
    #[derive(serde::Deserialize)]
    struct Properties {
        title: String,
    }
    serde_json::from_slice::<Feature>(body)
        .map_or_else(|_| "(no title)".to_owned(), |f| f.properties.title)
}
