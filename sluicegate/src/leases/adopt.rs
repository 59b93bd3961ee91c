//! `leases adopt-kcl`: what adopting the leases of a Kinesis Client Library means, and what it did.

use std::process::ExitCode;

use lease_manager::operate::{AdoptError, Adoption, Course, Operator, Survey};
use serde_json::json;

use super::args::AdoptArgs;
use super::{configured, count, explained, refused};
use crate::cli::Output;
use crate::commands::{print, print_json};
use crate::screen::Progress;

pub(super) async fn run(args: AdoptArgs) -> anyhow::Result<ExitCode> {
    let Some(operator) = configured(&args.common.config).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let output = args.common.output;
    let survey = our_fleet(&operator).await?;
    let mut progress = Progress::new("watching that no lease changes", args.wait);
    let tick = |so_far| progress.tick(so_far);
    let plan = operator.plan_adoption(&args.table, survey.as_ref(), args.wait, tick).await;
    progress.end();
    let plan = match plan {
        Ok(plan) => plan,
        Err(error) => return failed(output, error),
    };
    if args.dry_run {
        said(output, &plan, false)?;
        return Ok(ExitCode::SUCCESS);
    }
    let done = match operator.adopt(&plan).await {
        Ok(done) => done,
        Err(error) => return failed(output, error),
    };
    said(output, &done, true)?;
    if done.unreadable.is_empty() {
        Ok(ExitCode::SUCCESS)
    } else {
        anyhow::bail!(
            "{} items cannot be read: their shards are consumed by no worker until they are put right, and by no other lease either",
            done.unreadable.len()
        )
    }
}

/// A look at our own fleet; there may be none yet.
async fn our_fleet(operator: &Operator) -> anyhow::Result<Option<Survey>> {
    match operator.look(|_| {}).await {
        Ok(survey) => Ok(Some(survey)),
        Err(error) if error.is_missing => Ok(None),
        Err(error) => Err(explained(error)),
    }
}

fn failed(output: Output, error: AdoptError) -> anyhow::Result<ExitCode> {
    match error {
        AdoptError::StillRuns { .. } | AdoptError::FleetRuns(_) | AdoptError::Unreadable { .. } => {
            Ok(refused(output, &error.to_string()))
        }
        AdoptError::Table(error) if error.is_missing => Err(anyhow::Error::new(error).context(
            "--table is the lease table of the library, which is named as its application",
        )),
        other => Err(other.into()),
    }
}

fn said(output: Output, adoption: &Adoption, done: bool) -> anyhow::Result<()> {
    match output {
        Output::Json => print_json(&json!({ "adoption": adoption, "done": done })),
        Output::Text => {
            print(&words(adoption, done));
            Ok(())
        }
    }
}

fn words(adoption: &Adoption, done: bool) -> String {
    let in_place = adoption.from == adoption.to;
    let mut text = match in_place {
        true => format!("table {}, in place\n", adoption.from),
        false => format!("table {}, copied into {}\n", adoption.from, adoption.to),
    };
    for lease in &adoption.leases {
        let owner = lease.owner.as_ref().map_or("nobody".to_owned(), ToString::to_string);
        let course = course(lease.course);
        text.push_str(&format!("  {}: {course}; {}; owned by {owner}", lease.key, lease.goes_on));
        if !lease.parents.is_empty() {
            let parents: Vec<_> = lease.parents.iter().map(ToString::to_string).collect();
            text.push_str(&format!("; parents {}", parents.join(", ")));
        }
        text.push('\n');
        for odd in &lease.odd {
            text.push_str(&format!("    note: {odd}\n"));
        }
    }
    for bad in &adoption.unreadable {
        text.push_str(&format!("  cannot be read, stays as it is: {bad}\n"));
    }
    if adoption.others > 0 {
        let items = count(adoption.others, "item is", "items are");
        text.push_str(&format!("  {items} not of leases and left alone\n"));
    }
    let (leases, watched) = (adoption.leases.len(), adoption.watched_ms / 1_000);
    text.push_str(&format!(
        "{leases} leases; none changed while they were watched for {watched} s\n"
    ));
    text.push_str(&match done {
        false => "dry run: nothing was written\n".to_owned(),
        true => format!(
            "done: {} written{}; start the processor with app.name = \"{}\"\n",
            count(adoption.written, "lease", "leases"),
            made(&adoption.created),
            adoption.to
        ),
    });
    text
}

fn made(tables: &[String]) -> String {
    if tables.is_empty() { String::new() } else { format!(", {} created", tables.join(" and ")) }
}

fn course(course: Course) -> &'static str {
    match course {
        Course::AsItIs => "used as it is",
        Course::GetsStartTime => "gets a start time",
        Course::Copied => "copied",
        Course::KeptThere => "is there already, kept",
        Course::AlreadyOurs => "ours already",
        Course::LeftOut => "left alone, its stream is not configured",
    }
}
