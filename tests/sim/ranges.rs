//! Open ranges: what of a shard a receiver is still owed, though its lane has passed it. C2 for what is settled without a write.

use std::collections::BTreeMap;

use lease_manager::SequenceNumber;
use serde_json::Value;

use crate::receivers::of_subscription;

/// Whose range, and of which shard.
pub type Of = (usize, String);

/// All ranges that are open, and what depends on them.
#[derive(Default)]
pub struct Ranges {
    /// Where each begins: the sequence number and the index in the aggregate.
    open: BTreeMap<Of, (SequenceNumber, u64)>,
    /// Records that a lane passed only because a range covers them.
    relied: BTreeMap<Of, BTreeMap<SequenceNumber, usize>>,
}

impl Ranges {
    /// Ranges that are open.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// A lane passes this record. True if a range covers it, on which everything depends from now on.
    pub fn covers(&mut self, of: Of, sequence: &SequenceNumber, record: usize) -> bool {
        let covered = self.open.get(&of).is_some_and(|from| from <= &(sequence.clone(), 0));
        if covered {
            self.relied.entry(of).or_default().insert(sequence.clone(), record);
        }
        covered
    }

    /// A range was written: gives the records of this receiver that it does not cover any more.
    pub fn wrote(&mut self, item: &Value) -> Option<(usize, Vec<usize>)> {
        let of = of_range(item)?;
        let text = |name: &str, kind: &str| item[name][kind].as_str().expect("a range").to_owned();
        let sequence = SequenceNumber::parse(text("sequence", "S")).expect("a sequence number");
        let from = (sequence, text("index", "N").parse().expect("a number"));
        let relied = self.relied.entry(of.clone()).or_default();
        let still = relied.split_off(&from.0);
        let mut passed = std::mem::replace(relied, still);
        // Records are no aggregates here: an index is behind the record.
        if from.1 > 0
            && let Some(record) = relied.remove(&from.0)
        {
            passed.insert(from.0.clone(), record);
        }
        let receiver = of.0;
        self.open.insert(of, from);
        Some((receiver, passed.into_values().collect()))
    }

    /// A range was removed: gives the records of this receiver that depended on it.
    pub fn removed(&mut self, key: &Value) -> Option<(usize, Vec<usize>)> {
        let of = of_range(key)?;
        self.open.remove(&of);
        let relied = self.relied.remove(&of).unwrap_or_default();
        Some((of.0, relied.into_values().collect()))
    }
}

/// The receiver and the shard of a range, by its key.
fn of_range(item: &Value) -> Option<Of> {
    let mut parts = item["pk"]["S"].as_str()?.strip_prefix("range#")?.split('#').skip(1);
    Some((of_subscription(item["sk"]["S"].as_str()?)?, parts.next()?.to_owned()))
}
