//! Webhooks over real sockets on loopback.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use aws_smithy_async::time::{SharedTimeSource, SystemTimeSource};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use store::{
    DeliveryPolicy, Entity, IntegrationName, Message, MessageId, Position, SigningSecret,
    WebhookUrl,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::async_delivery::aws::AwsConfigs;
use crate::async_delivery::destination::Outlets;
use crate::async_delivery::testing::SECRET;

type Answering = Arc<dyn Fn(&Request<()>) -> Response<Full<Bytes>> + Send + Sync>;

/// A receiver on loopback that ends with the test's runtime.
struct Receiver {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    got: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

impl Receiver {
    async fn start(tls: Option<TlsAcceptor>, answer: Answering) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Receiver {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            got: Arc::default(),
        };
        let (connections, got) = (Arc::clone(&receiver.connections), Arc::clone(&receiver.got));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                let (tls, got, answer) = (tls.clone(), Arc::clone(&got), Arc::clone(&answer));
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, got, answer).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, got, answer).await;
                            }
                        }
                    }
                });
            }
        });
        receiver
    }

    async fn answering(status: u16) -> Receiver {
        let status = StatusCode::from_u16(status).unwrap();
        let answer = move |_: &Request<()>| {
            let mut response = Response::new(Full::new(Bytes::from_static(b"so\nit is")));
            *response.status_mut() = status;
            response.headers_mut().insert("location", HeaderValue::from_static("/elsewhere"));
            response
        };
        Receiver::start(None, Arc::new(answer)).await
    }

    fn requests(&self) -> usize {
        self.got.lock().unwrap().len()
    }
}

async fn serve<S>(stream: S, got: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>, answer: Answering)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (got, answer) = (Arc::clone(&got), Arc::clone(&answer));
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
            got.lock().unwrap().push((head.headers.clone(), body));
            Ok::<_, Infallible>(answer(&Request::from_parts(head, ())))
        }
    });
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn trust(roots: rustls::RootCertStore) -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

fn message() -> Message {
    let position = Position {
        stream_arn: "arn:aws:kinesis:us-east-1:000000000000:stream/s".into(),
        shard_id: "shardId-000000000000".into(),
        sequence: "49590338271490256608559692538361571095921575989136588898".into(),
        index: 3,
    };
    Message {
        id: MessageId::derive(&position),
        integration: IntegrationName::parse("earthquakes").unwrap(),
        entity: Entity::parse("us").unwrap(),
        time_ms: 1,
        arrived_at_ms: 2,
        position,
        partition_key: "us".into(),
        payload: Bytes::from_static("{\"place\":\"Île de la Réunion\"}".as_bytes()),
    }
}

struct Sent {
    url: String,
    allowed: &'static [&'static str],
    roots: rustls::RootCertStore,
    timeout_ms: u64,
    settings: Value,
    public_only: bool,
}

impl Sent {
    fn to(url: String) -> Sent {
        Sent {
            url,
            allowed: &["127.0.0.1"],
            roots: rustls::RootCertStore::empty(),
            timeout_ms: 5_000,
            settings: json!({}),
            public_only: false,
        }
    }

    fn with(settings: Value, receiver: &Receiver) -> Sent {
        Sent { settings, ..Sent::to(format!("http://{}/", receiver.address)) }
    }

    fn webhook(&self) -> Webhook {
        let guard = Guard {
            allowed_private: self.allowed.iter().map(|a| a.parse().unwrap()).collect(),
            ..Guard::default()
        };
        let policy = DeliveryPolicy { timeout_ms: self.timeout_ms, ..DeliveryPolicy::default() };
        let mut destination = WebhookDestination::new(
            WebhookUrl::parse(&self.url).unwrap(),
            SigningSecret::parse(SECRET).unwrap(),
        );
        let settings = serde_json::from_value(self.settings.clone()).unwrap();
        destination.configure(&settings).unwrap();
        destination.public_only = self.public_only;
        let workshop = Workshop {
            outlets: Outlets {
                webhooks: Arc::new(HttpTransports::new(guard, trust(self.roots.clone()))),
                aws: AwsConfigs::unreachable(),
            },
            links: None,
            time: SharedTimeSource::new(SystemTimeSource::new()),
        };
        Webhook::new(&destination, &policy, &workshop)
    }

