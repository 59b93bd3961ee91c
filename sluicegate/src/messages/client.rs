//! A client of the API: one GET, with the key, without redirects; an answer that is none is an error in words.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self};
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;

use super::args::CommonArgs;
use crate::clients::roots;

/// From the question to the head of the answer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// From there to its end, but for a stream.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// The largest answer that is read whole.
const MAX_BODY_BYTES: usize = 128 * 1024 * 1024;
const MAX_PROBLEM_BYTES: usize = 64 * 1024;
/// Where the key stands, if in no file.
const KEY: &str = "SLUICEGATE_CLIENT_KEY";

/// See the module.
pub(super) struct Api {
    http: legacy::Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    key: HeaderValue,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The API refuses the question, and will again.
    Refused(String),
    /// It cannot answer now; not to be asked again before this time, if it says one.
    NotNow(String, Option<Duration>),
}

/// As much of a problem (RFC 9457) as is shown.
#[derive(Debug, Default, Deserialize)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
}

impl Api {
    pub(super) fn new(args: &CommonArgs) -> anyhow::Result<Api> {
        let tls = rustls::ClientConfig::builder();
        let tls = match &args.ca {
            Some(path) => tls.with_root_certificates(roots("--ca", path)?.1),
            None => tls.with_native_roots()?,
        };
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls.with_no_client_auth())
            .https_or_http()
            .enable_all_versions()
            .build();
        let http = legacy::Client::builder(TokioExecutor::new()).build(connector);
        Ok(Api { http, key: key(args)? })
    }

    /// The head of a good answer; its body may go on for ever.
    pub(super) async fn open(
        &self,
        url: &str,
        last_event_id: Option<&str>,
    ) -> Result<Response<Incoming>, Failure> {
        let request =
            self.request(url, last_event_id).map_err(|e| Failure::Refused(e.to_string()))?;
        let answer = tokio::time::timeout(HEAD_TIMEOUT, self.http.request(request)).await;
        let answer = answer.map_err(|_| {
            Failure::NotNow(format!("no answer within {} s", HEAD_TIMEOUT.as_secs()), None)
        })?;
        let answer = answer
            .map_err(|error| Failure::NotNow(format!("{:#}", anyhow::Error::new(error)), None))?;
        if answer.status() == StatusCode::OK { Ok(answer) } else { Err(failure(answer).await) }
    }

    /// A whole answer.
    pub(super) async fn get(&self, url: &str) -> Result<Bytes, Failure> {
        let answer = self.open(url, None).await?;
        let body = Limited::new(answer.into_body(), MAX_BODY_BYTES).collect();
        let late = |_| Failure::NotNow(format!("no end within {} s", BODY_TIMEOUT.as_secs()), None);
        let body = tokio::time::timeout(BODY_TIMEOUT, body).await.map_err(late)?;
        let body =
            body.map_err(|error| Failure::NotNow(format!("the answer broke off: {error}"), None))?;
        Ok(body.to_bytes())
    }

    fn request(
        &self,
        url: &str,
        last_event_id: Option<&str>,
    ) -> http::Result<Request<Empty<Bytes>>> {
        let mut request = Request::get(url)
            .header(header::AUTHORIZATION, self.key.clone())
            .header(header::USER_AGENT, concat!("sluicegate/", env!("CARGO_PKG_VERSION")));
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        request.body(Empty::new())
    }
}

impl Failure {
    pub(super) fn words(&self) -> &str {
        match self {
            Failure::Refused(words) | Failure::NotNow(words, _) => words,
        }
    }
}

/// The key as it is sent; it is shown nowhere.
fn key(args: &CommonArgs) -> anyhow::Result<HeaderValue> {
    let text = match &args.key_file {
        Some(path) => std::fs::read_to_string(path)
            .with_context(|| format!("--key-file {}", path.display()))?,
        None => std::env::var(KEY).ok().with_context(|| {
            format!(
                "no key: set {KEY} to an API key or access token, or name a file with --key-file"
            )
        })?,
    };
    let mut value = HeaderValue::from_str(&format!("Bearer {}", text.trim()))
        .ok()
        .filter(|_| !text.trim().is_empty())
        .context("the key is empty, or has characters that no key has")?;
    value.set_sensitive(true);
    Ok(value)
}

async fn failure(answer: Response<Incoming>) -> Failure {
    let status = answer.status();
    let wait = answer.headers().get(header::RETRY_AFTER);
    let wait = wait.and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
    let body = Limited::new(answer.into_body(), MAX_PROBLEM_BYTES).collect();
    let body = tokio::time::timeout(HEAD_TIMEOUT, body).await.ok().and_then(Result::ok);
    let problem: Option<Problem> =
        body.and_then(|body| serde_json::from_slice(&body.to_bytes()).ok());
    let Problem { title, detail } = problem.unwrap_or_default();
    let title = title.unwrap_or_else(|| "an answer in other words than the API's".to_owned());
    let words = match detail {
        Some(detail) => format!("{} {title}: {detail}", status.as_u16()),
        None => format!("{} {title}", status.as_u16()),
    };
    // What is not served at an address will not be there a moment later either.
    let later = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED;
    let again = later || status == StatusCode::TOO_MANY_REQUESTS;
    if again { Failure::NotNow(words, wait) } else { Failure::Refused(words) }
}
