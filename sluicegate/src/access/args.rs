//! The command line of `sluicegate clients`.

use std::time::Duration;

use clap::{Args, Subcommand};
use store::{Action, ClientId, Grant, GrantScope, IntegrationName, KeyId, Network};

use super::limits::LimitArgs;
use crate::cli::{ConfigArgs, Output};
use crate::config::parse_duration;

/// What the commands' exit codes mean.
pub(crate) const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed, nothing was changed; 2 the command line or the configuration is refused; 3 there is no
such client or key, or it cannot be done with it: nothing was changed.

A change holds in every API task within 2 seconds. docs/authentication.md says how clients prove who they are.";

const CREATE_HELP: &str = "\
Example:
  sluicegate clients create \"Seismology\" --grant earthquakes:read --config sluicegate.toml
  sluicegate clients create \"Partner\" --no-key --grant earthquakes:read:us --grant 'earthquakes:subscribe' --config sluicegate.toml
  sluicegate clients create \"Ingest\" --grant '*:publish' --allow-ip 203.0.113.0/24 --output json --config sluicegate.toml | jq -r .api_key

A grant is INTEGRATION:ACTION or INTEGRATION:ACTION:ENTITY_PREFIX; the actions are read, publish and subscribe, * is every
integration. One with a filter or a list of fields is given as JSON, as docs/grants.md shows it.
The key is shown this once.";

/// Options of `clients`.
#[derive(Debug, Args)]
pub(crate) struct ClientsArgs {
    #[command(subcommand)]
    pub(crate) command: ClientsCommand,
}

/// What to do with clients.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientsCommand {
    /// Makes a client with its grants, and an API key for it.
    #[command(after_help = CREATE_HELP)]
    Create(CreateArgs),
    /// All clients: on or off, and what they are granted.
    #[command(
        after_help = "Example:\n  sluicegate clients list --config sluicegate.toml\n  sluicegate clients list --output json --config sluicegate.toml | jq -r '.clients[] | select(.enabled | not).id'"
    )]
    List(CommonArgs),
    /// One client with its grants, its keys (never their secrets), when they were last used, and its OAuth clients.
    #[command(
        after_help = "Example:\n  sluicegate clients show cl_4fzV... --config sluicegate.toml\n  sluicegate clients show cl_4fzV... --output json --config sluicegate.toml | jq '.keys[] | select(.state == \"works\")'"
    )]
    Show(OneArgs),
    /// Grants a client more, or something else instead.
    #[command(
        after_help = "Example:\n  sluicegate clients grant cl_4fzV... flights:read --config sluicegate.toml\n  sluicegate clients grant cl_4fzV... earthquakes:read:us --instead --config sluicegate.toml\n  sluicegate clients grant cl_4fzV... --instead --config sluicegate.toml   # nothing any more\n\nGrants have the forms that create takes."
    )]
    Grant(GrantArgs),
    /// Changes how much a client may ask for.
    #[command(
        after_help = "Example:\n  sluicegate clients limits cl_4fzV... --rate 200 --burst 400 --config sluicegate.toml\n  sluicegate clients limits cl_4fzV... --plan gold --bytes-per-day 10GiB --config sluicegate.toml\n  sluicegate clients limits cl_4fzV... --rate default --requests-per-day none --config sluicegate.toml\n\nWhat is not given stays as it is. docs/limits.md says what each means, and how the tasks of the API share them."
    )]
    Limits(LimitsArgs),
    /// Gives a client a further API key; its others stay as they are.
    #[command(
        after_help = "Example:\n  sluicegate clients issue cl_4fzV... --label batch --lifetime 30d --config sluicegate.toml\n\nThe key is shown this once."
    )]
    Issue(IssueArgs),
    /// Gives a client a new API key; its others end when the overlap does.
    #[command(
        after_help = "Example:\n  sluicegate clients rotate cl_4fzV... --overlap 24h --config sluicegate.toml\n  sluicegate clients rotate cl_4fzV... --key 4fzVq0aP1xYz --overlap 0s --config sluicegate.toml   # that one leaked\n\nThe new key has the label and the networks of the newest one that it replaces, unless they are given. It is shown this once."
    )]
    Rotate(RotateArgs),
    /// Revokes API keys, for ever and at once.
    #[command(
        after_help = "Example:\n  sluicegate clients revoke 4fzVq0aP1xYz --config sluicegate.toml\n  sluicegate clients revoke --all-of cl_4fzV... --config sluicegate.toml\n\nA key's id is the 12 characters behind sg_live_; of a whole key, leaked perhaps, only these are taken. Access tokens of the client's OAuth clients still work: see disable and unbind."
    )]
    Revoke(RevokeArgs),
    /// Switches a client off: its keys and tokens do not work, its subscriptions deliver nothing.
    #[command(
        after_help = "Example:\n  sluicegate clients disable cl_4fzV... --config sluicegate.toml"
    )]
    Disable(OneArgs),
    /// Switches a client on again.
    #[command(
        after_help = "Example:\n  sluicegate clients enable cl_4fzV... --config sluicegate.toml"
    )]
    Enable(OneArgs),
    /// From now on the access tokens that an issuer gives to its client are this client's.
    #[command(
        after_help = "Example:\n  sluicegate clients bind cl_4fzV... --issuer https://login.example.com/realms/partners --oauth-client-id acme --config sluicegate.toml\n\nThe issuer must be in [[api.oauth.issuers]] of the API's configuration, written alike."
    )]
    Bind(BindArgs),
    /// The access tokens that an issuer gives to its client are nobody's any more.
    #[command(
        after_help = "Example:\n  sluicegate clients unbind --issuer https://login.example.com/realms/partners --oauth-client-id acme --config sluicegate.toml"
    )]
    Unbind(UnbindArgs),
}

