//! The command line of `sluicegate messages`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use store::{Entity, IntegrationName};

use crate::cli::Output;
use crate::deliveries::args::{Since, since};

/// Where the address and the key come from, and what the exit codes mean.
pub(crate) const AFTER_HELP: &str = "\
The key is read from SLUICEGATE_CLIENT_KEY or from --key-file, never from the command line.

Exit codes: 0 done; 1 failed; 2 the command line is refused; 3 the API refuses it: a key that does not work, something that
is not there for it, or an integration that cannot be followed.";

/// Options of `messages`.
#[derive(Debug, Args)]
pub(crate) struct MessagesArgs {
    #[command(subcommand)]
    pub(crate) command: MessagesCommand,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum MessagesCommand {
    /// Messages of an entity, or the one behind a link.
    #[command(
        after_help = "Examples:\n  sluicegate messages get --url https://api.example.com --integration quakes --entity ci --limit 10\n  sluicegate messages get https://api.example.com/v1/integrations/quakes/messages/AbC... --output json\n  sluicegate messages get --integration quakes --entity ci --from 2h --order oldest --output json | jq .data"
    )]
    Get(Box<GetArgs>),
    /// Every new message of an integration, as it is stored; goes on by itself when it was cut.
    #[command(
        after_help = "Examples:\n  sluicegate messages tail --url https://api.example.com --integration quakes\n  sluicegate messages tail --integration quakes --entity ci --from 10m --output json"
    )]
    Tail(Box<TailArgs>),
}

/// Options of `messages get`.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// One message, by its `self` link.
    #[arg(value_name = "LINK", conflicts_with_all = ["integration", "entity", "from", "to", "limit", "order"])]
    pub(crate) link: Option<String>,
    /// Of which integration.
    #[arg(long, value_name = "NAME", value_parser = integration, required_unless_present = "link", requires = "entity")]
    pub(crate) integration: Option<IntegrationName>,
    /// About what.
    #[arg(long, value_name = "ENTITY", value_parser = entity, required_unless_present = "link", requires = "integration")]
    pub(crate) entity: Option<Entity>,
    /// Only with a time since then: a time like 2026-01-31T00:00:00Z, or so long ago, like 2h.
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) from: Option<Since>,
    /// Only with a time before then.
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) to: Option<Since>,
    /// Most messages.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) limit: u32,
    /// Which end comes first.
    #[arg(long, value_enum, default_value_t = OrderArg::Newest)]
    pub(crate) order: OrderArg,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Options of `messages tail`.
#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// Of which integration.
    #[arg(long, value_name = "NAME", value_parser = integration)]
    pub(crate) integration: IntegrationName,
    /// Only about this.
    #[arg(long, value_name = "ENTITY", value_parser = entity)]
    pub(crate) entity: Option<Entity>,
    /// Begin with what was stored since then, within the last hour.
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) from: Option<Since>,
    /// End after so many messages.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// What both commands take.
#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    /// Where the API is, such as `https://api.example.com`.
    #[arg(long, env = "SLUICEGATE_CLIENT_URL", value_name = "URL")]
    pub(crate) url: Option<String>,
    /// A file with the API key or access token.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// PEM file of the authorities, or the certificate itself, that the API is verified with, instead of the operating system's.
    #[arg(long, env = "SLUICEGATE_CLIENT_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// How messages are printed; JSON: one a line, as the API gave it.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// Which end of the time line comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OrderArg {
    /// The newest message.
    Newest,
    /// The oldest that is kept.
    Oldest,
}

impl OrderArg {
    /// As the API calls it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            OrderArg::Newest => "newest",
            OrderArg::Oldest => "oldest",
        }
    }
}

fn integration(text: &str) -> Result<IntegrationName, String> {
    IntegrationName::parse(text).map_err(|error| error.to_string())
}

fn entity(text: &str) -> Result<Entity, String> {
    Entity::parse(text).map_err(|error| error.to_string())
}
