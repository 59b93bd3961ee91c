//! The two services, made from the configuration: what reads and pushes, and what answers.
//!
//! Everything that a library takes as an argument (clients, clock, seeds, secrets) is made here.

mod api_service;

use std::sync::Arc;

use api::operators::Process;
use hyper_rustls::ConfigBuilderExt;
use lease_manager::{
    FleetHandle, FleetView, LaneName, LeaseManager, StreamConfig, WorkerId, WorkerState,
};
use processor::{
    CourierOptions, HttpTransports, MessageLinks, Outlets, PIPELINES, Processor, ProcessorHandle,
    ProcessorStatus, SinkMode, Stores, StreamOptions,
};
use serde::Serialize;
use store::{DeliveryStore, DynamoMessages, Signer, SubscriptionStore};
use tokio_util::sync::CancellationToken;

use crate::clients::Clients;
use crate::config::Config;
use crate::preflight::require_tables;
use crate::streams::StreamState;
use crate::{load, random, streams};

pub(crate) use api_service::{ApiService, hosted};

/// What pipelines may hold together is a share of this where no container sets a limit.
const MEMORY_WITHOUT_LIMIT: u64 = 2 * 1024 * 1024 * 1024;

/// The service that reads the streams and feeds both pipelines.
pub(crate) struct ProcessorService {
    manager: LeaseManager,
    processor: Processor,
    handle: ProcessorServiceHandle,
}

/// Asks a running [`ProcessorService`] how it is.
#[derive(Clone)]
pub(crate) struct ProcessorServiceHandle {
    fleet: FleetHandle,
    processor: ProcessorHandle,
    streams: Arc<[StreamState]>,
}

/// The state that operators see.
#[derive(Serialize)]
struct State<'a> {
    streams: &'a [StreamState],
    processor: ProcessorStatus,
    fleet: &'a FleetView,
}

impl ProcessorService {
    /// Finds the streams and their consumers, and puts the service together. It does not run yet.
    pub(crate) async fn prepare(
        config: &Config,
        clients: &Clients,
    ) -> anyhow::Result<ProcessorService> {
        let app = &config.app.name;
        require_tables(&clients.dynamodb, &processor_tables(config)).await?;
        warn_of_null_sinks(config);
        let mut read = Vec::new();
        let mut states = Vec::new();
        let mut leased = Vec::new();
        for stream in &config.streams {
            let found = streams::find(&clients.kinesis, stream.stream.name()).await?;
            read.push(streams::reading(&clients.kinesis, stream, &found).await?);
            states.push(StreamState::of(stream, &found));
            leased.push(StreamConfig {
                arn: found.arn,
                name: found.name,
                creation_epoch_s: found.creation_epoch_s,
                initial: stream.start.0,
            });
        }
        let leases = lease_options(config, leased)?;
        let worker = leases.worker_id.to_string();
        let (manager, fleet) = LeaseManager::new(
            leases,
            clients.dynamodb.clone(),
            clients.kinesis.clone(),
            clients.time.clone(),
        );
        let stores = Stores {
            messages: Arc::new(DynamoMessages::new(clients.dynamodb.clone(), app)),
            deliveries: DeliveryStore::new(clients.dynamodb.clone(), app),
            subscriptions: SubscriptionStore::new(clients.dynamodb.clone(), app),
        };
        let webhooks = HttpTransports::new(config.pipelines.guard.clone(), public_tls()?);
        let (processor, processor_handle) = Processor::new(
            processor_options(config, &worker, read),
            clients.kinesis_reading.clone(),
            stores,
            Outlets { webhooks: Arc::new(webhooks), aws: clients.destinations(&worker) },
            fleet.clone(),
            clients.time.clone(),
        );
        let handle =
            ProcessorServiceHandle { fleet, processor: processor_handle, streams: states.into() };
        Ok(ProcessorService { manager, processor, handle })
    }

    /// Asks it how it is while it runs.
    pub(crate) fn handle(&self) -> ProcessorServiceHandle {
        self.handle.clone()
    }

    /// Runs until `stop`, then drains and hands its shards over. An error is an end nobody asked for.
    pub(crate) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        // The processor ends when the fleet has: it is the lease manager that is stopped. If either
        // ends by itself the other is of no use alone.
        let manager_stop = stop.child_token();
        let processor_ended = manager_stop.clone();
        let reporting = CancellationToken::new();
        let manager = self.manager.run(manager_stop.clone());
        let processor = async {
            let exit = self.processor.run(manager_stop).await;
            processor_ended.cancel();
            exit
        };
        let ProcessorServiceHandle { fleet, processor: handle, .. } = self.handle;
        let load = load::report(fleet, handle, reporting.clone());
        let both = async {
            let ended = tokio::join!(Box::pin(manager), Box::pin(processor));
            reporting.cancel();
            ended
        };
        let ((manager, processor), ()) = tokio::join!(both, load);
        match (manager, processor) {
            (lease_manager::Exit::Shutdown, processor::Exit::Stopped) if stop.is_cancelled() => {
                Ok(())
            }
            (_, processor::Exit::Failed(why)) => anyhow::bail!("the processor failed: {why}"),
            (lease_manager::Exit::Failed(error), _) => {
                Err(anyhow::Error::new(error).context("the lease manager failed"))
            }
            (lease_manager::Exit::Shutdown, _) => anyhow::bail!("the processor ended by itself"),
        }
    }
}

