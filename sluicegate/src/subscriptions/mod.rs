//! `sluicegate subscriptions`: who gets what pushed where, and new signing keys.
//!
//! `args` is the command line, `create` makes, switches and deletes them, `configure` says how a webhook is set up, `view` how subscriptions are shown. It works through the access table alone; processors
//! see a change within a second. A secret is shown once, where it is made, and never again.

pub(crate) mod args;
mod configure;
mod create;
mod view;

use std::process::ExitCode;

use serde_json::json;
use store::{SigningSecret, Subscription, SubscriptionError, SubscriptionStore};

use crate::cli::{ConfigArgs, Output};
use crate::clients::Clients;
use crate::commands::{configuration, print, print_json};
use crate::config::Config;
use crate::init::wall_ms;
use crate::{random, screen};
use args::{Kind, ListArgs, RotateArgs, ShowArgs, SubscriptionsArgs, SubscriptionsCommand};
use create::Change;

/// Exit code for what cannot be done: nothing was written.
const REFUSED: u8 = 3;

/// Runs one of the commands.
pub(crate) async fn run(args: SubscriptionsArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        SubscriptionsCommand::List(args) => list(args).await,
        SubscriptionsCommand::Show(args) => show(args).await,
        SubscriptionsCommand::Create(args) => Box::pin(create::run(*args)).await,
        SubscriptionsCommand::Enable(args) => create::change(args, Change::Enable).await,
        SubscriptionsCommand::Disable(args) => create::change(args, Change::Disable).await,
        SubscriptionsCommand::Delete(args) => create::change(args, Change::Delete).await,
        SubscriptionsCommand::RotateSecret(args) => rotate_secret(args).await,
        SubscriptionsCommand::Configure(args) => Box::pin(configure::run(args)).await,
    }
}

/// The store, the clock and what is configured; `None` when the configuration was only to be printed.
async fn open(args: &ConfigArgs) -> anyhow::Result<Option<(SubscriptionStore, Clients, Config)>> {
    let Some(config) = configuration(args, None)? else { return Ok(None) };
    let clients = Clients::make(&config.aws).await?;
    let store = SubscriptionStore::new(clients.dynamodb.clone(), &config.app.name);
    Ok(Some((store, clients, config)))
}

/// Says why nothing was done.
fn refused(output: Output, why: &str) -> anyhow::Result<ExitCode> {
    if output == Output::Json {
        print_json(&json!({ "refused": why }))?;
    }
    screen::say(&format!("refused: {why}\n"));
    Ok(ExitCode::from(REFUSED))
}

async fn list(args: ListArgs) -> anyhow::Result<ExitCode> {
    let Some((store, clients, _)) = open(&args.common.config).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let subscriptions = store.load_all().await?;
    match args.common.output {
        Output::Text => print(&view::table(&subscriptions)),
        Output::Json => {
            let now_ms = wall_ms(&clients.time);
            let objects: Vec<_> = subscriptions.iter().map(|s| view::object(s, now_ms)).collect();
            print_json(&json!({ "subscriptions": objects }))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(args: ShowArgs) -> anyhow::Result<ExitCode> {
    let Some((store, clients, _)) = open(&args.common.config).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let Some(subscription) = store.get(&args.id).await? else {
        return refused(args.common.output, &format!("there is no subscription {}", args.id));
    };
    let object = view::object(&subscription, wall_ms(&clients.time));
    match args.common.output {
        Output::Text => print(&view::words(&object)),
        Output::Json => print_json(&object)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn rotate_secret(args: RotateArgs) -> anyhow::Result<ExitCode> {
    let Some((store, clients, _)) = open(&args.common.config).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let output = args.common.output;
    let Some(mut subscription) = store.get(&args.id).await? else {
        return refused(output, &format!("there is no subscription {}", args.id));
    };
    let secret = match args.kind {
        Kind::Hmac => SigningSecret::generate(&mut random::fill),
        Kind::Ed25519 => SigningSecret::generate_ed25519(&mut random::fill)?,
    };
    let now_ms = wall_ms(&clients.time);
    match rotate(&mut subscription, &secret, now_ms, args.overlap) {
        Ok(()) => {}
        Err(why) => return refused(output, &why.to_string()),
    }
    // A write on the version that was read: what somebody else changed meanwhile is not undone.
    let by = store::Change { by: &args.common.by, at_ms: now_ms };
    let subscription = store.put_as(&subscription, "subscription.rotate", &by).await?;
    let made = view::made(&subscription, &secret, now_ms);
    match output {
        Output::Text => print(&view::words(&made)),
        Output::Json => print_json(&made)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Why a key cannot be replaced.
#[derive(Debug, thiserror::Error)]
enum RotateError {
    #[error("{0} is signed by no key of ours: only a webhook is")]
    Unsigned(&'static str),
    #[error(transparent)]
    Keys(#[from] SubscriptionError),
}

fn rotate(
    subscription: &mut Subscription,
    secret: &SigningSecret,
    now_ms: i64,
    overlap: std::time::Duration,
) -> Result<(), RotateError> {
    let kind = subscription.destination.kind();
    let webhook = subscription.destination.webhook_mut().ok_or(RotateError::Unsigned(kind))?;
    Ok(webhook.rotate(secret.clone(), now_ms, overlap)?)
}
