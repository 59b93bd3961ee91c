//! `sluicegate deliveries`: what was given up, why, and sending it again; what destinations are still owed.
//!
//! `args` is the command line, `select` which letters are meant, `list` how they are shown, `plan` what sending one
//! again means, `redriver` does it for `redrive`; `show` says what became of one message. It works through the tables alone, whether processors run or not.

pub(crate) mod args;
pub(crate) mod list;
mod plan;
mod redrive;
pub(crate) mod redriver;
mod select;
mod show;

use std::process::ExitCode;
use std::time::UNIX_EPOCH;

use anyhow::Context;
use aws_smithy_async::time::SharedTimeSource;
use processor::{hash_key_of, wanted_by};
use serde_json::json;
use store::{
    DeliveryCase, DeliveryKey, DeliveryStore, DynamoMessages, Locator, MessageStore, OpenRange,
    Signer, SubscriptionId, SubscriptionStore,
};
use tokio_util::sync::CancellationToken;

use crate::cli::Output;
use crate::clients::Clients;
use crate::commands::{configuration, print, print_json};
use crate::config::Config;
use args::{DeliveriesArgs, DeliveriesCommand, ListArgs, ShowArgs};
use select::{Pages, Selection};

/// Exit code when some letters stay where they are.
const REFUSED: u8 = 3;

/// Runs one of the commands, until it ends or the operator interrupts it.
pub(crate) async fn run(args: DeliveriesArgs, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let command = async {
        match args.command {
            DeliveriesCommand::List(args) => list(args).await,
            DeliveriesCommand::Show(args) => show_one(args).await,
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
    let subscriptions = SubscriptionStore::new(clients.dynamodb.clone(), &config.app.name);
    let ranges = open_ranges(&store, &subscriptions).await?;
    match args.common.output {
        Output::Text => {
            print(&list::text(&letters, more));
            print(&list::ranges_text(&ranges, now_ms));
        }
        Output::Json => {
            let letters: Vec<_> = letters.iter().map(list::object).collect();
            let ranges: Vec<_> =
                ranges.iter().map(|range| list::range_object(range, now_ms)).collect();
            print_json(&json!({ "dead_letters": letters, "more": more, "open_ranges": ranges }))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn show_one(args: ShowArgs) -> anyhow::Result<ExitCode> {
    let Some(config) = configuration(&args.common.config, None)? else {
        return Ok(ExitCode::SUCCESS);
    };
    let locator = match args.message.rsplit_once("/messages/") {
        None => None,
        Some((_, locator)) => Some(locator_of(&config, locator)?),
    };
    let clients = Clients::make(&config.aws).await?;
    let (dynamodb, app, now_ms) =
        (clients.dynamodb.clone(), &config.app.name, wall_ms(&clients.time));
    let message = match &locator {
        None => None,
        Some(locator) => {
            let found =
                DynamoMessages::new(dynamodb.clone(), app).get(locator, now_ms, true).await?;
            Some(found.context("the message is not in the store any more; by its id (msg_...) is found what failed of it")?)
        }
    };
    let id = match &message {
        Some(message) => message.id.clone(),
        None => args::message(&args.message).map_err(|why| {
            anyhow::anyhow!("{why}; allowed is a link with /messages/ in it, or an id like msg_...")
        })?,
    };
    let deliveries = DeliveryStore::new(dynamodb.clone(), app);
    let snapshot = SubscriptionStore::new(dynamodb, app).snapshot().await?;
    let wanted = message.as_ref().map(|m| wanted_by(m, &config.integrations, &snapshot));
    let settled_by_ms = match &message {
        None => None,
        Some(message) => deliveries.settled_by(&message.position, message.arrived_at_ms).await?,
    };
    let placed = message.as_ref().map(|message| (message, hash_key_of(&message.partition_key)));
    let mut cases = Vec::new();
    let meant = |id: &SubscriptionId| args.subscription.as_ref().is_none_or(|only| only == id);
    for subscription in snapshot.subscriptions.iter().map(|s| &s.id).filter(|id| meant(id)) {
        let key = DeliveryKey { subscription: subscription.clone(), message: id.clone() };
        cases.push(DeliveryCase {
            subscription: subscription.clone(),
            wanted: wanted.as_ref().map(|wanted| wanted.contains(subscription)),
            trace: deliveries.trace(&key, placed, now_ms).await?,
            settled_by_ms,
            now_ms,
        });
    }
    match args.common.output {
        Output::Text => print(&show::text(message.as_ref(), &cases)),
        Output::Json => print_json(&show::object(id.as_str(), message.as_ref(), &cases))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn locator_of(config: &Config, text: &str) -> anyhow::Result<Locator> {
    let key = config.secrets.link_signing_key.as_ref();
    let key =
        key.context("secrets.link_signing_key is not set: a link cannot be read without it")?;
    let signer = Signer::new(key.expose()).context("secrets.link_signing_key is too short")?;
    Locator::decode(&signer, text).context(
        "this is no link of this installation: take the self of a message, unchanged, or check secrets.link_signing_key",
    )
}

/// What is open for the subscriptions that there are, the longest open first.
async fn open_ranges(
    store: &DeliveryStore,
    subscriptions: &SubscriptionStore,
) -> anyhow::Result<Vec<OpenRange>> {
    let mut ranges = Vec::new();
    for subscription in subscriptions.load_all().await? {
        ranges.extend(store.list_ranges(&subscription.id).await?);
    }
    ranges.sort_by_key(|range| range.opened_at_ms);
    Ok(ranges)
}

/// The wall clock, in ms since 1970.
pub(crate) fn wall_ms(time: &SharedTimeSource) -> i64 {
    let since = time.now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
