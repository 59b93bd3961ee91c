//! What was put into the stream, and what became of it: fed by the wire, held to the promises at every write. What the stream did not
//! keep for long enough is in `losses`.

mod losses;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lease_manager::{Checkpoint, SequenceNumber, ShardId};
use serde_json::Value;

use crate::climate::Climate;
use crate::deliveries::{Deliveries, Tenure, parked_message};
use crate::leases::{Leases, lanes};
use crate::notes::Notes;
use crate::receivers::{is_ordered_by_shard, of_subscription};
use crate::starts::Starts;
use crate::wire;

/// A record that the stream acknowledged.
pub struct Record {
    pub key: String,
    pub shard: String,
    pub put_at: Duration,
    /// When it was stored; for what is no message, when its dead letter was.
    pub stored_at: Option<Duration>,
    /// Never stored: the stream did not keep it for long enough, as was written down.
    pub lost: bool,
    /// The stream did not keep it until the store's lane came by, as was written down.
    pub passed_by: bool,
    /// Under which entity and which key it is stored.
    pub place: Option<(String, String)>,
    /// No message: it is owed a dead letter, and nobody is sent it.
    pub malformed: bool,
}

impl Record {
    /// Stored, and in one of these notes if there must be such; or passed by, which is written down.
    fn is_stored(&self, notes: Option<&Notes>) -> bool {
        let is_noted = |notes: &Notes| self.place.as_ref().is_none_or(|place| notes.has(place));
        self.stored_at.is_some() && (self.passed_by || notes.is_none_or(is_noted))
    }
}

/// What is put into the stream.
pub struct Put {
    pub key: String,
    pub payload: String,
    pub malformed: bool,
}

/// Every record that the stream acknowledged, what of it is stored, and every lease.
#[derive(Default)]
pub struct Ledger {
    pub records: Vec<Record>,
    pub leases: Leases,
    pub deliveries: Deliveries,
    by_payload: BTreeMap<String, usize>,
    /// Those that were parked, by the message's id.
    by_message: BTreeMap<String, usize>,
    by_key: BTreeMap<String, Vec<usize>>,
    by_shard: BTreeMap<String, BTreeMap<SequenceNumber, usize>>,
    /// By shard and lane, those that no position of its lease covered yet.
    unsettled: BTreeMap<String, [BTreeMap<SequenceNumber, usize>; 2]>,
    starts: Starts,
    pub notes: Notes,
    /// Whether what is settled is noted, too.
    tailed: bool,
    missing: usize,
    retention: Option<Duration>,
    broken: Option<String>,
    told: Vec<(Duration, String)>,
}

impl Ledger {
    /// There are so many receivers, each of which wants every record, and this is how the world is.
    pub fn begin(&mut self, receivers: usize, climate: &Climate) {
        self.deliveries.to(receivers);
        self.retention = climate.retention;
        self.tailed = climate.tailed;
    }

    /// The stream acknowledged a record.
    pub fn put(&mut self, at: Duration, put: Put, shard: &str, sequence: &str) {
        let (index, shard) = (self.records.len(), shard.to_owned());
        let Put { key, payload, malformed } = put;
        let sequence = SequenceNumber::parse(sequence).expect("a sequence number");
        self.by_key.entry(key.clone()).or_default().push(index);
        self.by_shard.entry(shard.clone()).or_default().insert(sequence.clone(), index);
        for lane in self.unsettled.entry(shard.clone()).or_default() {
            lane.insert(sequence.clone(), index);
        }
        assert!(self.by_payload.insert(payload, index).is_none(), "payloads are unique");
        self.records.push(Record {
            key,
            shard,
            put_at: at,
            stored_at: None,
            lost: false,
            passed_by: false,
            place: None,
            malformed,
        });
        self.deliveries.put(!malformed);
        self.missing += 1;
    }

    /// Something happened that is worth telling when a promise is broken.
    pub fn tell(&mut self, at: Duration, line: String) {
        self.told.push((at, line));
    }

    /// Records that are not stored yet, and deliveries that have not come to an end.
    pub fn missing(&self) -> usize {
        self.missing + self.deliveries.open()
    }

    /// Panics if a promise was broken since.
    pub fn check(&mut self) {
        if let Err(broken) = self.deliveries.check() {
            self.broken.get_or_insert(broken);
        }
        if let Some(broken) = &self.broken {
            panic!("{broken}");
        }
    }

    /// The record of this payload.
    fn record(&mut self, at: Duration, by: &str, payload: &str) -> Option<usize> {
        let found = self.by_payload.get(payload).copied();
        if found.is_none() {
            self.breaks(at, format!("{by} handles what was never put: {payload}"));
        }
        found
    }

