//! One call to the store or to the dead letters, and what became of each of its items.
//!
//! A call is a task of its own: building, signing and encrypting requests is most of this
//! pipeline's work, and it is spread over the cores that way. It settles and repeats nothing
//! itself: the writer does, with what comes back.

use std::sync::Arc;

use futures::future::BoxFuture;
use store::{
    DeadLetter, DeadReason, DeliveryStore, MessageStore, PutOutcome, PutReport, StoreItem,
};
use tokio::time::Instant;

use super::notes::Notes;
use super::queue::Item;
use crate::integration::Integrations;

/// A call that came back.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) to: To,
    /// Its items, each with what became of it.
    pub(super) items: Vec<(Item, Verdict)>,
    /// Payload bytes that it was made of.
    pub(super) bytes: usize,
}

/// Where a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    /// The messages that the API reads.
    Messages,
    /// What cannot be one.
    DeadLetters,
    /// The notes of stored messages, for those who tail their integration.
    Arrivals,
}

/// What became of one item.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is kept.
    Settled,
    /// Refused for now.
    Again(String),
    /// Refused for good.
    Reject(String),
}

/// What calls are made with.
pub(super) struct Calls {
    pub(super) integrations: Arc<Integrations>,
    pub(super) messages: Arc<dyn MessageStore>,
    pub(super) deliveries: DeliveryStore,
    pub(super) notes: Arc<Notes>,
}

impl Calls {
    /// Makes a call of the items; `at_ms` is the wall clock.
    pub(super) fn start(&self, to: To, items: Vec<Item>, at_ms: i64) -> BoxFuture<'static, Done> {
        let bytes = items.iter().map(Item::bytes).sum();
        let judged = match to {
            To::Messages => self.store(items),
            To::DeadLetters => self.dead_letter(items, at_ms),
            To::Arrivals => self.announce(items, at_ms),
        };
        Box::pin(async move { Done { to, items: judged.await, bytes } })
    }

    fn store(&self, items: Vec<Item>) -> BoxFuture<'static, Vec<(Item, Verdict)>> {
        let (messages, integrations) = (Arc::clone(&self.messages), Arc::clone(&self.integrations));
        Box::pin(async move {
            let (mut batch, mut kept) =
                (Vec::with_capacity(items.len()), Vec::with_capacity(items.len()));
            for item in items {
                if let Some(message) = to_store(&item, &integrations) {
                    batch.push(message);
                    kept.push(item);
                }
            }
            let report = messages.put(&batch).await;
            judged(kept, report, Verdict::Reject)
        })
    }

    fn announce(&self, items: Vec<Item>, at_ms: i64) -> BoxFuture<'static, Vec<(Item, Verdict)>> {
        let (messages, integrations) = (Arc::clone(&self.messages), Arc::clone(&self.integrations));
        let (notes, at) = (Arc::clone(&self.notes), (at_ms, Instant::now()));
        Box::pin(async move { notes.write(&*messages, &integrations, items, at).await })
    }

    fn dead_letter(
        &self,
        items: Vec<Item>,
        at_ms: i64,
    ) -> BoxFuture<'static, Vec<(Item, Verdict)>> {
        let letters: Vec<DeadLetter> = items.iter().map(|item| self.letter(item, at_ms)).collect();
        let deliveries = self.deliveries.clone();
        Box::pin(async move {
            let report = deliveries.dead_letter(&letters).await;
            // A dead letter that is refused for good has nowhere else to go: its lane stops and says so.
            judged(items, report, Verdict::Again)
        })
    }

    fn letter(&self, item: &Item, at_ms: i64) -> DeadLetter {
        let entry = item.entry();
        let batch = &item.owner.batch.batch;
        let integration = match batch.route(entry) {
            Ok(route) => self.integrations.get(route.integration).name().clone(),
            Err(malformed) => malformed.integration.clone(),
        };
        let (reason, detail) = match &item.dead {
            Some(dead) => (dead.0, dead.1.clone()),
            None => (DeadReason::StoreRejected, String::new()),
        };
        DeadLetter {
            integration,
            reason,
            detail,
            position: batch.position(entry),
            partition_key: Arc::from(batch.partition_key(entry)),
            arrived_at_ms: entry.arrived_at_ms,
            fence: batch.shard.fence,
            attempts: item.attempts,
            payload: batch.payload(entry),
            subscription: None,
            at_ms,
        }
    }
}

/// The item as the store takes it. Only messages are queued for the store.
fn to_store(item: &Item, integrations: &Integrations) -> Option<StoreItem> {
    let batch = &item.owner.batch.batch;
    let integration = batch.integration(item.entry()).ok()?;
    Some(StoreItem {
        message: batch.message(item.entry(), integrations)?,
        retention: integrations.get(integration).retention(),
        fence: batch.shard.fence,
    })
}

/// Items that the report leaves out are let go of unsettled, which their shards' consumers see.
fn judged(
    items: Vec<Item>,
    report: PutReport,
    rejected: fn(String) -> Verdict,
) -> Vec<(Item, Verdict)> {
    let verdicts = report.outcomes.into_iter().map(|outcome| verdict(outcome, rejected));
    items.into_iter().zip(verdicts).collect()
}

pub(super) fn verdict(outcome: PutOutcome, rejected: fn(String) -> Verdict) -> Verdict {
    match outcome {
        PutOutcome::Stored => Verdict::Settled,
        PutOutcome::Retry(reason) => Verdict::Again(reason.to_string()),
        PutOutcome::Rejected(detail) => rejected(detail),
    }
}
