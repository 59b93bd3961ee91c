//! The `metrics` facade's recorder: OpenTelemetry instruments, exported over OTLP/HTTP.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hyper_util::client::legacy::connect::HttpConnector;
use metrics_opentelemetry::{OpenTelemetryMetrics, OpenTelemetryRecorder};
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{MetricExporter, Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use processor::ShardStatus;

use super::{catalogue, shards};
use crate::random;

const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// The instrumentation scope of every metric.
const SCOPE: &str = "sluicegate";

/// Metrics that are exported until [`MetricsExport::stop`].
#[derive(Debug, Clone)]
pub(crate) struct MetricsExport {
    provider: SdkMeterProvider,
}

/// Why metrics cannot be exported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MetricsError {
    /// The exporter refused its configuration.
    #[error(
        "telemetry.otlp_endpoint {endpoint:?}: {reason}; allowed is the address of an OTLP/HTTP collector, for example http://127.0.0.1:4318"
    )]
    Exporter { endpoint: String, reason: String },
    /// A recorder is installed already.
    #[error("metrics are recorded elsewhere already: {0}")]
    Recorder(String),
}

impl MetricsExport {
    /// Installs the recorder and exports every `interval` to the collector at `endpoint`
    /// (the collector's base address; `/v1/metrics` is added). Needs a running tokio runtime.
    pub(crate) fn start(
        endpoint: &str,
        service: &'static str,
        interval: Duration,
    ) -> Result<MetricsExport, MetricsError> {
        let exporter = MetricExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/metrics", endpoint.trim_end_matches('/')))
            .with_timeout(EXPORT_TIMEOUT)
            .with_http_client(RuntimeClient::new())
            .build()
            .map_err(|error| MetricsError::Exporter {
                endpoint: endpoint.to_owned(),
                reason: error.to_string(),
            })?;
        let reader = PeriodicReader::builder(exporter).with_interval(interval).build();
        let resource = Resource::builder_empty()
            .with_attributes([
                KeyValue::new("service.name", service),
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                // Without it the series of two tasks would be one to a backend.
                KeyValue::new("service.instance.id", format!("{:016x}", random::seed())),
            ])
            .build();
        let provider =
            SdkMeterProvider::builder().with_reader(reader).with_resource(resource).build();
        let mut recorder =
            OpenTelemetryRecorder::new(OpenTelemetryMetrics::new(provider.meter(SCOPE)));
        catalogue::describe(&mut recorder);
        metrics::set_global_recorder(recorder)
            .map_err(|error| MetricsError::Recorder(error.to_string()))?;
        Ok(MetricsExport { provider })
    }

    /// Exports how far each shard that `read` lists at that moment is behind.
    pub(crate) fn watch_shards(
        &self,
        read: impl Fn() -> Vec<ShardStatus> + Clone + Send + Sync + 'static,
    ) {
        shards::watch(&self.provider.meter(SCOPE), read);
    }

    /// Exports now. Blocks for at most the exporter's timeout.
    pub(crate) fn flush(&self) {
        if let Err(error) = self.provider.force_flush() {
            tracing::warn!(%error, "metrics could not be exported: they come with the next ones");
        }
    }

    /// Exports what is left and ends. Blocks for at most the exporter's timeout.
    pub(crate) fn stop(self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::warn!(%error, "the last metrics could not be exported");
        }
    }
}

/// Sends from the exporter's own thread through the app's runtime, where sockets live.
#[derive(Debug)]
struct RuntimeClient {
    runtime: tokio::runtime::Handle,
    client: Arc<HyperClient<HttpConnector>>,
}

impl RuntimeClient {
    fn new() -> RuntimeClient {
        let client = HyperClient::new(HttpConnector::new(), EXPORT_TIMEOUT, None);
        RuntimeClient { runtime: tokio::runtime::Handle::current(), client: Arc::new(client) }
    }
}

#[async_trait]
impl HttpClient for RuntimeClient {
    async fn send_bytes(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Bytes>, HttpError> {
        let client = Arc::clone(&self.client);
        self.runtime.spawn(async move { client.send_bytes(request).await }).await?
    }
}
