//! The command line: what each command is for, with an example; what it takes, with its default.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use store::pattern::Pattern;

use crate::access::args::{self as access, ClientsArgs};
use crate::deliveries::args::{self as deliveries, DeliveriesArgs};
use crate::filter;
use crate::leases::args::{EXIT_CODES, LeasesArgs};
use crate::messages::args::{self as messages, MessagesArgs};
use crate::operators::args::OperatorsArgs;
use crate::replay::args::{self as replay, ReplayArgs};
use crate::subscriptions::args::{self as subscriptions, SubscriptionsArgs};

/// Sluicegate: an integration platform on Amazon Kinesis.
#[derive(Debug, Parser)]
#[command(name = "sluicegate", version, about, long_about = LONG_ABOUT, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Without a command the demo runs; these are its options.
    #[command(flatten)]
    pub(crate) demo: DemoArgs,
}

const LONG_ABOUT: &str = "\
Sluicegate reads JSON messages from Kinesis Data Streams, keeps recent ones queryable behind an
HTTPS API, and pushes them to subscribers. Neither side ever holds up the other.

Without a command it runs the demo: the whole platform on this machine, on real data. In AWS Lambda it
is the API, by `api` and without a command alike.";

/// What to run.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The whole platform on this machine, embedded, on real data (the default).
    #[command(after_help = "Example:\n  sluicegate demo --rate 200")]
    Demo(DemoArgs),
    /// The service that reads the streams and feeds both pipelines.
    #[command(after_help = "Example:\n  sluicegate processor --config sluicegate.toml")]
    Processor(ConfigArgs),
    /// The service that answers clients over HTTPS.
    #[command(after_help = "Example:\n  sluicegate api --config sluicegate.toml")]
    Api(ConfigArgs),
    /// The embedded Kinesis and DynamoDB alone, for tests of your own.
    #[command(
        after_help = "Example:\n  sluicegate local --listen 127.0.0.1:4566 &\n  aws --endpoint-url http://127.0.0.1:4566 kinesis list-streams"
    )]
    Local(LocalArgs),
    /// Creates what the services need: tables and consumers. Services never create them.
    #[command(
        after_help = "Example:\n  sluicegate init --config sluicegate.toml\n  sluicegate init --config sluicegate.toml --dev --webhook https://receiver.example/hooks"
    )]
    Init(InitArgs),
    /// Who owns which shard and why; have a shard moved, set back, or taken over from the Kinesis Client Library.
    #[command(after_help = EXIT_CODES)]
    Leases(LeasesArgs),
    /// What was given up, with its bytes and the reason; and sending it again.
    #[command(after_help = deliveries::EXIT_CODES)]
    Deliveries(DeliveriesArgs),
    /// Who gets what pushed where; and giving a subscription a new signing key.
    #[command(after_help = subscriptions::EXIT_CODES)]
    Subscriptions(SubscriptionsArgs),
    /// Who may ask the API: clients with their grants, API keys and OAuth clients.
    #[command(after_help = access::EXIT_CODES)]
    Clients(ClientsArgs),
    /// Messages over the API, as a client of it: those of an entity, one by its link, or all of an integration as they come.
    #[command(after_help = messages::AFTER_HELP)]
    Messages(MessagesArgs),
    /// Which messages of a file a filter lets through: to try one out before a subscription has it.
    #[command(
        after_help = "Example:\n  sluicegate filter '{\"properties\":{\"mag\":[{\"numeric\":[\">=\",4.5]}]}}' earthquakes.ndjson\n\nThe language is described in docs/filters.md."
    )]
    Filter(FilterArgs),
    /// Prints the API's OpenAPI 3.1 document, as /openapi.json serves it.
    #[command(
        name = "openapi",
        after_help = "Example:\n  sluicegate openapi > api/openapi.json\n  sluicegate openapi --operators > api/operators.openapi.json\n\nThe API shows it to people at /docs."
    )]
    OpenApi(OpenApiArgs),
    /// Who may use the operators' port: makes the token of an operator.
    Operators(OperatorsArgs),
    /// Gives a subscription messages again, or for the first time although they are old: straight from the stream.
    #[command(after_help = replay::AFTER_HELP)]
    Replay(Box<ReplayArgs>),
}