    async fn outcome(&self) -> Outcome {
        attempt(&self.webhook(), 1).await
    }

    async fn failure(&self) -> Failure {
        match self.outcome().await {
            Outcome::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    }
}

async fn attempt(webhook: &Webhook, attempt: u32) -> Outcome {
    webhook.post(&Outgoing { message: message(), attempt }).await
}

#[tokio::test]
async fn the_official_library_verifies_what_a_receiver_gets() {
    let receiver = Receiver::answering(204).await;
    let sent = Sent::to(format!("http://{}/in?a=b", receiver.address));
    assert_eq!(attempt(&sent.webhook(), 3).await, Outcome::Accepted);
    let (headers, body) = receiver.got.lock().unwrap()[0].clone();
    standardwebhooks::Webhook::new(SECRET).unwrap().verify(&body, &headers).unwrap();
    assert_eq!(body, message().payload);
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("webhook-id"), message().id.as_str());
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("sluicegate-integration"), "earthquakes");
    assert_eq!(header("sluicegate-attempt"), "3");
    assert!(header("user-agent").starts_with("sluicegate/"));
}

#[tokio::test]
async fn connections_are_used_again() {
    let receiver = Receiver::answering(200).await;
    let webhook = Sent::to(format!("http://{}/", receiver.address)).webhook();
    for _ in 0..50 {
        assert_eq!(attempt(&webhook, 1).await, Outcome::Accepted);
    }
    assert_eq!((receiver.requests(), receiver.connections.load(Ordering::Relaxed)), (50, 1));
}

#[tokio::test]
async fn redirects_are_failures_and_never_followed() {
    for status in [301, 302, 303, 307, 308] {
        let receiver = Receiver::answering(status).await;
        let failure = Sent::to(format!("http://{}/", receiver.address)).failure().await;
        assert_eq!((failure.kind, receiver.requests()), (FailureKind::Unhealthy, 1));
        assert!(failure.detail.contains("redirects are not followed"), "{}", failure.detail);
    }
}

#[tokio::test]
async fn answers_are_told_apart() {
    for (status, kind) in [
        (400, FailureKind::Refused),
        (401, FailureKind::Refused),
        (404, FailureKind::Refused),
        (408, FailureKind::Unhealthy),
        (410, FailureKind::Gone),
        (425, FailureKind::Unhealthy),
        (429, FailureKind::Overloaded),
        (500, FailureKind::Unhealthy),
        (502, FailureKind::Overloaded),
        (503, FailureKind::Unhealthy),
        (504, FailureKind::Overloaded),
    ] {
        let receiver = Receiver::answering(status).await;
        let failure = Sent::to(format!("http://{}/", receiver.address)).failure().await;
        assert_eq!(failure.kind, kind, "{status}");
        assert!(failure.detail.ends_with(": so it is"), "{}", failure.detail);
    }
}

#[tokio::test]
async fn a_long_answer_is_read_no_further_than_its_limit() {
    let long = |status: u16| {
        let answer = move |_: &Request<()>| {
            let mut response = Response::new(Full::new(Bytes::from(vec![b'x'; 64 << 20])));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response
        };
        Receiver::start(None, Arc::new(answer))
    };
    let receiver = long(500).await;
    let failure = Sent::to(format!("http://{}/", receiver.address)).failure().await;
    let kept = failure.detail.bytes().filter(|byte| *byte == b'x').count();
    assert_eq!(kept, 1_024, "the first KiB is kept: {}", failure.detail);
    let receiver = long(200).await;
    let webhook = Sent::to(format!("http://{}/", receiver.address)).webhook();
    for _ in 0..2 {
        assert_eq!(attempt(&webhook, 1).await, Outcome::Accepted);
    }
    assert_eq!(
        receiver.connections.load(Ordering::Relaxed),
        2,
        "a connection with a rest is not used again"
    );
}

