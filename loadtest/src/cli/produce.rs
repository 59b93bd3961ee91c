//! `loadtest produce`: its arguments, its progress line and its summary.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use aws_smithy_async::time::{SharedTimeSource, SystemTimeSource};
use loadtest::produce::{
    Aggregation, Burst, Exit, Generate, Handle, HashKeys, JsonPointer, Keys, Options, Pace,
    Producer, Replay, ReplayInput, Size, Source, Stats, StreamRef, Summary, TimeField, TimeUnit,
};
use tokio_util::sync::CancellationToken;

use super::client::{Target, connect};
use super::{Output, Usage, units};

const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// Put messages into a stream.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  loadtest produce --stream events --file events.ndjson --key /device/id --time /at --speed 60
  loadtest produce --stream events --generate 1KiB --keys 1000 --skew 1 --rate 500 --for 1m
  loadtest produce --stream events --generate 200..10KiB --limit 100000 --aggregate \\
      --endpoint-url http://127.0.0.1:4566 --output json")]
pub(crate) struct ProduceArguments {
    /// Name or ARN of the stream.
    #[arg(long, value_name = "NAME|ARN")]
    stream: StreamRef,
    #[command(flatten)]
    target: Target,

    /// Replay this NDJSON file, one message a line; may be given several times.
    #[arg(
        long,
        value_name = "PATH",
        required_unless_present = "generate",
        conflicts_with = "generate"
    )]
    file: Vec<PathBuf>,
    /// Start again at the first file when the last one ends.
    #[arg(long, requires = "file")]
    r#loop: bool,
    /// Generate messages of this size, such as 1KiB, or 200..10KiB for a range.
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    generate: Option<Size>,
    /// Number of different keys of generated messages.
    #[arg(long, default_value_t = 1_000, requires = "generate")]
    keys: u32,
    /// Zipf exponent of the keys' popularity: 0 = all alike, 1 = a heavy tail.
    #[arg(long, default_value_t = 0.0, requires = "generate")]
    skew: f64,

    /// Messages a second; without it, as fast as the stream takes them.
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Extra messages at the start of every --burst-every.
    #[arg(long, value_name = "N", requires = "rate")]
    burst: Option<u64>,
    /// How often a burst comes.
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "10s", requires = "burst")]
    burst_every: Duration,
    /// JSON pointer to the time of a message: replay with the recorded pauses.
    #[arg(long, value_name = "POINTER", conflicts_with = "rate", requires = "file")]
    time: Option<JsonPointer>,
    /// How the time is written.
    #[arg(long, value_enum, default_value = "ms", requires = "time")]
    time_unit: TimeUnitArgument,
    /// How many times faster than recorded.
    #[arg(long, default_value_t = 1.0, requires = "time")]
    speed: f64,
    /// Cut pauses that are longer than this, after --speed.
    #[arg(long, value_name = "DURATION", value_parser = units::duration, requires = "time")]
    longest_pause: Option<Duration>,
    /// Stop after so many messages.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Take no more messages after so long.
    #[arg(long = "for", value_name = "DURATION", value_parser = units::duration)]
    duration: Option<Duration>,

    /// Partition key: a JSON pointer, or `random`. Generated messages use their own key.
    #[arg(long, value_name = "POINTER|random")]
    key: Option<String>,
    /// Explicit hash keys instead of Kinesis's hash of the partition key.
    #[arg(long, value_enum, default_value = "none")]
    hash_keys: HashKeysArgument,
    /// Keep the order within a partition key, also when single records fail. Slower.
    #[arg(long)]
    ordered: bool,
    /// Share of messages to break on purpose, such as 1%.
    #[arg(long, value_name = "SHARE", value_parser = units::share, default_value = "0")]
    malformed: f64,
    /// Pack messages into aggregated records, as the Kinesis Producer Library does.
    #[arg(long)]
    aggregate: bool,
    /// Most messages in an aggregated record.
    #[arg(long, default_value_t = 100, requires = "aggregate")]
    aggregate_messages: u32,
    /// Most bytes of an aggregated record.
    #[arg(long, value_parser = units::bytes, default_value = "50KiB", requires = "aggregate")]
    aggregate_bytes: usize,

    /// Most requests in flight.
    #[arg(long, default_value_t = 5)]
    in_flight: usize,
    /// How long a message may wait for its request to fill.
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "20ms")]
    linger: Duration,
    /// Attempts for each record.
    #[arg(long, default_value_t = 10)]
    attempts: u32,
    /// Seed of everything random.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How the summary is written.
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum TimeUnitArgument {
    /// A number of seconds since 1970.
    S,
    /// A number of milliseconds since 1970.
    Ms,
    /// A string such as 2018-02-01T00:00:00Z.
    Rfc3339,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum HashKeysArgument {
    /// None: Kinesis hashes the partition key.
    None,
    /// Random, but always the same for a partition key.
    PerKey,
    /// Random for every message: breaks the order within a key.
    Random,
}

/// Runs a producer until it ends or the user interrupts.
pub(crate) async fn run(arguments: ProduceArguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    let client = connect(&arguments.target).await?;
    let options = options(arguments)?;
    let time = SharedTimeSource::new(SystemTimeSource::new());
    let (producer, handle) =
        Producer::new(options, client, time).map_err(|error| anyhow!(Usage(error.to_string())))?;
    let stop = CancellationToken::new();
    let watch = tokio::spawn(stop_on_interrupt(stop.clone()));
    let progress = tokio::spawn(show_progress(handle));
    let exit = producer.run(stop).await;
    watch.abort();
    progress.abort();
    report(&exit, output);
    match &exit {
        Exit::Failed(_, error) => Err(anyhow!(error.to_string())),
        // Being stopped is no failure: what was abandoned then was asked for.
        Exit::Stopped(summary) | Exit::Done(summary) => {
            Ok(ExitCode::from(u8::from(summary.stats.messages_failed > 0)))
        }
    }
}

fn options(arguments: ProduceArguments) -> Result<Options, Usage> {
    let usage = |error: loadtest::produce::InvalidOptions| Usage(error.to_string());
    let keys = match arguments.key.as_deref() {
        Some("random") => Keys::Random,
        Some(pointer) => Keys::Pointer(pointer.parse().map_err(usage)?),
        None if arguments.generate.is_some() => Keys::Generated,
        None => Keys::Random,
    };
    let source = match arguments.generate {
        Some(size) => {
            Source::Generate(Generate { size, keys: arguments.keys, skew: arguments.skew })
        }
        None => Source::Replay(Replay {
            inputs: arguments.file.into_iter().map(ReplayInput::File).collect(),
            repeat: arguments.r#loop,
        }),
    };
    let pace = match (arguments.rate, arguments.time) {
        (Some(per_second), _) => Pace::Rate {
            per_second,
            burst: arguments.burst.map(|messages| Burst { every: arguments.burst_every, messages }),
        },
        (None, Some(pointer)) => Pace::Recorded {
            time: TimeField { pointer, unit: arguments.time_unit.into() },
            speed: arguments.speed,
            longest_gap: arguments.longest_pause,
        },
        (None, None) => Pace::Unlimited,
    };
    let aggregation = Aggregation {
        max_messages: arguments.aggregate_messages,
        max_bytes: arguments.aggregate_bytes,
    };
    Ok(Options {
        pace,
        keys,
        limit: arguments.limit,
        duration: arguments.duration,
        hash_keys: arguments.hash_keys.into(),
        order_per_key: arguments.ordered,
        malformed_share: arguments.malformed,
        aggregation: arguments.aggregate.then_some(aggregation),
        linger: arguments.linger,
        in_flight: arguments.in_flight,
        attempts: arguments.attempts,
        attempt_timeout: arguments.target.timeout,
        seed: arguments.seed,
        ..Options::new(arguments.stream, source)
    })
}

impl From<TimeUnitArgument> for TimeUnit {
    fn from(argument: TimeUnitArgument) -> TimeUnit {
        match argument {
            TimeUnitArgument::S => TimeUnit::Seconds,
            TimeUnitArgument::Ms => TimeUnit::Milliseconds,
            TimeUnitArgument::Rfc3339 => TimeUnit::Rfc3339,
        }
    }
}

impl From<HashKeysArgument> for HashKeys {
    fn from(argument: HashKeysArgument) -> HashKeys {
        match argument {
            HashKeysArgument::None => HashKeys::FromPartitionKey,
            HashKeysArgument::PerKey => HashKeys::PerKey,
            HashKeysArgument::Random => HashKeys::Random,
        }
    }
}

async fn stop_on_interrupt(stop: CancellationToken) {
    // Without a signal handler there is no other way to stop than the default one.
    if tokio::signal::ctrl_c().await.is_ok() {
        stop.cancel();
    }
}

/// Rewrites one line on a terminal; says nothing where nobody is looking.
async fn show_progress(handle: Handle) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let mut before = Stats::default();
    let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
    loop {
        ticks.tick().await;
        let now = handle.stats();
        eprint!("\r\x1b[2K{}", progress_line(&before, &now, PROGRESS_INTERVAL));
        before = now;
    }
}

