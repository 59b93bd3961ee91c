//! What delivering a message costs, beside a bare loop over the same HTTP client: `cargo bench -p processor --bench deliver`.
//!
//! Both POST the same bytes with a Standard Webhooks signature, 16 at a time over connections that are kept, to a receiver in a
//! process of its own that reads a request and says 200. The bare loop signs and sends; ours routes, keeps its lane's queue, rate and breaker,
//! guards its addresses, and acknowledges. They take turns; what is compared is the CPU time of this process, the least of the rounds.

#![allow(clippy::print_stdout)]

mod peer;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64_simd::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use processor::stages::deliver::DeliverStage;
use processor::stages::{Decoded, Record};
use processor::{Guard, HttpTransports};
use sha2::Sha256;
use store::{
    AccessStore, Action, Change, ClientId, DeliveryPolicy, DeliveryStore, Destination, Grant,
    GrantScope, Pepper, SigningSecret, Subscription, SubscriptionId, SubscriptionStore,
    WebhookDestination, WebhookUrl,
};
use tokio::task::JoinSet;

use peer::{SERVE, Server, cpu_ns, serve};

/// What the receiver says to each request.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const ROUNDS: usize = 7;
const PARALLEL: usize = 16;
/// Records of one event, and shards that they come from.
const EVENT: usize = 40;
const SHARDS: usize = 8;
/// Different records; they are delivered again and again.
const RING: usize = 2_400;
const ARRIVED_AT_MS: i64 = 1_800_000_000_000;
const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn main() {
    if std::env::args().any(|arg| arg == SERVE) {
        return serve(ANSWER);
    }
    // `cargo test --benches` only wants to see that it runs.
    let rounds = if std::env::args().any(|arg| arg == "--bench") { ROUNDS } else { 1 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let server = Server::start();
    runtime.expect("a runtime").block_on(compare_all(rounds, &server.endpoint));
}

async fn compare_all(rounds: usize, endpoint: &str) {
    println!("delivering: CPU us a message (least of {rounds})");
    println!("{:<10}{:>16}{:>12}{:>10}", "bytes", "async-delivery", "bare loop", "ratio");
    for (bytes, messages) in [(200, 24_000), (1_000, 24_000), (10_000, 12_000)] {
        compare(rounds, endpoint, bytes, if rounds == 1 { RING } else { messages }).await;
    }
}

async fn compare(rounds: usize, endpoint: &str, bytes: usize, messages: usize) {
    let stage = stage(endpoint, messages).await;
    let records: Vec<Record> = (0..RING).map(|n| record(n, bytes)).collect();
    let events: Vec<Decoded> = (0u32..)
        .zip(records.chunks(EVENT))
        .map(|(n, chunk)| stage.event(n % SHARDS as u32, ARRIVED_AT_MS, chunk))
        .collect();
    let bodies: Arc<[Bytes]> = records.iter().map(|r| Bytes::from(r.2.clone())).collect();
    let (mut ours, mut bare) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..rounds {
        let before = cpu_ns();
        stage.deliver(events.iter().cycle().take(messages / EVENT)).await;
        ours = ours.min((cpu_ns() - before) as f64);
        let before = cpu_ns();
        bare_loop(endpoint, &bodies, messages).await;
        bare = bare.min((cpu_ns() - before) as f64);
    }
    let delivered: u64 = stage.destinations().iter().map(|d| d.delivered).sum();
    assert_eq!(delivered, (rounds * messages) as u64, "all delivered at the first attempt");
    let each = |ns: f64| ns / 1_000.0 / messages as f64;
    println!("{bytes:<10}{:>16.2}{:>12.2}{:>9.2}x", each(ours), each(bare), bare / ours);
}

/// A courier with one subscription, over an embedded DynamoDB in which nothing is parked.
async fn stage(endpoint: &str, queue: usize) -> DeliverStage {
    let aws = local_aws::LocalAws::new(local_aws::Options::default()).expect("an embedded AWS");
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::latest())
        .region(aws_sdk_dynamodb::config::Region::new("us-east-1"))
        .credentials_provider(aws_sdk_dynamodb::config::Credentials::new(
            "bench", "any", None, None, "bench",
        ))
        .http_client(aws.http_client())
        .build();
    let client = aws_sdk_dynamodb::Client::from_conf(config);
    store::create_tables(&client, "bench").await.expect("tables");
    let owner = store::Client {
        id: ClientId::parse("bench").expect("an id"),
        name: "bench".to_owned(),
        grants: vec![Grant::new(GrantScope::All, Action::Subscribe)],
        limits: None,
        enabled: true,
        created_at_ms: 0,
        version: 0,
    };
    let pepper = Pepper::new(&[7; 32]).expect("a pepper");
    let access = AccessStore::new(client.clone(), "bench", pepper);
    access.put_client(&owner, &Change { by: "bench", at_ms: 0 }).await.expect("a client");
    let subscriptions = SubscriptionStore::new(client.clone(), "bench");
    subscriptions.put(&subscription(owner.id, endpoint)).await.expect("a subscription");
    let deliveries = DeliveryStore::new(client, "bench");
    let guard = Guard {
        allowed_private: vec!["127.0.0.1".parse().expect("an address")],
        ..Guard::default()
    };
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .expect("TLS")
    .with_root_certificates(rustls::RootCertStore::empty())
    .with_no_client_auth();
    let transports = Arc::new(HttpTransports::new(guard, Arc::new(tls)));
    DeliverStage::start(subscriptions, deliveries, transports, queue).await.expect("a courier")
}

