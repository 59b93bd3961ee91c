//! Every section but the API's: its keys, their defaults and their limits.
//!
//! Defaults come from the rooms' own option types, so that they stand in one place.

use std::time::Duration;

use lease_manager::WorkerId;
use processor::{
    CourierOptions, DecodeOptions, FanOutOptions, Guard, OutOfRange, PollingOptions,
    ShardConsumerOptions, SinkMode, SyncStoreOptions,
};

use super::section::Section;
use super::units::Budget;
use crate::clients::AwsOptions;
use crate::destinations::Endpoints;
use crate::telemetry::LogFormat;

const MIB: usize = 1024 * 1024;
/// Two of the largest frames that one record can make on the wire.
const LEAST_BUDGET: u64 = 27 * MIB as u64;

pub(super) const ADDRESS: &str = "an address with a port, such as \"0.0.0.0:8443\"";

/// What this deployment is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct App {
    /// Name of the lease table, and what the other tables' names start with.
    pub(crate) name: String,
    /// This worker's name in the fleet; the app makes one where it is absent.
    pub(crate) worker_id: Option<WorkerId>,
}

/// How much memory each pipeline may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// What the process may use in all; the app asks the container where it is absent.
    pub(crate) limit_bytes: Option<u64>,
    /// Messages on their way to the store.
    pub(crate) sync_store: Budget,
    /// Messages on their way to subscribers.
    pub(crate) async_delivery: Budget,
    /// What was read and is not decoded yet.
    pub(crate) reading: Budget,
}

/// Reading, decoding, checkpoints and the pipelines.
#[derive(Debug, Clone)]
pub(crate) struct Pipelines {
    /// How shards are subscribed to.
    pub(crate) fan_out: FanOutOptions,
    /// How shards are polled.
    pub(crate) polling: PollingOptions,
    /// How records become messages.
    pub(crate) decode: DecodeOptions,
    /// How a shard is read and when its progress is written.
    pub(crate) shard: ShardConsumerOptions,
    /// How messages are stored.
    pub(crate) sync_store: SyncStoreOptions,
    /// How messages are pushed; the app sets the worker's name.
    pub(crate) async_delivery: CourierOptions,
    /// Where webhooks may go.
    pub(crate) guard: Guard,
}

/// How workers share the shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leases {
    heartbeat_interval: Duration,
    failure_detection: Duration,
    lease_validity: Duration,
    sync_interval: Duration,
    plan_interval: Duration,
    handoff_deadline: Duration,
    foreign_detection: Duration,
    shutdown_deadline: Duration,
    call_timeout: Duration,
    max_leases: usize,
}

impl Leases {
    /// Writes the configured figures into a lease manager's options.
    pub(crate) fn apply(&self, options: &mut lease_manager::Options) {
        options.heartbeat_interval = self.heartbeat_interval;
        options.failure_detection = self.failure_detection;
        options.lease_validity = self.lease_validity;
        options.sync_interval = self.sync_interval;
        options.plan_interval = self.plan_interval;
        options.handoff_deadline = self.handoff_deadline;
        options.foreign_detection = self.foreign_detection;
        options.shutdown_deadline = self.shutdown_deadline;
        options.call_timeout = self.call_timeout;
        options.max_leases = self.max_leases;
    }
}

/// Logs and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Telemetry {
    /// How log lines look.
    pub(crate) log_format: LogFormat,
    /// A filter such as `info` or `processor=debug,info`.
    pub(crate) log_level: String,
    /// Base address of an OTLP/HTTP collector; no metrics without it.
    pub(crate) otlp_endpoint: Option<String>,
    /// How often metrics are exported.
    pub(crate) metrics_interval: Duration,
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// An http or https URL without a path, as it was written.
pub(super) fn url(text: &str) -> Option<String> {
    let uri: http::Uri = text.parse().ok()?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
    (is_http && is_bare && uri.host().is_some_and(|host| !host.is_empty())).then(|| text.to_owned())
}

