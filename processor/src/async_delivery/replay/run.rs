//! One claimed replay: reads, parks at its pace, writes its progress and so keeps its claim.
//!
//! Everything that waits goes through [`Run::during`](super::progress), which writes the progress meanwhile. What is
//! parked is behind the place that is written down, never the other way round.

use std::collections::BTreeSet;
use std::time::Duration;

use store::{
    MessageId, Replay, ReplayClaim, ReplayCounts, ReplayId, ReplayOf, ReplayPart, ReplayPlace,
    ReplaySource, SubscriptionId,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::plan::{Pace, Window};
use super::progress::{PROGRESS_INTERVAL, called};
use super::scan::{Answer, Scan, ScanParts};
use super::wish::Wish;
use super::{LEASE, MAX_CLAIMS, ReplayerParts, shards};
use crate::async_delivery::watch::ViewWatch;
use crate::clock::wall_ms;

/// Deliveries parked by one call.
pub(super) const CHUNK: usize = 25;
/// Pause before something that could not be done now is tried again.
pub(super) const AGAIN: Duration = Duration::from_millis(500);
/// A listing of shards that failed is tried so often.
const LIST_TRIES: usize = 5;

/// Why the work ended before its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// This worker stops; another one may go on.
    Stopped,
    /// The claim is another worker's, or the replay was cancelled.
    Lost,
    /// It cannot be done, in words.
    Failed(String),
}

/// A replay under way.
pub(super) struct Run {
    pub(super) replay: Replay,
    pub(super) claim: ReplayClaim,
    pub(super) parts: Vec<ReplayPart>,
    pub(super) counts: ReplayCounts,
    /// Parts that moved since the progress was written.
    pub(super) moved: BTreeSet<usize>,
    claimed_at: Instant,
    pub(super) claimed_until: Instant,
    pub(super) progress_at: Instant,
    pub(super) pace: Pace,
    /// Deliveries that may be parked before they are counted again.
    pub(super) room: usize,
    views: ViewWatch,
    wish: Option<Wish>,
    /// Of the messages that were asked for by id, those that were not found yet.
    pub(super) missing: BTreeSet<MessageId>,
    seed: u64,
}

impl Run {
    pub(super) fn new(desk: &ReplayerParts, replay: Replay, claim: ReplayClaim, seed: u64) -> Run {
        let now = Instant::now();
        let missing = replay.what.only().iter().cloned().collect();
        Run {
            counts: replay.counts,
            pace: Pace::new(replay.rate_per_second, now),
            parts: Vec::new(),
            moved: BTreeSet::new(),
            claimed_at: now,
            claimed_until: now + LEASE,
            progress_at: now + PROGRESS_INTERVAL,
            room: 0,
            views: desk.views.clone(),
            wish: None,
            missing,
            replay,
            claim,
            seed,
        }
    }

    pub(super) fn id(&self) -> &ReplayId {
        &self.replay.id
    }

    pub(super) fn subscription(&self) -> &SubscriptionId {
        &self.replay.subscription
    }

    pub(super) fn has_tried_enough(&self) -> bool {
        self.replay.claims > MAX_CLAIMS
    }

    /// Does what is left of it; what is to be known of its end, in words.
    pub(super) async fn work(
        &mut self,
        desk: &ReplayerParts,
        stop: &CancellationToken,
    ) -> Result<String, Halt> {
        self.look(desk, stop).await?;
        match self.replay.what.clone() {
            ReplayOf::Range { from_ms, to_ms, only } => {
                self.read_range(desk, stop, Window { from_ms, to_ms }, !only.is_empty()).await?;
                Ok(match self.missing.len() {
                    0 => String::new(),
                    n => format!(
                        "{n} of the {} messages asked for are not in the range, or not this subscription's",
                        only.len()
                    ),
                })
            }
            ReplayOf::Parked => self.make_due(desk, stop).await.map(|()| String::new()),
            ReplayOf::DeadLettered { only } => {
                self.revive(desk, stop).await?;
                Ok(match self.missing.len() {
                    0 => String::new(),
                    n => format!(
                        "{n} of the {} messages asked for are no dead letters of this subscription, or not its any more",
                        only.len()
                    ),
                })
            }
        }
    }

    async fn read_range(
        &mut self,
        desk: &ReplayerParts,
        stop: &CancellationToken,
        window: Window,
        some_only: bool,
    ) -> Result<(), Halt> {
        let shards = self.list_shards(desk, stop).await?;
        let sources = shards.keys().cloned().collect();
        self.begin(desk, stop, sources).await?;
        let scan = ScanParts {
            readers: desk.readers.clone(),
            budget: desk.budget.clone(),
            integrations: desk.integrations.clone(),
            decode: desk.decode.clone(),
            time: desk.time.clone(),
            seed: self.seed,
        };
        let mut scan = Scan::new(scan, window, shards);
        while scan.open(&mut self.parts) {
            let answers = self.during(desk, stop, scan.round()).await?.map_err(Halt::Failed)?;
            for (part, answer) in answers {
                match answer {
                    Some(answer) => self.take(desk, stop, window, &answer).await?,
                    None => self.parts[part].is_done = true,
                }
                self.moved.insert(part);
            }
            if some_only && self.missing.is_empty() {
                break;
            }
        }
        self.write_progress(desk).await
    }

