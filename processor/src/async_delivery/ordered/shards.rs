//! The shards that this worker delivers from: told by their consumers, watched by every lane that keeps an order.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::batch::{LeaseCheck, ShardContext};

/// A shard from which messages are delivered.
#[derive(Debug)]
pub(in crate::async_delivery) struct OpenShard {
    pub(in crate::async_delivery) shard: Arc<ShardContext>,
    pub(in crate::async_delivery) lease: LeaseCheck,
    /// Everything of it is settled: its chains are the business of its children's owners.
    ended: AtomicBool,
}

impl OpenShard {
    pub(in crate::async_delivery) fn new(
        shard: &Arc<ShardContext>,
        lease: &LeaseCheck,
    ) -> Arc<OpenShard> {
        let (shard, lease) = (Arc::clone(shard), lease.clone());
        Arc::new(OpenShard { shard, lease, ended: AtomicBool::new(false) })
    }

    /// Nothing of it is attempted any more by this worker.
    pub(in crate::async_delivery) fn is_over(&self) -> bool {
        self.lease.is_lost() || self.ended.load(Ordering::Acquire)
    }
}

/// All of them, as their consumers told.
#[derive(Debug, Clone, Default)]
pub(in crate::async_delivery) struct OpenShards(Arc<Shared>);

/// Not tokio's `watch`, which wakes those who wait in an order drawn by chance: a simulation could not be repeated.
#[derive(Debug, Default)]
struct Shared {
    /// Consumers write it and lanes copy it, rarely; never held over an await.
    list: Mutex<List>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct List {
    open: Vec<Arc<OpenShard>>,
    version: u64,
}

impl OpenShards {
    /// Messages of this shard may come from now on.
    pub(in crate::async_delivery) fn open(&self, shard: &Arc<ShardContext>, lease: &LeaseCheck) {
        self.change(|open| {
            open.retain(|known| !known.is_over() && known.shard.shard_id != shard.shard_id);
            open.push(OpenShard::new(shard, lease));
        });
    }

    /// Everything of this shard is settled, under this lease.
    pub(in crate::async_delivery) fn close(&self, shard: &ShardContext) {
        self.change(|open| {
            for known in open.iter().filter(|known| known.shard.shard_id == shard.shard_id) {
                known.ended.store(true, Ordering::Release);
            }
            open.retain(|known| !known.is_over());
        });
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<OpenShard>>)) {
        let mut list = self.0.lock();
        change(&mut list.open);
        list.version += 1;
        drop(list);
        self.0.changed.notify_waiters();
    }

    /// Sees the shards that are open now as news.
    pub(in crate::async_delivery) fn watch(&self) -> ShardWatch {
        ShardWatch { shared: Arc::clone(&self.0), seen: None }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who looks at them.
#[derive(Debug)]
pub(in crate::async_delivery) struct ShardWatch {
    shared: Arc<Shared>,
    /// The version that was looked at; `None` before the first look.
    seen: Option<u64>,
}

impl ShardWatch {
    /// Completes when there is something that was not looked at. Cancel safe.
    pub(in crate::async_delivery) async fn changed(&self) {
        let mut changed = pin!(self.shared.changed.notified());
        loop {
            // Before the look: a change in between is not missed.
            changed.as_mut().enable();
            if Some(self.shared.lock().version) != self.seen {
                return;
            }
            changed.as_mut().await;
            changed.set(self.shared.changed.notified());
        }
    }

    /// The shards as they are.
    pub(in crate::async_delivery) fn look(&mut self) -> Vec<Arc<OpenShard>> {
        let list = self.shared.lock();
        self.seen = Some(list.version);
        list.open.clone()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_change_is_seen_once_also_one_that_comes_between_two_looks() {
        let shards = OpenShards::default();
        let shard = Arc::new(ShardContext {
            stream_arn: "arn".into(),
            shard_id: "shardId-000000000001".into(),
            fence: 1,
            starting_hash_key: 0,
            ending_hash_key: u128::MAX,
        });
        let mut watch = shards.watch();
        assert!(watch.changed().now_or_never().is_some(), "the first look is news");
        assert!(watch.look().is_empty());
        assert!(watch.changed().now_or_never().is_none());
        shards.open(&shard, &LeaseCheck::new(|| true));
        assert!(watch.changed().now_or_never().is_some());
        assert_eq!(watch.look().len(), 1);
        let mut waiting = Box::pin(watch.changed());
        assert!((&mut waiting).now_or_never().is_none());
        shards.close(&shard);
        waiting.await;
        assert!(watch.look().is_empty());
    }
}
