//! What the writer holds, and who may hand it more: a shard may hold as much as is still free.
//!
//! So one shard whose records are refused takes half of the room at most, two a third each, and there is
//! always some left for those that are well. It never waits: no room is an answer, and the lane that
//! gets it detaches or stops reading.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::batch::ShardContext;

/// The writer's room. The lock guards a few numbers, is taken once a batch and held for no I/O.
#[derive(Debug)]
pub(super) struct Room {
    total: Held,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    all: Held,
    /// By the address of the shard's context, which a [`Place`] keeps alive.
    shards: HashMap<usize, Held>,
}

/// Batches and their bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Held {
    batches: usize,
    bytes: usize,
}

/// A batch's place in the room: free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    shard: Arc<ShardContext>,
    bytes: usize,
}

impl Room {
    pub(super) fn new(batches: usize, bytes: usize) -> Arc<Room> {
        Arc::new(Room { total: Held { batches, bytes }, inner: Mutex::default() })
    }

    /// A place for a batch of this shard, or none now.
    pub(super) fn take(self: &Arc<Self>, shard: &Arc<ShardContext>, bytes: usize) -> Option<Place> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let key = Arc::as_ptr(shard) as usize;
        let held = inner.shards.get(&key).copied().unwrap_or_default();
        if !may_take(held, inner.all, self.total) {
            return None;
        }
        inner.all.add(bytes);
        inner.shards.entry(key).or_default().add(bytes);
        drop(inner);
        Some(Place { room: Arc::clone(self), shard: Arc::clone(shard), bytes })
    }

    /// Batches held now.
    pub(super) fn batches(&self) -> usize {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).all.batches
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.room.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.all.remove(self.bytes);
        let key = Arc::as_ptr(&self.shard) as usize;
        if let Some(held) = inner.shards.get_mut(&key) {
            held.remove(self.bytes);
            if held.batches == 0 {
                inner.shards.remove(&key);
            }
        }
    }
}

impl Held {
    fn add(&mut self, bytes: usize) {
        self.batches += 1;
        self.bytes += bytes;
    }

    fn remove(&mut self, bytes: usize) {
        self.batches = self.batches.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// A shard that holds nothing gets the last place; one that holds something, less than is free.
fn may_take(shard: Held, all: Held, total: Held) -> bool {
    let free_batches = total.batches.saturating_sub(all.batches);
    let free_bytes = total.bytes.saturating_sub(all.bytes);
    match shard.batches {
        0 => free_batches > 0,
        held => held < free_batches && shard.bytes < free_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard() -> Arc<ShardContext> {
        Arc::new(ShardContext {
            stream_arn: Arc::from("stream"),
            shard_id: Arc::from("shardId-0"),
            fence: 1,
            starting_hash_key: 0,
            ending_hash_key: u128::MAX,
        })
    }

    fn fill(room: &Arc<Room>, shard: &Arc<ShardContext>, bytes: usize) -> Vec<Place> {
        std::iter::from_fn(|| room.take(shard, bytes)).collect()
    }

    #[test]
    fn one_shard_takes_half_two_take_a_third_and_a_third_one_finds_room() {
        let room = Room::new(100, 1_000_000);
        let (one, two, three) = (shard(), shard(), shard());
        let first = fill(&room, &one, 1);
        assert_eq!(first.len(), 50);
        let second = fill(&room, &two, 1);
        assert_eq!(second.len(), 25, "as much as is free");
        assert!(room.take(&three, 1).is_some());
        drop(first);
        assert_eq!(room.batches(), 25);
        assert!(room.take(&one, 1).is_some());
    }

    #[test]
    fn bytes_count_as_batches_do_but_one_batch_always_fits() {
        let room = Room::new(100, 1_000);
        let (one, two) = (shard(), shard());
        let held = fill(&room, &one, 200);
        assert_eq!(held.len(), 3, "600 of 1000: over what is free");
        let jumbo = room.take(&two, 5_000);
        assert!(jumbo.is_some() && room.take(&two, 1).is_none());
        drop((held, jumbo));
        assert_eq!(room.batches(), 0);
        assert!(room.inner.lock().unwrap().shards.is_empty());
    }
}
