//! When the lease is written next, and when lanes and the lease itself are looked at again. Pure.

use std::time::Duration;

use tokio::time::Instant;

use super::ShardConsumerOptions;
use crate::lane::Advance;
use crate::turns::Turns;

const LOOK_FIRST: Duration = Duration::from_millis(5);
const LOOK_MAX: Duration = Duration::from_millis(500);
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// What moved since the last write of the lease, and from when on the next one is due.
#[derive(Debug)]
pub(super) struct Schedule {
    last_write: Instant,
    moved_records: bool,
    moved_idle: bool,
    moved_bytes: usize,
    wrote_once: bool,
    at_once: bool,
    not_before: Option<Instant>,
    /// Whose turn it is among the shards of the process, once this one is due.
    turn: Option<Instant>,
}

impl Schedule {
    pub(super) fn new(now: Instant) -> Schedule {
        Schedule {
            last_write: now,
            moved_records: false,
            moved_idle: false,
            moved_bytes: 0,
            wrote_once: false,
            at_once: false,
            not_before: None,
            turn: None,
        }
    }

    /// A lane's position moved.
    pub(super) fn moved(&mut self, advance: Advance) {
        self.moved_records |= advance.records;
        self.moved_idle |= advance.moved;
        self.moved_bytes += advance.bytes;
    }

    /// Nothing new came, and that is worth a write once in a while.
    pub(super) fn moved_idle(&mut self) {
        self.moved_idle = true;
    }

    /// The next write must not wait for its interval.
    pub(super) fn at_once(&mut self) {
        self.at_once = true;
    }

    /// The write is due: takes a turn among all shards of the process, unless it is urgent. True when it is to be started now.
    pub(super) fn may_start(&mut self, turns: &Turns, now: Instant) -> bool {
        if self.is_urgent() {
            return true;
        }
        let turn = *self.turn.get_or_insert_with(|| turns.reserve(now));
        turn <= now
    }

    /// Others wait for this write, or nothing at all is written down of what was settled.
    fn is_urgent(&self) -> bool {
        self.at_once || !self.wrote_once
    }

    /// A write of the positions as they are now has been started.
    pub(super) fn started(&mut self, now: Instant) {
        *self = Schedule { wrote_once: true, ..Schedule::new(now) };
    }

    /// The write failed: the positions must be written again, a little later.
    pub(super) fn failed(&mut self, now: Instant) {
        self.moved_records = true;
        self.at_once = true;
        self.not_before = Some(now + WRITE_AGAIN);
    }

    /// When the next write is due; `None` while there is nothing to write. The first position that
    /// a new owner settles is written at once, so that a lease never goes back to its start.
    pub(super) fn due(&self, options: &ShardConsumerOptions) -> Option<Instant> {
        let moved = self.moved_records || self.moved_idle;
        let much = self.moved_bytes >= options.replay_bytes;
        let due = if self.at_once || (moved && (!self.wrote_once || much)) {
            Some(self.last_write)
        } else if self.moved_records {
            Some(self.last_write + options.checkpoint_interval)
        } else if self.moved_idle {
            Some(self.last_write + options.idle_checkpoint_interval)
        } else {
            None
        };
        let earliest = self.not_before.max(self.turn);
        due.map(|at| earliest.map_or(at, |earliest| at.max(earliest)))
    }
}

/// Paces looks at what nobody will tell: whether a sink or a budget has room again. Soon at first, then less often.
#[derive(Debug, Default)]
pub(super) struct Look {
    wait: Duration,
    next: Option<Instant>,
}

impl Look {
    /// Plans the next look, if one is needed. One that is planned already stays, unless it is over.
    pub(super) fn plan(&mut self, needed: bool, now: Instant) {
        if !needed {
            *self = Look::default();
        } else if self.next.is_none_or(|next| next <= now) {
            self.wait = (self.wait * 2).clamp(LOOK_FIRST, LOOK_MAX);
            self.next = Some(now + self.wait);
        }
    }

    /// When to look again; `None` while there is nothing to look at.
    pub(super) fn at(&self) -> Option<Instant> {
        self.next
    }
}

/// How long the lease could not be trusted, and nothing was read for that.
#[derive(Debug, Default)]
pub(super) struct Untrusted {
    since: Option<Instant>,
    told: bool,
}

