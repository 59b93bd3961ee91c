//! `sluicegate leases`: what an operator sees of the shards and does with them, through the two tables alone.
//!
//! The decisions and the writes are `lease_manager::operate`'s; here is how they are asked for and how they are said:
//! `args` is the command line, `list` the table for people, `adopt` the words of an adoption. It never talks to a worker.

mod adopt;
pub(crate) mod args;
pub(crate) mod desk;
mod list;

use std::process::ExitCode;

use anyhow::Context;
use lease_manager::operate::{
    NotAsked, Operator, SetError, SetPlan, StepKind, Survey, TableError, Why,
};
use lease_manager::{LaneName, LeaseKey, WorkerId};
use processor::PIPELINES;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cli::{ConfigArgs, Output};
use crate::clients::Clients;
use crate::commands::{configuration, print, print_json};
use crate::config::Config;
use crate::screen::{self, Progress};
use args::{LeasesArgs, LeasesCommand, ListArgs, ReleaseArgs, SetCheckpointArgs, WhyArgs};

/// Exit code for what would not be safe or could have no effect: nothing was written.
const REFUSED: u8 = 3;

/// Runs one of the commands, until it ends or the operator interrupts it.
pub(crate) async fn run(args: LeasesArgs, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let command = async {
        match args.command {
            LeasesCommand::List(args) => list(args).await,
            LeasesCommand::Why(args) => why(args).await,
            LeasesCommand::Release(args) => release(args).await,
            LeasesCommand::SetCheckpoint(args) => Box::pin(set_checkpoint(args)).await,
            LeasesCommand::AdoptKcl(args) => adopt::run(args).await,
        }
    };
    tokio::select! {
        biased;
        ended = Box::pin(command) => ended,
        () = stop.cancelled() => anyhow::bail!("interrupted; `sluicegate leases list` shows how things stand"),
    }
}

/// The operator's view of the configured fleet; `None` when the configuration was only to be printed.
async fn configured(args: &ConfigArgs) -> anyhow::Result<Option<Operator>> {
    let Some(config) = configuration(args, None)? else { return Ok(None) };
    let clients = Clients::make(&config.aws).await?;
    operator(&config, &clients).map(Some)
}

/// The operator's view of the fleet of this configuration.
pub(crate) fn operator(config: &Config, clients: &Clients) -> anyhow::Result<Operator> {
    let lanes = PIPELINES.map(LaneName::parse).into_iter().collect::<Result<Vec<_>, _>>()?;
    let me = WorkerId::parse("operator")?;
    let mut options = lease_manager::Options::new(config.app.name.clone(), me, lanes, Vec::new());
    config.leases.apply(&mut options);
    let (dynamodb, time) = (clients.dynamodb.clone(), clients.time.clone());
    Ok(Operator::new(dynamodb, options, streams(config), time))
}

fn streams(config: &Config) -> Vec<(String, lease_manager::InitialPosition)> {
    let named = config.streams.iter();
    named.map(|stream| (stream.stream.name().to_owned(), stream.start.0)).collect()
}

/// Looks at the fleet, and says so while it does.
async fn look(operator: &Operator) -> anyhow::Result<Survey> {
    let mut progress = Progress::new("looking at the heartbeats", operator.look_time());
    let survey = operator.look(|so_far| progress.tick(so_far)).await;
    progress.end();
    survey.map_err(explained)
}

/// A table that is not there most likely has another name, or was never made.
fn explained(error: TableError) -> anyhow::Error {
    let missing = error.is_missing;
    let error = anyhow::Error::new(error);
    if missing {
        error.context(
            "a table is not there: is app.name right? `sluicegate init` creates what is missing",
        )
    } else {
        error
    }
}

/// Says why nothing was done.
fn refused(output: Output, why: &str) -> ExitCode {
    if output == Output::Json {
        print(&format!("{}\n", json!({ "refused": why })));
    }
    screen::say(&format!("refused: {why}\n"));
    ExitCode::from(REFUSED)
}

/// A number with its noun.
fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

