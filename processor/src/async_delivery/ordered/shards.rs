//! The shards that this worker delivers from: told by their consumers, watched by every lane that keeps an order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

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
#[derive(Debug, Clone)]
pub(in crate::async_delivery) struct OpenShards(Arc<watch::Sender<Vec<Arc<OpenShard>>>>);

impl Default for OpenShards {
    fn default() -> OpenShards {
        OpenShards(Arc::new(watch::channel(Vec::new()).0))
    }
}

impl OpenShards {
    /// Messages of this shard may come from now on.
    pub(in crate::async_delivery) fn open(&self, shard: &Arc<ShardContext>, lease: &LeaseCheck) {
        self.0.send_modify(|open| {
            open.retain(|known| !known.is_over() && known.shard.shard_id != shard.shard_id);
            open.push(OpenShard::new(shard, lease));
        });
    }

    /// Everything of this shard is settled, under this lease.
    pub(in crate::async_delivery) fn close(&self, shard: &ShardContext) {
        self.0.send_modify(|open| {
            for known in open.iter().filter(|known| known.shard.shard_id == shard.shard_id) {
                known.ended.store(true, Ordering::Release);
            }
            open.retain(|known| !known.is_over());
        });
    }

    pub(in crate::async_delivery) fn watch(&self) -> watch::Receiver<Vec<Arc<OpenShard>>> {
        let mut watch = self.0.subscribe();
        watch.mark_changed();
        watch
    }
}
