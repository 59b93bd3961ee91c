//! Everything the demo runs, put together: set up in order, asked for figures, taken down in order.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use loadtest::produce::{
    self, JsonPointer, Keys, Pace, Producer, Replay, ReplayInput, Source, StreamRef,
};
use local_aws::{Effect, Fault, FaultId, LocalAws};
use store::{DeliveryStore, OperatorToken, Pepper, SubscriptionId, WebhookUrl};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::EARTHQUAKES;
use super::certificate::self_signed;
use super::console::Frame;
use super::receiver::Receiver;
use super::tasks::Part;
use crate::cli::DemoArgs;
use crate::clients::Clients;
use crate::config::{Config, Service};
use crate::init::{self, Dev, DevReport, Plan};
use crate::services::{ApiService, ProcessorService, ProcessorServiceHandle};
use crate::telemetry::RecentLines;
use crate::{operators, random};

/// The demo's configuration, with the same keys as in production.
const CONFIG: &str = include_str!("../../data/demo.toml");
/// The stream that the producer writes to, as the configuration names it.
const STREAM: &str = "earthquakes";
/// Shards of the stream.
const SHARDS: u32 = 2;
/// An entity with many events, for the printed lines.
const ENTITY: &str = "us";
/// A message to publish: its entity is one of its own.
const PUBLISHED: &str = r#"{"type":"Feature","properties":{"net":"demo","place":"your desk"}}"#;
/// How often the parked deliveries are counted, and how many at most.
const COUNT_PARKED_EVERY: Duration = Duration::from_secs(1);
const MOST_PARKED: usize = 10_000;

/// The running demo.
pub(crate) struct Stage {
    started: Instant,
    local: LocalAws,
    endpoint: String,
    api_address: std::net::SocketAddr,
    operators_address: std::net::SocketAddr,
    operator_token: OperatorToken,
    receiver: Receiver,
    produced: produce::Handle,
    /// How many events there will be, when they end.
    total: Option<u64>,
    processor: ProcessorServiceHandle,
    parked: Parked,
    dev: DevReport,
    throttle: Option<FaultId>,
    directory: Directory,
    /// In the order in which they are stopped.
    parts: Vec<Part>,
}

/// What waits for the receiver, asked for once a second.
struct Parked {
    deliveries: DeliveryStore,
    subscription: SubscriptionId,
    due: Instant,
    now: u64,
    open_ranges: usize,
}

impl Stage {
    /// Sets everything up; the producer writes from now on.
    pub(crate) async fn set(args: &DemoArgs, log: RecentLines) -> anyhow::Result<Stage> {
        let started = Instant::now();
        let local = LocalAws::new(local_aws::Options::default())?;
        let (endpoint, local_part) = serve(&local).await?;
        let receiver = Receiver::start(log).await?;
        let directory = Directory::make()?;
        let operator_token = OperatorToken::generate(&mut random::fill);
        let mut config =
            configuration(&endpoint, args.listen, &receiver, &directory, &operator_token)?;
        let clients = Clients::make(&config.aws).await?;
        let dev = initialise(&config, &clients, &receiver).await?;
        let secret = dev.signing_secret.as_deref().context("no subscription was made")?;
        receiver.expect_secret(secret)?;
        let processor = ProcessorService::prepare(&config, &clients).await?;
        let api = api_service(&mut config, &clients).await?;
        let (producer, produced) = producer(args, &clients)?;
        let subscription = dev.subscription.as_deref().context("no subscription was made")?;
        let parked = Parked {
            deliveries: DeliveryStore::new(clients.dynamodb.clone(), &config.app.name),
            subscription: SubscriptionId::parse(subscription)?,
            due: Instant::now(),
            now: 0,
            open_ranges: 0,
        };
        let api_address = api.handle().address();
        let processor_handle = processor.handle();
        let (listen, process) = (config.operators.listen, Arc::new(processor.handle()));
        let (operators, operators_handle) =
            operators::bind(&config, &clients, listen, process).await?;
        let parts = vec![
            Part::once("the producer", |stop| async move { drop(producer.run(stop).await) }),
            Part::service("the processor", |stop| processor.run(stop)),
            Part::service("the API", |stop| api.run(stop)),
            Part::once("the operators' port", |stop| async move {
                operators.run(stop).await;
            }),
            local_part,
        ];
        let total = writes_once(args).then(events);
        Ok(Stage {
            started,
            local,
            endpoint,
            api_address,
            operators_address: operators_handle.address(),
            operator_token,
            receiver,
            produced,
            total,
            processor: processor_handle,
            parked,
            dev,
            throttle: None,
            directory,
            parts,
        })
    }

