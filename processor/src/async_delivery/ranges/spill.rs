//! What becomes of a range that the stream is about to lose: its oldest messages are parked one by one, up to
//! so many for a subscription, and what is more is given up with one letter for all of it. Pure.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use store::{DeadLetter, DeadReason, IntegrationName, OpenRange, Position};

use crate::batch::Place;

/// Spilling begins when this part of the stream's retention is left, or three hours, whichever is less.
const AHEAD_PART: i64 = 8;
const MOST_AHEAD_MS: i64 = 3 * 3_600 * 1_000;
/// What is parked for the subscription is counted again after such a part of its cap, because other shards' ranges are spilled too.
const PORTIONS: usize = 20;
/// Beside the messages of its place, and the losses of both lanes.
const LETTER_INDEX: u32 = u32::MAX - 2;

/// How the spilling of one range stands.
#[derive(Debug, Default)]
pub(super) struct Spill {
    /// Its oldest messages are about to be lost.
    pub(super) active: bool,
    /// How many more may be parked; nobody knows before they were counted.
    room: Option<usize>,
    /// As many are parked as may be.
    is_full: bool,
    /// What was given up, and is not written down yet.
    span: Option<Span>,
}

/// Messages that were given up, from one to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    first: (Place, i64),
    last: (Place, i64),
    /// Nobody knows of what the stream has lost already.
    count: Option<u64>,
}

/// How long before a loss a range of this retention is spilled, in ms.
pub(super) fn ahead_ms(retention: Duration) -> i64 {
    let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    (retention_ms / AHEAD_PART).min(MOST_AHEAD_MS)
}

impl Spill {
    /// Looks whether to spill: `left_ms` is how long the stream keeps what was not handed out. It goes on until half as much
    /// again is left, so that what is given up is told in few letters.
    /// True when it begins.
    pub(super) fn look(&mut self, left_ms: i64, retention: Duration) -> bool {
        let ahead = ahead_ms(retention);
        let limit = if self.active { ahead.saturating_add(ahead / 2) } else { ahead };
        let before = std::mem::replace(&mut self.active, left_ms < limit);
        if !self.active {
            self.room = None;
            self.is_full = false;
        }
        self.active && !before
    }

    /// So many are parked for the subscription, of at most `cap`.
    pub(super) fn counted(&mut self, parked: usize, cap: usize) {
        let left = cap.saturating_sub(parked);
        self.is_full = left == 0;
        self.room = Some(left.min(cap.div_ceil(PORTIONS)));
    }

    /// How many messages may be parked or given up before the next count; none before the first.
    pub(super) fn most(&self) -> usize {
        self.room.map_or(0, |room| if self.is_full { usize::MAX } else { room })
    }

    /// One message is parked, if there is room.
    pub(super) fn takes_room(&mut self) -> bool {
        let Some(room) = self.room.as_mut().filter(|room| **room > 0) else { return false };
        *room -= 1;
        if *room == 0 {
            self.room = None;
        }
        true
    }

    /// One message is given up.
    pub(super) fn give_up(&mut self, place: &Place, arrived_at_ms: i64) {
        let at = (place.clone(), arrived_at_ms);
        match &mut self.span {
            Some(span) => (span.last, span.count) = (at, span.count.map(|count| count + 1)),
            None => self.span = Some(Span { first: at.clone(), last: at, count: Some(1) }),
        }
    }

    /// The stream has lost what stood between the two places, if anything did.
    pub(super) fn lost(&mut self, from: (Place, i64), before: (Place, i64)) {
        let first = self.span.take().map_or(from, |span| span.first);
        self.span = Some(Span { first, last: before, count: None });
    }

    /// How much there is has to be counted before anything may be spilled.
    pub(super) fn wants_count(&self) -> bool {
        self.active && self.room.is_none()
    }

    /// Where what is not written down yet begins.
    pub(super) fn first(&self) -> Option<(Place, i64)> {
        self.span.as_ref().map(|span| span.first.clone())
    }

    /// A letter is due: the stretch that was given up has ended.
    pub(super) fn owes_letter(&self) -> bool {
        self.span.as_ref().is_some_and(|span| !self.active || span.count.is_none())
    }

