//! `loadtest compare`: its arguments, its progress line and its table.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, anyhow};
use loadtest::compare::{Consumer, Options, latency, run as compare};

use super::{Output, Usage, units, until_signal};

const MAX_ROUNDS: u64 = 1_000;

/// Measure Sluicegate beside other consumers: CPU seconds per GB of record data, and memory.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  cargo build --release -p sluicegate -p loadtest
  target/release/loadtest compare --check
  target/release/loadtest compare --tls --check
  target/release/loadtest compare --latency

Consumers: sluicegate with null sinks; sdk, the plain SDK consumer that only counts; sdk-tuned, the same with glibc's
allocator tuned by environment; socket, a bare read of the same bytes; drop, a client that drops the body (with --tls).

Exit codes: 0 = measured (and, with --check, no goal missed), 1 = a goal was missed or something went wrong.")]
pub(crate) struct CompareArguments {
    /// The product; by default the one beside this program.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Bytes of a record; several are measured one after the other.
    #[arg(long, value_name = "SIZE,..", value_delimiter = ',', value_parser = units::bytes, default_value = "200,1000,10000")]
    sizes: Vec<usize>,
    /// GB of record data that each measurement reads.
    #[arg(long, default_value_t = 1.0)]
    gb: f64,
    /// Bytes of record data in an event.
    #[arg(long, value_name = "SIZE", value_parser = units::bytes, default_value = "400kB")]
    event_bytes: usize,
    /// Shards of the stream.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    shards: u32,
    /// Measurements of each consumer at each size.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=MAX_ROUNDS))]
    rounds: u64,
    /// Over TLS and HTTP/2 instead of plain HTTP/1.1.
    #[arg(long)]
    tls: bool,
    /// Measure something else: what Sluicegate adds to a record's way at half load.
    #[arg(long, conflicts_with_all = ["consumers", "rounds"])]
    latency: bool,
    /// Measure only these.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', value_parser = consumer)]
    consumers: Vec<Consumer>,
    /// Let the system choose the cores. By default the consumer has core 1 and all else core 0, by `taskset`.
    #[arg(long)]
    no_pin: bool,
    /// Exit with 1 when a goal was missed.
    #[arg(long)]
    check: bool,
    /// How the result is written.
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

fn consumer(name: &str) -> Result<Consumer, String> {
    let all = [false, true].into_iter().flat_map(Consumer::all);
    all.into_iter()
        .find(|consumer| consumer.name() == name)
        .ok_or_else(|| "known are sluicegate, sdk, sdk-tuned, socket and drop".to_owned())
}

/// Measures, and prints the table.
pub(crate) async fn run(arguments: CompareArguments) -> anyhow::Result<ExitCode> {
    let (check, output, of_latency) = (arguments.check, arguments.output, arguments.latency);
    let directory = Directory::make()?;
    let options = options(arguments, &directory.0)?;
    let is_terminal = std::io::stderr().is_terminal();
    let progress = |step: &str| match is_terminal {
        true => eprint!("\r\x1b[2K{step}"),
        false => eprintln!("{step}"),
    };
    let measured = async {
        if of_latency {
            let reports = latency(options, progress).await?;
            let met = reports.iter().all(|report| report.met);
            let lines = reports.iter().map(|report| format!("{}\n", report.line()));
            return Ok((lines.collect::<String>(), serde_json::to_string_pretty(&reports)?, met));
        }
        let report = compare(options, progress).await?;
        anyhow::Ok((report.table(), serde_json::to_string_pretty(&report)?, report.goals_met()))
    };
    let (text, json, met) = tokio::select! {
        biased;
        () = until_signal() => return Err(anyhow!("interrupted: nothing was measured to the end")),
        measured = Box::pin(measured) => measured?,
    };
    if is_terminal {
        eprint!("\r\x1b[2K");
    }
    match output {
        Output::Text => print!("{text}"),
        Output::Json => println!("{json}"),
    }
    Ok(ExitCode::from(u8::from(check && !met)))
}

fn options(arguments: CompareArguments, directory: &Path) -> anyhow::Result<Options> {
    let loadtest = std::env::current_exe().context("where is this program?")?;
    let beside = || loadtest.with_file_name("sluicegate");
    let sluicegate = arguments.binary.unwrap_or_else(beside);
    if !sluicegate.is_file() {
        let problem = format!(
            "no product at {}: build it (cargo build --release -p sluicegate), or name it with --binary",
            sluicegate.display()
        );
        return Err(anyhow!(Usage(problem)));
    }
    if !(0.001..=1_000.0).contains(&arguments.gb) {
        return Err(anyhow!(Usage(format!("--gb {}: 0.001 to 1000", arguments.gb))));
    }
    let consumers = match arguments.consumers.is_empty() {
        true => Consumer::all(arguments.tls),
        false => arguments.consumers,
    };
    if arguments.tls && consumers.contains(&Consumer::Socket) {
        return Err(anyhow!(Usage("a bare socket speaks no TLS: take drop with --tls".to_owned())));
    }
    Ok(Options {
        loadtest,
        sluicegate,
        consumers,
        record_bytes: arguments.sizes,
        bytes: (arguments.gb * 1e9) as u64,
        event_bytes: arguments.event_bytes,
        shards: arguments.shards,
        rounds: usize::try_from(arguments.rounds)?,
        tls: arguments.tls,
        pin: !arguments.no_pin && can_pin(),
        directory: directory.to_owned(),
    })
}

/// Whether there are two cores, and a program that can choose between them.
fn can_pin() -> bool {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let taskset = || Command::new("taskset").args(["--cpu-list", "0,1", "true"]).output();
    cores >= 2 && taskset().is_ok_and(|output| output.status.success())
}

/// A directory for configurations and logs that goes with the run.
struct Directory(PathBuf);

impl Directory {
    fn make() -> anyhow::Result<Directory> {
        let path = std::env::temp_dir().join(format!("loadtest-compare-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Directory(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
