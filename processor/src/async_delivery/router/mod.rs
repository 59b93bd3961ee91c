//! Which subscriptions want a message: compiled once per change, asked for every message.
//!
//! Indexed by integration, then by entity prefix: a look-up costs one hash per distinct *length* of
//! prefix, whatever the number of subscriptions that do not match. What they ask of the message's content
//! is indexed in turn ([`wishes`]), and the message is read for it only where somebody asks. What an owner is
//! not granted never gets into the index. Pure; `T` is what stands for a subscription (its lane).

mod content;
#[cfg(test)]
mod tests;
mod wishes;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use store::pattern::{Answers, Reader};
use store::{IntegrationName, Message, SubscriptionId, SubscriptionSnapshot};

use super::mandate::Mandate;
use crate::batch::{Batch, Entry, Route};
use crate::integration::{Integrations, Pointer};
use content::Content;
use wishes::{Draft, Wishes};

/// The compiled subscriptions.
#[derive(Debug)]
pub(crate) struct Router<T> {
    /// What the candidates count in.
    wishes: Vec<Wish<T>>,
    /// Parallel to the compiled integrations.
    by_integration: Vec<Candidates>,
}

#[derive(Debug)]
struct Wish<T> {
    /// Messages that arrived before it are not this subscription's.
    from_ms: i64,
    lane: T,
}

/// The subscriptions of one integration.
#[derive(Debug)]
struct Candidates {
    /// Where its messages' event type is, if not where a CloudEvent has it.
    event_type: Option<Pointer>,
    any_entity: Wishes,
    by_prefix: HashMap<Box<[u8]>, Wishes>,
    /// Distinct lengths of the prefixes, rising.
    lengths: Vec<usize>,
}

/// What a router knows of an integration.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    name: IntegrationName,
    event_type: Option<Pointer>,
}

impl Known {
    /// All of them, in their configured order.
    pub(crate) fn all(integrations: &Integrations) -> Vec<Known> {
        let known = |i: &crate::integration::Integration| Known {
            name: i.name().clone(),
            event_type: i.event_type().cloned(),
        };
        integrations.iter().map(known).collect()
    }
}

/// A message that is to be routed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// Index into the compiled integrations.
    pub(crate) integration: usize,
    pub(crate) entity: &'a str,
    pub(crate) arrived_at_ms: i64,
    pub(crate) payload: &'a [u8],
}

impl<'a> Asked<'a> {
    /// An entry of a batch, by its route.
    pub(crate) fn of(batch: &'a Batch, entry: &'a Entry, route: &Route<'a>) -> Asked<'a> {
        Asked {
            integration: route.integration,
            entity: route.entity,
            arrived_at_ms: entry.arrived_at_ms,
            payload: entry.payload.bytes(&batch.arena),
        }
    }
}

/// What routing writes into; made once for many messages.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    reader: Reader,
    answers: Answers,
    found: Vec<u32>,
    unreadable: u64,
}

impl Scratch {
    /// How many messages could not be read for their content since this was asked before.
    pub(crate) fn take_unreadable(&mut self) -> u64 {
        std::mem::take(&mut self.unreadable)
    }
}

impl<T: Clone> Router<T> {
    /// Compiles subscriptions against the integrations, in their configured order.
    /// A subscription to an integration that is not configured waits without matching anything.
    pub(crate) fn compile<'a>(
        integrations: &[Known],
        mandates: impl IntoIterator<Item = (&'a Mandate, T)>,
    ) -> Router<T> {
        let mut drafts: Vec<BTreeMap<&str, Draft<'_>>> =
            integrations.iter().map(|_| BTreeMap::new()).collect();
        let mut wishes = Vec::new();
        for (number, (mandate, lane)) in (0..).zip(mandates) {
            let subscription = &mandate.subscription;
            wishes.push(Wish { from_ms: subscription.created_at_ms, lane });
            for (known, drafts) in integrations.iter().zip(&mut drafts) {
                for prefix in mandate.prefixes(&known.name) {
                    drafts.entry(prefix).or_default().add(number, subscription);
                }
            }
        }
        let compiled = integrations.iter().zip(drafts);
        let by_integration =
            compiled.map(|(known, drafts)| Candidates::compile(known, drafts)).collect();
        Router { wishes, by_integration }
    }

    /// The lanes that want this message, each once. One whose content cannot be read goes to all that ask
    /// for content: nothing is filtered out wrongly.
    pub(crate) fn matches<'a>(
        &'a self,
        asked: Asked<'_>,
        scratch: &'a mut Scratch,
    ) -> impl Iterator<Item = &'a T> {
        let Scratch { reader, answers, found, unreadable } = scratch;
        found.clear();
        if let Some(candidates) = self.by_integration.get(asked.integration) {
            let mut content = Content::new(reader, asked.payload, candidates.event_type.as_ref());
            for wishes in candidates.wishes(asked.entity.as_bytes()) {
                wishes.collect(&mut content, answers, found);
            }
            *unreadable += u64::from(content.is_unreadable());
        }
        let wishes = found.iter().map(|number| &self.wishes[*number as usize]);
        wishes.filter(move |wish| asked.arrived_at_ms >= wish.from_ms).map(|wish| &wish.lane)
    }

    /// No message can match.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_integration.iter().all(|c| c.any_entity.is_empty() && c.by_prefix.is_empty())
    }
}

impl Candidates {
    fn compile(known: &Known, mut drafts: BTreeMap<&str, Draft<'_>>) -> Candidates {
        let any_entity = drafts.remove("").unwrap_or_default().compile();
        let mut lengths: Vec<usize> = drafts.keys().map(|prefix| prefix.len()).collect();
        lengths.sort_unstable();
        lengths.dedup();
        let by_prefix = drafts.into_iter().map(|(p, draft)| (p.as_bytes().into(), draft.compile()));
        let by_prefix = by_prefix.collect();
        Candidates { event_type: known.event_type.clone(), any_entity, by_prefix, lengths }
    }

    fn wishes<'a>(&'a self, entity: &'a [u8]) -> impl Iterator<Item = &'a Wishes> {
        let fitting = self.lengths.iter().take_while(|length| **length <= entity.len());
        let prefixed = fitting.filter_map(|length| self.by_prefix.get(&entity[..*length]));
        std::iter::once(&self.any_entity).chain(prefixed)
    }
}

/// The subscriptions that get this message as things stand, by what they ask for and their owners are granted.
pub fn wanted_by(
    message: &Message,
    integrations: &Integrations,
    snapshot: &SubscriptionSnapshot,
) -> Vec<SubscriptionId> {
    let Some(integration) = integrations.index_of(&message.integration) else {
        return Vec::new();
    };
    let mandates: Vec<Mandate> = snapshot
        .subscriptions
        .iter()
        .filter_map(|subscription| Mandate::of(&Arc::new(subscription.clone()), snapshot))
        .collect();
    let numbered = mandates.iter().map(|mandate| (mandate, mandate));
    let router = Router::compile(&Known::all(integrations), numbered);
    let asked = Asked {
        integration,
        entity: message.entity.as_str(),
        arrived_at_ms: message.arrived_at_ms,
        payload: &message.payload,
    };
    let mut scratch = Scratch::default();
    let wanted = router.matches(asked, &mut scratch);
    let granted = wanted.filter(|mandate| mandate.view(message.clone()).is_some());
    granted.map(|mandate| mandate.subscription.id.clone()).collect()
}
