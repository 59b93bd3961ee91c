//! Numbers for records and writes, and each answer of production's functions remembered: they are asked millions of
//! times about a few thousand records.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard};

use crate::change::{Change, Write, after, write};
use crate::ids::{LeaseCounter, ShardId};
use crate::lease::LeaseRecord;
use crate::model::promises;
use crate::model::rules;
use crate::model::state::{
    END, Fleet, Holding, LANES, Life, OwnerWrite, Planned, Rec, SHARDS, Shard, WORKERS, Worker,
};
use crate::model::table;
use crate::view::Standing;
use crate::writer::Verdict;

/// Why a lease is given up in the model.
const ASKED: &str = "asked";

/// A write that a worker planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) by: Worker,
    pub(super) shard: Shard,
    /// The record that it was planned from.
    pub(super) seen: Rec,
    /// The record that the worker expects of it.
    pub(super) after: Rec,
    /// The owner writes its own lease; otherwise an orphan is taken.
    pub(super) by_owner: bool,
    /// The owner is no longer the owner afterwards.
    pub(super) gives_up: bool,
}

/// What a worker wants to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Wish {
    Take { why: &'static str },
    Own(OwnerWrite),
}

/// What an owner concludes about a write in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    Happened,
    StillMine,
    Lost,
}

/// What the model wants to know of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) owner: Option<Worker>,
    pub(super) counter: u64,
    /// Where each lane of a new holder would start.
    pub(super) lanes: [u8; LANES],
    /// Each lane's position as it is written, believed or not.
    pub(super) written: [u8; LANES],
    pub(super) finished: bool,
    pub(super) reader_ended: bool,
    /// A shard that replaces another would start anywhere else than at its oldest record.
    pub(super) child_skips: bool,
    /// The record without its owner and its history: all that L4 and L5 look at.
    pub(super) core: Rec,
}

/// A lease, its relatives, the fleet as it was read, and whose beat stands still.
type Look = (Shard, [Rec; SHARDS], Fleet, [bool; WORKERS]);

type Cache<K, V> = Mutex<HashMap<K, V>>;

/// Everything that was worked out so far.
pub(super) struct Memory {
    /// The stream's shards, each with its parents.
    shards: Vec<Vec<Shard>>,
    records: Mutex<Vec<LeaseRecord>>,
    ids: Mutex<BTreeMap<String, Rec>>,
    plans: Mutex<Vec<(Plan, Write)>>,
    facts: Cache<Rec, Facts>,
    planned: Cache<(Worker, Life, Rec, Wish), Option<Planned>>,
    holds: Cache<(Planned, Rec), bool>,
    updated: Cache<(Planned, Rec), Rec>,
    broken: Cache<(Rec, Rec), u16>,
    snapshots: Cache<[Rec; SHARDS], u16>,
    orphans: Cache<Look, Option<&'static str>>,
    gates: Cache<(Shard, [Rec; SHARDS]), [bool; LANES]>,
    children: Cache<(Rec, Shard), Rec>,
    settled: Cache<(Worker, Life, Holding, Rec), Settled>,
    losses: Cache<(Worker, Life, Holding, Rec), bool>,
    trusts: Cache<(Worker, Life, Holding), bool>,
    given: Cache<(Worker, Life, Rec), bool>,
}

fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap()
}

fn remembered<K: Hash + Eq + Copy, V: Copy>(
    cache: &Cache<K, V>,
    key: K,
    work: impl FnOnce() -> V,
) -> V {
    if let Some(known) = locked(cache).get(&key) {
        return *known;
    }
    let value = work();
    locked(cache).insert(key, value);
    value
}

impl Memory {
    pub(super) fn new(shards: Vec<Vec<Shard>>) -> Self {
        Self {
            shards,
            records: Mutex::default(),
            ids: Mutex::default(),
            plans: Mutex::default(),
            facts: Mutex::default(),
            planned: Mutex::default(),
            holds: Mutex::default(),
            updated: Mutex::default(),
            broken: Mutex::default(),
            snapshots: Mutex::default(),
            orphans: Mutex::default(),
            gates: Mutex::default(),
            children: Mutex::default(),
            settled: Mutex::default(),
            losses: Mutex::default(),
            trusts: Mutex::default(),
            given: Mutex::default(),
        }
    }

    /// The number of a record.
    pub(super) fn number(&self, mut record: LeaseRecord) -> Rec {
        // For people and for the Kinesis Client Library; no rule reads them.
        (record.owner_switches, record.reason) = (0, None);
        let mut ids = locked(&self.ids);
        let mut records = locked(&self.records);
        *ids.entry(format!("{record:?}")).or_insert_with(|| {
            records.push(record);
            Rec(u16::try_from(records.len()).unwrap())
        })
    }

