//! The one place of this room that writes: parking, settling, rescheduling, dead letters.
//!
//! Jobs come in through a bounded queue; what fails is tried again with growing pauses, for ever if
//! it came from the stream: until it is written its batch stays unsettled, which is backpressure,
//! never a skip. What belongs to a claim is tried until the claim ends, and is then due again by
//! itself. It decides nothing about deliveries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_smithy_async::time::SharedTimeSource;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use store::{
    AttemptRecord, Claim, DeadLetter, DeliveryStore, ParkedDelivery, Subscription, SubscriptionId,
    SubscriptionStore,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::delivery::Live;
use super::events::{Event, Told};
use super::stats::Counters;
use super::watch::ViewWatch;
use super::writes;
use crate::ailment::Ailment;

/// Deliveries parked by one call.
pub(super) const PARK_BATCH: usize = 25;
/// Calls under way at once.
const MAX_CALLS: usize = 16;
/// Jobs waiting for another try, above which no new job is taken.
const MAX_WAITING: usize = 4_096;
/// First and longest pause before a job is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// Pause of a job whose lease is in doubt.
pub(super) const LEASE_PAUSE: Duration = Duration::from_millis(100);

/// Something to be written.
#[derive(Debug)]
pub(super) enum Job {
    /// Park a live delivery, then settle it.
    Park(Box<Park>),
    /// A parked delivery is done with: remove it.
    Settle(Claim),
    /// A parked delivery goes on waiting.
    Reschedule(Box<Reschedule>),
    /// Write a dead letter, then settle what it came from.
    GiveUp(Box<GiveUp>),
    /// Keep how an attempt went.
    Note(Box<AttemptRecord>),
    /// The destination is gone for good: take the subscription, as it was read, out of service.
    Disable(Arc<Subscription>),
    /// The destination fails: once it has for long enough, the same.
    Failing(Arc<Subscription>),
    /// The destination was reached again.
    Recovered(Arc<Subscription>),
    /// Tell the client what happened to its subscription, if it asked to be told.
    Tell(Box<News>),
}

#[derive(Debug)]
pub(super) struct Park {
    pub(super) live: Live,
    pub(super) parked: ParkedDelivery,
    pub(super) counters: Arc<Counters>,
}

/// What happened to whom.
#[derive(Debug)]
pub(super) struct News {
    pub(super) about: SubscriptionId,
    pub(super) event: Event,
}

#[derive(Debug)]
pub(super) struct Reschedule {
    pub(super) claim: Claim,
    pub(super) attempts: u32,
    pub(super) due_at_ms: i64,
    pub(super) error: String,
}

#[derive(Debug)]
pub(super) struct GiveUp {
    pub(super) letter: DeadLetter,
    pub(super) origin: Origin,
    pub(super) counters: Arc<Counters>,
}

/// What a dead letter came from.
#[derive(Debug)]
pub(super) enum Origin {
    Live(Live),
    Claimed(Claim),
}

impl Job {
    /// The live delivery that waits for this job, if any.
    fn live(&self) -> Option<&Live> {
        match self {
            Job::Park(park) => Some(&park.live),
            Job::GiveUp(give_up) => match &give_up.origin {
                Origin::Live(live) => Some(live),
                Origin::Claimed(_) => None,
            },
            _ => None,
        }
    }

    /// The claim that this job belongs to, if any.
    fn claim(&self) -> Option<&Claim> {
        match self {
            Job::Settle(claim) => Some(claim),
            Job::Reschedule(reschedule) => Some(&reschedule.claim),
            Job::GiveUp(give_up) => match &give_up.origin {
                Origin::Claimed(claim) => Some(claim),
                Origin::Live(_) => None,
            },
            Job::Park(_)
            | Job::Note(_)
            | Job::Disable(_)
            | Job::Failing(_)
            | Job::Recovered(_)
            | Job::Tell(_) => None,
        }
    }

