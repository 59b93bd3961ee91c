//! The catalogue against the rooms' sources and against docs/metrics.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::catalogue::{
    self, BEHIND, Kind, LANES, Label, Measure, Metric, READER_BEHIND, TIME_TO_LOSS, Values,
};

const ROOMS: &[&str] = &["api", "lease-manager", "processor", "sluicegate", "store"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        }
    }
}

/// A metric as a room measures it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone)]
struct Measured {
    kind: &'static str,
    labels: Vec<String>,
}

#[test]
fn the_rooms_measure_what_the_catalogue_lists() {
    let mut measured = BTreeMap::new();
    for room in ROOMS {
        for file in rust_files(&repository().join(room).join("src")) {
            let text = std::fs::read_to_string(&file).unwrap();
            for (name, found) in measured_in(&text) {
                let earlier = measured.insert(name.clone(), found.clone());
                assert!(earlier.is_none_or(|earlier| earlier == found), "{name} is measured twice");
            }
        }
    }
    assert!(measured.len() > 40, "the sources were found: {measured:#?}");
    let listed: BTreeMap<_, _> = catalogue::all()
        .filter(|metric| ![BEHIND, LANES, READER_BEHIND, TIME_TO_LOSS].contains(&metric.name))
        .map(|metric| {
            let labels = metric.labels.iter().map(|label| label.name.to_owned()).collect();
            (metric.name.to_owned(), Measured { kind: metric.kind.word(), labels })
        })
        .collect();
    let (measured, listed): (BTreeSet<_>, BTreeSet<_>) =
        (measured.into_iter().collect(), listed.into_iter().collect());
    let unlisted: Vec<_> = measured.difference(&listed).collect();
    let unmeasured: Vec<_> = listed.difference(&measured).collect();
    assert!(
        unlisted.is_empty() && unmeasured.is_empty(),
        "measured, but not in telemetry/catalogue/table.rs: {unlisted:#?}\nthere, but not measured: {unmeasured:#?}"
    );
}

#[test]
fn the_reasons_of_dead_letters_are_all_listed() {
    let listed: Vec<_> = catalogue::all()
        .filter(|metric| metric.name.ends_with("dead_letters"))
        .flat_map(|metric| metric.labels)
        .map(|label| match label.values {
            Values::Of(values) => values.split(' ').collect::<Vec<_>>(),
            _ => Vec::new(),
        })
        .collect();
    let all: Vec<_> = store::DeadReason::ALL.iter().map(|reason| reason.code()).collect();
    assert_eq!(listed, [all.clone(), all]);
}

#[test]
fn the_api_has_no_more_routes_and_statuses_than_are_promised() {
    let metric = catalogue::all().find(|metric| metric.name == "sluicegate.api.request_seconds");
    let at_most = |name: &str| {
        let label = metric.unwrap().labels.iter().find(|label| label.name == name);
        match label.unwrap().values {
            Values::AtMost(count, _) => count,
            values => panic!("{values:?}"),
        }
    };
    let routes: BTreeSet<_> = api::routes().into_iter().collect();
    assert!(routes.contains("/v1/me") && routes.contains("/docs"), "{routes:?}");
    assert!(routes.len() <= at_most("route"), "{routes:#?}");
    let document: serde_json::Value = serde_json::from_str(&api::openapi()).unwrap();
    let operations = document["paths"].as_object().unwrap().values();
    let operations = operations.flat_map(|path| path.as_object().unwrap().values());
    let mut statuses: BTreeSet<_> = operations
        .flat_map(|operation| operation["responses"].as_object().unwrap().keys())
        .map(String::as_str)
        .collect();
    // Of no operation, but of a path.
    statuses.insert("405");
    assert!(statuses.contains("429"), "{statuses:?}");
    assert!(statuses.len() <= at_most("status"), "{statuses:?}");
}

