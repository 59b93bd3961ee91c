//! What one look at the two tables shows: who lives, who owns what, and in a word how each lease stands. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tokio::time::Instant;

use super::texts;
use crate::change::TRIMMED;
use crate::checkpoint::Checkpoint;
use crate::ids::{LaneName, LeaseCounter, LeaseKey, ShardId, WorkerId};
use crate::lease::{LanePosition, LeaseRecord};
use crate::lease_table::Listing;
use crate::liveness::{Observer, Snapshot};
use crate::options::Options;
use crate::standing::{LeaseWatch, leader, lease_views, worker_views};
use crate::still::Reading;
use crate::view::{FleetView, LeaseView, Standing, WorkerView};
use crate::worker::{Health, Load, WorkerRecord, WorkerState};

/// What a worker's heartbeat did while it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Pulse {
    /// It moved.
    Moves,
    /// It stood still for as long as it was looked at.
    Still {
        /// For how long, in milliseconds.
        for_ms: u64,
    },
    /// None is expected: the worker stopped, or was declared dead.
    Ended,
}

/// How a lease stands, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// A worker whose heartbeat moves owns it.
    Owned,
    /// Its owner was asked to hand it over.
    Moving,
    /// Its owner is stopping, and hands everything over.
    Draining,
    /// Its owner's heartbeat stands still, or the owner is in no fleet table; it is not declared dead yet.
    Silent,
    /// Somebody who is not of this fleet (a Kinesis Client Library) owns it.
    Foreign,
    /// Nobody who lives owns it.
    Orphan,
    /// It may not start before its parents ended.
    Waiting,
    /// Settled to its end.
    Finished,
    /// The stream no longer kept its records before they were read.
    Trimmed,
    /// Its stream is not among the configured ones: no worker reads it.
    NotConfigured,
}

impl State {
    /// All of them.
    pub const ALL: [State; 10] = [
        Self::Owned,
        Self::Moving,
        Self::Draining,
        Self::Silent,
        Self::Foreign,
        Self::Orphan,
        Self::Waiting,
        Self::Finished,
        Self::Trimmed,
        Self::NotConfigured,
    ];

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Owned => "owned",
            Self::Moving => "moving",
            Self::Draining => "draining",
            Self::Silent => "silent",
            Self::Foreign => "foreign",
            Self::Orphan => "orphan",
            Self::Waiting => "waiting",
            Self::Finished => "finished",
            Self::Trimmed => "trimmed",
            Self::NotConfigured => "not-configured",
        }
    }
}

/// One line of the list.
#[derive(Debug, Clone, Serialize)]
pub struct LeaseRow {
    /// The lease's key.
    pub key: LeaseKey,
    /// The shard.
    pub shard: ShardId,
    /// The stream's name, where the table serves several.
    pub stream: Option<String>,
    /// The owner.
    pub owner: Option<WorkerId>,
    /// How it stands.
    pub state: State,
    /// The smallest lane.
    pub checkpoint: Checkpoint,
    /// Each lane's position and lag.
    pub lanes: BTreeMap<LaneName, LanePosition>,
    /// False where no worker of this product noted the lags, as long as the Kinesis Client Library owns the lease.
    pub lag_is_known: bool,
    /// Kilobytes a second.
    pub throughput_kbps: f64,
    /// The fencing token.
    pub counter: LeaseCounter,
    /// Why it last changed hands.
    pub reason: Option<String>,
}

/// One worker of the list.
#[derive(Debug, Clone, Serialize)]
pub struct WorkerRow {
    /// Its name.
    pub worker: WorkerId,
    /// What it says of itself, or others of it.
    pub state: WorkerState,
    /// What its heartbeat did during the look.
    pub pulse: Pulse,
    /// Unfinished leases that it owns, as the lease table says.
    pub leases: usize,
    /// Kilobytes a second over these.
    pub throughput_kbps: f64,
    /// The product's version.
    pub version: String,
    /// True for the worker that leads.
    pub leads: bool,
    /// What it says it cannot reach, and why.
    pub health: Health,
    /// Its load as it last said it.
    pub load: Load,
}

/// A name that is not one lease's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// No lease has it.
    #[error("there is no lease of a shard `{name}`; {has}")]
    None {
        /// What was looked for.
        name: String,
        /// What there is instead.
        has: String,
    },
    /// Several have it.
    #[error("`{name}` is a shard of several streams; name the lease by its key: {}", .keys.join(", "))]
    Several {
        /// What was looked for.
        name: String,
        /// The leases' keys.
        keys: Vec<String>,
    },
}

