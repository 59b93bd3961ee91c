//! What became of what was to be pushed: what waits, what was given up, and what became of one message.
//!
//! A client sees the deliveries of its own subscriptions. Of a message itself it is told no more than it may see: here no
//! payload is shown at all, and an entity only where it is granted as things stand.

use futures::future::FutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use store::pattern::Reader;
use store::{
    Action, Client, DeadReason, DeliveryCase, DeliveryKey, Exposure, GivenUp, IntegrationName,
    Locator, Message, MessageId, ParkedSummary, Subscription, SubscriptionId, authorise,
};

use super::{ManageError, Manager};
use crate::audit;

/// Separates these cursors from every other kind of token.
const DOMAIN: &str = "sluicegate api deliveries v1";
/// Integrations that are looked through for one page.
const MAX_INTEGRATIONS: usize = 10;
/// Subscriptions of a client that one message is looked up for.
const MAX_SUBSCRIPTIONS: usize = 100;
/// Of them, at once.
const PARALLEL: usize = 8;

/// What is kept of deliveries that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KeptState {
    /// They wait for their next attempt.
    Waits,
    /// They are dead letters.
    GivenUp,
}

/// Some of one subscription's.
#[derive(Debug)]
pub(crate) enum Kept {
    /// Each with its entity, if the client may see it.
    Waiting(Vec<(ParkedSummary, bool)>),
    GivenUp(Vec<GivenUp>),
}

/// One message, and what became of it for each of the client's subscriptions.
#[derive(Debug)]
pub(crate) struct Traced {
    pub(crate) id: MessageId,
    /// Not at hand when only its id was given.
    pub(crate) message: Option<Message>,
    pub(crate) cases: Vec<DeliveryCase>,
}

/// A place in a list of deliveries: it carries the question, so that it fits no other.
#[derive(Serialize, Deserialize)]
struct Place {
    subscription: SubscriptionId,
    state: KeptState,
    /// How many integrations are done with; of what was given up only.
    done: usize,
    after: Option<String>,
}