    /// The letter of what was given up.
    pub(super) fn letter(&self, of: &Notice<'_>) -> Option<DeadLetter> {
        let Span { first, last, count } = self.span.as_ref()?;
        let why = match count {
            Some(count) => format!(
                "{count} messages were given up: the stream was about to lose them, and as many as may be are parked"
            ),
            None => "the stream has lost what stood there, if anything did".to_owned(),
        };
        let upto = serde_json::json!({ "sequence": last.0.0.as_str(), "index": last.0.1, "arrived_at_ms": last.1 });
        Some(of.letter(first, upto, *count, why))
    }

    /// It was written.
    pub(super) fn told(&mut self) {
        self.span = None;
    }
}

/// What a letter about a range says beside its span.
pub(super) struct Notice<'a> {
    pub(super) range: &'a OpenRange,
    pub(super) integration: &'a IntegrationName,
    pub(super) now_ms: i64,
}

impl Notice<'_> {
    /// The range is given up whole.
    pub(super) fn all_given_up(&self, from: &(Place, i64), why: &str) -> DeadLetter {
        self.letter(from, serde_json::Value::Null, None, why.to_owned())
    }

    fn letter(
        &self,
        from: &(Place, i64),
        upto: serde_json::Value,
        count: Option<u64>,
        why: String,
    ) -> DeadLetter {
        let OpenRange { subscription, stream_arn, shard_id, opened_at_ms, fence, .. } = self.range;
        let ((sequence, index), arrived_at_ms) = from;
        let payload = serde_json::json!({
            "subscription": subscription.as_str(),
            "stream": &**stream_arn,
            "shard": &**shard_id,
            "from": { "sequence": sequence.as_str(), "index": index, "arrived_at_ms": arrived_at_ms },
            "upto": upto,
            "messages": count,
            "opened_at_ms": opened_at_ms,
            "at_ms": self.now_ms,
        });
        DeadLetter {
            integration: self.integration.clone(),
            reason: DeadReason::RangeGivenUp,
            detail: format!("{shard_id} from {sequence}/{index} for {subscription}: {why}"),
            position: Position {
                stream_arn: Arc::clone(stream_arn),
                shard_id: Arc::clone(shard_id),
                sequence: Arc::from(sequence.as_str()),
                index: LETTER_INDEX,
            },
            partition_key: Arc::from(""),
            arrived_at_ms: *arrived_at_ms,
            fence: *fence,
            attempts: 0,
            payload: Bytes::from(payload.to_string()),
            subscription: Some(subscription.clone()),
            at_ms: self.now_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use lease_manager::SequenceNumber;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3_600);
    const HOUR_MS: i64 = 3_600 * 1_000;

    #[test]
    fn spilling_begins_three_hours_ahead_and_goes_on_for_a_stretch() {
        let mut spill = Spill::default();
        assert!(!spill.look(3 * HOUR_MS, DAY) && !spill.active);
        assert!(spill.look(3 * HOUR_MS - 1, DAY) && spill.active);
        assert!(!spill.look(3 * HOUR_MS - 1, DAY), "said once");
        spill.look(4 * HOUR_MS, DAY);
        assert!(spill.active, "half as much again");
        spill.look(5 * HOUR_MS, DAY);
        assert!(!spill.active);
        assert_eq!(ahead_ms(Duration::from_secs(80)), 10_000);
    }

    #[test]
    fn what_is_beyond_the_room_is_one_span() {
        let place = |n| (SequenceNumber::parse("49").unwrap(), n);
        let mut spill = Spill { active: true, ..Spill::default() };
        assert!(spill.wants_count() && spill.most() == 0);
        spill.counted(39, 40);
        assert_eq!(spill.most(), 1);
        assert!(spill.takes_room() && spill.wants_count(), "others may have parked some meanwhile");
        spill.counted(40, 40);
        assert!(!spill.takes_room() && spill.most() == usize::MAX);
        (3..6).for_each(|n| spill.give_up(&place(n), i64::from(n)));
        assert_eq!(spill.first(), Some((place(3), 3)));
        assert!(!spill.owes_letter(), "not before the stretch ends");
        let span = Span { first: (place(3), 3), last: (place(5), 5), count: Some(3) };
        assert_eq!(spill.span, Some(span));
        spill.look(i64::MAX, DAY);
        assert!(spill.owes_letter() && spill.room.is_none());
    }
}
