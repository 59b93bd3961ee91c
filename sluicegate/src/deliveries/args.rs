//! The command line of `sluicegate deliveries`.

use std::time::Duration;

use aws_smithy_types::date_time::{DateTime, Format};
use clap::{Args, Subcommand};
use store::{DeadReason, IntegrationName, MessageId, SubscriptionId};

use crate::cli::{ConfigArgs, Output};
use crate::config::parse_duration;

/// What the commands' exit codes mean.
pub(crate) const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed, and what was done is done: run it again; 2 the command line or the configuration
is refused; 3 some stay dead letters: each is named, with the reason.";

/// Options of `deliveries`.
#[derive(Debug, Args)]
pub(crate) struct DeliveriesArgs {
    #[command(subcommand)]
    pub(crate) command: DeliveriesCommand,
}

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum DeliveriesCommand {
    /// Dead letters, the newest arrival of each integration first; and open ranges: what waits in the stream for a
    /// destination that is down or behind.
    #[command(
        after_help = "Example:\n  sluicegate deliveries list --reason not-json --since 2h --config sluicegate.toml\n  sluicegate deliveries list --integration orders --output json --config sluicegate.toml | jq -r '.dead_letters[].payload'"
    )]
    List(ListArgs),
    /// What became of one message for each subscription: delivered and when, waiting and why, given up, or not for it.
    #[command(
        after_help = "Example:\n  sluicegate deliveries show https://api.example.com/v1/integrations/orders/messages/AbC... --config sluicegate.toml\n  sluicegate deliveries show msg_... --subscription sub_... --output json --config sluicegate.toml"
    )]
    Show(ShowArgs),
    /// Sends dead letters again: into the store, and to the subscriptions that want them. What is still no message
    /// stays a dead letter, and is named.
    #[command(
        after_help = "Example:\n  sluicegate deliveries redrive --reason missing-field --since 2026-01-31T00:00:00Z --dry-run --config sluicegate.toml\n  sluicegate deliveries redrive --all --config sluicegate.toml\n\nIt is safe to run again, and beside running processors: messages keep their ids, and one that is stored or\nparked already is not stored or parked twice."
    )]
    Redrive(RedriveArgs),
}

/// Which dead letters.
#[derive(Debug, Args)]
pub(crate) struct SelectArgs {
    /// Only of this integration; may be given several times. Without it: of all that are configured.
    #[arg(long, value_name = "NAME", value_parser = integration)]
    pub(crate) integration: Vec<IntegrationName>,
    /// Only given up for this reason; may be given several times.
    #[arg(long, value_name = "REASON", value_parser = reason)]
    pub(crate) reason: Vec<DeadReason>,
    /// Only given up since then: a time like 2026-01-31T00:00:00Z, or so long ago, like 2h.
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) since: Option<Since>,
    /// Only this message.
    #[arg(long, value_name = "ID", value_parser = message)]
    pub(crate) message: Option<MessageId>,
}

/// Options of `deliveries list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) select: SelectArgs,
    /// Most that are shown.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Options of `deliveries show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The message: its link, as the API gives it (`self`), or its id. By its id only what failed is found.
    #[arg(value_name = "LINK|ID")]
    pub(crate) message: String,
    /// Only for this subscription. Without it: for all.
    #[arg(long, value_name = "ID", value_parser = subscription)]
    pub(crate) subscription: Option<SubscriptionId>,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Options of `deliveries redrive`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["integration", "reason", "since", "message", "all"]))]
pub(crate) struct RedriveArgs {
    #[command(flatten)]
    pub(crate) select: SelectArgs,
    /// All of them.
    #[arg(long, conflicts_with_all = ["integration", "reason", "since", "message"])]
    pub(crate) all: bool,
    /// Only say what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// What every command of `deliveries` takes.
#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// A moment, absolute or counted back from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    /// In ms since 1970.
    At(i64),
    /// Before now.
    Ago(Duration),
}

impl Since {
    /// In ms since 1970.
    pub(crate) fn ms(self, now_ms: i64) -> i64 {
        match self {
            Since::At(ms) => ms,
            Since::Ago(span) => {
                now_ms.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
            }
        }
    }
}

pub(crate) fn since(text: &str) -> Result<Since, String> {
    if let Some(span) = parse_duration(text) {
        return Ok(Since::Ago(span));
    }
    let time = DateTime::from_str(text, Format::DateTimeWithOffset).ok();
    let ms = time.and_then(|time| time.to_millis().ok());
    ms.map(Since::At).ok_or_else(|| {
        format!(
            "{text:?} is no moment; allowed is a time like 2026-01-31T00:00:00Z, or 30m, 2h, 7d"
        )
    })
}

fn integration(text: &str) -> Result<IntegrationName, String> {
    IntegrationName::parse(text).map_err(|error| error.to_string())
}

fn subscription(text: &str) -> Result<SubscriptionId, String> {
    SubscriptionId::parse(text).map_err(|error| error.to_string())
}

pub(crate) fn message(text: &str) -> Result<MessageId, String> {
    MessageId::parse(text).map_err(|error| error.to_string())
}

fn reason(text: &str) -> Result<DeadReason, String> {
    DeadReason::from_code(text).ok_or_else(|| {
        let codes: Vec<&str> = DeadReason::ALL.iter().map(|reason| reason.code()).collect();
        format!("{text:?} is no reason; allowed is {}", codes.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_reasons_are_read_or_refused_with_what_is_allowed() {
        assert_eq!(since("2h").unwrap().ms(7_200_001), 1);
        assert_eq!(since("1970-01-01T00:00:01Z").unwrap(), Since::At(1_000));
        assert!(since("yesterday").unwrap_err().contains("30m, 2h, 7d"));
        assert_eq!(reason("not-json").unwrap(), DeadReason::NotJson);
        assert!(reason("broken").unwrap_err().contains("broken-aggregate"));
    }
}
