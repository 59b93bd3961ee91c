//! `sluicegate clients`: who may ask the API, with which keys, and whose access tokens are theirs.
//!
//! `args` is the command line, `keys` and `limits` what is done with API keys and limits, `view` how all of it is shown. It works through the access
//! table alone; every API task sees a change within two seconds. A key is shown once, where it is made.

pub(crate) mod args;
mod keys;
mod limits;
mod view;

use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};
use store::{AccessStore, Change, Client, ClientId, Pepper, StoreError, UsageStore};

use crate::cli::Output;
use crate::clients::Clients;
use crate::commands::{configuration, print, print_json};
use crate::init::wall_ms;
use crate::{random, screen};
use args::{
    BindArgs, ClientsArgs, ClientsCommand, CommonArgs, CreateArgs, GrantArgs, OAuthClientArgs,
    OneArgs, UnbindArgs,
};

/// Exit code for what cannot be done: nothing was written.
const REFUSED: u8 = 3;

/// The table, the time, and who is asking.
struct Desk {
    access: AccessStore,
    usage: UsageStore,
    now_ms: i64,
    by: String,
    output: Output,
    /// Issuers that the configuration at hand names.
    issuers: Vec<String>,
    /// Plans that it has.
    plans: Vec<String>,
}

/// What became of a command.
type Outcome = anyhow::Result<Result<Shown, Refusal>>;

/// What is shown in the end.
struct Shown {
    words: String,
    object: Value,
}

/// Why nothing was done.
struct Refusal(String);

impl Shown {
    /// The same for people and for scripts.
    fn object(object: Value) -> Shown {
        Shown { words: view::lines(&object), object }
    }
}

/// Nothing was done.
fn refuse(why: impl Into<String>) -> Outcome {
    Ok(Err(Refusal(why.into())))
}

fn no_client(id: &ClientId) -> Outcome {
    refuse(format!("there is no client {id}"))
}

/// Runs one of the commands.
pub(crate) async fn run(args: ClientsArgs) -> anyhow::Result<ExitCode> {
    use ClientsCommand::{
        Bind, Create, Disable, Enable, Grant, Issue, Limits, List, Revoke, Rotate, Show, Unbind,
    };
    let makes_a_key = match &args.command {
        Create(args) => !args.no_key,
        Issue(_) | Rotate(_) => true,
        _ => false,
    };
    let Some(desk) = Desk::open(common(&args.command), makes_a_key).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let outcome = match args.command {
        Create(args) => desk.create(args).await,
        List(_) => desk.list().await,
        Show(args) => desk.show(args).await,
        Grant(args) => desk.grant(args).await,
        Limits(args) => desk.limits(args).await,
        Issue(args) => desk.issue(args).await,
        Rotate(args) => desk.rotate(args).await,
        Revoke(args) => desk.revoke(args).await,
        Disable(args) => desk.switch(args, false).await,
        Enable(args) => desk.switch(args, true).await,
        Bind(args) => desk.bind(args).await,
        Unbind(args) => desk.unbind(args).await,
    };
    // Somebody else was there first, or the request makes no sense to the table: nothing was written.
    let outcome = outcome.or_else(|error| match error.downcast_ref::<StoreError>() {
        Some(StoreError::Conflict { .. } | StoreError::Invalid { .. }) => refuse(error.to_string()),
        _ => Err(error),
    })?;
    desk.tell(outcome)
}

fn common(command: &ClientsCommand) -> &CommonArgs {
    match command {
        ClientsCommand::Create(args) => &args.common,
        ClientsCommand::List(common) => common,
        ClientsCommand::Show(args)
        | ClientsCommand::Disable(args)
        | ClientsCommand::Enable(args) => &args.common,
        ClientsCommand::Grant(args) => &args.common,
        ClientsCommand::Limits(args) => &args.common,
        ClientsCommand::Issue(args) => &args.common,
        ClientsCommand::Rotate(args) => &args.common,
        ClientsCommand::Revoke(args) => &args.common,
        ClientsCommand::Bind(args) => &args.common,
        ClientsCommand::Unbind(args) => &args.common,
    }
}

impl Desk {
    /// `None` when the configuration was only to be printed.
    async fn open(args: &CommonArgs, makes_a_key: bool) -> anyhow::Result<Option<Desk>> {
        let Some(config) = configuration(&args.config, None)? else { return Ok(None) };
        let needed = "keys are hashed with a pepper: set SLUICEGATE_SECRETS__PEPPER, or secrets.pepper_file, to the one that the API has";
        let pepper = match &config.secrets.pepper {
            Some(secret) => Pepper::new(secret.expose()),
            None if makes_a_key => anyhow::bail!("{needed}"),
            // Nothing is hashed then.
            None => {
                let mut unused = [0; 32];
                random::fill(&mut unused);
                Pepper::new(&unused)
            }
        };
        let clients = Clients::make(&config.aws).await?;
        let access =
            AccessStore::new(clients.dynamodb.clone(), &config.app.name, pepper.context(needed)?);
        Ok(Some(Desk {
            access,
            usage: UsageStore::new(clients.dynamodb.clone(), &config.app.name),
            now_ms: wall_ms(&clients.time),
            by: args.by.clone(),
            output: args.output,
            issuers: config.api.oauth.issuers.iter().map(|issuer| issuer.issuer.clone()).collect(),
            plans: config.api.limits.plans.keys().cloned().collect(),
        }))
    }

