//! `init`: creates what the services need. It can be run again and again; what exists is left as it is.

use aws_smithy_async::time::SharedTimeSource;
use serde::Serialize;
use store::pattern::Pattern;
use store::{
    AccessStore, Action, ApiKey, Change, Client, ClientId, DeliveryOrder, DeliveryPolicy,
    Destination, Grant, GrantScope, KeyTerms, Pepper, SigningSecret, Subscription, SubscriptionId,
    SubscriptionStore, WebhookDestination, WebhookUrl,
};

use crate::clients::Clients;
use crate::{random, streams};

/// Shards of a stream that `--dev` creates.
const DEV_SHARDS: u32 = 2;
/// Who made it, for the audit log.
const BY: &str = "sluicegate init --dev";
/// What it does with subscriptions, likewise.
const SUBSCRIBED: &str = "subscription.create";

/// What is to exist afterwards.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The application: the name of the lease table, and what the other tables' names start with.
    pub(crate) app: String,
    /// Streams by name, each with the names of its consumers.
    pub(crate) streams: Vec<(String, Vec<String>)>,
    /// What development needs beside it.
    pub(crate) dev: Option<Dev>,
}

/// What `--dev` adds.
#[derive(Debug)]
pub(crate) struct Dev {
    /// What keys are hashed with.
    pub(crate) pepper: Pepper,
    /// Where everything is to be delivered, if anywhere.
    pub(crate) webhook: Option<WebhookUrl>,
    /// Only these event types of it.
    pub(crate) types: Vec<String>,
    /// Only what has this content.
    pub(crate) filter: Option<Pattern>,
    /// Queues, topics and buses that everything goes to as well.
    pub(crate) aws: Vec<Destination>,
    /// Shards of streams that are missing.
    pub(crate) shards: u32,
}

impl Dev {
    /// What `--dev` adds on the command line.
    pub(crate) fn new(pepper: Pepper, webhook: Option<WebhookUrl>) -> Dev {
        Dev {
            pepper,
            webhook,
            types: Vec::new(),
            filter: None,
            aws: Vec::new(),
            shards: DEV_SHARDS,
        }
    }
}

/// What exists now.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Tables, and whether they were made just now.
    pub(crate) tables: Vec<Item>,
    /// Streams and consumers, likewise.
    pub(crate) streams: Vec<Item>,
    /// The client of `--dev`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dev: Option<DevReport>,
}

/// One thing that exists.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) name: String,
    pub(crate) created: bool,
}

/// What `--dev` made: the secrets in it are shown this once.
#[derive(Serialize)]
pub(crate) struct DevReport {
    pub(crate) client: String,
    pub(crate) api_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subscription: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signing_secret: Option<String>,
    /// Those of queues, topics and buses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) aws_subscriptions: Vec<String>,
}

impl std::fmt::Debug for DevReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DevReport")
            .field("client", &self.client)
            .field("subscription", &self.subscription)
            .finish_non_exhaustive()
    }
}

/// Makes what is missing.
pub(crate) async fn run(plan: Plan, clients: &Clients) -> anyhow::Result<Report> {
    let mut tables = Vec::new();
    for table in lease_manager::create_tables(&clients.dynamodb, &plan.app).await? {
        tables.push(Item { name: table.name, created: table.created });
    }
    for table in store::create_tables(&clients.dynamodb, &plan.app).await? {
        tables.push(Item { name: table.name, created: table.created });
    }
    let shards = plan.dev.as_ref().map(|dev| dev.shards);
    let mut made = Vec::new();
    for (stream, consumers) in &plan.streams {
        let stream = streams::make(&clients.kinesis, stream, consumers, shards).await?;
        made.push(Item { name: stream.arn, created: stream.stream_created });
        made.extend(stream.consumers.into_iter().map(|(name, created)| Item { name, created }));
    }
    let dev = match plan.dev {
        Some(dev) => Some(make_dev(&plan.app, dev, clients).await?),
        None => None,
    };
    Ok(Report { tables, streams: made, dev })
}

async fn make_dev(app: &str, dev: Dev, clients: &Clients) -> anyhow::Result<DevReport> {
    let now_ms = wall_ms(&clients.time);
    let change = Change { by: BY, at_ms: now_ms };
    let access = AccessStore::new(clients.dynamodb.clone(), app, dev.pepper);
    let grant = |action| Grant::new(GrantScope::All, action);
    let client = Client {
        id: ClientId::generate(&mut random::fill),
        name: "development".to_owned(),
        grants: [Action::Read, Action::Publish, Action::Subscribe].map(grant).to_vec(),
        limits: None,
        enabled: true,
        created_at_ms: now_ms,
        version: 0,
    };
    let client = access.put_client(&client, &change).await?;
    let key = ApiKey::generate(&mut random::fill);
    let key = access.issue_key(key, &client.id, &KeyTerms::new("development"), &change).await?;
    let mut report = DevReport {
        client: client.id.to_string(),
        api_key: key.key.expose().to_owned(),
        subscription: None,
        signing_secret: None,
        aws_subscriptions: Vec::new(),
    };
    let subscriptions = SubscriptionStore::new(clients.dynamodb.clone(), app);
    if let Some(url) = dev.webhook {
        let secret = SigningSecret::generate(&mut random::fill);
        let destination = Destination::Webhook(WebhookDestination::new(url, secret.clone()));
        let subscription = Subscription {
            types: dev.types,
            filter: dev.filter,
            ..everything(&client.id, destination, now_ms)
        };
        let subscription = subscriptions.put_as(&subscription, SUBSCRIBED, &change).await?;
        report.subscription = Some(subscription.id.to_string());
        report.signing_secret = Some(secret.expose());
    }
    for destination in dev.aws {
        let subscription = everything(&client.id, destination, now_ms);
        let subscription = subscriptions.put_as(&subscription, SUBSCRIBED, &change).await?;
        report.aws_subscriptions.push(subscription.id.to_string());
    }
    Ok(report)
}

/// A client's wish for all messages from now on: in order, where the destination keeps it.
fn everything(client: &ClientId, destination: Destination, now_ms: i64) -> Subscription {
    let is_fifo = match &destination {
        Destination::Sqs(sqs) => sqs.queue.is_fifo(),
        Destination::Sns(sns) => sns.topic.is_fifo(),
        Destination::Webhook(_) | Destination::EventBridge(_) => false,
    };
    let order = if is_fifo { DeliveryOrder::Key } else { DeliveryOrder::None };
    Subscription {
        id: SubscriptionId::generate(&mut random::fill),
        client: client.clone(),
        integrations: Vec::new(),
        entity_prefix: None,
        types: Vec::new(),
        filter: None,
        destination,
        policy: DeliveryPolicy { order, ..DeliveryPolicy::default() },
        created_at_ms: now_ms,
        version: 0,
        enabled: true,
    }
}

/// Now, in ms since 1970.
pub(crate) fn wall_ms(time: &SharedTimeSource) -> i64 {
    let since = time.now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
