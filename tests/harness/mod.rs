//! What the wire tests share: the real binary as child processes on loopback, the real SDK clients,
//! a webhook receiver that verifies with the standard's own library, Lambda's runtime API, and waiting for conditions.

pub mod aws;
pub mod child;
pub mod platform;
pub mod receiver;
pub mod runtime_api;

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::time::Instant;

/// How long a condition may take at most: generous, a slow machine is no failure.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `condition` holds, and fails with what it last saw when it does not in time.
pub async fn eventually<F, T>(what: &str, mut condition: F) -> T
where
    F: AsyncFnMut() -> Result<T, String>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        match condition().await {
            Ok(value) => return value,
            Err(seen) if Instant::now() > deadline => {
                panic!("{what}: still {seen} after {PATIENCE:?}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(25)).await,
        }
    }
}

/// GETs a JSON document over plain HTTP from this machine.
pub async fn http_get(url: &str) -> Value {
    http_json("GET", url, None).await
}

/// Sends a request with an optional JSON body to this machine; null for an answer without a body.
pub async fn http_json(method: &str, url: &str, body: Option<Value>) -> Value {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let request = http::Request::builder()
        .method(method)
        .uri(url)
        .header("content-type", "application/json")
        .body(Full::new(bytes::Bytes::from(body)))
        .expect("a request");
    let answer = client.request(request).await.expect("an answer");
    let status = answer.status();
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    assert!(status.is_success(), "{method} {url}: {status} {}", String::from_utf8_lossy(&body));
    if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") }
}
