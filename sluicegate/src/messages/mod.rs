//! `sluicegate messages`: reads and follows messages over the API, as any client of it does.
//!
//! It knows no table and no configuration: an address, a key, and what the API answers. `args` is the command line, `address`
//! where a question goes, `client` asks it, `events` reads a stream, `show` says how messages are printed.

mod address;
pub(crate) mod args;
mod client;
mod events;
mod show;
mod tail;

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::commands::print;
use crate::screen::say;
use address::Base;
use args::{CommonArgs, GetArgs, MessagesArgs, MessagesCommand, TailArgs};
use client::{Api, Failure};

/// Exit code for what the API refuses.
const REFUSED: u8 = 3;
/// Messages of one page at most.
const PAGE: u32 = 500;

/// Runs one of the commands, until it ends or is interrupted.
pub(crate) async fn run(args: MessagesArgs, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let command = async {
        match args.command {
            MessagesCommand::Get(args) => get(&args).await,
            MessagesCommand::Tail(args) => follow(&args).await,
        }
    };
    let ended = tokio::select! { biased;
        ended = Box::pin(command) => ended?,
        // Whoever follows ends it like this.
        () = stop.cancelled() => return Ok(ExitCode::SUCCESS),
    };
    match ended {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(Failure::Refused(why)) => {
            say(&format!("refused: {why}\n"));
            Ok(ExitCode::from(REFUSED))
        }
        Err(failure) => anyhow::bail!("{}", failure.words()),
    }
}

async fn follow(args: &TailArgs) -> anyhow::Result<Result<(), Failure>> {
    let base = needed(&args.common)?;
    tail::run(&Api::new(&args.common)?, &base, args, now_ms()).await
}

async fn get(args: &GetArgs) -> anyhow::Result<Result<(), Failure>> {
    let output = args.common.output;
    if let Some(link) = &args.link {
        let url = address::of_link(link, given(&args.common)?.as_ref())?;
        let body = match Api::new(&args.common)?.get(&url).await {
            Ok(body) => body,
            Err(failure) => return Ok(Err(failure)),
        };
        let json = std::str::from_utf8(&body).context("an answer that is not UTF-8")?;
        print(&show::message(json, output)?);
        return Ok(Ok(()));
    }
    let (Some(integration), Some(entity)) = (&args.integration, &args.entity) else {
        anyhow::bail!("a LINK, or --integration and --entity are needed");
    };
    let (base, api) = (needed(&args.common)?, Api::new(&args.common)?);
    let (path, now_ms) = (address::page_path(integration, entity), now_ms());
    let moment = |moment: Option<crate::deliveries::args::Since>| {
        moment.map(|moment| moment.ms(now_ms).to_string())
    };
    let (mut left, mut cursor) = (args.limit, None);
    loop {
        // A cursor carries the question with it.
        let query = match &cursor {
            Some(_) => {
                address::query(&[("limit", Some(left.min(PAGE).to_string())), ("cursor", cursor)])
            }
            None => address::query(&[
                ("limit", Some(left.min(PAGE).to_string())),
                ("order", Some(args.order.as_str().to_owned())),
                ("from", moment(args.from)),
                ("to", moment(args.to)),
            ]),
        };
        let body = match api.get(&base.join(&format!("{path}{query}"))).await {
            Ok(body) => body,
            Err(failure) => return Ok(Err(failure)),
        };
        let page: show::Page<'_> =
            serde_json::from_slice(&body).context("an answer that is no page of the API")?;
        for message in &page.messages {
            print(&show::message(message.get(), output)?);
        }
        left = left.saturating_sub(u32::try_from(page.messages.len()).unwrap_or(u32::MAX));
        cursor = page.next;
        if left == 0 || cursor.is_none() {
            return Ok(Ok(()));
        }
    }
}

fn given(common: &CommonArgs) -> anyhow::Result<Option<Base>> {
    common.url.as_deref().map(Base::parse).transpose()
}

fn needed(common: &CommonArgs) -> anyhow::Result<Base> {
    given(common)?.context("where is the API? Say --url, or set SLUICEGATE_CLIENT_URL")
}

/// The wall clock, in ms since 1970.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