/// Takes in the readings of one look.
pub(super) struct Looker {
    options: Options,
    streams: Vec<String>,
    began: Instant,
    observer: Observer,
    first_beats: BTreeMap<WorkerId, (crate::ids::Incarnation, u64)>,
    first_leases: BTreeMap<LeaseKey, (Option<u64>, LeaseCounter)>,
    owners: BTreeSet<WorkerId>,
    snapshot: Snapshot,
}

impl Looker {
    pub(super) fn new(options: &Options, streams: Vec<String>) -> Self {
        let me = options.worker_id.clone();
        let observer = Observer::new(me, options.failure_detection, options.heartbeat_interval);
        Self {
            options: options.clone(),
            streams,
            began: Instant::now(),
            observer,
            first_beats: BTreeMap::new(),
            first_leases: BTreeMap::new(),
            owners: BTreeSet::new(),
            snapshot: Snapshot::default(),
        }
    }

    pub(super) fn leases_first(&mut self, leases: &[LeaseRecord]) {
        self.first_leases = leases.iter().map(|l| (l.key.clone(), (l.rev, l.counter))).collect();
        self.owners = leases.iter().filter_map(|lease| lease.owner.clone()).collect();
    }

    pub(super) fn workers(&mut self, reading: Reading, workers: BTreeMap<WorkerId, WorkerRecord>) {
        if self.snapshot.workers.is_empty() {
            let beats = workers.values().map(|w| (w.id.clone(), (w.incarnation, w.beat)));
            self.first_beats = beats.collect();
        }
        self.snapshot = self.observer.read_all(reading, workers, &self.owners);
    }

    pub(super) fn finish(self, reading: Reading, listing: Listing, now_ms: i64) -> Survey {
        let Self { options, snapshot, .. } = self;
        let standings = LeaseWatch::new(&options).read(reading, &listing.leases, &snapshot);
        let leases = lease_views(&listing.leases, &standings, &options.lanes);
        let looked_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let pulse = |worker: &WorkerRecord| match self.first_beats.get(&worker.id) {
            _ if !worker.state.is_live() => Pulse::Ended,
            Some(first) if *first == (worker.incarnation, worker.beat) => {
                Pulse::Still { for_ms: looked_ms }
            }
            _ => Pulse::Moves,
        };
        let pulses = snapshot.workers.values().map(|w| (w.id.clone(), pulse(w))).collect();
        let view = FleetView {
            me: options.worker_id.clone(),
            leases_read_at_ms: now_ms,
            workers_read_at_ms: now_ms,
            leader: leader(&snapshot, options.failure_detection),
            workers: worker_views(&snapshot, &leases),
            leases,
        };
        let written = |l: &&LeaseRecord| {
            self.first_leases.get(&l.key).is_some_and(|first| *first != (l.rev, l.counter))
        };
        Survey {
            written: listing.leases.iter().filter(written).map(|l| l.key.clone()).collect(),
            records: listing.leases.into_iter().map(|l| (l.key.clone(), l)).collect(),
            unreadable: texts(&listing.bad),
            others: listing.others,
            members: snapshot.workers,
            streams: self.streams,
            view,
            pulses,
            looked_ms,
            options,
        }
    }
}

/// What one look at the two tables showed.
#[derive(Debug, Clone)]
pub struct Survey {
    /// The fleet.
    pub view: FleetView,
    /// Each worker's heartbeat.
    pub pulses: BTreeMap<WorkerId, Pulse>,
    /// Lease items that cannot be read: their shards are not consumed.
    pub unreadable: Vec<String>,
    /// How long was looked, in milliseconds.
    pub looked_ms: u64,
    /// Items of the lease table that are no leases.
    pub others: usize,
    pub(super) records: BTreeMap<LeaseKey, LeaseRecord>,
    pub(super) members: BTreeMap<WorkerId, WorkerRecord>,
    /// Leases that were written during the look.
    pub(super) written: BTreeSet<LeaseKey>,
    pub(super) streams: Vec<String>,
    pub(super) options: Options,
}

impl Survey {
    /// Every lease, unowned and troubled ones not hidden, by stream and shard.
    pub fn leases(&self) -> Vec<LeaseRow> {
        let row = |(key, lease): (&LeaseKey, &LeaseView)| LeaseRow {
            key: key.clone(),
            shard: lease.shard_id.clone(),
            stream: lease.stream.clone(),
            owner: lease.owner.clone(),
            state: self.state(key, lease),
            checkpoint: lease.checkpoint.clone(),
            lanes: lease.lanes.clone(),
            lag_is_known: self.lag_is_known(key),
            throughput_kbps: lease.throughput_kbps,
            counter: lease.counter,
            reason: lease.reason.clone(),
        };
        self.view.leases.iter().map(row).collect()
    }