    /// A message was written, or where some of them are.
    pub fn message_wrote(&mut self, at: Duration, by: &str, item: &Value) {
        if self.notes.wrote(at, item) {
            return;
        }
        let payload = String::from_utf8(wire::bytes(&item["payload"]["B"])).expect("UTF-8");
        let Some(index) = self.record(at, by, &payload) else { return };
        if self.records[index].malformed {
            return self.breaks(at, format!("{by} stores what is no message: {payload}"));
        }
        let text = |name: &str| item[name]["S"].as_str().expect("text").to_owned();
        let entity = text("pk").split_once('#').expect("integration#entity").1.to_owned();
        self.records[index].place = Some((entity, text("sk")));
        if !self.kept(at, index) {
            return;
        }
        // Order of a key over a reshard: what was put into another shard before came from an ancestor.
        let (key, shard) = (&self.records[index].key, &self.records[index].shard);
        let earlier = self.by_key[key].iter().take_while(|earlier| **earlier < index);
        let overtaken = earlier
            .map(|earlier| &self.records[*earlier])
            .find(|earlier| earlier.shard != *shard && earlier.stored_at.is_none());
        if let Some(earlier) = overtaken {
            let line = format!(
                "order of {key}: {by} stores {payload} of {shard} before the last record of {}",
                earlier.shard
            );
            self.breaks(at, line);
        }
    }

    /// A record is stored, or has its dead letter; false if it was so before.
    fn kept(&mut self, at: Duration, index: usize) -> bool {
        let first = self.records[index].stored_at.is_none();
        if first {
            self.records[index].stored_at = Some(at);
            self.missing -= 1;
        }
        first
    }

    /// A delivery was parked or changed, or a dead letter was written.
    pub fn delivery_wrote(&mut self, at: Duration, by: &str, item: &Value) {
        let partition = item["pk"]["S"].as_str().unwrap_or_default();
        if partition.starts_with("range#") {
            let done = self.deliveries.range_wrote(item);
            return self.hold_to(at, by, done);
        }
        // Heads of chains and who owns them, who fails since when, how attempts went, how far shards were read and when ranges were
        // closed are no deliveries.
        let others = ["chains#", "failing#", "attempts#", "settled#", "closed#"];
        if others.iter().any(|kind| partition.starts_with(kind)) {
            return;
        }
        let payload = String::from_utf8(wire::bytes(&item["payload"]["B"])).expect("UTF-8");
        if item["reason"]["S"] == "lost-to-retention" {
            return self.loss(at, by, &payload);
        }
        if item["reason"]["S"] == "range-given-up" {
            return self.range_loss(at, by, &payload);
        }
        let Some(index) = self.record(at, by, &payload) else { return };
        let parked = parked_message(item);
        if let Some((_, message)) = parked {
            self.by_message.insert(message.to_owned(), index);
        }
        match item["subscription"]["S"].as_str().and_then(of_subscription) {
            Some(receiver) if parked.is_some() => self.deliveries.parked(receiver, index),
            Some(receiver) => self.deliveries.dead(receiver, index),
            None if self.records[index].malformed => drop(self.kept(at, index)),
            None => self.breaks(at, format!("{by} gives up a message: {item}")),
        }
    }

    fn hold_to(&mut self, at: Duration, by: &str, done: Result<(), String>) {
        if let Err(broken) = done {
            self.breaks(at, format!("{broken}; by {by}"));
        }
    }

    /// A parked delivery was deleted, or a range.
    pub fn delivery_deleted(&mut self, at: Duration, by: &str, key: &Value) {
        let done = self.deliveries.range_removed(key);
        self.hold_to(at, by, done);
        if let Some((receiver, message)) = parked_message(key)
            && let Some(index) = self.by_message.get(message)
        {
            self.deliveries.deleted(receiver, *index);
        }
    }

    /// A process makes an attempt.
    pub fn attempted(&mut self, at: Duration, life: u64, receiver: usize, payload: &str) {
        let Some(index) = self.record(at, "a courier", payload) else { return };
        let Record { key, shard, .. } = &self.records[index];
        let counter = self.leases.counter(shard);
        let whole = is_ordered_by_shard(receiver);
        let group = if whole { shard.clone() } else { key.clone() };
        // Of what is ordered by the shard, what was put into its ancestors comes before.
        let members: Vec<usize> = match whole {
            true => self.by_shard[shard].values().copied().collect(),
            false => self.by_key[key].clone(),
        };
        let earlier = members.iter().copied().take_while(|earlier| *earlier < index);
        let earlier = earlier.filter(|earlier| !self.records[*earlier].malformed);
        let tenure = Tenure { life, counter };
        // What the stream does not have any more nobody can wait for; that it is written down is seen to elsewhere.
        let gone = at.checked_sub(self.retention.unwrap_or(Duration::MAX));
        let ancestors = if whole { self.before(shard) } else { Vec::new() };
        let earlier = ancestors.into_iter().chain(earlier);
        let earlier = earlier.filter(|i| gone.is_none_or(|gone| self.records[*i].put_at >= gone));
        let done = self.deliveries.attempted(receiver, index, tenure, &group, earlier);
        if let Err(broken) = done {
            let line = format!("{broken}; that is {payload} of {shard}");
            self.breaks(at, line);
        }
    }

