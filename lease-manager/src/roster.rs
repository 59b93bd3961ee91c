//! The leases that this worker owns, and the queue of those that no consumer has fetched yet.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::held::Held;
use crate::ids::LeaseKey;
use crate::metrics;

#[derive(Debug, Default)]
struct Inner {
    held: BTreeMap<LeaseKey, Arc<Held>>,
    queue: VecDeque<Arc<Held>>,
    closed: bool,
}

#[derive(Debug)]
pub(crate) struct Roster {
    /// Shared by the manager and the consumers' handles for short looks; never held while waiting.
    inner: Mutex<Inner>,
    arrived: Notify,
    count: watch::Sender<usize>,
}

impl Roster {
    pub(crate) fn new() -> Self {
        let count = watch::Sender::new(0);
        Self { inner: Mutex::default(), arrived: Notify::new(), count }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere cannot leave the maps half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a lease in and queues it for a consumer. `false`: the roster is closed, nobody would fetch it. An older holding of the
    /// same lease is lost by that: its consumer would never hear of it otherwise.
    pub(crate) fn add(&self, held: Arc<Held>) -> bool {
        let mut inner = self.inner();
        if inner.closed {
            return false;
        }
        let older = inner.held.insert(held.lease.key.clone(), Arc::clone(&held));
        inner.queue.push_back(held);
        self.counted(&inner);
        drop(inner);
        if let Some(older) = older {
            self.lose(&older, "taken anew");
        }
        self.arrived.notify_waiters();
        true
    }

    /// The next lease that was not fetched yet; `None` once the roster is closed.
    pub(crate) async fn next(&self) -> Option<Arc<Held>> {
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            // Listen before looking, or a lease that arrives in between would be missed.
            arrived.as_mut().enable();
            {
                let mut inner = self.inner();
                while let Some(held) = inner.queue.pop_front() {
                    if !held.is_lost() {
                        return Some(held);
                    }
                }
                if inner.closed {
                    return None;
                }
            }
            arrived.await;
        }
    }

    /// No more leases are fetched. Returns those that nobody had fetched.
    pub(crate) fn close(&self) -> Vec<Arc<Held>> {
        let mut inner = self.inner();
        inner.closed = true;
        let unfetched = inner.queue.drain(..).collect();
        drop(inner);
        self.arrived.notify_waiters();
        unfetched
    }

    /// Forgets a lease that was given up or lost; a newer holding of the same lease stays.
    pub(crate) fn remove(&self, held: &Arc<Held>) {
        let mut inner = self.inner();
        if inner.held.get(&held.lease.key).is_some_and(|is| Arc::ptr_eq(is, held)) {
            inner.held.remove(&held.lease.key);
        }
        inner.queue.retain(|queued| !Arc::ptr_eq(queued, held));
        self.counted(&inner);
    }

    /// The lease is proven lost: tells its consumer and forgets it.
    pub(crate) fn lose(&self, held: &Arc<Held>, why: &'static str) {
        if !held.is_lost() {
            let (lease, owner) = (&held.lease, &held.holder.worker);
            tracing::info!(shard = %lease.shard_id, %owner, counter = %lease.counter, reason = why, "lease lost");
            metrics::lost(why);
        }
        held.lost.cancel();
        self.remove(held);
    }

    pub(crate) fn lose_all(&self, why: &'static str) {
        for held in self.all() {
            self.lose(&held, why);
        }
    }

    pub(crate) fn get(&self, key: &LeaseKey) -> Option<Arc<Held>> {
        self.inner().held.get(key).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Held>> {
        self.inner().held.values().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.inner().held.len()
    }

    /// Kilobytes a second over all held leases, as they were written last.
    pub(crate) fn throughput_kbps(&self) -> f64 {
        self.all().iter().map(|held| held.throughput_kbps()).sum()
    }

    /// Completes when no lease is held.
    pub(crate) async fn emptied(&self) {
        // The sender lives in `self`, so the wait cannot end otherwise.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }

    fn counted(&self, inner: &Inner) {
        self.count.send_replace(inner.held.len());
        metrics::held(inner.held.len());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::ids::{Incarnation, LeaseCounter, WorkerId};
    use crate::lease::{Holder, Lease, LeaseRecord};

    fn held(counter: u64) -> Arc<Held> {
        let key = LeaseKey::parse("shardId-000000000000").unwrap();
        let record = LeaseRecord::new(key.clone(), Checkpoint::TrimHorizon, 0);
        let lease = Lease {
            shard_id: key.shard_id(),
            key,
            stream_arn: String::new(),
            counter: LeaseCounter(counter),
            checkpoint: Checkpoint::TrimHorizon,
            lanes: BTreeMap::new(),
            start_at_ms: None,
            read_to: None,
            parents: BTreeSet::new(),
            hash_range: None,
        };
        let holder = Holder { worker: WorkerId::parse("w").unwrap(), incarnation: Incarnation(1) };
        Held::new(lease, holder, record, BTreeSet::new())
    }

    #[tokio::test]
    async fn a_lease_that_is_taken_anew_ends_its_older_holding() {
        let roster = Roster::new();
        let (older, newer) = (held(1), held(2));
        assert!(roster.add(Arc::clone(&older)));
        assert!(roster.add(Arc::clone(&newer)));
        assert!(older.is_lost() && !newer.is_lost());
        assert_eq!(roster.next().await.map(|held| held.lease.counter), Some(LeaseCounter(2)));
        assert_eq!(roster.len(), 1);
    }
}
