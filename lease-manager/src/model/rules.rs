//! Production's rules under short names: this is the one place where the model touches them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::change::{Change, after};
use crate::checkpoint::{Checkpoint, SequenceNumber};
use crate::gate::Gates;
use crate::handle::child_lease;
use crate::held::Held;
use crate::ids::{Incarnation, LaneName, LeaseCounter, LeaseKey, ShardId, WorkerId};
use crate::lease::{ChildShard, HashRange, Holder, LanePosition, Lease, LeaseRecord, Progress};
use crate::liveness::Snapshot;
use crate::model::state::{END, Fleet, LANES, Life, Mode, SHARDS, Shard, WORKERS, Worker};
use crate::options::Options;
use crate::standing::LeaseWatch;
use crate::still::Reading;
use crate::view::Standing;
use crate::worker::{WorkerRecord, WorkerState};
use crate::writer::{Verdict, judge};

/// The options of a worker of the model: production's defaults.
pub(super) fn options() -> Options {
    Options::new("model", worker(0), lanes(), vec![])
}

pub(super) fn lanes() -> Vec<LaneName> {
    ["deliver", "store"].map(|lane| LaneName::parse(lane).unwrap())[..LANES].to_vec()
}

pub(super) fn worker(worker: Worker) -> WorkerId {
    WorkerId::parse(["a", "b"][worker]).unwrap()
}

pub(super) fn worker_of(id: &WorkerId) -> Option<Worker> {
    (0..WORKERS).find(|w| worker(*w) == *id)
}

pub(super) fn holder(of: Worker, life: Life) -> Holder {
    Holder { worker: worker(of), incarnation: Incarnation(u64::from(life)) }
}

pub(super) fn shard(shard: Shard) -> ShardId {
    ShardId::parse(format!("shardId-{shard:012}")).unwrap()
}

pub(super) fn key(of: Shard) -> LeaseKey {
    LeaseKey::of_shard(&shard(of))
}

/// A small number for a checkpoint: 0 before the first record, [`END`] at the shard's end.
pub(super) fn position(checkpoint: &Checkpoint) -> u8 {
    match checkpoint {
        Checkpoint::At { sequence, .. } => sequence.as_str().parse().unwrap(),
        Checkpoint::ShardEnd => END,
        _ => 0,
    }
}

pub(super) fn checkpoint(position: u8) -> Checkpoint {
    match position {
        0 => Checkpoint::TrimHorizon,
        END => Checkpoint::ShardEnd,
        number => Checkpoint::at(SequenceNumber::parse(number.to_string()).unwrap()),
    }
}

/// Where each lane of a new holder would start.
pub(super) fn lane_positions(record: &LeaseRecord) -> [u8; LANES] {
    let lanes = record.believed_lanes(&lanes());
    let positions: Vec<u8> = lanes.values().map(|at| position(&at.checkpoint)).collect();
    positions.try_into().unwrap()
}

pub(super) fn progress(lane: usize, to: u8) -> Progress {
    let at = LanePosition::at(checkpoint(to));
    Progress { lanes: BTreeMap::from([(lanes()[lane].clone(), at)]), ..Progress::default() }
}

/// What may be done with each lease, by one reading of leases and fleet.
pub(super) fn standings(
    leases: &[LeaseRecord],
    fleet: &Fleet,
    silent: [bool; WORKERS],
) -> BTreeMap<LeaseKey, Standing> {
    let now = Instant::now();
    let reading = Reading { started: now, ended: now };
    let judgements = LeaseWatch::new(&options()).read(reading, leases, &snapshot(fleet, silent));
    judgements.into_iter().map(|(key, judgement)| (key, judgement.standing)).collect()
}

/// The lanes that may read a shard, by one reading of leases.
pub(super) fn open_lanes(leases: &[LeaseRecord], key: &LeaseKey) -> [bool; LANES] {
    let lease = leases.iter().find(|lease| lease.key == *key);
    let open = lease.map(|lease| Gates::new(leases).open_lanes(lease, &lanes()));
    let open = open.unwrap_or_default();
    std::array::from_fn(|lane| open.contains(&lanes()[lane]))
}

