//! How one range goes on: over what is settled, near to live routing, and over to it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::state::{Range, Reach, State, Way};
use crate::async_delivery::breaker::BreakerState;
use crate::async_delivery::delivery::{Live, Track};
use crate::async_delivery::lane::LaneHandle;
use crate::async_delivery::metrics;
use crate::batch::Place;

/// What may wait at a gate, and for how long.
const GATE: (usize, Duration) = (1_024, Duration::from_secs(10));

impl Range {
    /// Moves over what is settled; goes on where something came back.
    pub(super) fn settle_up(&mut self, lane: Option<&Arc<LaneHandle>>, bound: Option<&Reach>) {
        if let Some((place, arrived_at_ms)) = self.window.advance() {
            if matches!(self.state, State::Closing) {
                // What was routed since it began to close went to the destination live.
                self.gap = bound.map(|bound| (self.cursor.clone(), bound.clone()));
                self.state = State::Open;
            }
            let back = Reach::Before(place);
            if back < self.cursor {
                self.cursor = back;
                self.cursor_at_ms = arrived_at_ms;
            }
        }
        if lane.is_some_and(|lane| lane.shared.breaker() == BreakerState::Closed) {
            self.window.is_well();
        }
    }

    /// Comes near to live routing, waits for it at the gate, and goes over to it. `bound` is what live routing has behind it.
    pub(super) fn meet(
        &mut self,
        lane: Option<&Arc<LaneHandle>>,
        bound: Option<&Reach>,
        near: bool,
        closed: bool,
        now: Instant,
    ) {
        let (Some(lane), Some(bound), false) = (lane, bound, closed) else {
            return self.give_up_gate();
        };
        match &self.state {
            State::Open if self.window.is_recalled() => {}
            State::Open if self.cursor >= *bound => self.state = State::Closing,
            State::Open if near && takes(lane) => {
                let (seam, gate) = (bound.clone(), VecDeque::new());
                self.state = State::Gated { seam, gate, since: now };
            }
            State::Gated { seam, .. } if self.cursor >= *seam => self.open_gate(lane),
            State::Gated { gate, since, .. } => {
                let full = gate.len() > GATE.0 || *since + GATE.1 < now;
                if full || !takes(lane) || self.window.is_recalled() {
                    metrics::range("gate-given-up");
                    self.give_up_gate();
                }
            }
            _ => {}
        }
    }

    /// Everything before the seam is handed out: what waited goes to the destination behind it.
    fn open_gate(&mut self, lane: &LaneHandle) {
        let State::Gated { gate, .. } = std::mem::replace(&mut self.state, State::Closing) else {
            return;
        };
        for (place, live) in gate {
            match self.way(&place) {
                Way::Live => {
                    let arrived_at_ms = live.arrived_at_ms();
                    if let Err(live) = lane.offer(live) {
                        self.refused(&place, arrived_at_ms, live);
                    }
                }
                _ => live.settle(),
            }
        }
    }

    /// Once all that it handed out is settled it is removed.
    pub(super) fn finish_closing(&mut self) {
        let done = self.window.is_empty() && self.spill.first().is_none() && !self.writing;
        if done && matches!(self.state, State::Closing) {
            self.state = State::Removing { again: None, holds: Vec::new() };
        }
    }

    /// Looks whether the stream is about to lose what it begins with.
    pub(super) fn look_ahead(&mut self, now_ms: i64, retention: Duration) {
        if !matches!(self.state, State::Open | State::Gated { .. }) {
            return;
        }
        let oldest_ms = self.window.first().map_or(self.cursor_at_ms, |(_, at_ms)| at_ms);
        let kept_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        let left_ms = oldest_ms.saturating_add(kept_ms).saturating_sub(now_ms);
        // At the shard's end nothing is left to be lost.
        let left_ms = if self.cursor == Reach::End { i64::MAX } else { left_ms };
        if self.spill.look(left_ms, retention) {
            let (subscription, shard) = (&self.item.subscription, &self.item.shard_id);
            let left_s = left_ms / 1_000;
            tracing::error!(%subscription, %shard, left_s, "the stream is about to lose what a destination is owed: it is parked as far as its cap allows, and then given up");
            metrics::range("spilled");
        }
    }

    /// The message waits until the range is written: one of each batch is enough.
    pub(super) fn hold(&mut self, track: &Arc<Track>, index: usize) {
        let (State::Opening { holds } | State::Removing { holds, .. }) = &mut self.state else {
            return;
        };
        if !holds.last().is_some_and(|last| last.is_of(track)) {
            holds.push(track.delivery(index));
        }
    }

    pub(super) fn wait_at_gate(&mut self, place: Place, live: Live) {
        if let State::Gated { gate, .. } = &mut self.state {
            gate.push_back((place, live));
        }
    }

    /// Something waits for it to be written: it is opened anew if another has it.
    pub(super) fn still_waits(&mut self) -> bool {
        match std::mem::replace(&mut self.state, State::Open) {
            State::Removing { again: Some(at), holds } => {
                self.cursor = Reach::Before(at.0.clone());
                self.cursor_at_ms = at.1;
                self.start = at;
                self.state = State::Opening { holds };
                true
            }
            state => {
                self.state = state;
                matches!(self.state, State::Opening { .. })
            }
        }
    }
}

/// The destination takes messages, as far as anybody knows.
fn takes(lane: &LaneHandle) -> bool {
    lane.shared.admits() && lane.shared.breaker() == BreakerState::Closed
}
