//! Consumers beside each other on one machine, in one interleaved run: CPU seconds per GB of record data, and memory.
//!
//! Each measurement is a fresh source and a fresh consumer, both child processes. The source holds its records back until
//! every shard is subscribed to; the consumer's CPU time is taken then and once it has read the last record, so starting up
//! costs it nothing. Rounds go through all consumers in turn, each round beginning with another one, and medians are
//! compared: wall-clock rates of a shared machine would not mean anything.
//!
//! It starts processes and reads `/proc`, so it needs Linux. It knows the product only as a program with a configuration
//! file and an operators' port. Start reading at [`run`], then `measure`.

mod child;
mod consumer;
mod goals;
mod measure;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use child::Child;
use measure::{Bench, Load, Measurement};

pub use child::Usage;
pub use consumer::Consumer;
pub use goals::Goal;
pub use measure::AddedLatency;
pub use report::{Figures, LatencyReport, Report, SizeReport};

use crate::wire::WireError;

/// What is compared.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program that has `source` and `peer`.
    pub loadtest: PathBuf,
    /// The product.
    pub sluicegate: PathBuf,
    /// Who takes part.
    pub consumers: Vec<Consumer>,
    /// Bytes of a record, one series of rounds each.
    pub record_bytes: Vec<usize>,
    /// Bytes of record data that each measurement reads.
    pub bytes: u64,
    /// Decoded bytes of an event.
    pub event_bytes: usize,
    /// Shards that they are spread over.
    pub shards: u32,
    /// Measurements of each consumer at each size.
    pub rounds: usize,
    /// TLS and HTTP/2 instead of plain HTTP/1.1.
    pub tls: bool,
    /// Keep the consumer on one core and all else on another.
    pub pin: bool,
    /// For configurations and logs; is there and may be filled.
    pub directory: PathBuf,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A program cannot be started.
    #[error("cannot start {program}: {cause}")]
    Spawn {
        /// The program.
        program: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A file of ours cannot be written, or one of the system's not be read.
    #[error("{path}: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A child ended, or said nothing of what it has to say.
    #[error("{name}: {problem}; it wrote last:\n{log}")]
    Child {
        /// Which one.
        name: String,
        /// What happened.
        problem: String,
        /// The end of its log.
        log: String,
    },
    /// A child cannot be asked.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The product is of another version than this program.
    #[error("the product's state says nothing of the latency that it adds: is it of this version?")]
    NoLatency,
    /// Records were lost or doubled: the figures mean nothing.
    #[error("{consumer} read {found} of {expected} {what} that were sent")]
    Counted {
        /// Who.
        consumer: Consumer,
        /// Records, or bytes.
        what: &'static str,
        /// What the source sent.
        expected: u64,
        /// What was counted.
        found: u64,
    },
}

/// Measures everything; `progress` is told before each measurement what it is.
///
/// # Errors
/// The first thing that goes wrong ends the run: a figure that was not measured must not look like one.
pub async fn run(options: Options, mut progress: impl FnMut(&str)) -> Result<Report, CompareError> {
    let bench = Bench::start(&options).await?;
    let mut sizes = Vec::new();
    let total = options.record_bytes.len() * options.rounds * options.consumers.len();
    let load = Load::Bytes(options.bytes);
    let mut done = 0;
    for record_bytes in &options.record_bytes {
        let mut measured: Vec<(Consumer, Measurement)> = Vec::new();
        for round in 0..options.rounds {
            let mut order = options.consumers.clone();
            let turn = round % order.len().max(1);
            order.rotate_left(turn);
            for consumer in order {
                done += 1;
                progress(&format!(
                    "{done} of {total}: {consumer}, records of {record_bytes} B, round {} of {}",
                    round + 1,
                    options.rounds
                ));
                measured.push((consumer, bench.measure(consumer, *record_bytes, load).await?));
            }
        }
        sizes.push(SizeReport::new(&options, *record_bytes, &measured));
    }
    Ok(Report::new(&options, sizes))
}

/// How long the product is kept at half load.
const HALF_LOAD: Duration = Duration::from_secs(20);

/// What the product adds to a record's way at half of the rate that it reached just before, for each size.
///
/// # Errors
/// As [`run`].
pub async fn latency(
    options: Options,
    mut progress: impl FnMut(&str),
) -> Result<Vec<LatencyReport>, CompareError> {
    let bench = Bench::start(&options).await?;
    let mut reports = Vec::new();
    for record_bytes in &options.record_bytes {
        progress(&format!("records of {record_bytes} B: as fast as it goes"));
        let product = Consumer::Sluicegate;
        let full = bench.measure(product, *record_bytes, Load::Bytes(options.bytes)).await?;
        let full = full.bytes as f64 / full.wall_s.max(1e-9);
        progress(&format!("records of {record_bytes} B: {:.0} MB/s", full / 2e6));
        let load = Load::Rate((full / 2.0) as u64, HALF_LOAD);
        let half = bench.measure(product, *record_bytes, load).await?;
        let added = half.added_latency.ok_or(CompareError::NoLatency)?;
        reports.push(LatencyReport::new(*record_bytes, full, &half, added));
    }
    Ok(reports)
}
