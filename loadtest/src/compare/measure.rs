//! One measurement: a source, a consumer, and what the consumer's CPU time grew by while it read.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::Method;
use serde_json::Value;
use tokio::time::Instant;

use super::consumer::{configuration, consumer_command, other_command};
use super::{Child, CompareError, Consumer, Options};
use crate::source::Sent;
use crate::wire::{Connection, Endpoint};

/// A child has started within this.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Everything was sent and read within this.
const READ_TIMEOUT: Duration = Duration::from_secs(600);
/// After the last subscription: what is left of starting up passes.
const SETTLE: Duration = Duration::from_millis(500);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What one measurement found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measurement {
    /// CPU seconds while it read.
    pub(super) cpu_s: f64,
    /// Wall-clock seconds, for information.
    pub(super) wall_s: f64,
    /// The most resident memory, since it started.
    pub(super) peak_rss_bytes: u64,
    /// Bytes of record data that it read.
    pub(super) bytes: u64,
    /// What the product says of itself.
    pub(super) added_latency: Option<AddedLatency>,
}

/// How much is written for a measurement, and how fast.
#[derive(Debug, Clone, Copy)]
pub(super) enum Load {
    /// So many bytes over all shards, as fast as they are taken.
    Bytes(u64),
    /// So many bytes a second over all shards, for so long.
    Rate(u64, Duration),
}

/// What the product adds: from a record's arrival in the process to the call of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AddedLatency {
    /// Records.
    pub count: u64,
    /// Half of them took at most so long, in microseconds.
    pub p50_us: u64,
    /// 99 of 100 did.
    pub p99_us: u64,
    /// All of them did.
    pub max_us: u64,
}

/// What all measurements share.
pub(super) struct Bench<'a> {
    options: &'a Options,
    dynamodb: String,
    _local: Child,
    runs: AtomicU32,
}

/// The consumer under measurement.
enum Running {
    Peer(Child),
    /// The product, and where its operators ask it.
    Product(Child, Endpoint),
}

impl<'a> Bench<'a> {
    /// Starts the DynamoDB that the product keeps its leases in.
    pub(super) async fn start(options: &'a Options) -> Result<Bench<'a>, CompareError> {
        let mut command = other_command(options, &options.sluicegate);
        command.args(["local", "--listen", "127.0.0.1:0"]);
        let mut local = Child::spawn("local", command, &options.directory)?;
        let line = local.line(START_TIMEOUT).await?;
        let dynamodb =
            url_in(&line).ok_or_else(|| local.problem(format!("no address in {line:?}")))?;
        Ok(Bench { options, dynamodb, _local: local, runs: AtomicU32::new(0) })
    }

    /// Has one consumer read records of one size.
    pub(super) async fn measure(
        &self,
        consumer: Consumer,
        record_bytes: usize,
        load: Load,
    ) -> Result<Measurement, CompareError> {
        let ca = self.options.tls.then(|| self.options.directory.join("ca.pem"));
        let (source, endpoint) = self.source(record_bytes, load, ca.as_ref()).await?;
        let mut control = Connection::open(&endpoint).await?;
        let mut running = self.consumer(consumer, &endpoint, ca.as_ref()).await?;
        sent_until(&mut control, &source, START_TIMEOUT, |sent| sent.subscriptions >= sent.shards)
            .await?;
        tokio::time::sleep(SETTLE).await;
        let before = running.child().usage()?;
        let started = Instant::now();
        control.json(Method::POST, "/loadtest/go").await?;
        let sent = sent_until(&mut control, &source, READ_TIMEOUT, |sent| sent.complete).await?;
        let added_latency = running.read_all(consumer, &sent).await?;
        let wall_s = started.elapsed().as_secs_f64();
        let after = running.child().usage()?;
        Ok(Measurement {
            cpu_s: after.cpu_s - before.cpu_s,
            wall_s,
            peak_rss_bytes: after.peak_rss_bytes,
            bytes: sent.bytes,
            added_latency,
        })
    }

    async fn source(
        &self,
        record_bytes: usize,
        load: Load,
        ca: Option<&PathBuf>,
    ) -> Result<(Child, Endpoint), CompareError> {
        let options = self.options;
        let mut command = other_command(options, &options.loadtest);
        command.args(["source", "--listen", "127.0.0.1:0", "--hold", "--output", "json"]);
        for (flag, value) in [
            ("--shards", u64::from(options.shards)),
            ("--record-bytes", record_bytes as u64),
            ("--event-bytes", options.event_bytes as u64),
        ] {
            command.arg(flag).arg(value.to_string());
        }
        let shards = u64::from(options.shards);
        match load {
            Load::Bytes(bytes) => {
                let records = (bytes / record_bytes as u64 / shards).max(1);
                command.arg("--records").arg(records.to_string());
            }
            Load::Rate(rate, duration) => {
                let rate = (rate / shards).max(1);
                command.arg("--rate").arg(rate.to_string());
                command.arg("--for").arg(format!("{}ms", duration.as_millis()));
            }
        }
        if let Some(ca) = ca {
            command.arg("--tls").arg(ca);
        }
        let mut source = Child::spawn("source", command, &options.directory)?;
        let line = source.line(START_TIMEOUT).await?;
        let url = serde_json::from_str::<Value>(&line)
            .ok()
            .and_then(|line| Some(line.get("endpoint_url")?.as_str()?.to_owned()))
            .ok_or_else(|| source.problem(format!("no address in {line:?}")))?;
        let ca_pem = match ca {
            Some(path) => Some(
                std::fs::read_to_string(path)
                    .map_err(|cause| CompareError::File { path: path.clone(), cause })?,
            ),
            None => None,
        };
        Ok((source, Endpoint { url, ca_pem }))
    }

    async fn consumer(
        &self,
        consumer: Consumer,
        endpoint: &Endpoint,
        ca: Option<&PathBuf>,
    ) -> Result<Running, CompareError> {
        let (options, ca) = (self.options, ca.map(PathBuf::as_path));
        if let Some(command) = consumer.peer(options, &endpoint.url, ca) {
            return Ok(Running::Peer(Child::spawn(consumer.name(), command, &options.directory)?));
        }
        // An application of its own for each measurement: no lease of an earlier one is in its way.
        let app = format!("compare-{}", self.runs.fetch_add(1, Ordering::Relaxed));
        let path = options.directory.join("sluicegate.toml");
        let text = configuration(&app, &endpoint.url, &self.dynamodb, ca);
        std::fs::write(&path, text)
            .map_err(|cause| CompareError::File { path: path.clone(), cause })?;
        let with_config = |mut command: Command, name: &str| {
            command.arg(name).arg("--config").arg(&path);
            command
        };
        let init = with_config(other_command(options, &options.sluicegate), "init");
        Child::spawn("init", init, &options.directory)?.success(START_TIMEOUT).await?;
        let processor = with_config(consumer_command(options, &options.sluicegate), "processor");
        let mut child = Child::spawn("processor", processor, &options.directory)?;
        let line = child.line(START_TIMEOUT).await?;
        let url = url_in(&line).ok_or_else(|| child.problem(format!("no address in {line:?}")))?;
        Ok(Running::Product(child, Endpoint { url, ca_pem: None }))
    }
}

impl Running {
    fn child(&self) -> &Child {
        match self {
            Running::Peer(child) | Running::Product(child, _) => child,
        }
    }