    fn change(&self) -> Change<'_> {
        Change { by: &self.by, at_ms: self.now_ms }
    }

    fn tell(&self, outcome: Result<Shown, Refusal>) -> anyhow::Result<ExitCode> {
        match (outcome, self.output) {
            (Ok(shown), Output::Text) => print(&shown.words),
            (Ok(shown), Output::Json) => print_json(&shown.object)?,
            (Err(Refusal(why)), output) => {
                if output == Output::Json {
                    print_json(&json!({ "refused": why }))?;
                }
                screen::say(&format!("refused: {why}\n"));
                return Ok(ExitCode::from(REFUSED));
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn create(&self, args: CreateArgs) -> Outcome {
        let client = Client {
            id: args.id.unwrap_or_else(|| ClientId::generate(&mut random::fill)),
            name: args.name,
            grants: args.grant,
            limits: args.limits.change(None),
            enabled: true,
            created_at_ms: self.now_ms,
            version: 0,
        };
        let client = self.access.put_client(&client, &self.change()).await?;
        if args.no_key {
            return Ok(Ok(Shown::object(json!({ "client": client.id }))));
        }
        let key = self.make_key(&client.id, keys::terms(args.key, None)).await?;
        Ok(Ok(Shown::object(view::made(&key))))
    }

    async fn list(&self) -> Outcome {
        let clients = self.access.list_clients().await?;
        let objects: Vec<Value> = clients.iter().map(view::client).collect();
        Ok(Ok(Shown { words: view::table(&clients), object: json!({ "clients": objects }) }))
    }

    async fn show(&self, args: OneArgs) -> Outcome {
        let Some(client) = self.access.get_client(&args.id).await? else {
            return no_client(&args.id);
        };
        let mut keys = Vec::new();
        for record in self.access.list_keys(&args.id).await? {
            let used_at_ms = self.access.last_key_use(&record.id).await?;
            keys.push((record, used_at_ms));
        }
        let oauth = self.access.list_oauth(&args.id).await?;
        let used = self.used_today(&args.id).await?;
        let known = view::Known { client, keys, oauth, used };
        let words = view::words(&known, self.now_ms);
        Ok(Ok(Shown { words, object: view::object(&known, self.now_ms) }))
    }

    async fn switch(&self, args: OneArgs, enabled: bool) -> Outcome {
        let Some(client) = self.access.get_client(&args.id).await? else {
            return no_client(&args.id);
        };
        let client = Client { enabled, ..client };
        let client = self.access.put_client(&client, &self.change()).await?;
        Ok(Ok(Shown::object(json!({ "client": client.id, "enabled": client.enabled }))))
    }

    async fn grant(&self, args: GrantArgs) -> Outcome {
        let Some(mut client) = self.access.get_client(&args.id).await? else {
            return no_client(&args.id);
        };
        if args.instead {
            client.grants.clear();
        }
        for grant in args.grants {
            if !client.grants.contains(&grant) {
                client.grants.push(grant);
            }
        }
        // A write on the version that was read: what somebody else granted meanwhile is not undone.
        let client = self.access.put_client(&client, &self.change()).await?;
        let words = view::table(std::slice::from_ref(&client));
        Ok(Ok(Shown { words, object: view::client(&client) }))
    }

    async fn bind(&self, args: BindArgs) -> Outcome {
        let OAuthClientArgs { issuer, oauth_client_id } = args.oauth;
        if !self.issuers.contains(&issuer) {
            screen::say(&format!(
                "note: this configuration names no issuer {issuer} in [[api.oauth.issuers]]; the API takes tokens of those that its own names\n"
            ));
        }
        if self.access.get_client(&args.id).await?.is_none() {
            return no_client(&args.id);
        }
        let change = self.change();
        let bound = self.access.bind_oauth(&args.id, &issuer, &oauth_client_id, &change).await?;
        Ok(Ok(Shown::object(view::binding(&bound))))
    }

    async fn unbind(&self, args: UnbindArgs) -> Outcome {
        let OAuthClientArgs { issuer, oauth_client_id } = args.oauth;
        let unbound =
            self.access.unbind_oauth(&issuer, &oauth_client_id, None, &self.change()).await?;
        match unbound {
            Some(was) => Ok(Ok(Shown::object(json!({ "unbound": view::binding(&was) })))),
            None => refuse(format!("{oauth_client_id} of {issuer} is bound to no client")),
        }
    }
}
