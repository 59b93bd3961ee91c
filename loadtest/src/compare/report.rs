//! The result: medians, ratios, goals; as a table or as JSON.

use super::measure::{AddedLatency, Measurement};
use super::{Consumer, Goal, Options, goals};

const GB: f64 = 1e9;
const MIB: f64 = 1024.0 * 1024.0;

/// One consumer at one size.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Figures {
    /// Who.
    pub consumer: Consumer,
    /// CPU seconds per 10^9 bytes of record data: the median of the rounds, the least and the most.
    pub cpu_s_per_gb: f64,
    /// The least.
    pub cpu_s_per_gb_min: f64,
    /// The most.
    pub cpu_s_per_gb_max: f64,
    /// The most resident memory of any round, in MiB.
    pub peak_rss_mib: f64,
    /// Wall-clock rate, the median, in MB/s: for information, as both sides share the machine.
    pub mb_per_s: f64,
}

/// All consumers at one size.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct SizeReport {
    /// Bytes of a record.
    pub record_bytes: usize,
    /// Every consumer.
    pub consumers: Vec<Figures>,
    /// What the product is held to.
    pub goals: Vec<Goal>,
}

/// What the product adds at half load, at one size.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct LatencyReport {
    /// Bytes of a record.
    pub record_bytes: usize,
    /// What it read at full speed just before, in MB/s.
    pub full_mb_per_s: f64,
    /// What it read meanwhile.
    pub mb_per_s: f64,
    /// From a record's arrival in the process to the call of the store.
    pub added: AddedLatency,
    /// Whether the 99th percentile is below the goal.
    pub met: bool,
}

/// The goal for the 99th percentile.
const ADDED_P99_US: u64 = 10_000;

impl LatencyReport {
    pub(super) fn new(
        record_bytes: usize,
        full_bytes_per_s: f64,
        half: &Measurement,
        added: AddedLatency,
    ) -> LatencyReport {
        LatencyReport {
            record_bytes,
            full_mb_per_s: full_bytes_per_s / 1e6,
            mb_per_s: half.bytes as f64 / 1e6 / half.wall_s.max(1e-9),
            added,
            met: added.p99_us < ADDED_P99_US,
        }
    }

    /// One line, for people.
    pub fn line(&self) -> String {
        let ms = |us: u64| us as f64 / 1_000.0;
        format!(
            "{:>7} B  {:>5.0} MB/s of {:>5.0}  p50 {:.2} ms  p99 {:.2} ms  max {:.2} ms  of {} records: {}",
            self.record_bytes,
            self.mb_per_s,
            self.full_mb_per_s,
            ms(self.added.p50_us),
            ms(self.added.p99_us),
            ms(self.added.max_us),
            self.added.count,
            if self.met { "met (goal p99 < 10 ms)" } else { "MISSED (goal p99 < 10 ms)" },
        )
    }
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Report {
    /// TLS and HTTP/2, or plain HTTP/1.1.
    pub tls: bool,
    /// Shards of the stream.
    pub shards: u32,
    /// Bytes that each measurement read.
    pub bytes: u64,
    /// Rounds.
    pub rounds: usize,
    /// One report for each size.
    pub sizes: Vec<SizeReport>,
}

impl SizeReport {
    pub(super) fn new(
        options: &Options,
        record_bytes: usize,
        measured: &[(Consumer, Measurement)],
    ) -> SizeReport {
        let of = |consumer| {
            measured.iter().filter(move |(measured, _)| *measured == consumer).map(|(_, m)| *m)
        };
        let consumers: Vec<Figures> = options
            .consumers
            .iter()
            .filter_map(|consumer| Figures::new(*consumer, &of(*consumer).collect::<Vec<_>>()))
            .collect();
        let goals = goals::judge(record_bytes, options.tls, &consumers);
        SizeReport { record_bytes, consumers, goals }
    }
}

impl Figures {
    fn new(consumer: Consumer, measured: &[Measurement]) -> Option<Figures> {
        let cost = sorted(measured, |m| m.cpu_s / (m.bytes as f64 / GB));
        let rate = sorted(measured, |m| m.bytes as f64 / 1e6 / m.wall_s.max(1e-9));
        let peak = measured.iter().map(|m| m.peak_rss_bytes).max()?;
        Some(Figures {
            consumer,
            cpu_s_per_gb: median(&cost)?,
            cpu_s_per_gb_min: *cost.first()?,
            cpu_s_per_gb_max: *cost.last()?,
            peak_rss_mib: peak as f64 / MIB,
            mb_per_s: median(&rate)?,
        })
    }
}

fn sorted(measured: &[Measurement], of: impl Fn(&Measurement) -> f64) -> Vec<f64> {
    let mut values: Vec<f64> = measured.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        0 => Some(f64::midpoint(*sorted.get(middle.checked_sub(1)?)?, *sorted.get(middle)?)),
        _ => sorted.get(middle).copied(),
    }
}

