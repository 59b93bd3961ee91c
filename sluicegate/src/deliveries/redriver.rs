//! Sends dead letters again: each as `plan` has it, stored and parked first and removed then.
//!
//! A crash between the two leaves the letter there, and the next run does it again under the same ids. A letter
//! that was given up anew meanwhile is another one, and stays.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use api::operators::{Redrive, Redriven, Unanswered};
use aws_smithy_async::time::SharedTimeSource;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use processor::DecodeOptions;
use processor::integration::Integrations;
use store::{
    Class, DeadLetter, DeliveryStore, DynamoMessages, IntegrationName, MessageStore, Parked,
    ParkedDelivery, PutOutcome, StoreError, StoreItem, SubscriptionSnapshot, SubscriptionStore,
};

use super::plan::{Known, Plan, plan};
use super::wall_ms;
use crate::clients::Clients;
use crate::config::Config;

/// Letters under way at once.
const PARALLEL: usize = 8;
/// Tries of a write that the table refuses for now.
const TRIES: u32 = 6;

/// Where letters are sent to, and what is known of how.
pub(crate) struct Redriver {
    messages: DynamoMessages,
    deliveries: DeliveryStore,
    subscriptions: SubscriptionStore,
    integrations: Arc<Integrations>,
    decode: DecodeOptions,
    time: SharedTimeSource,
}

/// What became of one letter.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Messages that went to the store.
    pub(crate) stored: usize,
    /// Deliveries that are due now and were not before.
    pub(crate) parked: usize,
    /// Why it stays a dead letter.
    pub(crate) stays: Option<String>,
}

impl Redriver {
    /// Over the tables, by the integrations of this configuration.
    pub(crate) fn new(config: &Config, clients: &Clients) -> Redriver {
        let (dynamodb, app) = (&clients.dynamodb, &config.app.name);
        Redriver {
            messages: DynamoMessages::new(dynamodb.clone(), app),
            deliveries: DeliveryStore::new(dynamodb.clone(), app),
            subscriptions: SubscriptionStore::new(dynamodb.clone(), app),
            integrations: Arc::clone(&config.integrations),
            decode: config.pipelines.decode.clone(),
            time: clients.time.clone(),
        }
    }

    /// Where the letters are.
    pub(crate) fn letters(&self) -> &DeliveryStore {
        &self.deliveries
    }

    /// Who wants what, at this moment.
    pub(crate) async fn subscriptions(&self) -> Result<SubscriptionSnapshot, StoreError> {
        self.subscriptions.snapshot().await
    }

    /// Sends these again, some beside each other, and tells of each in their order. With `dry_run` nothing is written.
    pub(crate) fn send<'a>(
        &'a self,
        letters: Vec<DeadLetter>,
        subscriptions: &SubscriptionSnapshot,
        now_ms: i64,
        dry_run: bool,
    ) -> impl Stream<Item = anyhow::Result<(DeadLetter, Done)>> + Send + Unpin + 'a {
        let known =
            Known { integrations: &self.integrations, decode: &self.decode, subscriptions, now_ms };
        let planned = letters.into_iter().map(|letter| {
            let plan = plan(&letter, &known);
            self.carry_out(letter, plan, dry_run).boxed()
        });
        stream::iter(planned.collect::<Vec<_>>()).buffered(PARALLEL)
    }

    async fn all(
        &self,
        letters: Vec<DeadLetter>,
        dry_run: bool,
    ) -> Result<Vec<Redriven>, Unanswered> {
        let unavailable = |why: &dyn std::fmt::Display| Unanswered::Unavailable(why.to_string());
        let subscriptions = self.subscriptions().await.map_err(|error| unavailable(&error))?;
        let now_ms = wall_ms(&self.time);
        let done = self.send(letters, &subscriptions, now_ms, dry_run).map_ok(|(_, done)| done);
        done.map_ok(|Done { stored, parked, stays }| Redriven { stored, parked, stays })
            .try_collect()
            .await
            .map_err(|error| unavailable(&format_args!("{error:#}")))
    }

    /// Does what the plan says, and removes the letter if nothing of it stays.
    async fn carry_out(
        &self,
        letter: DeadLetter,
        plan: Plan,
        dry_run: bool,
    ) -> anyhow::Result<(DeadLetter, Done)> {
        let Plan { store, park, resume, mut stays } = plan;
        let mut done = Done { stored: store.len(), parked: park.len(), stays: None };
        if !dry_run {
            if let Some(refusal) = put(&self.messages, &store).await? {
                done.stored = 0;
                stays.get_or_insert(refusal);
            }
            done.parked = match resume && resume_chains(&self.deliveries, &park).await? {
                true => park.len(),
                false => park_all(&self.deliveries, &park).await?,
            };
            if stays.is_none() && !self.deliveries.forget_dead_letter(&letter).await? {
                stays = Some("it was given up again meanwhile".to_owned());
            }
        }
        done.stays = stays;
        Ok((letter, done))
    }
}

