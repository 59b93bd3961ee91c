//! `[async_delivery]`: the pipeline that pushes, and where it may push to.

use std::time::Duration;

use processor::{Allowance, BreakerPolicy, CourierOptions, Guard, SinkMode};

use super::section::Section;
use super::sections::seconds;

/// The pipeline's options, without the worker's name, and the rules for destinations.
pub(super) fn read(section: &mut Section<'_>) -> (CourierOptions, Guard) {
    let default = CourierOptions::new("");
    let queue = 1..=1_000_000;
    let interval = Duration::from_millis(50)..=seconds(60);
    let sinks = [("webhooks", SinkMode::Keep), ("null", SinkMode::Discard)];
    let options = CourierOptions {
        sink: section.choice("sink", default.sink, &sinks),
        batch_queue: section.integer("batch_queue", default.batch_queue, queue.clone()),
        destination_queue: section.integer(
            "destination_queue",
            default.destination_queue,
            queue.clone(),
        ),
        ledger_queue: section.integer("ledger_queue", default.ledger_queue, queue),
        sweep_interval: section.duration(
            "sweep_interval",
            default.sweep_interval,
            interval.clone(),
        ),
        watch_interval: section.duration(
            "watch_interval",
            default.watch_interval,
            interval.clone(),
        ),
        max_view_age: section.duration("max_view_age", default.max_view_age, interval),
        range_claim: section.duration(
            "range_claim",
            default.range_claim,
            seconds(10)..=seconds(3_600),
        ),
        spill_cap: section.integer("spill_cap", default.spill_cap, 0..=10_000_000),
        breaker: section.section("breaker", breaker),
        ..default
    };
    (options, guard(section))
}

fn guard(section: &mut Section<'_>) -> Guard {
    let default = Guard::default();
    let port = |text: &str| text.parse().ok().filter(|port| *port > 0);
    let allowed_ports = section.list(
        "allowed_ports",
        default.allowed_ports,
        "a port from 1 to 65535",
        port,
        u16::to_string,
    );
    let places = "a network such as \"10.1.0.0/16\", or a host with a port such as \"receiver.internal:8080\"";
    let place = |text: &str| text.parse::<Allowance>().is_ok().then(|| text.to_owned());
    let quoted = |text: &String| toml::Value::String(text.clone()).to_string();
    let allowed_private = section.list("allowed_private", Vec::new(), places, place, quoted);
    Guard {
        allowed_ports,
        // Each was read as one a moment ago.
        allowed_private: allowed_private.iter().filter_map(|text| text.parse().ok()).collect(),
    }
}

fn breaker(section: &mut Section<'_>) -> BreakerPolicy {
    let default = BreakerPolicy::default();
    let range = Duration::from_millis(10)..=seconds(3_600);
    BreakerPolicy {
        failures_to_open: section.integer("failures_to_open", default.failures_to_open, 1..=10_000),
        first_open: section.duration("first_open", default.first_open, range.clone()),
        longest_open: section.duration("longest_open", default.longest_open, range),
    }
}
