//! AWS Lambda's runtime API on loopback, as AWS documents it: gives events to the one process that asks for them, one at a time,
//! and takes its answers.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::PATIENCE;

const RUNTIME: &str = "/2018-06-01/runtime/";

/// What became of an event.
#[derive(Debug)]
pub enum Invoked {
    Answered(Value),
    /// The function said that it could not; what it said.
    Failed(Value),
}

struct Invocation {
    id: String,
    event: String,
    time: Duration,
    ended: oneshot::Sender<Invoked>,
}

#[derive(Default)]
struct Counts {
    /// How often the process asked for an event, and how many it has dealt with.
    asked: u64,
    dealt_with: u64,
}

struct Shared {
    events: tokio::sync::Mutex<mpsc::Receiver<Invocation>>,
    under_way: Mutex<HashMap<String, oneshot::Sender<Invoked>>>,
    counts: watch::Sender<Counts>,
    failed_start: watch::Sender<Option<Value>>,
}

pub struct RuntimeApi {
    pub address: String,
    events: mpsc::Sender<Invocation>,
    shared: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

impl RuntimeApi {
    pub async fn start() -> RuntimeApi {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let (sender, events) = mpsc::channel(64);
        let shared = Arc::new(Shared {
            events: tokio::sync::Mutex::new(events),
            under_way: Mutex::default(),
            counts: watch::Sender::default(),
            failed_start: watch::Sender::default(),
        });
        let server = tokio::spawn(serve(listener, Arc::clone(&shared)));
        RuntimeApi { address, events: sender, shared, server }
    }

    /// What Lambda sets for a function whose package is at `task_root`.
    pub fn environment(&self, task_root: &str) -> Vec<(String, String)> {
        let all = [
            ("AWS_LAMBDA_RUNTIME_API", self.address.as_str()),
            ("AWS_LAMBDA_FUNCTION_NAME", "sluicegate-api"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
            ("LAMBDA_TASK_ROOT", task_root),
        ];
        all.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// Gives the process an event, with half a minute for it.
    pub async fn invoke(&self, event: &Value) -> Invoked {
        self.invoke_within(event, Duration::from_secs(30)).await
    }

    /// The same with another time until the invocation's deadline.
    pub async fn invoke_within(&self, event: &Value, time: Duration) -> Invoked {
        let (ended, end) = oneshot::channel();
        let id = format!("{:032x}", fastrand::u128(..));
        let invocation = Invocation { id, event: event.to_string(), time, ended };
        assert!(self.events.send(invocation).await.is_ok());
        let end = tokio::time::timeout(PATIENCE, end).await.expect("an answer in time");
        end.expect("the process lives until it answered")
    }

    /// Waits until the process has done all that it does after its last answer: it asks for the next event.
    pub async fn idle(&self) {
        let mut counts = self.shared.counts.subscribe();
        let is_idle = |counts: &Counts| counts.asked > counts.dealt_with;
        let idle = tokio::time::timeout(PATIENCE, counts.wait_for(is_idle));
        idle.await.expect("the process asks for an event").expect("the server runs");
    }

    /// How often the process asked for an event.
    pub fn asked(&self) -> u64 {
        self.shared.counts.borrow().asked
    }

    /// What the process said when it could not start.
    pub async fn failed_start(&self) -> Value {
        let mut failed = self.shared.failed_start.subscribe();
        let failed = tokio::time::timeout(PATIENCE, failed.wait_for(Option::is_some)).await;
        failed.expect("in time").expect("the server runs").clone().expect("it is there")
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&shared), request));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let path = head.uri.path().strip_prefix(RUNTIME).unwrap_or_default().to_owned();
    Ok(match (head.method, path.split('/').collect::<Vec<_>>().as_slice()) {
        (Method::GET, ["invocation", "next"]) => next(&shared).await,
        (Method::POST, ["invocation", id, "response"]) => {
            ended(&shared, id, Invoked::Answered(json(&body)))
        }
        (Method::POST, ["invocation", id, "error"]) => {
            ended(&shared, id, Invoked::Failed(json(&body)))
        }
        (Method::POST, ["init", "error"]) => {
            shared.failed_start.send_replace(Some(json(&body)));
            status(StatusCode::ACCEPTED)
        }
        _ => status(StatusCode::NOT_FOUND),
    })
}

async fn next(shared: &Shared) -> Response<Full<Bytes>> {
    shared.counts.send_modify(|counts| counts.asked += 1);
    let Some(invocation) = shared.events.lock().await.recv().await else {
        return status(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let Invocation { id, event, time, ended } = invocation;
    shared.under_way.lock().unwrap().insert(id.clone(), ended);
    #[allow(clippy::disallowed_methods, reason = "the service's own clock, as the process sees it")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Response::builder()
        .header("content-type", "application/json")
        .header("lambda-runtime-aws-request-id", id)
        .header("lambda-runtime-deadline-ms", (now + time).as_millis().to_string())
        .header(
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:us-east-1:123456789012:function:sluicegate-api",
        )
        .header("lambda-runtime-trace-id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0")
        .body(Full::new(Bytes::from(event)))
        .expect("a response")
}

fn ended(shared: &Shared, id: &str, how: Invoked) -> Response<Full<Bytes>> {
    let Some(waiting) = shared.under_way.lock().unwrap().remove(id) else {
        return status(StatusCode::BAD_REQUEST);
    };
    shared.counts.send_modify(|counts| counts.dealt_with += 1);
    // A test that does not wait for it has no use for it.
    let _ = waiting.send(how);
    status(StatusCode::ACCEPTED)
}

fn json(body: &[u8]) -> Value {
    serde_json::from_slice(body).expect("JSON")
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(br#"{"status":"OK"}"#)));
    *response.status_mut() = status;
    response
}
