//! Metrics reach a collector: names, units and values while real records walk, as documented.

pub mod collector;

use std::collections::BTreeMap;

use crate::harness::child::Sluicegate;
use crate::harness::eventually;
use crate::harness::http_get;
use crate::harness::platform::{EARTHQUAKES, Platform, earthquakes};
use collector::{Collector, Export, Labels, Point};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Starts a service that exports to `endpoint`, and gives the address that it prints.
async fn start(service: &str, platform: &Platform, endpoint: &str) -> (Sluicegate, String) {
    let endpoint = format!("telemetry.otlp_endpoint={endpoint}");
    let mut child = Sluicegate::start(&[
        service,
        "--config",
        &platform.config,
        "--set",
        &endpoint,
        "--set",
        "telemetry.metrics_interval=1s",
    ]);
    let line = child.line().await;
    let address = line.rsplit(' ').next().expect("an address").to_owned();
    (child, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_processor_measures_reaches_a_collector_while_records_walk() {
    let platform = Platform::start().await;
    let collector = Collector::start().await;
    let (processor, _) = start("processor", &platform, &collector.endpoint).await;
    platform.aws.put("earthquakes", &earthquakes()).await;
    platform.everything_arrived(EARTHQUAKES).await;
    let read = EARTHQUAKES as f64;
    let running = eventually("the numbers of a running processor", async || {
        let export = collector.latest("sluicegate-processor");
        let seen = export.number("sluicegate.processor.records_read", &[]);
        let idle = [("pipeline", "sync-store"), ("pipeline", "async-delivery")].map(|pipeline| {
            export.number("sluicegate.processor.in_flight_bytes", &[pipeline]) == Some(0.0)
        });
        let settled = export.number(ATTEMPTS, &[("result", "accepted")]) == Some(read);
        let tip = lag(&export).values().all(|seconds| *seconds == 0.0);
        if seen == Some(read) && idle == [true, true] && settled && tip {
            return Ok(export);
        }
        Err(format!("{seen:?} read, idle {idle:?}, {:?} behind", lag(&export)))
    })
    .await;
    the_walk_is_in_the_numbers(&running);
    everything_is_as_documented(&running);

    let ended = processor.terminate().await;
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    let last = collector.latest("sluicegate-processor");
    assert!(last.earlier > running.earlier, "what came last is exported at the end");
    let released = last.number("sluicegate.processor.shards_left", &[("why", "released")]);
    assert_eq!(released, Some(2.0));
    assert!(lag(&last).is_empty(), "no shard is read any more, and none leaves a ghost");
    assert_eq!(last.number("sluicegate.processor.shards", &[]), Some(0.0));
    println!(
        "{} exports, {} metrics, {} series",
        last.earlier,
        last.metrics.len(),
        last.metrics.values().map(|metric| metric.series.len()).sum::<usize>()
    );
}

const ATTEMPTS: &str = "sluicegate.delivery.attempts";

/// How far each pipeline is behind on each shard.
fn lag(export: &Export) -> BTreeMap<Labels, f64> {
    let Some(metric) = export.metrics.get("sluicegate.processor.behind_seconds") else {
        return BTreeMap::new();
    };
    let number = |point: &Point| match point {
        Point::Number(number) => *number,
        Point::Buckets { .. } => f64::NAN,
    };
    metric.series.iter().map(|(labels, point)| (labels.clone(), number(point))).collect()
}

fn the_walk_is_in_the_numbers(export: &Export) {
    let read = EARTHQUAKES as f64;
    let number = |name: &str, labels: &[(&str, &str)]| {
        let name = format!("sluicegate.{name}");
        export.number(&name, labels).unwrap_or_else(|| panic!("{name} {labels:?}: {export:#?}"))
    };
    assert_eq!(number("store.items", &[("kind", "message"), ("outcome", "stored")]), read);
    assert_eq!(number("processor.event_records", &[]), read);
    assert!(number("processor.event_bytes", &[]) > read * 100.0);
    assert!(number("processor.subscriptions", &[]) >= 2.0);
    assert_eq!(number("processor.shards", &[]), 2.0);
    assert_eq!(number("lease_manager.held", &[]), 2.0);
    assert_eq!(number("lease_manager.workers", &[]), 1.0);
    assert_eq!(number("lease_manager.uncovered_shards", &[]), 0.0);
    assert!(number("lease_manager.heartbeats", &[("outcome", "done")]) >= 1.0);
    let (count, sum) = distribution(export, "sluicegate.delivery.attempt_seconds");
    assert_eq!(count, EARTHQUAKES as u64);
    assert!(sum > 0.0);
    let (calls, stored) = distribution(export, "sluicegate.processor.store_call_records");
    assert_eq!(stored, read, "every record was in one call");
    assert!(calls >= EARTHQUAKES as u64 / 25, "{calls} calls");
    assert_eq!(lag(export).len(), 4, "two shards, two pipelines: {:?}", lag(export));
    let shard = [("shard", "shardId-000000000000"), ("stream", "earthquakes")];
    assert_eq!(number("processor.reader_behind_seconds", &shard), 0.0);
    for trouble in ["malformed", "dead_letters"] {
        let name = format!("sluicegate.processor.{trouble}");
        assert!(!export.metrics.contains_key(&name), "a series appears with its first event");
    }
}

/// Count and sum over all series.
fn distribution(export: &Export, name: &str) -> (u64, f64) {
    let series = &export.metrics.get(name).unwrap_or_else(|| panic!("{name}")).series;
    series.iter().fold((0, 0.0), |(counts, sums), (_, point)| match point {
        Point::Buckets { count, sum, .. } => (counts + count, sums + sum),
        Point::Number(number) => panic!("{name}: {number}"),
    })
}

/// Kind, unit, labels and meaning of all that was exported are those of the documentation.
fn everything_is_as_documented(export: &Export) {
    let page = std::fs::read_to_string("../docs/metrics.md").expect("the page");
    for (name, metric) in &export.metrics {
        let start = format!("| `{name}` | ");
        let line = page.lines().find_map(|line| line.strip_prefix(&start));
        let line = line.unwrap_or_else(|| panic!("{name} is not documented"));
        let cells: Vec<_> = line.split(" | ").collect();
        let [kind, labels, limit, meaning, ..] = cells[..] else { panic!("{name}: {line}") };
        let unit = match metric.unit.as_str() {
            "" => "",
            "By" => " in bytes",
            "s" => " in seconds",
            other => panic!("{name} is in {other:?}"),
        };
        assert_eq!(kind, format!("{}{unit}", metric.kind), "{name}");
        assert_eq!(meaning, metric.description, "{name}");
        if let Ok(limit) = limit.parse::<usize>() {
            assert!(metric.series.len() <= limit, "{name} has {} series", metric.series.len());
        }
        for (found, point) in &metric.series {
            let documented = |(label, value): (&String, &String)| {
                let Some((_, values)) = labels.split_once(&format!("`{label}`: ")) else {
                    return false;
                };
                let values = values.split("<br>").next().unwrap_or_default();
                // A list has the values themselves; words say whose names they are.
                !values.contains(", ")
                    || values.contains("at most")
                    || values.split(", ").any(|listed| listed == value)
            };
            assert!(found.iter().all(documented), "{name} has {found:?}, documented are {labels}");
            has_usable_buckets(name, point);
        }
    }
}

/// Explicit boundaries that a backend can make `le` of.
fn has_usable_buckets(name: &str, point: &Point) {
    let Point::Buckets { count, bounds, counts, .. } = point else { return };
    assert!(bounds.len() >= 5 && bounds.is_sorted_by(|a, b| a < b), "{name}: {bounds:?}");
    assert_eq!(counts.len(), bounds.len() + 1, "{name}");
    assert_eq!(counts.iter().sum::<u64>(), *count, "{name}");
    assert!(bounds[0] < 2.0 && bounds[bounds.len() - 1] <= 100.0, "{name}: not the defaults");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_measures_reaches_a_collector_too() {
    let platform = Platform::start().await;
    let collector = Collector::start().await;
    let (api, address) = start("api", &platform, &collector.endpoint).await;
    for _ in 0..3 {
        http_get(&format!("http://{address}/healthz")).await;
    }
    let latest = "/v1/integrations/earthquakes/entities/us/latest";
    assert!(first_line(&address, latest).await.contains("401"), "nobody said who asks");
    let export = eventually("the numbers of a running API", async || {
        let export = collector.latest("sluicegate-api");
        let labels = [("route", "/healthz"), ("status", "200")];
        match export.point("sluicegate.api.request_seconds", &labels) {
            Some(Point::Buckets { count: 3, .. }) => Ok(export),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    everything_is_as_documented(&export);
    let route = "/v1/integrations/{integration}/entities/{entity}/latest";
    let refused = [("route", route), ("status", "401")];
    assert!(export.point("sluicegate.api.request_seconds", &refused).is_some());
    let missing = [("reason", "missing")];
    let failed = export.number("sluicegate.api.authentications_failed", &missing);
    assert_eq!(failed, Some(1.0));
    let ended = api.terminate().await;
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    let resource = collector.latest("sluicegate-api").resource;
    let names: Vec<_> = resource.keys().map(String::as_str).collect();
    assert_eq!(names, ["service.instance.id", "service.name", "service.version"]);
}

/// The status line of an answer to somebody who shows no key.
async fn first_line(address: &str, path: &str) -> String {
    let mut socket = TcpStream::connect(address).await.expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("an answer");
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_says_nothing_holds_nothing_up() {
    let platform = Platform::start().await;
    // Connections are taken by the system, and nobody ever reads them.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}", silent.local_addr().expect("bound"));
    let (processor, _) = start("processor", &platform, &endpoint).await;
    let events = earthquakes();
    platform.aws.put("earthquakes", &events[..100]).await;
    platform.everything_arrived(100).await;
    let ended = processor.terminate().await;
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}