/// What every command of `clients` takes.
#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Who does it, for the audit log.
    #[arg(long, value_name = "NAME", default_value = "sluicegate clients", global = true)]
    pub(crate) by: String,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// Options of commands about one client.
#[derive(Debug, Args)]
pub(crate) struct OneArgs {
    /// Which one.
    #[arg(value_name = "CLIENT", value_parser = client)]
    pub(crate) id: ClientId,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// What a key is to be.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// What people call the key.
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,
    /// How long the key works, up to 3650d.
    #[arg(long, value_name = "DURATION", default_value = "90d", value_parser = lifetime)]
    pub(crate) lifetime: Duration,
    /// The key works from this network only (an address, or one with bits such as 203.0.113.0/24); as often as wanted.
    #[arg(long, value_name = "NETWORK")]
    pub(crate) allow_ip: Vec<Network>,
}

/// Options of `clients create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Its name for people.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Its id; made up where it is absent.
    #[arg(long, value_name = "ID", value_parser = client)]
    pub(crate) id: Option<ClientId>,
    /// One thing that it may do; as often as wanted. Without any it may do nothing.
    #[arg(long, value_name = "GRANT", value_parser = grant)]
    pub(crate) grant: Vec<Grant>,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// No API key: it will come with access tokens.
    #[arg(long, conflicts_with_all = ["label", "lifetime", "allow_ip"])]
    pub(crate) no_key: bool,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Options of `clients grant`.
