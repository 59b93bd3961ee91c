//! The API for a host that brings requests one at a time and may freeze the process between them, as functions are:
//! [`Hosted::answer`] answers one, whole and in time; [`Hosted::settle`] does after it what the service does beside its requests.
//!
//! The routes are the service's own. It listens nowhere and leaves nothing to a task in the background: what may be too old is
//! looked at again before an answer, and what others must know is written before the process may be frozen. Streams without an
//! end are refused.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::response::IntoResponse;
use http::{HeaderMap, HeaderValue, Request, Response, header, response};
use http_body_util::{BodyExt, Limited};
use store::Network;
use tokio::time::{Instant, timeout_at};
use tower::ServiceExt;

use crate::access::Peer;
use crate::options::Options;
use crate::routes::problem::Problem;
use crate::routes::{App, Streams, WholeBy, prefer, router};
use crate::server::client_address;
use crate::service::{Backing, Error, app};

/// What is left of a request's time when a wait ends: for a last look, and the answer.
const AFTER_WAIT: Duration = Duration::from_secs(2);

/// What the host knows of a request beside the request itself.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The other end of the host's connection. If that is a trusted proxy, the request's `X-Forwarded-For` says more; `None`
    /// where the host does not say: then keys that are held to networks do not work.
    pub address: Option<IpAddr>,
    /// By then the answer is there.
    pub deadline: Instant,
    /// What the body of an answer may have; a larger one is a problem instead.
    pub max_answer_bytes: usize,
}

/// See the module.
pub struct Hosted {
    app: Arc<App>,
    router: Router,
    proxies: Vec<Network>,
}

impl Hosted {
    /// Checks the options. Of these `listen`, `transport` and the limits of connections and of tails mean nothing here.
    pub fn new(options: Options, backing: Backing) -> Result<Self, Error> {
        options.check().map_err(Error::Options)?;
        let proxies = options.trusted_proxies.clone();
        let app = app(options, backing, Streams::Refused);
        app.readiness.ready();
        Ok(Self { router: router(Arc::clone(&app)), app, proxies })
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<Bytes>, arrival: Arrival) -> Response<Bytes> {
        let begun = Instant::now();
        let Arrival { address, deadline, .. } = arrival;
        let mut request = request.map(Body::from);
        let named = |address| client_address(address, request.headers(), &self.proxies);
        let peer = Peer { address: address.and_then(named), ..Peer::default() };
        cut_wait(request.headers_mut(), deadline);
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(WholeBy(deadline));
        // Without it what needs it says so itself.
        let _ = timeout_at(deadline, self.app.authenticator.freshen(request.headers())).await;
        let response = match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        whole(response, begun, &arrival).await
    }

    /// Writes what the other tasks must know of the requests so far: what clients used of their limits, and when keys were
    /// last used. What is not written by `deadline` is written after a later request.
    pub async fn settle(&self, deadline: Instant) {
        let written = async {
            tokio::join!(self.app.gates.settle(), self.app.authenticator.settle());
        };
        if timeout_at(deadline, written).await.is_err() {
            tracing::warn!("not all that clients used could be written before the host goes on");
        }
    }
}

/// Nobody is held for longer than there is time: `Prefer: wait` is cut at that.
fn cut_wait(headers: &mut HeaderMap, deadline: Instant) {
    let time = deadline.saturating_duration_since(Instant::now());
    let longest = time.saturating_sub(AFTER_WAIT);
    if prefer::wait(headers, Duration::MAX).is_some_and(|wait| wait > longest) {
        headers.insert(prefer::PREFER, prefer::applied(longest));
    }
}

/// The answer with its whole body, if the host may give it.
async fn whole(response: Response<Body>, begun: Instant, arrival: &Arrival) -> Response<Bytes> {
    let Arrival { deadline, max_answer_bytes: max_bytes, .. } = *arrival;
    let (head, body) = response.into_parts();
    // A body that says that it is too long is not read, so that nobody pays for it.
    let says_too_long = body.size_hint().lower() > max_bytes as u64;
    if !says_too_long {
        match timeout_at(deadline, Limited::new(body, max_bytes).collect()).await {
            Ok(Ok(body)) => return Response::from_parts(head, body.to_bytes()),
            Ok(Err(_)) => {}
            Err(_) => {
                return instead(head, Problem::timeout(deadline.saturating_duration_since(begun)))
                    .await;
            }
        }
    }
    tracing::warn!(max_bytes, "an answer was larger than the host may give: it was refused");
    let detail = format!(
        "the answer has more than the {max_bytes} bytes that can be given here: ask for fewer messages with limit, or ask the service that streams"
    );
    instead(head, Problem::not_here(detail)).await
}

/// A problem in place of an answer. What is said of the client and of the request stays.
async fn instead(head: response::Parts, problem: Problem) -> Response<Bytes> {
    let (mut put, body) = problem.into_response().into_parts();
    put.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let of_the_answer = [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::ETAG, header::LINK];
    for (name, value) in &head.headers {
        if !of_the_answer.contains(name) && !put.headers.contains_key(name) {
            put.headers.insert(name.clone(), value.clone());
        }
    }
    // It is in memory already.
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    Response::from_parts(put, body)
}
