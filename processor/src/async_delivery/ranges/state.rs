//! One range: where it stands between opened and closed, and what that means for the messages of its shard.
//!
//! [`Range::way`] says what becomes of a live message: given to its destination, covered by the range
//! (settled without a write, because the range stands in the table from a place before it), or held until
//! that is certain. The item in the table begins at or before everything that the range covers, always:
//! that is all that invariant C2 rests on. Pure but for the deliveries it holds.

use std::collections::VecDeque;

use store::OpenRange;
use tokio::time::Instant;

use super::window::Window;
use crate::async_delivery::delivery::Live;
use crate::batch::Place;

/// A bound in a shard: everything before it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// Before this place.
    Before(Place),
    /// The whole shard.
    End,
}

impl Reach {
    /// Everything up to this place, and the place.
    pub(super) fn through((sequence, index): &Place) -> Reach {
        Reach::Before((sequence.clone(), index.saturating_add(1)))
    }

    pub(super) fn covers(&self, place: &Place) -> bool {
        match self {
            Reach::Before(bound) => place < bound,
            Reach::End => true,
        }
    }
}

/// Where a range stands.
#[derive(Debug)]
pub(super) enum State {
    /// It is being written; what it is to cover waits for that.
    Opening { holds: Vec<Live> },
    /// It covers everything of its shard from its start on.
    Open,
    /// What is handed out comes near to what was routed live: live messages wait at a gate until everything
    /// before `seam` is handed out.
    Gated { seam: Reach, gate: VecDeque<(Place, Live)>, since: Instant },
    /// Live messages go to their destination again; the range stays until what it handed out is settled.
    Closing,
    /// It is being removed. What the destination refuses meanwhile waits, and opens it again.
    Removing { again: Option<(Place, i64)>, holds: Vec<Live> },
    /// It is removed; live routing has still to pass what it handed out.
    Passed,
}

/// What becomes of a live message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It goes to its destination.
    Live,
    /// The range settles it.
    Covered,
    /// It waits until the range is written.
    Hold,
    /// It waits at the gate.
    Gate,
}

/// One range of one shard.
#[derive(Debug)]
pub(super) struct Range {
    /// As it is to be written next, but for where it begins.
    pub(super) item: OpenRange,
    /// Its start as far as it was opened: nothing before is covered.
    pub(super) start: (Place, i64),
    pub(super) state: State,
    /// Everything of it before this was handed out, or is not wanted.
    pub(super) cursor: Reach,
    /// When the record before the cursor arrived, in ms since 1970.
    pub(super) cursor_at_ms: i64,
    pub(super) window: Window,
    /// From the one to the other, messages went to the destination live: they are not handed out.
    pub(super) gap: Option<(Reach, Reach)>,
    pub(super) writing: bool,
    /// Failures in a row, and when the next write may be tried.
    pub(super) failures: u32,
    pub(super) not_before: Instant,
    /// What the table has: where it begins, and when that was written.
    pub(super) written: Option<(Place, Instant)>,
    pub(super) spill: super::spill::Spill,
}

impl Range {
    /// A range that stands in the table (`written`), or is to be written.
    pub(super) fn new(
        item: OpenRange,
        start: (Place, i64),
        state: State,
        written: bool,
        now: Instant,
    ) -> Range {
        Range {
            cursor: Reach::Before(start.0.clone()),
            cursor_at_ms: start.1,
            written: written.then(|| (start.0.clone(), now)),
            item,
            start,
            state,
            window: Window::default(),
            gap: None,
            writing: false,
            failures: 0,
            not_before: now,
            spill: super::spill::Spill::default(),
        }
    }

    /// What becomes of the live message at this place.
    pub(super) fn way(&self, place: &Place) -> Way {
        let handed = self.cursor.covers(place);
        match &self.state {
            // Read again from before the range by a new owner: nothing settles it but its destination.
            _ if *place < self.start.0 => Way::Live,
            State::Opening { .. } => Way::Hold,
            State::Open => Way::Covered,
            State::Gated { seam, .. } if seam.covers(place) => Way::Covered,
            State::Gated { .. } => Way::Gate,
            State::Removing { again: Some(_), .. } => Way::Hold,
            State::Closing | State::Removing { .. } | State::Passed if handed => Way::Covered,
            State::Closing | State::Removing { .. } | State::Passed => Way::Live,
        }
    }