fn subscription(client: ClientId, endpoint: &str) -> Subscription {
    let url = WebhookUrl::parse(&format!("{endpoint}/hook")).expect("a URL");
    let secret = SigningSecret::parse(SECRET).expect("a secret");
    Subscription {
        id: SubscriptionId::parse("bench").expect("an id"),
        client,
        integrations: Vec::new(),
        entity_prefix: None,
        types: Vec::new(),
        filter: None,
        destination: Destination::Webhook(WebhookDestination::new(url, secret)),
        policy: DeliveryPolicy { concurrency: PARALLEL as u32, ..DeliveryPolicy::default() },
        created_at_ms: 0,
        version: 0,
        enabled: true,
    }
}

/// A JSON message of this length, with a key and a sequence number as Kinesis makes them.
fn record(n: usize, bytes: usize) -> Record {
    let head = format!("{{\"id\":{n},\"type\":\"reading\",\"pad\":\"");
    let pad = "x".repeat(bytes.saturating_sub(head.len() + 2));
    let sequence = format!("495903382714902566085596925383615710959215759891{n:08}");
    (format!("device-{:04}", n % 500), sequence, format!("{head}{pad}\"}}").into_bytes())
}

/// What one writes without this product: sign, send, see that it was taken.
async fn bare_loop(endpoint: &str, bodies: &Arc<[Bytes]>, messages: usize) {
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(PARALLEL)
        .http1_max_buf_size(64 * 1024)
        .build(http);
    let key = STANDARD.decode_to_vec(SECRET.trim_start_matches("whsec_")).expect("a key");
    let key = Hmac::<Sha256>::new_from_slice(&key).expect("a key");
    let uri: http::Uri = format!("{endpoint}/hook").parse().expect("a URI");
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..PARALLEL {
        let (client, key, uri) = (client.clone(), key.clone(), uri.clone());
        let (bodies, next) = (Arc::clone(bodies), Arc::clone(&next));
        tasks.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= messages {
                    return;
                }
                let request = signed(&key, &uri, n, bodies[n % RING].clone());
                let response = client.request(request).await.expect("an answer");
                assert!(response.status().is_success());
                response.into_body().collect().await.expect("a body");
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a task");
    }
}

fn signed(
    key: &Hmac<Sha256>,
    uri: &http::Uri,
    n: usize,
    body: Bytes,
) -> http::Request<Full<Bytes>> {
    let (id, timestamp) = (format!("msg_{n:032}"), "1800000000");
    let mut mac = key.clone();
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", &body] {
        mac.update(part);
    }
    let signature = format!("v1,{}", STANDARD.encode_to_string(mac.finalize().into_bytes()));
    http::Request::post(uri.clone())
        .header("webhook-id", id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", signature)
        .header("content-type", "application/json")
        .body(Full::new(body))
        .expect("a request")
}