impl Untrusted {
    /// Looks at the lease. `Some` while nothing may be read: since when.
    pub(super) fn look(&mut self, is_valid: bool, now: Instant) -> Option<Instant> {
        self.since = (!is_valid).then(|| self.since.unwrap_or(now));
        self.told &= !is_valid;
        self.since
    }

    /// What follows from it was done.
    pub(super) fn told(&mut self) {
        self.told = true;
    }

    /// What follows from it is to be done `after` that long.
    pub(super) fn due(&self, after: Duration) -> Option<Instant> {
        self.since.filter(|_| !self.told).map(|since| since + after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(bytes: usize) -> Advance {
        Advance { records: true, moved: true, bytes }
    }

    #[test]
    fn the_first_position_is_written_at_once_then_at_the_interval() {
        let start = Instant::now();
        let options = ShardConsumerOptions::default();
        let mut schedule = Schedule::new(start);
        assert_eq!(schedule.due(&options), None, "nothing moved");
        schedule.moved(records(10));
        assert_eq!(schedule.due(&options), Some(start));
        schedule.started(start);
        schedule.moved(records(10));
        assert_eq!(schedule.due(&options), Some(start + options.checkpoint_interval));
    }

    #[test]
    fn idle_movement_waits_longer_and_many_bytes_do_not_wait() {
        let start = Instant::now();
        let options = ShardConsumerOptions::default();
        let mut schedule = Schedule::new(start);
        schedule.started(start);
        schedule.moved(Advance { records: false, moved: true, bytes: 0 });
        assert_eq!(schedule.due(&options), Some(start + options.idle_checkpoint_interval));
        schedule.moved(records(options.replay_bytes));
        assert_eq!(schedule.due(&options), Some(start));
    }

    #[test]
    fn writes_that_are_due_take_turns_and_urgent_ones_do_not() {
        let start = Instant::now();
        let options = ShardConsumerOptions::default();
        let turns = Turns::new(10);
        let due = |schedule: &mut Schedule| {
            schedule.started(start);
            schedule.moved(records(options.replay_bytes));
            schedule.may_start(&turns, start)
        };
        let (mut one, mut two) = (Schedule::new(start), Schedule::new(start));
        assert!(due(&mut one));
        assert!(!due(&mut two), "one after the other");
        let turn = start + Duration::from_millis(100);
        assert_eq!(two.due(&options), Some(turn));
        assert!(two.may_start(&turns, turn));
        let mut first = Schedule::new(start);
        first.moved(records(1));
        assert!(first.may_start(&turns, start), "the first position is written at once");
        two.at_once();
        assert!(two.may_start(&turns, start), "others wait for a shard's end");
    }

    #[test]
    fn a_failed_write_is_repeated_after_a_pause() {
        let start = Instant::now();
        let options = ShardConsumerOptions::default();
        let mut schedule = Schedule::new(start);
        schedule.moved(records(1));
        schedule.started(start);
        schedule.failed(start);
        assert_eq!(schedule.due(&options), Some(start + WRITE_AGAIN));
    }

    #[test]
    fn looks_come_soon_at_first_then_less_often_and_end_when_they_are_not_needed() {
        let mut now = Instant::now();
        let mut look = Look::default();
        look.plan(false, now);
        assert_eq!(look.at(), None);
        look.plan(true, now);
        assert_eq!(look.at(), Some(now + LOOK_FIRST));
        look.plan(true, now);
        assert_eq!(look.at(), Some(now + LOOK_FIRST), "one that is planned stays");
        for _ in 0..20 {
            now = look.at().unwrap();
            look.plan(true, now);
        }
        assert_eq!(look.at(), Some(now + LOOK_MAX));
        look.plan(false, now);
        assert_eq!(look.at(), None);
    }

    #[test]
    fn distrust_counts_from_its_beginning() {
        let start = Instant::now();
        let mut untrusted = Untrusted::default();
        assert_eq!(untrusted.look(true, start), None);
        assert_eq!(untrusted.look(false, start), Some(start));
        assert_eq!(untrusted.look(false, start + WRITE_AGAIN), Some(start));
        assert_eq!(untrusted.look(true, start + WRITE_AGAIN), None);
    }
}
