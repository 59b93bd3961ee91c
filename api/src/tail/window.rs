//! Which notes a reader has given already, and where another one can go on. Pure.
//!
//! A note is found up to [`OVERLAP_MS`] after its time. So the newest stretch of that length is read again and again, and
//! what was given of it is remembered; what is older is complete. A [`Position`] is both: the time up to which
//! everything was given, and which notes behind it were.

use std::collections::BTreeSet;
use std::sync::Arc;

use store::{ARRIVALS_SKEW, ARRIVALS_WITHIN, ArrivalRow, ArrivalsFrom};

/// What is older than this is complete.
pub(crate) const OVERLAP_MS: i64 = (ARRIVALS_WITHIN.as_millis() + ARRIVALS_SKEW.as_millis()) as i64;
/// Runs in a position; with more, the rest would be given twice, which is allowed.
pub(super) const MAX_RUNS: usize = 64;
/// Notes in a position that were given in part: more than one only when another one was found before it meanwhile.
pub(super) const MAX_BEGUN: usize = 8;

/// Notes of one writer that were given, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) writer: u64,
    pub(super) first: u32,
    /// Inclusive.
    pub(super) last: u32,
}

/// A note of which the first places were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begun {
    pub(super) writer: u64,
    pub(super) number: u32,
    pub(super) taken: u32,
}

/// Everything before `base_ms` was given, and these notes behind it, some of them in part; none is later than `last_ms`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(super) base_ms: i64,
    pub(super) last_ms: i64,
    pub(super) runs: Vec<Run>,
    pub(super) begun: Vec<Begun>,
}

impl Position {
    /// Everything from a time on is wanted.
    pub(crate) fn at_ms(base_ms: i64) -> Position {
        Position { base_ms, last_ms: base_ms, runs: Vec::new(), begun: Vec::new() }
    }

    /// Notes from there on are needed to go on here.
    pub(crate) fn needs_ms(&self) -> i64 {
        self.base_ms
    }
}

/// A position within a note: what a client goes on from after one message.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    before: Arc<Position>,
    /// The note, and how many of its places were given.
    within: Option<(ArrivalRow, u32)>,
}

impl Place {
    /// Between two notes.
    pub(super) fn at(before: Arc<Position>) -> Place {
        Place { before, within: None }
    }

    /// So many places of a note were given.
    pub(super) fn within(before: &Arc<Position>, row: &ArrivalRow, taken: usize) -> Place {
        let taken = u32::try_from(taken).unwrap_or(u32::MAX);
        Place { before: Arc::clone(before), within: Some((*row, taken)) }
    }

    /// What was given before the note.
    pub(super) fn before(&self) -> &Position {
        &self.before
    }

    /// All that was given.
    pub(super) fn position(&self) -> Position {
        let mut position = (*self.before).clone();
        if let Some((row, taken)) = self.within {
            position.begun.retain(|begun| !begun.is(&row));
            position.begun.push(Begun { writer: row.writer, number: row.number, taken });
            position.last_ms = position.last_ms.max(row.at_ms);
        }
        let more = position.begun.len().saturating_sub(MAX_BEGUN);
        position.begun.drain(..more);
        position
    }
}