impl ProcessorServiceHandle {
    /// Shards, lanes and pipelines.
    pub(crate) fn status(&self) -> ProcessorStatus {
        self.processor.status()
    }
}

impl Process for ProcessorServiceHandle {
    fn ready(&self) -> Result<(), String> {
        let view = self.fleet.view();
        match view.workers.get(&view.me).map(|me| me.state) {
            Some(WorkerState::Active) if view.leases_read_at_ms > 0 => Ok(()),
            Some(state) => Err(format!("worker {} is {state:?}", view.me)),
            None => Err(format!("worker {} has not joined the fleet yet", view.me)),
        }
    }

    fn state(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&State {
            streams: &self.streams,
            processor: self.status(),
            fleet: &self.fleet.view(),
        })
    }
}

/// The tables that a processor of this configuration reads or writes.
fn processor_tables(config: &Config) -> Vec<String> {
    let [stores, delivers] = sinks(config).map(|sink| sink == SinkMode::Keep);
    let tables = [
        ("", true),
        ("-fleet", true),
        ("-messages", stores),
        ("-deliveries", stores || delivers),
        ("-access", delivers),
    ];
    let needed = tables.into_iter().filter(|(_, needed)| *needed);
    needed.map(|(name, _)| format!("{}{name}", config.app.name)).collect()
}

/// What each of [`PIPELINES`] does with its messages.
fn sinks(config: &Config) -> [SinkMode; 2] {
    [config.pipelines.sync_store.sink, config.pipelines.async_delivery.sink]
}

/// A processor that settles what it has not kept must not be run by mistake.
fn warn_of_null_sinks(config: &Config) {
    for (pipeline, sink) in PIPELINES.into_iter().zip(sinks(config)) {
        if sink == SinkMode::Discard {
            tracing::warn!(
                pipeline,
                "its sink is \"null\": every message is read, checkpointed and THROWN AWAY; this is for measuring only"
            );
        }
    }
}

fn lease_options(
    config: &Config,
    streams: Vec<StreamConfig>,
) -> anyhow::Result<lease_manager::Options> {
    let worker_id = match &config.app.worker_id {
        Some(configured) => configured.clone(),
        None => WorkerId::parse(format!("worker-{:016x}", random::seed()))?,
    };
    let lanes = PIPELINES.map(LaneName::parse).into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut options =
        lease_manager::Options::new(config.app.name.clone(), worker_id, lanes, streams);
    config.leases.apply(&mut options);
    options.version = env!("CARGO_PKG_VERSION").to_owned();
    options.seed = random::seed();
    Ok(options)
}

/// What certificates of others are verified with: the operating system's roots.
fn public_tls() -> anyhow::Result<Arc<rustls::ClientConfig>> {
    let config = rustls::ClientConfig::builder().with_native_roots()?.with_no_client_auth();
    Ok(Arc::new(config))
}

fn processor_options(
    config: &Config,
    worker: &str,
    streams: Vec<StreamOptions>,
) -> processor::Options {
    let memory =
        config.memory.limit_bytes.or_else(container_memory).unwrap_or(MEMORY_WITHOUT_LIMIT);
    processor::Options {
        streams,
        integrations: Arc::clone(&config.integrations),
        decode: config.pipelines.decode.clone(),
        fan_out: config.pipelines.fan_out.clone(),
        polling: config.pipelines.polling.clone(),
        reading_budget_bytes: bytes(config.memory.reading.of(memory)),
        shard: config.pipelines.shard.clone(),
        sync_store: config.pipelines.sync_store.clone(),
        sync_store_budget_bytes: bytes(config.memory.sync_store.of(memory)),
        async_delivery: CourierOptions {
            worker: worker.to_owned(),
            links: message_links(config),
            ..config.pipelines.async_delivery.clone()
        },
        async_delivery_budget_bytes: bytes(config.memory.async_delivery.of(memory)),
        seed: random::seed(),
    }
}

/// What thin webhooks link to; `None` where the API's address or the key of its links is not configured.
fn message_links(config: &Config) -> Option<Arc<MessageLinks>> {
    let base_url = config.api.public_url.clone()?;
    let signer = Signer::new(config.secrets.link_signing_key.as_ref()?.expose())?;
    Some(Arc::new(MessageLinks::new(base_url, signer)))
}

fn bytes(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// The memory limit of the container that the process runs in, if there is one.
fn container_memory() -> Option<u64> {
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let read = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    // The first version of control groups writes a number near 2^63 for "no limit".
    limits.into_iter().find_map(read).filter(|bytes| *bytes < 1 << 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(overrides: &[(&str, &str)]) -> Vec<String> {
        let owned = overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let config = Config::load(None, std::iter::empty(), &owned.collect::<Vec<_>>());
        processor_tables(&config.unwrap())
    }

    #[test]
    fn a_processor_needs_the_tables_of_the_pipelines_that_keep_something() {
        let null_store = ("sync_store.sink", "null");
        let null_delivery = ("async_delivery.sink", "null");
        assert_eq!(tables(&[]).len(), 5);
        assert_eq!(tables(&[null_store, null_delivery]), ["sluicegate", "sluicegate-fleet"]);
        assert!(!tables(&[null_store]).contains(&"sluicegate-messages".to_owned()));
        assert!(!tables(&[null_delivery]).contains(&"sluicegate-access".to_owned()));
    }
}
