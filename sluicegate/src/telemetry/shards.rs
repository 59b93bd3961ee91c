//! How far each shard is behind: a series for each shard that this process reads *now*.
//!
//! These are asked for at each export, not recorded: a shard that moved away leaves no series that
//! stands still at its last value, and an alarm on them does not ring for what another worker reads.

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use processor::ShardStatus;

use super::catalogue::{self, BEHIND, READER_BEHIND};

/// Observes the shards that `read` lists, at each export.
pub(super) fn watch(
    meter: &Meter,
    read: impl Fn() -> Vec<ShardStatus> + Clone + Send + Sync + 'static,
) {
    let lanes = read.clone();
    observe(meter, BEHIND, move || {
        let series = |shard: ShardStatus| {
            let labels = labels(&shard);
            shard.lanes.into_iter().map(move |lane| {
                let pipeline = KeyValue::new("pipeline", lane.pipeline);
                (lane.behind_ms, [labels.as_slice(), &[pipeline]].concat())
            })
        };
        lanes().into_iter().flat_map(series).collect()
    });
    observe(meter, READER_BEHIND, move || {
        read()
            .into_iter()
            .map(|shard| (shard.millis_behind_latest, labels(&shard).into()))
            .collect()
    });
}

/// A gauge in seconds over `series`, which are in milliseconds.
fn observe(
    meter: &Meter,
    name: &'static str,
    series: impl Fn() -> Vec<(u64, Vec<KeyValue>)> + Send + Sync + 'static,
) {
    let meaning = catalogue::all().find(|metric| metric.name == name).map(|metric| metric.meaning);
    meter
        .f64_observable_gauge(name)
        .with_unit("s")
        .with_description(meaning.unwrap_or_default())
        .with_callback(move |observer| {
            for (ms, labels) in series() {
                observer.observe(std::time::Duration::from_millis(ms).as_secs_f64(), &labels);
            }
        })
        .build();
}

/// The stream by its name: it is what people call it, and an ARN has a bounded name only.
fn labels(shard: &ShardStatus) -> [KeyValue; 2] {
    let stream = shard.stream_arn.rsplit('/').next().unwrap_or_default().to_owned();
    [KeyValue::new("stream", stream), KeyValue::new("shard", shard.shard_id.clone())]
}