impl Begun {
    fn is(&self, row: &ArrivalRow) -> bool {
        (self.writer, self.number) == (row.writer, row.number)
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Window {
    base_ms: i64,
    /// Not older than the base.
    given: BTreeSet<ArrivalRow>,
    /// Given by whom this one goes on from; their times are not known, but that they are not after `claimed_until_ms`.
    claimed: Vec<Run>,
    claimed_until_ms: i64,
    begun: Vec<Begun>,
}

impl Window {
    pub(super) fn at(position: Position) -> Window {
        Window {
            base_ms: position.base_ms,
            given: BTreeSet::new(),
            claimed: position.runs,
            claimed_until_ms: position.last_ms,
            begun: position.begun,
        }
    }

    /// Where a round of reading begins.
    pub(super) fn from(&self) -> ArrivalsFrom {
        ArrivalsFrom::Time(self.base_ms)
    }

    /// How many of the note's places were given; `None` when all of them were.
    pub(super) fn taken(&self, row: &ArrivalRow) -> Option<usize> {
        let claims =
            |run: &Run| run.writer == row.writer && (run.first..=run.last).contains(&row.number);
        if row.at_ms < self.base_ms || self.given.contains(row) || self.claimed.iter().any(claims) {
            return None;
        }
        let begun = self.begun.iter().find(|begun| begun.is(row));
        Some(begun.map_or(0, |begun| begun.taken as usize))
    }

    /// All of the note was given.
    pub(super) fn give(&mut self, row: ArrivalRow) {
        if row.at_ms >= self.base_ms {
            self.given.insert(row);
        }
        self.begun.retain(|begun| !begun.is(&row));
    }

    /// All notes up to `upto` that can be found at `now_ms` were given; up to now if there is no `upto`.
    pub(super) fn settle(&mut self, upto: Option<ArrivalsFrom>, now_ms: i64) {
        let reached_ms = match upto {
            None => now_ms,
            Some(ArrivalsFrom::Time(ms)) => ms,
            Some(ArrivalsFrom::Behind(row)) => row.at_ms,
        };
        self.base_ms = self.base_ms.max(reached_ms.min(now_ms.saturating_sub(OVERLAP_MS)));
        let base = ArrivalRow { at_ms: self.base_ms, writer: 0, number: 0 };
        self.given = self.given.split_off(&base);
        if self.claimed_until_ms < self.base_ms {
            self.claimed.clear();
            self.begun.clear();
        }
    }

    /// Everything before this was given by somebody else who reads for this one.
    pub(super) fn rebase(&mut self, base_ms: i64) {
        self.settle(Some(ArrivalsFrom::Time(base_ms)), base_ms.saturating_add(OVERLAP_MS));
    }

    /// No note that was given is later.
    pub(super) fn last_ms(&self) -> i64 {
        let given = self.given.last().map_or(self.base_ms, |row| row.at_ms);
        let claims = !self.claimed.is_empty() || !self.begun.is_empty();
        if claims { given.max(self.claimed_until_ms) } else { given }
    }

    /// Where another one can go on.
    pub(super) fn position(&self) -> Position {
        let mut numbers: Vec<(u64, u32, u32)> =
            self.given.iter().map(|row| (row.writer, row.number, row.number)).collect();
        numbers.extend(self.claimed.iter().map(|run| (run.writer, run.first, run.last)));
        numbers.sort_unstable();
        let mut runs: Vec<Run> = Vec::new();
        for (writer, first, last) in numbers {
            match runs.last_mut() {
                Some(run) if run.writer == writer && first <= run.last.saturating_add(1) => {
                    run.last = run.last.max(last);
                }
                _ => runs.push(Run { writer, first, last }),
            }
        }
        runs.truncate(MAX_RUNS);
        let (base_ms, last_ms) = (self.base_ms, self.last_ms());
        Position { base_ms, last_ms, runs, begun: self.begun.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn row(at_ms: i64, writer: u64, number: u32) -> ArrivalRow {
        ArrivalRow { at_ms, writer, number }
    }

    #[test]
    fn a_note_that_is_found_late_is_given_once() {
        let mut window = Window::at(Position::at_ms(NOW - OVERLAP_MS));
        window.give(row(NOW, 1, 5));
        window.settle(None, NOW + 1_000);
        let late = row(NOW - 5_000, 2, 9);
        assert_eq!(window.taken(&late), Some(0), "another writer's, found after a newer one");
        window.give(late);
        assert_eq!((window.taken(&late), window.taken(&row(NOW, 1, 5))), (None, None));
        window.settle(None, NOW + OVERLAP_MS + 1);
        assert_eq!(window.from(), ArrivalsFrom::Time(NOW + 1));
        assert_eq!(window.taken(&row(NOW, 1, 5)), None, "older than what can still come");
        assert!(window.position().runs.is_empty());
    }

    #[test]
    fn the_base_does_not_pass_what_was_not_read_nor_go_back() {
        let hour_ago = NOW - 3_600_000;
        let mut window = Window::at(Position::at_ms(hour_ago));
        let end = row(hour_ago + 500, 1, 1);
        window.give(end);
        window.settle(Some(ArrivalsFrom::Behind(end)), NOW);
        assert_eq!(window.from(), ArrivalsFrom::Time(hour_ago + 500));
        assert_eq!(window.taken(&end), None, "of the same moment, and given");
        assert_eq!(window.taken(&row(hour_ago + 500, 2, 1)), Some(0), "of the same moment");
        window.settle(Some(ArrivalsFrom::Time(hour_ago + 60_000)), NOW);
        window.settle(Some(ArrivalsFrom::Time(hour_ago)), NOW - 100);
        assert_eq!(window.from(), ArrivalsFrom::Time(hour_ago + 60_000));
    }

    #[test]
    fn another_one_goes_on_with_what_was_not_given() {
        let mut window = Window::at(Position::at_ms(NOW));
        for number in [3, 4, 5, 9] {
            window.give(row(NOW + i64::from(number), 1, number));
        }
        window.give(row(NOW + 4, 2, 0));
        let position = window.position();
        let run = |writer, first, last| Run { writer, first, last };
        assert_eq!(position.runs, [run(1, 3, 5), run(1, 9, 9), run(2, 0, 0)]);
        let mut next = Window::at(position);
        for (found, taken) in [
            (row(NOW + 4, 1, 4), None),
            (row(NOW + 9, 1, 9), None),
            (row(NOW + 8, 1, 8), Some(0)),
            (row(NOW + 1, 2, 1), Some(0)),
        ] {
            assert_eq!(next.taken(&found), taken, "{found:?}");
        }
        next.give(row(NOW + 8, 1, 8));
        assert_eq!(next.position().runs, [run(1, 3, 5), run(1, 8, 9), run(2, 0, 0)]);
        next.settle(None, NOW + 9 + OVERLAP_MS);
        assert_eq!(next.position().runs.len(), 3, "the last of them may still be read");
        next.settle(None, NOW + 10 + OVERLAP_MS);
        assert!(next.position().runs.is_empty());
    }

    #[test]
    fn a_note_that_was_given_in_part_goes_on_there_also_when_another_one_comes_before_it() {
        let before = Arc::new(Window::at(Position::at_ms(NOW)).position());
        let (part, late) = (row(NOW + 9, 1, 7), row(NOW + 1, 2, 1));
        let next = Window::at(Place::within(&before, &part, 3).position());
        assert_eq!((next.taken(&part), next.taken(&row(NOW + 9, 1, 8))), (Some(3), Some(0)));
        let place = Place::within(&Arc::new(next.position()), &late, 2);
        let mut third = Window::at(place.position());
        assert_eq!((third.taken(&part), third.taken(&late)), (Some(3), Some(2)));
        let place = Place::within(&Arc::new(third.position()), &part, 4);
        assert_eq!(Window::at(place.position()).taken(&part), Some(4));
        third.give(part);
        third.give(late);
        assert!(third.position().begun.is_empty());
    }

    #[test]
    fn a_position_stays_small_whatever_was_given() {
        let mut window = Window::at(Position::at_ms(NOW));
        (0..1_000).for_each(|n| window.give(row(NOW, n, 0)));
        assert_eq!(window.position().runs.len(), MAX_RUNS);
        let mut position = window.position();
        for n in 0..100 {
            position = Place::within(&Arc::new(position), &row(NOW, n, 1), 1).position();
        }
        assert_eq!(position.begun.len(), MAX_BEGUN);
    }
}