impl Manager {
    /// A page of what is kept of a subscription's deliveries, and the cursor of the next one.
    pub(crate) async fn kept_deliveries(
        &self,
        client: &Client,
        subscription: &str,
        state: KeptState,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<(Kept, Option<String>), ManageError> {
        let subscription = self.subscription(client, subscription).await?;
        let id = subscription.id.clone();
        let mut place = Place { subscription: id, state, done: 0, after: None };
        if let Some(cursor) = cursor {
            place = self.place(cursor, place)?;
        }
        match state {
            KeptState::Waits => self.waiting(client, place, limit).await,
            KeptState::GivenUp => self.given_up(&subscription, place, limit).await,
        }
    }

    fn place(&self, cursor: &str, asked: Place) -> Result<Place, ManageError> {
        let opened = self.signer.open(DOMAIN, cursor).ok();
        let place = opened.and_then(|bytes| serde_json::from_slice::<Place>(&bytes).ok());
        let fits = |place: &Place| {
            (&place.subscription, place.state) == (&asked.subscription, asked.state)
        };
        place.filter(fits).ok_or_else(|| ManageError::Parameter {
            name: "cursor",
            found: cursor.to_owned(),
            allowed: "the next of an earlier page of this subscription and state, unchanged",
        })
    }

    fn cursor(&self, place: &Place) -> Result<String, ManageError> {
        match serde_json::to_vec(place) {
            Ok(content) => Ok(self.signer.seal(DOMAIN, &content)),
            Err(error) => {
                tracing::error!(%error, "a cursor has no JSON form");
                Err(ManageError::Internal)
            }
        }
    }

    async fn waiting(
        &self,
        client: &Client,
        mut place: Place,
        limit: usize,
    ) -> Result<(Kept, Option<String>), ManageError> {
        let (id, after) = (&place.subscription, place.after.as_deref());
        let page = self.with.deliveries.list(id, after, limit).await?;
        place.after = page.next;
        let next = place.after.is_some().then(|| self.cursor(&place)).transpose()?;
        let rows = page.deliveries.into_iter().map(|row| {
            let seen = sees_entity(client, &row);
            (row, seen)
        });
        Ok((Kept::Waiting(rows.collect()), next))
    }

    async fn given_up(
        &self,
        subscription: &Subscription,
        mut place: Place,
        limit: usize,
    ) -> Result<(Kept, Option<String>), ManageError> {
        let names = self.integrations_of(subscription);
        let (mut found, now_ms): (Vec<GivenUp>, _) = (Vec::new(), self.now_ms());
        for _ in 0..MAX_INTEGRATIONS {
            let Some(name) = names.get(place.done) else { break };
            let (id, after) = (&place.subscription, place.after.as_deref());
            let left = limit - found.len();
            let page = self.with.deliveries.given_up(name, id, after, left, now_ms).await?;
            // What a client is not granted any more does not exist for it.
            found.extend(
                page.given_up.into_iter().filter(|one| one.reason != DeadReason::NotGranted),
            );
            place.done += usize::from(page.next.is_none());
            place.after = page.next;
            if place.after.is_some() || found.len() == limit {
                break;
            }
        }
        let next = (place.done < names.len()).then(|| self.cursor(&place)).transpose()?;
        Ok((Kept::GivenUp(found), next))
    }

    /// Those that a subscription may have dead letters of.
    fn integrations_of(&self, subscription: &Subscription) -> Vec<IntegrationName> {
        match subscription.integrations.is_empty() {
            false => subscription.integrations.clone(),
            true => self.integrations.iter().cloned().chain([IntegrationName::events()]).collect(),
        }
    }

    /// What became of a message, by its locator or its id, for all of the client's subscriptions or for one. By its id
    /// alone only what waits, or was attempted, is found.
    pub(crate) async fn trace(
        &self,
        client: &Client,
        message: &str,
        only: Option<&str>,
    ) -> Result<Traced, ManageError> {
        let subscriptions = match only {
            Some(id) => vec![self.subscription(client, id).await?],
            None => self.subscriptions(client, None, MAX_SUBSCRIPTIONS).await?.0,
        };
        match MessageId::parse(message) {
            Ok(id) => self.trace_id(id, &subscriptions).await,
            Err(_) => self.trace_message(client, message, &subscriptions).await,
        }
    }

    async fn trace_id(
        &self,
        id: MessageId,
        subscriptions: &[Subscription],
    ) -> Result<Traced, ManageError> {
        let mut cases = self.cases(&id, None, &[], None, subscriptions).await?;
        let known =
            |case: &DeliveryCase| case.trace.parked.is_some() || !case.trace.attempts.is_empty();
        cases.retain(known);
        match cases.is_empty() {
            true => Err(ManageError::NotFound),
            false => Ok(Traced { id, message: None, cases }),
        }
    }

    async fn trace_message(
        &self,
        client: &Client,
        locator: &str,
        subscriptions: &[Subscription],
    ) -> Result<Traced, ManageError> {
        let locator = Locator::decode(&self.signer, locator).map_err(|_| ManageError::NotFound)?;
        let found = self.messages.get(&locator, self.now_ms(), false).await?;
        let message = found.ok_or(ManageError::NotFound)?;
        if !is_seen(client, &message) {
            audit::message_outside_grant(client, Action::Subscribe, &message.integration);
            return Err(ManageError::NotFound);
        }
        let wanted = self.with.rules.wanted_by(&message, client, subscriptions);
        let deliveries = &self.with.deliveries;
        let settled = deliveries.settled_by(&message.position, message.arrived_at_ms).await?;
        let id = message.id.clone();
        let cases = self.cases(&id, Some(&message), &wanted, settled, subscriptions).await?;
        Ok(Traced { id, message: Some(message), cases })
    }

    async fn cases(
        &self,
        id: &MessageId,
        message: Option<&Message>,
        wanted: &[SubscriptionId],
        settled_by_ms: Option<i64>,
        subscriptions: &[Subscription],
    ) -> Result<Vec<DeliveryCase>, ManageError> {
        let now_ms = self.now_ms();
        let placed = message.map(|m| (m, self.with.rules.hash_key(&m.partition_key)));
        let traces: Vec<_> = subscriptions
            .iter()
            .map(|subscription| {
                let subscription = subscription.id.clone();
                let key = DeliveryKey { subscription: subscription.clone(), message: id.clone() };
                async move {
                    let trace = self.with.deliveries.trace(&key, placed, now_ms).await?;
                    let wanted = message.is_some().then(|| wanted.contains(&subscription));
                    Ok::<_, ManageError>(DeliveryCase {
                        subscription,
                        wanted,
                        trace,
                        settled_by_ms,
                        now_ms,
                    })
                }
                .boxed()
            })
            .collect();
        stream::iter(traces).buffered(PARALLEL).try_collect().await
    }
}

/// The client may see the entity of what waits for it: all of its messages are granted.
fn sees_entity(client: &Client, row: &ParkedSummary) -> bool {
    row.integration.is_events()
        || (client.sees_whole_entities(Action::Subscribe, &row.integration)
            && authorise(client, Action::Subscribe, &row.integration, Some(&row.entity))
                .is_allowed())
}

/// The client may read the message, or have it pushed, or a part of it.
fn is_seen(client: &Client, message: &Message) -> bool {
    let (integration, entity) = (&message.integration, &message.entity);
    [Action::Read, Action::Subscribe].into_iter().any(|action| {
        let reader = &mut Reader::default();
        client.exposure(action, integration, entity, &message.payload, reader) != Exposure::Hidden
    })
}
