//! When each message is due, counted from the start. Pure: knows no clock.

use std::time::Duration;

use super::options::{Burst, Pace};

/// Yields one due time a message, in the order of the messages.
#[derive(Debug)]
pub(crate) enum Schedule {
    Unlimited,
    Rate(RateClock),
    Recorded(RecordedClock),
}

impl Schedule {
    pub(crate) fn new(pace: &Pace) -> Schedule {
        match pace {
            Pace::Unlimited => Schedule::Unlimited,
            Pace::Rate { per_second, burst } => Schedule::Rate(RateClock::new(*per_second, *burst)),
            Pace::Recorded { speed, longest_gap, .. } => {
                Schedule::Recorded(RecordedClock::new(*speed, *longest_gap))
            }
        }
    }

    /// When the next message is due; `recorded` tells its pass over the inputs and its own time.
    pub(crate) fn next_due(&mut self, recorded: Recorded) -> Duration {
        match self {
            Schedule::Unlimited => Duration::ZERO,
            Schedule::Rate(clock) => clock.next_due(),
            Schedule::Recorded(clock) => clock.next_due(recorded),
        }
    }
}

/// What a replayed message says about its own time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Recorded {
    /// How many times the inputs have been read before this message.
    pub(crate) pass: u64,
    /// When the message happened, in ms since 1970; `None` = it does not say.
    pub(crate) time_ms: Option<i64>,
}

/// An even rate, with bursts merged in.
#[derive(Debug)]
pub(crate) struct RateClock {
    per_second: f64,
    burst: Option<Burst>,
    evenly_sent: u64,
    burst_sent: u64,
}

impl RateClock {
    fn new(per_second: f64, burst: Option<Burst>) -> RateClock {
        let burst = burst.filter(|b| b.messages > 0);
        RateClock { per_second, burst, evenly_sent: 0, burst_sent: 0 }
    }

    fn next_due(&mut self) -> Duration {
        // Multiplied out each time, not added up: a sum of a million rounded gaps drifts.
        let even = Duration::from_secs_f64(self.evenly_sent as f64 / self.per_second);
        if let Some(burst) = self.burst {
            let bursts = self.burst_sent / burst.messages;
            let due = Duration::from_secs_f64(burst.every.as_secs_f64() * bursts as f64);
            if due <= even {
                self.burst_sent += 1;
                return due;
            }
        }
        self.evenly_sent += 1;
        even
    }
}

/// The recorded gaps, divided by a speed. Times that go back make no gap.
#[derive(Debug)]
pub(crate) struct RecordedClock {
    speed: f64,
    longest_gap: Option<Duration>,
    due: Duration,
    pass: u64,
    newest_ms: Option<i64>,
}

impl RecordedClock {
    fn new(speed: f64, longest_gap: Option<Duration>) -> RecordedClock {
        RecordedClock { speed, longest_gap, due: Duration::ZERO, pass: 0, newest_ms: None }
    }

    fn next_due(&mut self, recorded: Recorded) -> Duration {
        if recorded.pass != self.pass {
            self.pass = recorded.pass;
            self.newest_ms = None;
        }
        let Some(time_ms) = recorded.time_ms else {
            return self.due;
        };
        if let Some(newest_ms) = self.newest_ms {
            let gap_ms = time_ms.saturating_sub(newest_ms).max(0);
            let gap = Duration::from_secs_f64(gap_ms as f64 / 1000.0 / self.speed);
            let gap = self.longest_gap.map_or(gap, |longest| gap.min(longest));
            self.due = self.due.saturating_add(gap);
        }
        self.newest_ms = Some(self.newest_ms.map_or(time_ms, |newest| newest.max(time_ms)));
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due_ms(schedule: &mut Schedule, n: usize) -> Vec<u64> {
        (0..n).map(|_| schedule.next_due(Recorded::default()).as_millis() as u64).collect()
    }

    #[test]
    fn a_rate_is_even_and_does_not_drift() {
        let mut schedule = Schedule::new(&Pace::Rate { per_second: 4.0, burst: None });
        assert_eq!(due_ms(&mut schedule, 5), [0, 250, 500, 750, 1000]);
        let mut thirds = Schedule::new(&Pace::Rate { per_second: 3.0, burst: None });
        assert_eq!(due_ms(&mut thirds, 300_001)[300_000], 100_000_000);
    }

    #[test]
    fn a_burst_comes_on_top_of_the_rate() {
        let burst = Burst { every: Duration::from_secs(1), messages: 2 };
        let mut schedule = Schedule::new(&Pace::Rate { per_second: 2.0, burst: Some(burst) });
        assert_eq!(due_ms(&mut schedule, 8), [0, 0, 0, 500, 1000, 1000, 1000, 1500]);
    }

    #[test]
    fn recorded_gaps_are_divided_and_cut_and_never_negative() {
        let mut clock = RecordedClock::new(10.0, Some(Duration::from_secs(1)));
        let mut due = |pass, time_ms| clock.next_due(Recorded { pass, time_ms }).as_millis();
        assert_eq!(due(0, Some(5_000)), 0, "the first message is due at once");
        assert_eq!(due(0, Some(6_000)), 100);
        assert_eq!(due(0, Some(5_500)), 100, "time going back makes no gap");
        assert_eq!(due(0, Some(7_000)), 200, "measured from the newest time, not from the last");
        assert_eq!(due(0, None), 200, "a message without a time goes with its predecessor");
        assert_eq!(due(0, Some(900_000)), 1_200, "a long pause is cut");
        assert_eq!(due(1, Some(5_000)), 1_200, "a new pass starts without a gap");
        assert_eq!(due(1, Some(6_000)), 1_300);
    }
}
