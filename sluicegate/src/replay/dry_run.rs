//! `replay --dry-run`: counts, by reading, what a replay would make due.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use processor::{DryRun, count_replay};
use serde_json::json;
use store::{DeliveryStore, ReplayCounts, ReplayOf, Subscription, SubscriptionStore};

use super::Desk;
use super::args::StartArgs;
use crate::cli::Output;
use crate::commands::{print, print_json};
use crate::screen::{Counted, bar};
use crate::{random, streams};

/// Parked deliveries counted at most.
const MAX_PARKED: usize = 100_000;
/// Dead letters of one reading.
const PAGE: usize = 100;

pub(super) async fn run(
    desk: &Desk,
    args: &StartArgs,
    subscription: &Subscription,
    what: ReplayOf,
) -> anyhow::Result<ExitCode> {
    let deliveries = DeliveryStore::new(desk.clients.dynamodb.clone(), &desk.config.app.name);
    let counts = match what {
        ReplayOf::Range { from_ms, to_ms, only } => {
            anyhow::ensure!(from_ms < to_ms, "the range must end after it begins");
            range(desk, subscription, from_ms, to_ms, only).await?
        }
        ReplayOf::Parked => {
            let parked = deliveries.parked_count(&subscription.id, MAX_PARKED).await?.count as u64;
            ReplayCounts { read: parked, matched: parked, parked: 0 }
        }
        ReplayOf::DeadLettered { .. } => dead_letters(desk, &deliveries, subscription).await?,
    };
    match args.common.output {
        Output::Text => print(&format!(
            "{} of {} would be delivered to {}\ndry run: nothing was written\n",
            counts.matched, counts.read, subscription.id
        )),
        Output::Json => print_json(&json!({
            "dry_run": true,
            "subscription": subscription.id,
            "read": counts.read,
            "matched": counts.matched,
        }))?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn range(
    desk: &Desk,
    subscription: &Subscription,
    from_ms: i64,
    to_ms: i64,
    only: Vec<store::MessageId>,
) -> anyhow::Result<ReplayCounts> {
    let (config, clients) = (&desk.config, &desk.clients);
    let mut arns = Vec::new();
    for stream in &config.streams {
        arns.push(streams::find(&clients.kinesis, stream.stream.name()).await?.arn);
    }
    let subscriptions = SubscriptionStore::new(clients.dynamodb.clone(), &config.app.name);
    let run = DryRun {
        subscription: subscription.id.clone(),
        from_ms,
        to_ms,
        only,
        streams: arns,
        kinesis: clients.kinesis_reading.clone(),
        polling: config.pipelines.polling.clone(),
        integrations: Arc::clone(&config.integrations),
        decode: config.pipelines.decode.clone(),
        subscriptions: Arc::new(subscriptions.snapshot().await?),
        time: clients.time.clone(),
        seed: random::seed(),
    };
    let mut line = Counted::new("counting");
    let counted = count_replay(run, |counts, done, shards| {
        let bar = bar(done as f64 / shards.max(1) as f64);
        line.tick(&format!("[{bar}] {done} of {shards} shards, {} read", counts.read));
    })
    .await;
    line.end();
    counted.map_err(anyhow::Error::msg).context("the range cannot be counted")
}

async fn dead_letters(
    desk: &Desk,
    deliveries: &DeliveryStore,
    subscription: &Subscription,
) -> anyhow::Result<ReplayCounts> {
    let mut counts = ReplayCounts::default();
    for integration in desk.config.integrations.iter() {
        let mut after: Option<String> = None;
        loop {
            let page = deliveries
                .list_dead_letters(integration.name(), after.as_deref(), PAGE, desk.now_ms())
                .await?;
            let ours =
                page.letters.iter().filter(|l| l.subscription.as_ref() == Some(&subscription.id));
            counts.read += ours.count() as u64;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    counts.matched = counts.read;
    Ok(counts)
}