    pub(super) fn record(&self, rec: Rec) -> Option<LeaseRecord> {
        (rec != Rec::default()).then(|| locked(&self.records)[usize::from(rec.0) - 1].clone())
    }

    fn known(&self, rec: Rec) -> LeaseRecord {
        self.record(rec).expect("a record")
    }

    pub(super) fn facts(&self, rec: Rec) -> Facts {
        remembered(&self.facts, rec, || {
            let record = self.known(rec);
            let lanes = rules::lanes();
            let written = lanes
                .iter()
                .map(|lane| record.lanes.get(lane).map_or(0, |at| rules::position(&at.checkpoint)));
            Facts {
                owner: record.owner.as_ref().and_then(rules::worker_of),
                counter: record.counter.0,
                lanes: rules::lane_positions(&record),
                written: written.collect::<Vec<_>>().try_into().unwrap(),
                finished: record.is_finished(),
                reader_ended: record.read_to == Some(rules::checkpoint(END)),
                child_skips: promises::child_skips(&record),
                core: self.number(core(&record)),
            }
        })
    }

    pub(super) fn plan(&self, planned: Planned) -> Plan {
        locked(&self.plans)[usize::from(planned.0) - 1].0
    }

    /// The write that a worker plans from the record that it saw; `None` where production refuses to.
    pub(super) fn planned(
        &self,
        (by, life): (Worker, Life),
        shard: Shard,
        seen: Rec,
        wish: Wish,
    ) -> Option<Planned> {
        remembered(&self.planned, (by, life, seen, wish), || {
            let was = self.known(seen);
            let change = self.change((by, life), seen, wish);
            let next = after(&was, &change, &rules::lanes()).ok()?;
            let write = write(&was, next);
            let after = self.number(write.after.clone());
            let by_owner = matches!(wish, Wish::Own(_));
            let mut plans = locked(&self.plans);
            let gives_up = by_owner && change.gives_up();
            plans.push((Plan { by, shard, seen, after, by_owner, gives_up }, write));
            Some(Planned(u16::try_from(plans.len()).unwrap()))
        })
    }

    fn change(&self, (by, life): (Worker, Life), seen: Rec, wish: Wish) -> Change {
        let to_end = |lane| rules::progress(lane, END);
        let reason = ASKED.to_owned();
        match wish {
            Wish::Take { why } => {
                Change::Take { to: rules::holder(by, life), reason: why.to_owned() }
            }
            Wish::Own(OwnerWrite::Advance { lane, to }) => {
                Change::Checkpoint { progress: rules::progress(lane, to) }
            }
            Wish::Own(OwnerWrite::ReaderEnded) => {
                Change::ReaderEnded { children: self.children_of(&self.known(seen)) }
            }
            Wish::Own(OwnerWrite::Finish) => {
                let mut progress = to_end(0);
                (1..LANES).for_each(|lane| progress.lanes.extend(to_end(lane).lanes));
                Change::Finish { progress }
            }
            Wish::Own(OwnerWrite::HandOver { to, life }) => {
                let to = rules::holder(to, life);
                Change::HandOver { progress: Default::default(), to, reason, declined: false }
            }
            Wish::Own(OwnerWrite::Release) => {
                Change::Release { progress: Default::default(), reason, declined: false }
            }
        }
    }

    fn children_of(&self, parent: &LeaseRecord) -> BTreeSet<ShardId> {
        let is_child =
            |child: &Shard| self.shards[*child].iter().any(|p| rules::shard(*p) == parent.shard_id);
        (0..self.shards.len()).filter(is_child).map(rules::shard).collect()
    }

    /// True if the write's condition holds for the record.
    pub(super) fn holds(&self, planned: Planned, rec: Rec) -> bool {
        remembered(&self.holds, (planned, rec), || {
            let item = self.record(rec).map(|record| record.to_item()).unwrap_or_default();
            table::holds(&locked(&self.plans)[usize::from(planned.0) - 1].1, &item)
        })
    }

    /// The record that the write makes of another.
    pub(super) fn updated(&self, planned: Planned, rec: Rec) -> Rec {
        remembered(&self.updated, (planned, rec), || {
            let item = self.record(rec).map(|record| record.to_item()).unwrap_or_default();
            let write = locked(&self.plans)[usize::from(planned.0) - 1].1.clone();
            let item = table::updated(&write, &item);
            self.number(LeaseRecord::from_item(item).unwrap().unwrap())
        })
    }

    /// The promises about one lease's history that a step from one record to the next breaks.
    pub(super) fn broken(&self, was: Rec, is: Rec) -> u16 {
        let work = || promises::broken_by_step(&self.known(was), &self.known(is));
        remembered(&self.broken, (was, is), work)
    }

