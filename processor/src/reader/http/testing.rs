//! TLS with HTTP/2 in front of an embedded Kinesis, connections that can be cut or frozen, and
//! readers of many shards behind it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use local_aws::{KinesisOptions, LocalAws, Options};
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::ReadHttp;
use crate::batch::ShardContext;
use crate::budget::Budget;
use crate::fan_out::{FanOut, FanOutOptions, FanOutParts};
use crate::reader::StartingAt;
use crate::reader::connections::{Connections, KinesisClients};
use crate::reader::consumer::Consumer;
use crate::reader::testing::{client, context};
use crate::turns::Turns;

const STREAM: &str = "many";

/// A Kinesis behind TLS. Ends with its tasks when it is dropped.
pub(super) struct Site {
    pub(super) aws: LocalAws,
    pub(super) kinesis: aws_sdk_kinesis::Client,
    pub(super) accepted: Arc<Mutex<Vec<Accepted>>>,
    /// Connections before this one, counted from 0, wait with their handshakes.
    pub(super) first_ready: watch::Sender<usize>,
    stream_arn: String,
    consumer_arn: String,
    address: SocketAddr,
    tls: rustls::ClientConfig,
    /// Where new connections lead to.
    upstream: watch::Sender<SocketAddr>,
    serving: CancellationToken,
    _tasks: JoinSet<()>,
}

/// A connection of a client.
pub(super) struct Accepted {
    pub(super) task: AbortHandle,
    /// While true, nothing passes in either direction, and nobody is told.
    pub(super) frozen: watch::Sender<bool>,
}

impl Site {
    pub(super) async fn new(shards: i32) -> Site {
        let kinesis = KinesisOptions {
            enforce_limits: false,
            idle_event_interval: Duration::from_millis(200),
            ..KinesisOptions::default()
        };
        let aws = LocalAws::new(Options { kinesis, ..Options::default() }).unwrap();
        let kinesis = client(aws.http_client());
        kinesis.create_stream().stream_name(STREAM).shard_count(shards).send().await.unwrap();
        let summary = kinesis.describe_stream_summary().stream_name(STREAM).send().await.unwrap();
        let stream_arn = summary.stream_description_summary.unwrap().stream_arn;
        let consumer = kinesis.register_stream_consumer().stream_arn(&stream_arn);
        let consumer = consumer.consumer_name("app").send().await.unwrap().consumer.unwrap();
        let (acceptor, tls) = tls();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let serving = CancellationToken::new();
        let upstream = watch::Sender::new(serve(&aws, &serving, &mut tasks).await);
        let accepted = Arc::default();
        let first_ready = watch::Sender::new(0);
        let (ready, all) = (first_ready.subscribe(), Arc::clone(&accepted));
        tasks.spawn(accept(listener, acceptor, upstream.subscribe(), ready, all));
        Site {
            consumer_arn: consumer.consumer_arn,
            _tasks: tasks,
            aws,
            kinesis,
            accepted,
            first_ready,
            stream_arn,
            address,
            tls,
            upstream,
            serving,
        }
    }

    /// Connections over TLS, each with these windows, and the time that opening one may take.
    pub(super) fn connections(
        &self,
        (stream_window, connection_window): (u32, u32),
        limit: Duration,
    ) -> Connections {
        let (tls, port) = (self.tls.clone(), self.address.port());
        let config = self.kinesis.config().to_builder();
        Connections::new(KinesisClients::new(move || {
            let http = ReadHttp::with_windows(tls.clone(), limit, stream_window, connection_window);
            let endpoint = format!("https://localhost:{port}");
            let config = config.clone().endpoint_url(endpoint).http_client(http);
            aws_sdk_kinesis::Client::from_conf(config.build())
        }))
    }

    /// A reader of each shard, in the order of the shards.
    pub(super) async fn readers(
        &self,
        connections: &Connections,
        options: &FanOutOptions,
    ) -> Vec<FanOut> {
        let shards = self.kinesis.list_shards().stream_name(STREAM).send().await.unwrap();
        let parts = FanOutParts {
            options: options.clone(),
            connections: connections.clone(),
            turns: Turns::new(options.subscribes_per_second),
            budget: Budget::new(256 << 20),
            consumer: Consumer::new(&self.stream_arn, &self.consumer_arn),
        };
        let reader = |(seed, shard): (usize, &aws_sdk_kinesis::types::Shard)| {
            let context: Arc<ShardContext> = context(&self.stream_arn, &shard.shard_id);
            FanOut::new(parts.clone(), context, StartingAt::TrimHorizon, seed as u64)
        };
        shards.shards().iter().enumerate().map(reader).collect()
    }

    /// Puts a record into the shard of this index, of so many.
    pub(super) async fn put(&self, shard: u128, of: u128, data: Vec<u8>) {
        let hash_key = (u128::MAX / of * shard + u128::MAX / of / 2).to_string();
        let put = self.kinesis.put_record().stream_name(STREAM).partition_key("k");
        put.explicit_hash_key(hash_key).data(Blob::new(data)).send().await.unwrap();
    }

    /// The server behind the connections goes away in order, another one takes its place.
    pub(super) async fn roll(&mut self) {
        let old = std::mem::take(&mut self.serving);
        let address = serve(&self.aws, &self.serving, &mut self._tasks).await;
        self.upstream.send_replace(address);
        old.cancel();
    }

    pub(super) fn subscribe_calls(&self) -> u64 {
        let calls = self.aws.calls();
        calls.iter().filter(|c| c.operation == "SubscribeToShard").map(|c| c.calls).sum()
    }
}

async fn serve(aws: &LocalAws, stop: &CancellationToken, tasks: &mut JoinSet<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (aws, stop) = (aws.clone(), stop.clone());
    tasks.spawn(async move { aws.serve(listener, stop).await.unwrap() });
    address
}

/// A server's and a client's side of TLS that trust each other and speak HTTP/2.
fn tls() -> (TlsAcceptor, rustls::ClientConfig) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    server.alpn_protocols = vec![b"h2".to_vec()];
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder().with_root_certificates(roots);
    (TlsAcceptor::from(Arc::new(server)), client.with_no_client_auth())
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    upstream: watch::Receiver<SocketAddr>,
    first_ready: watch::Receiver<usize>,
    accepted: Arc<Mutex<Vec<Accepted>>>,
) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let (acceptor, address) = (acceptor.clone(), *upstream.borrow());
        let frozen = watch::Sender::new(false);
        let (thawed, mut ready) = (frozen.subscribe(), first_ready.clone());
        let number = accepted.lock().unwrap().len();
        let task = connections.spawn(async move {
            drop(ready.wait_for(|first| number >= *first).await);
            let (Ok(mut near), Ok(mut far)) =
                (acceptor.accept(socket).await, TcpStream::connect(address).await)
            else {
                return;
            };
            let mut frozen = thawed.clone();
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
                Ok(_) = frozen.wait_for(|frozen| *frozen) => {}
            }
            // Both ends stay open and hear nothing.
            std::future::pending::<()>().await;
        });
        accepted.lock().unwrap().push(Accepted { task, frozen });
    }
}
