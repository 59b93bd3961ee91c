//! Operators: their port, put together for a process; and `sluicegate operators`, which makes their tokens.

pub(crate) mod args;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use api::operators::{Backing, Handle, May, Options, Process, Service};
use serde_json::json;
use store::{AccessStore, DeliveryStore, OperatorToken, Pepper, UsageStore};

use crate::cli::Output;
use crate::clients::Clients;
use crate::commands::{print, print_json};
use crate::config::Config;
use crate::deliveries::redriver::Redriver;
use crate::leases::desk::FleetDesk;
use crate::{leases, random};
use args::{OperatorsArgs, OperatorsCommand, TokenArgs};

/// Takes the address of the operators' port of a process. It does not answer yet.
pub(crate) async fn bind(
    config: &Config,
    clients: &Clients,
    listen: SocketAddr,
    process: Arc<dyn Process>,
) -> anyhow::Result<(Service, Handle)> {
    let app = &config.app.name;
    let configured = config.secrets.pepper.as_ref().map(|pepper| Pepper::new(pepper.expose()));
    let makes_keys = configured.is_some();
    let pepper = match configured {
        Some(pepper) => pepper,
        // Nothing is hashed with it.
        None => {
            let mut unused = [0; 32];
            random::fill(&mut unused);
            Pepper::new(&unused)
        }
    };
    let pepper = pepper.context("secrets.pepper is too short")?;
    let backing = Backing {
        access: AccessStore::new(clients.dynamodb.clone(), app, pepper),
        makes_keys,
        usage: UsageStore::new(clients.dynamodb.clone(), app),
        deliveries: DeliveryStore::new(clients.dynamodb.clone(), app),
        redrive: Arc::new(Redriver::new(config, clients)),
        fleet: Arc::new(FleetDesk::new(leases::operator(config, clients)?, clients.time.clone())),
        time: clients.time.clone(),
        random: Arc::new(random::fill),
    };
    let mut options = Options::new(listen);
    options.operators = config.operators.operators.clone();
    options.limits.client = config.api.limits.client;
    options.limits.plans = config.api.limits.plans.clone();
    options.seed = random::seed();
    Ok(Service::bind(options, backing, process).await?)
}

/// Runs one of the commands.
pub(crate) fn run(args: OperatorsArgs) -> anyhow::Result<ExitCode> {
    let OperatorsCommand::Token(args) = args.command;
    let token = OperatorToken::generate(&mut random::fill);
    match args.output {
        Output::Text => print(&words(&args, &token)),
        Output::Json => print_json(&json!({
            "operator": args.name.as_str(),
            "token": token.expose(),
            "sha256": token.digest().to_string(),
            "may": may_word(args.may.into()),
            "config": lines(&args, &token),
        }))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn may_word(may: May) -> &'static str {
    match may {
        May::Look => "look",
        May::Change => "change",
    }
}

/// What the configuration needs to take a token.
fn lines(args: &TokenArgs, token: &OperatorToken) -> String {
    let (name, may) = (args.name.as_str(), may_word(args.may.into()));
    format!("[operators.tokens.{name}]\nsha256 = \"{}\"\nmay = \"{may}\"\n", token.digest())
}

fn words(args: &TokenArgs, token: &OperatorToken) -> String {
    format!(
        "token  {}   (shown once)\n\nFor the configuration of the processor and of the API:\n\n{}",
        token.expose(),
        lines(args, token)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::operators::{Operator, OperatorName};

    #[test]
    fn what_is_printed_for_the_configuration_takes_the_token_and_does_not_hold_it() {
        let token = OperatorToken::generate(&mut |bytes| bytes.fill(5));
        let name = OperatorName::parse("anna").unwrap();
        let args =
            TokenArgs { name: name.clone(), may: args::MayArg::Change, output: Output::Text };
        let text = lines(&args, &token);
        assert!(!text.contains(&token.expose()[4..20]));
        let file =
            std::env::temp_dir().join(format!("sluicegate-operators-{:016x}", random::seed()));
        std::fs::write(&file, text).unwrap();
        let config = Config::load(Some(&file), std::iter::empty(), &[]);
        std::fs::remove_file(&file).unwrap();
        let anna = Operator { name, digest: token.digest(), may: May::Change };
        assert_eq!(config.unwrap().operators.operators, [anna]);
        assert!(words(&args, &token).contains(token.expose()));
    }
}
