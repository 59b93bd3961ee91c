//! `loadtest source`: its arguments, its progress line and its summary.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use aws_smithy_async::time::{SharedTimeSource, SystemTimeSource};
use loadtest::source::{Handle, Options, Sent, Source, SourceError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Output, Usage, units, until_signal};

const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is looked whether everything was sent.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Serve a synthetic stream at the highest rate that the machine gives.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  loadtest source --shards 256 --record-bytes 1kB
  loadtest source --shards 16 --rate 2MB --tls ca.pem
  loadtest source --shards 1 --records 1000000 --until-sent --output json

Any Kinesis consumer reads it: the stream is called `load`, every consumer name is registered, any credentials do.
GET /loadtest/status tells what was sent, POST /loadtest/go lets the records of --hold come.")]
pub(crate) struct SourceArguments {
    /// Where to listen; port 0 takes a free one. The address is printed.
    #[arg(long, default_value = "127.0.0.1:4567")]
    listen: SocketAddr,
    /// Serve HTTPS with HTTP/2, by a certificate that is made now: write what clients have to trust to this file.
    #[arg(long, value_name = "CA.PEM")]
    tls: Option<PathBuf>,
    /// The stream's name.
    #[arg(long, default_value = "load")]
    stream: String,
    /// Shards of the stream.
    #[arg(long, default_value_t = 1)]
    shards: u32,
    /// Bytes of each record: one JSON message.
    #[arg(long, value_name = "SIZE", value_parser = units::bytes, default_value = "1kB")]
    record_bytes: usize,
    /// Bytes of record data in a full event.
    #[arg(long, value_name = "SIZE", value_parser = units::bytes, default_value = "400kB")]
    event_bytes: usize,
    /// Bytes a second that are written to each shard (2MB = what the service reads); without it, as fast as they are taken.
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    rate: Option<usize>,
    /// Records of each shard; without it they never end.
    #[arg(long, value_name = "N")]
    records: Option<u64>,
    /// Write no more records after so long.
    #[arg(long = "for", value_name = "DURATION", value_parser = units::duration)]
    duration: Option<Duration>,
    /// With --rate: how long records wait for others until an event is sent that is not full.
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "200ms")]
    linger: Duration,
    /// How long a subscription lives.
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "5m")]
    subscription_lifetime: Duration,
    /// Hold all records back until POST /loadtest/go.
    #[arg(long)]
    hold: bool,
    /// End by itself once every record was sent (with --records or --for).
    #[arg(long)]
    until_sent: bool,
    /// How the address and the summary are written.
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

/// Runs until a signal comes or, if that is wanted, everything was sent.
pub(crate) async fn run(arguments: SourceArguments) -> anyhow::Result<ExitCode> {
    if arguments.until_sent && arguments.records.is_none() && arguments.duration.is_none() {
        return Err(anyhow!(Usage(
            "--until-sent needs --records or --for: else it never ends".to_owned()
        )));
    }
    let (output, until_sent, ca) = (arguments.output, arguments.until_sent, arguments.tls.clone());
    let time = SharedTimeSource::new(SystemTimeSource::new());
    let source = Source::bind(options(arguments), time).await.map_err(|error| match error {
        SourceError::Options(error) => anyhow!(Usage(error.to_string())),
        error => anyhow!(error),
    })?;
    if let (Some(path), Some(pem)) = (&ca, source.ca_pem()) {
        std::fs::write(path, pem).with_context(|| format!("--tls {}", path.display()))?;
    }
    announce(&source.endpoint_url(), output);
    let handle = source.handle();
    let stop = CancellationToken::new();
    let ending = tokio::spawn(end(handle.clone(), until_sent, stop.clone()));
    let progress = tokio::spawn(show_progress(handle.clone()));
    let started = Instant::now();
    source.run(stop).await;
    ending.abort();
    progress.abort();
    report(&handle.sent(), started.elapsed(), output);
    Ok(ExitCode::SUCCESS)
}

fn options(arguments: SourceArguments) -> Options {
    Options {
        listen: arguments.listen,
        tls: arguments.tls.is_some(),
        stream: arguments.stream,
        shards: arguments.shards,
        record_bytes: arguments.record_bytes,
        event_bytes: arguments.event_bytes,
        bytes_per_second: arguments.rate.map(|rate| rate as u64),
        records_per_shard: arguments.records,
        duration: arguments.duration,
        linger: arguments.linger,
        subscription_lifetime: arguments.subscription_lifetime,
        hold: arguments.hold,
        ..Options::default()
    }
}

/// One line, for scripts to wait for.
fn announce(endpoint: &str, output: Output) {
    match output {
        Output::Text => println!("stream on {endpoint} (region us-east-1, any credentials)"),
        Output::Json => println!("{}", serde_json::json!({ "endpoint_url": endpoint })),
    }
}

/// Cancels `stop` on a signal, or once everything was sent.
async fn end(handle: Handle, until_sent: bool, stop: CancellationToken) {
    let sent = async {
        // A subscription that is still open may hold the last bytes back: they go when it ends.
        while !until_sent || !handle.sent().complete || handle.sent().subscriptions > 0 {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    tokio::select! {
        biased;
        () = until_signal() => {}
        () = sent => {}
    }
    stop.cancel();
}

/// Rewrites one line on a terminal; says nothing where nobody is looking.
async fn show_progress(handle: Handle) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let mut before = handle.sent();
    let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
    loop {
        ticks.tick().await;
        let now = handle.sent();
        eprint!(
            "\r\x1b[2K{} subscriptions, {} records, {:.1} MB/s",
            now.subscriptions,
            now.records,
            (now.bytes - before.bytes) as f64 / 1e6 / PROGRESS_INTERVAL.as_secs_f64(),
        );
        before = now;
    }
}

fn report(sent: &Sent, elapsed: Duration, output: Output) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[2K");
    }
    match output {
        Output::Text => println!(
            "{} records, {:.1} MB of data in {:.1} s; {} pushed and {} polled, each as often as it was sent",
            sent.records,
            sent.bytes as f64 / 1e6,
            elapsed.as_secs_f64(),
            sent.records_pushed,
            sent.records_polled,
        ),
        Output::Json => {
            let mut value = serde_json::to_value(sent).unwrap_or_default();
            value["elapsed_s"] = elapsed.as_secs_f64().into();
            println!("{value}");
        }
    }
}