fn progress_line(before: &Stats, now: &Stats, interval: Duration) -> String {
    let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / interval.as_secs_f64();
    let megabytes = rate(before.bytes_sent, now.bytes_sent) / 1e6;
    format!(
        "{} sent, {:.0}/s, {megabytes:.1} MB/s, {} in flight, {} throttled, {} failed, {} ms late",
        now.messages_sent,
        rate(before.messages_sent, now.messages_sent),
        now.in_flight,
        now.records_throttled,
        now.messages_failed,
        now.late_ms,
    )
}

fn report(exit: &Exit, output: Output) {
    let summary = exit.summary();
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[2K");
    }
    match output {
        Output::Text => print!("{}", text(exit, summary)),
        Output::Json => println!("{}", json(exit, summary)),
    }
}

fn outcome(exit: &Exit) -> &'static str {
    match exit {
        Exit::Done(_) => "done",
        Exit::Stopped(_) => "stopped",
        Exit::Failed(..) => "failed",
    }
}

fn text(exit: &Exit, summary: &Summary) -> String {
    let mut text = format!(
        "{} after {:.1} s: {:.0} messages/s, {:.2} MB/s\n",
        outcome(exit),
        summary.elapsed.as_secs_f64(),
        summary.messages_per_second(),
        summary.stats.bytes_sent as f64 / 1e6 / summary.elapsed.as_secs_f64().max(1e-9),
    );
    for (name, value) in summary.stats.fields() {
        let is_figure_of_the_moment = matches!(name, "in_flight" | "late_ms");
        if value > 0 && !is_figure_of_the_moment {
            text.push_str(&format!("  {:<22}{value:>14}\n", name.replace('_', " ")));
        }
    }
    if let Some(failure) = &summary.last_failure {
        text.push_str(&format!("  last failure: {failure}\n"));
    }
    text
}

fn json(exit: &Exit, summary: &Summary) -> serde_json::Value {
    let mut object: serde_json::Map<_, _> = summary
        .stats
        .fields()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    object.insert("outcome".to_owned(), outcome(exit).into());
    object.insert("elapsed_s".to_owned(), summary.elapsed.as_secs_f64().into());
    object.insert("messages_per_second".to_owned(), summary.messages_per_second().into());
    object.insert("last_failure".to_owned(), summary.last_failure.clone().into());
    if let Exit::Failed(_, error) = exit {
        object.insert("error".to_owned(), error.to_string().into());
    }
    serde_json::Value::Object(object)
}
