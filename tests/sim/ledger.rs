//! What was put, and whether all of it is where it belongs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;

use crate::world::{APP, World};

type Item = HashMap<String, AttributeValue>;

/// Every record that the stream acknowledged, by its payload.
#[derive(Default)]
pub struct Ledger {
    put: BTreeSet<String>,
}

impl Ledger {
    pub fn put(&mut self, payload: String) {
        assert!(self.put.insert(payload), "payloads are unique");
    }

    pub fn len(&self) -> usize {
        self.put.len()
    }

    /// Payloads that are not stored yet.
    pub async fn missing(&self, world: &World) -> usize {
        let stored = stored(world).await;
        self.put.iter().filter(|payload| !stored.contains_key(*payload)).count()
    }

    /// P1: everything put is stored, once, and nothing else is.
    pub async fn check(&self, world: &World) {
        let stored = stored(world).await;
        for (payload, times) in &stored {
            assert!(self.put.contains(payload), "stored, but never put: {payload}");
            assert_eq!(*times, 1, "stored under {times} keys: {payload}");
        }
        let missing: Vec<_> =
            self.put.iter().filter(|payload| !stored.contains_key(*payload)).collect();
        assert!(
            missing.is_empty(),
            "P1: {} of {} records are lost, the first: {:?}",
            missing.len(),
            self.put.len(),
            missing[0]
        );
    }
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
pub async fn scan(world: &World, table: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let mut start = None;
    loop {
        let request = world.dynamodb.scan().table_name(table).set_exclusive_start_key(start);
        let Ok(page) = request.send().await else {
            start = None;
            items.clear();
            continue;
        };
        items.extend(page.items.unwrap_or_default());
        start = page.last_evaluated_key;
        if start.is_none() {
            return items;
        }
    }
}