    /// Messages that were put into the shard's ancestors, as far as these have a hash key in common with it. Halves of a stream that were
    /// merged and split again descend from each other, and nothing that was put into one can be of a key of the other.
    fn before(&self, of: &str) -> Vec<usize> {
        let parents = self.leases.parents();
        let (mut open, mut found) = (vec![of], Vec::new());
        while let Some(shard) = open.pop() {
            for parent in parents.get(shard).into_iter().flatten() {
                open.push(parent);
                if !self.leases.overlap(of, parent) {
                    continue;
                }
                found.extend(
                    self.by_shard.get(*parent).into_iter().flat_map(BTreeMap::values).copied(),
                );
            }
        }
        found.retain(|index| !self.records[*index].malformed);
        found
    }

    /// A receiver took a message.
    pub fn delivered(&mut self, receiver: usize, payload: &str) {
        if let Some(index) = self.by_payload.get(payload) {
            self.deliveries.delivered(receiver, *index);
        }
    }

    /// A lease was written. C2: every record at or below a lane's position is settled in that lane.
    pub fn lease_wrote(&mut self, at: Duration, by: &str, item: &Value) {
        let made = !self.leases.is_known(item);
        let lease = match self.leases.wrote(at, by, item) {
            Ok(lease) => lease,
            Err(broken) => return self.breaks(at, format!("{broken}; written by {by}")),
        };
        let believed = lease.believed_lanes(&lanes());
        let positions = lanes().map(|lane| believed[&lane].checkpoint.clone());
        let shard = lease.shard_id.as_str().to_owned();
        if made {
            self.begins(at, &shard);
        }
        let Some(unsettled) = self.unsettled.get_mut(&shard) else { return };
        let mut lost = None;
        for (lane, (unsettled, position)) in unsettled.iter_mut().zip(&positions).enumerate() {
            while let Some(first) = unsettled.first_entry()
                && Checkpoint::at(first.key().clone()) <= *position
            {
                let index = *first.get();
                let settled = match lane {
                    0 => self.records[index].is_stored(self.tailed.then_some(&self.notes)),
                    _ => self.deliveries.is_settled(index, &shard, first.key()),
                };
                if !settled {
                    let (lane, sequence) = (&lanes()[lane], first.key());
                    lost = Some(format!(
                        "{sequence} is not settled, and {lane} of {shard} is put to {position}"
                    ));
                }
                first.remove();
            }
        }
        if let Some(lost) = lost {
            self.breaks(at, format!("C2: {lost}, by {by}"));
        }
    }

    pub fn lease_deleted(&mut self, at: Duration, by: &str, key: &Value) {
        if let Err(broken) = self.leases.deleted(key) {
            self.breaks(at, format!("{broken}; by {by}"));
        }
    }

    fn breaks(&mut self, at: Duration, broken: String) {
        self.told.push((at, broken.clone()));
        self.broken.get_or_insert(format!("at {at:?}: {broken}"));
    }

    /// P1: everything put is stored, once, and nothing else is. `stored` is what the table holds in the end.
    pub fn check_end(&mut self, stored: &[String], listed: &BTreeMap<ShardId, BTreeSet<ShardId>>) {
        self.check();
        let mut seen = BTreeSet::new();
        for payload in stored {
            assert!(self.by_payload.contains_key(payload), "stored, but never put: {payload}");
            assert!(seen.insert(payload), "stored under two keys: {payload}");
        }
        let message = |index: usize| !self.records[index].malformed && !self.records[index].lost;
        let messages = self.by_payload.iter().filter(|(_, index)| message(**index));
        let lost = messages.map(|(payload, _)| payload).filter(|payload| !seen.contains(payload));
        let lost: Vec<&String> = lost.collect();
        let total = self.records.len();
        assert!(lost.is_empty(), "P1: {} of {total} records are lost: {lost:?}", lost.len());
        let waited_for = self.deliveries.waited_for();
        let all = waited_for.values().all(Vec::is_empty);
        assert!(all, "P1: receivers wait for {waited_for:?}");
        self.deliveries.check_end();
        self.leases.check_cover(listed);
    }
}

/// What led to a broken promise.
impl Drop for Ledger {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut lines: Vec<_> = self.leases.tell().chain(self.told.drain(..)).collect();
            lines.sort_by_key(|(at, _)| *at);
            lines.iter().for_each(|(at, line)| eprintln!("{at:>10.3?} {line}"));
        }
    }
}
