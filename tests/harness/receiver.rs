//! A webhook receiver that keeps a ledger: which id came how often, with which body, and whether the
//! standard's own library could verify it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What arrived: per message id, how often, and the body.
#[derive(Default, Clone)]
pub struct Ledger {
    pub deliveries: BTreeMap<String, (u64, Bytes)>,
    pub unverified: u64,
    pub changed_bodies: u64,
}

impl Ledger {
    pub fn messages(&self) -> usize {
        self.deliveries.len()
    }

    pub fn duplicates(&self) -> u64 {
        self.deliveries.values().map(|(times, _)| times - 1).sum()
    }
}

/// One delivery that was verified.
pub struct Arrival {
    pub at: Instant,
    pub body: Bytes,
}

struct Shared {
    webhook: OnceLock<Webhook>,
    ledger: Mutex<Ledger>,
    arrivals: Mutex<Vec<Arrival>>,
}

/// A receiver on loopback; it can be stopped and started again on the same port.
pub struct Receiver {
    shared: Arc<Shared>,
    address: SocketAddr,
    server: Option<tokio::task::JoinHandle<()>>,
}

impl Receiver {
    pub async fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            webhook: OnceLock::new(),
            ledger: Mutex::default(),
            arrivals: Mutex::default(),
        });
        let server = Some(tokio::spawn(serve(listener, shared.clone())));
        Receiver { shared, address, server }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// What deliveries are verified with, from now on.
    pub fn expect_secret(&self, secret: &str) {
        let webhook = Webhook::new(secret).expect("a signing secret");
        assert!(self.shared.webhook.set(webhook).is_ok(), "one secret");
    }

    pub fn ledger(&self) -> Ledger {
        self.shared.ledger.lock().unwrap().clone()
    }

    /// What arrived since this was asked before, in order.
    pub fn take_arrivals(&self) -> Vec<Arrival> {
        std::mem::take(&mut *self.shared.arrivals.lock().unwrap())
    }

    /// Closes the port and every connection: what is sent is refused.
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            let _ = server.await;
        }
    }

    pub async fn start_again(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("its port is free");
        self.server = Some(tokio::spawn(serve(listener, self.shared.clone())));
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with the task: its connections close with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let shared = shared.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| answer(shared.clone(), request));
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return Ok(status(StatusCode::BAD_REQUEST));
    };
    let body = body.to_bytes();
    let id =
        head.headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or("").to_owned();
    let verified =
        shared.webhook.get().is_some_and(|webhook| webhook.verify(&body, &head.headers).is_ok());
    let mut ledger = shared.ledger.lock().unwrap();
    if !verified {
        ledger.unverified += 1;
        return Ok(status(StatusCode::UNAUTHORIZED));
    }
    shared.arrivals.lock().unwrap().push(Arrival { at: Instant::now(), body: body.clone() });
    let entry = ledger.deliveries.entry(id).or_insert_with(|| (0, body.clone()));
    entry.0 += 1;
    if entry.1 != body {
        ledger.changed_bodies += 1;
    }
    Ok(status(StatusCode::NO_CONTENT))
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    response
}
