//! How a replay waits, keeps its claim, and ends.

use std::future::Future;
use std::time::Duration;

use store::{Class, ReplayPart, ReplayState, StoreError};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::run::{AGAIN, Halt, Run};
use super::{CALL_TIMEOUT, LEASE, ReplayerParts};
use crate::clock::wall_ms;

/// Between two writings of the progress.
pub(super) const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// Parts written at once.
const MAX_MOVED: usize = 99;

impl Run {
    /// Waits until then.
    pub(super) async fn pause(
        &mut self,
        desk: &ReplayerParts,
        stop: &CancellationToken,
        until: Instant,
    ) -> Result<(), Halt> {
        self.during(desk, stop, sleep_until(until)).await
    }

    /// Waits for something, and writes the progress whenever it is time to.
    pub(super) async fn during<T>(
        &mut self,
        desk: &ReplayerParts,
        stop: &CancellationToken,
        work: impl Future<Output = T>,
    ) -> Result<T, Halt> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! { biased;
                () = stop.cancelled() => return Err(Halt::Stopped),
                () = sleep_until(self.progress_at) => self.write_progress(desk).await?,
                done = &mut work => return Ok(done),
            }
        }
    }

    /// Writes how far it is, which renews the claim.
    pub(super) async fn write_progress(&mut self, desk: &ReplayerParts) -> Result<(), Halt> {
        self.progress_at = Instant::now() + PROGRESS_INTERVAL;
        let began = Instant::now();
        let at: Vec<usize> = self.moved.iter().copied().take(MAX_MOVED).collect();
        let moved: Vec<ReplayPart> = at.iter().map(|at| self.parts[*at].clone()).collect();
        let now_ms = wall_ms(&desk.time);
        let write = desk.replays.progress(&self.claim, self.counts, &moved, now_ms, LEASE);
        match called(write).await {
            Ok(()) => {
                self.claimed_until = began + LEASE;
                self.moved.retain(|moved| !at.contains(moved));
                Ok(())
            }
            Err(error) => self.bear(&error),
        }
    }

    /// Whether the work can go on after this error: while the claim lasts, what passes is borne.
    pub(super) fn bear(&self, error: &StoreError) -> Result<(), Halt> {
        if error.is_conflict() || Instant::now() >= self.claimed_until {
            return Err(Halt::Lost);
        }
        match error.class() {
            Class::Retry => Ok(()),
            Class::Skip | Class::Fatal => Err(Halt::Failed(error.to_string())),
        }
    }

    /// Lets another worker go on at once.
    pub(super) async fn release(mut self, desk: &ReplayerParts) {
        // What was done since counts only if it is written.
        let _ = self.write_progress(desk).await;
        let released = called(desk.replays.release(&self.claim, wall_ms(&desk.time))).await;
        if let Err(error) = released {
            tracing::debug!(%error, replay = %self.replay.id, "a replay is free when its claim ends");
        }
    }

    /// Writes its end, as long as the claim lasts.
    pub(super) async fn finish(mut self, desk: &ReplayerParts, state: ReplayState, detail: &str) {
        while !self.moved.is_empty() && self.write_progress(desk).await.is_ok() {
            if !self.moved.is_empty() {
                sleep_until(Instant::now() + AGAIN).await;
            }
        }
        loop {
            let now_ms = wall_ms(&desk.time);
            let end = desk.replays.finish(&self.claim, state, detail, self.counts, now_ms);
            let Err(error) = called(end).await else { return };
            if self.bear(&error).is_err() {
                tracing::warn!(%error, replay = %self.replay.id, "the end of a replay cannot be written");
                return;
            }
            sleep_until(Instant::now() + AGAIN).await;
        }
    }
}

/// A call of a table; no answer in time is an error that passes.
pub(super) async fn called<T>(
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    timeout(CALL_TIMEOUT, call).await.unwrap_or_else(|_| {
        Err(StoreError::Unavailable { operation: "replay", detail: "no answer in time".to_owned() })
    })
}
