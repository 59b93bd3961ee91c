//! The ends of messages that routing did not read: read once, when somebody wants all of a message.
//!
//! Routing stops where a route is decided. Whoever stores or delivers promises that a message is
//! JSON as a whole, so the first of them has the rest of the batch's messages read; those that are
//! broken behind their fields are malformed from then on, for both lanes alike.

use std::sync::OnceLock;

use store::{DeadReason, IntegrationName};

use super::{Batch, Entry, Found, Malformed};
use crate::decode;

/// What is known of the ends of a batch's messages.
#[derive(Debug)]
pub(crate) struct Tails {
    /// Whose dead letters what is no JSON goes to.
    integration: IntegrationName,
    /// Where the payloads of broken messages begin, in the order of the arena. Set by whichever lane
    /// asks first; the other one waits for it, and neither is async meanwhile.
    broken: OnceLock<Vec<(usize, Malformed)>>,
}

impl Tails {
    /// Nothing is known yet.
    pub(crate) fn new(integration: IntegrationName) -> Tails {
        Tails { integration, broken: OnceLock::new() }
    }

    /// Why the entry, as a whole, is no message; `None` when its end is as it should be.
    pub(super) fn broken(&self, batch: &Batch, entry: &Entry) -> Option<&Malformed> {
        let broken = self.broken.get_or_init(|| self.read(batch));
        if broken.is_empty() {
            return None;
        }
        let start = entry.payload.range().start;
        let at = broken.binary_search_by_key(&start, |(start, _)| *start).ok()?;
        // A record without bytes may begin where a message does.
        (!entry.payload.is_empty()).then(|| &broken[at].1)
    }

    fn read(&self, batch: &Batch) -> Vec<(usize, Malformed)> {
        let broken = |entry: &Entry| {
            let Found::Message { is_whole: false, .. } = entry.found else { return None };
            let detail = decode::read_to_end(entry.payload.bytes(&batch.arena)).err()?;
            let integration = self.integration.clone();
            let malformed = Malformed { reason: DeadReason::NotJson, detail, integration };
            Some((entry.payload.range().start, malformed))
        };
        let mut broken: Vec<_> = batch.entries.iter().filter_map(broken).collect();
        broken.sort_unstable_by_key(|(start, _)| *start);
        decode::count_malformed(DeadReason::NotJson, broken.len());
        broken
    }
}
