//! The command line of `sluicegate subscriptions`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use store::pattern::Pattern;
use store::{ClientId, DeliveryOrder, IntegrationName, ROTATION_OVERLAP, SubscriptionId};

use crate::cli::{ConfigArgs, Output};
use crate::config::parse_duration;
use crate::filter;

/// What the commands' exit codes mean.
pub(crate) const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed, nothing was changed; 2 the command line or the configuration is refused; 3 there is no
such subscription, or it cannot be done with it: nothing was changed.";

/// What `configure` takes.
const CONFIGURE_HELP: &str = "\
Example:
  sluicegate subscriptions configure sub_4fzV... --file webhook.toml --config sluicegate.toml

The file, of which every part may be left out:
  form = \"cloudevents-batch\"   # raw, cloudevents-structured, cloudevents-binary, cloudevents-batch, thin
  [headers]
  X-Tenant = \"acme\"
  [auth.oauth]                 # or [auth.basic] with user, password; or [auth.bearer] with token
  token_url = \"https://login.example/token\"
  client_id = \"sluicegate\"
  client_secret = \"...\"
  [client_certificate]         # both PEM
  certificates = \"...\"
  key = \"...\"";

/// Options of `subscriptions`.
#[derive(Debug, Args)]
pub(crate) struct SubscriptionsArgs {
    #[command(subcommand)]
    pub(crate) command: SubscriptionsCommand,
}

/// What to do with subscriptions.
#[derive(Debug, Subcommand)]
pub(crate) enum SubscriptionsCommand {
    /// All subscriptions: whose, where to, on or off.
    #[command(
        after_help = "Example:\n  sluicegate subscriptions list --config sluicegate.toml\n  sluicegate subscriptions list --output json --config sluicegate.toml | jq -r '.subscriptions[] | select(.enabled | not).id'"
    )]
    List(ListArgs),
    /// One subscription with its filter, policy and keys; secrets are left out.
    #[command(
        after_help = "Example:\n  sluicegate subscriptions show sub_4fzV... --config sluicegate.toml"
    )]
    Show(ShowArgs),
    /// Has messages pushed to a client's destination, from now on.
    #[command(
        after_help = "Example:\n  sluicegate subscriptions create --client cl_4fzV... --webhook https://receiver.example/hooks --integration orders --filter '{\"total\":[{\"numeric\":[\">\",100]}]}' --config sluicegate.toml\n  sluicegate subscriptions create --client cl_4fzV... --webhook https://receiver.example/ops --events --config sluicegate.toml\n\nThe secret that a webhook is signed with is shown this once."
    )]
    Create(Box<CreateArgs>),
    /// Switches one on again; what was parked for it is due.
    #[command(
        after_help = "Example:\n  sluicegate subscriptions enable sub_4fzV... --config sluicegate.toml"
    )]
    Enable(ChangeArgs),
    /// Switches one off: nothing is attempted, what comes meanwhile is not kept for it.
    #[command(
        after_help = "Example:\n  sluicegate subscriptions disable sub_4fzV... --config sluicegate.toml"
    )]
    Disable(ChangeArgs),
    /// Deletes one; what was parked for it becomes dead letters.
    #[command(
        after_help = "Example:\n  sluicegate subscriptions delete sub_4fzV... --config sluicegate.toml"
    )]
    Delete(ChangeArgs),
    /// Gives a webhook a new signing key. The old ones sign beside it until the overlap ends.
    #[command(
        after_help = "Example:\n  sluicegate subscriptions rotate-secret sub_4fzV... --overlap 24h --config sluicegate.toml\n  sluicegate subscriptions rotate-secret sub_4fzV... --kind ed25519 --output json --config sluicegate.toml | jq -r .public_key\n\nA shared secret is shown this once. Of an Ed25519 key only the public half is ever shown: the receiver needs no other."
    )]
    RotateSecret(RotateArgs),
    /// Sets a webhook's body form, headers, authentication and client certificate: all of them, from a file.
    #[command(after_help = CONFIGURE_HELP)]
    Configure(ConfigureArgs),
}

