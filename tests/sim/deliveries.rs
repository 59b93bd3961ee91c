//! What became of each record at each receiver, and in which order: C2 and O1 for deliveries.

use std::collections::BTreeMap;

use lease_manager::SequenceNumber;
use serde_json::Value;

use crate::ranges::Ranges;
use crate::receivers::{is_ordered, of_subscription};

/// What became of one record at one receiver.
#[derive(Debug, Clone, Default)]
struct Fate {
    /// Written down to be tried later, at least once.
    parked: bool,
    /// Given up, with its payload kept.
    dead: bool,
    delivered: bool,
    /// Lost to the stream's retention, as was written down.
    lost: bool,
}

impl Fate {
    /// It has come to an end.
    fn is_over(&self) -> bool {
        self.delivered || self.dead || self.lost
    }
}

/// A process while it owns a shard: its next owner may go back, and begin again where it finds things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tenure {
    pub life: u64,
    /// The lease's counter.
    pub counter: u64,
}

/// The last attempts of a group at a receiver that asks for order.
#[derive(Default)]
struct Last {
    /// Of the lease, when they were made.
    counter: u64,
    /// By the process that made them: a former owner may not know yet that it is none.
    by_life: BTreeMap<u64, usize>,
    /// The furthest record that was attempted so far, by anyone.
    furthest: usize,
}

/// The fates of all records at all receivers.
#[derive(Default)]
pub struct Deliveries {
    /// By receiver, then by record.
    fates: Vec<Vec<Fate>>,
    /// Records whose fate is open, over all receivers.
    open: usize,
    ranges: Ranges,
    /// Parked ones that were deleted in the step under way, which must have come to an end.
    deleted: Vec<(usize, usize)>,
    /// By receiver and group: a key, or a shard.
    last: BTreeMap<(usize, String), Last>,
    attempts: u64,
    parked: u64,
    dead: u64,
}

/// How many attempts were made, and how many deliveries were parked and given up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub attempts: u64,
    pub parked: u64,
    pub dead: u64,
}

impl Deliveries {
    /// From now on there are so many receivers, each of which wants every record.
    pub fn to(&mut self, receivers: usize) {
        self.fates = vec![Vec::new(); receivers];
    }

    /// A record was put; `wanted` says whether it is a message that is delivered.
    pub fn put(&mut self, wanted: bool) {
        for fates in &mut self.fates {
            fates.push(Fate { delivered: !wanted, ..Fate::default() });
            self.open += usize::from(wanted);
        }
    }

    /// Deliveries that have not come to an end, and ranges that are open.
    pub fn open(&self) -> usize {
        self.open + self.ranges.open()
    }

    pub fn tally(&self) -> Tally {
        Tally { attempts: self.attempts, parked: self.parked, dead: self.dead }
    }

    /// Delivered, parked, dead-lettered or covered by an open range at every receiver: nothing more is owed by the lane, which passes it.
    pub fn is_settled(&mut self, record: usize, shard: &str, sequence: &SequenceNumber) -> bool {
        let Deliveries { fates, ranges, .. } = self;
        fates.iter().enumerate().all(|(receiver, fates)| {
            let fate = &fates[record];
            let settled = fate.is_over() || fate.parked;
            settled || ranges.covers((receiver, shard.to_owned()), sequence, record)
        })
    }

    /// A range was written. C2: it lets go of a record only once that is settled in another way.
    pub fn range_wrote(&mut self, item: &Value) -> Result<(), String> {
        let let_go = self.ranges.wrote(item);
        self.check_let_go(let_go)
    }

    /// A range was removed.
    pub fn range_removed(&mut self, key: &Value) -> Result<(), String> {
        let let_go = self.ranges.removed(key);
        self.check_let_go(let_go)
    }

    fn check_let_go(&self, let_go: Option<(usize, Vec<usize>)>) -> Result<(), String> {
        let Some((receiver, records)) = let_go else { return Ok(()) };
        let owed = |record: &&usize| {
            let fate = &self.fates[receiver][**record];
            !(fate.is_over() || fate.parked)
        };
        match records.iter().find(owed) {
            None => Ok(()),
            Some(record) => Err(format!(
                "C2: the range of receiver {receiver} lets go of record {record}, which is not settled"
            )),
        }
    }

    /// A receiver can be sent a record no more: it is not in the stream.
    pub fn lost_to(&mut self, receiver: usize, record: usize) {
        let fate = &mut self.fates[receiver][record];
        self.open -= usize::from(!fate.is_over());
        fate.lost = true;
    }