/// The fleet as a worker read it. `silent` are those whose beat has stood still for `failure_detection`.
fn snapshot(fleet: &Fleet, silent: [bool; WORKERS]) -> Snapshot {
    let record = |of: Worker| WorkerRecord {
        state: match fleet[of].mode {
            Mode::Active => WorkerState::Active,
            Mode::Stopped => WorkerState::Stopped,
            Mode::Dead => WorkerState::Dead,
        },
        max_leases: SHARDS as u64,
        ..WorkerRecord::joining(worker(of), Incarnation(u64::from(fleet[of].life)), 0)
    };
    let workers: BTreeMap<_, _> = (0..WORKERS).map(|w| (worker(w), record(w))).collect();
    let age = |w: Worker| if silent[w] { options().failure_detection } else { Duration::ZERO };
    let beat_age = (0..WORKERS).map(|w| (worker(w), age(w))).collect();
    Snapshot { workers, beat_age, unknown_owners: BTreeSet::new(), whole: true }
}

/// A holding as production keeps it. `doubt` is the write whose outcome is not known; `leaving` says that a write which
/// gives the lease up was sent before.
pub(super) fn held(
    seen: &LeaseRecord,
    me: Holder,
    doubt: Option<&LeaseRecord>,
    leaving: bool,
) -> Held {
    let lease = Lease {
        key: seen.key.clone(),
        shard_id: seen.shard_id.clone(),
        stream_arn: String::new(),
        counter: seen.counter,
        checkpoint: seen.checkpoint.clone(),
        lanes: seen.believed_lanes(&lanes()),
        start_at_ms: seen.start_at_ms,
        read_to: seen.read_to.clone(),
        parents: seen.parents.clone(),
        hash_range: seen.hash_range,
    };
    let held =
        std::sync::Arc::into_inner(Held::new(lease, me, seen.clone(), BTreeSet::new())).unwrap();
    if leaving {
        let release = Change::Release {
            progress: Progress::default(),
            reason: String::new(),
            declined: false,
        };
        held.attempt(after(seen, &release, &lanes()).unwrap());
        held.know(seen.clone());
    }
    if let Some(doubt) = doubt {
        held.attempt(doubt.clone());
    }
    held
}

/// True while the holder may work on the shard, if its leases are valid at all.
pub(super) fn may_work(held: &Held) -> bool {
    held.may_be_worked_on()
}

/// The lease that the end of a parent gives to a child.
pub(super) fn child_of(parent: &LeaseRecord, child: Shard, shards: &[Vec<Shard>]) -> LeaseRecord {
    let HashRange { start, end } = hash_range(child, shards);
    let child = ChildShard {
        shard_id: shard(child),
        parents: shards[child].iter().copied().map(shard).collect(),
        starting_hash_key: start.to_string(),
        ending_hash_key: end.to_string(),
    };
    child_lease(&parent.key, &child, None, 0)
}

/// A child's hash keys are within its parents'.
fn hash_range(of: Shard, shards: &[Vec<Shard>]) -> HashRange {
    let merged = shards.iter().any(|parents| parents.len() > 1);
    let ranges = if merged { [(0, 4), (5, 9), (0, 9)] } else { [(0, 9), (0, 4), (5, 9)] };
    let (start, end) = ranges[of];
    HashRange { start, end }
}

/// Another library moved the checkpoint behind what the lanes say, and let the lease go.
pub(super) fn as_a_kcl_left_it(lease: &mut LeaseRecord) {
    let at = |to| LanePosition::at(checkpoint(to));
    lease.lanes = lanes().into_iter().map(|lane| (lane, at(1))).collect();
    lease.checkpoint = checkpoint(2);
    lease.counter = LeaseCounter(3);
}

/// A lease as the first start makes it.
pub(super) fn first_lease(of: Shard, shards: &[Vec<Shard>]) -> LeaseRecord {
    let mut lease = LeaseRecord::new(key(of), Checkpoint::TrimHorizon, 0);
    lease.hash_range = Some(hash_range(of, shards));
    lease
}

/// What the owner concludes from the item that it finds after a write whose outcome it does not know.
pub(super) fn verdict(held: &Held, actual: Option<&LeaseRecord>) -> Verdict {
    judge(held, actual.cloned(), held.doubt().as_ref())
}

/// As the planner finds lost leases in a reading of the table: a counter that rose proves a loss.
pub(super) fn proves_loss(held: &Held, actual: Option<&LeaseRecord>) -> bool {
    actual.is_none_or(|is| {
        let older_or_mine = is.counter < held.lease.counter || held.is_mine(is);
        !older_or_mine && held.doubt().as_ref() != Some(is)
    })
}

/// As the planner takes in what the table says is this worker's in its present life.
pub(super) fn is_given_to(record: &LeaseRecord, me: &Holder) -> bool {
    record.owner.as_ref() == Some(&me.worker)
        && record.granted_to() == Some(me.incarnation)
        && !record.is_finished()
}