    /// What a person reads first: where things are, and lines to paste.
    pub(crate) fn welcome(&self) -> String {
        let base = format!("https://{}/v1", self.api_address);
        let ca = self.directory.certificate();
        let get = |path: &str| {
            format!(
                "  curl -sS --cacert {} -H 'x-api-key: {}' '{base}{path}'\n",
                ca.display(),
                self.dev.api_key
            )
        };
        let entity = format!("/integrations/{STREAM}/entities/{ENTITY}");
        [
            "Sluicegate demo: the whole platform on this machine.\n".to_owned(),
            format!("  up after {} ms\n\n", self.started.elapsed().as_millis()),
            "Ask the API (paste into another terminal):\n".to_owned(),
            get(&format!("{entity}/latest")),
            get(&format!("{entity}/messages?limit=3")),
            get("/integrations"),
            get("/me"),
            format!(
                "  curl -sS --cacert {} -H 'x-api-key: {}' -H 'content-type: application/json' -d '{PUBLISHED}' '{base}/integrations/{STREAM}/messages'\n",
                ca.display(),
                self.dev.api_key
            ),
            format!(
                "\nAsk as an operator:\n  curl -sS -H 'authorization: Bearer {}' 'http://{}/v1/admin/clients'\n",
                self.operator_token.expose(),
                self.operators_address
            ),
            format!("\nKinesis and DynamoDB for the AWS CLI: --endpoint-url {}\n", self.endpoint),
            format!(
                "The webhook receiver listens on {} and verifies every signature.\n\n",
                self.receiver.address()
            ),
        ]
        .concat()
    }

    /// Everything as it is now.
    pub(crate) async fn frame(&mut self, log: Vec<String>) -> Frame {
        self.parked.count().await;
        let status = self.processor.status();
        let lag = |pipeline: &str| {
            let lanes = status.shards.iter().flat_map(|shard| &shard.lanes);
            lanes
                .filter(|lane| lane.pipeline == pipeline)
                .map(|lane| lane.behind_ms)
                .max()
                .unwrap_or(0)
        };
        let destinations = &status.async_delivery.destinations;
        Frame {
            elapsed: self.started.elapsed(),
            written: self.produced.stats().messages_sent,
            total: self.total,
            read: status.records_read,
            shards: status.shards.len(),
            stored: status.sync_store.stored,
            store_lag_ms: lag(processor::PIPELINES[0]),
            store_retried: status.sync_store.retried,
            store_throttled: self.throttle.is_some(),
            delivered: destinations.iter().map(|d| d.delivered).sum(),
            parked_now: self.parked.now,
            open_ranges: self.parked.open_ranges,
            delivery_lag_ms: lag(processor::PIPELINES[1]),
            breaker: destinations
                .first()
                .map(|d| format!("{:?}", d.breaker).to_lowercase())
                .unwrap_or_default(),
            dead_letters: status.sync_store.dead_lettered
                + destinations.iter().map(|d| d.dead_lettered).sum::<u64>(),
            receiver_up: self.receiver.is_up(),
            received: self.receiver.received(),
            log,
        }
    }

    /// Completes with the reason when a part that must run ended by itself.
    pub(crate) async fn broken(&mut self) -> String {
        let ends = self.parts.iter_mut().map(|part| Box::pin(part.broken()));
        futures::future::select_all(ends).await.0
    }

    /// Stops the receiver, or starts it again.
    pub(crate) async fn toggle_receiver(&mut self) -> std::io::Result<()> {
        self.receiver.toggle().await
    }

    /// Lets the embedded DynamoDB refuse every write to the messages' table, or no longer.
    pub(crate) fn toggle_throttle(&mut self) {
        let faults = self.local.faults();
        match self.throttle.take() {
            Some(fault) => {
                faults.clear(fault);
            }
            None => {
                let fault = Fault::new(local_aws::Service::Dynamodb, Effect::Throttle)
                    .operation("BatchWriteItem");
                self.throttle = Some(faults.inject(fault.resource("demo-messages")));
            }
        }
    }

    /// Ends everything in order: what writes first, what is written to last.
    pub(crate) async fn clear(mut self) {
        for part in self.parts {
            part.stop().await;
        }
        self.receiver.stop().await;
    }
}

impl Parked {
    async fn count(&mut self) {
        if Instant::now() < self.due {
            return;
        }
        self.due = Instant::now() + COUNT_PARKED_EVERY;
        if let Ok(count) = self.deliveries.parked_count(&self.subscription, MOST_PARKED).await {
            self.now = count.count as u64;
        }
        if let Ok(ranges) = self.deliveries.list_ranges(&self.subscription).await {
            self.open_ranges = ranges.len();
        }
    }
}

