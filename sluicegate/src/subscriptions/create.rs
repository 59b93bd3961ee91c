//! `sluicegate subscriptions create | enable | disable | delete`.

use std::process::ExitCode;

use anyhow::Context;
use store::{
    DeliveryPolicy, Destination, EventBridgeDestination, EventBus, IntegrationName, QueueUrl,
    SigningSecret, SnsDestination, SqsDestination, Subscription, SubscriptionId, SubscriptionStore,
    TopicArn, WebhookDestination,
};

use super::args::{ChangeArgs, CreateArgs, DestinationArgs};
use super::{open, refused, view};
use crate::cli::Output;
use crate::commands::{print, print_json, webhook};
use crate::config::Config;
use crate::init::wall_ms;
use crate::random;

/// What one of the others does with a subscription that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Enable,
    Disable,
    Delete,
}

pub(super) async fn run(args: CreateArgs) -> anyhow::Result<ExitCode> {
    let Some((store, clients, config)) = open(&args.common.config).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let output = args.common.output;
    let secret = SigningSecret::generate(&mut random::fill);
    let destination = destination(&args.destination, &config, &secret)?;
    if !store.snapshot().await?.clients.contains_key(&args.client) {
        return refused(output, &format!("there is no client {}", args.client));
    }
    if let Some(unknown) = unknown(&args.integration, &config) {
        let known: Vec<&str> = config.integrations.iter().map(|i| i.name().as_str()).collect();
        let known = known.join(", ");
        return refused(
            output,
            &format!(
                "there is no integration {unknown}; configured are {known}; for events about the client's own destinations: --events"
            ),
        );
    }
    let signed = destination.webhook().is_some().then_some(&secret);
    let now_ms = wall_ms(&clients.time);
    let subscription = Subscription {
        id: SubscriptionId::generate(&mut random::fill),
        client: args.client,
        integrations: match args.events {
            true => vec![IntegrationName::events()],
            false => args.integration,
        },
        entity_prefix: args.entity_prefix,
        types: args.event_types,
        filter: args.filter,
        destination,
        policy: DeliveryPolicy {
            order: args.order,
            rate_per_second: args.rate,
            ..DeliveryPolicy::default()
        },
        created_at_ms: now_ms,
        version: 0,
        enabled: true,
    };
    let by = store::Change { by: &args.common.by, at_ms: now_ms };
    let subscription = store.put_as(&subscription, "subscription.create", &by).await?;
    let mut object = view::object(&subscription, now_ms);
    if let Some(secret) = signed {
        object["secret"] = secret.expose().into();
    }
    said(output, &object)
}

fn unknown<'a>(asked: &'a [IntegrationName], config: &Config) -> Option<&'a IntegrationName> {
    asked.iter().find(|name| config.integrations.index_of(name).is_none())
}

fn destination(
    args: &DestinationArgs,
    config: &Config,
    secret: &SigningSecret,
) -> anyhow::Result<Destination> {
    let role = None;
    if let Some(url) = webhook(config, args.webhook.as_deref())? {
        return Ok(Destination::Webhook(WebhookDestination::new(url, secret.clone())));
    }
    if let Some(text) = &args.sqs {
        let queue = QueueUrl::parse(text).context("--sqs")?;
        return Ok(Destination::Sqs(SqsDestination { queue, role }));
    }
    if let Some(text) = &args.sns {
        let topic = TopicArn::parse(text).context("--sns")?;
        return Ok(Destination::Sns(SnsDestination { topic, role }));
    }
    let text = args.eventbridge.as_deref().context("a destination is needed")?;
    let bus = EventBus::parse(text).context("--eventbridge")?;
    Ok(Destination::EventBridge(EventBridgeDestination { bus, role }))
}

pub(super) async fn change(args: ChangeArgs, change: Change) -> anyhow::Result<ExitCode> {
    let Some((store, clients, _)) = open(&args.common.config).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let output = args.common.output;
    let Some(found) = store.get(&args.id).await? else {
        return refused(output, &format!("there is no subscription {}", args.id));
    };
    let by = store::Change { by: &args.common.by, at_ms: wall_ms(&clients.time) };
    let object = match change {
        Change::Delete => deleted(&store, &found, &by).await?,
        Change::Enable | Change::Disable => {
            let enabled = change == Change::Enable;
            let changed = match found.enabled == enabled {
                true => found,
                // On the version that was read: what somebody else changed meanwhile is not undone.
                false => {
                    let switched = Subscription { enabled, ..found };
                    store.put_as(&switched, "subscription.change", &by).await?
                }
            };
            view::object(&changed, wall_ms(&clients.time))
        }
    };
    said(output, &object)
}

async fn deleted(
    store: &SubscriptionStore,
    found: &Subscription,
    by: &store::Change<'_>,
) -> anyhow::Result<serde_json::Value> {
    let deleted = store.delete_as(&found.id, by).await?;
    Ok(serde_json::json!({ "id": found.id.as_str(), "deleted": deleted }))
}

fn said(output: Output, object: &serde_json::Value) -> anyhow::Result<ExitCode> {
    match output {
        Output::Text => print(&view::words(object)),
        Output::Json => print_json(object)?,
    }
    Ok(ExitCode::SUCCESS)
}
