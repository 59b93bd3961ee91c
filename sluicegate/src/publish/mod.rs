//! What clients publish over the API, put into the stream that their integration is read from.
//!
//! The API knows only [`api::Publisher`]; this is it, over Kinesis and with the processor's own look into a
//! message. `plan` decides, `put` sends. It keeps nothing: what has no answer by the deadline is unknown.

mod metrics;
mod plan;
mod put;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::{Outcome, Outgoing, Publisher, Refusal, Unfit};
use aws_sdk_kinesis::Client;
use aws_smithy_async::time::SharedTimeSource;
use aws_smithy_types::retry::RetryConfig;
use futures::FutureExt;
use futures::future::BoxFuture;
use processor::integration::Integrations;
use store::{Entity, IntegrationName};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::clients::Clients;
use crate::config::{Config, PublishTargets, StreamRef};
use crate::init::wall_ms;
use crate::random;
use crate::streams::{self, StreamError};
use put::Sender;

/// The tables that an API of this configuration uses.
pub(crate) fn api_tables(config: &Config) -> Vec<String> {
    // Requests have keys only where there is something to publish to.
    let publishes = (!config.publish.is_empty()).then_some("-requests");
    let tables = ["-messages", "-deliveries", "-access"].into_iter().chain(publishes);
    tables.map(|name| format!("{}{name}", config.app.name)).collect()
}

/// Where published messages go; `None` if no integration can be published to.
pub(crate) fn publisher(config: &Config, clients: &Clients) -> Option<Arc<dyn Publisher>> {
    let publisher = KinesisPublisher::new(
        clients.kinesis.clone(),
        &config.publish,
        Arc::clone(&config.integrations),
        clients.time.clone(),
        config.aws.attempt_timeout,
        random::seed(),
    )?;
    Some(Arc::new(publisher))
}

/// See the module.
struct KinesisPublisher {
    /// For looking streams up, with the SDK's own retries.
    kinesis: Client,
    /// For sending: one try a call, because only some records of a call fail.
    once: Client,
    targets: BTreeMap<IntegrationName, Arc<Target>>,
    integrations: Arc<Integrations>,
    time: SharedTimeSource,
    attempt_timeout: Duration,
    /// Each request draws its pauses from a seed of its own.
    seeds: AtomicU64,
}

/// A stream that is published to.
struct Target {
    stream: StreamRef,
    /// Ids of messages are made of it. Looked up by the first that is published: an API whose clients publish
    /// nothing needs no permission.
    arn: OnceCell<Arc<str>>,
}

impl KinesisPublisher {
    fn new(
        kinesis: Client,
        targets: &PublishTargets,
        integrations: Arc<Integrations>,
        time: SharedTimeSource,
        attempt_timeout: Duration,
        seed: u64,
    ) -> Option<KinesisPublisher> {
        let retries = RetryConfig::disabled();
        let once = kinesis.config().to_builder().retry_config(retries).build();
        let mut streams: BTreeMap<&str, Arc<Target>> = BTreeMap::new();
        let mut found = BTreeMap::new();
        for (name, stream) in targets {
            let new = || Arc::new(Target { stream: stream.clone(), arn: OnceCell::new() });
            let target = streams.entry(stream.name()).or_insert_with(new);
            found.insert(name.clone(), Arc::clone(target));
        }
        (!found.is_empty()).then(|| KinesisPublisher {
            kinesis,
            once: Client::from_conf(once),
            targets: found,
            integrations,
            time,
            attempt_timeout,
            seeds: AtomicU64::new(seed),
        })
    }

    async fn send(
        &self,
        integration: &IntegrationName,
        messages: Vec<Outgoing>,
        deadline: Instant,
    ) -> Vec<Outcome> {
        let all = |refusal, count| vec![Outcome::Refused(refusal); count];
        let count = messages.len();
        let Some(target) = self.targets.get(integration) else {
            return all(Refusal::Rejected, count);
        };
        let arn = match self.arn_of(target, deadline).await {
            Ok(arn) => arn,
            Err(refusal) => return all(refusal, count),
        };
        let rng = fastrand::Rng::with_seed(self.seeds.fetch_add(1, Ordering::Relaxed));
        let sender =
            Sender { client: &self.once, arn: &arn, attempt_timeout: self.attempt_timeout };
        put::put(&sender, messages, deadline, rng).await
    }

    async fn arn_of(&self, target: &Target, deadline: Instant) -> Result<Arc<str>, Refusal> {
        let name = target.stream.name();
        let look = target.arn.get_or_try_init(|| async {
            streams::find(&self.kinesis, name).await.map(|found| Arc::from(found.arn))
        });
        let error = match tokio::time::timeout_at(deadline, look).await {
            Ok(Ok(arn)) => return Ok(Arc::clone(arn)),
            Ok(Err(error)) => error,
            Err(_) => {
                tracing::warn!(stream = name, "the stream to publish to was not found in time");
                return Err(Refusal::NotSent);
            }
        };
        tracing::error!(stream = name, %error, "the stream to publish to was not found");
        Err(match error {
            StreamError::Call { .. } => Refusal::Unavailable,
            _ => Refusal::Rejected,
        })
    }
}

impl Publisher for KinesisPublisher {
    fn takes(&self, integration: &IntegrationName) -> bool {
        self.targets.contains_key(integration)
    }

    fn examine(
        &self,
        integration: &IntegrationName,
        partition_key: Option<&str>,
        payload: &[u8],
    ) -> Result<Entity, Unfit> {
        let now_ms = wall_ms(&self.time);
        processor::examine(&self.integrations, integration, partition_key, payload, now_ms)
            .map_err(in_the_apis_words)
    }

    fn publish<'a>(
        &'a self,
        integration: &'a IntegrationName,
        messages: Vec<Outgoing>,
        deadline: Instant,
    ) -> BoxFuture<'a, Vec<Outcome>> {
        self.send(integration, messages, deadline).boxed()
    }
}

fn in_the_apis_words(unfit: processor::Unfit) -> Unfit {
    match unfit {
        processor::Unfit::NotJson(found) => Unfit::NotJson(found),
        processor::Unfit::Elsewhere => Unfit::Elsewhere,
        processor::Unfit::Malformed(_, found) => Unfit::Malformed(found),
        processor::Unfit::NoKey => Unfit::NoKey,
    }
}