    /// The destination does not take the live message at this place now, or gave it back.
    pub(super) fn refused(&mut self, place: &Place, arrived_at_ms: i64, live: Live) {
        let at = (place.clone(), arrived_at_ms);
        let back = Reach::Before(at.0.clone());
        match std::mem::replace(&mut self.state, State::Open) {
            State::Removing { again, mut holds } => {
                let again = again.filter(|known| known.0 <= at.0).unwrap_or(at);
                holds.push(live);
                self.state = State::Removing { again: Some(again), holds };
            }
            State::Passed => self.open_at(at, vec![live]),
            State::Opening { mut holds } => {
                holds.push(live);
                self.open_from(at, holds);
            }
            // It still stands in the table, from a place before this one; what was between went live.
            State::Closing if back >= self.cursor && at.0 >= self.start.0 => {
                self.gap = Some((self.cursor.clone(), back.clone()));
                self.cursor = back;
                self.cursor_at_ms = arrived_at_ms;
                live.settle();
            }
            // It is still to be handed out, even if others about it went live.
            State::Open if back >= self.cursor && at.0 >= self.start.0 => {
                self.gap = self.gap.take().map(|(from, to)| (from, to.min(back)));
                live.settle();
            }
            State::Open | State::Closing => self.open_from(at, vec![live]),
            State::Gated { gate, .. } => {
                gate.into_iter().for_each(|(_, waiting)| waiting.settle());
                self.refused(&at.0, arrived_at_ms, live);
            }
        }
    }

    fn open_at(&mut self, at: (Place, i64), holds: Vec<Live>) {
        self.cursor = Reach::Before(at.0.clone());
        self.cursor_at_ms = at.1;
        self.start = at;
        self.state = State::Opening { holds };
    }

    /// It has to be written anew before it covers this place: it lies before its start, or what it handed out is behind it.
    fn open_from(&mut self, at: (Place, i64), holds: Vec<Live>) {
        let begins = self.begins();
        let back = Reach::Before(at.0.clone());
        if back < self.cursor {
            self.window.recall();
            self.gap = None;
            self.cursor = back;
            self.cursor_at_ms = at.1;
        }
        self.start = if at.0 < begins.0 { at } else { begins };
        self.state = State::Opening { holds };
    }

    /// Where it begins now: nothing before is owed.
    pub(super) fn begins(&self) -> (Place, i64) {
        let cursor = match &self.cursor {
            Reach::Before(place) => Some((place.clone(), self.cursor_at_ms)),
            Reach::End => None,
        };
        let first = self.window.first().map(|(place, at_ms)| (place.clone(), at_ms));
        let spilled = self.spill.first();
        let begins = [first, spilled, cursor].into_iter().flatten().min_by(|a, b| a.0.cmp(&b.0));
        // What lies before the start was never covered; the end is reached only with nothing under way.
        begins.filter(|begins| begins.0 >= self.start.0).unwrap_or_else(|| self.start.clone())
    }

    /// Its item stands in the table, and covers what was covered once the write at `from` is done.
    pub(super) fn was_written(&mut self, from: Place, now: Instant) {
        let covers = from <= self.start.0;
        self.written = Some((from, now));
        self.failures = 0;
        if covers && let State::Opening { holds } = &mut self.state {
            holds.drain(..).for_each(Live::settle);
            self.state = State::Open;
        }
    }

    /// Its item is gone. True if nothing of it has to be remembered.
    pub(super) fn was_removed(&mut self, bound: &Reach) -> bool {
        self.written = None;
        match std::mem::replace(&mut self.state, State::Passed) {
            State::Removing { again: Some(at), holds } => {
                self.open_at(at, holds);
                false
            }
            _ => self.cursor <= *bound,
        }
    }

    /// Gives up the gate: what waits there is covered.
    pub(super) fn give_up_gate(&mut self) {
        if let State::Gated { gate, .. } = &mut self.state {
            gate.drain(..).for_each(|(_, live)| live.settle());
            self.state = State::Open;
        }
    }

