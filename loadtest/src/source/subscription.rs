//! SubscribeToShard: events of one shard, made when the connection asks for them.
//!
//! A client that does not read costs nothing, and one that does is never waited for by others. Without a rate the next
//! event is always ready; what sets the pace is the connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::layout::initial_response;
use super::sequence::Position;
use super::stream::{Shard, Stream};

/// Where a subscription is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Live,
    Over,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Send an event of so many records.
    Send(usize),
    /// Nothing yet: look again after this long.
    Wait(Duration),
}

/// What a step is decided from.
#[derive(Debug, Clone, Copy)]
struct Situation {
    /// Records that could be sent.
    ready: u64,
    /// Records of a full event.
    full: usize,
    /// More records will come.
    growing: bool,
    /// Since the last event, or since the beginning.
    quiet: Duration,
    linger: Duration,
    idle_interval: Duration,
}

fn plan(now: Situation) -> Step {
    let records = usize::try_from(now.ready).map_or(now.full, |ready| ready.min(now.full));
    let wait = now.linger.saturating_sub(now.quiet);
    if records == now.full || (records > 0 && (wait.is_zero() || !now.growing)) {
        return Step::Send(records);
    }
    let idle = now.idle_interval.saturating_sub(now.quiet);
    if records == 0 && idle.is_zero() {
        return Step::Send(0);
    }
    // While the next record's time is not known it is looked for as often as an event may be sent.
    let look = if wait.is_zero() { now.linger } else { wait };
    Step::Wait(if now.growing { look.min(idle) } else { idle }.max(Duration::from_millis(1)))
}

/// One live subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    stream: Arc<Stream>,
    shard: u32,
    /// The ordinal of the next record.
    next: u64,
    phase: Phase,
    /// A subscription that sent the shard's last record ends: as one does whose time is over.
    sent_any: bool,
    quiet_since: Instant,
    expires_at: Instant,
}

impl Subscription {
    /// A subscription that sends the record `first` first; `None` when there is no such shard.
    pub(super) fn new(stream: Arc<Stream>, first: Position) -> Option<Subscription> {
        stream.shard(first.shard)?.subscribed();
        let now = Instant::now();
        let expires_at = now + stream.options.subscription_lifetime;
        Some(Subscription {
            stream,
            shard: first.shard,
            next: first.ordinal.max(1),
            phase: Phase::Opening,
            sent_any: false,
            quiet_since: now,
            expires_at,
        })
    }

    /// The next frame; `None` once the subscription has ended.
    pub(super) async fn next_frame(&mut self) -> Option<Bytes> {
        if self.phase == Phase::Opening {
            self.phase = Phase::Live;
            return Some(initial_response());
        }
        let mut started = self.stream.started();
        loop {
            let now = Instant::now();
            if self.phase == Phase::Over || now >= self.expires_at {
                return None;
            }
            let shard = self.stream.shard(self.shard)?;
            let available = self.stream.available(shard, now);
            let ended = self.stream.has_ended(available, now);
            if ended && self.sent_any && self.next > available {
                return None;
            }
            let wait = match plan(self.situation(available, ended, now)) {
                Step::Send(records) => return Some(self.event(records, now)),
                Step::Wait(wait) => wait,
            };
            tokio::select! {
                biased;
                // The sender lives in the stream: an error cannot come.
                _ = started.changed() => {}
                () = tokio::time::sleep_until((now + wait).min(self.expires_at)) => {}
            }
        }
    }

    fn situation(&self, available: u64, ended: bool, now: Instant) -> Situation {
        let options = &self.stream.options;
        let has_started = self.stream.started().borrow().is_some();
        Situation {
            ready: (available + 1).saturating_sub(self.next),
            full: self.stream.events.count(),
            growing: has_started && !ended,
            quiet: now - self.quiet_since,
            linger: options.linger,
            idle_interval: options.idle_interval,
        }
    }

    fn event(&mut self, records: usize, now: Instant) -> Bytes {
        self.quiet_since = now;
        let stream = &self.stream;
        let first = Position { shard: self.shard, ordinal: self.next };
        let last = self.next + records as u64 - u64::from(records > 0);
        if let (Some(shard), true) = (stream.shard(self.shard), records > 0) {
            shard.pushed(last, records);
        }
        let tip = stream.shard(self.shard).map_or(0, |shard: &Shard| stream.tip(shard, now));
        let run = stream.run(first, records, tip);
        let layout = if records > 0 { &stream.events } else { &stream.empty };
        self.next += records as u64;
        self.sent_any |= records > 0;
        layout.event(run, stream.arrivals())
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(shard) = self.stream.shard(self.shard) {
            shard.unsubscribed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn situation(ready: u64, quiet: u64, growing: bool) -> Situation {
        Situation {
            ready,
            full: 10,
            growing,
            quiet: ms(quiet),
            linger: ms(200),
            idle_interval: ms(5_000),
        }
    }

    #[test]
    fn full_events_go_at_once_and_others_once_they_waited() {
        assert_eq!(plan(situation(u64::MAX, 0, true)), Step::Send(10));
        assert_eq!(plan(situation(10, 0, true)), Step::Send(10));
        assert_eq!(plan(situation(3, 0, true)), Step::Wait(ms(200)));
        assert_eq!(plan(situation(3, 150, true)), Step::Wait(ms(50)));
        assert_eq!(plan(situation(3, 200, true)), Step::Send(3));
        assert_eq!(plan(situation(3, 0, false)), Step::Send(3), "nothing else will come");
    }

    #[test]
    fn silence_is_broken_now_and_then() {
        assert_eq!(plan(situation(0, 4_999, false)), Step::Wait(ms(1)));
        assert_eq!(plan(situation(0, 0, false)), Step::Wait(ms(5_000)));
        assert_eq!(plan(situation(0, 5_000, false)), Step::Send(0));
        assert_eq!(plan(situation(0, 300, true)), Step::Wait(ms(200)));
    }
}
