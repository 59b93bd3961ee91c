//! `sluicegate replay`: asks for a replay and shows how far it is; lists, shows and cancels them.
//!
//! `args` is the command line, `show` how replays are shown. The processors do the work; only the dry run reads by
//! itself, here.

pub(crate) mod args;
mod dry_run;
mod show;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use store::{
    DeliveryStore, Replay, ReplayId, ReplayOf, ReplayState, ReplayStore, Subscription,
    SubscriptionStore,
};
use tokio_util::sync::CancellationToken;

use crate::cli::Output;
use crate::clients::Clients;
use crate::commands::{configuration, print, print_json};
use crate::config::Config;
use crate::deliveries::args::CommonArgs;
use crate::deliveries::wall_ms;
use crate::random;
use crate::screen::{Counted, say};
use args::{OneArgs, ReplayArgs, ReplayCommand, StartArgs, Status, Until};

/// Exit code of a replay that was cancelled, or did not find all it was to find.
const INCOMPLETE: u8 = 3;
/// Between two looks at a replay under way.
const LOOK: Duration = Duration::from_millis(500);

/// Runs one of the commands, until it ends or the operator interrupts it.
pub(crate) async fn run(args: ReplayArgs, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    match args.command {
        None => Box::pin(start(args.start, stop)).await,
        Some(ReplayCommand::List(common)) => list(common).await,
        Some(ReplayCommand::Show(one)) => Box::pin(show_one(one)).await,
        Some(ReplayCommand::Cancel(one)) => Box::pin(cancel(one)).await,
    }
}

/// What the commands work with.
struct Desk {
    config: Config,
    clients: Clients,
    replays: ReplayStore,
}

impl Desk {
    /// `None` when the configuration was only to be printed.
    async fn of(common: &CommonArgs) -> anyhow::Result<Option<Desk>> {
        let Some(config) = configuration(&common.config, None)? else { return Ok(None) };
        let clients = Clients::make(&config.aws).await?;
        let replays = DeliveryStore::new(clients.dynamodb.clone(), &config.app.name).replays();
        Ok(Some(Desk { config, clients, replays }))
    }

    fn now_ms(&self) -> i64 {
        wall_ms(&self.clients.time)
    }

    async fn find(&self, id: &ReplayId) -> anyhow::Result<Replay> {
        let found = self.replays.get(id, self.now_ms()).await?;
        found.with_context(|| {
            format!("there is no replay {id}; replays are kept for a fortnight after their end")
        })
    }
}

async fn start(args: StartArgs, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let Some(desk) = Desk::of(&args.common).await? else { return Ok(ExitCode::SUCCESS) };
    let id = args.subscription.clone().context("--subscription is needed")?;
    let subscriptions =
        SubscriptionStore::new(desk.clients.dynamodb.clone(), &desk.config.app.name);
    let found = subscriptions.get(&id).await?;
    let subscription = found.with_context(|| format!("there is no subscription {id}"))?;
    let what = what(&args, &subscription, desk.now_ms());
    if args.dry_run {
        return tokio::select! {
            biased;
            () = stop.cancelled() => anyhow::bail!("interrupted; nothing was written"),
            counted = Box::pin(dry_run::run(&desk, &args, &subscription, what)) => counted,
        };
    }
    let replay_id = ReplayId::generate(&mut random::fill);
    let replay = Replay::new(replay_id, id, what, args.rate, desk.now_ms());
    desk.replays.create_for(&replay, &subscription.client).await?;
    if args.common.output == Output::Text {
        say(&format!("{} is asked for\n", replay.id));
    }
    if args.detach {
        return said(&desk, &replay, args.common.output).await;
    }
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        ended = until_over(&desk, &replay.id) => Some(ended?),
    };
    match ended {
        Some(ended) => said(&desk, &ended, args.common.output).await,
        None => anyhow::bail!(
            "interrupted; the replay goes on: `sluicegate replay show {0}` says how far it is, `sluicegate replay cancel {0}` ends it",
            replay.id
        ),
    }
}

/// What the command line asks for, of this subscription, now.
fn what(args: &StartArgs, subscription: &Subscription, now_ms: i64) -> ReplayOf {
    match args.status {
        Some(Status::Parked) => return ReplayOf::Parked,
        Some(Status::DeadLettered) => return ReplayOf::DeadLettered { only: Vec::new() },
        None => {}
    }
    let to_ms = match args.to {
        None => now_ms,
        Some(Until::Moment(moment)) => moment.ms(now_ms),
        Some(Until::Subscribed) => subscription.created_at_ms.min(now_ms),
    };
    let from_ms = args.from.map_or(0, |from| from.ms(now_ms)).max(0);
    ReplayOf::Range { from_ms, to_ms, only: args.message.clone() }
}

/// Waits for its end, and shows how far it is meanwhile.
async fn until_over(desk: &Desk, id: &ReplayId) -> anyhow::Result<Replay> {
    let mut line = Counted::new("replaying");
    loop {
        let replay = desk.find(id).await?;
        if replay.state.is_over() {
            line.end();
            return Ok(replay);
        }
        line.tick(&show::progress(&replay, &desk.replays.parts(id).await?));
        tokio::time::sleep(LOOK).await;
    }
}

/// Prints a replay; the exit code says how it stands.
async fn said(desk: &Desk, replay: &Replay, output: Output) -> anyhow::Result<ExitCode> {
    let parts = desk.replays.parts(&replay.id).await?;
    match output {
        Output::Text => print(&show::text(replay, &parts)),
        Output::Json => print_json(&show::object(replay, &parts))?,
    }
    Ok(match replay.state {
        ReplayState::Failed => ExitCode::FAILURE,
        ReplayState::Cancelled => ExitCode::from(INCOMPLETE),
        ReplayState::Done if !replay.detail.is_empty() => ExitCode::from(INCOMPLETE),
        ReplayState::Queued | ReplayState::Running | ReplayState::Done => ExitCode::SUCCESS,
    })
}

async fn list(common: CommonArgs) -> anyhow::Result<ExitCode> {
    let Some(desk) = Desk::of(&common).await? else { return Ok(ExitCode::SUCCESS) };
    let replays = desk.replays.list(desk.now_ms()).await?;
    match common.output {
        Output::Text => print(&show::table(&replays)),
        Output::Json => {
            let replays: Vec<_> = replays.iter().map(|replay| show::object(replay, &[])).collect();
            print_json(&json!({ "replays": replays }))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn show_one(args: OneArgs) -> anyhow::Result<ExitCode> {
    let Some(desk) = Desk::of(&args.common).await? else { return Ok(ExitCode::SUCCESS) };
    let replay = desk.find(&args.id).await?;
    said(&desk, &replay, args.common.output).await
}

async fn cancel(args: OneArgs) -> anyhow::Result<ExitCode> {
    let Some(desk) = Desk::of(&args.common).await? else { return Ok(ExitCode::SUCCESS) };
    let cancelled = desk.replays.cancel(&args.id, desk.now_ms()).await?;
    let replay = desk.find(&args.id).await?;
    anyhow::ensure!(cancelled, "{} is {} already", replay.id, replay.state);
    match args.common.output {
        Output::Text => print(&show::text(&replay, &[])),
        Output::Json => print_json(&show::object(&replay, &[]))?,
    }
    Ok(ExitCode::SUCCESS)
}