#[derive(Debug, Args)]
pub(crate) struct GrantArgs {
    /// Which one.
    #[arg(value_name = "CLIENT", value_parser = client)]
    pub(crate) id: ClientId,
    /// What it may do.
    #[arg(value_name = "GRANT", value_parser = grant, required_unless_present = "instead")]
    pub(crate) grants: Vec<Grant>,
    /// Instead of what it was granted before, all of which ends.
    #[arg(long)]
    pub(crate) instead: bool,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Options of `clients limits`.
#[derive(Debug, Args)]
pub(crate) struct LimitsArgs {
    /// Which one.
    #[arg(value_name = "CLIENT", value_parser = client, requires = "limits")]
    pub(crate) id: ClientId,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Options of `clients issue`.
#[derive(Debug, Args)]
pub(crate) struct IssueArgs {
    /// Which one.
    #[arg(value_name = "CLIENT", value_parser = client)]
    pub(crate) id: ClientId,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Options of `clients rotate`.
#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    /// Which one.
    #[arg(value_name = "CLIENT", value_parser = client)]
    pub(crate) id: ClientId,
    /// Only this key is replaced, by its id; without it, all that work.
    #[arg(long = "key", value_name = "KEY_ID", value_parser = key_id)]
    pub(crate) keys: Vec<KeyId>,
    /// How long the old keys still work, up to 30d; 0s ends them at once.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = overlap)]
    pub(crate) overlap: Duration,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Options of `clients revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// Which keys, by their ids.
    #[arg(value_name = "KEY_ID", value_parser = key_id, required_unless_present = "all_of")]
    pub(crate) keys: Vec<KeyId>,
    /// All keys of this client instead.
    #[arg(long, value_name = "CLIENT", value_parser = client, conflicts_with = "keys")]
    pub(crate) all_of: Option<ClientId>,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// An issuer's client.
#[derive(Debug, Args)]
pub(crate) struct OAuthClientArgs {
    /// The issuer, as its tokens' `iss` has it.
    #[arg(long, value_name = "URL")]
    pub(crate) issuer: String,
    /// The client's name there, as the tokens have it (`client_id`, or what client_claim names).
    #[arg(long, value_name = "ID")]
    pub(crate) oauth_client_id: String,
}

/// Options of `clients bind`.
#[derive(Debug, Args)]
pub(crate) struct BindArgs {
    /// Which client of ours.
    #[arg(value_name = "CLIENT", value_parser = client)]
    pub(crate) id: ClientId,
    #[command(flatten)]
    pub(crate) oauth: OAuthClientArgs,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Options of `clients unbind`.
#[derive(Debug, Args)]
pub(crate) struct UnbindArgs {
    #[command(flatten)]
    pub(crate) oauth: OAuthClientArgs,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

fn client(text: &str) -> Result<ClientId, String> {
    ClientId::parse(text).map_err(|error| error.to_string())
}

/// A key's id, or a whole key, of which only the id is taken: whoever found a leaked one has all of it.
fn key_id(text: &str) -> Result<KeyId, String> {
    let rest = text.strip_prefix("sg_live_").unwrap_or(text);
    let id = rest.split_once('_').map_or(rest, |(id, _)| id);
    KeyId::parse(id).map_err(|error| error.to_string())
}

fn duration_up_to(text: &str, days: u64) -> Result<Duration, String> {
    let longest = Duration::from_secs(days * 24 * 3_600);
    parse_duration(text).filter(|duration| *duration <= longest).ok_or_else(|| {
        format!("{text:?}: allowed is a duration up to {days}d, such as 30m, 24h or 7d")
    })
}

fn overlap(text: &str) -> Result<Duration, String> {
    duration_up_to(text, 30)
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = duration_up_to(text, 3_650)?;
    if lifetime.is_zero() { Err(format!("{text:?}: allowed is 1s or more")) } else { Ok(lifetime) }
}

/// `earthquakes:read`, `*:publish`, `earthquakes:read:us`, or JSON.
fn grant(text: &str) -> Result<Grant, String> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text)
            .map_err(|error| format!("not a grant as docs/grants.md shows it: {error}"));
    }
    let mut parts = text.splitn(3, ':');
    let integration = match parts.next().unwrap_or_default() {
        "*" => GrantScope::All,
        name => GrantScope::One(IntegrationName::parse(name).map_err(|error| error.to_string())?),
    };
    let action = match parts.next() {
        Some("read") => Action::Read,
        Some("publish") => Action::Publish,
        Some("subscribe") => Action::Subscribe,
        _ => {
            return Err(format!(
                "{text:?} is no grant; allowed is INTEGRATION:ACTION[:ENTITY_PREFIX], the action read, publish or subscribe"
            ));
        }
    };
    let entity_prefix = parts.next().map(str::to_owned);
    Ok(Grant { entity_prefix, ..Grant::new(integration, action) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_read_in_its_short_form_and_as_json() {
        let quakes = GrantScope::One(IntegrationName::parse("quakes").unwrap());
        assert_eq!(grant("quakes:read").unwrap(), Grant::new(quakes.clone(), Action::Read));
        assert_eq!(grant("*:publish").unwrap(), Grant::new(GrantScope::All, Action::Publish));
        let prefixed = grant("quakes:subscribe:us:west").unwrap();
        assert_eq!(prefixed.entity_prefix.as_deref(), Some("us:west"));
        let json = r#"{"integration":{"one":"quakes"},"action":"read","fields":["/mag"]}"#;
        let read = grant(json).unwrap();
        assert!(read.integration == quakes && read.fields.is_some());
        for bad in ["quakes", "quakes:reads", "QUAKES:read", ":read", "{\"action\":\"read\"}"] {
            assert!(grant(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_is_named_by_its_id_or_by_all_of_it() {
        let key = "sg_live_abcdefghijkl_secretsecretsecretsecretsecret12abcdef";
        assert_eq!(key_id(key).unwrap().as_str(), "abcdefghijkl");
        assert_eq!(key_id("abcdefghijkl").unwrap().as_str(), "abcdefghijkl");
        assert!(key_id("abc").is_err());
    }

    #[test]
    fn durations_have_bounds() {
        assert!(lifetime("0s").is_err() && lifetime("3651d").is_err() && lifetime("1d").is_ok());
        assert!(overlap("0s").is_ok() && overlap("31d").is_err());
    }
}