    /// The promises about all leases of one moment that are broken.
    pub(super) fn broken_at(&self, leases: [Rec; SHARDS]) -> u16 {
        let cores = leases.map(|rec| self.core(rec));
        remembered(&self.snapshots, cores, || {
            promises::broken_at_once(&self.present(cores), &self.shards)
        })
    }

    fn core(&self, rec: Rec) -> Rec {
        if rec == Rec::default() { rec } else { self.facts(rec).core }
    }

    fn present(&self, leases: [Rec; SHARDS]) -> Vec<LeaseRecord> {
        leases.iter().filter_map(|rec| self.record(*rec)).collect()
    }

    /// Why the lease may be taken, if it may, for a worker that read these leases and that fleet. Other leases matter
    /// only where they are relatives', and not by their owners.
    pub(super) fn orphan(
        &self,
        shard: Shard,
        leases: [Rec; SHARDS],
        fleet: Fleet,
        silent: [bool; WORKERS],
    ) -> Option<&'static str> {
        let relevant = self.relatives(shard, leases);
        remembered(&self.orphans, (shard, relevant, fleet, silent), || {
            let standings = rules::standings(&self.present(relevant), &fleet, silent);
            match standings.get(&rules::key(shard)) {
                Some(Standing::Orphan { why, .. }) => Some(why.code()),
                _ => None,
            }
        })
    }

    /// The lanes that may read the shard, for a worker that read these leases.
    pub(super) fn open_lanes(&self, shard: Shard, leases: [Rec; SHARDS]) -> [bool; LANES] {
        let relevant = self.relatives(shard, leases);
        remembered(&self.gates, (shard, relevant), || {
            rules::open_lanes(&self.present(relevant), &rules::key(shard))
        })
    }

    /// The shard's own lease, and of its relatives' what matters to it.
    fn relatives(&self, shard: Shard, leases: [Rec; SHARDS]) -> [Rec; SHARDS] {
        let related = |a: Shard, b: Shard| {
            let parents = |of: Shard| self.shards.get(of).into_iter().flatten();
            parents(a).any(|parent| *parent == b) || parents(b).any(|parent| *parent == a)
        };
        let mut relevant = leases;
        for other in (0..SHARDS).filter(|other| *other != shard) {
            let core = self.core(leases[other]);
            relevant[other] = if related(shard, other) { core } else { Rec::default() };
        }
        relevant
    }

    /// The lease that the end of a parent gives to a child.
    pub(super) fn child(&self, parent: Rec, child: Shard) -> Rec {
        remembered(&self.children, (parent, child), || {
            self.number(rules::child_of(&self.known(parent), child, &self.shards))
        })
    }

    fn held(&self, (worker, life): (Worker, Life), holding: Holding) -> crate::held::Held {
        let doubt = self.record(holding.doubt);
        let (seen, me) = (self.known(holding.seen), rules::holder(worker, life));
        rules::held(&seen, me, doubt.as_ref(), holding.leaving)
    }

    pub(super) fn settled(&self, me: (Worker, Life), holding: Holding, actual: Rec) -> Settled {
        remembered(&self.settled, (me.0, me.1, holding, actual), || {
            match rules::verdict(&self.held(me, holding), self.record(actual).as_ref()) {
                Verdict::Happened(_) => Settled::Happened,
                Verdict::StillMine(_) => Settled::StillMine,
                Verdict::Lost => Settled::Lost,
            }
        })
    }

    pub(super) fn proves_loss(&self, me: (Worker, Life), holding: Holding, actual: Rec) -> bool {
        remembered(&self.losses, (me.0, me.1, holding, actual), || {
            rules::proves_loss(&self.held(me, holding), self.record(actual).as_ref())
        })
    }

    /// True if the holder may work on the shard while its leases are valid.
    pub(super) fn may_work(&self, me: (Worker, Life), holding: Holding) -> bool {
        let work = || rules::may_work(&self.held(me, holding));
        remembered(&self.trusts, (me.0, me.1, holding), work)
    }

    pub(super) fn is_given_to(&self, (worker, life): (Worker, Life), rec: Rec) -> bool {
        let work = || {
            let me = rules::holder(worker, life);
            self.record(rec).is_some_and(|record| rules::is_given_to(&record, &me))
        };
        remembered(&self.given, (worker, life, rec), work)
    }

    /// How many records and writes there are.
    pub(super) fn size(&self) -> (usize, usize) {
        (locked(&self.records).len(), locked(&self.plans).len())
    }
}

fn core(record: &LeaseRecord) -> LeaseRecord {
    LeaseRecord {
        owner: None,
        counter: LeaseCounter(0),
        owner_switches: 0,
        rev: None,
        reason: None,
        grant: None,
        throughput_kbps: None,
        ..record.clone()
    }
}