async fn serve(local: &LocalAws) -> anyhow::Result<(String, Part)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let local = local.clone();
    let part = Part::service("the embedded AWS", |stop| async move {
        local.serve(listener, stop).await.map_err(anyhow::Error::from)
    });
    Ok((endpoint, part))
}

/// The API at its wanted address, or at a free port beside it when that is in use.
async fn api_service(config: &mut Config, clients: &Clients) -> anyhow::Result<ApiService> {
    let in_use = |error: &anyhow::Error| match error.downcast_ref() {
        Some(api::Error::Listen { error, .. }) => error.kind() == std::io::ErrorKind::AddrInUse,
        _ => false,
    };
    match ApiService::prepare(config, clients).await {
        Err(error) if in_use(&error) => {
            config.api.listen.set_port(0);
            ApiService::prepare(config, clients).await
        }
        prepared => prepared,
    }
}

/// The bundled configuration, with this run's ports, certificate and secrets.
fn configuration(
    endpoint: &str,
    listen: std::net::SocketAddr,
    receiver: &Receiver,
    directory: &Directory,
    operator_token: &OperatorToken,
) -> anyhow::Result<Config> {
    let file = directory.write("demo.toml", CONFIG)?;
    let certificate = self_signed()?;
    directory.write("certificate.pem", &certificate.certificate_pem)?;
    let key = directory.write("key.pem", &certificate.key_pem)?;
    let set = |key: &str, value: String| (key.to_owned(), value);
    let overrides = [
        set("aws.endpoint_url", endpoint.to_owned()),
        set("aws.region", "us-east-1".to_owned()),
        set("api.listen", listen.to_string()),
        set("api.hsts", "false".to_owned()),
        set("api.tls.cert", directory.certificate().display().to_string()),
        set("api.tls.key", key.display().to_string()),
        set("api.private_webhooks", "true".to_owned()),
        set("operators.listen", "127.0.0.1:0".to_owned()),
        set("operators.tokens.demo.sha256", operator_token.digest().to_string()),
        set("operators.tokens.demo.may", "change".to_owned()),
        set("async_delivery.allowed_private", receiver.address().to_string()),
    ];
    let secret = |name: &str| {
        let mut bytes = [0; 32];
        random::fill(&mut bytes);
        (format!("SLUICEGATE_SECRETS__{name}"), HEXLOWER.encode(&bytes))
    };
    let env = [secret("PEPPER"), secret("LINK_SIGNING_KEY")];
    let config = Config::load(Some(&file), env.into_iter(), &overrides)?;
    config.require(Service::Processor)?;
    config.require(Service::Api)?;
    Ok(config)
}

async fn initialise(
    config: &Config,
    clients: &Clients,
    receiver: &Receiver,
) -> anyhow::Result<DevReport> {
    let pepper = config.secrets.pepper.as_ref().context("no pepper")?;
    let pepper = Pepper::new(pepper.expose()).context("the pepper is too short")?;
    let webhook = Some(WebhookUrl::parse(&receiver.url())?);
    let dev = Dev { shards: SHARDS, ..Dev::new(pepper, webhook) };
    let streams = config.streams.iter().map(|s| (s.stream.name().to_owned(), s.consumers()));
    let plan = Plan { app: config.app.name.clone(), streams: streams.collect(), dev: Some(dev) };
    init::run(plan, clients).await?.dev.context("nothing was made for development")
}

fn writes_once(args: &DemoArgs) -> bool {
    args.once || args.until_done
}

/// Events in the bundled file.
fn events() -> u64 {
    EARTHQUAKES.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count() as u64
}

fn producer(args: &DemoArgs, clients: &Clients) -> anyhow::Result<(Producer, produce::Handle)> {
    let source = Source::Replay(Replay {
        inputs: vec![ReplayInput::Memory(Bytes::from_static(EARTHQUAKES))],
        repeat: !writes_once(args),
    });
    let mut options = produce::Options::new(StreamRef::parse(STREAM)?, source);
    options.pace = Pace::Rate { per_second: f64::from(args.rate), burst: None };
    options.keys = Keys::Pointer(JsonPointer::parse("/properties/net")?);
    options.seed = random::seed();
    Ok(Producer::new(options, clients.kinesis.clone(), clients.time.clone())?)
}

/// A directory of the demo's own, readable by this user alone, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn make() -> anyhow::Result<Directory> {
        use std::os::unix::fs::DirBuilderExt;
        let path = std::env::temp_dir().join(format!("sluicegate-demo-{:016x}", random::seed()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| path.display().to_string())?;
        Ok(Directory(path))
    }

    fn certificate(&self) -> PathBuf {
        self.0.join("certificate.pem")
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.0.join(name);
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "the demo's directory is left behind");
        }
    }
}