/// Options of `subscriptions list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Options of `subscriptions show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Which one.
    #[arg(value_name = "ID", value_parser = id)]
    pub(crate) id: SubscriptionId,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Options of `subscriptions create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Whose it is: it gets what this client is granted to subscribe to.
    #[arg(long, value_name = "ID", value_parser = client)]
    pub(crate) client: ClientId,
    #[command(flatten)]
    pub(crate) destination: DestinationArgs,
    /// Only messages of this integration; may be given several times. Without it: of all.
    #[arg(long, value_name = "NAME", value_parser = integration)]
    pub(crate) integration: Vec<IntegrationName>,
    /// What happens to the client's own destinations (failing, disabled, recovered, deliveries given up), and no messages.
    #[arg(long, conflicts_with = "integration")]
    pub(crate) events: bool,
    /// Only messages about entities that begin with this.
    #[arg(long, value_name = "PREFIX")]
    pub(crate) entity_prefix: Option<String>,
    /// Only messages of this event type; may be given several times.
    #[arg(long = "event-type", value_name = "TYPE")]
    pub(crate) event_types: Vec<String>,
    /// Only messages with this content, as JSON or @FILE (docs/filters.md).
    #[arg(long, value_name = "JSON", value_parser = filter::parse)]
    pub(crate) filter: Option<Pattern>,
    /// In which order: none; that of the stream for each partition key (key); or for each shard (shard).
    #[arg(long, value_name = "ORDER", default_value = "none", value_parser = order)]
    pub(crate) order: DeliveryOrder,
    /// Most attempts a second.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: Option<u32>,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Where to.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct DestinationArgs {
    /// POSTs to this address.
    #[arg(long, value_name = "URL")]
    pub(crate) webhook: Option<String>,
    /// Messages of this queue (URL or ARN).
    #[arg(long, value_name = "QUEUE")]
    pub(crate) sqs: Option<String>,
    /// Publications to this topic (ARN).
    #[arg(long, value_name = "TOPIC")]
    pub(crate) sns: Option<String>,
    /// Events on this bus (ARN or name).
    #[arg(long, value_name = "BUS")]
    pub(crate) eventbridge: Option<String>,
}

/// Options of `subscriptions enable`, `disable` and `delete`.
#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    /// Which one.
    #[arg(value_name = "ID", value_parser = id)]
    pub(crate) id: SubscriptionId,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Options of `subscriptions rotate-secret`.
#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    /// Which one.
    #[arg(value_name = "ID", value_parser = id)]
    pub(crate) id: SubscriptionId,
    /// What the new key is.
    #[arg(long, value_enum, default_value_t = Kind::Hmac)]
    pub(crate) kind: Kind,
    /// How long the old keys still sign, up to 7d; 0s ends them at once (after a leak).
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = overlap)]
    pub(crate) overlap: Duration,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Options of `subscriptions configure`.
#[derive(Debug, Args)]
pub(crate) struct ConfigureArgs {
    /// Which one.
    #[arg(value_name = "ID", value_parser = id)]
    pub(crate) id: SubscriptionId,
    /// What is to hold from now on (TOML); what it leaves out is as if it was never set.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// What every command of `subscriptions` takes.
#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Who does it, for the audit log.
    #[arg(long, value_name = "NAME", default_value = "sluicegate subscriptions", global = true)]
    pub(crate) by: String,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// Kinds of signing keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A secret that both sides know; signs as v1.
    Hmac,
    /// A pair of which the receiver gets the public half; signs as v1a.
    Ed25519,
}

fn id(text: &str) -> Result<SubscriptionId, String> {
    SubscriptionId::parse(text).map_err(|error| error.to_string())
}

fn client(text: &str) -> Result<ClientId, String> {
    ClientId::parse(text).map_err(|error| error.to_string())
}

fn integration(text: &str) -> Result<IntegrationName, String> {
    IntegrationName::parse(text).map_err(|error| error.to_string())
}

fn order(text: &str) -> Result<DeliveryOrder, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

fn overlap(text: &str) -> Result<Duration, String> {
    let longest = 7 * ROTATION_OVERLAP;
    parse_duration(text).filter(|overlap| *overlap <= longest).ok_or_else(|| {
        format!("{text:?} is no overlap; allowed is a duration up to 7d, such as 30m or 24h")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_are_read_or_refused_with_what_is_allowed() {
        assert_eq!(overlap("24h").unwrap(), ROTATION_OVERLAP);
        assert_eq!(overlap("0s").unwrap(), Duration::ZERO);
        assert!(overlap("7d").is_ok());
        for bad in ["8d", "soon", "-1s", ""] {
            assert!(overlap(bad).unwrap_err().contains("up to 7d"), "{bad}");
        }
    }
}
