//! What is looked at once a second, and what it says of a phase.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    Before,
    Dead,
    Recovery,
}

/// One look.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    pub at_s: f64,
    pub phase: Phase,
    pub rss_bytes: u64,
    /// The worst shard's, by pipeline.
    pub behind_ms: [u64; 2],
    /// Lanes by feed (live, detached, catching-up), by pipeline.
    pub feeds: [[usize; 3]; 2],
    pub records_read: u64,
}

#[derive(Debug, Default, Serialize)]
pub struct Samples(pub Vec<Sample>);

/// How far a pipeline was behind in a phase.
#[derive(Clone, Copy)]
pub struct Lag {
    pub p50: Duration,
    pub p99: Duration,
    pub max: Duration,
}

impl std::fmt::Debug for Lag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {:.2?}, p99 {:.2?}, max {:.2?}", self.p50, self.p99, self.max)
    }
}

pub const PIPELINES: [&str; 2] = ["sync-store", "async-delivery"];
pub const FEEDS: [&str; 3] = ["live", "detached", "catching-up"];

impl Sample {
    pub fn of(at_s: f64, phase: Phase, rss_bytes: u64, state: &Value) -> Sample {
        let mut sample = Sample {
            at_s,
            phase,
            rss_bytes,
            behind_ms: [0; 2],
            feeds: [[0; 3]; 2],
            records_read: state["processor"]["records_read"].as_u64().expect("a number"),
        };
        for shard in state["processor"]["shards"].as_array().expect("shards") {
            for (index, lane) in shard["lanes"].as_array().expect("lanes").iter().enumerate() {
                let behind_ms = lane["behind_ms"].as_u64().expect("a number");
                sample.behind_ms[index] = sample.behind_ms[index].max(behind_ms);
                let feed = FEEDS.iter().position(|feed| lane["feed"] == *feed);
                if let Some(feed) = feed {
                    sample.feeds[index][feed] += 1;
                }
            }
        }
        sample
    }

    pub fn all_live(&self) -> bool {
        self.feeds.iter().all(|[_, detached, catching_up]| detached + catching_up == 0)
    }
}

impl Samples {
    pub fn highest_rss(&self) -> u64 {
        self.0.iter().map(|sample| sample.rss_bytes).max().unwrap_or(0)
    }

    pub fn lag(&self, pipeline: &str, phase: Phase) -> Lag {
        let index = PIPELINES.iter().position(|name| *name == pipeline).expect("a pipeline");
        let of_phase = self.0.iter().filter(|sample| sample.phase == phase);
        let mut lags: Vec<u64> = of_phase.map(|sample| sample.behind_ms[index]).collect();
        lags.sort_unstable();
        let at = |share: f64| {
            let last = lags.len().saturating_sub(1);
            let ms = lags.get((last as f64 * share).round() as usize).copied().unwrap_or(0);
            Duration::from_millis(ms)
        };
        Lag { p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

/// Resident bytes of a process, as the kernel says.
pub fn rss_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("resident memory");
    let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    kib.expect("a number") * 1024
}
