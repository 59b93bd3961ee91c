//! What was put, what the leases said over time, and whether all of it agrees with what is stored.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};

use aws_sdk_dynamodb::types::AttributeValue;
use lease_manager::{Checkpoint, LaneName, LeaseRecord, SequenceNumber, ShardId, invariants};
use processor::PIPELINES;

use crate::world::{APP, STREAM, World};

type Item = HashMap<String, AttributeValue>;

/// Every record that the stream acknowledged, and every lease as it was seen last.
#[derive(Default)]
pub struct Ledger {
    /// By payload: the shard, and the record's place in it.
    put: BTreeMap<String, (String, SequenceNumber)>,
    leases: BTreeMap<String, LeaseRecord>,
    /// What the leases became, and when: told when a promise is broken.
    history: Vec<String>,
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.history.iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

impl Ledger {
    pub fn put(&mut self, payload: String, shard: String, sequence: &str) {
        let place = (shard, SequenceNumber::parse(sequence).expect("a sequence number"));
        assert!(self.put.insert(payload, place).is_none(), "payloads are unique");
    }

    pub fn len(&self) -> usize {
        self.put.len()
    }

    /// Payloads that are not stored yet.
    pub async fn missing(&self, world: &World) -> usize {
        let stored = stored(world).await;
        self.put.keys().filter(|payload| !stored.contains_key(*payload)).count()
    }

    /// L2 to L4 and half of C1 over what the leases say now, after what they said before.
    pub async fn look(&mut self, world: &World) {
        let now = leases(world).await;
        let lanes = lanes();
        for (key, lease) in &now {
            let history: Vec<_> =
                self.leases.get(key).into_iter().chain([lease]).cloned().collect();
            held(invariants::l2_counter_rises(&history));
            held(invariants::l3_checkpoint_rises(&history));
            let smallest = lease.lanes.values().map(|lane| &lane.checkpoint).min();
            let agrees = smallest.is_none_or(|smallest| *smallest == lease.checkpoint);
            assert!(agrees, "C1: the checkpoint is not the smallest lane's: {lease:?}");
        }
        let snapshot: Vec<LeaseRecord> = now.values().cloned().collect();
        let changed = now.iter().filter(|(key, lease)| self.leases.get(*key) != Some(lease));
        self.history.extend(changed.map(|(_, lease)| format!("{:?}: {lease:?}", world.elapsed())));
        held(invariants::l4_children_wait(&snapshot, &lanes));
        self.leases = now;
    }

    /// C2: every record at or below the position of the `sync-store` lane is stored.
    pub async fn check_positions(&mut self, world: &World) {
        // The leases first: what is stored only grows, and so do positions.
        self.look(world).await;
        let stored = stored(world).await;
        for (payload, (shard, sequence)) in &self.put {
            let Some(lease) = self.leases.get(shard) else { continue };
            let lanes = lease.believed_lanes(&lanes());
            let position = &lanes[&lane(PIPELINES[0])].checkpoint;
            assert!(
                *position < Checkpoint::at(sequence.clone()) || stored.contains_key(payload),
                "C2: {shard} is at {position}, but {payload} at {sequence} is not stored"
            );
        }
    }

    /// P1: everything put is stored, once, and nothing else is. L5: every shard has a lease, and
    /// the finished ones have handed on to their children.
    pub async fn check(&mut self, world: &World) {
        self.check_positions(world).await;
        let stored = stored(world).await;
        for (payload, times) in &stored {
            assert!(self.put.contains_key(payload), "stored, but never put: {payload}");
            assert_eq!(*times, 1, "stored under {times} keys: {payload}");
        }
        let missing: Vec<_> = self.put.iter().filter(|(p, _)| !stored.contains_key(*p)).collect();
        assert!(
            missing.is_empty(),
            "P1: {} of {} records are lost, the first: {:?}",
            missing.len(),
            self.put.len(),
            missing[0]
        );
        let snapshot: Vec<LeaseRecord> = self.leases.values().cloned().collect();
        held(invariants::l5_every_shard_has_a_lease(&listed(world).await, &snapshot));
        for lease in snapshot.iter().filter(|lease| lease.is_finished()) {
            let has_lease = |child: &ShardId| self.leases.contains_key(child.as_str());
            let handed_on = !lease.children.is_empty() && lease.children.iter().all(has_lease);
            assert!(handed_on, "finished, but a child has no lease: {lease:?}");
        }
    }

    /// A number that tells two ends of a course apart: of every item in every table that is kept.
    pub async fn fingerprint(&self, world: &World) -> u64 {
        let mut hasher = DefaultHasher::new();
        for table in ["", "-messages", "-deliveries"] {
            let items = scan(world, &format!("{APP}{table}")).await;
            let items: BTreeSet<String> = items.iter().map(canonical_item).collect();
            items.hash(&mut hasher);
        }
        hasher.finish()
    }
}

fn held(invariant: Result<(), invariants::Violation>) {
    if let Err(violation) = invariant {
        panic!("{violation}");
    }
}

fn lane(name: &str) -> LaneName {
    LaneName::parse(name).expect("a lane's name")
}

fn lanes() -> [LaneName; 2] {
    PIPELINES.map(lane)
}

async fn leases(world: &World) -> BTreeMap<String, LeaseRecord> {
    let items = scan(world, APP).await.into_iter();
    let leases = items.filter_map(|item| LeaseRecord::from_item(item).expect("a lease"));
    leases.map(|lease| (lease.shard_id.to_string(), lease)).collect()
}

/// The shards that the stream lists, with their parents.
async fn listed(world: &World) -> BTreeMap<ShardId, BTreeSet<ShardId>> {
    let answer = world.kinesis.list_shards().stream_name(STREAM).send().await.expect("a listing");
    let id = |id: &str| ShardId::parse(id).expect("a shard's id");
    let parents = |shard: &aws_sdk_kinesis::types::Shard| {
        let parents = [shard.parent_shard_id(), shard.adjacent_parent_shard_id()];
        parents.into_iter().flatten().map(id).collect()
    };
    answer.shards().iter().map(|shard| (id(shard.shard_id()), parents(shard))).collect()
}

async fn stored(world: &World) -> BTreeMap<String, u64> {
    let mut stored = BTreeMap::new();
    for item in scan(world, &format!("{APP}-messages")).await {
        let payload = item["payload"].as_b().expect("bytes").as_ref().to_vec();
        *stored.entry(String::from_utf8(payload).expect("UTF-8")).or_insert(0) += 1;
    }
    stored
}

/// Every item of a table.
async fn scan(world: &World, table: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let mut start = None;
    loop {
        let request = world.dynamodb.scan().table_name(table).set_exclusive_start_key(start);
        let page = request.consistent_read(true).send().await.expect("the operator has no faults");
        items.extend(page.items.unwrap_or_default());
        start = page.last_evaluated_key;
        if start.is_none() {
            return items;
        }
    }
}

fn canonical_item(item: &Item) -> String {
    let fields: BTreeMap<&String, String> = item.iter().map(|(k, v)| (k, canonical(v))).collect();
    format!("{fields:?}")
}

fn canonical(value: &AttributeValue) -> String {
    match value {
        AttributeValue::M(fields) => canonical_item(fields),
        AttributeValue::L(values) => values.iter().map(canonical).collect::<Vec<_>>().join(","),
        AttributeValue::Ss(texts) => format!("{:?}", texts.iter().collect::<BTreeSet<_>>()),
        other => format!("{other:?}"),
    }
}