    async fn list_shards(
        &mut self,
        desk: &ReplayerParts,
        stop: &CancellationToken,
    ) -> Result<super::plan::Shards, Halt> {
        let mut why = String::new();
        for _ in 0..LIST_TRIES {
            match self.during(desk, stop, shards::list(&desk.readers)).await? {
                Ok(shards) => return Ok(shards),
                Err(error) => why = error,
            }
            self.pause(desk, stop, Instant::now() + AGAIN).await?;
        }
        Err(Halt::Failed(why))
    }

    /// Parts as they were written down, or, the first time, one for each source, written down now.
    pub(super) async fn begin(
        &mut self,
        desk: &ReplayerParts,
        stop: &CancellationToken,
        sources: Vec<ReplaySource>,
    ) -> Result<(), Halt> {
        let (replays, id, claim) = (&desk.replays, self.replay.id.clone(), self.claim.clone());
        let parts: Vec<ReplayPart> = sources.into_iter().map(ReplayPart::new).collect();
        loop {
            let done = match self.replay.is_planned {
                true => self.during(desk, stop, called(replays.parts(&id))).await?,
                false => {
                    let plan = replays.plan(&claim, &parts, wall_ms(&desk.time), LEASE);
                    let planned = self.during(desk, stop, called(plan)).await?;
                    planned.map(|()| parts.clone())
                }
            };
            match done {
                Ok(parts) => {
                    self.parts = parts;
                    return Ok(());
                }
                Err(error) => self.bear(&error)?,
            }
            self.pause(desk, stop, Instant::now() + AGAIN).await?;
        }
    }

    /// Parks what an answer has for the subscription, and moves its part behind it.
    async fn take(
        &mut self,
        desk: &ReplayerParts,
        stop: &CancellationToken,
        window: Window,
        answer: &Answer,
    ) -> Result<(), Halt> {
        let part = answer.part;
        for entries in answer.entries().chunks(CHUNK) {
            self.look(desk, stop).await?;
            let mut wanted = Vec::new();
            let in_window = entries.iter().filter(|entry| window.has(entry.arrived_at_ms));
            for entry in in_window {
                self.count(part, |counts| counts.read += 1);
                let Some(message) = answer.batch.message(entry, &desk.integrations) else {
                    continue;
                };
                let is_asked_for = self.is_asked_for(&message.id);
                if is_asked_for && self.wish()?.wants(&message, &desk.integrations) {
                    self.missing.remove(&message.id);
                    wanted.push(message);
                }
            }
            self.park(desk, stop, part, wanted).await?;
            if let Some(last) = entries.last() {
                let (sequence, index) = answer.batch.place(last).to_place();
                self.parts[part].at =
                    Some(ReplayPlace::Record(sequence.as_str().to_owned(), index));
                self.parts[part].reached_ms = Some(last.arrived_at_ms);
                self.moved.insert(part);
            }
        }
        self.parts[part].is_done = answer.is_last;
        Ok(())
    }

    /// All are, unless some were named.
    fn is_asked_for(&self, id: &MessageId) -> bool {
        match &self.replay.what {
            ReplayOf::Range { only, .. } if !only.is_empty() => only.contains(id),
            _ => true,
        }
    }

    pub(super) fn count(&mut self, part: usize, add: impl Fn(&mut ReplayCounts)) {
        add(&mut self.counts);
        add(&mut self.parts[part].counts);
        self.moved.insert(part);
    }

    pub(super) fn wish(&mut self) -> Result<&mut Wish, Halt> {
        self.wish.as_mut().ok_or_else(|| Halt::Failed("its subscription was never read".to_owned()))
    }

    /// Has the subscription as it is now: by a view that is fresh, and was read after the replay was claimed.
    pub(super) async fn look(
        &mut self,
        desk: &ReplayerParts,
        stop: &CancellationToken,
    ) -> Result<(), Halt> {
        loop {
            let view = self.views.fresh().filter(|view| view.read_began >= self.claimed_at);
            if let Some(view) = view {
                if !self.wish.as_ref().is_some_and(|wish| wish.is_of(&view.snapshot)) {
                    let id = &self.replay.subscription;
                    let wish = Wish::of(id, &view.snapshot, &desk.integrations);
                    self.wish = Some(wish.map_err(Halt::Failed)?);
                }
                return Ok(());
            }
            self.views.confirm_soon();
            self.pause(desk, stop, Instant::now() + AGAIN).await?;
        }
    }
}