/// Options of the demo.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Events that the producer writes a second.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rate: u32,
    /// Where the HTTPS API listens; another port is taken when this one is in use.
    #[arg(long, default_value = "127.0.0.1:8443")]
    pub(crate) listen: SocketAddr,
    /// Write the file's events once; otherwise they come again and again.
    #[arg(long)]
    pub(crate) once: bool,
    /// As --once, and end by itself once every event is stored and delivered, with a summary; exit code 1 if one is missing.
    #[arg(long)]
    pub(crate) until_done: bool,
}

/// Where the configuration comes from.
#[derive(Debug, Default, Args)]
pub(crate) struct ConfigArgs {
    /// The configuration file (TOML). `SLUICEGATE_*` variables and --set override it.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Overrides one key, for example --set checkpoint.interval=5s
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) set: Vec<(String, String)>,
    /// Prints the configuration as it is understood, secrets left out, and ends.
    #[arg(long)]
    pub(crate) print_config: bool,
}

/// Options of `local`.
#[derive(Debug, Args)]
pub(crate) struct LocalArgs {
    /// Where to listen; port 0 takes a free one. The address is printed.
    #[arg(long, default_value = "127.0.0.1:4566")]
    pub(crate) listen: SocketAddr,
    /// A file that keeps the DynamoDB tables; without it they live in memory.
    #[arg(long, value_name = "FILE")]
    pub(crate) data: Option<PathBuf>,
    /// Enforce the service's limits of a shard (1 MB/s and 1,000 records/s written, 2 MB/s read).
    #[arg(long)]
    pub(crate) enforce_limits: bool,
}

/// Options of `init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Also creates missing streams, a client that may read everything, and a key for it.
    #[arg(long)]
    pub(crate) dev: bool,
    /// With --dev: also a subscription that delivers everything to this address.
    #[arg(long, value_name = "URL", requires = "dev")]
    pub(crate) webhook: Option<String>,
    /// With --webhook: only messages with this content, as JSON or @FILE (docs/filters.md).
    #[arg(long, value_name = "JSON", requires = "webhook", value_parser = filter::parse)]
    pub(crate) filter: Option<Pattern>,
    /// With --webhook: only messages of this event type; may be given more than once.
    #[arg(long = "event-type", value_name = "TYPE", requires = "webhook")]
    pub(crate) event_types: Vec<String>,
    /// With --dev: also a subscription that sends everything to this queue (URL or ARN).
    #[arg(long, value_name = "QUEUE", requires = "dev")]
    pub(crate) sqs: Vec<String>,
    /// With --dev: also a subscription that publishes everything to this topic (ARN).
    #[arg(long, value_name = "TOPIC", requires = "dev")]
    pub(crate) sns: Vec<String>,
    /// With --dev: also a subscription that puts everything on this bus (ARN or name).
    #[arg(long, value_name = "BUS", requires = "dev")]
    pub(crate) eventbridge: Vec<String>,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// Options of `openapi`.
#[derive(Debug, Args)]
pub(crate) struct OpenApiArgs {
    /// The document of the operators' port instead, as its own /openapi.json serves it.
    #[arg(long)]
    pub(crate) operators: bool,
}

/// Options of `filter`.
#[derive(Debug, Args)]
pub(crate) struct FilterArgs {
    /// The filter, as JSON or @FILE.
    #[arg(value_name = "FILTER", value_parser = filter::parse)]
    pub(crate) filter: Pattern,
    /// Messages, one JSON document a line; standard input without it.
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// How a command prints its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// One JSON document, for scripts.
    Json,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not KEY=VALUE, for example checkpoint.interval=5s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_filter_is_read_where_it_is_given() {
        let init = |filter: &str| {
            let webhook = ["init", "--dev", "--webhook", "https://receiver.example/", "--filter"];
            Cli::try_parse_from(["sluicegate"].iter().chain(&webhook).chain(&[filter]))
        };
        assert!(init(r#"{"type":["Feature"]}"#).is_ok());
        let refused = init(r#"{"type":[{"prefx":"F"}]}"#).unwrap_err().to_string();
        assert!(refused.contains("/type/0/prefx") && refused.contains("prefix"), "{refused}");
    }

    #[test]
    fn without_a_command_it_is_the_demo() {
        let cli = Cli::try_parse_from(["sluicegate", "--rate", "5"]).expect("parses");
        assert!(cli.command.is_none());
        assert_eq!(cli.demo.rate, 5);
    }
}
