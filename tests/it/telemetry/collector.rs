//! An OTLP/HTTP collector on loopback that keeps the newest export of each service, taken apart.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
};
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub type Labels = BTreeMap<String, String>;

/// What a service exported last.
#[derive(Debug, Clone, Default)]
pub struct Export {
    pub resource: Labels,
    pub metrics: BTreeMap<String, Exported>,
    /// How many exports came before it.
    pub earlier: u64,
}

/// One metric with all its series.
#[derive(Debug, Clone)]
pub struct Exported {
    pub kind: &'static str,
    pub unit: String,
    pub description: String,
    pub series: Vec<(Labels, Point)>,
}

/// One value, or one distribution.
#[derive(Debug, Clone)]
pub enum Point {
    Number(f64),
    Buckets { count: u64, sum: f64, bounds: Vec<f64>, counts: Vec<u64> },
}

type Exports = Arc<Mutex<BTreeMap<String, Export>>>;

pub struct Collector {
    pub endpoint: String,
    exports: Exports,
    server: tokio::task::JoinHandle<()>,
}

impl Collector {
    pub async fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
        let exports = Exports::default();
        let server = tokio::spawn(serve(listener, exports.clone()));
        Collector { endpoint, exports, server }
    }

    /// What `service` exported last; nothing when it never did.
    pub fn latest(&self, service: &str) -> Export {
        self.exports.lock().unwrap().get(service).cloned().unwrap_or_default()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Export {
    /// The number of the series that has exactly these labels.
    pub fn number(&self, metric: &str, labels: &[(&str, &str)]) -> Option<f64> {
        match self.point(metric, labels)? {
            Point::Number(number) => Some(*number),
            Point::Buckets { .. } => None,
        }
    }

    pub fn point(&self, metric: &str, labels: &[(&str, &str)]) -> Option<&Point> {
        let labels = labels.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        let labels: Labels = labels.collect();
        let series = &self.metrics.get(metric)?.series;
        series.iter().find(|(found, _)| *found == labels).map(|(_, point)| point)
    }
}

async fn serve(listener: TcpListener, exports: Exports) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let exports = exports.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| take(exports.clone(), request));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

async fn take(
    exports: Exports,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!(request.uri().path(), "/v1/metrics");
    assert_eq!(request.headers()["content-type"], "application/x-protobuf");
    let Ok(body) = request.into_body().collect().await else {
        return Ok(Response::new(Full::default()));
    };
    let request = ExportMetricsServiceRequest::decode(body.to_bytes()).expect("an export");
    for export in request.resource_metrics.into_iter().map(taken_apart) {
        let mut exports = exports.lock().unwrap();
        let service = export.resource.get("service.name").cloned().unwrap_or_default();
        let latest = exports.entry(service).or_default();
        *latest = Export { earlier: latest.earlier + 1, ..export };
    }
    Ok(Response::new(Full::default()))
}

fn taken_apart(export: ResourceMetrics) -> Export {
    let resource = labels(&export.resource.expect("a resource").attributes);
    let metrics = export.scope_metrics.into_iter().flat_map(|scope| scope.metrics);
    let metrics = metrics.map(|metric| (metric.name.clone(), exported(metric)));
    Export { resource, metrics: metrics.collect(), earlier: 0 }
}

fn exported(metric: Metric) -> Exported {
    let cumulative = AggregationTemporality::Cumulative as i32;
    let (kind, series) = match metric.data.expect("data") {
        Data::Sum(sum) => {
            assert!(sum.is_monotonic && sum.aggregation_temporality == cumulative);
            ("counter", sum.data_points.iter().map(number).collect())
        }
        Data::Gauge(gauge) => ("gauge", gauge.data_points.iter().map(number).collect()),
        Data::Histogram(histogram) => {
            assert_eq!(histogram.aggregation_temporality, cumulative);
            ("histogram", histogram.data_points.iter().map(buckets).collect())
        }
        other => panic!("{} came as {other:?}", metric.name),
    };
    Exported { kind, unit: metric.unit, description: metric.description, series }
}

fn number(point: &NumberDataPoint) -> (Labels, Point) {
    let value = match point.value.expect("a value") {
        number_data_point::Value::AsDouble(number) => number,
        number_data_point::Value::AsInt(number) => number as f64,
    };
    (labels(&point.attributes), Point::Number(value))
}

fn buckets(point: &HistogramDataPoint) -> (Labels, Point) {
    let (bounds, counts) = (point.explicit_bounds.clone(), point.bucket_counts.clone());
    let sum = point.sum.expect("a sum");
    (labels(&point.attributes), Point::Buckets { count: point.count, sum, bounds, counts })
}

fn labels(attributes: &[KeyValue]) -> Labels {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|v| v.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        other => panic!("a label is text: {other:?}"),
    };
    attributes.iter().map(|label| (label.key.clone(), text(&label.value))).collect()
}