pub(super) fn is_name(text: &str, lengths: std::ops::RangeInclusive<usize>) -> bool {
    lengths.contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

pub(super) fn app(section: &mut Section<'_>) -> App {
    // The longest table's name adds 11 characters, and a table's name has at most 255.
    let allowed = "3 to 128 of a-z A-Z 0-9 _ . -";
    let name = |text: &str| is_name(text, 3..=128).then(|| text.to_owned());
    App {
        name: section.parsed("name", "sluicegate".to_owned(), allowed, name),
        worker_id: section
            .optional("worker_id", "a worker's name", |text| WorkerId::parse(text).ok()),
    }
}

pub(super) fn aws(section: &mut Section<'_>) -> AwsOptions {
    let region = |text: &str| {
        let is_region =
            text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        (is_region && (3..=32).contains(&text.len())).then(|| text.to_owned())
    };
    let endpoint = "an http or https URL, such as \"http://127.0.0.1:4566\"";
    let range = Duration::from_millis(100)..=seconds(120);
    AwsOptions {
        region: section.optional("region", "a region, such as \"eu-west-1\"", region),
        endpoint_url: section.optional("endpoint_url", endpoint, url),
        kinesis_endpoint_url: section.optional("kinesis_endpoint_url", endpoint, url),
        dynamodb_endpoint_url: section.optional("dynamodb_endpoint_url", endpoint, url),
        destinations: Endpoints {
            sqs: section.optional("sqs_endpoint_url", endpoint, url),
            sns: section.optional("sns_endpoint_url", endpoint, url),
            eventbridge: section.optional("eventbridge_endpoint_url", endpoint, url),
            sts: section.optional("sts_endpoint_url", endpoint, url),
        },
        ca_bundle: section
            .optional("ca_bundle", "a path of a PEM file", super::api::path)
            .map(Into::into),
        connect_timeout: section.duration("connect_timeout", seconds(3), range.clone()),
        attempt_timeout: section.duration("attempt_timeout", seconds(5), range.clone()),
        operation_timeout: section.duration("operation_timeout", seconds(15), range),
        max_attempts: section.integer("max_attempts", 3, 1..=20),
    }
}

pub(super) fn memory(section: &mut Section<'_>) -> Memory {
    let limit = section.bytes("limit", 0, 0..=1 << 50);
    let least = LEAST_BUDGET;
    if limit != 0 && limit < 5 * least {
        let allowed =
            format!("\"0B\" (ask the container), or at least \"{}MiB\"", 5 * least / MIB as u64);
        section.refuse("limit", super::units::bytes_text(limit), allowed);
    }
    let memory = Memory {
        limit_bytes: (limit != 0).then_some(limit),
        sync_store: section.budget("sync_store", Budget::Percent(20), least),
        async_delivery: section.budget("async_delivery", Budget::Percent(20), least),
        reading: section.budget("reading", Budget::Percent(20), least),
    };
    let share = |budget: Budget| match budget {
        Budget::Percent(percent) => percent,
        Budget::Bytes(_) => 0,
    };
    let others = share(memory.sync_store) + share(memory.async_delivery);
    let all = others + share(memory.reading);
    if all > 80 {
        let (key, found) = match others > 80 {
            true => ("async_delivery", memory.async_delivery),
            false => ("reading", memory.reading),
        };
        let found = format!("\"{}\" which makes {all}% of all budgets", found.text());
        section.refuse(key, found, "80% for all of them together");
    }
    memory
}

pub(super) fn pipelines(root: &mut Section<'_>) -> Pipelines {
    let fan_out = root.section("fan_out", fan_out);
    let polling = root.section("polling", polling);
    let decode = root.section("decode", decode);
    let shard = root.section("checkpoint", checkpoint);
    let sync_store = root.section("sync_store", sync_store);
    let (async_delivery, guard) = root.section("async_delivery", super::delivery::read);
    Pipelines { fan_out, polling, decode, shard, sync_store, async_delivery, guard }
}

fn fan_out(section: &mut Section<'_>) -> FanOutOptions {
    let default = FanOutOptions::default();
    let subscribes =
        section.integer("subscribes_per_second", default.subscribes_per_second, 1..=10_000);
    FanOutOptions {
        subscribes_per_second: subscribes,
        inactivity_deadline: section.duration(
            "inactivity_deadline",
            default.inactivity_deadline,
            seconds(10)..=seconds(300),
        ),
        backoff_max: section.duration(
            "backoff_max",
            default.backoff_max,
            seconds(1)..=seconds(300),
        ),
        ..default
    }
}

fn polling(section: &mut Section<'_>) -> PollingOptions {
    let default = PollingOptions::default();
    let range = Duration::from_millis(200)..=seconds(60);
    PollingOptions {
        interval: section.duration("interval", default.interval, range),
        backoff_max: section.duration(
            "backoff_max",
            default.backoff_max,
            seconds(1)..=seconds(300),
        ),
        ..default
    }
}

fn decode(section: &mut Section<'_>) -> DecodeOptions {
    let default = DecodeOptions::default();
    let words = [("keep", OutOfRange::Keep), ("drop", OutOfRange::Drop)];
    DecodeOptions {
        out_of_range: section.choice("out_of_range", default.out_of_range, &words),
        max_user_records: section.integer(
            "max_user_records",
            default.max_user_records,
            1..=1_000_000,
        ),
    }
}

fn checkpoint(section: &mut Section<'_>) -> ShardConsumerOptions {
    let default = ShardConsumerOptions::default();
    let range = Duration::from_millis(100)..=seconds(600);
    ShardConsumerOptions {
        checkpoint_interval: section.duration(
            "interval",
            default.checkpoint_interval,
            range.clone(),
        ),
        idle_checkpoint_interval: section.duration(
            "idle_interval",
            default.idle_checkpoint_interval,
            seconds(1)..=seconds(3_600),
        ),
        replay_bytes: section.bytes("replay_bytes", default.replay_bytes, 64 * 1024..=1024 * MIB),
        writes_per_second: section.integer(
            "writes_per_second",
            default.writes_per_second,
            1..=10_000,
        ),
        detach_after: section.duration("detach_after", default.detach_after, range.clone()),
        drain_deadline: section.duration("drain_deadline", default.drain_deadline, range),
    }
}

fn sync_store(section: &mut Section<'_>) -> SyncStoreOptions {
    let default = SyncStoreOptions::default();
    let range = Duration::from_millis(1)..=seconds(300);
    let sinks = [("dynamodb", SinkMode::Keep), ("null", SinkMode::Discard)];
    SyncStoreOptions {
        sink: section.choice("sink", default.sink, &sinks),
        batch_items: section.integer("batch_items", default.batch_items, 1..=25),
        linger: section.duration("linger", default.linger, Duration::ZERO..=seconds(1)),
        max_parallel: section.integer("max_parallel", default.max_parallel, 1..=1_000),
        retry_base: section.duration("retry_base", default.retry_base, range.clone()),
        retry_max: section.duration("retry_max", default.retry_max, range),
        queue_batches: section.integer("queue_batches", default.queue_batches, 1..=100_000),
    }
}

pub(super) fn leases(section: &mut Section<'_>) -> Leases {
    let range = Duration::from_millis(10)..=seconds(3_600);
    let mut time =
        |key, default_ms| section.duration(key, Duration::from_millis(default_ms), range.clone());
    let leases = Leases {
        heartbeat_interval: time("heartbeat_interval", 1_000),
        failure_detection: time("failure_detection", 4_000),
        lease_validity: time("lease_validity", 3_000),
        sync_interval: time("sync_interval", 60_000),
        plan_interval: time("plan_interval", 5_000),
        handoff_deadline: time("handoff_deadline", 5_000),
        foreign_detection: time("foreign_detection", 30_000),
        shutdown_deadline: time("shutdown_deadline", 25_000),
        call_timeout: time("call_timeout", 2_000),
        max_leases: section.integer("max_leases", 10_000, 1..=100_000),
    };
    let text = super::units::duration_text;
    if leases.lease_validity < 2 * leases.heartbeat_interval {
        let least = text(2 * leases.heartbeat_interval);
        section.refuse(
            "lease_validity",
            text(leases.lease_validity),
            format!("at least two heartbeat_interval: {least}"),
        );
    }
    if leases.lease_validity >= leases.failure_detection {
        let most = text(leases.failure_detection);
        section.refuse(
            "lease_validity",
            text(leases.lease_validity),
            format!(
                "less than failure_detection, {most}: a worker must stop before others take over"
            ),
        );
    }
    leases
}

pub(super) fn telemetry(section: &mut Section<'_>) -> Telemetry {
    let formats =
        [("auto", LogFormat::Auto), ("human", LogFormat::Human), ("json", LogFormat::Json)];
    let levels = "a log filter such as \"info\" or \"processor=debug,info\"";
    let endpoints = "the base URL of an OTLP/HTTP collector, such as \"http://127.0.0.1:4318\"";
    let level = |text: &str| {
        let is_filter = tracing_subscriber::EnvFilter::try_new(text).is_ok();
        (is_filter && !text.is_empty()).then(|| text.to_owned())
    };
    Telemetry {
        log_format: section.choice("log_format", LogFormat::Auto, &formats),
        log_level: section.parsed("log_level", "info".to_owned(), levels, level),
        otlp_endpoint: section.optional("otlp_endpoint", endpoints, url),
        metrics_interval: section.duration(
            "metrics_interval",
            seconds(10),
            seconds(1)..=seconds(300),
        ),
    }
}
