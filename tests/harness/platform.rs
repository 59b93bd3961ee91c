//! A platform on loopback: one local-aws process, tables made by `init --dev`, a webhook receiver, and
//! what the tests ask of it. The services are started by each test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::aws::{Aws, Item, Sequence, text};
use super::child::{Ended, Sluicegate, file, run};
use super::receiver::Receiver;
use super::{eventually, http_get, http_json};

/// The bundled file's events.
pub const EARTHQUAKES: usize = 1_707;
/// The application of every test: the name of its lease table.
pub const APP: &str = "wire";
/// The stream of every test.
pub const STREAM: &str = "earthquakes";

/// The real earthquakes in order, each with the network that reported it as its key.
pub fn earthquakes() -> Vec<(String, Vec<u8>)> {
    let text =
        std::fs::read_to_string("../tests/data/earthquakes.ndjson").expect("the bundled file");
    let events: Vec<_> = text
        .lines()
        .map(|line| {
            let event: Value = serde_json::from_str(line).expect("JSON");
            let network = event["properties"]["net"].as_str().expect("a network").to_owned();
            (network, line.as_bytes().to_vec())
        })
        .collect();
    assert_eq!(events.len(), EARTHQUAKES);
    events
}

/// A directory of its own, removed with the test.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        let unique = format!("sluicegate-{name}-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(unique);
        std::fs::create_dir_all(&path).expect("a directory");
        Scratch(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A message as the table keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    pub payload: Vec<u8>,
}

/// A dead letter as the table keeps it.
#[derive(Debug, Clone)]
pub struct Letter {
    pub reason: String,
    pub detail: String,
    pub payload: Vec<u8>,
}

pub struct Platform {
    pub aws: Aws,
    pub receiver: Receiver,
    pub endpoint: String,
    pub config: String,
    /// The key of `init --dev`'s client, which may do everything.
    pub api_key: String,
    _local: Sluicegate,
    scratch: Scratch,
}

impl Platform {
    /// With the stream that `init --dev` makes.
    pub async fn start() -> Platform {
        Platform::with_shards(None).await
    }

    /// With a stream of so many shards.
    pub async fn with_shards(shards: Option<i32>) -> Platform {
        let scratch = Scratch::new("it");
        let mut local = Sluicegate::start(&["local", "--listen", "127.0.0.1:0"]);
        let line = local.line().await;
        let at = line.find("http://").expect("the address is printed");
        let endpoint = line[at..].split_whitespace().next().expect("an address").to_owned();
        let aws = Aws::at(&endpoint).await;
        if let Some(shards) = shards {
            let create = aws.kinesis.create_stream().stream_name(STREAM).shard_count(shards);
            create.send().await.expect("a stream");
        }
        let receiver = Receiver::start().await;
        let config = file(scratch.path(), "sluicegate.toml", &configuration(&endpoint, &receiver));
        let made = run(&[
            "init",
            "--config",
            &config,
            "--dev",
            "--webhook",
            &receiver.url(),
            "--output",
            "json",
        ])
        .await;
        assert_eq!(made.code, Some(0), "{:#?}", made.log);
        let made: Value = serde_json::from_str(&made.stdout.join("\n")).expect("JSON");
        receiver.expect_secret(made["dev"]["signing_secret"].as_str().expect("a secret"));

        let api_key = made["dev"]["api_key"].as_str().expect("a key").to_owned();
        Platform { aws, receiver, endpoint, config, api_key, _local: local, scratch }
    }

