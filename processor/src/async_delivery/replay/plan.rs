//! What a replay reads next, and when it has read enough. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use store::{ReplayPart, ReplayPlace, ReplaySource};
use tokio::time::Instant;

use crate::batch::{Place, ShardContext};
use crate::reader::StartingAt;
use lease_manager::SequenceNumber;

/// Records' times of arrival are not strictly in order, and clocks differ: so much more is read on either side.
const SLACK_MS: i64 = 2_000;
/// Shards read at once.
pub(super) const PARALLEL_SHARDS: usize = 4;

/// What arrived from `from_ms` up to, but not at, `to_ms` (ms since 1970).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) from_ms: i64,
    pub(super) to_ms: i64,
}

impl Window {
    pub(super) fn has(self, arrived_at_ms: i64) -> bool {
        (self.from_ms..self.to_ms).contains(&arrived_at_ms)
    }

    fn start(self) -> StartingAt {
        StartingAt::AtTimestamp(self.from_ms.saturating_sub(SLACK_MS).max(0))
    }

    /// An answer of a shard after which nothing of the window can come.
    pub(super) fn is_over(self, answer: Answered) -> bool {
        let end_ms = self.to_ms.saturating_add(SLACK_MS);
        let at_tip_behind_it = answer.millis_behind == 0 && answer.answered_at_ms >= end_ms;
        answer.shard_ended
            || at_tip_behind_it
            || answer.last_arrived_ms.is_some_and(|ms| ms >= end_ms)
    }
}

/// What an answer says of where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answered {
    pub(super) shard_ended: bool,
    /// Arrival of its last record.
    pub(super) last_arrived_ms: Option<i64>,
    pub(super) millis_behind: u64,
    pub(super) answered_at_ms: i64,
}

/// A shard as the service lists it.
#[derive(Debug, Clone)]
pub(super) struct Shard {
    pub(super) context: Arc<ShardContext>,
    pub(super) parents: Vec<Arc<str>>,
}

/// Shards by their source.
pub(super) type Shards = BTreeMap<ReplaySource, Shard>;

/// The parts to begin now, beside those `open`: a shard's parents are read to their end first, so that what is parked of
/// one key is parked in stream order. A shard that the service does not list any more has nothing left.
pub(super) fn next_parts(parts: &[ReplayPart], shards: &Shards, open: &[usize]) -> Vec<usize> {
    let is_unfinished = |source: &ReplaySource| {
        parts
            .iter()
            .any(|part| part.source == *source && !part.is_done && shards.contains_key(source))
    };
    let may_begin = |part: &ReplayPart| {
        let Some(shard) = shards.get(&part.source) else { return false };
        let parent = |id: &Arc<str>| ReplaySource::Shard {
            stream_arn: Arc::clone(&shard.context.stream_arn),
            shard_id: Arc::clone(id),
        };
        !shard.parents.iter().map(parent).any(|parent| is_unfinished(&parent))
    };
    let waiting = parts.iter().enumerate().filter(|(at, part)| !part.is_done && !open.contains(at));
    let ready = waiting.filter(|(_, part)| may_begin(part)).map(|(at, _)| at);
    ready.take(PARALLEL_SHARDS.saturating_sub(open.len())).collect()
}

/// Where a shard is read from, and up to which place it was settled before.
pub(super) fn start(part: &ReplayPart, window: Window) -> (StartingAt, Option<Place>) {
    let Some(ReplayPlace::Record(sequence, index)) = &part.at else {
        return (window.start(), None);
    };
    match SequenceNumber::parse(sequence.as_str()) {
        Ok(sequence) => (StartingAt::At(sequence.clone()), Some((sequence, *index))),
        // Nothing wrote it; reading again from the beginning is always right.
        Err(_) => (window.start(), None),
    }
}

/// Lets so many things a second through, without saving up.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    free_at: Instant,
}

impl Pace {
    pub(super) fn new(per_second: u32, now: Instant) -> Pace {
        Pace { interval: Duration::from_secs(1) / per_second.max(1), free_at: now }
    }

