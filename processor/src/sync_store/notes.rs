//! Notes of what was stored, for those who tail an integration: written when messages are stored and before they are
//! settled, so that of what is settled nothing is missing there.
//!
//! A reader looks for notes around their time, and no longer. So a note is good only if it was written within
//! [`ARRIVALS_WITHIN`] of the time that it carries; otherwise its items are noted again, with another time: what is noted
//! twice is seen twice, and nothing is overlooked. Integrations without `tail` come by here not at all.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use store::{ARRIVALS_WITHIN, ArrivalRow, Arrivals, Locator, MessageStore, pack_arrivals};
use tokio::time::Instant;

use super::call::{Verdict, verdict};
use super::queue::{Fill, Item};
use crate::integration::Integrations;

/// A note costs a write whether it is of one message or of eight, and nobody waits for it but the position.
pub(super) const FILL: Fill = Fill { items: 500, linger: Duration::from_millis(25) };
/// Calls beside each other.
pub(super) const PARALLEL: usize = 8;

/// See the module.
pub(super) struct Notes {
    /// This process among all that write notes.
    writer: u64,
    /// By integration; `None` for those that nobody may tail. Empty where that is all of them.
    numbers: Vec<Option<AtomicU32>>,
}

impl Notes {
    pub(super) fn new(writer: u64, integrations: &Integrations) -> Notes {
        let number = |tail: bool| tail.then(AtomicU32::default);
        let mut numbers: Vec<_> = integrations.iter().map(|i| number(i.tail())).collect();
        if numbers.iter().all(Option::is_none) {
            numbers.clear();
        }
        Notes { writer, numbers }
    }

    /// A stored message is to be noted.
    pub(super) fn wants(&self, item: &Item) -> bool {
        let tailed = |at: usize| self.numbers.get(at).is_some_and(Option::is_some);
        !self.numbers.is_empty()
            && item.owner.batch.batch.integration(item.entry()).is_ok_and(tailed)
    }

    /// Notes these items; `at_ms` is what the wall clock said at `began`.
    pub(super) async fn write(
        &self,
        store: &dyn MessageStore,
        integrations: &Integrations,
        items: Vec<Item>,
        (at_ms, began): (i64, Instant),
    ) -> Vec<(Item, Verdict)> {
        let (items, notes) = self.plan(integrations, items, at_ms);
        let report = store.announce(&notes).await;
        let in_time = began.elapsed() <= ARRIVALS_WITHIN;
        let mut items = items.into_iter();
        let mut judged = Vec::with_capacity(items.len());
        for (note, outcome) in notes.iter().zip(report.outcomes) {
            for item in items.by_ref().take(note.places.len()) {
                let verdict = match verdict(outcome.clone(), Verdict::Again) {
                    Verdict::Settled if !in_time => {
                        Verdict::Again("noted too late to be found".to_owned())
                    }
                    verdict => verdict,
                };
                judged.push((item, verdict));
            }
        }
        judged
    }

    /// Which notes say where these items are, and the items in the notes' order.
    fn plan(
        &self,
        integrations: &Integrations,
        items: Vec<Item>,
        at_ms: i64,
    ) -> (Vec<Item>, Vec<Arrivals>) {
        let mut groups: BTreeMap<usize, (Vec<Item>, Vec<Locator>)> = BTreeMap::new();
        for item in items {
            let batch = &item.owner.batch.batch;
            let place = batch.message(item.entry(), integrations).map(|m| Locator::of(&m));
            if let (Ok(at), Some(place)) = (batch.integration(item.entry()), place) {
                let group = groups.entry(at).or_default();
                group.0.push(item);
                group.1.push(place);
            }
        }
        let (mut ordered, mut notes) = (Vec::new(), Vec::new());
        for (at, (items, places)) in groups {
            let number = || {
                let number = self.numbers.get(at).and_then(Option::as_ref);
                let number = number.map_or(0, |number| number.fetch_add(1, Ordering::Relaxed));
                ArrivalRow { at_ms, writer: self.writer, number }
            };
            ordered.extend(items);
            notes.extend(pack_arrivals(integrations.get(at).name(), places, number));
        }
        (ordered, notes)
    }
}
