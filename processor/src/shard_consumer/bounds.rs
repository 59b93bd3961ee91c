//! How a consumer ends: the last write of its lease.

use lease_manager::CheckpointError;

use super::course::{Course, Ending};
use super::{Exit, ShardConsumer};

impl ShardConsumer {
    /// The last write of the lease. Nothing is read or attempted any more.
    pub(super) async fn end(self, mut course: Course, ending: Ending) -> Exit {
        if let Some(write) = course.write.take()
            && write.future.await == Err(CheckpointError::Lost)
        {
            return Exit::LeaseLost;
        }
        let progress = self.progress(&mut course);
        let shard = &self.shard.shard_id;
        let (written, exit) = match ending {
            Ending::Lost => return Exit::LeaseLost,
            Ending::Finish => (self.lease.finish(progress).await, Exit::ShardEnd),
            Ending::Release => (
                self.lease.release(progress, "asked to give it up".to_owned()).await,
                Exit::Released,
            ),
            Ending::Fail(why) => {
                tracing::error!(%shard, why, "the shard's consumer failed: its lease is given up, and what was not settled is read again");
                (self.lease.release(progress, why.clone()).await, Exit::Failed(why))
            }
        };
        match written {
            Ok(()) => exit,
            Err(CheckpointError::Lost) => Exit::LeaseLost,
            Err(error) => Exit::Failed(error.to_string()),
        }
    }
}