    /// Waits until it has read all that was sent; says what the product tells of itself then.
    async fn read_all(
        &mut self,
        consumer: Consumer,
        sent: &Sent,
    ) -> Result<Option<AddedLatency>, CompareError> {
        let counted =
            |what, expected, found| CompareError::Counted { consumer, what, expected, found };
        match self {
            Running::Peer(child) => {
                let line = child.line(READ_TIMEOUT).await?;
                let read: Value = serde_json::from_str(&line)
                    .map_err(|error| child.problem(format!("it said {line:?}: {error}")))?;
                let number = |key: &str| read.get(key).and_then(Value::as_u64).unwrap_or(0);
                let (records, bytes) = (number("records"), number("bytes"));
                if consumer.counts_records() {
                    return match records == sent.records && bytes == sent.bytes {
                        true => Ok(None),
                        false => Err(counted("records", sent.records, records)),
                    };
                }
                // The bytes of the wire: base64 alone makes four of three.
                match bytes >= sent.bytes / 3 * 4 {
                    true => Ok(None),
                    false => Err(counted("bytes", sent.bytes / 3 * 4, bytes)),
                }
            }
            Running::Product(child, endpoint) => {
                let state = state_once_read(child, endpoint, sent.records).await?;
                match state.records == sent.records {
                    true => Ok(state.added_latency),
                    false => Err(counted("records", sent.records, state.records)),
                }
            }
        }
    }
}

/// What the product's operators' port says that matters here.
struct State {
    records: u64,
    added_latency: Option<AddedLatency>,
}

/// Asks the product's operators' port until it has read so many records.
async fn state_once_read(
    child: &Child,
    endpoint: &Endpoint,
    expected: u64,
) -> Result<State, CompareError> {
    let deadline = Instant::now() + READ_TIMEOUT;
    let mut port = Connection::open(endpoint).await?;
    loop {
        let state = port.json(Method::GET, "/v1/admin/state").await?;
        let records = state.pointer("/processor/records_read").and_then(Value::as_u64);
        let records =
            records.ok_or_else(|| child.problem("no records_read in its state".to_owned()))?;
        if records >= expected || Instant::now() > deadline {
            let latency = state.pointer("/processor/sync_store/added_latency");
            let added_latency =
                latency.and_then(|latency| serde_json::from_value(latency.clone()).ok());
            return Ok(State { records, added_latency });
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Asks the source until what it sent is as wanted.
async fn sent_until(
    control: &mut Connection,
    source: &Child,
    within: Duration,
    wanted: impl Fn(&Sent) -> bool,
) -> Result<Sent, CompareError> {
    let deadline = Instant::now() + within;
    loop {
        let status = control.json(Method::GET, "/loadtest/status").await?;
        let sent: Sent = serde_json::from_value(status)
            .map_err(|error| source.problem(format!("its status: {error}")))?;
        if wanted(&sent) {
            return Ok(sent);
        }
        if Instant::now() > deadline {
            let problem =
                format!("its consumer is no further within {} s: {sent:?}", within.as_secs());
            return Err(source.problem(problem));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// The first URL in a line.
fn url_in(line: &str) -> Option<String> {
    line.split_whitespace().find(|word| word.starts_with("http://")).map(str::to_owned)
}