impl Redrive for Redriver {
    fn integrations(&self) -> Vec<IntegrationName> {
        self.integrations.iter().map(|integration| integration.name().clone()).collect()
    }

    fn redrive(
        &self,
        letters: Vec<DeadLetter>,
        dry_run: bool,
    ) -> BoxFuture<'_, Result<Vec<Redriven>, Unanswered>> {
        Box::pin(self.all(letters, dry_run))
    }
}

/// Stores messages; what the store says if it refuses one for good.
async fn put(messages: &DynamoMessages, items: &[StoreItem]) -> anyhow::Result<Option<String>> {
    let mut why = String::new();
    for round in 0..if items.is_empty() { 0 } else { TRIES } {
        if round > 0 {
            tokio::time::sleep(pause(round)).await;
        }
        let outcomes = messages.put(items).await.outcomes;
        let rejected = outcomes.iter().find_map(|outcome| match outcome {
            PutOutcome::Rejected(why) => Some(why.clone()),
            PutOutcome::Stored | PutOutcome::Retry(_) => None,
        });
        if let Some(rejected) = rejected {
            return Ok(Some(format!("the store refuses it: {rejected}")));
        }
        let again = outcomes.iter().find_map(|outcome| match outcome {
            PutOutcome::Retry(reason) => Some(reason.to_string()),
            PutOutcome::Stored | PutOutcome::Rejected(_) => None,
        });
        match again {
            Some(reason) => why = reason,
            None => return Ok(None),
        }
    }
    anyhow::ensure!(items.is_empty(), "a message cannot be stored: {why}");
    Ok(None)
}

/// Parks deliveries; how many were not parked already.
async fn park_all(store: &DeliveryStore, deliveries: &[ParkedDelivery]) -> anyhow::Result<usize> {
    let mut new = 0;
    for delivery in deliveries {
        for round in 1..=TRIES {
            let outcome = store.park(std::slice::from_ref(delivery)).await.pop();
            match outcome.context("the store did not say what became of a delivery")? {
                Ok(parked) => {
                    new += usize::from(parked == Parked::New);
                    break;
                }
                Err(error) if error.class() == Class::Retry && round < TRIES => {
                    tokio::time::sleep(pause(round)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(new)
}

/// Lets the chains that stopped at these deliveries go on; false if none did: then they are parked as any others.
async fn resume_chains(
    store: &DeliveryStore,
    deliveries: &[ParkedDelivery],
) -> anyhow::Result<bool> {
    let mut resumed = false;
    for ParkedDelivery { subscription, message, due_at_ms, .. } in deliveries {
        let stream_arn = &message.position.stream_arn;
        resumed |= store.resume_chain(subscription, stream_arn, &message.id, *due_at_ms).await?;
    }
    Ok(resumed)
}

fn pause(round: u32) -> Duration {
    Duration::from_millis(100u64 << round.min(6))
}
