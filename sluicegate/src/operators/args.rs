//! The command line of `sluicegate operators`.

use api::operators::{May, OperatorName};
use clap::{Args, Subcommand, ValueEnum};

use crate::cli::Output;

const TOKEN_HELP: &str = "\
Example:
  sluicegate operators token anna
  sluicegate operators token deploy --may change --output json | jq -r .token

The token is shown this once; the configuration holds its SHA-256 alone. It reads no configuration and writes nothing.
docs/operators.md says how the port is reached.";

/// Options of `operators`.
#[derive(Debug, Args)]
pub(crate) struct OperatorsArgs {
    #[command(subcommand)]
    pub(crate) command: OperatorsCommand,
}

/// What to do about operators.
#[derive(Debug, Subcommand)]
pub(crate) enum OperatorsCommand {
    /// Makes a token for the operators' port, and prints what the configuration needs to take it.
    #[command(after_help = TOKEN_HELP)]
    Token(TokenArgs),
}

/// Options of `operators token`.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// Whose it is: 1 to 64 letters, digits, _ and -. The audit names them so.
    #[arg(value_name = "NAME", value_parser = name)]
    pub(crate) name: OperatorName,
    /// What it is good for.
    #[arg(long, value_enum, default_value_t = MayArg::Look)]
    pub(crate) may: MayArg,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MayArg {
    /// For what changes nothing.
    Look,
    /// For everything.
    Change,
}

impl From<MayArg> for May {
    fn from(may: MayArg) -> May {
        match may {
            MayArg::Look => May::Look,
            MayArg::Change => May::Change,
        }
    }
}

fn name(text: &str) -> Result<OperatorName, String> {
    let allowed = || format!("{text:?}: allowed is 1 to 64 letters, digits, _ and -");
    OperatorName::parse(text).ok_or_else(allowed)
}
