//! How far each shard is behind: a series for each shard that this process reads *now*.
//!
//! These are asked for at each export, not recorded: a shard that moved away leaves no series that
//! stands still at its last value, and an alarm on them does not ring for what another worker reads.

use std::collections::BTreeMap;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use processor::{LaneStatus, ShardStatus};

use super::catalogue::{self, BEHIND, LANES, READER_BEHIND, TIME_TO_LOSS};

/// Observes the shards that `read` lists, at each export.
pub(super) fn watch(
    meter: &Meter,
    read: impl Fn() -> Vec<ShardStatus> + Clone + Send + Sync + 'static,
) {
    let lanes = read.clone();
    seconds(meter, BEHIND, move || by_lane(lanes(), |lane| lane.behind_ms));
    let lanes = read.clone();
    seconds(meter, TIME_TO_LOSS, move || by_lane(lanes(), |lane| lane.time_to_loss_ms));
    let shards = read.clone();
    seconds(meter, READER_BEHIND, move || {
        let series = |shard: ShardStatus| (shard.millis_behind_latest, labels(&shard).into());
        shards().into_iter().map(series).collect()
    });
    feeds(meter, read);
}

/// A figure of each lane, in milliseconds, with its labels.
fn by_lane(shards: Vec<ShardStatus>, figure: fn(&LaneStatus) -> u64) -> Vec<(u64, Vec<KeyValue>)> {
    let series = |shard: ShardStatus| {
        let labels = labels(&shard);
        shard.lanes.into_iter().map(move |lane| {
            let pipeline = KeyValue::new("pipeline", lane.pipeline);
            (figure(&lane), [labels.as_slice(), &[pipeline]].concat())
        })
    };
    shards.into_iter().flat_map(series).collect()
}

/// How many lanes are fed by what.
fn feeds(meter: &Meter, read: impl Fn() -> Vec<ShardStatus> + Send + Sync + 'static) {
    meter
        .u64_observable_gauge(LANES)
        .with_description(meaning(LANES))
        .with_callback(move |observer| {
            let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
            for lane in read().iter().flat_map(|shard| &shard.lanes) {
                *counts.entry((lane.pipeline, lane.feed)).or_default() += 1;
            }
            for ((pipeline, feed), count) in counts {
                let labels = [KeyValue::new("pipeline", pipeline), KeyValue::new("feed", feed)];
                observer.observe(count, &labels);
            }
        })
        .build();
}

fn meaning(name: &str) -> &'static str {
    catalogue::all().find(|metric| metric.name == name).map_or("", |metric| metric.meaning)
}

/// A gauge in seconds over `series`, which are in milliseconds.
fn seconds(
    meter: &Meter,
    name: &'static str,
    series: impl Fn() -> Vec<(u64, Vec<KeyValue>)> + Send + Sync + 'static,
) {
    meter
        .f64_observable_gauge(name)
        .with_unit("s")
        .with_description(meaning(name))
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
