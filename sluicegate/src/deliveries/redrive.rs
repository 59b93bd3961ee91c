//! `deliveries redrive`: each letter as `plan` has it, stored and parked first and removed then.
//!
//! A crash between the two leaves the letter there, and the next run does it again under the same ids. A letter
//! that was given up anew meanwhile is another one, and stays.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use futures::future::FutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::json;
use store::{
    Class, DeadLetter, DeliveryStore, DynamoMessages, MessageId, MessageStore, Parked,
    ParkedDelivery, PutOutcome, StoreItem, SubscriptionStore,
};

use super::args::RedriveArgs;
use super::plan::{Known, Plan, plan};
use super::select::{Pages, Selection};
use super::{REFUSED, wall_ms};
use crate::cli::Output;
use crate::clients::Clients;
use crate::commands::{configuration, print, print_json};
use crate::screen::Counted;

/// Letters under way at once.
const PARALLEL: usize = 8;
/// Tries of a write that the table refuses for now.
const TRIES: u32 = 6;

/// Where letters are sent to.
struct Stores {
    messages: DynamoMessages,
    deliveries: DeliveryStore,
}

/// What became of the letters.
#[derive(Debug, Default)]
struct Report {
    selected: usize,
    sent: usize,
    stored: usize,
    parked: usize,
    stay: Vec<(DeadLetter, String)>,
}

/// What became of one.
#[derive(Debug, Default)]
struct Done {
    stored: usize,
    parked: usize,
    stays: Option<String>,
}

pub(super) async fn run(args: RedriveArgs) -> anyhow::Result<ExitCode> {
    let Some(config) = configuration(&args.common.config, None)? else {
        return Ok(ExitCode::SUCCESS);
    };
    let clients = Clients::make(&config.aws).await?;
    let app = &config.app.name;
    let subscriptions = SubscriptionStore::new(clients.dynamodb.clone(), app).snapshot().await?;
    let stores = Stores {
        messages: DynamoMessages::new(clients.dynamodb.clone(), app),
        deliveries: DeliveryStore::new(clients.dynamodb.clone(), app),
    };
    let now_ms = wall_ms(&clients.time);
    let known = Known {
        integrations: &config.integrations,
        decode: &config.pipelines.decode,
        subscriptions: &subscriptions,
        now_ms,
    };
    let selection = Selection::new(&args.select, &config, now_ms);
    let mut pages = Pages::new(&stores.deliveries, selection, now_ms);
    let mut report = Report::default();
    let mut progress = Counted::new("sending dead letters again");
    let ended = async {
        while let Some(letters) = pages.next().await? {
            let done = letters.into_iter().map(|letter| {
                let plan = plan(&letter, &known);
                async { redrive(&stores, letter, plan, args.dry_run).await }.boxed()
            });
            let mut done = stream::iter(done.collect::<Vec<_>>()).buffered(PARALLEL);
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

/// Does what the plan says, and removes the letter if nothing of it stays.
async fn redrive(
    stores: &Stores,
    letter: DeadLetter,
    plan: Plan,
    dry_run: bool,
) -> anyhow::Result<(DeadLetter, Done)> {
    let Plan { store, park, resume, mut stays } = plan;
    let mut done = Done { stored: store.len(), parked: park.len(), stays: None };
    if !dry_run {
        if let Some(refusal) = put(&stores.messages, &store).await? {
            done.stored = 0;
            stays.get_or_insert(refusal);
        }
        done.parked = match resume && resume_chains(&stores.deliveries, &park).await? {
            true => park.len(),
            false => park_all(&stores.deliveries, &park).await?,
        };
        if stays.is_none() && !stores.deliveries.forget_dead_letter(&letter).await? {
            stays = Some("it was given up again meanwhile".to_owned());
        }
    }
    done.stays = stays;
    Ok((letter, done))
}

/// Stores messages; what the store says if it refuses one for good.
async fn put(messages: &DynamoMessages, items: &[StoreItem]) -> anyhow::Result<Option<String>> {
    let mut why = String::new();
    for round in 0..if items.is_empty() { 0 } else { TRIES } {
        if round > 0 {
            tokio::time::sleep(pause(round)).await;
        }
        let outcomes = messages.put(items).await.outcomes;
        let rejected = outcomes.iter().find_map(|outcome| match outcome {
            PutOutcome::Rejected(why) => Some(why.clone()),
            PutOutcome::Stored | PutOutcome::Retry(_) => None,
        });
        if let Some(rejected) = rejected {
            return Ok(Some(format!("the store refuses it: {rejected}")));
        }
        let again = outcomes.iter().find_map(|outcome| match outcome {
            PutOutcome::Retry(reason) => Some(reason.to_string()),
            PutOutcome::Stored | PutOutcome::Rejected(_) => None,
        });
        match again {
            Some(reason) => why = reason,
            None => return Ok(None),
        }
    }
    anyhow::ensure!(items.is_empty(), "a message cannot be stored: {why}");
    Ok(None)
}

/// Parks deliveries; how many were not parked already.
async fn park_all(store: &DeliveryStore, deliveries: &[ParkedDelivery]) -> anyhow::Result<usize> {
    let mut new = 0;
    for delivery in deliveries {
        for round in 1..=TRIES {
            let outcome = store.park(std::slice::from_ref(delivery)).await.pop();
            match outcome.context("the store did not say what became of a delivery")? {
                Ok(parked) => {
                    new += usize::from(parked == Parked::New);
                    break;
                }
                Err(error) if error.class() == Class::Retry && round < TRIES => {
                    tokio::time::sleep(pause(round)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(new)
}

/// Lets the chains that stopped at these deliveries go on; false if none did: then they are parked as any others.
async fn resume_chains(
    store: &DeliveryStore,
    deliveries: &[ParkedDelivery],
) -> anyhow::Result<bool> {
    let mut resumed = false;
    for ParkedDelivery { subscription, message, due_at_ms, .. } in deliveries {
        let stream_arn = &message.position.stream_arn;
        resumed |= store.resume_chain(subscription, stream_arn, &message.id, *due_at_ms).await?;
    }
    Ok(resumed)
}

fn pause(round: u32) -> Duration {
    Duration::from_millis(100u64 << round.min(6))
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