    /// The label for logs and metrics.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Job::Park(_) => "park",
            Job::Settle(_) => "settle",
            Job::Reschedule(_) => "reschedule",
            Job::GiveUp(_) => "dead-letter",
            Job::Note(_) => "note",
            Job::Disable(_) => "disable",
            Job::Failing(_) => "failing",
            Job::Recovered(_) => "recovered",
            Job::Tell(_) => "tell",
        }
    }

    /// What to do with the job now.
    fn plan(&self, now_ms: i64) -> Plan {
        match (self.live(), self.claim()) {
            (Some(live), _) if live.lease_is_lost() => Plan::Drop("its shard is another worker's"),
            (Some(live), _) if !live.lease_is_valid() => Plan::Hold,
            (_, Some(claim)) if claim.until_ms <= now_ms => {
                Plan::Drop("its claim ended; it becomes due again")
            }
            _ => Plan::Write,
        }
    }
}

enum Plan {
    Write,
    Hold,
    Drop(&'static str),
}

/// A job with the number of times it failed, and what the last try met.
#[derive(Debug)]
pub(super) struct Tried {
    pub(super) job: Job,
    pub(super) failures: u32,
    pub(super) why: String,
}

impl Tried {
    /// A job that did not fail yet.
    pub(super) fn new(job: Job) -> Tried {
        Tried { job, failures: 0, why: String::new() }
    }
}

/// The stores that jobs write to.
pub(super) struct Stores {
    pub(super) deliveries: DeliveryStore,
    pub(super) subscriptions: SubscriptionStore,
    /// Who asked to be told of what.
    pub(super) views: ViewWatch,
    pub(super) told: Told,
}

/// The sending end.
#[derive(Debug, Clone)]
pub(super) struct LedgerHandle {
    jobs: mpsc::Sender<Job>,
    in_hand: Arc<AtomicUsize>,
    ailment: Arc<Ailment>,
}

impl LedgerHandle {
    /// Waits for room for one job. `None` once the ledger has ended.
    pub(super) async fn room(&self) -> Option<mpsc::Permit<'_, Job>> {
        self.jobs.reserve().await.ok()
    }

    /// Hands a job over, waiting for room. `Err` once the ledger has ended.
    pub(super) async fn write(&self, job: Job) -> Result<(), LedgerEnded> {
        self.jobs.send(job).await.map_err(|_| LedgerEnded)
    }

    /// Jobs queued, under way or waiting for another try.
    pub(super) fn in_hand(&self) -> usize {
        self.in_hand.load(Ordering::Relaxed) + self.jobs.max_capacity() - self.jobs.capacity()
    }

    /// What ails the tables that jobs are written to.
    pub(super) fn ailment(&self) -> Option<(String, String)> {
        self.ailment.words(Instant::now())
    }
}

/// The ledger ended before the job was taken.
#[derive(Debug, thiserror::Error)]
#[error("the ledger has ended")]
pub(super) struct LedgerEnded;

/// The writing task.
pub(super) struct Ledger {
    stores: Arc<Stores>,
    time: SharedTimeSource,
    jobs: mpsc::Receiver<Job>,
    in_hand: Arc<AtomicUsize>,
    ailment: Arc<Ailment>,
    running: FuturesUnordered<BoxFuture<'static, Vec<Tried>>>,
    /// By when to try again; the number keeps equal instants apart.
    waiting: BTreeMap<(Instant, u64), Tried>,
    counter: u64,
    rng: fastrand::Rng,
}

impl Ledger {
    pub(super) fn new(
        stores: Stores,
        time: SharedTimeSource,
        capacity: usize,
        seed: u64,
    ) -> (Ledger, LedgerHandle) {
        let (sender, jobs) = mpsc::channel(capacity);
        let in_hand = Arc::new(AtomicUsize::new(0));
        let ailment = Arc::new(Ailment::new("deliveries"));
        let handle = LedgerHandle {
            jobs: sender,
            in_hand: Arc::clone(&in_hand),
            ailment: Arc::clone(&ailment),
        };
        let ledger = Ledger {
            stores: Arc::new(stores),
            time,
            jobs,
            in_hand,
            ailment,
            running: FuturesUnordered::new(),
            waiting: BTreeMap::new(),
            counter: 0,
            rng: fastrand::Rng::with_seed(seed),
        };
        (ledger, handle)
    }

