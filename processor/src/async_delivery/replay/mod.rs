//! Replays: what a subscription is to get again, from the stream, from what is parked, or from its dead letters.
//!
//! Each processor looks now and then for a replay that nobody works on, claims one, and makes its messages parked
//! deliveries that are due at once: from there on they are delivered like all others, under the destination's own
//! concurrency, rate, breaker and schedule. It never sends anything itself, never holds more than a few answers, and
//! stops ahead of a destination that does not keep up. It dies without loss: the next owner of the claim goes on from
//! the progress, and what lay behind it comes again under the same ids.
//!
//! Start at [`Replayer`], then `run` (one replay), `scan` (reading shards), `parking`, `progress`, `rows` (what is parked or given up).
//! Decisions are pure and stand in `plan`; `count` is the dry run.

mod count;
mod parking;
mod plan;
mod progress;
mod rows;
mod run;
mod scan;
mod shards;
#[cfg(test)]
mod tests;
mod wish;

use std::sync::Arc;
use std::time::Duration;

use aws_smithy_async::time::SharedTimeSource;
use store::{DeliveryStore, ReplayState, ReplayStore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::watch::ViewWatch;
use crate::budget::Budget;
use crate::clock::wall_ms;
use crate::decode::DecodeOptions;
use crate::integration::Integrations;
use crate::reader::Readers;

pub use count::{DryRun, count_replay};
use run::{Halt, Run};

/// Between two looks for replays: one small read of an index.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// A claim lasts so long; progress renews it.
const LEASE: Duration = Duration::from_secs(15);
/// A call of a table that takes longer counts as failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// A replay that so many workers began and none ended is given up.
const MAX_CLAIMS: u32 = 100;

/// What replays are done with.
pub(crate) struct ReplayerParts {
    pub(crate) replays: ReplayStore,
    pub(crate) deliveries: DeliveryStore,
    pub(crate) views: ViewWatch,
    pub(crate) readers: Arc<Readers>,
    /// Bytes that answers may hold until their messages are parked.
    pub(crate) budget: Budget,
    /// Deliveries of a subscription that may be parked ahead of its destination, above which its replay waits; at least 25.
    pub(crate) max_ahead: usize,
    pub(crate) integrations: Arc<Integrations>,
    pub(crate) decode: DecodeOptions,
    pub(crate) time: SharedTimeSource,
    /// Names this worker in claims.
    pub(crate) worker: String,
    pub(crate) seed: u64,
}

/// Does replays, one at a time.
pub(crate) struct Replayer {
    parts: ReplayerParts,
    rng: fastrand::Rng,
}

impl Replayer {
    pub(crate) fn new(parts: ReplayerParts) -> Replayer {
        Replayer { rng: fastrand::Rng::with_seed(parts.seed), parts }
    }

    /// Does replays until `stop`, and ends with `end`, whichever comes first: where a pipeline failed, only `end` does. Why
    /// it ended otherwise, in words.
    pub(crate) async fn serve(self, stop: CancellationToken, end: CancellationToken) -> String {
        tokio::select! { biased;
            () = end.cancelled() => {}
            () = Box::pin(self.run(stop)) => end.cancelled().await,
        }
        "replays ended by themselves".to_owned()
    }

    /// Looks for replays and does them until `stop`; what is under way then is given back.
    async fn run(mut self, stop: CancellationToken) {
        loop {
            let pause = LOOK_INTERVAL.mul_f64(0.8 + 0.4 * self.rng.f64());
            tokio::select! { biased;
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
            }
            if let Some(run) = self.claim().await {
                Box::pin(self.work(run, &stop)).await;
            }
        }
    }

    /// The first replay that can be claimed. A table that fails is asked again with the next look.
    async fn claim(&mut self) -> Option<Run> {
        let ReplayerParts { replays, time, worker, .. } = &self.parts;
        let now_ms = wall_ms(time);
        let found = match timeout(CALL_TIMEOUT, replays.claimable(now_ms)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::debug!(%error, "replays cannot be looked for now");
                return None;
            }
            Err(_) => return None,
        };
        for id in found {
            let claimed = timeout(CALL_TIMEOUT, replays.claim(&id, worker, now_ms, LEASE)).await;
            match claimed {
                Ok(Ok(Some((replay, claim)))) => {
                    return Some(Run::new(&self.parts, replay, claim, self.rng.u64(..)));
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, replay = %id, "a replay cannot be claimed now")
                }
                Ok(Ok(None)) | Err(_) => {}
            }
        }
        None
    }

    async fn work(&self, mut run: Run, stop: &CancellationToken) {
        let id = run.id().clone();
        tracing::info!(replay = %id, subscription = %run.subscription(), "a replay begins, or goes on");
        let ended = match run.has_tried_enough() {
            true => Err(Halt::Failed(format!("{MAX_CLAIMS} workers began it, and none ended it"))),
            false => run.work(&self.parts, stop).await,
        };
        let (state, detail) = match ended {
            Ok(detail) => (ReplayState::Done, detail),
            Err(Halt::Failed(why)) => (ReplayState::Failed, why),
            Err(Halt::Stopped) => return run.release(&self.parts).await,
            Err(Halt::Lost) => {
                tracing::info!(replay = %id, "a replay is another worker's, or was cancelled");
                return;
            }
        };
        run.finish(&self.parts, state, &detail).await;
        tracing::info!(replay = %id, %state, detail, "a replay ended");
    }
}
