//! The server over real sockets. Where a deadline is tested time is paused: it jumps ahead as soon
//! as every side waits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::flood_tests;
use super::{ClientCertificates, Server, TlsError, TlsReloader};
use crate::options::{Limits, Transport};
use crate::testing::{Certificate, Http};

pub(super) struct Running {
    pub(super) address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<usize>,
    /// Tells when a request to `/slow` has begun.
    begun: mpsc::Receiver<()>,
    /// Lets one request to `/slow` be answered.
    release: mpsc::Sender<()>,
    /// Frames that `/endless` has made.
    pub(super) made: Arc<AtomicUsize>,
}

impl Running {
    pub(super) async fn start(transport: Transport, limits: Limits) -> Self {
        let (begin, begun) = mpsc::channel(8);
        let (release, released) = mpsc::channel::<()>(8);
        let released = Arc::new(tokio::sync::Mutex::new(released));
        let slow = move || async move {
            begin.send(()).await.unwrap();
            released.lock().await.recv().await;
            "slow"
        };
        let made = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&made);
        let endless = move || {
            let made = Arc::clone(&counted);
            async move { flood_tests::endless(made) }
        };
        let router = Router::new()
            .route("/", get(|| async { "fast" }))
            .route("/slow", get(slow))
            .route("/endless", get(endless))
            .route("/large", get(|| async { vec![b'x'; 32 * 1024 * 1024] }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = Server::new(listener, transport, limits, vec![], router);
        let task = tokio::spawn(server.run(stop.clone()));
        Self { address, stop, task, begun, release, made }
    }

    async fn plain(limits: Limits) -> Self {
        Self::start(Transport::PlainBehindLoadBalancer, limits).await
    }

    pub(super) async fn stop(self) -> usize {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

fn with_clients(certificate: &Certificate, clients: ClientCertificates) -> TlsReloader {
    let (chain, key) = (certificate.chain_pem.as_bytes(), certificate.key_pem.as_bytes());
    TlsReloader::from_pem(chain, key, clients).unwrap()
}

pub(super) fn reloader(certificate: &Certificate) -> TlsReloader {
    with_clients(certificate, ClientCertificates::Ignored)
}

#[tokio::test]
async fn both_http_versions_are_spoken_over_tls() {
    let certificate = Certificate::new();
    let running = Running::start(Transport::Tls(reloader(&certificate)), Limits::default()).await;
    for (alpn, version) in
        [(vec!["h2", "http/1.1"], "HTTP/2.0"), (vec!["http/1.1"], "HTTP/1.1"), (vec![], "HTTP/1.1")]
    {
        let stream = certificate.connect(running.address, &alpn).await.unwrap();
        let response = Http::over_tls(stream).await.get("/").await.unwrap();
        assert_eq!(format!("{:?}", response.version()), version);
        assert_eq!(response.body(), "fast");
    }
    assert_eq!(running.stop().await, 0);
}

#[tokio::test]
async fn tls_1_2_is_still_taken() {
    let certificate = Certificate::new();
    let running = Running::start(Transport::Tls(reloader(&certificate)), Limits::default()).await;
    let stream = TcpStream::connect(running.address).await.unwrap();
    let connector = certificate.connector(&["h2"], &rustls::version::TLS12);
    let stream =
        connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    assert_eq!(Http::over_tls(stream).await.get("/").await.unwrap().body(), "fast");
    running.stop().await;
}

#[tokio::test]
async fn a_replaced_certificate_holds_for_new_connections_and_leaves_open_ones_alone() {
    let (first, second) = (Certificate::new(), Certificate::new());
    let reloader = reloader(&first);
    let running = Running::start(Transport::Tls(reloader.clone()), Limits::default()).await;
    let mut open = Http::over_tls(first.connect(running.address, &["h2"]).await.unwrap()).await;
    open.get("/").await.unwrap();

    reloader.replace(second.chain_pem.as_bytes(), second.key_pem.as_bytes()).unwrap();
    assert!(first.connect(running.address, &["h2"]).await.is_err());
    let stream = second.connect(running.address, &["h2"]).await.unwrap();
    assert_eq!(Http::over_tls(stream).await.get("/").await.unwrap().body(), "fast");
    assert_eq!(open.get("/").await.unwrap().body(), "fast");

    let unusable = reloader.replace(first.chain_pem.as_bytes(), second.key_pem.as_bytes());
    assert!(matches!(unusable, Err(TlsError::Pair(_))));
    assert!(second.connect(running.address, &["h2"]).await.is_ok());
    running.stop().await;
}

#[test]
fn a_refused_key_is_not_quoted() {
    let certificate = Certificate::new();
    let broken = certificate.key_pem.replace("PRIVATE", "SECRET");
    let error = TlsReloader::from_pem(
        certificate.chain_pem.as_bytes(),
        broken.as_bytes(),
        ClientCertificates::Ignored,
    )
    .unwrap_err();
    assert!(matches!(error, TlsError::PrivateKey));
    let line = broken.lines().nth(1).unwrap();
    assert!(!format!("{error} {error:?}").contains(line));
    let none =
        TlsReloader::from_pem(b"", certificate.key_pem.as_bytes(), ClientCertificates::Ignored)
            .unwrap_err();
    assert!(none.to_string().contains("found none"));
}

#[tokio::test(start_paused = true)]
async fn files_are_followed_and_a_half_written_pair_is_tried_again() {
    let (first, second) = (Certificate::new(), Certificate::new());
    let folder = std::env::temp_dir().join(format!("sluicegate-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (chain, key) = (folder.join("chain.pem"), folder.join("key.pem"));
    std::fs::write(&chain, &first.chain_pem).unwrap();
    std::fs::write(&key, &first.key_pem).unwrap();
    let reloader =
        TlsReloader::from_files(&chain, &key, ClientCertificates::Ignored).await.unwrap();
    let running = Running::start(Transport::Tls(reloader.clone()), Limits::default()).await;
    let stop = CancellationToken::new();
    let follow = reloader.follow_files(&chain, &key, Duration::from_secs(1), stop.clone());
    let change = async {
        std::fs::write(&chain, &second.chain_pem).unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(first.connect(running.address, &[]).await.is_ok());
        std::fs::write(&key, &second.key_pem).unwrap();
        while second.connect(running.address, &[]).await.is_err() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        stop.cancel();
    };
    tokio::join!(follow, change);
    std::fs::remove_dir_all(&folder).unwrap();
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_its_head_too_slowly_is_cut() {
    let running = Running::plain(Limits::default()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nx-slow: ").await.unwrap();
    let begun = tokio::time::Instant::now();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(begun.elapsed() >= Duration::from_secs(19), "{:?}", begun.elapsed());
    assert!(!String::from_utf8_lossy(&rest).contains("fast"));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_finishes_its_handshake_is_cut() {
    let certificate = Certificate::new();
    let running = Running::start(Transport::Tls(reloader(&certificate)), Limits::default()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_http_2_connection_is_closed() {
    let certificate = Certificate::new();
    let limits = Limits { idle_timeout: Duration::from_secs(5), ..Limits::default() };
    let running = Running::start(Transport::Tls(reloader(&certificate)), limits).await;
    let mut client =
        Http::over_tls(certificate.connect(running.address, &["h2"]).await.unwrap()).await;
    client.get("/").await.unwrap();
    while client.get("/").await.is_ok() {
        tokio::time::sleep(Duration::from_secs(6)).await;
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_answer_is_cut() {
    let running = Running::plain(Limits::default()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"GET /large HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.len() < 32 * 1024 * 1024, "{}", rest.len());
    running.stop().await;
}

#[tokio::test]
async fn no_more_connections_are_served_than_allowed() {
    let mut running = Running::plain(Limits { max_connections: 1, ..Limits::default() }).await;
    let stream = TcpStream::connect(running.address).await.unwrap();
    let mut first = Http::over(stream, false).await;
    let slow = tokio::spawn(async move { first.get("/slow").await.map(|answer| (first, answer)) });
    running.begun.recv().await.unwrap();
    let stream = TcpStream::connect(running.address).await.unwrap();
    let mut second = Http::over(stream, false).await;
    {
        let mut waiting = std::pin::pin!(second.get("/"));
        assert!(futures::poll!(&mut waiting).is_pending());
        running.release.send(()).await.unwrap();
        let (first, answer) = slow.await.unwrap().unwrap();
        assert_eq!(answer.body(), "slow", "what is in work makes no room");
        assert_eq!(waiting.await.unwrap().body(), "fast");
        drop(first);
    }
    running.stop().await;
}

#[tokio::test]
async fn connections_that_say_nothing_make_room_for_those_that_do() {
    let certificate = Certificate::new();
    let limits = Limits { max_connections: 8, ..Limits::default() };
    let running = Running::start(Transport::Tls(reloader(&certificate)), limits).await;
    let known = certificate.connect(running.address, &["h2"]).await.unwrap();
    let mut known = Http::over_tls(known).await;
    known.get("/").await.unwrap();
    // Those that never shake hands, and those that begin a head and do not end it.
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(running.address).await.unwrap());
    }
    let mut half = Vec::new();
    for _ in 0..20 {
        let mut stream = certificate.connect(running.address, &["http/1.1"]).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nx-slow: ").await.unwrap();
        half.push(stream);
    }
    for _ in 0..10 {
        let stream = certificate.connect(running.address, &["h2"]).await.unwrap();
        assert_eq!(Http::over_tls(stream).await.get("/").await.unwrap().body(), "fast");
    }
    assert_eq!(
        known.get("/").await.unwrap().body(),
        "fast",
        "who was served before is not the first to go"
    );
    drop((silent, half));
    running.stop().await;
}

#[tokio::test]
async fn a_stop_lets_requests_in_work_be_answered_and_closes_what_is_idle() {
    let mut running = Running::plain(Limits::default()).await;
    let _silent = TcpStream::connect(running.address).await.unwrap();
    let stream = TcpStream::connect(running.address).await.unwrap();
    let mut client = Http::over(stream, false).await;
    let request = tokio::spawn(async move { client.get("/slow").await });
    running.begun.recv().await.unwrap();
    running.stop.cancel();
    running.release.send(()).await.unwrap();
    assert_eq!(request.await.unwrap().unwrap().body(), "slow");
    assert!(TcpStream::connect(running.address).await.is_err());
    assert_eq!(running.task.await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_longer_than_its_deadline() {
    let mut running = Running::plain(Limits::default()).await;
    let stream = TcpStream::connect(running.address).await.unwrap();
    let mut client = Http::over(stream, false).await;
    let request = tokio::spawn(async move { client.get("/slow").await });
    running.begun.recv().await.unwrap();
    let begun = tokio::time::Instant::now();
    assert_eq!(running.stop().await, 1);
    assert!(begun.elapsed() < Duration::from_secs(11));
    assert!(request.await.unwrap().is_err());
}