    /// Every worker in the fleet table.
    pub fn workers(&self) -> Vec<WorkerRow> {
        let mine = |id: &WorkerId| {
            let mine = |l: &&LeaseView| l.owner.as_ref() == Some(id) && !ended(l);
            self.view.leases.values().filter(mine).collect::<Vec<_>>()
        };
        let row = |(id, worker): (&WorkerId, &WorkerView)| WorkerRow {
            worker: id.clone(),
            state: worker.state,
            pulse: self.pulse(id),
            leases: mine(id).len(),
            throughput_kbps: mine(id).iter().fold(0.0, |sum, lease| sum + lease.throughput_kbps),
            health: worker.health.clone(),
            version: worker.version.clone(),
            leads: self.view.leader.as_ref() == Some(id),
            load: worker.load,
        };
        self.view.workers.iter().map(row).collect()
    }

    /// The lease that an operator means: a lease key, a shard id, or a shard's number.
    pub fn find(&self, name: &str) -> Result<LeaseKey, FindError> {
        let leases = &self.view.leases;
        if let Some(key) = leases.keys().find(|key| key.as_str() == name) {
            return Ok(key.clone());
        }
        let number: Option<u64> = name.parse().ok();
        let is_meant = |lease: &LeaseView| {
            let id = lease.shard_id.as_str();
            let digits = || id.rsplit('-').next().and_then(|digits| digits.parse().ok());
            id == name || (number.is_some() && digits() == number)
        };
        let found: Vec<_> = leases.iter().filter(|(_, l)| is_meant(l)).map(|(k, _)| k).collect();
        match found.as_slice() {
            [only] => Ok((*only).clone()),
            [] => {
                let some: Vec<&str> = leases.keys().take(3).map(LeaseKey::as_str).collect();
                let table = &self.options.app;
                let has = match leases.len() {
                    0 => format!("table `{table}` holds no leases"),
                    n => format!("table `{table}` holds {n} leases, such as {}", some.join(", ")),
                };
                Err(FindError::None { name: name.to_owned(), has })
            }
            several => {
                let keys = several.iter().map(|key| key.to_string()).collect();
                Err(FindError::Several { name: name.to_owned(), keys })
            }
        }
    }

    /// The Kinesis Client Library moves a checkpoint and notes no lag.
    pub(super) fn lag_is_known(&self, key: &LeaseKey) -> bool {
        self.records.get(key).is_some_and(|lease| {
            lease.lanes.values().map(|lane| &lane.checkpoint).min() == Some(&lease.checkpoint)
        })
    }

    /// What a worker's heartbeat did.
    pub(super) fn pulse(&self, worker: &WorkerId) -> Pulse {
        self.pulses.get(worker).copied().unwrap_or(Pulse::Ended)
    }

    /// How a lease stands, in a word.
    pub(super) fn state(&self, key: &LeaseKey, lease: &LeaseView) -> State {
        if !is_configured(lease.stream.as_deref(), &self.streams) {
            return State::NotConfigured;
        }
        match &lease.standing {
            Standing::Finished if lease.reason.as_deref() == Some(TRIMMED) => State::Trimmed,
            Standing::Finished => State::Finished,
            Standing::WaitsForParents => State::Waiting,
            Standing::Orphan { .. } => State::Orphan,
            Standing::Foreign => State::Foreign,
            Standing::Owned => self.state_of_owned(key, lease),
        }
    }

    fn state_of_owned(&self, key: &LeaseKey, lease: &LeaseView) -> State {
        let Some(owner) = &lease.owner else { return State::Orphan };
        match self.members.get(owner) {
            None => State::Silent,
            Some(_) if matches!(self.pulse(owner), Pulse::Still { .. }) => State::Silent,
            Some(worker) if worker.state == WorkerState::Draining => State::Draining,
            Some(_) if self.asked_to_move(key, lease).is_some() => State::Moving,
            Some(_) => State::Owned,
        }
    }

    /// To whom the owner was asked to move the lease: outer `None` is that it was not asked.
    pub(super) fn asked_to_move(
        &self,
        key: &LeaseKey,
        lease: &LeaseView,
    ) -> Option<Option<WorkerId>> {
        let owner = self.view.workers.get(lease.owner.as_ref()?)?;
        owner.moving.get(key).cloned()
    }
}

/// Whether a lease whose key carries `stream`, or none, is of a configured stream. One configured stream: keys carry none.
/// Several: keys carry theirs.
pub(super) fn is_configured(stream: Option<&str>, streams: &[String]) -> bool {
    match (stream, streams) {
        (_, []) | (None, [_]) => true,
        (Some(_), [_]) | (None, _) => false,
        (Some(stream), several) => several.iter().any(|name| name == stream),
    }
}

fn ended(lease: &LeaseView) -> bool {
    lease.checkpoint == Checkpoint::ShardEnd
}
