//! The command line: what can be said, and which part of the library does it.

mod client;
mod compare;
mod peer;
mod produce;
mod source;
mod units;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// Loads Kinesis streams, and those who read them.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put messages into a stream: replayed from NDJSON files, or generated.
    Produce(Box<produce::ProduceArguments>),
    /// Serve a synthetic stream at the highest rate that the machine gives, to load a consumer with.
    Source(Box<source::SourceArguments>),
    /// Read a synthetic stream as another consumer would, to compare with.
    Peer(peer::PeerArguments),
    /// Measure Sluicegate beside other consumers of the same synthetic stream.
    Compare(compare::CompareArguments),
}

/// How results are written to standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For scripts: one JSON object.
    Json,
}

/// The command line asks for something that cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(String);

/// Does what the command line says.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Produce(arguments) => produce::run(*arguments).await,
        Command::Source(arguments) => source::run(*arguments).await,
        Command::Peer(arguments) => peer::run(arguments).await,
        Command::Compare(arguments) => Box::pin(compare::run(arguments)).await,
    }
}

/// Waits until the process is asked to end: SIGINT or SIGTERM.
async fn until_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    // Without a handler there is no other way to stop than the default one.
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        biased;
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
