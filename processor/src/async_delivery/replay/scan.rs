//! Reading the shards of a range, a few at once, by polling beside their live readers.
//!
//! It goes in rounds: an answer of each open shard, all of which are worked off before the next round. So nothing is
//! left half read on a connection, and no more is held than one answer a shard, charged to a budget of its own.

use std::sync::Arc;

use aws_smithy_async::time::SharedTimeSource;
use futures::future::join_all;
use store::{ReplayPart, ReplaySource};

use super::plan::{Answered, Shards, Window, next_parts, start};
use crate::batch::{Batch, Entry, Place};
use crate::budget::{Budget, Permit};
use crate::clock::wall_ms;
use crate::decode::{DecodeOptions, decode};
use crate::integration::Integrations;
use crate::polling::Poller;
use crate::reader::{ReadError, Readers};

/// What shards are read with.
#[derive(Clone)]
pub(super) struct ScanParts {
    pub(super) readers: Arc<Readers>,
    pub(super) budget: Budget,
    pub(super) integrations: Arc<Integrations>,
    pub(super) decode: DecodeOptions,
    pub(super) time: SharedTimeSource,
    pub(super) seed: u64,
}

/// The shards that are open.
pub(super) struct Scan {
    parts: ScanParts,
    window: Window,
    shards: Shards,
    open: Vec<Open>,
}

struct Open {
    /// Index into the replay's parts.
    part: usize,
    poller: Poller,
    /// What was settled before, until it was seen.
    skip_to: Option<Place>,
}

/// An answer of one shard.
pub(super) struct Answer {
    /// Index into the replay's parts.
    pub(super) part: usize,
    pub(super) batch: Batch,
    pub(super) skip_to: Option<Place>,
    /// Nothing of the window is behind it.
    pub(super) is_last: bool,
    #[allow(dead_code, reason = "held until the answer is worked off")]
    permit: Option<Permit>,
}

impl Answer {
    /// The entries that are not settled yet, in stream order.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.batch.entries[self.batch.first_unsettled(self.skip_to.as_ref())..]
    }
}

impl Scan {
    pub(super) fn new(parts: ScanParts, window: Window, shards: Shards) -> Scan {
        Scan { parts, window, shards, open: Vec::new() }
    }

    /// Marks as done the parts whose shards the service does not have any more, and opens some of the others. False
    /// once nothing is open: all are done.
    pub(super) fn open(&mut self, parts: &mut [ReplayPart]) -> bool {
        for part in parts.iter_mut() {
            part.is_done |= !self.shards.contains_key(&part.source);
        }
        let open: Vec<usize> = self.open.iter().map(|open| open.part).collect();
        for at in next_parts(parts, &self.shards, &open) {
            match self.poller(&parts[at]) {
                Some((poller, skip_to)) => self.open.push(Open { part: at, poller, skip_to }),
                None => parts[at].is_done = true,
            }
        }
        !self.open.is_empty()
    }

    fn poller(&self, part: &ReplayPart) -> Option<(Poller, Option<Place>)> {
        let (context, (from, skip_to)) =
            (&self.shards.get(&part.source)?.context, start(part, self.window));
        let (budget, seed) = (self.parts.budget.clone(), self.parts.seed ^ seed_of(&part.source));
        let poller = self.parts.readers.poller(context, from, budget, seed)?;
        Some((poller, skip_to))
    }

    /// The next answer of every open shard. Those that are read to their end are closed.
    ///
    /// Cancel safe: what a dropped round had received is asked for again.
    ///
    /// # Errors
    /// When a shard cannot be read, in words. One that has disappeared has ended.
    pub(super) async fn round(&mut self) -> Result<Vec<(usize, Option<Answer>)>, String> {
        let time = &self.parts.time;
        let asked = self.open.iter_mut().map(|open| async move {
            let read = open.poller.next().await;
            (read, wall_ms(time))
        });
        let mut answers = Vec::new();
        for (at, (read, answered_at_ms)) in join_all(asked).await.into_iter().enumerate() {
            let (part, skip_to) = (self.open[at].part, self.open[at].skip_to.clone());
            let mut raw = match read {
                Ok(raw) => raw,
                Err(ReadError::NotFound { .. }) => {
                    answers.push((part, None));
                    continue;
                }
                Err(error) => return Err(error.to_string()),
            };
            // It counts until the messages are parked, not only until they are decoded.
            let permit = raw.permit.take();
            let batch = decode(raw, &self.parts.integrations, &self.parts.decode);
            let is_last = self.window.is_over(Answered {
                shard_ended: batch.shard_ended,
                last_arrived_ms: batch.entries.last().map(|entry| entry.arrived_at_ms),
                millis_behind: batch.millis_behind_latest,
                answered_at_ms,
            });
            answers.push((part, Some(Answer { part, batch, skip_to, is_last, permit })));
        }
        let over = |part| {
            answers.iter().any(|(at, answer): &(usize, Option<Answer>)| {
                *at == part && answer.as_ref().is_none_or(|answer| answer.is_last)
            })
        };
        self.open.retain(|open| !over(open.part));
        for open in &mut self.open {
            open.skip_to = None;
        }
        Ok(answers)
    }
}

/// A number that differs from shard to shard, for jitter.
fn seed_of(source: &ReplaySource) -> u64 {
    source.to_string().bytes().fold(7, |hash: u64, byte| hash.wrapping_mul(31) ^ u64::from(byte))
}