    /// An attempt begins. O1, for receivers that ask for order: everything before it in its group was delivered or given up, and nobody
    /// goes back while it owns the shard. The next owner may: then it begins anew there, and all that follows comes again. `earlier` are
    /// the records of the group before this one.
    pub fn attempted(
        &mut self,
        receiver: usize,
        record: usize,
        tenure: Tenure,
        group: &str,
        earlier: impl Iterator<Item = usize>,
    ) -> Result<(), String> {
        self.attempts += 1;
        if !is_ordered(receiver) {
            return Ok(());
        }
        let fates = &self.fates[receiver];
        if let Some(before) = earlier.into_iter().find(|before| !fates[*before].is_over()) {
            return Err(format!(
                "O1: receiver {receiver} is sent record {record} before record {before} of {group}"
            ));
        }
        let last = self.last.entry((receiver, group.to_owned())).or_default();
        if last.counter != tenure.counter {
            last.counter = tenure.counter;
            last.by_life.clear();
        }
        last.furthest = last.furthest.max(record);
        match last.by_life.insert(tenure.life, record) {
            Some(before) if before > record => Err(format!(
                "O1: receiver {receiver} is sent record {record} of {group} after record {before} by the same owner"
            )),
            _ => Ok(()),
        }
    }

    /// O1: whoever went back came forward again, so that the last a receiver saw of a group by its newest owner is the group's newest;
    /// unless the stream had lost that by then, as was written down.
    pub fn stale(&self) -> Option<String> {
        let is_stale = |(receiver, last): (usize, &Last)| {
            !last.by_life.values().any(|record| *record == last.furthest)
                && !self.fates[receiver][last.furthest].lost
        };
        let (key, last) = self.last.iter().find(|((r, _), last)| is_stale((*r, last)))?;
        Some(format!("O1: the last that {key:?} saw is {:?}, of {}", last.by_life, last.furthest))
    }

    /// A receiver took a record.
    pub fn delivered(&mut self, receiver: usize, record: usize) {
        let fate = &mut self.fates[receiver][record];
        self.open -= usize::from(!fate.is_over());
        fate.delivered = true;
    }

    /// A delivery was written down, to be tried later.
    pub fn parked(&mut self, receiver: usize, record: usize) {
        let fate = &mut self.fates[receiver][record];
        self.parked += u64::from(!fate.parked);
        fate.parked = true;
    }

    /// A delivery was given up, and kept.
    pub fn dead(&mut self, receiver: usize, record: usize) {
        let fate = &mut self.fates[receiver][record];
        self.open -= usize::from(!fate.is_over());
        self.dead += u64::from(!fate.dead);
        fate.dead = true;
    }

    /// Nobody can deliver a record any more: it is not in the stream.
    pub fn lost(&mut self, record: usize) {
        (0..self.fates.len()).for_each(|receiver| self.lost_to(receiver, record));
    }

    /// A parked delivery was deleted.
    pub fn deleted(&mut self, receiver: usize, record: usize) {
        self.deleted.push((receiver, record));
    }

    /// P1: what was parked is forgotten only once it has come to an end.
    pub fn check(&mut self) -> Result<(), String> {
        let forgotten = self
            .deleted
            .drain(..)
            .find(|(receiver, record)| !self.fates[*receiver][*record].is_over());
        match forgotten {
            None => Ok(()),
            Some((receiver, record)) => Err(format!(
                "P1: the parked delivery of record {record} to receiver {receiver} is deleted"
            )),
        }
    }

    /// Panics if a receiver was left with something old.
    pub fn check_end(&self) {
        if let Some(stale) = self.stale() {
            panic!("{stale}");
        }
    }

    /// The records that each receiver still waits for.
    pub fn waited_for(&self) -> BTreeMap<usize, Vec<usize>> {
        let open = |fates: &Vec<Fate>| {
            let open = fates.iter().enumerate().filter(|(_, fate)| !fate.is_over());
            open.map(|(record, _)| record).collect()
        };
        self.fates.iter().map(open).enumerate().collect()
    }
}

/// The receiver and the message's id of a parked delivery, by its key; that of one in a chain ends with the id.
pub fn parked_message(item: &Value) -> Option<(usize, &str)> {
    let (partition, sort) = (item["pk"]["S"].as_str()?, item["sk"]["S"].as_str()?);
    let mut parts = partition.split('#');
    match parts.next()? {
        "parked" => Some((of_subscription(parts.next()?)?, parts.next()?)),
        "chain" => Some((of_subscription(parts.next()?)?, sort.rsplit('#').next()?)),
        _ => None,
    }
}
