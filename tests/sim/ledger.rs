//! What was put into the stream, and what became of it: fed by the wire, held to the promises at every write.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lease_manager::{Checkpoint, SequenceNumber, ShardId};
use serde_json::Value;

use crate::leases::{Leases, lanes};
use crate::wire;

/// A record that the stream acknowledged.
pub struct Record {
    pub key: String,
    pub shard: String,
    pub put_at: Duration,
    pub stored_at: Option<Duration>,
}

/// Every record that the stream acknowledged, what of it is stored, and every lease.
#[derive(Default)]
pub struct Ledger {
    pub records: Vec<Record>,
    pub leases: Leases,
    by_payload: BTreeMap<String, usize>,
    by_key: BTreeMap<String, Vec<usize>>,
    /// By shard, those that no position of its lease covered yet.
    unsettled: BTreeMap<String, BTreeMap<SequenceNumber, usize>>,
    missing: usize,
    broken: Option<String>,
    told: Vec<(Duration, String)>,
}

impl Ledger {
    /// The stream acknowledged a record.
    pub fn put(&mut self, at: Duration, key: &str, payload: String, shard: &str, sequence: &str) {
        let (index, shard) = (self.records.len(), shard.to_owned());
        let sequence = SequenceNumber::parse(sequence).expect("a sequence number");
        self.by_key.entry(key.to_owned()).or_default().push(index);
        self.unsettled.entry(shard.clone()).or_default().insert(sequence, index);
        assert!(self.by_payload.insert(payload, index).is_none(), "payloads are unique");
        self.records.push(Record { key: key.to_owned(), shard, put_at: at, stored_at: None });
        self.missing += 1;
    }

    /// Something happened that is worth telling when a promise is broken.
    pub fn tell(&mut self, at: Duration, line: String) {
        self.told.push((at, line));
    }

    /// Records that are not stored yet.
    pub fn missing(&self) -> usize {
        self.missing
    }

    /// Panics if a promise was broken since.
    pub fn check(&self) {
        if let Some(broken) = &self.broken {
            panic!("{broken}");
        }
    }

    /// A message was written.
    pub fn message_wrote(&mut self, at: Duration, by: &str, item: &Value) {
        let payload = String::from_utf8(wire::bytes(&item["payload"]["B"])).expect("UTF-8");
        let Some(&index) = self.by_payload.get(&payload) else {
            return self.breaks(at, format!("{by} stores what was never put: {payload}"));
        };
        if self.records[index].stored_at.is_some() {
            return;
        }
        self.records[index].stored_at = Some(at);
        self.missing -= 1;
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

    /// A lease was written. C2: every record at or below the position of the `sync-store` lane is stored.
    pub fn lease_wrote(&mut self, at: Duration, by: &str, item: &Value) {
        let lease = match self.leases.wrote(at, by, item) {
            Ok(lease) => lease,
            Err(broken) => return self.breaks(at, format!("{broken}; written by {by}")),
        };
        let [store, _] = lanes();
        let position = lease.believed_lanes(&lanes())[&store].checkpoint.clone();
        let shard = lease.shard_id.as_str().to_owned();
        let Some(unsettled) = self.unsettled.get_mut(&shard) else { return };
        let mut lost = None;
        while let Some(first) = unsettled.first_entry()
            && Checkpoint::at(first.key().clone()) <= position
        {
            if self.records[*first.get()].stored_at.is_none() {
                lost = Some(first.key().clone());
            }
            first.remove();
        }
        if let Some(lost) = lost {
            self.breaks(
                at,
                format!("C2: {by} puts {shard} to {position}, but {lost} is not stored"),
            );
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
    pub fn check_end(&self, stored: &[String], listed: &BTreeMap<ShardId, BTreeSet<ShardId>>) {
        self.check();
        let mut seen = BTreeSet::new();
        for payload in stored {
            assert!(self.by_payload.contains_key(payload), "stored, but never put: {payload}");
            assert!(seen.insert(payload), "stored under two keys: {payload}");
        }
        let lost = self.by_payload.keys().filter(|payload| !seen.contains(payload));
        let lost: Vec<&String> = lost.collect();
        let total = self.records.len();
        assert!(lost.is_empty(), "P1: {} of {total} records are lost: {lost:?}", lost.len());
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