async fn list(args: ListArgs) -> anyhow::Result<ExitCode> {
    let Some(operator) = configured(&args.common.config).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let survey = look(&operator).await?;
    match args.common.output {
        Output::Text => print(&list::text(&survey)),
        Output::Json => print_json(&json!({
            "leader": survey.view.leader,
            "workers": survey.workers(),
            "leases": survey.leases(),
            "unreadable": survey.unreadable,
            "looked_ms": survey.looked_ms,
        }))?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn why(args: WhyArgs) -> anyhow::Result<ExitCode> {
    let Some(operator) = configured(&args.common.config).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let survey = look(&operator).await?;
    let key = survey.find(&args.shard)?;
    let why = survey.why(&key).context("the lease is gone")?;
    match args.common.output {
        Output::Text => print(&words(&why)),
        Output::Json => print_json(&serde_json::to_value(&why)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The answer for people: the answer, what is known, what happens next.
fn words(why: &Why) -> String {
    let mut text = format!("{}\n", why.answer);
    for fact in &why.facts {
        text.push_str(&format!("  {fact}\n"));
    }
    for next in &why.next {
        text.push_str(&format!("Next: {next}\n"));
    }
    text
}

async fn release(args: ReleaseArgs) -> anyhow::Result<ExitCode> {
    let Some(operator) = configured(&args.common.config).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let output = args.common.output;
    let survey = look(&operator).await?;
    let key = survey.find(&args.shard)?;
    let asked = match operator.ask_release(&survey, &key, args.to.as_ref()).await {
        Ok(asked) => asked,
        Err(NotAsked::Table(error)) => return Err(explained(error)),
        Err(not_asked) => return Ok(refused(output, &not_asked.to_string())),
    };
    let to = asked.to.as_ref().map_or("the best worker then".to_owned(), ToString::to_string);
    if args.no_wait {
        match output {
            Output::Text => print(&format!("asked {} to hand {key} to {to}\n", asked.owner)),
            Output::Json => print_json(&json!({ "asked": asked, "moved": false }))?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let what = format!("asked {} to hand {key} to {to}; waiting", asked.owner);
    let mut progress = Progress::new(&what, args.wait);
    let moved = operator.until_moved(&asked, args.wait, |so_far| progress.tick(so_far)).await;
    progress.end();
    let (moved, lease) = moved.map_err(explained)?;
    let owner = lease.as_ref().and_then(|lease| lease.owner.clone());
    let counter = lease.as_ref().map(|lease| lease.counter);
    if output == Output::Json {
        print_json(&json!({ "asked": asked, "moved": moved, "owner": owner, "counter": counter }))?;
    }
    if !moved {
        anyhow::bail!(
            "{key} is still owned by {} after {} s; `sluicegate leases why {key}` says how it stands",
            asked.owner,
            args.wait.as_secs()
        );
    }
    if output == Output::Text {
        let counter = counter.map_or("-".to_owned(), |counter| counter.to_string());
        print(&match (&owner, &lease) {
            (Some(owner), _) => format!("{key} is now owned by {owner} (counter {counter})\n"),
            (None, Some(_)) => {
                format!("{key} was given up and has no owner yet (counter {counter})\n")
            }
            (None, None) => format!("{key} is gone: its shard was finished and left the stream\n"),
        });
    }
    Ok(ExitCode::SUCCESS)
}

async fn set_checkpoint(args: SetCheckpointArgs) -> anyhow::Result<ExitCode> {
    let Some(operator) = configured(&args.common.config).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let output = args.common.output;
    let survey = look(&operator).await?;
    let key = survey.find(&args.shard)?;
    let plan = operator.plan_set(&survey, &key, &args.position, args.lane.as_ref(), args.force);
    let plan = match plan {
        Ok(plan) => plan,
        Err(refusal) => return Ok(refused(output, &refusal.to_string())),
    };
    let preview = preview(&plan);
    if plan.steps.iter().all(|step| step.kind == StepKind::Unchanged) {
        match output {
            Output::Text => print(&format!("{preview}nothing to change\n")),
            Output::Json => print_json(&json!({ "plan": plan, "written": false }))?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !args.yes {
        screen::say(&preview);
        match screen::confirm("Set it?").await {
            Some(true) => {}
            Some(false) => return Ok(refused(output, "not confirmed")),
            None => {
                return Ok(refused(
                    output,
                    "there is no terminal to ask at; --yes sets it without asking",
                ));
            }
        }
    } else if output == Output::Text {
        print(&preview);
    }
    let done = match operator.set(&plan).await {
        Ok(done) => done,
        Err(SetError::Table(error)) => return Err(anyhow::Error::new(SetError::Table(error))),
        Err(other) => return Ok(refused(output, &other.to_string())),
    };
    said_set(output, &key, &done)?;
    Ok(ExitCode::SUCCESS)
}

fn said_set(output: Output, key: &LeaseKey, done: &SetPlan) -> anyhow::Result<()> {
    let counter = done.counter.next();
    match output {
        Output::Json => print_json(&json!({ "plan": done, "written": true, "counter": counter })),
        Output::Text => {
            print(&format!(
                "set: {key} has no owner now (counter {counter}); a worker takes it at the fleet's next plan\n"
            ));
            Ok(())
        }
    }
}

/// What setting the checkpoint means, for people.
fn preview(plan: &SetPlan) -> String {
    let mut text = format!("{}\n", plan.key);
    for step in &plan.steps {
        text.push_str(&format!("  lane {}: {}\n", step.lane, step.words));
    }
    if let Some(owner) = &plan.fences {
        text.push_str(&format!(
            "  {owner} owns it: the lease is taken from it, and what it writes later is refused\n"
        ));
    }
    text
}
