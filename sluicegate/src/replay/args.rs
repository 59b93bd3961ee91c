//! The command line of `sluicegate replay`.

use clap::{Args, Subcommand, ValueEnum};
use store::{DEFAULT_REPLAY_RATE, MessageId, ReplayId, SubscriptionId};

use crate::deliveries::args::{CommonArgs, Since, message, since};

/// Examples, and what the exit codes mean.
pub(crate) const AFTER_HELP: &str = "\
Examples:
  sluicegate replay --subscription sub_a --from 2h --dry-run --config sluicegate.toml
  sluicegate replay --subscription sub_a --from horizon --to subscribed --config sluicegate.toml
  sluicegate replay --subscription sub_a --status dead-lettered --config sluicegate.toml
  sluicegate replay show rpl_... --config sluicegate.toml

The processors do the work: the command asks for it and shows how far it is. Interrupting it stops the showing alone.

Exit codes: 0 done; 1 failed; 2 the command line or the configuration is refused; 3 cancelled, or some of the messages
asked for were not found.";

/// Options of `replay`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct ReplayArgs {
    #[command(subcommand)]
    pub(crate) command: Option<ReplayCommand>,
    #[command(flatten)]
    pub(crate) start: StartArgs,
}

/// What to do with replays that are there.
#[derive(Debug, Subcommand)]
pub(crate) enum ReplayCommand {
    /// Replays that wait, run, or ended within a fortnight, the newest first.
    #[command(
        after_help = "Example:\n  sluicegate replay list --output json --config sluicegate.toml"
    )]
    List(CommonArgs),
    /// One replay, with how far it is in each shard.
    #[command(after_help = "Example:\n  sluicegate replay show rpl_... --config sluicegate.toml")]
    Show(OneArgs),
    /// Ends a replay; what it has made due until then is delivered.
    #[command(after_help = "Example:\n  sluicegate replay cancel rpl_... --config sluicegate.toml")]
    Cancel(OneArgs),
}

/// Which replay.
#[derive(Debug, Args)]
pub(crate) struct OneArgs {
    /// Its id.
    #[arg(value_name = "ID", value_parser = replay_id)]
    pub(crate) id: ReplayId,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// What is to be replayed.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["from", "message", "status"]))]
pub(crate) struct StartArgs {
    /// For whom.
    #[arg(long, value_name = "ID", required = true, value_parser = subscription)]
    pub(crate) subscription: Option<SubscriptionId>,
    /// What arrived since then: a time like 2026-01-31T00:00:00Z, so long ago, like 2h, or `horizon`: all that the
    /// streams still have.
    #[arg(long, value_name = "TIME", value_parser = from, conflicts_with = "status")]
    pub(crate) from: Option<Since>,
    /// What arrived before then: a time, so long ago, or `subscribed`: when the subscription began to get messages
    /// as they come. Without it: now.
    #[arg(long, value_name = "TIME", value_parser = to, conflicts_with = "status")]
    pub(crate) to: Option<Until>,
    /// Only this message, looked for in the range, or in all that the streams have; may be given several times.
    #[arg(long, value_name = "ID", value_parser = message, conflicts_with = "status")]
    pub(crate) message: Vec<MessageId>,
    /// What is kept already: parked deliveries become due now, dead letters are delivered again.
    #[arg(long, value_enum)]
    pub(crate) status: Option<Status>,
    /// Most messages a second.
    #[arg(long, default_value_t = DEFAULT_REPLAY_RATE, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rate: u32,
    /// Only count, by reading; nothing is written, and no processor is needed.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Ask for it, and do not wait for its end.
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// What is kept of deliveries that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Status {
    /// Waiting for their next attempt.
    Parked,
    /// Given up.
    DeadLettered,
}

/// The end of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// This moment.
    Moment(Since),
    /// When the subscription began.
    Subscribed,
}

fn from(text: &str) -> Result<Since, String> {
    match text {
        "horizon" => Ok(Since::At(0)),
        _ => since(text).map_err(|error| format!("{error}, or horizon")),
    }
}

fn to(text: &str) -> Result<Until, String> {
    match text {
        "subscribed" => Ok(Until::Subscribed),
        _ => since(text).map(Until::Moment).map_err(|error| format!("{error}, or subscribed")),
    }
}

fn subscription(text: &str) -> Result<SubscriptionId, String> {
    SubscriptionId::parse(text).map_err(|error| error.to_string())
}

fn replay_id(text: &str) -> Result<ReplayId, String> {
    ReplayId::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: ReplayArgs,
    }

    fn parsed(line: &str) -> Result<ReplayArgs, String> {
        let words = std::iter::once("replay").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.args).map_err(|error| error.to_string())
    }

    #[test]
    fn a_replay_says_for_whom_and_what() {
        let start = parsed("--subscription sub_a --from horizon --to subscribed").unwrap().start;
        assert_eq!((start.from, start.to), (Some(Since::At(0)), Some(Until::Subscribed)));
        assert_eq!(start.rate, DEFAULT_REPLAY_RATE);
        assert!(parsed("--from 2h").unwrap_err().contains("--subscription"));
        assert!(parsed("--subscription sub_a").unwrap_err().contains("--from"));
        let both = "--subscription sub_a --from 2h --status parked";
        assert!(parsed(both).unwrap_err().contains("cannot be used with"));
        assert!(parsed("--subscription sub_a --from 2h --rate 0").unwrap_err().contains("--rate"));
    }

    #[test]
    fn replays_that_are_there_are_named() {
        assert!(matches!(parsed("list").unwrap().command, Some(ReplayCommand::List(_))));
        let Some(ReplayCommand::Show(one)) = parsed("show rpl_x").unwrap().command else {
            panic!()
        };
        assert_eq!(one.id.as_str(), "rpl_x");
        assert!(parsed("cancel sub_x").unwrap_err().contains("rpl_"));
    }
}
