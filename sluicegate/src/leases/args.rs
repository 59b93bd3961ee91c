//! The command line of `sluicegate leases`.

use std::time::Duration;

use clap::{Args, Subcommand};
use lease_manager::operate::Position;
use lease_manager::{LaneName, WorkerId};

use crate::cli::{ConfigArgs, Output};
use crate::config::parse_duration;

/// What the commands' exit codes mean.
pub(crate) const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed; 2 the command line or the configuration is refused;
3 refused because it would not be safe or could have no effect: nothing was written.

All commands work through the two DynamoDB tables alone, whether workers run or not.";

/// Options of `leases`.
#[derive(Debug, Args)]
pub(crate) struct LeasesArgs {
    #[command(subcommand)]
    pub(crate) command: LeasesCommand,
}

/// What to do with leases.
#[derive(Debug, Subcommand)]
pub(crate) enum LeasesCommand {
    /// Every shard: who owns it, how it stands, how far each lane is; and every worker.
    #[command(
        after_help = "Example:\n  sluicegate leases list --config sluicegate.toml\n  sluicegate leases list --config sluicegate.toml --output json | jq '.leases[] | select(.state != \"owned\")'"
    )]
    List(ListArgs),
    /// Why a shard is where it is, why it is or is not moving, and what happens next, in words.
    #[command(
        after_help = "Example:\n  sluicegate leases why shardId-000000000003 --config sluicegate.toml\n  sluicegate leases why 3 --config sluicegate.toml"
    )]
    Why(WhyArgs),
    /// Asks a shard's owner to drain it and hand it over, and waits until it has.
    #[command(
        after_help = "Example:\n  sluicegate leases release shardId-000000000003 --to worker-2 --config sluicegate.toml"
    )]
    Release(ReleaseArgs),
    /// Sets where a shard is read from next. Shows first what would be read again or skipped.
    #[command(
        after_help = "Example:\n  sluicegate leases set-checkpoint 3 at-timestamp:2026-01-31T00:00:00Z --config sluicegate.toml\n  sluicegate leases set-checkpoint 3 trim-horizon --lane sync-store --force --yes --config sluicegate.toml"
    )]
    SetCheckpoint(SetCheckpointArgs),
    /// Takes over the leases of a Kinesis Client Library (1.x to 3.x), its checkpoints as they are.
    #[command(
        after_help = "Example:\n  sluicegate leases adopt-kcl --table orders-app --dry-run --config sluicegate.toml\n  sluicegate leases adopt-kcl --table orders-app --config sluicegate.toml\n\nWith app.name = the table's name the leases are adopted in place; with another name they are copied\ninto that application's table, which is made if need be and of which nothing is overwritten."
    )]
    AdoptKcl(AdoptArgs),
}

/// What every command of `leases` takes.
#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// Options of `leases list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Options of `leases why`.
#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// A shard's id, its number, or a lease's key.
    #[arg(value_name = "SHARD")]
    pub(crate) shard: String,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Options of `leases release`.
#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// A shard's id, its number, or a lease's key.
    #[arg(value_name = "SHARD")]
    pub(crate) shard: String,
    /// The worker that should get it; without it, the one that is best when it happens.
    #[arg(long, value_name = "WORKER")]
    pub(crate) to: Option<WorkerId>,
    /// How long to wait for the hand-over.
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration)]
    pub(crate) wait: Duration,
    /// Only ask, and end.
    #[arg(long, conflicts_with = "wait")]
    pub(crate) no_wait: bool,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Options of `leases set-checkpoint`.
#[derive(Debug, Args)]
pub(crate) struct SetCheckpointArgs {
    /// A shard's id, its number, or a lease's key.
    #[arg(value_name = "SHARD")]
    pub(crate) shard: String,
    /// A sequence number (what is up to it counts as settled), trim-horizon, latest, or at-timestamp:TIME with a
    /// time like 2026-01-31T00:00:00Z or in milliseconds since 1970.
    #[arg(value_name = "POSITION")]
    pub(crate) position: Position,
    /// Only this lane (sync-store or async-delivery); the others stay where they are.
    #[arg(long, value_name = "NAME")]
    pub(crate) lane: Option<LaneName>,
    /// Also while a worker owns the shard: the lease is taken from it, and what it writes later is refused.
    #[arg(long)]
    pub(crate) force: bool,
    /// Do not ask; needed where there is no terminal.
    #[arg(long, short)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Options of `leases adopt-kcl`.
#[derive(Debug, Args)]
pub(crate) struct AdoptArgs {
    /// The library's lease table: the name of its application.
    #[arg(long, value_name = "NAME")]
    pub(crate) table: String,
    /// Only say what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// For how long no lease may change before the library counts as stopped.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub(crate) wait: Duration,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

fn duration(text: &str) -> Result<Duration, String> {
    let range = Duration::from_secs(1)..=Duration::from_secs(600);
    let wrong = || format!("{text:?} is no duration; allowed is 1s to 10m, for example 35s");
    parse_duration(text).filter(|d| range.contains(d)).ok_or_else(wrong)
}
