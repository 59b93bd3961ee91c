//! Sluicegate's one binary: every service, `init`, the embedded AWS and the demo.
//!
//! The only room that knows all rooms, and the only one that reads the environment, makes clients,
//! seeds and clocks, and hears signals. It holds no logic of its own beyond putting parts together:
//! start reading at `cli`, then `services`.

#![cfg_attr(test, allow(clippy::unwrap_used))]
// The one room that takes the environment.
#![allow(clippy::disallowed_methods)]

mod access;
mod cli;
mod clients;
mod commands;
mod config;
mod deliveries;
mod demo;
mod destinations;
mod documents;
mod filter;
mod init;
mod lambda;
mod leases;
mod load;
mod messages;
mod operators;
mod preflight;
mod publish;
mod random;
mod replay;
mod rules;
mod screen;
mod services;
mod signals;
mod streams;
mod subscriptions;
mod telemetry;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, ConfigArgs};

/// Exit code for a command line or configuration that is refused; clap uses the same.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The process's one TLS provider: every room that speaks TLS uses it.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return fail(&anyhow::anyhow!("a TLS provider is installed already"));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => fail(&anyhow::Error::new(error).context("the runtime cannot be started")),
    }
}

async fn run(cli: Cli) -> ExitCode {
    let stop = match signals::stop_on_signal() {
        Ok(stop) => stop,
        Err(error) => return fail(&anyhow::Error::new(error).context("signals cannot be heard")),
    };
    let is_bare = std::env::args_os().len() == 1;
    let ended = match cli.command {
        None if is_bare && lambda::is_here() => {
            Box::pin(lambda::run(ConfigArgs::default(), stop)).await
        }
        Some(Command::Api(args)) if lambda::is_here() => Box::pin(lambda::run(args, stop)).await,
        None => Box::pin(demo::run(cli.demo, stop)).await,
        Some(Command::Demo(args)) => Box::pin(demo::run(args, stop)).await,
        Some(Command::Processor(args)) => Box::pin(commands::processor(args, stop)).await,
        Some(Command::Api(args)) => Box::pin(commands::api(args, stop)).await,
        Some(Command::Local(args)) => commands::local(args, stop).await,
        Some(Command::Init(args)) => Box::pin(commands::init(args)).await,
        Some(Command::Leases(args)) => Box::pin(leases::run(args, stop)).await,
        Some(Command::Filter(args)) => filter::run(&args),
        Some(Command::OpenApi(args)) => {
            let document = if args.operators { api::operators::openapi } else { api::openapi };
            commands::print(&document());
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Operators(args)) => operators::run(args),
        Some(Command::Deliveries(args)) => Box::pin(deliveries::run(args, stop)).await,
        Some(Command::Subscriptions(args)) => Box::pin(subscriptions::run(args)).await,
        Some(Command::Clients(args)) => Box::pin(access::run(args)).await,
        Some(Command::Messages(args)) => Box::pin(messages::run(args, stop)).await,
        Some(Command::Replay(args)) => Box::pin(replay::run(*args, stop)).await,
    };
    ended.unwrap_or_else(|error| fail(&error))
}

/// Says what went wrong on standard error, with all its causes.
fn fail(error: &anyhow::Error) -> ExitCode {
    let refused = error.is::<config::ConfigError>();
    let text = if refused { format!("{error}") } else { format!("error: {error:#}") };
    let _ = writeln!(std::io::stderr(), "{}", text.trim_end());
    if refused { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
}
