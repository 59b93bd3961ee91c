//! A hundred receivers behind one port, by path; each is well until it is told otherwise.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

/// How a receiver behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    Accepts,
    /// A black hole.
    NeverAnswers,
    /// 500.
    Fails,
    /// 429 with `Retry-After`.
    AsksToWait,
    /// 302 to a place that notes whoever follows.
    Redirects,
    /// 200, and a body without end.
    NeverEnds,
}

struct One {
    behaviour: Behaviour,
    arrivals: Vec<(Bytes, Instant)>,
}

struct Shared {
    receivers: Vec<Mutex<One>>,
    /// Requests to the place that redirects lead to.
    followed: Mutex<usize>,
}

/// All of them; they end with it.
pub struct Receivers {
    shared: Arc<Shared>,
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Receivers {
    pub async fn start(count: usize) -> Receivers {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let well = || Mutex::new(One { behaviour: Behaviour::Accepts, arrivals: Vec::new() });
        let receivers = (0..count).map(|_| well()).collect();
        let shared = Arc::new(Shared { receivers, followed: Mutex::default() });
        let server = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Receivers { shared, address, server }
    }

    pub fn url(&self, n: usize) -> String {
        format!("http://{}/{n}", self.address)
    }

    pub fn set(&self, n: usize, behaviour: Behaviour) {
        self.shared.receivers[n].lock().unwrap().behaviour = behaviour;
    }

    /// Requests to one of them, repeats included.
    pub fn requests(&self, n: usize) -> usize {
        self.shared.receivers[n].lock().unwrap().arrivals.len()
    }

    /// Different bodies that came to one of them.
    pub fn distinct(&self, n: usize) -> usize {
        let one = self.shared.receivers[n].lock().unwrap();
        one.arrivals.iter().map(|(body, _)| body).collect::<BTreeSet<_>>().len()
    }

    /// Whether all of these came to one of them.
    pub fn has<'a>(&self, n: usize, mut bodies: impl Iterator<Item = &'a Vec<u8>>) -> bool {
        let one = self.shared.receivers[n].lock().unwrap();
        let came: BTreeSet<&[u8]> = one.arrivals.iter().map(|(body, _)| &**body).collect();
        bodies.all(|body| came.contains(body.as_slice()))
    }

    /// What came to these, and when.
    pub fn arrivals(&self, of: Range<usize>) -> Vec<(Vec<u8>, Instant)> {
        let all = self.shared.receivers[of].iter();
        all.flat_map(|one| {
            let one = one.lock().unwrap();
            one.arrivals.iter().map(|(body, at)| (body.to_vec(), *at)).collect::<Vec<_>>()
        })
        .collect()
    }

    /// Requests to where a redirect led.
    pub fn followed(&self) -> usize {
        *self.shared.followed.lock().unwrap()
    }
}

impl Drop for Receivers {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with the task: its connections close with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&shared), request));
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let Ok(body) = request.into_body().collect().await else { return Ok(status(400)) };
    let Ok(n) = path.parse::<usize>() else {
        *shared.followed.lock().unwrap() += 1;
        return Ok(status(200));
    };
    let behaviour = {
        let mut one = shared.receivers[n].lock().unwrap();
        one.arrivals.push((body.to_bytes(), Instant::now()));
        one.behaviour
    };
    Ok(match behaviour {
        Behaviour::Accepts => status(204),
        Behaviour::NeverAnswers => std::future::pending().await,
        Behaviour::Fails => status(500),
        Behaviour::AsksToWait => with(status(429), "retry-after", "30"),
        Behaviour::Redirects => with(status(302), "location", "/elsewhere"),
        Behaviour::NeverEnds => Response::new(endless()),
    })
}

fn with(mut answer: Answer, name: &'static str, value: &'static str) -> Answer {
    answer.headers_mut().insert(name, http::HeaderValue::from_static(value));
    answer
}

fn status(code: u16) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()).boxed_unsync());
    *answer.status_mut() = http::StatusCode::from_u16(code).expect("a status");
    answer
}

/// A byte now and then, for ever.
fn endless() -> UnsyncBoxBody<Bytes, Infallible> {
    let bytes = stream::repeat(Bytes::from_static(b".")).then(|byte| async {
        sleep(Duration::from_millis(200)).await;
        Ok(Frame::data(byte))
    });
    BodyExt::boxed_unsync(StreamBody::new(bytes))
}