impl Report {
    pub(super) fn new(options: &Options, sizes: Vec<SizeReport>) -> Report {
        let Options { tls, shards, bytes, rounds, .. } = *options;
        Report { tls, shards, bytes, rounds, sizes }
    }

    /// True when no goal was missed.
    pub fn goals_met(&self) -> bool {
        self.sizes.iter().flat_map(|size| &size.goals).all(|goal| goal.met)
    }

    /// The table, for people.
    pub fn table(&self) -> String {
        let transport = if self.tls { "TLS 1.3, HTTP/2" } else { "plain HTTP/1.1" };
        let limit = Consumer::limit(self.tls);
        let mut text = format!(
            "{transport}, {} shards, {:.2} GB a measurement, medians of {}\n",
            self.shards,
            self.bytes as f64 / GB,
            self.rounds
        );
        for size in &self.sizes {
            let cost = |consumer| {
                size.consumers.iter().find(|f| f.consumer == consumer).map(|f| f.cpu_s_per_gb)
            };
            text.push_str(&format!(
                "\n{:>7} B  CPU s/GB      min      max   vs sdk  of {:<6}  peak RSS      wall\n",
                size.record_bytes,
                limit.name()
            ));
            for figures in &size.consumers {
                let own = figures.cpu_s_per_gb.max(f64::MIN_POSITIVE);
                let times =
                    cost(Consumer::Sdk).map_or("-".to_owned(), |sdk| format!("{:.2}x", sdk / own));
                let share =
                    cost(limit).map_or("-".to_owned(), |l| format!("{:.0} %", l / own * 100.0));
                text.push_str(&format!(
                    "{:<10} {:>8.2} {:>8.2} {:>8.2} {:>8} {:>10} {:>6.0} MiB {:>4.0} MB/s\n",
                    figures.consumer,
                    figures.cpu_s_per_gb,
                    figures.cpu_s_per_gb_min,
                    figures.cpu_s_per_gb_max,
                    times,
                    share,
                    figures.peak_rss_mib,
                    figures.mb_per_s,
                ));
            }
            for goal in &size.goals {
                let verdict = if goal.met { "met" } else { "MISSED" };
                text.push_str(&format!("  {verdict:<7} {}\n", goal.words()));
            }
        }
        text
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn figures(consumer: Consumer, cpu_s_per_gb: f64) -> Figures {
        Figures {
            consumer,
            cpu_s_per_gb,
            cpu_s_per_gb_min: cpu_s_per_gb,
            cpu_s_per_gb_max: cpu_s_per_gb,
            peak_rss_mib: 1.0,
            mb_per_s: 1.0,
        }
    }

    fn measurement(cpu_s: f64) -> Measurement {
        let (peak_rss_bytes, bytes) = (1 << 20, 500_000_000);
        Measurement { cpu_s, wall_s: 2.0, peak_rss_bytes, bytes, added_latency: None }
    }

    #[test]
    fn figures_are_medians_per_gb() {
        let odd = [measurement(3.0), measurement(1.0), measurement(2.0)];
        let odd = Figures::new(Consumer::Sdk, &odd).unwrap();
        assert_eq!((odd.cpu_s_per_gb, odd.cpu_s_per_gb_min, odd.cpu_s_per_gb_max), (4.0, 2.0, 6.0));
        assert_eq!((odd.mb_per_s, odd.peak_rss_mib), (250.0, 1.0));
        let even = Figures::new(Consumer::Sdk, &[measurement(1.0), measurement(2.0)]).unwrap();
        assert_eq!(even.cpu_s_per_gb, 3.0);
        assert_eq!(Figures::new(Consumer::Sdk, &[]), None);
    }

    #[test]
    fn latency_is_held_to_its_goal() {
        let added = |p99_us| AddedLatency { count: 9, p50_us: 1_500, p99_us, max_us: 20_000 };
        let half = measurement(1.0);
        let met = LatencyReport::new(1_000, 5e8, &half, added(9_999));
        assert!(met.met && met.line().contains("250 MB/s of   500"), "{}", met.line());
        assert!(met.line().contains("p50 1.50 ms  p99 10.00 ms"), "{}", met.line());
        assert!(!LatencyReport::new(1_000, 5e8, &half, added(10_000)).met);
    }

    #[test]
    fn the_table_shows_ratios_and_says_what_was_missed() {
        let consumers = vec![
            figures(Consumer::Sluicegate, 1.0),
            figures(Consumer::Sdk, 4.0),
            figures(Consumer::Socket, 0.25),
        ];
        let goals = goals::judge(1_000, false, &consumers);
        let size = SizeReport { record_bytes: 1_000, consumers, goals };
        let report =
            Report { tls: false, shards: 4, bytes: 1_000_000_000, rounds: 5, sizes: vec![size] };
        let table = report.table();
        assert!(table.contains("4.00x") && table.contains("25 %"), "{table}");
        assert!(table.contains("met     4.00x less CPU than sdk"), "{table}");
        assert!(table.contains("MISSED  25 % of socket (goal 30 %)"), "{table}");
        assert!(!report.goals_met());
    }
}
