//! What the operator does to the stream, and what it finds there: records put, shards split and merged, tables read.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, Shard};
use lease_manager::ShardId;

use crate::ledger::Put;
use crate::world::{APP, Operator, STREAM, World};

/// An open shard: its id and its range of hash keys.
pub type Open = (String, u128, u128);

impl World {
    /// Puts a record for each key; what the stream acknowledges is owed.
    pub fn put(&self, keys: impl IntoIterator<Item = String>) {
        self.put_all(keys.into_iter().map(|key| (key, false)));
    }

    /// Puts a record for each key, which is no message where that is said.
    pub fn put_all(&self, keys: impl IntoIterator<Item = (String, bool)>) {
        let first = self.ledger().records.len();
        let mut request = self.operator.kinesis.put_records().stream_name(STREAM);
        let mut sent = Vec::new();
        for (index, (key, malformed)) in keys.into_iter().enumerate() {
            // Unique, also where a record is refused.
            let at = self.now().as_millis();
            let mut payload = format!(r#"{{"key":"{key}","at":{at},"n":{}}}"#, first + index);
            if malformed {
                payload.insert_str(0, "no JSON: ");
            }
            let data = Blob::new(payload.as_bytes());
            let entry = PutRecordsRequestEntry::builder().partition_key(&key).data(data).build();
            request = request.records(entry.unwrap());
            sent.push(Put { key, payload, malformed });
        }
        let answer = self.operator.run(request.send()).unwrap();
        let mut ledger = self.ledger();
        for (record, put) in sent.into_iter().zip(answer.records) {
            // A record over the shard's rate is refused alone.
            if let (Some(shard), Some(sequence)) = (put.shard_id, put.sequence_number) {
                ledger.put(self.now(), record, &shard, &sequence);
            }
        }
    }

    /// Splits an open shard in the middle of its range. False if the stream would not.
    pub fn split(&self, (shard, start, end): &Open) -> bool {
        let middle = start + (end - start) / 2 + 1;
        self.tell(format!("{shard} is split"));
        let request = self.operator.kinesis.split_shard().stream_name(STREAM);
        let request = request.shard_to_split(shard).new_starting_hash_key(middle.to_string());
        self.operator.run(request.send()).is_ok()
    }

    /// Merges two open shards that lie next to each other. False if the stream would not.
    pub fn merge(&self, left: &Open, right: &Open) -> bool {
        self.tell(format!("{} and {} are merged", left.0, right.0));
        let request = self.operator.kinesis.merge_shards().stream_name(STREAM);
        let request = request.shard_to_merge(&left.0).adjacent_shard_to_merge(&right.0);
        self.operator.run(request.send()).is_ok()
    }

    /// Open shards in the order of their ranges.
    pub fn open_shards(&self) -> Vec<Open> {
        let number = |text: &str| text.parse::<u128>().unwrap();
        let open = |shard: &Shard| {
            let range = shard.hash_key_range()?;
            let (start, end) = (range.starting_hash_key(), range.ending_hash_key());
            let numbers = shard.sequence_number_range()?;
            numbers
                .ending_sequence_number()
                .is_none()
                .then(|| (shard.shard_id().to_owned(), number(start), number(end)))
        };
        let mut open: Vec<Open> = self.shards().iter().filter_map(open).collect();
        open.sort_by_key(|(_, start, _)| *start);
        open
    }

    fn shards(&self) -> Vec<Shard> {
        self.operator.run(shards(&self.operator))
    }

    /// Holds the end to the promises.
    pub fn check_end(&self) {
        let id = |id: &str| ShardId::parse(id).expect("a shard's id");
        let parents = |shard: &Shard| -> BTreeSet<ShardId> {
            let parents = [shard.parent_shard_id(), shard.adjacent_parent_shard_id()];
            parents.into_iter().flatten().map(id).collect()
        };
        let listed = self.shards();
        let listed: BTreeMap<ShardId, BTreeSet<ShardId>> =
            listed.iter().map(|shard| (id(shard.shard_id()), parents(shard))).collect();
        let stored = self.operator.run(stored(&self.operator));
        self.ledger().check_end(&stored, &listed);
    }
}

async fn shards(operator: &Operator) -> Vec<Shard> {
    let (mut shards, mut next) = (Vec::new(), None);
    loop {
        let request = operator.kinesis.list_shards();
        let request = match next {
            None => request.stream_name(STREAM),
            Some(token) => request.next_token(token),
        };
        let page = request.send().await.expect("a listing");
        shards.extend(page.shards.unwrap_or_default());
        next = page.next_token;
        if next.is_none() {
            return shards;
        }
    }
}

/// The payloads in the table of messages.
async fn stored(operator: &Operator) -> Vec<String> {
    let mut payloads = Vec::new();
    let mut start: Option<HashMap<String, AttributeValue>> = None;
    loop {
        let scan = operator.dynamodb.scan().table_name(format!("{APP}-messages"));
        let scan = scan.consistent_read(true).set_exclusive_start_key(start);
        let page = scan.send().await.expect("the operator has no faults");
        for item in page.items.unwrap_or_default() {
            // Notes of where messages are have none.
            let Some(payload) = item.get("payload") else { continue };
            let payload = payload.as_b().expect("bytes").as_ref().to_vec();
            payloads.push(String::from_utf8(payload).expect("UTF-8"));
        }
        start = page.last_evaluated_key;
        if start.is_none() {
            return payloads;
        }
    }
}