    /// A directory for files of the test.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    pub fn table(&self, name: &str) -> String {
        format!("{APP}-{name}")
    }

    /// Every stored message, by id; fails when one is stored under two keys.
    pub async fn stored(&self) -> BTreeMap<String, StoredMessage> {
        let mut stored = BTreeMap::new();
        for item in self.aws.scan(&self.table("messages")).await {
            if text(&item, "pk").is_some_and(|pk| pk.starts_with("#arrivals#")) {
                continue;
            }
            let id = text(&item, "id").expect("an id").to_owned();
            let message = StoredMessage { payload: bytes(&item, "payload") };
            assert!(stored.insert(id.clone(), message).is_none(), "{id} is stored twice");
        }
        stored
    }

    /// How many messages are stored.
    pub async fn stored_count(&self) -> usize {
        self.aws.count(&self.table("messages"), None).await
    }

    pub async fn dead_letters(&self) -> Vec<Letter> {
        let items = self.aws.scan(&self.table("deliveries")).await;
        let letters =
            items.iter().filter(|item| text(item, "pk").is_some_and(|pk| pk.starts_with("dead#")));
        letters
            .map(|item| Letter {
                reason: text(item, "reason").expect("a reason").to_owned(),
                detail: text(item, "detail").unwrap_or_default().to_owned(),
                payload: bytes(item, "payload"),
            })
            .collect()
    }

    /// How many deliveries are parked now.
    pub async fn parked(&self) -> usize {
        self.aws.count(&self.table("deliveries"), Some("parked#")).await
    }

    /// Shards from which a destination is owed what it did not get.
    pub async fn open_ranges(&self) -> usize {
        self.aws.count(&self.table("deliveries"), Some("range#")).await
    }

    /// The ids of the messages that are parked now.
    pub async fn parked_ids(&self) -> Vec<String> {
        let items = self.aws.scan(&self.table("deliveries")).await;
        let parked = items
            .iter()
            .filter(|item| text(item, "pk").is_some_and(|pk| pk.starts_with("parked#")));
        parked.map(|item| text(item, "id").unwrap_or_default().to_owned()).collect()
    }

    /// What is parked now.
    pub async fn parked_payloads(&self) -> Vec<Vec<u8>> {
        let items = self.aws.scan(&self.table("deliveries")).await;
        let parked = items
            .iter()
            .filter(|item| text(item, "pk").is_some_and(|pk| pk.starts_with("parked#")));
        parked.map(|item| bytes(item, "payload")).collect()
    }

    /// Where the ranges that are open begin: the stream keeps what a destination is owed from there on.
    pub async fn range_begins(&self) -> Vec<String> {
        let items = self.aws.scan(&self.table("deliveries")).await;
        let open =
            items.iter().filter(|item| text(item, "pk").is_some_and(|pk| pk.starts_with("range#")));
        open.filter_map(|item| text(item, "sequence").map(str::to_owned)).collect()
    }

    /// The lease table's items.
    pub async fn leases(&self) -> Vec<Item> {
        self.aws.scan(APP).await
    }

    /// Where a lane of each shard stands, as the leases say.
    pub async fn positions(&self, lane: &str) -> BTreeMap<String, Sequence> {
        let leases = self.leases().await;
        let position = |item: &Item| {
            let shard = text(item, "leaseKey")?.to_owned();
            let lanes = item.get("lanes")?.as_m().ok()?;
            let sequence = lanes.get(lane)?.as_m().ok()?.get("sequence")?.as_s().ok()?;
            sequence.bytes().all(|b| b.is_ascii_digit()).then(|| (shard, Sequence::of(sequence)))
        };
        leases.iter().filter_map(position).collect()
    }

    /// Waits until `count` different messages are stored, and the same number delivered.
    pub async fn everything_arrived(&self, count: usize) {
        eventually("every event is stored and delivered", async || {
            let stored = self.stored_count().await;
            let delivered = self.receiver.ledger().messages();
            if (stored, delivered) == (count, count) {
                return Ok(());
            }
            Err(format!("{stored} stored, {delivered} delivered of {count}"))
        })
        .await;
    }

    /// Makes calls to local-aws go wrong until [`Platform::clear`].
    pub async fn inject(&self, fault: Value) -> Value {
        http_json("POST", &format!("{}/_local/faults", self.endpoint), Some(fault)).await
    }

    pub async fn clear(&self, fault: Value) {
        let id = fault["id"].as_u64().expect("a fault's id");
        http_json("DELETE", &format!("{}/_local/faults/{id}", self.endpoint), None).await;
    }
}

/// The processor as a process of its own.
pub struct Processor {
    child: Sluicegate,
    operators: String,
}

