//! What storing a message costs, beside a bare loop over the same SDK: `cargo bench -p processor --bench store`.
//!
//! Both make `BatchWriteItem` calls of 25 items, 16 beside each other, through one real `aws-sdk-dynamodb` client, to a server
//! in a process of its own that reads a request and says that all of it is stored. The bare loop has its items made beforehand
//! and only copies them; ours starts from decoded events, and makes ids, keys and items. They take turns; what is compared is
//! the CPU time of this process, the least of the rounds.

#![allow(clippy::print_stdout)]

mod peer;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use processor::stages::store::StoreStage;
use processor::stages::{Decoded, Record};
use store::{DeliveryStore, DynamoMessages};
use tokio::task::JoinSet;

use peer::{SERVE, Server, cpu_ns, serve};

/// What the server says to each call: all of it is stored.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: 23\r\n\r\n{\"UnprocessedItems\":{}}";
const ROUNDS: usize = 7;
const ITEMS: usize = 25;
const PARALLEL: usize = 16;
/// Records of one event, and shards that they come from.
const EVENT: usize = 40;
const SHARDS: usize = 8;
/// Different records; they are stored again and again.
const RING: usize = 2_400;
const ARRIVED_AT_MS: i64 = 1_800_000_000_000;

type Item = HashMap<String, AttributeValue>;

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
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("bench", "secret", None, None, "bench"))
        .endpoint_url(endpoint)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    let client = Client::from_conf(config);
    println!("storing: CPU us an item (least of {rounds})");
    println!(
        "{:<10}{:>12}{:>12}{:>10}{:>16}",
        "bytes", "sync-store", "bare loop", "ratio", "items a call"
    );
    for (bytes, items) in [(200, 24_000), (1_000, 24_000), (10_000, 7_200)] {
        compare(rounds, &client, bytes, if rounds == 1 { RING } else { items }).await;
    }
}

async fn compare(rounds: usize, client: &Client, bytes: usize, items: usize) {
    let stage = StoreStage::start(
        Arc::new(DynamoMessages::new(client.clone(), "bench")),
        DeliveryStore::new(client.clone(), "bench"),
    )
    .expect("a writer");
    let records: Vec<Record> = (0..RING).map(|n| record(n, bytes)).collect();
    let events: Vec<Decoded> = (0u32..)
        .zip(records.chunks(EVENT))
        .map(|(n, chunk)| stage.event(n % SHARDS as u32, ARRIVED_AT_MS, chunk))
        .collect();
    let prepared: Arc<Vec<Item>> = Arc::new(records.iter().map(item).collect());
    let (mut ours, mut bare) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..rounds {
        let before = cpu_ns();
        stage.store(events.iter().cycle().take(items / EVENT)).await;
        ours = ours.min((cpu_ns() - before) as f64);
        let before = cpu_ns();
        bare_loop(client, &prepared, items).await;
        bare = bare.min((cpu_ns() - before) as f64);
    }
    let each = |ns: f64| ns / 1_000.0 / items as f64;
    let fill = stage.records_per_call();
    println!(
        "{bytes:<10}{:>12.2}{:>12.2}{:>9.2}x{fill:>16.2}",
        each(ours),
        each(bare),
        bare / ours
    );
}

/// A JSON message of this length, with a key and a sequence number as Kinesis makes them.
fn record(n: usize, bytes: usize) -> Record {
    let head = format!("{{\"id\":{n},\"type\":\"reading\",\"pad\":\"");
    let pad = "x".repeat(bytes.saturating_sub(head.len() + 2));
    let sequence = format!("495903382714902566085596925383615710959215759891{n:08}");
    (format!("device-{:04}", n % 500), sequence, format!("{head}{pad}\"}}").into_bytes())
}

/// The item that the product makes of the record, but for its id, which has the same length.
fn item((key, sequence, data): &Record) -> Item {
    let s = |text: &str| AttributeValue::S(text.to_owned());
    let n = |number: i64| AttributeValue::N(number.to_string());
    let sort = format!("063935596800000#abcdefghijklm#shardId-000000000000#056{sequence}#0000000");
    HashMap::from([
        ("pk".to_owned(), s(&format!("default#{key}"))),
        ("sk".to_owned(), s(&sort)),
        ("id".to_owned(), s(&format!("msg_{}", "a".repeat(32)))),
        ("time".to_owned(), n(ARRIVED_AT_MS)),
        ("arrivedAt".to_owned(), n(ARRIVED_AT_MS)),
        ("partitionKey".to_owned(), s(key)),
        ("stream".to_owned(), s("arn:aws:kinesis:us-east-1:000000000000:stream/s")),
        ("fence".to_owned(), n(1)),
        ("expiresAt".to_owned(), n(ARRIVED_AT_MS / 1_000)),
        ("payload".to_owned(), AttributeValue::B(Blob::new(data.as_slice()))),
    ])
}

/// What one writes without this product: full calls, side by side, nothing else.
async fn bare_loop(client: &Client, prepared: &Arc<Vec<Item>>, items: usize) {
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..PARALLEL {
        let (client, prepared, next) = (client.clone(), Arc::clone(prepared), Arc::clone(&next));
        tasks.spawn(async move {
            loop {
                let first = next.fetch_add(ITEMS, Ordering::Relaxed);
                if first >= items {
                    return;
                }
                let put = |n: usize| {
                    let item = prepared[n % RING].clone();
                    let put = PutRequest::builder().set_item(Some(item)).build().expect("an item");
                    WriteRequest::builder().put_request(put).build()
                };
                let requests = (first..first + ITEMS).map(put).collect();
                let call = client.batch_write_item().request_items("bench-messages", requests);
                let answer = call.send().await.expect("an answer");
                assert!(answer.unprocessed_items.unwrap_or_default().is_empty());
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a task");
    }
}