#[test]
fn bounds_of_histograms_rise() {
    for metric in catalogue::all() {
        if let Kind::Histogram(bounds) = metric.kind {
            assert!(bounds.is_sorted_by(|a, b| a < b), "{}", metric.name);
        }
    }
}

#[test]
fn the_documentation_has_a_line_of_advice_for_each_metric() {
    let page = std::fs::read_to_string(repository().join("docs/metrics.md")).unwrap();
    let mut lines: BTreeMap<_, _> = page
        .lines()
        .filter_map(|line| Some((line.strip_prefix("| `")?.split('`').next()?, line)))
        .collect();
    for metric in catalogue::all() {
        let expected = described(metric);
        let line = lines.remove(metric.name).unwrap_or_default();
        let advice = line.strip_prefix(&expected).unwrap_or_else(|| {
            panic!("docs/metrics.md says\n{line}\nbut it should begin with\n{expected}")
        });
        assert!(advice.len() > 10, "{} has no advice: {advice:?}", metric.name);
    }
    assert!(lines.is_empty(), "documented, but not measured: {lines:#?}");
}

/// The beginning of a metric's line in the documentation.
fn described(metric: &Metric) -> String {
    let unit = match metric.measure {
        Measure::Things => "",
        Measure::Bytes => " in bytes",
        Measure::Seconds => " in seconds",
    };
    let labels: Vec<_> = metric.labels.iter().map(|label| words(label) + "<br>").collect();
    let series = match series(metric.labels) {
        Some(series) => series.to_string(),
        None => "by shard".to_owned(),
    };
    format!(
        "| `{}` | {}{unit} | {} | {series} | {} | ",
        metric.name,
        metric.kind.word(),
        labels.concat().trim_end_matches("<br>"),
        metric.meaning
    )
}

fn words(label: &Label) -> String {
    match label.values {
        Values::Of(values) => format!("`{}`: {}", label.name, values.replace(' ', ", ")),
        Values::AtMost(count, what) => format!("`{}`: {what}, at most {count}", label.name),
        Values::Each(what) => format!("`{}`: {what}", label.name),
    }
}

/// The most series that a process can have of it; `None` where that depends on the shards.
fn series(labels: &[Label]) -> Option<usize> {
    labels.iter().try_fold(1, |series, label| match label.values {
        Values::Of(values) => Some(series * values.split(' ').count()),
        Values::AtMost(count, _) => Some(series * count),
        Values::Each(_) => None,
    })
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Every call of the `metrics` macros with a name of ours, function by function.
fn measured_in(text: &str) -> Vec<(String, Measured)> {
    let mut found = Vec::new();
    for function in text.split("fn ") {
        for kind in ["counter", "gauge", "histogram"] {
            for call in function.split(&format!("{kind}!(")).skip(1) {
                let Some(rest) = call.trim_start().strip_prefix("\"sluicegate.") else { continue };
                let Some((name, rest)) = rest.split_once('"') else { continue };
                let arguments = rest.split_once(").").map_or(rest, |(arguments, _)| arguments);
                let labels = match arguments.contains("&labels") {
                    true => first_strings(function),
                    false => keys(arguments),
                };
                found.push((format!("sluicegate.{name}"), Measured { kind, labels }));
            }
        }
    }
    found
}

/// The `"key" => value` of a call.
fn keys(arguments: &str) -> Vec<String> {
    let before_arrows = arguments.split(" => ").collect::<Vec<_>>();
    let keys = before_arrows.iter().rev().skip(1).rev();
    keys.filter_map(|text| text.rsplit('"').nth(1)).map(str::to_owned).collect()
}

/// The first strings of the tuples of `let labels = [("key", value), ..]`.
fn first_strings(function: &str) -> Vec<String> {
    let list = function.split_once("let labels = [").map_or("", |(_, list)| list);
    let list = list.split_once("];").map_or(list, |(list, _)| list);
    let tuples = list.split("(\"").skip(1);
    tuples.filter_map(|tuple| tuple.split('"').next()).map(str::to_owned).collect()
}
