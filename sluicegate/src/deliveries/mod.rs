//! `sluicegate deliveries`: what was given up, why, and sending it again.
//!
//! `args` is the command line, `select` which letters are meant, `list` how they are shown, `plan` what sending one
//! again means, `redrive` does it. It works through the tables alone, whether processors run or not.

pub(crate) mod args;
pub(crate) mod list;
mod plan;
mod redrive;
mod select;

use std::process::ExitCode;
use std::time::UNIX_EPOCH;

use aws_smithy_async::time::SharedTimeSource;
use serde_json::json;
use store::DeliveryStore;
use tokio_util::sync::CancellationToken;

use crate::cli::Output;
use crate::clients::Clients;
use crate::commands::{configuration, print, print_json};
use args::{DeliveriesArgs, DeliveriesCommand, ListArgs};
use select::{Pages, Selection};

/// Exit code when some letters stay where they are.
const REFUSED: u8 = 3;

/// Runs one of the commands, until it ends or the operator interrupts it.
pub(crate) async fn run(args: DeliveriesArgs, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let command = async {
        match args.command {
            DeliveriesCommand::List(args) => list(args).await,
            DeliveriesCommand::Redrive(args) => redrive::run(args).await,
        }
    };
    tokio::select! {
        biased;
        ended = Box::pin(command) => ended,
        () = stop.cancelled() => anyhow::bail!("interrupted; what was sent again is not sent twice: run it again"),
    }
}

async fn list(args: ListArgs) -> anyhow::Result<ExitCode> {
    let Some(config) = configuration(&args.common.config, None)? else {
        return Ok(ExitCode::SUCCESS);
    };
    let clients = Clients::make(&config.aws).await?;
    let store = DeliveryStore::new(clients.dynamodb.clone(), &config.app.name);
    let now_ms = wall_ms(&clients.time);
    let selection = Selection::new(&args.select, &config, now_ms);
    let mut pages = Pages::new(&store, selection, now_ms);
    let limit = args.limit as usize;
    let mut letters = Vec::new();
    while letters.len() <= limit {
        match pages.next().await? {
            Some(page) => letters.extend(page),
            None => break,
        }
    }
    let more = letters.len() > limit;
    letters.truncate(limit);
    match args.common.output {
        Output::Text => print(&list::text(&letters, more)),
        Output::Json => {
            let letters: Vec<_> = letters.iter().map(list::object).collect();
            print_json(&json!({ "dead_letters": letters, "more": more }))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The wall clock, in ms since 1970.
pub(crate) fn wall_ms(time: &SharedTimeSource) -> i64 {
    let since = time.now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
