//! Who writes what, how often: calls by operation, and the writes of each partition second by second.

use std::collections::BTreeMap;
use std::time::Duration;

use local_aws::{LocalAws, Seen, Service, Traced};
use serde_json::Value;

/// The writes of the partitions since the last reset.
#[derive(Default)]
pub struct Traffic {
    /// By table and partition key: a second, and the writes in it so far.
    seconds: BTreeMap<(String, String), (u64, u64)>,
    /// By table: the most writes of one partition in a second, and which that was.
    busiest: BTreeMap<String, (u64, String)>,
}

impl Traffic {
    pub fn add(&mut self, at: Duration, traced: &Traced<'_>) {
        let (table, item) = match traced.seen {
            Seen::Wrote { table, item } => (table, item),
            Seen::Deleted { table, key } => (table, key),
            _ => return,
        };
        let Some(partition) = partition_key(item) else { return };
        let key = (table.to_owned(), partition.to_owned());
        let (second, writes) = self.seconds.entry(key).or_default();
        if *second != at.as_secs() {
            (*second, *writes) = (at.as_secs(), 0);
        }
        *writes += 1;
        let busiest = self.busiest.entry(table.to_owned()).or_default();
        if *writes > busiest.0 {
            *busiest = (*writes, partition.to_owned());
        }
    }

    /// The busiest partition of each table since the last time this was asked.
    pub fn busiest(&mut self) -> BTreeMap<String, (u64, String)> {
        self.seconds.clear();
        std::mem::take(&mut self.busiest)
    }
}

fn partition_key(item: &Value) -> Option<&str> {
    ["leaseKey", "pk"].iter().find_map(|name| item[name]["S"].as_str())
}

/// Calls of DynamoDB so far, by operation and table.
pub type Calls = BTreeMap<(String, String), u64>;

pub fn calls(aws: &LocalAws) -> Calls {
    let calls = aws.calls().into_iter().filter(|call| call.service == Service::Dynamodb);
    calls.map(|call| ((call.operation, call.resource.unwrap_or_default()), call.calls)).collect()
}

/// Calls a second between two counts, the most frequent first.
pub fn rates(before: &Calls, after: &Calls, over: Duration) -> Vec<(String, f64)> {
    let rate = |((operation, table), calls): (&(String, String), &u64)| {
        let made = calls - before.get(&(operation.clone(), table.clone())).unwrap_or(&0);
        (format!("{operation} {table}"), made as f64 / over.as_secs_f64())
    };
    let mut rates: Vec<_> = after.iter().map(rate).filter(|(_, rate)| *rate > 0.0).collect();
    rates.sort_by(|a, b| b.1.total_cmp(&a.1));
    rates
}
