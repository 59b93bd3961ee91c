//! What the runs measured, as a table and as JSON.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

/// What a phase cost.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The largest gap of the shards that the event concerns.
    pub gap: Duration,
    /// The largest gap of the other shards.
    pub others: Option<Duration>,
    /// The shard and the number of each record that came again.
    pub duplicates: Vec<(usize, usize)>,
}

/// The runs of one scenario.
pub struct Report {
    scenario: &'static str,
    pub runs: usize,
    phases: BTreeMap<&'static str, Vec<Measured>>,
}

/// Of every scenario that has ended: several write one file.
static DONE: Mutex<BTreeMap<&'static str, Value>> = Mutex::new(BTreeMap::new());

impl Report {
    /// `FLEET_RUNS` says how often the scenario runs.
    pub fn new(scenario: &'static str) -> Report {
        let runs = variable("FLEET_RUNS").map_or(1, |runs| runs.parse().expect("a number"));
        Report { scenario, runs, phases: BTreeMap::new() }
    }

    pub fn note(&mut self, run: usize, phase: &'static str, measured: &Measured) {
        let Measured { gap, others, duplicates } = measured;
        let (scenario, runs, run) = (self.scenario, self.runs, run + 1);
        let others = others.map_or(String::new(), |others| format!(" (other shards {others:.2?})"));
        let duplicates = duplicates.len();
        println!(
            "{scenario}: run {run} of {runs}, {phase}: gap {gap:.2?}{others}, {duplicates} duplicates"
        );
        self.phases.entry(phase).or_default().push(measured.clone());
    }

    /// Prints the table, and writes the file that `FLEET_JSON` names. Nothing was lost, or the scenario would not be here.
    pub fn tell(&self) {
        let title = "min / median / max";
        println!(
            "{title:<46} {:>4} {:>22} {:>22} {:>14} {:>5}",
            "n", "gap in s", "other shards in s", "duplicates", "lost"
        );
        let mut phases = serde_json::Map::new();
        for (phase, all) in &self.phases {
            let gap = Spread::of(all.iter().map(|m| m.gap.as_secs_f64()));
            let others = Spread::of(all.iter().filter_map(|m| m.others).map(|o| o.as_secs_f64()));
            let duplicates = Spread::of(all.iter().map(|m| m.duplicates.len() as f64));
            let name = format!("{}: {phase}", self.scenario);
            let text = |spread: &Option<Spread>, digits| {
                spread.as_ref().map_or("-".to_owned(), |spread| spread.text(digits))
            };
            println!(
                "{name:<46} {:>4} {:>22} {:>22} {:>14} {:>5}",
                all.len(),
                text(&gap, 2),
                text(&others, 2),
                text(&duplicates, 0),
                0
            );
            let json = |spread: Option<Spread>| spread.as_ref().map(Spread::json);
            let each: Vec<_> = all.iter().map(|m| m.gap.as_secs_f64()).collect();
            let figures = json!({
                "samples": all.len(), "gap_s": json(gap), "gap_s_each": each,
                "other_shards_gap_s": json(others), "duplicates": json(duplicates), "lost": 0,
            });
            phases.insert((*phase).to_owned(), figures);
        }
        let mut done = DONE.lock().unwrap();
        done.insert(self.scenario, Value::Object(phases));
        if let Some(path) = variable("FLEET_JSON") {
            std::fs::write(&path, format!("{:#}\n", json!(*done))).expect("the file is written");
        }
    }
}

struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => (values[middle - 1] + values[middle]) / 2.0,
            _ => values[middle],
        };
        Some(Spread { least, median, most })
    }

    fn text(&self, digits: usize) -> String {
        format!("{:.digits$} / {:.digits$} / {:.digits$}", self.least, self.median, self.most)
    }

    fn json(&self) -> Value {
        json!({ "min": self.least, "median": self.median, "max": self.most })
    }
}

// How often scenarios run, and where the figures go, is said from outside.
#[allow(clippy::disallowed_methods)]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[test]
fn the_median_lies_in_the_middle() {
    let median = |values: &[f64]| Spread::of(values.iter().copied()).map(|spread| spread.median);
    assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    assert_eq!(median(&[]), None);
}