impl Processor {
    /// Starts it and waits until it says where its operators' port is.
    pub async fn start(platform: &Platform) -> Processor {
        Processor::start_as(platform, "worker-1").await
    }

    /// The same under a worker id.
    pub async fn start_as(platform: &Platform, worker: &str) -> Processor {
        Processor::start_with(platform, &[&format!("app.worker_id={worker}")]).await
    }

    /// The same with some keys of the configuration set otherwise.
    pub async fn start_with(platform: &Platform, set: &[&str]) -> Processor {
        let mut args = vec!["processor", "--config", &platform.config];
        args.extend(set.iter().flat_map(|set| ["--set", set]));
        let mut child = Sluicegate::start(&args);
        let line = child.line().await;
        let at = line.find("http://").unwrap_or_else(|| panic!("an address: {line}"));
        let operators = line[at..].split_whitespace().next().expect("an address").to_owned();
        Processor { child, operators }
    }

    /// How far each pipeline is behind, in ms: the worst of all shards.
    pub async fn behind_ms(&self) -> BTreeMap<String, u64> {
        self.lanes("behind_ms").await
    }

    /// Bytes that each pipeline has not settled: the most of all shards.
    pub async fn in_flight(&self) -> BTreeMap<String, u64> {
        self.lanes("in_flight_bytes").await
    }

    /// Waits until everything that was read is settled in both lanes.
    pub async fn lanes_are_idle(&self) {
        eventually("both lanes have settled everything", async || {
            let in_flight = self.in_flight().await;
            if in_flight.values().all(|bytes| *bytes == 0) {
                Ok(())
            } else {
                Err(format!("{in_flight:?} unsettled"))
            }
        })
        .await;
    }

    async fn lanes(&self, field: &str) -> BTreeMap<String, u64> {
        let state = self.state().await;
        let mut lanes =
            BTreeMap::from([("sync-store".to_owned(), 0), ("async-delivery".to_owned(), 0)]);
        for shard in state["processor"]["shards"].as_array().expect("shards") {
            for lane in shard["lanes"].as_array().expect("lanes") {
                let pipeline = lane["pipeline"].as_str().expect("a name").to_owned();
                let worst = lanes.entry(pipeline).or_insert(0);
                *worst = (*worst).max(lane[field].as_u64().expect("a number"));
            }
        }
        lanes
    }

    /// What the operators' port says.
    pub async fn state(&self) -> Value {
        http_get(&format!("{}/v1/admin/state", self.operators)).await
    }

    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// The log so far.
    pub fn log(&mut self) -> &[String] {
        self.child.log()
    }

    /// Sends a signal by its name.
    pub async fn signal(&self, name: &str) {
        self.child.signal(name).await;
    }

    pub async fn kill(self) {
        self.child.kill().await;
    }

    pub async fn stop(self) -> Ended {
        self.child.terminate().await
    }
}

fn bytes(item: &Item, name: &str) -> Vec<u8> {
    item.get(name)
        .and_then(|value| value.as_b().ok())
        .map(|blob| blob.as_ref().to_vec())
        .unwrap_or_default()
}

fn configuration(endpoint: &str, receiver: &Receiver) -> String {
    let authority = receiver.authority();
    format!(
        r#"
[app]
name = "{APP}"
worker_id = "worker-1"

[aws]
region = "us-east-1"
endpoint_url = "{endpoint}"

[[streams]]
name = "{STREAM}"
consumer = "it"
start = "trim-horizon"

[[integrations]]
name = "earthquakes"
match = [{{ pointer = "/type", equals = "Feature" }}]
entity = "/properties/net"
time = {{ pointer = "/properties/time", format = "epoch-ms" }}
retention = "1h"
max_message_bytes = "64KiB"

[checkpoint]
interval = "1s"

[async_delivery]
allowed_private = ["{authority}"]

[operators]
listen = "127.0.0.1:0"

[api]
listen = "127.0.0.1:0"
operators_listen = "127.0.0.1:0"
transport = "plain-behind-load-balancer"

[telemetry]
log_format = "human"
"#
    )
}
