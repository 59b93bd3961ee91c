//! The command line: what can be said, and which part of the library does it.

mod client;
mod produce;
mod units;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// Loads a Kinesis stream.
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
    }
}
