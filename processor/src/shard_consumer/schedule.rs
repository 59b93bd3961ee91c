//! When the lease is written next, and when a lane without room is offered its batch again. Pure.

use std::time::Duration;

use tokio::time::Instant;

use super::ShardConsumerOptions;
use crate::lane::Advance;

const PUMP_FIRST: Duration = Duration::from_millis(5);
const PUMP_MAX: Duration = Duration::from_millis(500);
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
        }
    }

    /// A lane's position moved.
    pub(super) fn moved(&mut self, advance: Advance) {
        self.moved_records |= advance.records;
        self.moved_idle |= advance.moved;
        self.moved_bytes += advance.bytes;
    }

    /// The next write must not wait for its interval.
    pub(super) fn at_once(&mut self) {
        self.at_once = true;
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
        let due = if self.at_once
            || (moved && (!self.wrote_once || self.moved_bytes >= options.replay_bytes))
        {
            Some(self.last_write)
        } else if self.moved_records {
            Some(self.last_write + options.checkpoint_interval)
        } else if self.moved_idle {
            Some(self.last_write + options.idle_checkpoint_interval)
        } else {
            None
        };
        due.map(|at| self.not_before.map_or(at, |not_before| at.max(not_before)))
    }
}

/// Paces looks at what stops the reading (a lane without room, a lease that cannot be trusted): soon
/// at first, then less and less often.
#[derive(Debug, Default)]
pub(super) struct Pace {
    stopped_since: Option<Instant>,
    wait: Duration,
    next: Option<Instant>,
    cancelled: bool,
}

impl Pace {
    /// Nothing can be taken now: another look follows soon, if none was planned.
    pub(super) fn stopped(&mut self, now: Instant) {
        self.stopped_since.get_or_insert(now);
        self.next.get_or_insert(now + PUMP_FIRST);
    }

    /// The lanes were offered what waits. True when the subscription should be given up now.
    pub(super) fn offered(&mut self, can_take: bool, now: Instant, cancel_after: Duration) -> bool {
        if can_take {
            *self = Pace::default();
            return false;
        }
        let since = *self.stopped_since.get_or_insert(now);
        self.wait = (self.wait * 2).clamp(PUMP_FIRST, PUMP_MAX);
        self.next = Some(now + self.wait);
        let give_up = !self.cancelled && now - since >= cancel_after;
        self.cancelled |= give_up;
        give_up
    }

    /// When to look again; `None` while nothing stops the reading.
    pub(super) fn pump_at(&self) -> Option<Instant> {
        self.next
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
    fn a_full_lane_is_offered_less_and_less_often_and_frees_the_connection_once() {
        let start = Instant::now();
        let cancel_after = Duration::from_secs(2);
        let mut pace = Pace::default();
        assert!(!pace.offered(false, start, cancel_after));
        assert_eq!(pace.pump_at(), Some(start + PUMP_FIRST));
        for _ in 0..20 {
            assert!(!pace.offered(false, start, cancel_after));
        }
        assert_eq!(pace.pump_at(), Some(start + PUMP_MAX));
        assert!(pace.offered(false, start + cancel_after, cancel_after));
        assert!(!pace.offered(false, start + cancel_after * 2, cancel_after), "once");
        assert!(!pace.offered(true, start + cancel_after * 3, cancel_after));
        assert_eq!(pace.pump_at(), None);
    }

    #[test]
    fn a_stop_without_an_offer_is_looked_at_again_and_counts_from_its_beginning() {
        let start = Instant::now();
        let cancel_after = Duration::from_secs(2);
        let mut pace = Pace::default();
        pace.stopped(start);
        pace.stopped(start + Duration::from_secs(1));
        assert_eq!(pace.pump_at(), Some(start + PUMP_FIRST));
        assert!(pace.offered(false, start + cancel_after, cancel_after));
    }
}