/// Answers every connection with `head` and then says nothing more.
async fn answering_only(head: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4_096];
            let _ = stream.read(&mut request).await;
            stream.write_all(head.as_bytes()).await.unwrap();
            silent.push(stream);
        }
    });
    address
}

#[tokio::test]
async fn a_status_counts_although_its_body_never_ends() {
    let accepted = answering_only("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc").await;
    assert_eq!(Sent::to(format!("http://{accepted}/")).outcome().await, Outcome::Accepted);
    let gone = answering_only("HTTP/1.1 410 Gone\r\ncontent-length: 9\r\n\r\nabc").await;
    let failure = Sent::to(format!("http://{gone}/")).failure().await;
    assert_eq!(failure.kind, FailureKind::Gone);
    assert!(failure.detail.ends_with(": abc"), "{}", failure.detail);
}

#[tokio::test]
async fn loopback_is_refused_unless_the_operator_allows_it() {
    let receiver = Receiver::answering(200).await;
    for url in [
        format!("https://{}/", receiver.address),
        format!("https://localhost:{}/", receiver.address.port()),
    ] {
        let failure = Sent { allowed: &["10.0.0.0/8"], ..Sent::to(url.clone()) }.failure().await;
        assert_eq!(failure.kind, FailureKind::Unreachable);
        assert!(failure.detail.contains("loopback"), "{url}: {}", failure.detail);
    }
    let failure =
        Sent { allowed: &[], ..Sent::to(format!("http://{}/", receiver.address)) }.failure().await;
    assert!(failure.detail.contains("https is required"), "{}", failure.detail);
    assert_eq!((receiver.requests(), receiver.connections.load(Ordering::Relaxed)), (0, 0));
}

#[tokio::test]
async fn no_answer_in_time_and_no_answer_at_all_are_failures() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let failure = Sent { timeout_ms: 100, ..Sent::to(url.clone()) }.failure().await;
    assert_eq!(
        (failure.kind, failure.detail.as_str()),
        (FailureKind::TimedOut, "no answer within 100 ms")
    );
    drop(silent);
    let failure = Sent::to(url).failure().await;
    assert_eq!(failure.kind, FailureKind::Unreachable);
    assert!(failure.detail.contains("refused"), "{}", failure.detail);
}

#[tokio::test]
async fn https_needs_a_certificate_of_a_trusted_root_for_the_urls_host() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let ok = |_: &Request<()>| Response::new(Full::default());
    let receiver = Receiver::start(Some(TlsAcceptor::from(Arc::new(config))), Arc::new(ok)).await;
    let port = receiver.address.port();
    let allowed: &[&str] = &["127.0.0.0/8", "::1"];
    let named = Sent { allowed, ..Sent::to(format!("https://localhost:{port}/")) };
    let distrusted = named.failure().await;
    assert!(distrusted.detail.contains("certificate"), "{}", distrusted.detail);

    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let trusted = Sent { roots: roots.clone(), ..named };
    assert_eq!(trusted.outcome().await, Outcome::Accepted);
    let other_name = Sent { roots, allowed, ..Sent::to(format!("https://127.0.0.1:{port}/")) };
    assert!(other_name.failure().await.detail.contains("certificate"));
    assert_eq!(receiver.requests(), 1);
}

#[test]
fn retry_after_is_seconds_or_a_date_in_the_future() {
    let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
    let parse = |text| parse_retry_after(text, now);
    assert_eq!(parse("120"), Some(Duration::from_secs(120)));
    assert_eq!(parse(" 0 "), Some(Duration::ZERO));
    assert_eq!(parse("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
    assert_eq!(parse("Sun, 06 Nov 1994 08:00:00 GMT"), None);
    for odd in ["", "soon", "-1", "1.5", "Sun, 99 Nov 1994 08:50:37 GMT"] {
        assert_eq!(parse(odd), None, "{odd}");
    }
}

#[path = "outward_tests.rs"]
mod outward;