    /// When the next `count` may pass.
    pub(super) fn reserve(&mut self, count: usize, now: Instant) -> Instant {
        let at = self.free_at.max(now);
        self.free_at = at + self.interval.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window { from_ms: 10_000, to_ms: 20_000 };

    fn answered(last_arrived_ms: Option<i64>, millis_behind: u64, answered_at_ms: i64) -> Answered {
        Answered { shard_ended: false, last_arrived_ms, millis_behind, answered_at_ms }
    }

    #[test]
    fn a_window_has_its_first_moment_and_not_its_last() {
        assert!(WINDOW.has(10_000) && WINDOW.has(19_999));
        assert!(!WINDOW.has(9_999) && !WINDOW.has(20_000));
    }

    #[test]
    fn a_shard_is_read_a_little_beyond_the_window_and_no_further() {
        assert!(!WINDOW.is_over(answered(Some(21_999), 5, 90_000)), "a straggler may follow");
        assert!(WINDOW.is_over(answered(Some(22_000), 5, 90_000)));
        assert!(WINDOW.is_over(answered(None, 0, 22_000)), "at the tip, and the tip is behind it");
        assert!(!WINDOW.is_over(answered(None, 0, 21_999)), "something may still arrive within it");
        assert!(!WINDOW.is_over(answered(None, 1, 90_000)), "an empty answer is no end");
        assert!(WINDOW.is_over(Answered { shard_ended: true, ..answered(None, 5, 0) }));
    }

    fn source(n: u32) -> ReplaySource {
        ReplaySource::Shard { stream_arn: Arc::from("arn"), shard_id: Arc::from(n.to_string()) }
    }

    fn listed(parents: &[(u32, &[u32])]) -> (Vec<ReplayPart>, Shards) {
        let shards = parents.iter().map(|(n, parents)| {
            let context = Arc::new(ShardContext {
                stream_arn: Arc::from("arn"),
                shard_id: Arc::from(n.to_string()),
                fence: 0,
                starting_hash_key: 0,
                ending_hash_key: 0,
            });
            let parents = parents.iter().map(|p| Arc::from(p.to_string())).collect();
            (source(*n), Shard { context, parents })
        });
        let parts = parents.iter().map(|(n, _)| ReplayPart::new(source(*n))).collect();
        (parts, shards.collect())
    }

    #[test]
    fn parents_come_before_their_children_and_some_at_once() {
        let (mut parts, shards) = listed(&[(0, &[]), (1, &[]), (2, &[0, 1]), (3, &[9])]);
        assert_eq!(
            next_parts(&parts, &shards, &[]),
            [0, 1, 3],
            "a parent that is gone holds up nobody"
        );
        parts[0].is_done = true;
        assert_eq!(next_parts(&parts, &shards, &[1, 3]), [] as [usize; 0]);
        parts[1].is_done = true;
        assert_eq!(next_parts(&parts, &shards, &[3]), [2]);
        let (many, shards) = listed(&[(0, &[]), (1, &[]), (2, &[]), (3, &[]), (4, &[]), (5, &[])]);
        assert_eq!(next_parts(&many, &shards, &[4]), [0, 1, 2]);
    }

    #[test]
    fn a_part_goes_on_at_the_record_that_may_be_half_done() {
        let mut part = ReplayPart::new(source(0));
        assert_eq!(start(&part, WINDOW), (StartingAt::AtTimestamp(8_000), None));
        part.at = Some(ReplayPlace::Record("4959".to_owned(), 3));
        let sequence = SequenceNumber::parse("4959").unwrap();
        assert_eq!(start(&part, WINDOW), (StartingAt::At(sequence.clone()), Some((sequence, 3))));
    }

    #[tokio::test(start_paused = true)]
    async fn the_pace_is_kept_and_nothing_is_saved_up() {
        let now = Instant::now();
        let mut pace = Pace::new(10, now);
        assert_eq!(pace.reserve(5, now), now);
        assert_eq!((pace.reserve(1, now) - now).as_millis(), 500);
        let later = now + Duration::from_secs(9);
        assert_eq!(pace.reserve(20, later), later);
        assert_eq!((pace.reserve(1, later) - later).as_millis(), 2_000);
    }
}