    /// Writes until `finish` and then what is left, or until `give_up`.
    pub(super) async fn run(mut self, finish: CancellationToken, give_up: CancellationToken) {
        let mut open = true;
        let mut taken = Vec::with_capacity(PARK_BATCH * 4);
        while open || !self.running.is_empty() || !self.waiting.is_empty() {
            let can_call = self.running.len() < MAX_CALLS;
            let wake = self.waiting.first_key_value().map(|((at, _), _)| *at);
            tokio::select! { biased;
                () = give_up.cancelled() => return,
                () = finish.cancelled(), if !self.jobs.is_closed() => self.jobs.close(),
                Some(failed) = self.running.next(), if !self.running.is_empty() => self.wait_all(failed),
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if can_call && wake.is_some() => self.retry_due(),
                n = self.jobs.recv_many(&mut taken, PARK_BATCH * 4), if open && can_call && self.waiting.len() < MAX_WAITING => {
                    open = n > 0;
                    let jobs = taken.drain(..).map(Tried::new).collect();
                    self.start(jobs);
                }
            }
            let running: usize = self.running.len();
            self.in_hand.store(running + self.waiting.len(), Ordering::Relaxed);
            if running + self.waiting.len() == 0 {
                self.ailment.recovered(Instant::now());
            }
            super::metrics::ledger_in_hand(running + self.waiting.len());
        }
    }

    fn retry_due(&mut self) {
        let now = Instant::now();
        let mut due = Vec::new();
        while due.len() < PARK_BATCH * 4 {
            match self.waiting.first_entry() {
                Some(first) if first.key().0 <= now => due.push(first.remove()),
                _ => break,
            }
        }
        self.start(due);
    }

    /// Starts the calls for these jobs: parking in batches, everything else one by one.
    fn start(&mut self, jobs: Vec<Tried>) {
        let now_ms = crate::clock::wall_ms(&self.time);
        let mut parks = Vec::new();
        let mut notes = Vec::new();
        for tried in jobs {
            match tried.job.plan(now_ms) {
                Plan::Drop(why) => {
                    tracing::debug!(job = tried.job.name(), why, "a delivery is let go")
                }
                Plan::Hold => self.wait(tried, LEASE_PAUSE),
                Plan::Write => match tried.job {
                    Job::Park(park) => parks.push((park, tried.failures)),
                    Job::Note(record) => notes.push((*record, tried.failures)),
                    job => {
                        let write = writes::write_one(
                            Arc::clone(&self.stores),
                            job,
                            tried.failures,
                            now_ms,
                        );
                        self.running.push(Box::pin(write));
                    }
                },
            }
        }
        let mut parks = parks.into_iter().peekable();
        while parks.peek().is_some() {
            let batch: Vec<(Box<Park>, u32)> = parks.by_ref().take(PARK_BATCH).collect();
            self.running.push(Box::pin(writes::park(Arc::clone(&self.stores), batch)));
        }
        let mut notes = notes.into_iter().peekable();
        while notes.peek().is_some() {
            let batch = notes.by_ref().take(PARK_BATCH).collect();
            self.running.push(Box::pin(writes::note(Arc::clone(&self.stores), batch)));
        }
    }

    fn wait_all(&mut self, again: Vec<Tried>) {
        let now = Instant::now();
        match again.iter().find(|tried| tried.failures > 0) {
            Some(tried) => self.ailment.failed(&tried.why, now),
            None => self.ailment.recovered(now),
        }
        for tried in again {
            let pause = if tried.failures == 0 {
                Duration::ZERO
            } else {
                retry_pause(tried.failures, self.rng.f64())
            };
            if tried.failures % 10 == 1 {
                tracing::warn!(
                    job = tried.job.name(),
                    failures = tried.failures,
                    why = tried.why,
                    "a delivery write failed and is tried again"
                );
            }
            self.wait(tried, pause);
        }
    }

    fn wait(&mut self, tried: Tried, pause: Duration) {
        self.counter += 1;
        self.waiting.insert((Instant::now() + pause, self.counter), tried);
    }
}

/// The pause after so many failures, spread by `jitter_unit` in 0..1 over its upper half.
fn retry_pause(failures: u32, jitter_unit: f64) -> Duration {
    let doubled = PAUSES.0.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(PAUSES.1).mul_f64(0.5 + 0.5 * jitter_unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_five_seconds() {
        let pause = |failures| retry_pause(failures, 1.0);
        assert_eq!(pause(1), Duration::from_millis(50));
        assert_eq!(pause(3), Duration::from_millis(200));
        assert_eq!(pause(8), Duration::from_secs(5));
        assert_eq!(pause(u32::MAX), Duration::from_secs(5));
        assert_eq!(retry_pause(1, 0.0), Duration::from_millis(25));
    }
}
