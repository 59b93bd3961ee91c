//! `deliveries redrive`: page by page of what is selected, what became of it, and what is said of it.

use std::process::ExitCode;

use anyhow::Context;
use futures::stream::TryStreamExt;
use serde_json::json;
use store::{DeadLetter, MessageId};

use super::args::RedriveArgs;
use super::redriver::{Done, Redriver};
use super::select::{Pages, Selection};
use super::{REFUSED, wall_ms};
use crate::cli::Output;
use crate::clients::Clients;
use crate::commands::{configuration, print, print_json};
use crate::screen::Counted;

/// What became of the letters.
#[derive(Debug, Default)]
struct Report {
    selected: usize,
    sent: usize,
    stored: usize,
    parked: usize,
    stay: Vec<(DeadLetter, String)>,
}

pub(super) async fn run(args: RedriveArgs) -> anyhow::Result<ExitCode> {
    let Some(config) = configuration(&args.common.config, None)? else {
        return Ok(ExitCode::SUCCESS);
    };
    let clients = Clients::make(&config.aws).await?;
    let now_ms = wall_ms(&clients.time);
    let redriver = Redriver::new(&config, &clients);
    let subscriptions = redriver.subscriptions().await?;
    let selection = Selection::new(&args.select, &config, now_ms);
    let mut pages = Pages::new(redriver.letters(), selection, now_ms);
    let mut report = Report::default();
    let mut progress = Counted::new("sending dead letters again");
    let ended = async {
        while let Some(letters) = pages.next().await? {
            let mut done = redriver.send(letters, &subscriptions, now_ms, args.dry_run);
            while let Some((letter, done)) = done.try_next().await? {
                report.add(letter, done);
                progress.tick(&report.so_far());
            }
        }
        anyhow::Ok(())
    }
    .await;
    progress.end();
    said(&args, &report)?;
    ended.context("not all could be sent; what was sent is not sent twice: run it again")?;
    Ok(if report.stay.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

impl Report {
    fn add(&mut self, letter: DeadLetter, done: Done) {
        self.selected += 1;
        self.stored += done.stored;
        self.parked += done.parked;
        match done.stays {
            Some(why) => self.stay.push((letter, why)),
            None => self.sent += 1,
        }
    }

    fn so_far(&self) -> String {
        format!("{} sent, {} stay", self.sent, self.stay.len())
    }
}

fn said(args: &RedriveArgs, report: &Report) -> anyhow::Result<()> {
    if args.common.output == Output::Json {
        let stay = report.stay.iter().map(|(letter, why)| {
            json!({
                "message": MessageId::derive(&letter.position).as_str(),
                "integration": letter.integration.as_str(),
                "reason": letter.reason.code(),
                "why": why,
            })
        });
        return print_json(&json!({
            "dry_run": args.dry_run,
            "selected": report.selected,
            "sent": report.sent,
            "stored": report.stored,
            "parked": report.parked,
            "stay": stay.collect::<Vec<_>>(),
        }));
    }
    let mut text = String::new();
    for (letter, why) in &report.stay {
        let id = MessageId::derive(&letter.position);
        text.push_str(&format!("stays: {id} of {}: {why}\n", letter.integration));
    }
    let (sent, stored, parked) = (report.sent, report.stored, report.parked);
    text.push_str(&format!(
        "{} of {} sent again: {stored} to the store, {parked} deliveries due now\n",
        sent, report.selected
    ));
    if args.dry_run {
        text.push_str("dry run: nothing was written\n");
    }
    print(&text);
    Ok(())
}