    /// The message at this place was given to the destination already.
    pub(super) fn skips(&mut self, place: &Place) -> bool {
        let went_live = |(from, to): &(Reach, Reach)| !from.covers(place) && to.covers(place);
        self.gap.as_ref().is_some_and(went_live) || self.window.skips(place)
    }

    /// It may be handed out.
    pub(super) fn may_hand_out(&self) -> bool {
        matches!(self.state, State::Open | State::Gated { .. })
            && !self.window.is_recalled()
            && self.cursor != Reach::End
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lease_manager::SequenceNumber;
    use store::{RangeStart, SubscriptionId};

    use super::*;

    fn place(n: u32) -> Place {
        (SequenceNumber::parse("49").unwrap(), n)
    }

    fn range(state: State, written: bool) -> Range {
        let item = OpenRange {
            subscription: SubscriptionId::parse("sub").unwrap(),
            stream_arn: Arc::from("arn"),
            shard_id: Arc::from("shard"),
            hash_keys: (0, u128::MAX),
            from: RangeStart { sequence: Arc::from("49"), index: 10, arrived_at_ms: 10 },
            opened_at_ms: 0,
            lost_at_ms: 0,
            version: 1,
            fence: 1,
            claim: String::new(),
            until_ms: 0,
        };
        Range::new(item, (place(10), 10), state, written, Instant::now())
    }

    fn ways<const N: usize>(range: &Range, places: [u32; N]) -> [Way; N] {
        places.map(|n| range.way(&place(n)))
    }

    #[test]
    fn an_open_range_settles_what_lies_behind_its_start_and_nothing_before() {
        let opening = range(State::Opening { holds: Vec::new() }, false);
        assert_eq!(ways(&opening, [9, 10, 11]), [Way::Live, Way::Hold, Way::Hold]);
        let open = range(State::Open, true);
        assert_eq!(ways(&open, [9, 10, 11]), [Way::Live, Way::Covered, Way::Covered]);
    }

    #[test]
    fn a_gate_parts_what_the_range_hands_out_from_what_waits() {
        let seam = Reach::through(&place(20));
        let gated = State::Gated { seam, gate: VecDeque::new(), since: Instant::now() };
        let gated = range(gated, true);
        assert_eq!(ways(&gated, [9, 20, 21]), [Way::Live, Way::Covered, Way::Gate]);
    }

    #[test]
    fn a_closing_range_leaves_out_what_it_handed_out() {
        let mut closing = range(State::Closing, true);
        closing.cursor = Reach::through(&place(20));
        assert_eq!(ways(&closing, [9, 20, 21]), [Way::Live, Way::Covered, Way::Live]);
        closing.cursor = Reach::End;
        assert_eq!(ways(&closing, [9, 21]), [Way::Live, Way::Covered]);
        let again = Some((place(30), 30));
        closing.state = State::Removing { again, holds: Vec::new() };
        assert_eq!(ways(&closing, [30, 31]), [Way::Hold, Way::Hold]);
    }

    #[test]
    fn it_begins_at_the_first_that_is_owed_and_never_before_its_start() {
        let mut range = range(State::Open, true);
        assert_eq!(range.begins(), (place(10), 10));
        let first = range.window.hand(place(12), 12);
        let second = range.window.hand(place(14), 14);
        (range.cursor, range.cursor_at_ms) = (Reach::through(&place(14)), 14);
        assert_eq!(range.begins(), (place(12), 12));
        first.settle();
        assert_eq!(range.window.advance(), None);
        assert_eq!(range.begins(), (place(14), 14));
        second.settle();
        assert_eq!(range.window.advance(), None);
        assert_eq!(range.begins(), (place(15), 14));
    }

    #[test]
    fn what_went_live_while_it_closed_is_left_out_once() {
        let mut range = range(State::Open, true);
        range.gap = Some((Reach::Before(place(20)), Reach::Before(place(23))));
        let skipped = [19, 20, 22, 23].map(|n| range.skips(&place(n)));
        assert_eq!(skipped, [false, true, true, false]);
    }
}
