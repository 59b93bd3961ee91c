//! What the runs measured, as a table and as JSON.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

/// What a phase cost.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// The largest gap of the shards that the event concerns.
    pub gap: Duration,
    /// The largest gap of the other shards.
    pub others: Duration,
    pub duplicates: u64,
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
        let (scenario, runs) = (self.scenario, self.runs);
        println!(
            "{scenario}: run {} of {runs}, {phase}: gap {gap:.2?}, other shards {others:.2?}, {duplicates} duplicates",
            run + 1
        );
        self.phases.entry(phase).or_default().push(*measured);
    }

    /// Prints the table, and writes the file that `FLEET_JSON` names. Nothing was lost, or the scenario would not be here.
    pub fn tell(&self) {
        let mut lines = vec![format!(
            "{:<46} {:>4} {:>24} {:>24} {:>18} {:>5}",
            "min / median / max", "n", "gap in s", "other shards in s", "duplicates", "lost"
        )];
        let mut phases = serde_json::Map::new();
        for (phase, all) in &self.phases {
            let seconds =
                |of: fn(&Measured) -> Duration| Spread::of(all.iter().map(|m| of(m).as_secs_f64()));
            let (gap, others) = (seconds(|m| m.gap), seconds(|m| m.others));
            let duplicates = Spread::of(all.iter().map(|m| m.duplicates as f64));
            lines.push(format!(
                "{:<46} {:>4} {:>24} {:>24} {:>18} {:>5}",
                format!("{}: {phase}", self.scenario),
                all.len(),
                gap.text(2),
                others.text(2),
                duplicates.text(0),
                0
            ));
            let each: Vec<_> = all.iter().map(|m| m.gap.as_secs_f64()).collect();
            phases.insert(
                (*phase).to_owned(),
                json!({
                    "samples": all.len(), "gap_s": gap.json(), "gap_s_each": each,
                    "other_shards_gap_s": others.json(), "duplicates": duplicates.json(), "lost": 0,
                }),
            );
        }
        println!("{}", lines.join("\n"));
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
    fn of(values: impl Iterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => (values[middle - 1] + values[middle]) / 2.0,
            _ => values[middle],
        };
        Spread { least: values[0], median, most: values[values.len() - 1] }
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
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[test]
fn the_median_lies_in_the_middle() {
    let median = |values: &[f64]| Spread::of(values.iter().copied()).median;
    assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
}
